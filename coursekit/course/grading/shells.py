"""What stands here for functions and objects that live on the other side of the wire."""

import inspect
from collections.abc import Callable
from typing import Any

from coursekit.course.grading.names import named
from coursekit.course.grading.packing import SPECIAL
from coursekit.course.grading.wire import WireError


def function(call: Callable[[tuple, dict], Any], node: dict) -> Callable:
    """A function that runs on the other side, with the name and the parameters it has there."""

    def remote(*args, **kwargs):
        return call(args, kwargs)

    remote.__name__ = remote.__qualname__ = str(node["name"])[:80]
    remote.empty = node["empty"] is True
    if node["parameters"] is not None:
        remote.__signature__ = inspect.Signature(
            [
                inspect.Parameter(key, inspect._ParameterKind(kind), default=... if optional else inspect._empty)
                for key, kind, optional in node["parameters"]
            ]
        )
    return remote


def shell(call: Callable, node: dict, known: dict[tuple, type]) -> type:
    """A class by the name of one we lack, over the nearest one we have; its methods run on the other side.

    The same description gives the same class, kept in `known`.
    """
    if node["k"] != "object":
        return type(attribute("coroutine" if node["k"] == "coroutine" else str(node["type"])), (), {})
    base = object if node["base"] == "object" else named(node["base"])
    methods = {key: _method(call, key) for key in map(attribute, node["methods"]) if _may_stand(key, base)}
    key = (node["name"], base, tuple(methods))
    if key not in known:
        methods["__module__"] = "__main__"  # it goes back as it came, with its attributes
        known[key] = type(attribute(node["name"]), (base,), methods)
    return known[key]


def _method(call: Callable, name: str) -> Callable:
    def method(self, *args, **kwargs):
        return call(self, name, args, kwargs)

    return method


def _may_stand(name: str, base: type) -> bool:
    """Whether a method may be the other side's: none that the known class has, and no comparisons."""
    if name.startswith("_"):
        return name in SPECIAL and base is object
    return name == "forward" or not hasattr(base, name)


def attribute(name: object) -> str:
    """The name, if it is one; WireError otherwise."""
    if type(name) is not str or not name.isidentifier() or len(name) > 100:
        raise WireError("a name that is none")
    return name
