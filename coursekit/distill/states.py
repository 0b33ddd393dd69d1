"""Inner states by name: what the terms of a stage ask a model for, and asking it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from coursekit.distill.losses import TopTargets, top_targets
from coursekit.distill.terms import Term
from coursekit.models import Capture, Encoder, MaskedLM
from coursekit.train import inputs

State = Tensor | TopTargets


@dataclass(frozen=True)
class Asked:
    """One state of a model: of which kind, of which layer (hidden and cls from the embedding output, the others from
    layer 0; logits have none). With top_k, the likeliest classes of the logits at that temperature."""

    state: str
    layer: int = 0
    top_k: int | None = None
    temperature: float = 1.0

    def __str__(self) -> str:
        if self.state == "logits":
            return "logits" if self.top_k is None else f"logits top {self.top_k} at {self.temperature:g}"
        return f"{self.state} {self.layer}"


def asked_of_teacher(terms: Iterable[Term]) -> tuple[Asked, ...]:
    """What the terms compare a student with, each state once."""
    asked = []
    for term in terms:
        if term.state == "logits":
            asked.append(Asked("logits", 0, term.top_k, term.temperature if term.top_k else 1.0))
        elif term.state != "labels":
            asked += [Asked(term.state, teacher) for _, teacher in term.layers]
    return tuple(dict.fromkeys(asked))


def asked_of_student(terms: Iterable[Term]) -> tuple[Asked, ...]:
    """The student's side: inner states, and logits if a term looks at them."""
    asked = []
    for term in terms:
        asked += [Asked(term.state, student) for student, _ in term.layers]
        if not term.layers:
            asked.append(Asked("logits"))
    return tuple(dict.fromkeys(asked))


def encoder_of(model: nn.Module) -> Encoder:
    """The encoder inside a model, or the model itself if it is one. Raises ValueError for anything else."""
    encoder = getattr(model, "encoder", model)
    if not isinstance(encoder, Encoder):
        raise ValueError(f"distillation is for Encoder, MaskedLM and SequenceClassifier, got {type(model).__name__}")
    return encoder


def is_masked_lm(model: nn.Module) -> bool:
    """Whether a model scores words at tokens, by itself or as the successor in a replacing stage."""
    return isinstance(getattr(model, "successor", model), MaskedLM)


def observe(
    model: nn.Module, batch: Mapping[str, Tensor], asked: Iterable[Asked], positions: Tensor | None = None
) -> dict[Asked, State]:
    """Run the model on a batch and return what was asked for; only those layers keep anything.

    cls (B, H), hidden (B, T, H), scores and probs (B, A, T, T), values, queries and keys (B, A, T, d); logits (B, C),
    of a masked LM (N, V) at the N true `positions` (B, T).
    """
    asked, encoder = tuple(asked), encoder_of(model)
    options = {} if positions is None else {"positions": positions}
    output = model(*inputs(batch), capture=capture_of(asked), **options)
    found: dict[Asked, State] = {}
    for ask in asked:
        if ask.state == "logits":
            logits = output.logits
            found[ask] = logits if ask.top_k is None else top_targets(logits, ask.top_k, temperature=ask.temperature)
        elif ask.state == "cls":
            found[ask] = output.hidden[ask.layer][:, 0]
        elif ask.state in ("queries", "keys"):
            found[ask] = _projected(encoder, ask, output.hidden[ask.layer])
        else:
            found[ask] = getattr(output, ask.state)[ask.layer]
    return found


def capture_of(asked: Iterable[Asked]) -> Capture | None:
    """The `Capture` that yields what is asked for; None if that is no more than logits."""
    layers: dict[str, set[int]] = {"hidden": set(), "scores": set(), "probs": set(), "values": set()}
    for ask in asked:
        if ask.state != "logits":
            # queries and keys are made again from the hidden state that feeds their layer
            layers["hidden" if ask.state in ("cls", "queries", "keys") else ask.state].add(ask.layer)
    if not any(layers.values()):
        return None
    return Capture(**{name: tuple(sorted(numbers)) for name, numbers in layers.items()})


def _projected(encoder: Encoder, ask: Asked, x: Tensor) -> Tensor:
    """Queries or keys (B, A, T, d) of a layer from what goes into it (B, T, H)."""
    layer = encoder.layers[ask.layer]
    x = x if layer.enter is None else layer.enter(x)
    x = layer.attention_norm(x) if layer.norm_first else x
    attention = layer.attention
    projected = (attention.query if ask.state == "queries" else attention.key)(x)
    return projected.unflatten(-1, (attention.num_heads, attention.head_size)).transpose(1, 2)
