"""How a learner's value differs from the right one, in words.

The learner's object is never trusted: its type is looked at first, and only base-class methods of plain types
are called on it, so an object that claims to be equal to everything is told apart.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass

import numpy as np
import torch
from torch import equal, isclose, isnan

TENSORS = (torch.Tensor, torch.nn.Parameter)
SHOWN = 12  # tensors of up to so many entries are printed in messages


def difference(
    got: object, expected: object, *, rtol: float = 0.0, atol: float = 0.0, reveal: bool = True
) -> str | None:
    """None if equal within the tolerance, else one phrase: first the type, then shape, dtype, values.

    Tolerances are for floats; NaN equals NaN. `reveal=False` keeps expected values (not types) out of the phrase.
    """
    limits = (rtol, atol, reveal)
    if isinstance(expected, TENSORS):
        return _tensors(got, expected, *limits)
    if isinstance(expected, np.ndarray):
        if type(got) is not np.ndarray:
            return _types(got, expected)
        if got.dtype != expected.dtype:
            return f"expected dtype {expected.dtype}, got {got.dtype}"
        return _tensors(torch.from_numpy(got.copy()), torch.from_numpy(expected.copy()), *limits)
    if type(got).__module__ == "numpy" and isinstance(got, np.generic):
        got = got.item()
    if isinstance(expected, bool | int | float | np.generic):
        return _numbers(got, expected.item() if isinstance(expected, np.generic) else expected, *limits)
    if isinstance(expected, list | tuple):
        return _sequences(got, expected, *limits)
    if isinstance(expected, dict):
        return _dicts(got, expected, *limits)
    if type(got) is not type(expected):
        return _types(got, expected)
    if is_dataclass(expected) and not isinstance(expected, type):
        return _dicts(vars(got), vars(expected), *limits)
    if expected == got:
        return None
    return f"expected {short(expected)}, got {short(got)}" if reveal else f"{short(got)} is not right"


def _types(got: object, expected: object) -> str:
    hint = ""
    if isinstance(expected, int | float) and isinstance(got, TENSORS) and got.numel() == 1:
        hint = "; .item() makes it a plain number"
    elif callable(got) and not callable(expected):
        hint = "; is it called?"
    return f"expected {_article(expected)}, got {_article(got)}{hint}"


def _article(value: object) -> str:
    """Type of a value with its article, as "an int"."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _numbers(got: object, expected: bool | int | float, rtol: float, atol: float, reveal: bool) -> str | None:
    kind = type(got)
    if isinstance(expected, bool) or kind is bool:
        if kind is not bool or not isinstance(expected, bool):
            return _types(got, expected)
        return None if got is expected else f"expected {expected}, got {got}" if reveal else f"{got} is not right"
    if issubclass(kind, float):
        value = float.__float__(got)
        if isinstance(expected, int):
            return f"expected a whole number (int), got the float {value:g}"
    elif issubclass(kind, int):
        value = int.__int__(got)
    else:
        return _types(got, expected)
    if isinstance(expected, int):  # exact, also beyond the floats
        same = value == expected
    else:
        same = _close(value, expected, rtol, atol)
    return None if same else _values(value, expected, reveal)


def _close(value: float, expected: float, rtol: float, atol: float) -> bool:
    if value == expected or (value != value and expected != expected):  # the second is for NaN
        return True
    try:
        return abs(value - expected) <= atol + rtol * abs(expected) < math.inf
    except OverflowError:  # an int beyond the floats
        return False


def _values(value: float, expected: float, reveal: bool, where: str = "") -> str:
    if not reveal:
        side = "not a number" if value != value else "too small" if value < expected else "too large"
        return f"got {_number(value)}{where}, which is {side}"
    left, right = _number(expected), _number(value)
    if left == right and isinstance(value, float):
        left, right = repr(expected), repr(value)
    return f"expected {left}, got {right}{where}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1000 else "a huge number"
    return f"{value:.6g}"


def _tensors(got: object, expected: torch.Tensor, rtol: float, atol: float, reveal: bool) -> str | None:
    if type(got) not in TENSORS:
        return _types(got, expected)
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    if got.dtype != expected.dtype:
        return f"expected dtype {_dtype(expected)}, got {_dtype(got)}"
    if got.layout != torch.strided or got.device.type == "meta":
        return f"expected a dense tensor, got one with layout {got.layout} on {got.device}"
    got, expected = got.detach().cpu(), expected.detach().cpu()
    if got.is_complex():
        got, expected = torch.view_as_real(got), torch.view_as_real(expected)
    if got.is_floating_point():
        got, expected = got.double(), expected.double()
        same = isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
        strange = isnan(got) & ~isnan(expected)
        if strange.any():
            return f"got NaN in {int(strange.sum())} of {got.numel()} entries, first at {_first(strange)}"
    else:
        same = got == expected
    if same.all():
        return None
    first = _first(~same)
    phrase = _values(got[tuple(first)].item(), expected[tuple(first)].item(), reveal, f" at {first}" if first else "")
    return phrase + (f" ({int((~same).sum())} of {got.numel()} entries differ)" if first else "")


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first(where: torch.Tensor) -> list[int]:
    """Position of the first true entry."""
    return where.nonzero()[0].tolist()


def _sequences(got: object, expected: list | tuple, rtol: float, atol: float, reveal: bool) -> str | None:
    kind = list if isinstance(expected, list) else tuple
    if not issubclass(type(got), kind):
        return _types(got, expected)
    items = list(kind.__iter__(got))
    if len(items) != len(expected):
        return f"expected {len(expected)} items, got {len(items)}"
    for number, (ours, theirs) in enumerate(zip(expected, items, strict=True)):
        problem = difference(theirs, ours, rtol=rtol, atol=atol, reveal=reveal)
        if problem:
            return f"item {number}: {problem}"
    return None


def _dicts(got: object, expected: dict, rtol: float, atol: float, reveal: bool) -> str | None:
    if not issubclass(type(got), dict):
        return _types(got, expected)
    items = {key: value for key, value in dict.items(got) if type(key) in {type(known) for known in expected}}
    missing = [key for key in expected if key not in items]
    if missing:
        return f"the key {missing[0]!r} is missing"
    if len(items) < dict.__len__(got) or len(items) > len(expected):
        extra = next(key for key in dict.keys(got) if not any(key is known for known in items) or key not in expected)
        return f"the key {short(extra)} is not expected"
    for key, ours in expected.items():
        problem = difference(items[key], ours, rtol=rtol, atol=atol, reveal=reveal)
        if problem:
            return f"at key {key!r}: {problem}"
    return None


def same_inputs(left: object, right: object) -> bool:
    """Whether tensors, arrays, modules and containers of them hold the same values; other objects are not compared."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.nn.Module):
        left, right = dict(left.state_dict()), dict(right.state_dict())
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, torch.Tensor):
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        left, right = left.detach(), right.detach()
        return equal(left, right) or bool((isclose(left, right, rtol=0, atol=0, equal_nan=True)).all())
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same_inputs(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same_inputs, left, right))
    if isinstance(left, bool | int | float | str):
        return left == right or left != left
    return True


def short(value: object) -> str:
    """A value in a few words, whatever it is: never raises, never long."""
    try:
        if isinstance(value, TENSORS):
            if value.numel() <= SHOWN and value.device.type != "meta":
                return reprlib.repr(_rounded(value.detach().tolist()))
            return f"a {_dtype(value)} tensor of shape {tuple(value.shape)}"
        if isinstance(value, torch.nn.Module):
            return f"a {type(value).__name__}"
        if isinstance(value, float):
            return _number(value)
        return reprlib.repr(value).replace("\n", " ")
    except Exception:
        return f"a {type(value).__name__}"


def _rounded(value: object) -> object:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def describe(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Inputs of a call as they are written, or "" where that would be long."""
    text = ", ".join([short(value) for value in args] + [f"{name}={short(value)}" for name, value in kwargs.items()])
    return text if len(text) <= 160 else ""
