"""What a benchmark found, as plain data, and the bars that its ratios are held to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np

FORMAT = "coursekit bench 1"
Verdict = Literal["met", "not met", "not on this machine"]


@dataclass(frozen=True)
class Bar:
    """What a ratio is held to: at least one of `arms`, against the arm `against`, within [least, most].

    kind     "speed": times as fast (its baseline's seconds ÷ its own); "time": its own ÷ its baseline's;
             "ideal": speed ÷ what its FLOPs promise
    error    largest error of the output with which an arm still counts
    reason   what limits it; printed where it is missed
    """

    number: int
    what: str
    arms: tuple[str, ...]
    against: str
    least: float | None = None
    most: float | None = None
    kind: Literal["speed", "time", "ideal"] = "speed"
    error: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        unit = {"speed": "×", "time": "× the time", "ideal": " of ideal"}[self.kind]
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}{unit}"
        sign, limit = ("≥", self.least) if self.most is None else ("≤", self.most)
        tail = "" if self.error is None else f", error ≤ {self.error:.2g}"
        return f"{sign} {limit:g}{unit}{tail}"


@dataclass(frozen=True)
class ArmResult:
    """Seconds of each call; times as fast as the baseline: median over rounds of the quotient, and its quartiles.

    bytes: of the weights as stored; peak: bytes that a call held at once beyond them; texts: that a call works on.
    """

    name: str
    why: str = ""
    median: float | None = None
    iqr: float | None = None
    seconds: tuple[float, ...] = field(default=(), repr=False)
    speed: float | None = None
    speed_quartiles: tuple[float, float] | None = None
    error: float | None = None
    ideal: float | None = None
    bytes: int | None = None
    peak: int | None = None
    texts: int | None = None


@dataclass(frozen=True)
class BarResult:
    """A bar beside what was measured: of the best of its arms, the ratio and its quartiles."""

    number: int
    what: str
    bar: str
    verdict: Verdict
    arm: str | None = None
    value: float | None = None
    quartiles: tuple[float, float] | None = None
    why: str = ""
    kind: str = "speed"
    least: float | None = None
    most: float | None = None

    def limits(self, ideal: float | None) -> list[float]:
        """The bar's limits as speeds, where an arm's ratio can be drawn beside them."""
        given = [limit for limit in (self.least, self.most) if limit is not None]
        return [{"speed": limit, "time": 1 / limit, "ideal": limit * (ideal or 1)}[self.kind] for limit in given]


@dataclass(frozen=True)
class CaseResult:
    """What a case gave; without arms if it could not run at all, which `why` explains. seconds: of all of it."""

    name: str
    about: str
    arms: tuple[ArmResult, ...] = ()
    bars: tuple[BarResult, ...] = ()
    rounds: int = 0
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class BenchResult:
    """One run of a suite: everything needed to read it elsewhere. `to_dict` is plain data for JSON."""

    suite: str
    command: str
    date: str
    machine: str
    device: str
    threads: int
    versions: dict[str, str]
    seconds: float
    cases: tuple[CaseResult, ...]
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The result whose `to_dict` this is. Raises ValueError for data of another format."""
        if data.get("format") != FORMAT:
            raise ValueError(f"expected the result of a benchmark, format {FORMAT!r}; got {data.get('format')!r}")
        cases = []
        for case in data["cases"]:
            arms = tuple(ArmResult(**{**arm, "seconds": tuple(arm["seconds"])}) for arm in case["arms"])
            cases.append(CaseResult(**{**case, "arms": arms, "bars": tuple(BarResult(**bar) for bar in case["bars"])}))
        return cls(**{**data, "cases": tuple(cases)})


def judge(bar: Bar, arms: Mapping[str, ArmResult]) -> BarResult:
    """The verdict on a bar: met if one of its arms is inside; of several the best is reported."""
    against, candidates = arms[bar.against], [arms[name] for name in bar.arms]
    able = [arm for arm in candidates if arm.seconds and against.seconds]
    if not able:
        why = next(arm.why for arm in (*candidates, against) if not arm.seconds)
        return unheld(bar, why)
    judged = [_held(bar, arm, against) for arm in able]
    inside = [result for result in judged if result.verdict == "met"]
    sign = -1 if bar.kind == "time" else 1
    return max(inside or judged, key=lambda result: sign * result.value)


def unheld(bar: Bar, why: str) -> BarResult:
    """The verdict where nothing could be measured."""
    limits = {"kind": bar.kind, "least": bar.least, "most": bar.most}
    return BarResult(bar.number, bar.what, str(bar), "not on this machine", why=why, **limits)


def _held(bar: Bar, arm: ArmResult, against: ArmResult) -> BarResult:
    speeds = np.asarray(against.seconds) / np.asarray(arm.seconds)
    values = {"speed": speeds, "time": 1 / speeds, "ideal": speeds / (arm.ideal or np.nan)}[bar.kind]
    value, quartiles = spread(values)
    if bar.error is not None and arm.error is None:
        raise ValueError(f"{arm.name!r} has no error, and the bar {bar.what!r} limits it")
    wrong = bar.error is not None and not arm.error <= bar.error
    inside = (bar.least is None or value >= bar.least) and (bar.most is None or value <= bar.most)
    why = f"its error is {arm.error:.2g}, the limit {bar.error:.2g}" if wrong else "" if inside else bar.reason
    verdict = "met" if inside and not wrong else "not met"
    limits = (bar.kind, bar.least, bar.most)
    return BarResult(bar.number, bar.what, str(bar), verdict, arm.name, value, quartiles, why, *limits)


def spread(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Median, and the two quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return middle, (low, high)
