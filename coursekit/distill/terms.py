"""Loss terms as data: what is compared, with which loss, counted over what."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from coursekit.distill import losses
from coursekit.distill.layers import Pairs
from coursekit.errors import unknown_name

Compare = Callable[["Term", Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Kind:
    """A kind of term.

    state    what is compared: "logits", "cls" (first token's hidden state), or as in `Capture`; "labels" looks at the
             student's logits and the labels alone
    counts   what its mean is over: "rows", "tokens", "pairs" of tokens, or "targets" (labels that are not −100)
    layers   whether it compares inner layers
    width, heads    whether student and teacher must have equal ones there
    compare  (term, student's state, teacher's state, mask (B, T) or None) → scalar
    """

    state: str
    counts: Literal["rows", "tokens", "pairs", "targets"]
    compare: Compare = field(repr=False)
    layers: bool = True
    width: bool = False
    heads: bool = False


def _soft(term: "Term", s: Tensor, t: Tensor, mask: Tensor | None) -> Tensor:
    if isinstance(t, losses.TopTargets):
        return losses.top_target_loss(s, t, temperature=term.temperature, mask=mask)
    return losses.soft_target_loss(s, t, temperature=term.temperature, mask=mask)


def _relation(term: "Term", s: Tensor, t: Tensor, mask: Tensor | None) -> Tensor:
    return losses.relation_kl(s, t, mask=mask, heads=term.heads)


def _masked(loss: Callable[..., Tensor]) -> Compare:
    return lambda term, s, t, mask: loss(s, t, mask=mask)


KINDS = {
    "soft": Kind("logits", "rows", _soft, layers=False),
    "logits": Kind("logits", "rows", _masked(losses.hidden_mse), layers=False),
    "hard": Kind("labels", "targets", lambda term, s, t, mask: losses.hard_loss(s, t), layers=False),
    "cosine": Kind("hidden", "tokens", _masked(losses.cosine_loss), width=True),
    "hidden": Kind("hidden", "tokens", _masked(losses.hidden_mse), width=True),
    "attention": Kind("scores", "pairs", _masked(losses.attention_mse), heads=True),
    "attention-kl": Kind("probs", "tokens", _masked(losses.attention_kl), heads=True),
    "values": Kind("values", "tokens", _relation, heads=True),
    "queries": Kind("queries", "tokens", _relation, heads=True),
    "keys": Kind("keys", "tokens", _relation, heads=True),
    "patient": Kind("cls", "rows", lambda term, s, t, mask: losses.patient_loss(s, t), width=True),
}


@dataclass(frozen=True)
class Term:
    """weight × one loss; over several pairs of layers their sum ("patient": their mean, as PKD defines it).

    kind         soft: soft targets of the logits; logits: squared error of the logits, for a teacher that regresses;
                 hard: cross-entropy with the labels; cosine, hidden: hidden states; attention: scores before the
                 softmax; attention-kl: attention after it; values, queries, keys: their relations; patient: [CLS]
    layers       pairs of (student, teacher): hidden states for cosine, hidden and patient, else layers from 0
    temperature  of soft
    top_k        of soft: keep the teacher's likeliest classes and merge the others
    masked_only  of soft, with a masked LM: at the hidden tokens instead of all real ones
    project      of hidden: a learned map with bias to the teacher's width: "one" for all layers (TinyBERT's code), or
                 one for "each" (its paper has one for the embeddings, one for the layers)
    heads        of values, queries, keys: relation heads of MiniLM v2
    name         of the logged part; kind by default
    Raises ValueError for what the kind does not take, or values out of range.
    """

    kind: str
    weight: float = 1.0
    layers: Pairs = ()
    temperature: float = 1.0
    top_k: int | None = None
    masked_only: bool = False
    project: Literal["one", "each"] | None = None
    heads: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of term", self.kind, KINDS)
        if not 0 < self.weight < math.inf:
            raise ValueError(f"the weight of {self.kind!r} must be a positive number, got {self.weight}")
        losses.check_temperature(self.temperature)
        if KINDS[self.kind].layers != bool(self.layers):
            needs = "needs pairs of layers" if KINDS[self.kind].layers else "takes no pairs of layers"
            raise ValueError(f"{self.kind!r} {needs}, got {self.layers}")
        if self.project not in (None, "one", "each"):
            raise ValueError(f"project must be None, 'one' or 'each', got {self.project!r}")
        given = {
            "temperature": (self.temperature != 1, ("soft",)),
            "top_k": (self.top_k is not None, ("soft",)),
            "masked_only": (self.masked_only, ("soft",)),
            "project": (self.project is not None, ("hidden",)),
            "heads": (self.heads is not None, ("values", "queries", "keys")),
        }
        for option, (used, kinds) in given.items():
            if used and self.kind not in kinds:
                raise ValueError(f"{option} is for {', '.join(kinds)}, not for {self.kind!r}")
        if not self.name:
            object.__setattr__(self, "name", self.kind)

    @property
    def state(self) -> str:
        """What is compared, as in `Kind`."""
        return KINDS[self.kind].state

    @property
    def counts(self) -> str:
        """What the mean is over, as in `Kind`."""
        return "targets" if self.masked_only else KINDS[self.kind].counts
