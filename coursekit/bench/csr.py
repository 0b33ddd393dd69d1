"""A linear layer with its weight in compressed sparse rows: what zeros are worth to a kernel that skips them."""

import copy
import warnings

import torch
from torch import Tensor, nn

from coursekit.compress.pruning import prunable
from coursekit.models import replace_module


class CsrLinear(nn.Module):
    """y = (W xᵀ)ᵀ + b with W (out, in) as a sparse matrix of values, column numbers and row starts."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():  # PyTorch calls its sparse rows a beta
            warnings.simplefilter("ignore")
            weight = linear.weight.detach().to_sparse_csr()
        self.register_buffer("weight", weight)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        rows = x.reshape(-1, x.shape[-1])
        y = torch.addmm(self.bias[:, None], self.weight, rows.T) if self.bias is not None else self.weight @ rows.T
        return y.T.view(*x.shape[:-1], -1)


def to_csr(model: nn.Module) -> nn.Module:
    """A copy whose prunable linear layers are sparse; shared layers stay shared."""
    model = copy.deepcopy(model)
    for linear in prunable(model).values():
        replace_module(model, linear, CsrLinear(linear))
    return model
