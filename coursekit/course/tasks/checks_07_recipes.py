"""Checks of unit 07 on models and recipes: a student that begins with its teacher's layers, and a recipe as data."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from coursekit.course.expect import Draw, Wrong
from coursekit.distill import LayerMatch, Recipe, Stage, Term, init_from_teacher, match_layers
from coursekit.models import Encoder, TransformerConfig

# ---- 07.6: a student from its teacher's layers ----


def begin_with(encoder, layers) -> Encoder:
    """Stand-in for 07.6."""
    return init_from_teacher(encoder, LayerMatch((), tuple(enumerate(layers))))


def check_begin(answer: Callable, draw: Draw) -> None:
    """07.6 on a small encoder: which layers, whose weights, whose objects, what the config says."""
    depths = draw.integer(5, 7)
    encoder = Encoder(TransformerConfig(30, 16, depths, 2, 24, max_positions=12, dropout=0.0)).eval()
    original, given = copy.deepcopy(encoder), list(encoder.layers)
    kept = sorted(draw.sample(range(1, depths - 1), 2)) + [depths - 1]  # never the first three, nor the last three
    if kept == [depths - 3, depths - 2, depths - 1]:
        kept[0] -= 1
    if kept[0] == 0 or kept == [1, 2, 3]:
        kept = [1, 3, depths - 1]
    got = answer(encoder, list(kept))
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not isinstance(got, Encoder):
        raise Wrong(f"expected an Encoder, got a {type(got).__name__}")
    if (
        got is encoder
        or len(encoder.layers) != depths
        or any(a is not b for a, b in zip(encoder.layers, given, strict=True))
    ):
        raise Wrong("the teacher itself is changed; work on a deep copy of it")
    if len(got.layers) != len(kept):
        raise Wrong(f"the student has {len(got.layers)} layers, expected {len(kept)}")
    _explain_weights(got, encoder, kept)
    if {id(weight) for weight in got.parameters()} & {id(weight) for weight in encoder.parameters()}:
        raise Wrong("student and teacher share weights, so training the one changes the other; copy them")
    if not isinstance(got.layers, nn.ModuleList):
        raise Wrong(
            "the layers are in a plain list, in which the model does not see their weights; use an nn.ModuleList"
        )
    if got.config.num_layers != len(kept):
        raise Wrong(f"its config says {got.config.num_layers} layers, so it could not be saved and built again")
    for name, weight in original.state_dict().items():
        if not torch.equal(weight, encoder.state_dict()[name]):
            raise Wrong("the teacher's weights are changed")


def _explain_weights(got: Encoder, encoder: Encoder, kept: list[int]) -> None:
    """Raise `Wrong` unless the layers have the weights of those asked for, and the embeddings those of the teacher."""

    def same(first: nn.Module, second: nn.Module) -> bool:
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    def are(numbers: list[int]) -> bool:
        return all(same(layer, encoder.layers[number]) for layer, number in zip(got.layers, numbers, strict=True))

    count = len(kept)
    if not are(kept):
        for reason, numbers in {
            "these are the first layers, not those that were asked for": list(range(count)),
            "these are the last layers, not those that were asked for": list(range(len(encoder.layers)))[-count:],
            "layers are counted from 0: each is the one before the layer that was asked for": [n - 1 for n in kept],
            "the layers are those asked for, but in reverse order": kept[::-1],
        }.items():
            if are(numbers):
                raise Wrong(reason)
        raise Wrong("the layers do not have the weights of those that were asked for")
    if not same(got.embeddings, encoder.embeddings):
        raise Wrong("the embeddings are not the teacher's; without them its layers know nothing")


# ---- 07.7: a recipe ----


def task_recipe(teacher_layers, student_layers, alpha, temperature) -> Recipe:
    """Stand-in for 07.7."""
    terms = (
        Term("soft", alpha, temperature=temperature),
        Term("hard", 1 - alpha),
        Term("cosine", layers=((student_layers, teacher_layers),)),
    )
    start = match_layers("uniform", teacher_layers, student_layers)
    return Recipe("task", teacher_layers, student_layers, (Stage("distil", terms),), start)


def check_recipe(answer: Callable, draw: Draw) -> None:
    """07.7 piece by piece."""
    shallow, times = draw.integer(2, 4), draw.integer(2, 3)
    deep, alpha, temperature = shallow * times, draw.choice((0.6, 0.7, 0.8)), draw.choice((2.0, 3.0, 4.0))
    got = answer(deep, shallow, alpha, temperature)
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not isinstance(got, Recipe):
        raise Wrong(f"expected a Recipe, got a {type(got).__name__}")
    if (got.teacher_layers, got.student_layers) != (deep, shallow):
        swapped = (got.teacher_layers, got.student_layers) == (shallow, deep)
        raise Wrong("teacher's and student's depth have changed places" if swapped else "the depths are other ones")
    if len(got.stages) != 1:
        raise Wrong(f"expected one stage, in which all terms are minimised together, got {len(got.stages)}")
    terms = {term.kind: term for term in got.stages[0].terms}
    missing = {"soft", "hard", "cosine"} - terms.keys()
    if missing or len(got.stages[0].terms) != 3:
        raise Wrong(f"expected the terms soft, hard and cosine, got {', '.join(t.kind for t in got.stages[0].terms)}")
    _explain_terms(terms, alpha, temperature, deep, shallow)
    if got.start is None:
        raise Wrong("without `start` the student begins with random weights")
    if dict(got.start.attention) != dict(match_layers("uniform", deep, shallow).attention):
        raise Wrong("the student begins with other layers than every (N/M)-th of the teacher, the last among them")


def _explain_terms(terms: dict[str, Term], alpha: float, temperature: float, deep: int, shallow: int) -> None:
    """Raise `Wrong` for a weight, a temperature or a pair of layers that is not as asked."""
    weights = {kind: round(term.weight, 6) for kind, term in terms.items()}
    if (weights["soft"], weights["hard"]) == (round(1 - alpha, 6), alpha):
        raise Wrong("alpha is the weight of the soft targets, the labels have the rest")
    for kind, expected in {"soft": alpha, "hard": round(1 - alpha, 6), "cosine": 1.0}.items():
        if abs(weights[kind] - expected) > 1e-6:
            raise Wrong(f"the weight of {kind!r} is {weights[kind]:g}, expected {expected:g}")
    if terms["soft"].temperature != temperature:
        raise Wrong(f"the soft targets are taken at T = {terms['soft'].temperature:g}, expected {temperature:g}")
    if terms["cosine"].layers != ((shallow, deep),):
        if terms["cosine"].layers == ((shallow - 1, deep - 1),):
            raise Wrong("hidden states count from the embeddings' output, 0, so the last one has the number of layers")
        if terms["cosine"].layers == ((deep, shallow),):
            raise Wrong("a pair of layers is (student, teacher), in this order")
        raise Wrong(f"the cosine compares {terms['cosine'].layers}, expected the last hidden state of each")
