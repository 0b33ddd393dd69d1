"""Verdicts on bars, from hand-made seconds."""

import pytest

from coursekit.bench import Bar, judge
from coursekit.bench.results import ArmResult


def arm(name="fast", seconds=(1.0, 2.0, 3.0), **about):
    return ArmResult(name, seconds=seconds, **about)


def verdict(bar, *arms):
    return judge(bar, {each.name: each for each in (arm("base", (4.0, 5.0, 6.0)), *arms)})


def bar(arms=("fast",), **limits):
    return Bar(3, "something", arms, "base", reason="caches", **limits)


def test_ratios_are_of_the_same_round():
    found = verdict(bar(least=2.5), arm())  # 4/1, 5/2, 6/3 → 4, 2.5, 2; medians of times alone would give 5/2 too
    assert (found.value, found.verdict, found.arm, found.why) == (2.5, "met", "fast", "")
    assert found.quartiles == (2.25, 3.25)
    apart = verdict(bar(least=2.5), arm(seconds=(3.0, 1.0, 2.0)))  # 4/3, 5, 3
    assert apart.value == 3.0


@pytest.mark.parametrize(
    ("limits", "value", "expected"),
    [
        ({"least": 2.5}, 2.5, "met"),
        ({"least": 2.51}, 2.5, "not met"),
        ({"most": 2.5}, 2.5, "met"),
        ({"most": 2.4}, 2.5, "not met"),
        ({"least": 0.9, "most": 1.1}, 2.5, "not met"),
        ({"least": 2.0, "most": 3.0}, 2.5, "met"),
        ({"most": 0.4, "kind": "time"}, 0.4, "met"),
        ({"most": 0.39, "kind": "time"}, 0.4, "not met"),
        ({"least": 0.5, "kind": "ideal"}, 0.5, "met"),
        ({"least": 0.51, "kind": "ideal"}, 0.5, "not met"),
    ],
)
def test_limits(limits, value, expected):
    found = verdict(bar(**limits), arm(ideal=5.0))
    assert (found.value, found.verdict) == (pytest.approx(value), expected)
    assert found.why == ("" if expected == "met" else "caches")


@pytest.mark.parametrize(
    ("error", "expected"),
    [(0.02, "met"), (0.03, "met"), (0.031, "not met"), (None, "not met"), (float("nan"), "not met")],
)
def test_a_fast_arm_with_a_large_error_does_not_count(error, expected):
    if error is None:
        with pytest.raises(ValueError, match="'fast' has no error"):
            verdict(bar(least=2.0, error=0.03), arm())
        return
    found = verdict(bar(least=2.0, error=0.03), arm(error=error))
    assert found.verdict == expected
    assert ("its error is" in found.why) == (expected == "not met")


def test_one_of_several_arms_is_enough_and_the_best_is_shown():
    either = bar(("fast", "slow", "none"), least=2.0)
    none = ArmResult("none", why="no such hardware")
    slow = arm("slow", (4.0, 4.0, 4.0))
    assert verdict(either, arm(), slow, none).arm == "fast"
    assert verdict(either, arm(seconds=(9.0, 9.0, 9.0)), slow, none).arm == "slow"
    wrong = bar(("fast", "slow"), least=1.0, error=0.1)
    assert verdict(wrong, arm(error=0.5), arm("slow", (4.0, 4.0, 4.0), error=0.0)).arm == "slow"  # fast is wrong


def test_what_cannot_run_is_not_a_failure():
    found = verdict(bar(least=2.0), ArmResult("fast", why="no bf16 here"))
    assert (found.verdict, found.why, found.value) == ("not on this machine", "no bf16 here", None)
    found = judge(bar(least=2.0), {"fast": arm(), "base": ArmResult("base", why="not installed")})
    assert (found.verdict, found.why) == ("not on this machine", "not installed")


def test_bars_in_words_and_as_speeds():
    assert str(bar(least=2.5, error=0.03)) == "≥ 2.5×, error ≤ 0.03"
    assert str(bar(most=1.3, kind="time")) == "≤ 1.3× the time"
    assert str(bar(least=0.9, kind="ideal")) == "≥ 0.9 of ideal"
    assert str(bar(least=0.9, most=1.1)) == "0.9 to 1.1×"
    assert verdict(bar(least=2.5), arm()).limits(None) == [2.5]
    assert verdict(bar(most=1.25, kind="time"), arm()).limits(None) == [0.8]
    assert verdict(bar(least=0.5, kind="ideal"), arm(ideal=4.0)).limits(4.0) == [2.0]
