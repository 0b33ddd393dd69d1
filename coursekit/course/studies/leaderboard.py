"""One leaderboard: every method of the course on one teacher, one task, one test set, one machine.

A seed draws 3,200 labelled texts, and everything learns from those. Its teacher is the published encoder, fine-tuned on
them once. What is compressed afterwards may go on for `recovery_steps`; `more` goes on without being compressed, so
that training is not taken for a gain of compression. `masked`, `wanda` and `movement` differ in which half of the
weights goes, judged by size, by what it does to calibration texts, or by scores that learn; `word-table` has half the
numbers of the word table. Every distilled model is three layers that begin as layers 0, 2 and 4 of what is there (a
departure for MiniLM and TinyBERT, which begin at random), and takes as many steps as the teacher did.

Stacked arms have the orders of distilling (to three layers), pruning (half the neurons) and int8 codes, tables too. A
step behind codes works on the rounded numbers, trains them, and the codes are made anew at the end: all six end equally
small.

At equal total compute, counted by `equal_steps`: `distil` with its teacher; `shared-2` and `sandwich`, six depths on
three stored layers (neighbours share; all but the first and the last do), so with as many weights as the student;
`shared-all`; and `alone-long`, the student without a teacher.

CPU seconds are of the whole chain on all threads, the teacher's included; the published encoder's own training, with
which all but bag-of-words and the narrow models began, is in nobody's. Validation chooses what is smallest and fastest
within the margin; the test set is used once per run.

The arm `clock` has the times of all others, side by side in one interleaved run on one thread. What a weight is costs
no time, so its models have taken one step of each training.
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from coursekit.course.studies import few_labels
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_difference, differences
from coursekit.course.studies.leaderboard_rivals import RIVALS, Rival, judged, of_model
from coursekit.course.studies.leaderboard_starts import LAYERS, equal_steps
from coursekit.course.studies.leaderboard_steps import made
from coursekit.course.studies.leaderboard_table import table
from coursekit.measure import compare as compare_times

ORDER_NAMES = {"distil": "distil", "neurons": "prune", "int8-tables": "int8"}


def _orders() -> dict[str, tuple[str, ...]]:
    """Arm → chain, for every order; codes are made (again) at the end."""
    found = {}
    for order in permutations(ORDER_NAMES):
        chain = ("teacher", *order) if order[-1] == "int8-tables" else ("teacher", *order, "int8-tables")
        found["+".join(ORDER_NAMES[step] for step in order)] = chain
    return found


ORDERS = _orders()
AFTER = (
    "more",
    "low-rank",
    "word-table",
    "masked",
    "wanda",
    "movement",
    "2:4",
    "heads",
    "neurons",
    "layers",
    "ternary",
    "int8-qat",
)
CODED = ("int8", "int8-static", "int8-static-smooth", "int8-tables", "int4-tables")
DISTILLED = ("distil", "distilbert", "pkd", "theseus", "minilm", "tinybert")
CHAINS: dict[str, tuple[str, ...]] = {
    "teacher": ("teacher",),
    **{name: ("teacher", name) for name in CODED},
    "words": ("teacher", "words"),
    **{name: ("teacher", name) for name in AFTER},
    **{name: ("teacher", name) for name in DISTILLED},
    **ORDERS,
    "distil+prune+words+int8": ("teacher", "distil", "neurons", "words", "int8-tables"),
    "distil+prune+words+int4": ("teacher", "distil", "neurons", "words", "int4-tables"),
    "alone": ("alone",),
    "alone-long": ("alone-long",),
    "sibling-3": ("sibling",),
    "shared-2": ("shared-2",),
    "sandwich": ("sandwich",),
    "shared-all": ("shared-all",),
    "narrow": ("narrow",),
    "narrow-tinybert": ("teacher", "narrow-tinybert"),
}
"""Arm → how its model is made; `RIVALS` has the others."""

MASKED = ("masked", "wanda", "movement", "2:4")
EQUAL = ("distil", "shared-2", "sandwich", "shared-all", "alone-long")
FIRST_ORDER = "distil+prune+int8"
ARMS = (*CHAINS, *RIVALS)  # the teacher first: times are divided by its own
CLOCK = "clock"
ONE_STEP = {"steps": 1, "recovery_steps": 1, "narrow_steps": 1}
COMPARED = (
    *((arm, "teacher") for arm in ARMS if arm != "teacher"),
    *((arm, "more") for arm in AFTER[1:]),
    *((order, FIRST_ORDER) for order in ORDERS if order != FIRST_ORDER),
    *((arm, "alone") for arm in DISTILLED),
    *(("distil", arm) for arm in EQUAL[1:]),
    ("shared-2", "alone-long"),
    ("shared-2", "shared-all"),
    ("sandwich", "shared-2"),
    ("wanda", "masked"),
    ("movement", "masked"),
    ("int8-static", "int8"),
    ("int8-static-smooth", "int8-static"),
    ("int8-qat", "int8"),
    ("alone-long", "alone"),
    ("sibling-3", "alone"),
    ("sibling-int8", "probe"),
    ("narrow-tinybert", "narrow"),
    ("distil+prune+words+int4", "distil+prune+words+int8"),
)


def settings(quick: bool) -> Settings:
    """Sizes and recipe.

    margin: accuracy that a small model may lose against the teacher, by the lower end of a paired bootstrap's interval.
    tokens and batches: of what is timed; rounds: how often. steps: of a teacher, and of a student.
    """
    full = {
        "task": "rotten-tomatoes",
        "texts": 3200,
        "steps": 100,
        "recovery_steps": 48,
        "lr": 2e-4,
        "batch_size": 32,
        "calibration_texts": 128,
        "narrow": {"num_layers": LAYERS[1], "hidden_size": 192, "intermediate_size": 768},
        "narrow_steps": 200,
        "narrow_lr": 1e-3,
        "precision": "auto",
        "margin": 0.03,
        "tokens": 26,
        "batches": [1, 32],
        "rounds": [20, 5],
        "validation_texts": None,
        "test_texts": None,
    }
    small = {
        "texts": 32,
        "steps": 2,
        "recovery_steps": 1,
        "batch_size": 8,
        "calibration_texts": 8,
        "narrow_steps": 2,
        "batches": [1, 2],
        "rounds": [2, 2],
        "validation_texts": 12,
        "test_texts": 12,
    }
    return full | small if quick else full


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Make one model and judge it, or time all. Kept: right or wrong on each text."""
    if arm == CLOCK:
        return clock(seed, settings), {}
    rival = _rival(arm, seed, settings)
    right = {side: rival.right(judged(side, settings)) for side in ("validation", "test")}
    numbers = {f"{side}_accuracy": round(sum(each) / len(each), 4) for side, each in right.items()}
    return numbers | rival.numbers, {"right": right["test"], "validation": right["validation"]}


def _rival(arm: str, seed: int, settings: Settings) -> Rival:
    if arm in RIVALS:
        return RIVALS[arm](seed, settings)
    return of_model(made(CHAINS[arm], seed, settings), arm in MASKED, settings)


def clock(seed: int, settings: Settings) -> Numbers:
    """Times of B texts over the teacher's as `ARM ratio_B`, medians over rounds, with spread; its milliseconds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was it fine-tuned on this task", category=UserWarning)
        rivals = {arm: _rival(arm, seed, settings | ONE_STEP) for arm in ARMS}
    found: Numbers = {}
    for batch, rounds in zip(settings["batches"], settings["rounds"], strict=True):
        calls = {arm: rival.call(batch) for arm, rival in rivals.items()}
        times = compare_times(calls, threads=1, repeats=rounds, warmup=1)
        found[f"teacher milliseconds_{batch}"] = round(1e3 * times["teacher"].median, 3)
        for arm, time in times.items():
            found[f"{arm} ratio_{batch}"] = round(time.ratio, 4)
            found[f"{arm} ratio_iqr_{batch}"] = round(time.ratio_iqr, 4)
    return found


def baselines(settings: Settings) -> dict[str, Any]:
    """Always the larger class of the training texts; the steps of equal compute; what the graphics card column has."""
    task = few_labels.task(settings)
    usual = max(set(task.train.labels), key=task.train.labels.count)
    shares = {side: judged(side, settings).labels for side in ("validation", "test")}
    return {
        "majority": {side: round(labels.count(usual) / len(labels), 4) for side, labels in shares.items()},
        "equal_steps": equal_steps(settings),
        "chains": {arm: list(chain) for arm, chain in CHAINS.items()},
        "gpu": None,  # not measured
    }


def compare(details: Mapping[str, Sequence[dict[str, Any]]], settings: Settings) -> dict[str, Any]:
    """Accuracy of one arm minus another's, with 95 % intervals over texts and seeds.

    On test for every pair; on validation against the teacher alone, which is what the margin looks at.
    """
    found = differences(details, COMPARED, {"test_accuracy": ("right", accuracy_difference)})
    against = tuple(pair for pair in COMPARED if pair[1] == "teacher")
    chosen = differences(details, against, {"validation_accuracy": ("validation", accuracy_difference)})
    return {pair: numbers | chosen.get(pair, {}) for pair, numbers in found.items()}


STUDY = Study(
    name="leaderboard",
    title="One leaderboard: every method of the course on one teacher and one task",
    minutes=60,
    arms=(*ARMS, CLOCK),
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=compare,
    table=table,
)
