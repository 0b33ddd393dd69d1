"""One stage's loss: a student and a teacher on the same batch, compared as the terms say."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.data import IGNORED
from coursekit.distill.exact import correction
from coursekit.distill.states import Asked, State, asked_of_student, asked_of_teacher, is_masked_lm, observe
from coursekit.distill.terms import KINDS, Term
from coursekit.train import Frozen, Loss
from coursekit.train.pretrain import round_up


class Distillation(nn.Module):
    """Student, teacher and projections as one module for the loop, with the terms that compare them.

    The teacher never trains, has no gradients and stays in evaluation mode; None where batches bring its answers.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        terms: Sequence[Term],
        projections: nn.ModuleDict | None = None,
    ) -> None:
        super().__init__()
        self.student, self.terms = student, tuple(terms)
        self.teacher = None if teacher is None else Frozen(teacher)
        self.projections = nn.ModuleDict() if projections is None else projections
        self.asked_of_student, self.asked_of_teacher = asked_of_student(terms), asked_of_teacher(terms)

    def positions(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The tokens (B, T) at which a masked LM must score the vocabulary; None for a classifier."""
        if not is_masked_lm(self.student):
            return None
        looking = [term for term in self.terms if not term.layers]
        if any(term.kind != "hard" and not term.masked_only for term in looking):
            return batch["attention_mask"].bool()
        return (
            round_up(batch["labels"] != IGNORED)
            if looking
            else torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
        )

    def answers(self, batch: Mapping[str, Any], positions: Tensor | None) -> dict[Asked, State]:
        """What the teacher says: read from the batch, or asked for."""
        if self.teacher is None:
            kept = {ask: batch["teacher"][str(ask)] for ask in self.asked_of_teacher}
            return {ask: _at(state, positions) if ask.state == "logits" else state for ask, state in kept.items()}
        if not self.asked_of_teacher:
            return {}
        with torch.no_grad():
            return observe(self.teacher.module, batch, self.asked_of_teacher, positions)

    def part(
        self,
        term: Term,
        batch: Mapping[str, Tensor],
        student: dict[Asked, State],
        teacher: dict[Asked, State],
        positions: Tensor | None,
    ) -> Tensor:
        """One term, before its weight."""
        compare, mask = KINDS[term.kind].compare, batch["attention_mask"]
        if term.layers:
            pairs = [(student[Asked(term.state, s)], teacher[Asked(term.state, t)]) for s, t in term.layers]
            if term.kind == "patient":
                ours, theirs = (torch.stack([x.float() for x in states], 1) for states in zip(*pairs, strict=True))
                return compare(term, ours, theirs, None)
            if term.project:  # real tokens alone: padding need not be projected
                real = mask.flatten().nonzero().squeeze(1)
                pairs = [tuple(x.flatten(0, 1).index_select(0, real) for x in pair) for pair in pairs]
                maps = [self.projections[projection_name(term, layer)] for layer, _ in term.layers]
                pairs, mask = [(map_(x), y) for map_, (x, y) in zip(maps, pairs, strict=True)], None
            return sum(compare(term, x, y, mask) for x, y in pairs)
        logits = student[Asked("logits")]
        if term.kind == "hard":
            return compare(term, logits, _at(batch["labels"], positions), None)
        valid = None
        if positions is not None:
            valid = _at(batch["labels"] != IGNORED if term.masked_only else mask.bool(), positions)
        return compare(term, logits, teacher[asked_of_teacher([term])[0]], valid)


def distillation_loss(model: Distillation, batch: Mapping[str, Any]) -> Loss:
    """Sum of weight·term, each term logged by its name before its weight. Counts rows."""
    positions = model.positions(batch)
    student = observe(model.student, batch, model.asked_of_student, positions)
    teacher = model.answers(batch, positions)
    parts = {}
    for term in model.terms:
        counts = "tokens" if positions is not None and term.counts == "rows" and not term.layers else term.counts
        parts[term.name] = model.part(term, batch, student, teacher, positions) * correction(batch, counts)
    total = sum(term.weight * parts[term.name] for term in model.terms)
    return Loss(total, len(batch["input_ids"]), {name: part.detach() for name, part in parts.items()})


def projection_name(term: Term, layer: int) -> str:
    """Name of the map through which a layer of the student is compared."""
    return "all layers" if term.project == "one" else f"layer {layer}"


def _at(state: Any, positions: Tensor | None) -> Any:
    """The rows of a state (B, T, …) at the true positions (B, T); all of it for a classifier."""
    if positions is None:
        return state
    return type(state)(*(part[positions] for part in state)) if isinstance(state, tuple) else state[positions]
