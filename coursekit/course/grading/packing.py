"""Values as data: what a call needs of its arguments and results, with who is who.

Numbers, texts and tuples are written in place. What has an identity (lists, dicts, tensors, modules, functions) is a
node with a name, so that two places that hold one object still do after the journey, and an object that comes back is
the one that was sent. Tensors are views of named blocks of memory. Functions stay where they are: the other side gets
something that calls back.
"""

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum

import numpy as np
import torch

from coursekit.course.check import _is_empty
from coursekit.course.grading.names import MAPPINGS, is_private, known_base, name_of

SPECIAL = ("__call__", "__len__", "__getitem__", "__iter__")
DTYPES = {str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
MODULE, MODULE_PARTS = frozenset(vars(torch.nn.Module())), ("training", "_parameters", "_buffers", "_modules")
Methods = set[str] | None  # None: the object itself may be called


@dataclass
class Shared:
    """The objects that both sides speak of; `side` begins the names of those that are ours."""

    side: str
    objects: dict[str, object] = field(default_factory=dict)
    callable: dict[str, Methods] = field(default_factory=dict)
    classes: dict[tuple, type] = field(default_factory=dict)
    _names: dict[object, str] = field(default_factory=dict)

    def name(self, value: object, key: object = None) -> str:
        """The name of an object, a new one where it has none yet."""
        key = id(value) if key is None else key
        if key not in self._names:
            self.add(f"{self.side}{len(self.objects)}", value, key)
        return self._names[key]

    def add(self, name: str, value: object, key: object = None) -> None:
        """Know an object by this name; it is kept alive, so that its identity stays its own."""
        self.objects[name] = value
        self._names[id(value) if key is None else key] = name


@dataclass
class Packed:
    """Values as data: `values` and `nodes` are JSON, `blocks` the memory of tensors.

    `outputs` are the tensors among them that gradients could flow back from.
    """

    values: list = field(default_factory=list)
    nodes: dict[str, dict | None] = field(default_factory=dict)
    blocks: dict[str, bytes] = field(default_factory=dict)
    outputs: list[torch.Tensor] = field(default_factory=list)


def pack(shared: Shared, values: list, *, results: bool = False) -> Packed:
    """Write `values` as data. With `results`, tensors that have a gradient function are numbered as outputs."""
    packer = _Packer(shared, Packed(), results)
    packer.packed.values = [packer.form(value) for value in values]
    return packer.packed


class _Packer:
    def __init__(self, shared: Shared, packed: Packed, results: bool) -> None:
        self.shared, self.packed, self.results = shared, packed, results

    def form(self, value: object) -> object:
        """A value in place: JSON's own scalars, or {"t": kind, "v": content}."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        for base, read in ((int, int.__int__), (float, float.__float__), (str, str.__str__)):
            if issubclass(kind, base) and not issubclass(kind, Enum):
                plain = read(value)  # a subclass is taken for the number or text it is
                return {"t": "int", "v": hex(plain)} if base is int and abs(plain) >= 2**63 else plain
        if value is ... or value is NotImplemented:
            return {"t": "constant", "v": str(value)}
        for kinds, write in self._IN_PLACE:
            if issubclass(kind, kinds):
                return write(self, value)
        if name := name_of(value):
            return {"t": "named", "v": name}
        return self.node(value)

    def _many(self, values) -> list:
        return [self.form(value) for value in values]

    def _tuple(self, value: tuple) -> dict:
        items = self._many(tuple.__iter__(value))
        name = name_of(type(value)) if type(value) is not tuple else None
        return {"t": "tuple", "v": items} | ({"class": name} if name and hasattr(value, "_fields") else {})

    def _scalar(self, value: np.generic) -> object:
        return {"t": "numpy", "v": self.form(value.item()), "dtype": value.dtype.str}

    _IN_PLACE = (
        (torch.Size, lambda self, value: {"t": "size", "v": list(value)}),
        (tuple, _tuple),
        (set, lambda self, value: {"t": "set", "v": self._many(set.__iter__(value))}),
        (frozenset, lambda self, value: {"t": "frozenset", "v": self._many(frozenset.__iter__(value))}),
        (complex, lambda self, value: {"t": "complex", "v": [value.real, value.imag]}),
        (bytes, lambda self, value: {"t": "bytes", "v": bytes.hex(value)}),
        (range, lambda self, value: {"t": "range", "v": [value.start, value.stop, value.step]}),
        (slice, lambda self, value: {"t": "slice", "v": self._many((value.start, value.stop, value.step))}),
        (torch.dtype, lambda self, value: {"t": "dtype", "v": str(value)}),
        (torch.device, lambda self, value: {"t": "device", "v": str(value)}),
        (np.number | np.bool_, _scalar),
    )

    def node(self, value: object) -> dict:
        """A reference to the node that describes an object with an identity."""
        name = self.shared.name(value)
        if name not in self.packed.nodes:
            self.packed.nodes[name] = None  # met again inside itself, it is a reference
            self.packed.nodes[name] = self._describe(value, name)
        return {"t": "ref", "v": name}

    def _describe(self, value: object, name: str) -> dict:
        kind = type(value)
        if issubclass(kind, list):
            return {"k": "list", "v": self._many(list.__iter__(value))}
        if issubclass(kind, dict):
            known = kind.__name__ if MAPPINGS.get(kind.__name__) is kind else "dict"
            return {"k": "dict", "class": known, "v": [self._many(pair) for pair in dict.items(value)]}
        if kind in (torch.Tensor, torch.nn.Parameter):
            return self._tensor(value)
        if kind is np.ndarray and value.dtype.kind in "biufc":
            self.packed.blocks[name] = np.ascontiguousarray(value).tobytes()
            return {"k": "array", "dtype": value.dtype.str, "shape": list(value.shape)}
        if kind is torch.Generator:
            self.packed.blocks[name] = value.get_state().numpy().tobytes()
            return {"k": "generator"}
        if kind is random.Random:
            return {"k": "random", "v": self.form(value.getstate())}
        if inspect.isgenerator(value) or inspect.iscoroutine(value):
            return {"k": "iterator" if inspect.isgenerator(value) else "coroutine"}
        if is_private(kind) or name_of(kind):
            return self._object(value, name)
        if callable(value):
            self.shared.callable.setdefault(name, None)
            return _signature(value)
        return {"k": "opaque", "type": kind.__name__}

    def _tensor(self, value: torch.Tensor) -> dict:
        dtype, shape = str(value.dtype), list(value.shape)
        if value.layout != torch.strided or dtype not in DTYPES or value.is_quantized:
            return {"k": "opaque", "type": "Tensor"}
        node = {"k": "tensor", "dtype": dtype, "shape": shape, "parameter": type(value) is torch.nn.Parameter}
        node["requires_grad"] = value.requires_grad
        if value.device.type == "meta":
            return node | {"meta": True}
        seen = value.detach().cpu()
        memory = seen.untyped_storage()
        known = memory._cdata in self.shared._names
        if not known and (
            memory.nbytes() > 4 * max(seen.nbytes, 1024) or seen.numel() * seen.element_size() > memory.nbytes()
        ):
            seen = seen.clone(memory_format=torch.contiguous_format)  # a corner of much memory, or one number repeated
            memory = seen.untyped_storage()
        block = self.shared.name(memory, memory._cdata)
        if block not in self.packed.blocks:
            self.packed.blocks[block] = _bytes(memory)
        node |= {"block": block, "stride": list(seen.stride()), "offset": seen.storage_offset()}
        if value.is_leaf:
            node["grad"] = self.form(value.grad)
        elif self.results:
            node["output"] = len(self.packed.outputs)
            self.packed.outputs.append(value)
        return node

    def _object(self, value: object, name: str) -> dict:
        """An instance of a class: its attributes, and by name the methods that the other side cannot know."""
        kind = type(value)
        base, methods = known_base(kind), []
        if is_private(kind):
            private = [above for above in kind.__mro__ if is_private(above)]
            defined = {key for above in private for key, item in vars(above).items() if inspect.isroutine(item)}
            inherited = (
                set(dir(torch.nn.Module)) - {"forward", "__call__"} if isinstance(value, torch.nn.Module) else set()
            )
            methods = sorted(key for key in defined - inherited if key in SPECIAL or not key.startswith("_"))
            self.shared.callable[name] = set(methods)
        state = vars(value) if hasattr(value, "__dict__") else {}
        if is_dataclass(value):
            state = {item.name: getattr(value, item.name) for item in fields(value)} | state
        if isinstance(value, torch.nn.Module):  # most of its dicts are for hooks that nobody has set
            state = {key: item for key, item in state.items() if key not in MODULE or item or key in MODULE_PARTS}
        return {
            "k": "object",
            "class": None if is_private(kind) else name_of(kind),
            "name": kind.__name__,
            "base": base,
            "methods": methods,
            "v": [[key, self.form(item)] for key, item in state.items()],
        }


def _bytes(memory: torch.UntypedStorage) -> bytes:
    return torch.tensor([], dtype=torch.uint8).set_(memory).numpy().tobytes()


def _signature(value: Callable) -> dict:
    """How a function is called, and whether its body is empty."""
    try:
        parameters = inspect.signature(value).parameters.values()
        listed = [[item.name, int(item.kind), item.default is not item.empty] for item in parameters]
    except (ValueError, TypeError):
        listed = None
    name = str(getattr(value, "__name__", type(value).__name__))
    return {
        "k": "callable",
        "name": name,
        "parameters": listed,
        "empty": _is_empty(value),
        "class": isinstance(value, type),
    }
