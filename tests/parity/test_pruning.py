"""The same decisions as torch's and torchao's pruning where those follow the papers."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from coursekit.compress.pruning import calibrate, global_magnitude_masks, magnitude_mask, n_m_mask, wanda_mask


@pytest.mark.parametrize("sparsity", [0.0, 0.31, 0.5, 1.0])
def test_magnitude_as_torch(sparsity: float) -> None:
    """Without ties: one layer by l1_unstructured, several by global_unstructured."""
    layers = [nn.Linear(7, 5), nn.Linear(5, 3)]
    expected = global_magnitude_masks({str(i): layer.weight for i, layer in enumerate(layers)}, sparsity)
    alone = magnitude_mask(layers[0].weight, sparsity)
    copied = copy.deepcopy(layers[0])
    prune.l1_unstructured(copied, "weight", sparsity)
    assert torch.equal(copied.weight_mask.bool(), alone)
    prune.global_unstructured(
        [(layer, "weight") for layer in layers], pruning_method=prune.L1Unstructured, amount=sparsity
    )
    for i, layer in enumerate(layers):
        assert torch.equal(layer.weight_mask.bool(), expected[str(i)])


class Words(nn.Module):
    """One linear layer over word vectors, called like an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.up = nn.Embedding(20, 12), nn.Linear(12, 8)

    def forward(self, input_ids: torch.Tensor, attention_mask: object = None, token_type_ids: object = None) -> object:
        """(B, T) → (B, T, 8)."""
        return self.up(self.word(input_ids))


@torch.no_grad()
def test_wanda_as_torchao() -> None:
    """The same masks from the same texts once torchao 0.18's two departures from the paper are undone.

    It squares the norms, and without n:m it ranks the whole layer instead of each row.
    """
    sparsity = pytest.importorskip("torchao.sparsity")
    model, ids = Words(), torch.randint(0, 20, (4, 6))
    norm = calibrate(model, [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}], ["up"])["up"]
    scores = model.up.weight.abs() * norm**2
    inputs = model.word(ids)
    expected = {4: n_m_mask(scores, 2, 4), None: magnitude_mask(scores, 0.5)}
    for block, mask in expected.items():
        layer = nn.Sequential(copy.deepcopy(model.up))
        with pytest.warns() if block else nullcontext():
            sparsifier = sparsity.WandaSparsifier(0.5, block)
        sparsifier.prepare(layer, None)
        layer(inputs)
        sparsifier.step()
        assert torch.equal(layer[0].parametrizations.weight[0].mask.bool(), mask)
    assert not torch.equal(wanda_mask(model.up.weight, norm, 0.5), expected[None])
