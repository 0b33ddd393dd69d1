"""How many operations a forward pass takes, counted by what is multiplied and not by how."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from coursekit.measure.hygiene import evaluating, require_counts, require_module, untouched_rng

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
Call = tuple[tuple[Any, ...], dict[str, Any]]

_aten = torch.ops.aten
# Products that torch's own counter does not know, each from the shapes of its arguments.
_MORE_PRODUCTS = {
    _aten._int_mm: lambda a, b, **_: 2 * a[0] * a[1] * b[1],
    _aten.mv: lambda a, b, **_: 2 * a[0] * a[1],
    _aten.addmv: lambda start, a, b, **_: 2 * a[0] * a[1],
    _aten.dot: lambda a, b, **_: 2 * a[0],
}


def count_flops(
    model: nn.Module, batch: int | None = None, length: int | None = None, *, inputs: Inputs | None = None
) -> int:
    """2 × the multiply-accumulates of every matrix product in one forward pass in evaluation mode.

    Attention is included; biases, softmax, norms and look-ups are not. A shared layer counts each time it runs;
    masks and zeros are multiplied like any number. Per encoder layer: 2·(4·T·d² + 2·T²·d + 2·T·d·d_ff)·B.

    The input is `batch` sequences of `length` token ids, or `inputs`: a tensor, a tuple of arguments, or a
    mapping of keyword arguments. A layer whose products cannot be seen may offer `flops(rows: int) -> int`
    for that many input vectors; it is believed instead of what is seen inside it.

    Only shapes are computed where the model allows it; one that asks for values is run for real. Raises
    ValueError for sizes below 1, or if the sizes and `inputs` are both given or both missing.
    """
    model = getattr(model, "_orig_mod", model)  # below torch.compile
    args, kwargs = example_call(model, batch, length, inputs)
    with untouched_rng():
        # Anything may go wrong without values (`.item()`, an operator without a shape rule): then they are needed.
        with suppress(Exception):
            shapes = {name: _to_meta(value) for name, value in kwargs.items()}
            return _count(_meta_copy(model), tuple(map(_to_meta, args)), shapes)
        with evaluating(model):
            return _count(model, args, kwargs)


def example_call(model: nn.Module, batch: int | None, length: int | None, inputs: Inputs | None) -> Call:
    """Arguments for one call of the model: token ids (B, T) on its device, or the inputs given.

    The ids go to every argument without a default, so to source and target alike; one named as a mask is None.
    """
    require_module(model)
    if inputs is None:
        require_counts(batch=batch, length=length)
        ids = torch.ones(batch, length, dtype=torch.long, device=device_of(model))  # 0 is often padding
        required = [
            name
            for name, parameter in inspect.signature(model.forward).parameters.items()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        return tuple(None if name.endswith("mask") else ids for name in required) or (ids,), {}
    if batch is not None or length is not None:
        raise ValueError(f"give batch and length or inputs, not both; got batch={batch}, length={length}")
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first weight lies; cpu if it has none."""
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _count(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_PRODUCTS)
    # Fused attention hides its products from the counter; the plain formula multiplies the same matrices.
    with torch.inference_mode(), _plain_attention(), counter, _believed(model, counter) as correction:
        model(*args, **kwargs)
    return counter.get_total_flops() + sum(correction)


@contextmanager
def _plain_attention() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _believed(model: nn.Module, counter: FlopCounterMode) -> Iterator[list[int]]:
    """Corrections that put a layer's own `flops(rows)` in the place of what the counter sees inside it."""
    corrections: list[int] = []
    running: list[nn.Module] = []  # only the outermost of nested layers is asked

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not running:
            x = args[0] if args else next(iter(kwargs.values()))
            corrections.append(module.flops(x.shape[:-1].numel()) + counter.get_total_flops())
        running.append(module)

    def leave(module: nn.Module, *_: object) -> None:
        running.pop()
        if not running:
            corrections.append(-counter.get_total_flops())

    handles = []
    for module in model.modules():
        if callable(getattr(module, "flops", None)):
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield corrections
    finally:
        for handle in handles:
            handle.remove()


def _meta_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with shapes for weights; what is shared or tied stays so, and no weight is copied."""
    shapes: dict[int, Any] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        meta = torch.empty_like(tensor, device="meta", requires_grad=False)
        shapes[id(tensor)] = nn.Parameter(meta, requires_grad=False) if isinstance(tensor, nn.Parameter) else meta
    return copy.deepcopy(model, shapes).eval()


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
