"""Checks of unit 09 on texts and recipes: replacing words, growing a training set, and the task stage as data."""

from collections.abc import Callable, Sequence
from random import Random

from coursekit.course.expect import Draw, Wrong, expect_equal
from coursekit.distill import Recipe, Stage, tinybert
from coursekit.distill.terms import KINDS

NAMES = tuple(
    "amber birch cedar dune ember fern grove heath iris jade kelp lotus maple nettle oak pine quartz reed".split()
)

# ---- 09.5: replace words ----


def replace_words(words: Sequence[str], candidates: dict[int, list[str]], p: float, rng: Random) -> list[str]:
    """Stand-in for 09.5."""
    new = list(words)
    for place, choices in candidates.items():
        if choices and rng.random() < p:
            new[place] = rng.choice(choices)
    return new


def check_replace(answer: Callable, draw: Draw) -> None:
    """09.5 by what must hold for p = 1 and 0, and by counting over many calls in between."""
    words = draw.sample(NAMES, 8)
    candidates = {place: [f"{words[place]}{n}" for n in range(4)] for place in (1, 2, 4, 6)}
    candidates[5] = []
    given, kept = list(words), {place: list(choices) for place, choices in candidates.items()}
    runs = [answer(given, kept, 1.0, Random(draw.integer(0, 10**6))) for _ in range(80)]
    if any(isinstance(run, str) for run in runs):
        raise Wrong("expected a list of words, got one text")
    for run in runs:
        if run is given:
            raise Wrong("it changes the list it was given; work on a copy")
        if not isinstance(run, list):
            raise Wrong(f"expected a list of words, got a {type(run).__name__}")
        if len(run) != len(words):
            raise Wrong(f"expected {len(words)} words, got {len(run)}: each word is replaced or stays")
    if given != words or kept != candidates:
        raise Wrong("it changes what it was given; work on a copy")
    _explain_always(runs, words, candidates)
    expect_equal(answer(list(words), candidates, 0.0, Random(0)), words, what="with p = 0")
    _explain_often(answer, words, candidates, draw)


def _explain_always(runs: list[list[str]], words: list[str], candidates: dict[int, list[str]]) -> None:
    """With p = 1: every word with candidates is one of them, all others stay, and all candidates turn up."""
    for place, word in enumerate(words):
        seen, choices = {run[place] for run in runs}, candidates.get(place, [])
        if not choices and seen != {word}:
            raise Wrong("a word without candidates is not what it was")
        if choices and word in seen:
            raise Wrong("with p = 1 every word that has candidates is replaced")
        if not seen <= {word, *choices}:
            raise Wrong("a word is replaced by something that is not among its own candidates")
        if choices and len(seen) == 1:
            raise Wrong(
                "it is always the first candidate; all are equally likely"
                if seen == {choices[0]}
                else "it is always the same candidate; all are equally likely"
            )
        if choices and len(seen) < len(choices):
            raise Wrong("one candidate never turns up; all are equally likely")


def _explain_often(answer: Callable, words: list[str], candidates: dict[int, list[str]], draw: Draw) -> None:
    """With p in between: each word by itself, so often."""
    p, rng, count = draw.number(0.3, 0.4), Random(draw.integer(0, 10**6)), 600
    runs = [answer(list(words), candidates, p, rng) for _ in range(count)]
    places = [place for place, choices in candidates.items() if choices]
    changed = [[run[place] != words[place] for place in places] for run in runs]
    if all(len(set(row)) == 1 for row in changed):
        raise Wrong("either all words are replaced or none; each should be decided by itself")
    if len({tuple(run) for run in runs}) == 1:
        raise Wrong("it is the same text each time; draw from `rng`")
    if max(sum(row) for row in changed) == 1:
        raise Wrong("only one word is replaced each time; each is decided by itself")
    share = sum(map(sum, changed)) / (count * len(places))
    if abs(share - (1 - p)) < 0.05 < abs(share - p):
        raise Wrong("a word is kept with probability p; it should be replaced with probability p")
    if abs(share - p) > 0.06:  # five standard errors
        raise Wrong(f"with p = {p:.2f} a share of {share:.2f} of the words that can be is replaced")


# ---- 09.6: a training set that grows ----

Rows = list[tuple[str, int]]


def grown(texts: Sequence[str], labels: Sequence[int], more: Callable, held_out: Sequence[str]) -> Rows:
    """Stand-in for 09.6."""
    rows = []
    for text, label in zip(texts, labels, strict=True):
        rows += [(new, label) for new in (text, *more(text)) if new == text or new not in held_out]
    return rows


def check_grown(answer: Callable, draw: Draw) -> None:
    """09.6 with versions of which some are held out."""
    texts, others = draw.sample(NAMES, 6), [f"held {number}" for number in range(4)]
    labels = [number % 2 if number < 2 else draw.integer(0, 2) for number in range(6)]
    versions = {text: [f"{text} {number}" for number in range(draw.integer(2, 4))] for text in texts}
    for text, other in zip(texts[1:], others[:3], strict=False):
        versions[text].insert(draw.integer(0, 1), other)
    given = list(texts), list(labels)
    got = answer(*given, lambda text: list(versions[text]), list(others))
    if (list(texts), list(labels)) != given:
        raise Wrong("it changes what it was given; work on a copy")
    expected = grown(texts, labels, versions.get, others)
    in_turn = [text for one in texts for text in (one, *versions[one]) if text not in others]
    expect_equal(
        got,
        expected,
        mistakes={
            "the originals are missing; they train too": [row for row in expected if row[0] not in texts],
            "new texts that are held out for testing came into training": grown(texts, labels, versions.get, ()),
            "the labels are not those of the originals: they go on in turn": [
                (text, labels[number % len(labels)]) for number, text in enumerate(in_turn)
            ],
            "only the first version of each text is there": grown(texts, labels, lambda t: versions[t][:1], others),
            "only the originals are there": list(zip(texts, labels, strict=True)),
            "a row is (text, label), in this order": [row[::-1] for row in expected],
            "a text with a held-out version is left out altogether; only that version should be": [
                row for row in expected if not any(v in others for v in versions[row[0].split()[0]])
            ],
            "all originals come first; each should be followed by its own versions": [
                *zip(texts, labels, strict=True),
                *(row for row in expected if row[0] not in texts),
            ],
        },
    )


# ---- 09.7: the task stage as data ----


def task_stages(teacher_layers: int, student_layers: int) -> tuple[Stage, ...]:
    """Stand-in for 09.7."""
    return tinybert(teacher_layers, student_layers).stages


def check_stages(answer: Callable, draw: Draw) -> None:
    """09.7, term by term."""
    student = draw.integer(2, 4)
    teacher = draw.integer(3, 4) * student
    got = answer(teacher, student)
    if isinstance(got, Recipe):
        raise Wrong("expected the two stages, got a whole Recipe")
    if not isinstance(got, list | tuple) or not all(isinstance(stage, Stage) for stage in got):
        raise Wrong("expected two Stage objects in a tuple")
    if len(got) != 2:
        raise Wrong(f"expected two stages, got {len(got)}: inner layers, then the prediction")
    inner, prediction = got
    kinds = [term.kind for term in inner.terms]
    if "hard" in kinds or any(term.kind == "hard" for term in prediction.terms):
        raise Wrong("TinyBERT has no loss of labels")
    if "soft" in kinds:
        raise Wrong("answers and inner layers are in one stage; the answers come afterwards")
    if any(KINDS[term.kind].layers for term in prediction.terms):
        raise Wrong("the second stage has the answers alone")
    if [(term.kind, term.temperature) for term in prediction.terms] != [("soft", 1.0)]:
        raise Wrong("the second stage has the teacher's answers at temperature 1, and nothing else")
    _explain_inner(inner, teacher, student)


def _explain_inner(stage: Stage, teacher: int, student: int) -> None:
    hidden = {pair for term in stage.terms if term.kind == "hidden" for pair in term.layers}
    scores = {pair for term in stage.terms if term.kind == "attention" for pair in term.layers}
    if others := [term.kind for term in stage.terms if term.kind not in ("hidden", "attention")]:
        raise Wrong(f"{others[0]!r} is not TinyBERT's; it compares hidden states and attention scores")
    for name, found in (("hidden states", hidden), ("attention scores", scores)):
        if not found:
            raise Wrong(f"the first stage does not compare {name}")
    if any(not term.project for term in stage.terms if term.kind == "hidden"):
        raise Wrong("a narrower student's hidden states need a map to the teacher's width")
    k = teacher // student
    if (0, 0) not in hidden:
        raise Wrong("the embeddings, state 0 on both sides, are not compared")
    if hidden != {(m, m * k) for m in range(student + 1)}:
        raise Wrong("hidden states should meet uniformly, m with m·N/M")
    if scores != {(i, (i + 1) * k - 1) for i in range(student)}:
        raise Wrong("attention should meet uniformly, i with (i + 1)·N/M − 1, counted from 0")
    if any(term.weight != 1 for term in stage.terms):
        raise Wrong("all of TinyBERT's weights are 1")
    if stage.schedule != "constant":
        raise Wrong("the learning rate of the first stage is constant, and the stage should say so")
