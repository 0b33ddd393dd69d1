"""The shape of an encoder, as data."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import torch.nn.functional as F

from coursekit.errors import unknown_name
from coursekit.models.sharing import SharingPlan

ACTIVATIONS = {
    "gelu": F.gelu,  # x·Φ(x), by the error function: BERT
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),  # ALBERT; differs from gelu by up to 4.7e-4
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}
EMBEDDINGS = ("full", "linear", "factorised", "safe")
POSITIONS = ("learned", "sinusoidal")


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides a model's shape; the models of the papers differ only here.

    embedding says how token ids become vectors of size H = hidden_size, with E = embedding_size:
      full        words, positions, types and LayerNorm at H (BERT); E must be None
      linear      words V×E and a map E→H without bias; positions, types and LayerNorm at H
      factorised  words, positions, types and LayerNorm at E, then a map E→H with bias (ALBERT)
      safe        as factorised, but the map is a small transformer block: attention (embedding_heads heads) at E,
                  then an FFN that widens E→H (Subformer, section 2.1)
    sharing is a SharingPlan of num_layers depths; None means that every depth has its own weights.
    inner_size lets the middle depths of a sandwich work at another width, with their own heads and FFN width
    (Subformer, section 2.2). positions "sinusoidal" have no weights, and go with embeddings scaled by the root of
    their width and no LayerNorm on them (Vaswani et al. 2017).
    norm_first puts each LayerNorm before its part instead of after the sum, with one more at the end (pre-norm): easier
    to train in few steps, used by none of the published presets.
    token_types = 0 and pooler = False give DistilBERT. Sizes are counts of units, dropout a probability.
    Raises ValueError for a shape that cannot be built.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    embedding_size: int | None = None
    embedding: Literal["full", "linear", "factorised", "safe"] = "full"
    sharing: SharingPlan | None = None
    dropout: float = 0.1
    activation: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_positions: int = 512
    token_types: int = 2
    pooler: bool = True
    pad_id: int = 0
    positions: Literal["learned", "sinusoidal"] = "learned"
    embedding_heads: int | None = None
    inner_size: int | None = None
    inner_heads: int | None = None
    inner_intermediate_size: int | None = None
    norm_first: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        _divides("hidden_size", self.hidden_size, "num_heads", self.num_heads)
        if self.sharing is not None and len(self.sharing) != self.num_layers:
            raise ValueError(f"a plan for {len(self.sharing)} depths was given to {self.num_layers} layers")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        if self.positions not in POSITIONS:
            raise unknown_name("positions", self.positions, POSITIONS)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.token_types < 0:
            raise ValueError(f"token_types must not be negative, got {self.token_types}")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ValueError(f"pad_id {self.pad_id} lies outside the vocabulary of {self.vocab_size}")
        self._check_embedding()
        self._check_inner()

    def _check_embedding(self) -> None:
        if self.embedding not in EMBEDDINGS:
            raise unknown_name("embedding", self.embedding, EMBEDDINGS)
        if (self.embedding == "full") != (self.embedding_size is None):
            raise ValueError(
                f"embedding {self.embedding!r} with embedding_size={self.embedding_size}: "
                "'full' takes none, the others need one"
            )
        if self.embedding_size is not None and self.embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, got {self.embedding_size}")
        if (self.embedding == "safe") != (self.embedding_heads is not None):
            raise ValueError(
                f"embedding {self.embedding!r} with embedding_heads={self.embedding_heads}: "
                "'safe' needs some, the others take none"
            )
        if self.embedding_heads is not None:
            _divides("embedding_size", self.embedding_size, "embedding_heads", self.embedding_heads)

    def _check_inner(self) -> None:
        inner = (self.inner_size, self.inner_heads, self.inner_intermediate_size)
        if inner == (None, None, None):
            return
        if None in inner:
            raise ValueError(f"inner_size, inner_heads and inner_intermediate_size go together, got {inner}")
        _divides("inner_size", self.inner_size, "inner_heads", self.inner_heads)
        check_sandwich(self.plan, "inner_size")

    @property
    def plan(self) -> SharingPlan:
        """The sharing plan, `SharingPlan.none` where none was given."""
        return self.sharing or SharingPlan.none(self.num_layers)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`. Raises ValueError on a field that is not known."""
        for name in values:
            if name not in cls.__dataclass_fields__:
                raise unknown_name("config field", name, cls.__dataclass_fields__)
        return cls(**values | {"sharing": plan_from_dict(values.get("sharing"))})


def plan_from_dict(values: dict[str, Any] | None) -> SharingPlan | None:
    """A sharing plan back from the lists that JSON makes of it."""
    if values is None:
        return None
    norm = tuple(tuple(depth) for depth in values["norm"])
    return SharingPlan(tuple(values["attention"]), tuple(values["ffn"]), norm)


def check_sandwich(plan: SharingPlan, what: str) -> None:
    """Raise ValueError unless first and last depth share nothing with the others, of which there must be some."""
    norms = [number for depth in plan.norm for number in depth]
    private = all(
        numbers.count(number) == 1 for numbers in (plan.attention, plan.ffn) for number in (numbers[0], numbers[-1])
    ) and all(norms.count(number) == 1 for number in (*plan.norm[0], *plan.norm[-1]))
    if len(plan) < 3 or not private:
        raise ValueError(
            f"{what} needs a middle of its own: at least 3 depths, the first and last private; "
            f"got attention {plan.attention}, FFN {plan.ffn}"
        )


def _divides(size_name: str, size: int, heads_name: str, heads: int) -> None:
    if heads < 1 or size % heads:
        raise ValueError(f"{size_name} {size} is not a multiple of {heads_name} {heads}")
