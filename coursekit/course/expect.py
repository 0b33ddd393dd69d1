"""What the authors of checks write with: fresh inputs, and comparisons that name the mistake."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import torch

from coursekit.course.difference import describe, difference, same_inputs, short

Mistakes = Mapping[str, object]
T = TypeVar("T")


class Wrong(Exception):
    """A check found a mistake; the message names it and reads after the word "wrong: "."""


class NotAttempted(Exception):
    """The learner has not written anything yet."""


@dataclass
class Draw:
    """Random inputs of one run of a check; two draws of one seed are equal, and global random state is not used."""

    seed: int
    random: Random = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self):
        self.random = Random(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self.random.randint(low, high)

    def number(self, low: float, high: float) -> float:
        """A real number between low and high."""
        return self.random.uniform(low, high)

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return self.random.choice(options)

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones of the options, in random order."""
        return self.random.sample(options, count)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal float32 numbers of this shape."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float32, device="cpu")

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Whole numbers (int64) from low to high, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator, dtype=torch.int64, device="cpu")

    def mask(self, batch: int, tokens: int) -> torch.Tensor:
        """(B, T) bool, true on the first tokens of each row: at least one, one row full, the next one not."""
        lengths = [self.integer(1, tokens) for _ in range(batch)]
        full = self.integer(0, batch - 1)
        lengths[full] = tokens
        if batch > 1:
            lengths[full - 1] = self.integer(1, max(1, tokens - 1))
        return torch.arange(tokens) < torch.tensor(lengths).unsqueeze(1)


def expect_close(
    got: object,
    expected: object,
    *,
    what: str = "",
    rtol: float = 1e-4,
    atol: float = 1e-5,
    mistakes: Mistakes | None = None,
    reveal: bool = True,
) -> None:
    """Raise `Wrong` unless `got` has the type, shape, dtype and, within the tolerance, the values of `expected`.

    `what` names the value in the message. `mistakes` maps a message to the wrong value it stands for (or a
    function without parameters that gives it); such a message is used where `got` equals that value.
    `reveal=False` keeps the expected value out.
    """
    _not_empty_handed(got, expected)
    problem = difference(got, expected, rtol=rtol, atol=atol, reveal=reveal)
    if problem is None:
        return
    for message, variant in (mistakes or {}).items():
        if _is_variant(got, variant, (), {}, rtol, atol):
            raise Wrong(message)
    raise Wrong(f"{what}: {problem}" if what else problem)


def expect_equal(
    got: object,
    expected: object,
    *,
    what: str = "",
    mistakes: Mistakes | None = None,
    reveal: bool = True,
) -> None:
    """`expect_close` without a tolerance."""
    expect_close(got, expected, what=what, rtol=0.0, atol=0.0, mistakes=mistakes, reveal=reveal)


def expect_call(
    answer: Callable[..., object],
    args: Sequence[object],
    expected: object,
    *,
    kwargs: Mapping[str, object] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    mistakes: Mapping[str, Callable[..., object]] | None = None,
    reveal: bool = True,
    may_change: bool = False,
) -> object:
    """Call the learner's function on clones of the inputs, compare as `expect_close`; returns what it gave.

    `mistakes` maps a message to a wrong variant of the function, called on the same inputs. A function that
    changes its inputs is wrong unless `may_change`.
    """
    kwargs = dict(kwargs or {})
    given, named = copy.deepcopy((tuple(args), kwargs))
    got = answer(*given, **named)
    _not_empty_handed(got, expected)
    if not may_change and not same_inputs((given, named), (tuple(args), kwargs)):
        raise Wrong("it changes its input; work on a copy, so that the caller's data stays as it was")
    problem = difference(got, expected, rtol=rtol, atol=atol, reveal=reveal)
    if problem is None:
        return got
    for message, variant in (mistakes or {}).items():
        if _is_variant(got, variant, args, kwargs, rtol, atol):
            raise Wrong(message)
    shown = describe(args, kwargs) if type(got) is type(expected) else ""
    raise Wrong(f"{problem}; inputs: {shown}" if shown else problem)


def _not_empty_handed(got: object, expected: object) -> None:
    """Say so where a function returned nothing, `...` or a generator."""
    if got is Ellipsis or got is NotImplemented:
        raise NotAttempted
    if got is None and expected is not None:
        raise Wrong("it returns None; is a `return` missing?")
    if inspect.isgenerator(got) or inspect.iscoroutine(got):
        got.close()
        word = "yield" if inspect.isgenerator(got) else "async"
        raise Wrong(f"expected {short(expected)}, got a {type(got).__name__}; `return` it, without `{word}`")


def _is_variant(got: object, variant: object, args, kwargs, rtol: float, atol: float) -> bool:
    """Whether `got` is what this wrong variant gives; a variant that fails on these inputs is not the one."""
    try:
        value = variant(*copy.deepcopy(tuple(args)), **copy.deepcopy(dict(kwargs))) if callable(variant) else variant
        return difference(got, value, rtol=rtol, atol=atol) is None
    except Exception:
        return False
