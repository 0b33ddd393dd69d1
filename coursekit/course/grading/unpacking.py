"""Data as values again. What a sandbox sends is not trusted: everything is looked at before it is used.

Objects that are known are changed in place, so that a caller sees what a function did to its arguments. New ones are
made of plain parts: a class that the library knows, or one made here that has nothing but attributes and functions
that call back. No class of a learner's, and with it no `__eq__` of theirs, ever exists on this side.
"""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from coursekit.course.grading.names import MAPPINGS, named
from coursekit.course.grading.packing import DTYPES, Shared
from coursekit.course.grading.shells import attribute, function, shell
from coursekit.course.grading.wire import Blocks, WireError

Link = Callable[[dict[int, torch.Tensor]], dict[int, torch.Tensor]]
CONSTANTS = {"Ellipsis": ..., "NotImplemented": NotImplemented}


def unpack(
    shared: Shared, data: Mapping[str, Any], blocks: Mapping[str, bytearray], call: Callable, link: Link
) -> list:
    """The values of a message.

    `call(target, method, args, kwargs)` runs something on the other side. `link` gets the tensors that gradients
    flow back from, by number, and returns those to use in their place. Raises WireError for bad data.
    """
    try:
        return _Unpacker(shared, data["nodes"], blocks, call).values(data["values"], link)
    except WireError:
        raise
    except Exception as error:  # whatever bad data can lead to
        raise WireError(f"what was sent cannot be read ({type(error).__name__})") from error


class _Unpacker:
    def __init__(self, shared: Shared, nodes: dict, blocks: Blocks, call: Callable) -> None:
        self.shared, self.nodes, self.blocks, self.call = shared, nodes, blocks, call
        self.outputs: dict[int, str] = {}

    def values(self, forms: list, link: Link) -> list:
        """Make or find every node, connect gradients, then fill."""
        for name, node in self.nodes.items():
            if name not in self.shared.objects:
                if type(name) is not str or name.startswith(self.shared.side):
                    raise WireError("an object of ours is named that was never sent")
                self.shared.add(name, self._make(name, node))
        if self.outputs:
            raw = {number: self.shared.objects[name] for number, name in self.outputs.items()}
            for number, tensor in link(raw).items():
                self.shared.add(self.outputs[number], tensor)
        with torch.no_grad():
            for name, node in self.nodes.items():
                self._fill(name, self.shared.objects[name], node)
        return [self.value(form) for form in forms]

    def value(self, form: object) -> Any:
        """What a form stands for."""
        if not isinstance(form, dict):
            if form is None or type(form) in (bool, int, float, str):
                return form
            raise WireError("a list where a value was expected")
        kind, content = form["t"], form["v"]
        if kind == "ref":
            return self.shared.objects[content]
        if kind == "numpy":
            return np.dtype(form["dtype"]).type(self.value(content))
        if kind == "tuple":
            items = tuple(self._many(content))
            cls = named(form["class"]) if "class" in form else tuple
            return tuple.__new__(cls, items) if issubclass(cls, tuple) else items
        return self._KINDS[kind](self, content)

    def _many(self, forms: list) -> list:
        return [self.value(form) for form in forms]

    _KINDS = {
        "int": lambda self, content: int(content, 16),
        "constant": lambda self, content: CONSTANTS[content],
        "size": lambda self, content: torch.Size(content),
        "set": lambda self, content: set(self._many(content)),
        "frozenset": lambda self, content: frozenset(self._many(content)),
        "complex": lambda self, content: complex(*content),
        "bytes": lambda self, content: bytes.fromhex(content),
        "range": lambda self, content: range(*content),
        "slice": lambda self, content: slice(*self._many(content)),
        "dtype": lambda self, content: DTYPES[content],
        "device": lambda self, content: torch.device(content),
        "named": lambda self, content: named(content),
    }

    def _make(self, name: str, node: dict) -> object:
        """A new object of the right kind, still empty where its parts may refer to others."""
        kind = node["k"]
        if kind == "list":
            return []
        if kind == "dict":
            return MAPPINGS[node["class"]]()
        if kind == "tensor":
            return self._tensor(name, node)
        if kind == "array":
            return self._array(name, node)
        if kind == "generator":
            return torch.Generator()
        if kind == "random":
            return random.Random()
        if kind == "iterator":
            return (item for item in ())
        if kind == "callable":
            return function(lambda args, kwargs: self.call(self.shared.objects[name], None, args, kwargs), node)
        if kind == "object" and node["class"] is not None:
            cls = named(node["class"])
            return object.__new__(cls)
        return object.__new__(
            shell(self.call, node, self.shared.classes)
        )  # an object, or one of which only the type is known

    def _fill(self, name: str, value: Any, node: dict) -> None:
        """Give an object, known or new, the content it has on the other side."""
        kind = node["k"]
        if kind == "list":
            list.__setitem__(_of(value, list), slice(None), self._many(node["v"]))
        elif kind == "dict":
            items = [self._many(pair) for pair in node["v"]]
            dict.clear(_of(value, dict))
            dict.update(value, items)
        elif kind == "tensor":
            self._refill(name, _of(value, torch.Tensor), node)
        elif kind == "array":
            new = self._array(name, node)
            if value.shape == new.shape and value.dtype == new.dtype and value.flags.writeable:
                value[...] = new
        elif kind == "generator":
            _of(value, torch.Generator).set_state(torch.frombuffer(self.blocks[name], dtype=torch.uint8))
        elif kind == "random":
            _of(value, random.Random).setstate(self.value(node["v"]))
        elif kind == "object" and hasattr(value, "__dict__"):
            state = {attribute(key): self.value(form) for key, form in node["v"]}
            blank = vars(torch.nn.Module()) if isinstance(value, torch.nn.Module) else {}
            vars(value).clear()
            vars(value).update(blank | state)

    def _tensor(self, name: str, node: dict) -> torch.Tensor:
        tensor = self._view(node)
        if "output" in node:
            self.outputs[int(node["output"])] = name
            return tensor
        if node["parameter"]:
            return torch.nn.Parameter(tensor, requires_grad=bool(node["requires_grad"]))
        return tensor.requires_grad_(bool(node["requires_grad"]))

    def _view(self, node: dict) -> torch.Tensor:
        """A tensor over a block of memory, after looking that it stays inside."""
        dtype, shape = DTYPES[node["dtype"]], [_size(item) for item in node["shape"]]
        if node.get("meta"):
            return torch.empty(shape, dtype=dtype, device="meta")
        stride, offset = [_size(item) for item in node["stride"]], _size(node["offset"])
        memory = self._memory(node["block"])
        room = memory.nbytes() // dtype.itemsize
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        if math.prod(shape) and (last >= room or math.prod(shape) > room):
            raise WireError("a tensor reaches beyond its memory")
        tensor = torch.empty(0, dtype=dtype).set_(memory, offset, shape, stride)
        if dtype is torch.bool:  # a byte other than 0 and 1 is no truth value
            tensor.copy_(tensor.view(torch.uint8) != 0)
        return tensor

    def _memory(self, block: str) -> torch.UntypedStorage:
        """The memory of this name; one that is known takes over the bytes that came."""
        known = self.shared.objects.get(block)
        data = self.blocks[block]
        new = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
        if known is None:
            memory = new.clone().untyped_storage()
            self.shared.add(block, memory, memory._cdata)
            return memory
        if _of(known, torch.UntypedStorage).nbytes() != len(data):
            raise WireError("memory has changed its size")
        old = torch.empty(0, dtype=torch.uint8).set_(known)
        if not torch.equal(old, new):
            old.copy_(new)
        return known

    def _refill(self, name: str, value: torch.Tensor, node: dict) -> None:
        """Bring a known tensor up to date: its memory, what of it is seen, whether it wants a gradient, and that."""
        new = self._view(node)
        same = value.shape == new.shape and value.stride() == new.stride() and value.dtype == new.dtype
        if not same or value.device != new.device or value.storage_offset() != new.storage_offset():
            value.data = new
        elif value.device.type != "meta" and value.data_ptr() != new.data_ptr():
            value.data = new
        if value.is_leaf and "output" not in node:
            if value.is_floating_point() or value.is_complex():
                value.requires_grad_(bool(node["requires_grad"]))
            grad = self.value(node.get("grad"))
            if value.grad is not grad:
                value.grad = grad

    def _array(self, name: str, node: dict) -> np.ndarray:
        dtype = np.dtype(node["dtype"])
        if dtype.kind not in "biufc":
            raise WireError(f"an array of {dtype}")
        return np.frombuffer(self.blocks[name], dtype).reshape([_size(item) for item in node["shape"]]).copy()


def _size(number: object) -> int:
    if type(number) is not int or number < 0:
        raise WireError("a size that is none")
    return number


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise WireError(f"a {type(value).__name__} is said to be a {kind.__name__}")
    return value
