"""What both sides of the wire know by name: classes of the library, and plain functions of torch."""

import collections
import sys
import types
from collections.abc import Callable

import torch

# Classes whose instances may be made from what a sandbox sends: layers, and what the library's functions return.
LIBRARY = ("coursekit.models", "coursekit.data", "coursekit.measure", "coursekit.compress", "coursekit.distill")
CLASSES = ("torch.nn.modules.", "torch.optim.", *(f"{package}." for package in (*LIBRARY, "coursekit.train")))
PLAIN = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set, frozenset)}
MAPPINGS = {kind.__name__: kind for kind in (dict, collections.OrderedDict, collections.Counter)}
FUNCTIONS = {  # they take numbers and tensors, and return the like
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in (
        (
            torch.nn.functional,
            "gelu relu silu softmax log_softmax sigmoid tanh dropout layer_norm linear mse_loss".split(),
        ),
        (torch, "relu tanh sigmoid softmax exp square".split()),
    )
    for name in names
}
_FUNCTION_NAMES = {id(function): name for name, function in FUNCTIONS.items()}


def is_private(kind: type) -> bool:
    """Whether a class is written by a learner or by the author of a check, so that the other side lacks it."""
    return kind.__module__ == "__main__" or kind.__module__.startswith("coursekit.course.tasks.")


def name_of(value: object) -> str | None:
    """The name both sides know this class or function by, or None."""
    if isinstance(value, type):
        if value.__name__ in PLAIN and PLAIN[value.__name__] is value:
            return value.__name__
        name = f"{value.__module__}:{value.__qualname__}"
        return name if _class(name) is value else None
    return _FUNCTION_NAMES.get(id(value)) if callable(value) else None


def named(name: str) -> type | Callable:
    """What is known by this name; LookupError for anything else."""
    found = PLAIN.get(name) or FUNCTIONS.get(name) or _class(name)
    if found is None:
        raise LookupError(f"nothing is known as {name[:80]!r}")
    return found


def _class(name: str) -> type | None:
    """A class of the library by module and name, if that module has been imported."""
    module, _, path = name.partition(":")
    if not module.startswith(CLASSES):
        return None
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    return found if isinstance(found, type) and found.__module__ == module else None


def known_base(kind: type) -> str:
    """Name of the nearest class above `kind` that both sides know; `object` if there is none."""
    return next((name for base in kind.__mro__ if (name := name_of(base)) and name not in PLAIN), "object")
