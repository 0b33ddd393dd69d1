"""Multi-head attention and the feed-forward block: the two parts that plans share and methods replace."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.models.config import ACTIVATIONS
from coursekit.models.packing import Packing

# Training on a CPU in bfloat16 or with dropout: up to this length plain matrix products are 2 to 4 times as fast as
# fused attention, whose backward pass is slow there and which falls apart for dropout. In fp32 it is the faster one.
PLAIN_TRAINING_LENGTH = 128


class Attention(nn.Module):
    """softmax(QKᵀ/√d)V per head, then an output projection (Vaswani et al. 2017, section 3.2).

    num_heads·head_size may be less than hidden_size after heads were removed; the scale stays 1/√head_size.
    """

    def __init__(self, hidden_size: int, num_heads: int, head_size: int, dropout: float) -> None:
        super().__init__()
        self.hidden_size, self.num_heads, self.head_size, self.dropout = hidden_size, num_heads, head_size, dropout
        inner = num_heads * head_size
        self.query = nn.Linear(hidden_size, inner)
        self.key = nn.Linear(hidden_size, inner)
        self.value = nn.Linear(hidden_size, inner)
        self.output = nn.Linear(inner, hidden_size)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving a model whose heads were removed."""
        return {
            "hidden_size": self.hidden_size,
            "num_heads": self.num_heads,
            "head_size": self.head_size,
            "dropout": self.dropout,
        }

    def forward(
        self,
        x: Tensor,
        mask: Tensor | Packing | None = None,
        wanted: frozenset[str] = frozenset(),
        source: Tensor | None = None,
        cache: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, T, H) asks; x itself, or source (B, S, H), answers. mask, true where a key may be seen, spreads to
        (B, A, T, S); a `Packing` says instead that x (1, N, H) is a whole batch without its padding. A cache keeps keys
        and values between the calls of a step-by-step decoding.

        Returns (B, T, H) and the wanted inner states among "scores", "probs" (B, A, T, S) and "values" (B, A, S, d).
        Only "scores" and "probs" need the plain path: fused attention never forms them.
        """
        query = self._split(self.query(x))
        key, value = self._keys_values(x, source, cache)
        dropout = self.dropout if self.training else 0.0
        states = {"values": value}
        slow_when_fused = dropout > 0 or query.dtype == torch.bfloat16
        short_training = self.training and x.device.type == "cpu" and x.shape[1] <= PLAIN_TRAINING_LENGTH
        if isinstance(mask, Packing):
            context = mask.attend(query, key, value)
        elif (short_training and slow_when_fused) or wanted & {"scores", "probs"}:
            scores = query @ key.transpose(-1, -2) / math.sqrt(self.head_size)  # (B, A, T, S)
            seen = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
            probs = seen.softmax(-1)
            states |= {"scores": scores, "probs": probs}
            context = F.dropout(probs, dropout).to(value.dtype) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        joined = context.transpose(1, 2).flatten(2)  # (B, A, T, d) → (B, T, A·d)
        return self.output(joined), {name: states[name] for name in wanted}

    def _keys_values(self, x: Tensor, source: Tensor | None, cache: dict[str, Tensor] | None) -> tuple[Tensor, Tensor]:
        if cache and source is not None:  # another sequence does not change while this one is decoded
            return cache["key"], cache["value"]
        told = x if source is None else source
        key, value = self._split(self.key(told)), self._split(self.value(told))
        if cache:
            key, value = torch.cat((cache["key"], key), 2), torch.cat((cache["value"], value), 2)
        if cache is not None:
            cache.update(key=key, value=value)
        return key, value

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, A·d) → (B, A, T, d)."""
        return x.unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2)


class FeedForward(nn.Module):
    """down(activation(up(x))): two projections around a nonlinearity, the same for every token."""

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        self.hidden_size, self.intermediate_size, self.activation = hidden_size, intermediate_size, activation
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.down = nn.Linear(intermediate_size, hidden_size)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving a model whose neurons were removed."""
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "activation": self.activation,
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) → (B, T, H)."""
        return self.down(ACTIVATIONS[self.activation](self.up(x)))
