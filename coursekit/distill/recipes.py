"""Distillation methods as recipes: which layers meet, which losses with which weights, in which stages.

A recipe is data. `distill` carries it out, a figure can draw it, and a new method is a new recipe: put `Term`s into
`Stage`s. Each function below takes the depths N of the teacher and M of the student, the paper's own by default.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from coursekit.distill.layers import DISTILBERT_LAYERS, LayerMatch, layers_per_layer, match_layers
from coursekit.distill.terms import Term
from coursekit.errors import unknown_name


@dataclass(frozen=True)
class Replacing:
    """Theseus: each module of the predecessor gives way with probability min(1, base + k·t) after t steps.

    reach: share of the stage's steps after which the probability is 1, so k = (1 − base) / (reach·steps); None keeps
    it at base. Raises ValueError unless both lie in (0, 1].
    """

    base: float = 0.3
    reach: float | None = 0.5

    def __post_init__(self) -> None:
        for name, value in (("base", self.base), ("reach", self.reach)):
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value}")

    def rate(self, step: int, total: int) -> float:
        """Probability of replacing a module in step `step` (0 … total − 1) (Theseus, equation 6)."""
        return self.base if self.reach is None else min(1.0, self.base + (1 - self.base) * step / (self.reach * total))


@dataclass(frozen=True)
class Stage:
    """Terms that are minimised together.

    teacher    who teaches: "teacher", or the name of another model, such as "pretrained" or "assistant"
    student    who learns: "student", or "assistant"
    schedule   of the learning rate after the warm-up, where the method fixes one
    replacing  Theseus: no one is imitated, the student's layers take the places of the teacher's
    Raises ValueError for no terms, two of one name, or a `replacing` stage with anything but the hard loss.
    """

    name: str
    terms: tuple[Term, ...]
    teacher: str = "teacher"
    student: Literal["student", "assistant"] = "student"
    schedule: Literal["linear", "constant"] | None = None
    replacing: Replacing | None = None

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"stage {self.name!r} needs terms, each with a name of its own; got {names}")
        if self.replacing and names != ["hard"]:
            raise ValueError(f"a stage that replaces modules has the hard loss alone, got {names}")


@dataclass(frozen=True)
class Recipe:
    """A distillation method for a teacher of N layers and a student of M.

    start: the teacher's layers that the student begins with (`init_from_teacher`), None for random weights.
    """

    name: str
    teacher_layers: int
    student_layers: int
    stages: tuple[Stage, ...]
    start: LayerMatch | None = None

    def without(self, *names: str) -> Self:
        """The recipe less the terms or stages of these names, for ablations. Raises ValueError for an unknown name."""
        known = [stage.name for stage in self.stages] + [term.name for stage in self.stages for term in stage.terms]
        for name in names:
            if name not in known:
                raise unknown_name("term or stage", name, known)
        stages = []
        for stage in self.stages:
            terms = tuple(term for term in stage.terms if term.name not in names)
            if terms and stage.name not in names:
                stages.append(replace(stage, terms=terms))
        if not stages:
            raise ValueError(f"nothing is left of {self.name} without {', '.join(names)}")
        return replace(self, stages=tuple(stages))


def soft_and_hard(
    teacher_layers: int = 12, student_layers: int = 6, *, alpha: float = 0.5, temperature: float = 2.0
) -> Recipe:
    """The plain loss, alpha·soft + (1 − alpha)·hard (Hinton et al. 2015); the student begins with the first layers."""
    terms = _weighed(("soft", alpha, {"temperature": temperature}), ("hard", 1 - alpha, {}))
    start = match_layers("bottom", teacher_layers, student_layers)
    return Recipe("soft + hard", teacher_layers, student_layers, (Stage("distil", terms),), start)


def distilbert(
    teacher_layers: int = 12,
    student_layers: int = 6,
    *,
    soft: float = 5.0,
    hard: float = 2.0,
    cosine: float = 1.0,
    temperature: float = 2.0,
    top_k: int | None = None,
    masked_only: bool = False,
) -> Recipe:
    """soft·L_ce + hard·L_mlm + cosine·L_cos on the last hidden states (Sanh et al. 2019, section 2; weights, T and
    copied layers of the released code). With a classifier the hard loss is that of its labels.

    Depths for which the code copies no layers begin with every (N/M)-th layer. Its command also freezes the position
    embeddings: `student.encoder.embeddings.position.requires_grad_(False)`, for what the caller froze stays frozen.
    """
    copied = "distilbert-init" if (teacher_layers, student_layers) in DISTILBERT_LAYERS else "uniform"
    terms = _weighed(
        ("soft", soft, {"temperature": temperature, "top_k": top_k, "masked_only": masked_only}),
        ("hard", hard, {}),
        ("cosine", cosine, {"layers": ((student_layers, teacher_layers),)}),
    )
    start = match_layers(copied, teacher_layers, student_layers)
    return Recipe("DistilBERT", teacher_layers, student_layers, (Stage("distil", terms),), start)


def pkd(
    teacher_layers: int = 12,
    student_layers: int = 6,
    *,
    which: Literal["skip", "last"] = "skip",
    alpha: float = 0.5,
    beta: float = 1.0,
    temperature: float = 5.0,
) -> Recipe:
    """alpha·soft + (1 − alpha)·hard + beta·patient (Sun et al. 2019, equation 8); begins with the first layers.

    The released code averages the patient loss over H as well, so its beta of 500 at H = 768 is 0.65 here; it tries
    alpha 0.2, 0.5, 0.7, temperature 5, 10, 20.
    """
    match = match_layers(f"pkd-{which}", teacher_layers, student_layers)
    terms = _weighed(
        ("soft", alpha, {"temperature": temperature}),
        ("hard", 1 - alpha, {}),
        ("patient", beta, {"layers": match.hidden}),
    )
    start = match_layers("bottom", teacher_layers, student_layers)
    return Recipe(f"PKD-{which.title()}", teacher_layers, student_layers, (Stage("distil", terms),), start)


def theseus(
    teacher_layers: int = 12, student_layers: int = 6, *, base: float = 0.3, reach: float | None = 0.5
) -> Recipe:
    """The hard loss alone: layers replace those of the teacher at random, more and more often, then the successor is
    fine-tuned by itself (Xu et al. 2020, section 3). Begins with the first layers. Raises ValueError if M does not
    divide N.
    """
    layers_per_layer(teacher_layers, student_layers)
    stages = (
        Stage("replace", (Term("hard"),), replacing=Replacing(base, reach)),
        Stage("fine-tune", (Term("hard"),)),
    )
    start = match_layers("bottom", teacher_layers, student_layers)
    return Recipe("BERT-of-Theseus", teacher_layers, student_layers, stages, start)


def minilm(
    teacher_layers: int = 12,
    student_layers: int = 6,
    *,
    assistant: bool = False,
    relation_heads: int | None = None,
    fine_tune: bool = False,
) -> Recipe:
    """L_AT + L_VR of the last layers (Wang et al. 2020, equation 6); the student begins at random and needs no labels.

    assistant: first teach a model as deep as the teacher and as narrow as the student, which then teaches the student
    (section 3.4; `needs_assistant` says when). relation_heads: v2, the relations of queries, keys and values in so
    many heads, whatever heads the models have. fine_tune: then train the student on labels.
    """

    def terms(student: int) -> tuple[Term, ...]:
        last = match_layers("minilm", teacher_layers, student).attention
        if relation_heads is None:
            return Term("attention-kl", layers=last), Term("values", layers=last)
        return tuple(Term(kind, layers=last, heads=relation_heads) for kind in ("queries", "keys", "values"))

    stages = [Stage("student", terms(student_layers), teacher="assistant" if assistant else "teacher")]
    if assistant:
        stages.insert(0, Stage("assistant", terms(teacher_layers), student="assistant"))
    if fine_tune:
        stages.append(Stage("fine-tune", (Term("hard"),)))
    return Recipe("MiniLM" if relation_heads is None else "MiniLM v2", teacher_layers, student_layers, tuple(stages))


def needs_assistant(teacher_layers: int, teacher_width: int, student_layers: int, student_width: int) -> bool:
    """MiniLM's rule (section 3.4): an assistant if M ≤ N/2 and the student is at most half as wide."""
    return 2 * student_layers <= teacher_layers and 2 * student_width <= teacher_width


def tinybert(
    teacher_layers: int = 12,
    student_layers: int = 4,
    *,
    layers: Literal["uniform", "top", "bottom"] = "uniform",
    project: Literal["one", "each"] | None = "one",
    general: bool = False,
    regression: bool = False,
) -> Recipe:
    """First embeddings, hidden states and attention scores at a constant rate, then the prediction (Jiao et al. 2020,
    section 3.2 and 3.3, all weights 1, T = 1); the student begins at random.

    general: before both, the same inner losses from the "pretrained" teacher on running text. regression: fit the
    teacher's score (the released code fits the label instead).
    """
    match = match_layers(layers, teacher_layers, student_layers)
    inner = (
        Term("hidden", layers=match.hidden[:1], project=project, name="embedding"),
        Term("hidden", layers=match.hidden[1:], project=project),
        Term("attention", layers=match.attention),
    )
    stages = (
        Stage("general", inner, teacher="pretrained"),
        Stage("inner", inner, schedule="constant"),
        Stage("prediction", (Term("logits" if regression else "soft", name="prediction"),)),
    )
    return Recipe("TinyBERT", teacher_layers, student_layers, stages if general else stages[1:])


def _weighed(*terms: tuple[str, float, dict[str, Any]]) -> tuple[Term, ...]:
    """Terms of (kind, weight, options), without those of weight 0."""
    return tuple(Term(kind, weight, **options) for kind, weight, options in terms if weight)
