"""One linear layer with fewer bits or half its weights: what the units of a GPU that are made for it are worth.

Only `semi_structured` needs a CUDA device; the rest is made, compared and timed on any.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.bench.frame import Arm, Arms, Case, Missing, Setting, attempt, near, require_close
from coursekit.bench.shapes import half_precision
from coursekit.compress.pruning import n_m_mask
from coursekit.compress.quantization import quantize_model


def semi_structured(weight: Tensor) -> Tensor:
    """A weight (out, in) with two zeros in every four as a GPU's sparse units read it. Raises Missing without a GPU."""
    if weight.device.type != "cuda":
        raise Missing(f"2:4 weights are multiplied by CUDA devices of capability 8.0 or more, not by {weight.device}")
    with warnings.catch_warnings():  # PyTorch calls it a prototype
        warnings.simplefilter("ignore")
        return torch.sparse.to_sparse_semi_structured(weight)


def sparse_case(rows: int, inputs: int, outputs: int) -> Case:
    """One linear layer whose weight has two zeros in every four: as a dense weight, and without the zeros."""

    def make(setting: Setting) -> Arms:
        x, linear = _layer(rows, inputs, outputs, setting.device)
        weight = linear.weight * n_m_mask(linear.weight, 2, 4)
        arms: dict[str, Arm] = {}
        with torch.inference_mode():
            expected = F.linear(x, weight, linear.bias)
            for name, kind in {"fp16": torch.float16, "bf16": torch.bfloat16}.items():
                same = x.to(kind), linear.bias.to(kind)
                for form, make_weight in {"dense": Tensor.contiguous, "2:4": semi_structured}.items():
                    arm = partial(_linear_arm, make_weight, weight.to(kind), *same, expected)
                    arms[f"{form}, {name}"] = attempt(arm, "2:4 weights")
        return arms

    name = f"2:4 weights, {rows:,} rows, {inputs} → {outputs}"
    return Case(name, "one linear layer, the same zeros in all arms", make, rounds=25, warmup=3, gpu=True)


def _linear_arm(
    make_weight: Callable[[Tensor], Tensor], weight: Tensor, x: Tensor, bias: Tensor, expected: Tensor
) -> Arm:
    return near(partial(F.linear, x, make_weight(weight), bias), expected, "the layer's output", within=0.01)


def int8_case(rows: int, inputs: int, outputs: int) -> Case:
    """One linear layer in 8 bits against 16: the product of integers alone, and with all that a real layer does."""

    def make(setting: Setting) -> Arms:
        x, linear = _layer(rows, inputs, outputs, setting.device)
        codes = [torch.randint(-127, 128, shape, dtype=torch.int8) for shape in ((rows, inputs), (outputs, inputs))]
        left, right = (part.to(setting.device) for part in codes)
        layer = quantize_model(nn.Sequential(linear), "int8")
        half = partial(F.linear, *(part.to(half_precision(setting.device)) for part in (x, linear.weight, linear.bias)))

        def product() -> Arm:
            found = torch._int_mm(left, right.t())
            require_close("the product of integers", found, left.double() @ right.double().t(), within=0)
            return Arm(partial(torch._int_mm, left, right.t()))

        with torch.inference_mode():
            expected = linear(x)
            return {
                "16-bit layer": near(half, expected, "the layer's output", within=0.01),
                "fp32 layer": Arm(partial(linear, x), error=0.0),
                "int8 product alone": attempt(product, "torch._int_mm"),
                "int8 layer": near(partial(layer, x), expected, "the int8 layer's output", within=0.05),
            }

    name = f"int8 products, {rows:,} rows, {inputs} → {outputs}"
    return Case(name, "one linear layer; activations get their scales anew", make, rounds=25, warmup=3, gpu=True)


def _layer(rows: int, inputs: int, outputs: int, device: str) -> tuple[Tensor, nn.Linear]:
    """Random inputs (rows, in) and a random layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.randn(rows, inputs).to(device), nn.Linear(inputs, outputs).to(device).requires_grad_(False)
