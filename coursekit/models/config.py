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
EMBEDDINGS = ("full", "linear", "factorised")


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides a model's shape; BERT, ALBERT, DistilBERT, TinyBERT and MiniLM differ only here.

    embedding says how token ids become vectors of size H = hidden_size, with E = embedding_size:
      full        words, positions, types and LayerNorm at H (BERT); E must be None
      linear      words V×E and a map E→H without bias; positions, types and LayerNorm at H
      factorised  words, positions, types and LayerNorm at E, then a map E→H with bias (ALBERT)
    sharing is a SharingPlan of num_layers depths; None means that every depth has its own weights.
    token_types = 0 and pooler = False give DistilBERT. Sizes are counts of units, dropout a probability.
    Raises ValueError for a shape that cannot be built.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    embedding_size: int | None = None
    embedding: Literal["full", "linear", "factorised"] = "full"
    sharing: SharingPlan | None = None
    dropout: float = 0.1
    activation: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_positions: int = 512
    token_types: int = 2
    pooler: bool = True
    pad_id: int = 0

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "intermediate_size",
            "max_positions",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.embedding not in EMBEDDINGS:
            raise unknown_name("embedding", self.embedding, EMBEDDINGS)
        if (self.embedding == "full") != (self.embedding_size is None):
            raise ValueError(
                f"embedding {self.embedding!r} with embedding_size={self.embedding_size}: "
                "'full' takes none, the others need one"
            )
        if self.embedding_size is not None and self.embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, got {self.embedding_size}")
        if self.sharing is not None and len(self.sharing) != self.num_layers:
            raise ValueError(f"a plan for {len(self.sharing)} depths was given to {self.num_layers} layers")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.token_types < 0:
            raise ValueError(f"token_types must not be negative, got {self.token_types}")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ValueError(f"pad_id {self.pad_id} lies outside the vocabulary of {self.vocab_size}")

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
        values = dict(values)
        for name in values:
            if name not in cls.__dataclass_fields__:
                raise unknown_name("config field", name, cls.__dataclass_fields__)
        if values.get("sharing"):
            plan = values["sharing"]
            values["sharing"] = SharingPlan(
                tuple(plan["attention"]), tuple(plan["ffn"]), tuple(tuple(depth) for depth in plan["norm"])
            )
        return cls(**values)
