"""How many weights a model has, and where they are."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from coursekit.errors import unknown_name
from coursekit.measure.hygiene import require_counts, require_module
from coursekit.measure.size import stored_bytes

EmbeddingKind = Literal["full", "linear", "safe"]


@dataclass(frozen=True)
class ParameterCount:
    """Weights of a model, each counted once; `bytes` is the memory of the tensors that hold them."""

    total: int
    trainable: int
    bytes: int
    by_component: dict[str, int]

    def __str__(self) -> str:
        width = max(map(len, (*self.by_component, "total")))
        rows = [*self.by_component.items(), ("total", self.total)]
        return "\n".join(f"{name:<{width}} {count:>15,} {count / max(self.total, 1):>7.1%}" for name, count in rows)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count the distinct parameters of a model: tied and shared ones once, under their first name.

    Components are module paths without layer numbers and a leading `encoder.`, cut to two levels, so that what
    plays one role adds up: `embeddings.word`, `layers.ffn`, `pooler`. A layer whose weights are not
    parameters (quantized codes) may offer `logical_parameters() -> int`: the number of weights it stands for,
    bias included, which is then counted instead of its parameters. Raises ValueError if `model` is no module.
    """
    require_module(model)
    parts: Counter[str] = Counter()
    trainable = size = 0
    for path, count, free, held in _weights(model, "", set()):
        parts[_component(path)] += count
        trainable += free
        size += held
    return ParameterCount(parts.total(), trainable, size, dict(parts))


def _weights(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, int, int, int]]:
    """(where, weights, trainable weights, bytes) of everything at or below `module` not yet seen.

    Where is the module's path, or the tensor's if the module has other modules below it.
    """
    if id(module) in seen:
        return
    seen.add(id(module))
    if callable(getattr(module, "logical_parameters", None)):
        own = [parameter for parameter in module.parameters() if id(parameter) not in seen]
        seen.update(map(id, own))
        trainable = sum(parameter.numel() for parameter in own if parameter.requires_grad)
        yield path or "weight", module.logical_parameters(), trainable, stored_bytes(module)
        return
    children = list(module.named_children())
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            count = parameter.numel()
            trainable = count if parameter.requires_grad else 0
            where = path if path and not children else f"{path}.{name}"
            yield where, count, trainable, count * parameter.element_size()
    for name, child in children:
        yield from _weights(child, f"{path}.{name}", seen)


def _component(path: str) -> str:
    """`.encoder.layers.3.ffn.up` → `layers.ffn`."""
    parts = [part for part in path.split(".") if part and not part.isdigit()] or [path.strip(".")]
    if parts[0] == "encoder" and len(parts) > 1:
        del parts[0]
    return ".".join(parts[:2])


def embedding_parameters(V: int, d_m: int, d_v: int | None = None, kind: EmbeddingKind = "full") -> int:
    """Weights of an embedding of V words at model width d_m, through d_v where it is factorised.

    full V·d_m; linear V·d_v + d_v·d_m; safe V·d_v + 5·d_v² + d_v·d_m (Subformer, appendix A, whose 5·d_v² are
    query, key, value and two feed-forward matrices). Raises ValueError for a size below 1 or an unknown kind.

    >>> [embedding_parameters(100, 10, 5, kind) for kind in ("full", "linear", "safe")]
    [1000, 550, 675]
    """
    if kind not in get_args(EmbeddingKind):
        raise unknown_name("embedding kind", kind, get_args(EmbeddingKind))
    require_counts(V=V, d_m=d_m)
    if kind == "full":
        return V * d_m
    require_counts(d_v=d_v)
    return V * d_v + d_v * d_m + (5 * d_v**2 if kind == "safe" else 0)


def break_even_embedding_size(V: int, d_m: int) -> float:
    """The width V·d_m / (V + d_m) below which a linear factorization is smaller than the full table."""
    require_counts(V=V, d_m=d_m)
    return V * d_m / (V + d_m)
