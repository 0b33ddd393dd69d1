"""A whole model in codes: which layers, by which scheme, and a report of all of them."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.compress.checks import check_finite, no_linear
from coursekit.compress.quantization.embedding import QuantizedEmbedding
from coursekit.compress.quantization.layers import QuantizedLinear
from coursekit.compress.quantization.schemes import Scheme, as_scheme
from coursekit.compress.quantization.smooth import smooth_scales
from coursekit.compress.quantization.static import InputStatistics, input_statistics
from coursekit.compress.report import LayerReport, Report, stored_layers
from coursekit.train import Batches

EXCLUDED = ("classifier",)
RESIZED = "of another size, in full precision"


@torch.no_grad()
def quantize_model(
    model: nn.Module,
    scheme: str | Scheme = "int8",
    *,
    calibration: Batches | Sequence[Mapping[str, Tensor]] | None = None,
    embeddings: bool = False,
    exclude: Sequence[str] = EXCLUDED,
    smooth: float | None = None,
) -> nn.Module:
    """A copy of the model with its linear layers in codes; the model itself is not changed.

    scheme       "int8" (dynamic activations), "int8-static", "int8-weight-only", "int4", "int4-gptq", "ternary", or
                 a `Scheme`
    calibration  batches as of `watch_inputs`, for static activations, GPTQ and smoothing: all from one pass over the
                 model as it is (GPTQ's released code gives each block inputs that quantized blocks have made)
    embeddings   tables too. A masked LM's output is the input table, so both sides are in codes, or neither
    exclude      parts of paths that stay as they are; by default the classifier
    smooth       SmoothQuant's α, for schemes with activations: see `smooth_scales`

    Left as they are: LayerNorms, what is no plain `nn.Linear`, and weights that two modules share by tensor and not by
    module. A layer shared by depths is quantized once and stays shared. `quantization_report` lists all.

    Raises ValueError for an unknown scheme, missing, empty or useless calibration, a group size that does not divide a
    layer's width, NaN or infinite weights or biases, and a model without a layer to quantize.
    """
    scheme = as_scheme(scheme)
    chosen = quantizable(model, exclude)
    tables = _tables(model, exclude) if embeddings else {}
    if not chosen and not tables:
        raise no_linear(model, "quantize", exclude)
    for path, module in {**chosen, **tables}.items():
        check_finite(module, path)
        size = scheme.groups(module.weight.shape[1])
        if size is not None and module.weight.shape[1] % size:
            raise ValueError(f"group size {size} does not divide the width {module.weight.shape[1]} of {path}")
    if smooth is not None and scheme.activations is None:
        raise ValueError("smoothing moves outliers out of activation codes; this scheme has none")
    seen = _calibrated(model, scheme, chosen, calibration, smooth)
    replaced: dict[int, Any] = {id(table): scheme.embedding(table) for table in tables.values()}
    for path, linear in chosen.items():
        replaced[id(linear)] = scheme.linear(linear, **_settings(linear, seen.get(path), scheme, smooth))
    return copy.deepcopy(model, replaced)  # whoever refers to a layer, all depths that share it too, gets its successor


def quantizable(model: nn.Module, exclude: Sequence[str] = EXCLUDED) -> dict[str, nn.Linear]:
    """Path → plain linear layer outside `exclude` whose weight no other module uses; a shared layer once."""
    users = _users(model)
    return {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Linear and not _excluded(path, exclude) and len(users[id(module.weight)]) == 1
    }


def quantization_report(before: nn.Module, after: nn.Module) -> Report:
    """Every layer with weights of its own, in a model before and after: its codes, or why it was skipped; bytes.

    Other methods may have been at work between the two: what they changed, added or removed has rows of its own.
    Attention stands for what has no weights: its scores, softmax and sums of values stay in full precision.
    """
    users, modules = _users(before), dict(after.named_modules())
    old, new = stored_layers(before), stored_layers(after)
    rows = []
    for path in dict.fromkeys([*(path for path, _ in before.named_modules()), *modules]):
        if hasattr(modules.get(path), "num_heads"):
            rows.append(LayerReport(path, "skipped: scores, softmax and sums of values have no weights", 0, 0))
        if path in old or path in new:
            (was, size), (_, left) = (layers.get(path, (None, 0)) for layers in (old, new))
            what = _what(was, modules.get(path)) or (f"skipped: {_why(was, path, users)}" if size == left else RESIZED)
            rows.append(LayerReport(path, what, size, left))
    return Report(rows)


def _what(old: nn.Module | None, new: nn.Module | None) -> str | None:
    """What became of a layer, if its type tells."""
    if isinstance(new, QuantizedLinear | QuantizedEmbedding):
        return new.what
    if new is None:
        return "removed"
    if old is None:
        return f"new {type(new).__name__}"
    return None if type(old) is type(new) else f"{type(old).__name__} → {type(new).__name__}"


def _calibrated(
    model: nn.Module, scheme: Scheme, chosen: dict[str, nn.Linear], calibration: Any, smooth: float | None
) -> dict[str, InputStatistics]:
    if scheme.activations != "static" and not scheme.gptq and smooth is None:
        return {}
    if calibration is None:
        raise ValueError("static activations, GPTQ and smoothing need calibration batches, got none")
    return input_statistics(model, calibration, chosen, hessian=scheme.gptq)


def _settings(linear: nn.Linear, seen: InputStatistics | None, scheme: Scheme, smooth: float | None) -> dict[str, Any]:
    """What calibration says about one layer, as arguments of `Scheme.linear`."""
    if seen is None:
        return {}
    if smooth is None:
        return {"hessian": seen.hessian, "input_range": (seen.low.amin(), seen.high.amax())}
    divisor = smooth_scales(seen.largest, linear.weight, smooth)
    hessian = None if seen.hessian is None else seen.hessian / torch.outer(divisor, divisor)
    reach = ((seen.low / divisor).amin(), (seen.high / divisor).amax())
    return {"hessian": hessian, "input_range": reach, "divisor": divisor}


def _tables(model: nn.Module, exclude: Sequence[str]) -> dict[str, nn.Embedding]:
    """Path → embedding outside `exclude` whose weight no other module uses."""
    users = _users(model)
    return {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Embedding and not _excluded(path, exclude) and len(users[id(module.weight)]) == 1
    }


def _users(model: nn.Module) -> dict[int, list[str]]:
    """Parameter → paths of the distinct modules that hold it."""
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), []).append(path)
    return users


def _excluded(path: str, exclude: Sequence[str]) -> bool:
    return not set(path.split(".")).isdisjoint(exclude)


def _why(module: nn.Module, path: str, users: dict[int, list[str]]) -> str:
    weight = getattr(module, "weight", None)
    if isinstance(weight, nn.Parameter) and len(users[id(weight)]) > 1:
        others = [other for other in users[id(weight)] if other != path]
        return f"weight tied to {', '.join(others)}"
    if isinstance(module, nn.Embedding):
        return "embedding table, left in full precision"
    if type(module) is nn.Linear:
        return "left in full precision on request"
    return f"{type(module).__name__} stays in full precision"
