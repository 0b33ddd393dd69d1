"""Calling functions of another process as if they were here: the grader's checks speak through this.

Both sides are alike. `call` sends the arguments and waits; meanwhile it answers what the other side asks: to call back
a function that was among the arguments, or to carry a gradient back through an earlier call. The reply holds the
result and the arguments as they are afterwards. Where the caller counts FLOPs, the other side counts and tells: that
number alone is its word, and not what somebody here has computed.
"""

import builtins
import linecache
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode

from coursekit.course.check import _frames, _is_library
from coursekit.course.grading.packing import Shared, pack
from coursekit.course.grading.unpacking import unpack
from coursekit.course.grading.wire import Channel, WireError
from coursekit.course.sandbox import TimeUp

BUILTIN = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind not in (KeyboardInterrupt, GeneratorExit)
}


class Peer:
    """One side of a conversation; `side` is a letter that differs from the other side's."""

    def __init__(self, channel: Channel, side: str) -> None:
        self.channel, self.shared = channel, Shared(side)
        self._calls: dict[int, tuple[list[torch.Tensor], dict[int, torch.Tensor]]] = {}

    def call(self, target: object, method: str | None, args: tuple, kwargs: dict) -> Any:
        """What the other side's function, or its method of that name, returns; raises what it raises."""
        given = pack(self.shared, [target, args, kwargs])
        wanted = [
            (name, value)
            for name in given.nodes
            if isinstance(value := self.shared.objects[name], torch.Tensor) and value.requires_grad
        ]
        counters = _flop_counters()
        message = {"op": "call", "method": method, "count": bool(counters)}
        self.channel.send(message | {"values": given.values, "nodes": given.nodes}, given.blocks)
        result, *_, flops = self._answer(dict(wanted))
        for counter in counters if type(flops) is int and flops > 0 else ():
            counter.flop_counts["Global"]["elsewhere"] += flops
        return result

    def ask(self, message: dict) -> Any:
        """Send a message of another kind, and return what comes back for it."""
        self.channel.send(message)
        return self._answer({})[0]

    def serve(self, other: Callable[["Peer", dict], object] | None = None) -> None:
        """Answer until the other side is gone; `other` answers messages that are neither call nor gradient."""
        while True:
            message, blocks = self.channel.receive()
            self._serve(message, blocks, other)

    def _answer(self, inputs: dict[str, torch.Tensor]) -> list:
        """Serve until the reply to what was just sent is there."""
        while True:
            message, blocks = self.channel.receive()
            op = message.get("op")
            if op == "raise":
                raise_remote(message)
            if op == "return":
                return unpack(self.shared, message, blocks, self.call, self._link(message, inputs))
            self._serve(message, blocks)

    def _serve(self, message: dict, blocks: dict, other: Callable | None = None) -> None:
        op, inputs = message.get("op"), {}
        try:
            if op == "call":
                values, inputs = self._run(message, blocks)
            elif op == "gradient":
                values = [self._backward(message, blocks)]
            elif other is not None:
                values = [other(self, message)]
            else:
                raise WireError("an unknown message")
            packed = pack(self.shared, values, results=True)
        except (WireError, TimeUp):
            raise
        except BaseException as error:
            self.channel.send(_told(error))
            return
        reply = {"op": "return", "values": packed.values, "nodes": packed.nodes}
        if inputs and packed.outputs:  # kept, in case a gradient is asked for
            self._calls[len(self._calls)] = packed.outputs, inputs
            reply["link"] = {"call": len(self._calls) - 1, "inputs": list(inputs)}
        self.channel.send(reply, packed.blocks)

    def _run(self, message: dict, blocks: dict) -> tuple[list, dict[str, torch.Tensor]]:
        """Run what is called, if it is ours to be called.

        Returns its result with the arguments as they are now and its FLOPs, and the inputs that want a gradient.
        """
        target, args, kwargs = unpack(self.shared, message, blocks, self.call, lambda raw: raw)
        name, method = message["values"][0]["v"], message["method"]
        if not name.startswith(self.shared.side) or name not in self.shared.callable:
            raise WireError("a call of something that may not be called")
        allowed = self.shared.callable[name]
        if (method is None) != (allowed is None) or (allowed is not None and method not in allowed):
            raise WireError("a call of something that may not be called")
        if type(args) is not tuple or type(kwargs) is not dict:
            raise WireError("arguments that are none")
        inputs = {
            key: value
            for key in message["nodes"]
            if isinstance(value := self.shared.objects[key], torch.Tensor) and value.requires_grad
        }
        run = target if method is None else getattr(target, method)
        with FlopCounterMode(display=False) if message.get("count") is True else nullcontext() as counter:
            result = run(*args, **kwargs)
        return [result, target, args, kwargs, counter and counter.get_total_flops()], inputs

    def _link(self, message: dict, inputs: dict[str, torch.Tensor]) -> Callable:
        """What connects tensors that came back with the arguments they were computed from."""
        link = message.get("link") or {}
        names = [name for name in link.get("inputs", ()) if name in inputs]

        def connect(raw: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
            if not names or not torch.is_grad_enabled():
                return raw
            made = _Link.apply(self, link["call"], names, list(raw), list(raw.values()), *(inputs[n] for n in names))
            return dict(zip(raw, made, strict=True))

        return connect

    def gradient(self, call: int, inputs: list[str], outputs: list[int], grads: list) -> list:
        """Gradients of an earlier call's inputs, given those of its outputs."""
        packed = pack(self.shared, [list(grads)])
        message = {"op": "gradient", "call": call, "inputs": inputs, "outputs": outputs}
        self.channel.send(message | {"values": packed.values, "nodes": packed.nodes}, packed.blocks)
        return self._answer({})[0]

    def _backward(self, message: dict, blocks: dict) -> list:
        (grads,) = unpack(self.shared, message, blocks, self.call, lambda raw: raw)
        outputs, inputs = self._calls[message["call"]]
        chosen = [outputs[number] for number in message["outputs"]]
        wanted = [inputs[name] for name in message["inputs"]]
        return list(torch.autograd.grad(chosen, wanted, grads, retain_graph=True, allow_unused=True))


def _flop_counters() -> list[FlopCounterMode]:
    """The counters that are at work around the present call."""
    return [mode.counter for mode in _get_current_dispatch_mode_stack() if isinstance(mode, _FlopCounterMode)]


class _Link(torch.autograd.Function):
    """Tensors that another process computed, as functions of the arguments it was given."""

    @staticmethod
    def forward(ctx, peer, call, names, numbers, raw, *inputs):
        ctx.told = peer, call, names, numbers, [(tensor.shape, tensor.dtype) for tensor in raw]
        return tuple(tensor.clone() for tensor in raw)

    @staticmethod
    def backward(ctx, *grads):
        peer, call, names, numbers, kinds = ctx.told
        full = [
            torch.zeros(shape, dtype=dtype) if grad is None else grad
            for grad, (shape, dtype) in zip(grads, kinds, strict=True)
        ]
        found = peer.gradient(call, names, numbers, full)
        return None, None, None, None, None, *found


def _told(error: BaseException) -> dict:
    """An exception as data: its kinds, its text, and the last line of the learner's code it passed through."""
    try:
        text = str(error).strip().split("\n")[0][:200]
    except BaseException:  # its text raises, or never ends
        text = ""
    frames = list(_frames(error.__traceback__))
    theirs = [frame for frame in frames if not _is_library(frame[0].co_filename)]
    place = None
    if theirs:
        code, line = theirs[-1]
        source = linecache.getline(code.co_filename, line).strip()[:200]
        place = {"line": line, "source": source, "own": theirs[-1] is frames[-1]}
    return {"op": "raise", "kinds": [kind.__name__ for kind in type(error).__mro__], "text": text, "place": place}


def raise_remote(message: dict) -> None:
    """Raise here what was raised there, with a traceback that ends at the same line."""
    kinds, text, place = message.get("kinds"), str(message.get("text"))[:200], message.get("place")
    if not isinstance(kinds, list) or not kinds or type(kinds[0]) is not str:
        raise WireError("an exception that is none")
    base = next((BUILTIN[kind] for kind in kinds if type(kind) is str and kind in BUILTIN), RuntimeError)
    if kinds[0] == base.__name__ or not kinds[0].isidentifier():
        kind = base
    else:
        kind = type(kinds[0][:80], (base,), {})
    try:
        error = kind(text)
    except TypeError:  # UnicodeDecodeError and its like want more than a text
        error = RuntimeError(text)
    if not isinstance(place, dict) or type(place.get("line")) is not int or not 0 < place["line"] < 100_000:
        raise error
    line, name = place["line"], f"<line {place['line']} of the submission>"
    source = str(place.get("source"))[:200].replace("\n", " ")
    linecache.cache[name] = (0, None, ["\n"] * (line - 1) + [source + "\n"], name)
    own = place.get("own") is True
    throw = "raise error" if own else "throw(error)"
    exec(compile("\n" * (line - 1) + throw, name, "exec"), {"error": error, "throw": _throw})


def _throw(error: BaseException) -> None:
    """Raise from here, so that the learner's line is not where it began."""
    raise error
