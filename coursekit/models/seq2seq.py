"""An encoder and a decoder over one vocabulary: Transformer (Vaswani et al. 2017) and Subformer."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from coursekit.models.config import TransformerConfig, check_sandwich, plan_from_dict
from coursekit.models.embeddings import Embeddings
from coursekit.models.encoder import Encoder, key_mask
from coursekit.models.layers import build_layers, final_norm, initialise
from coursekit.models.sharing import SharingPlan

Cache = dict[str, Tensor]


@dataclass(frozen=True)
class Seq2SeqConfig:
    """An encoder's config and what the decoder adds: its depth and plan; widths and embedding are the encoder's.

    decoder_sharing is a plan made with cross=True; None means that every depth has its own weights.
    Raises ValueError for a plan of another length or without LayerNorms for cross-attention.
    """

    encoder: TransformerConfig
    decoder_layers: int
    decoder_sharing: SharingPlan | None = None

    def __post_init__(self) -> None:
        if self.decoder_layers < 1:
            raise ValueError(f"decoder_layers must be at least 1, got {self.decoder_layers}")
        plan = self.plan
        if len(plan) != self.decoder_layers:
            raise ValueError(f"a plan for {len(plan)} depths was given to {self.decoder_layers} decoder layers")
        if any(len(norms) != 3 for norms in plan.norm):
            raise ValueError(f"a decoder's plan needs 3 LayerNorms per depth (cross=True), got {plan.norm[0]}")
        if self.encoder.inner_size is not None:
            check_sandwich(plan, "inner_size in a decoder")

    @property
    def plan(self) -> SharingPlan:
        """The decoder's sharing plan, `SharingPlan.none` where none was given."""
        return self.decoder_sharing or SharingPlan.none(self.decoder_layers, cross=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        encoder = TransformerConfig.from_dict(values["encoder"])
        return cls(encoder, values["decoder_layers"], plan_from_dict(values["decoder_sharing"]))


@dataclass
class Seq2SeqOutput:
    """logits (B, T, V) for the token after each target token; memory (B, S, H), what the encoder said."""

    logits: Tensor
    memory: Tensor


class Seq2Seq(nn.Module):
    """Encoder and decoder with one word table for source, target and output (three-way tied).

    `embeddings` are the decoder's; where they are narrower than H, `narrow` maps H→E before the common table.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.encoder
        self.encoder = Encoder(shape)
        self.embeddings = Embeddings(shape, word=self.encoder.embeddings.word)
        self.layers = build_layers(shape, config.plan, cross=True)
        self.norm = final_norm(shape)
        self.narrow = None
        if shape.embedding_size is not None:
            self.narrow = nn.Linear(shape.hidden_size, shape.embedding_size, bias=shape.embedding != "linear")
        for part in (self.embeddings, self.layers, self.narrow):
            if part is not None:
                part.apply(initialise)

    def forward(self, source_ids: Tensor, source_mask: Tensor | None, target_ids: Tensor) -> Seq2SeqOutput:
        """source_ids (B, S), source_mask (B, S) true on real tokens, target_ids (B, T) beginning with the start token.

        Targets are padded on the right: what follows a token never reaches it. Raises ValueError for an empty source
        and for more tokens than positions.
        """
        memory = self.encode(source_ids, source_mask)
        return Seq2SeqOutput(self.decode(target_ids, memory, source_mask), memory)

    def encode(self, source_ids: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """(B, S) → (B, S, H). Raises ValueError where a source has no real token."""
        if source_mask is not None and not (real := source_mask.bool().any(1)).all():
            raise ValueError(f"source {int(real.int().argmin())} is empty; each needs at least one token")
        return self.encoder(source_ids, source_mask).last_hidden

    def decode(
        self,
        target_ids: Tensor,
        memory: Tensor,
        source_mask: Tensor | None = None,
        cache: "DecoderCache | None" = None,
    ) -> Tensor:
        """Logits (B, T, V) after each of target_ids (B, T); with a cache these continue the tokens of former calls."""
        start, length = cache.length if cache else 0, target_ids.shape[1]
        device = target_ids.device
        # Token i of this call stands at start + i and sees positions 0 … start + i.
        causal = torch.ones(length, start + length, dtype=torch.bool, device=device).tril(start)[None, None]
        seen = None if source_mask is None else key_mask(source_mask)
        x = self.embeddings(target_ids, None, causal, start, cache.embedding if cache else None)
        for depth, layer in enumerate(self.layers):
            x, _ = layer(x, causal, frozenset(), memory, seen, cache.layers[depth] if cache else None)
        if cache:
            cache.length += length
        x = x if self.norm is None else self.norm(x)
        return self.embeddings.decode(x if self.narrow is None else self.narrow(x))


class DecoderCache:
    """Keys and values of the tokens decoded so far, per depth (own, cross) and for a SAFE embedding."""

    def __init__(self, depths: int) -> None:
        self.length = 0
        self.embedding: Cache = {}
        self.layers: list[tuple[Cache, Cache]] = [({}, {}) for _ in range(depths)]

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows, in this order. What was read from the source stays: a row keeps its sentence."""
        for cache in (self.embedding, *(own for own, _ in self.layers)):
            for name in cache:
                cache[name] = cache[name][rows]
