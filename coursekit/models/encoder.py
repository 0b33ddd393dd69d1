"""The one encoder of the course, and how its inner states are asked for."""

from dataclasses import dataclass, fields
from typing import Literal, Self

import torch
from torch import Tensor, nn

from coursekit.models.config import TransformerConfig
from coursekit.models.embeddings import Embeddings
from coursekit.models.layers import build_layers, final_norm, initialise
from coursekit.models.packing import Packing

Layers = tuple[int, ...] | Literal["all"]
LITTLE_PADDING = 0.05  # a share of a batch that is not worth taking out


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
    values[i] (B, A, T, H/A). The last four are empty unless captured. With pre-norm, last_hidden is the LayerNorm of
    the last hidden state.
    """

    last_hidden: Tensor
    pooled: Tensor | None = None
    hidden: LayerStates = LayerStates()
    scores: LayerStates = LayerStates()
    probs: LayerStates = LayerStates()
    values: LayerStates = LayerStates()


class Encoder(nn.Module):
    """A transformer encoder described by its config; weights start as N(0, 0.02), biases as 0 (as BERT).

    skip_padding: in evaluation without gradients, on a CPU, layers see real tokens alone, in one line instead of rows,
    and states of padding are 0. Short texts padded to 128 take a fifth of the time. Evaluation and prediction switch it
    on; it is off elsewhere, for what hooks see inside then has no rows.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.skip_padding = False
        self.embeddings = Embeddings(config)
        self.layers = build_layers(config, config.plan)
        self.norm = final_norm(config)
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
        mask = None if attention_mask is None else key_mask(attention_mask)
        x = self.embeddings(input_ids, token_type_ids, mask)
        packing = None if capture else self._packing(attention_mask)
        if packing is not None:
            x, mask = packing.pack(x), packing
        kept: dict[str, dict[int, Tensor]] = {name: {} for name in wanted}
        kept["hidden"][0] = x
        for number, layer in enumerate(self.layers):
            inner = frozenset(name for name in ("scores", "probs", "values") if number in wanted[name])
            x, states = layer(x, mask, inner)
            for name, state in (("hidden", x), *states.items()):
                kept[name][number + (name == "hidden")] = state
        x = x if self.norm is None else self.norm(x)
        x = x if packing is None else packing.unpack(x)
        pooled = None if self.pooler is None else self.pooler(x[:, 0]).tanh()
        length = len(self.layers)
        collected = {
            name: _collect(kept[name], wanted[name], length + (name == "hidden")) for name in wanted if wanted[name]
        }
        return EncoderOutput(x, pooled, **collected)

    def _packing(self, attention_mask: Tensor | None) -> Packing | None:
        """How to do without the padding, where that is asked for, possible and worth it."""
        if not self.skip_padding or self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        if attention_mask is None or attention_mask.device.type != "cpu":
            return None
        mask = attention_mask.bool()
        real = int(mask.sum())
        return Packing.of(mask) if 0 < real < (1 - LITTLE_PADDING) * mask.numel() else None


def _collect(states: dict[int, Tensor], wanted: frozenset[int], length: int) -> LayerStates:
    return LayerStates(states[number] if number in wanted else None for number in range(length))


def key_mask(attention_mask: Tensor) -> Tensor:
    """(B, T) → (B, 1, 1, T); a row without real tokens sees all its positions, for softmax must have something."""
    mask = attention_mask.bool()
    return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
