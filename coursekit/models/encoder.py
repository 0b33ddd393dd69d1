"""The one encoder of the course, and how its inner states are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, Self

from torch import Tensor, nn

from coursekit.models.attention import FeedForward, SelfAttention
from coursekit.models.config import TransformerConfig
from coursekit.models.embeddings import Embeddings

Layers = tuple[int, ...] | Literal["all"]


@dataclass(frozen=True)
class Capture:
    """Which inner states a forward pass should return, by layer number, or "all".

    hidden counts from the embedding output (0) to num_layers; scores, probs and values from layer 0.
    """

    hidden: Layers = ()
    scores: Layers = ()
    probs: Layers = ()
    values: Layers = ()

    @classmethod
    def all(cls) -> Self:
        """Every state of every layer."""
        return cls("all", "all", "all", "all")

    def resolve(self, num_layers: int) -> dict[str, frozenset[int]]:
        """Layer numbers per kind of state. Raises ValueError for a layer that the encoder does not have."""
        wanted = {}
        for field in fields(self):
            asked, last = getattr(self, field.name), num_layers - (field.name != "hidden")
            wanted[field.name] = frozenset(range(last + 1) if asked == "all" else asked)
            for layer in wanted[field.name]:
                if not 0 <= layer <= last:
                    raise ValueError(f"capture of {field.name} {layer}: this encoder has {field.name} 0 to {last}")
        return wanted


class LayerStates(tuple):
    """States by layer number. Asking for one that was not captured raises, so nothing is missed silently."""

    def __getitem__(self, layer: int) -> Tensor:
        """The state of a layer; LookupError if it was not captured."""
        state = super().__getitem__(layer)
        if state is None:
            held = [number for number, other in enumerate(self) if other is not None]
            raise LookupError(f"layer {layer} was not captured; captured: {held}")
        return state


@dataclass
class EncoderOutput:
    """What an encoder returns.

    last_hidden (B, T, H); pooled (B, H), None without a pooler; hidden[i] (B, T, H), 0 the embedding output;
    scores[i] (B, A, T, T) scaled, before mask and softmax; probs[i] (B, A, T, T) before dropout;
    values[i] (B, A, T, H/A). The last four are empty unless captured.
    """

    last_hidden: Tensor
    pooled: Tensor | None = None
    hidden: LayerStates = LayerStates()
    scores: LayerStates = LayerStates()
    probs: LayerStates = LayerStates()
    values: LayerStates = LayerStates()


class Layer(nn.Module):
    """One depth: attention and FFN, each followed by a residual sum and LayerNorm (post-norm, as BERT).

    The four parts may be the very same modules as in another depth: that is what sharing means here.
    """

    def __init__(
        self,
        attention: SelfAttention,
        attention_norm: nn.LayerNorm,
        ffn: FeedForward,
        ffn_norm: nn.LayerNorm,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.ffn, self.ffn_norm = ffn, ffn_norm
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, wanted: frozenset[str] = frozenset()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, T, H), mask (B, 1, 1, T); returns (B, T, H) and the wanted attention states."""
        attended, states = self.attention(x, mask, wanted)
        x = self.attention_norm(x + self.dropout(attended))
        return self.ffn_norm(x + self.dropout(self.ffn(x))), states


class Encoder(nn.Module):
    """A transformer encoder described by its config; weights start as N(0, 0.02), biases as 0 (as BERT)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(_layers(config))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if config.pooler else None
        self.apply(initialise)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        capture: Capture | None = None,
    ) -> EncoderOutput:
        """input_ids, token_type_ids (B, T) integers; attention_mask (B, T), true on real tokens.

        A row without real tokens gives finite, meaningless states. Raises ValueError on an empty batch, more
        tokens than positions, shapes that differ, or a captured layer that does not exist.
        """
        for name, other in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
            if other is not None and other.shape != input_ids.shape:
                raise ValueError(f"{name} has shape {tuple(other.shape)}, input_ids {tuple(input_ids.shape)}")
        if input_ids.dim() != 2 or input_ids.numel() == 0:
            raise ValueError(f"input_ids must be a non-empty (B, T) tensor, got shape {tuple(input_ids.shape)}")
        wanted = (capture or Capture()).resolve(len(self.layers))
        mask = None if attention_mask is None else _key_mask(attention_mask)
        x = self.embeddings(input_ids, token_type_ids)
        kept: dict[str, dict[int, Tensor]] = {name: {} for name in wanted}
        kept["hidden"][0] = x
        for number, layer in enumerate(self.layers):
            inner = frozenset(name for name in ("scores", "probs", "values") if number in wanted[name])
            x, states = layer(x, mask, inner)
            for name, state in (("hidden", x), *states.items()):
                kept[name][number + (name == "hidden")] = state
        pooled = None if self.pooler is None else self.pooler(x[:, 0]).tanh()
        length = len(self.layers)
        collected = {
            name: _collect(kept[name], wanted[name], length + (name == "hidden")) for name in wanted if wanted[name]
        }
        return EncoderOutput(x, pooled, **collected)


def _collect(states: dict[int, Tensor], wanted: frozenset[int], length: int) -> LayerStates:
    return LayerStates(states[number] if number in wanted else None for number in range(length))


def _key_mask(attention_mask: Tensor) -> Tensor:
    """(B, T) → (B, 1, 1, T); a row without real tokens sees all its positions, for softmax must have something."""
    mask = attention_mask.bool()
    return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]


def _layers(config: TransformerConfig) -> Iterator[Layer]:
    """One Layer per depth, put together from the distinct blocks that the plan names."""
    plan, head_size = config.plan, config.hidden_size // config.num_heads
    attention: dict[int, SelfAttention] = {}
    ffn: dict[int, FeedForward] = {}
    norms: dict[int, nn.LayerNorm] = {}
    for depth in range(config.num_layers):
        for number in plan.norm[depth]:
            if number not in norms:
                norms[number] = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if (block := plan.attention[depth]) not in attention:
            attention[block] = SelfAttention(config.hidden_size, config.num_heads, head_size, config.dropout)
        if (block := plan.ffn[depth]) not in ffn:
            ffn[block] = FeedForward(config.hidden_size, config.intermediate_size, config.activation)
        after_attention, after_ffn = (norms[number] for number in plan.norm[depth])
        yield Layer(attention[plan.attention[depth]], after_attention, ffn[plan.ffn[depth]], after_ffn, config.dropout)


def initialise(module: nn.Module) -> None:
    """BERT's initialisation of one module: weights N(0, 0.02), biases 0, LayerNorm 1 and 0. For `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
