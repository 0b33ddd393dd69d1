"""Which layer of the student learns from which layer of the teacher."""

from collections.abc import Callable
from dataclasses import dataclass

from coursekit.errors import unknown_name

Pairs = tuple[tuple[int, int], ...]  # (student, teacher)


@dataclass(frozen=True)
class LayerMatch:
    """Pairs of (student, teacher): hidden states count from the embedding output (0), attention from layer 0."""

    hidden: Pairs
    attention: Pairs


def match_layers(strategy: str, teacher_layers: int, student_layers: int) -> LayerMatch:
    """The layers that meet, for N teacher and M student layers.

      uniform   hidden (m, m·N/M), attention (i, (i + 1)·N/M − 1): each student layer stands for N/M of the teacher's
                (TinyBERT, section 3.2); embeddings meet embeddings
      top, bottom      the last or first M layers of the teacher (TinyBERT, Table 4); embeddings meet embeddings
      pkd-skip  hidden (m, m·N/M), m = 1 … M − 1: the last layer is left to the soft targets (PKD, section 3.2)
      pkd-last  hidden (m, N − M + m), m = 1 … M − 1
      distilbert-init  attention: the layers that the released code copies, 0 2 4 7 9 11 for 12 → 6, 0 2 4 for 6 → 3;
                hidden, the embeddings and what comes out of those layers
      minilm    attention of the last layers alone (MiniLM, section 3)

    Raises ValueError for an unknown strategy, a student deeper than its teacher, or counts the strategy cannot match.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("strategy", strategy, STRATEGIES)
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(f"a student needs 1 to {teacher_layers} layers, as many as its teacher, got {student_layers}")
    return STRATEGIES[strategy](teacher_layers, student_layers)


def layers_per_layer(teacher_layers: int, student_layers: int) -> int:
    """N/M. Raises ValueError if M does not divide N."""
    if student_layers < 1 or teacher_layers % student_layers:
        raise ValueError(f"{student_layers} student layers do not divide the {teacher_layers} of the teacher")
    return teacher_layers // student_layers


def _uniform(teacher: int, student: int) -> LayerMatch:
    k = layers_per_layer(teacher, student)
    return LayerMatch(
        tuple((m, m * k) for m in range(student + 1)), tuple((i, (i + 1) * k - 1) for i in range(student))
    )


def _copied(layers: tuple[int, ...]) -> LayerMatch:
    """Student layer i beside teacher layer layers[i], with what comes out of each."""
    after = tuple((i + 1, layer + 1) for i, layer in enumerate(layers))
    return LayerMatch(((0, 0), *after), tuple(enumerate(layers)))


def _top(teacher: int, student: int) -> LayerMatch:
    return _copied(tuple(range(teacher - student, teacher)))


def _bottom(teacher: int, student: int) -> LayerMatch:
    return _copied(tuple(range(student)))


def _patient(student: int) -> range:
    if student < 2:
        raise ValueError("PKD leaves the last layer to the soft targets: it needs at least 2 student layers, got 1")
    return range(1, student)


def _pkd_skip(teacher: int, student: int) -> LayerMatch:
    k = layers_per_layer(teacher, student)
    return LayerMatch(tuple((m, m * k) for m in _patient(student)), ())


def _pkd_last(teacher: int, student: int) -> LayerMatch:
    return LayerMatch(tuple((m, teacher - student + m) for m in _patient(student)), ())


DISTILBERT_LAYERS = {(12, 6): (0, 2, 4, 7, 9, 11), (6, 3): (0, 2, 4)}


def _distilbert_init(teacher: int, student: int) -> LayerMatch:
    if (teacher, student) not in DISTILBERT_LAYERS:
        known = ", ".join(f"{n} → {m}" for n, m in DISTILBERT_LAYERS)
        raise ValueError(f"distilbert-init is for {known} layers, got {teacher} → {student}")
    return _copied(DISTILBERT_LAYERS[teacher, student])


def _minilm(teacher: int, student: int) -> LayerMatch:
    return LayerMatch((), ((student - 1, teacher - 1),))


STRATEGIES: dict[str, Callable[[int, int], LayerMatch]] = {
    "uniform": _uniform,
    "top": _top,
    "bottom": _bottom,
    "pkd-skip": _pkd_skip,
    "pkd-last": _pkd_last,
    "distilbert-init": _distilbert_init,
    "minilm": _minilm,
}
