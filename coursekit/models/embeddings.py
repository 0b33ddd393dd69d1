"""Token ids to vectors of the model's width, and back from vectors to the vocabulary."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.models.attention import Attention
from coursekit.models.config import TransformerConfig


class Embeddings(nn.Module):
    """Words + positions + token types, LayerNorm, dropout; narrower than H where the config says so.

    Attributes: word (V, E), which may be another model's too; position and norm (None if sinusoidal), token_type
    (None without types), map (None for "full").
    """

    def __init__(self, config: TransformerConfig, word: nn.Embedding | None = None) -> None:
        super().__init__()
        self.config = config
        word_size = config.embedding_size or config.hidden_size
        # ALBERT adds positions and types while still narrow; after an SVD of a trained table they must stay at H.
        self.sum_size = config.hidden_size if config.embedding == "linear" else word_size
        learned = config.positions == "learned"
        self.word = nn.Embedding(config.vocab_size, word_size) if word is None else word
        self.position = nn.Embedding(config.max_positions, self.sum_size) if learned else None
        self.token_type = nn.Embedding(config.token_types, self.sum_size) if config.token_types else None
        self.norm = nn.LayerNorm(self.sum_size, eps=config.layer_norm_eps) if learned else None
        self.dropout = nn.Dropout(config.dropout)
        self.map: nn.Module | None = None
        if config.embedding == "safe":
            self.map = SelfAttentiveMap(config)
        elif config.embedding != "full":
            self.map = nn.Linear(word_size, config.hidden_size, bias=config.embedding == "factorised")

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        mask: Tensor | None = None,
        start: int = 0,
        cache: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """(B, T) ids to (B, T, H). mask and cache serve "safe" alone, whose map looks at other tokens; start is the
        position of the first id. Raises ValueError for more tokens than positions, or types without a table.
        """
        end = start + input_ids.shape[1]
        if end > self.config.max_positions:
            raise ValueError(f"a sequence of {end} tokens is longer than the {self.config.max_positions} positions")
        x = self.word(input_ids)  # (B, T, E)
        if self.config.embedding == "linear":
            x = self.map(x)  # (B, T, H)
        if self.position is None:
            x = x * math.sqrt(self.sum_size) + sinusoids(start, end, self.sum_size, x)
        else:
            x = x + self.position.weight[start:end]
        if self.token_type is not None:
            x = x + self.token_type(torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        elif token_type_ids is not None and token_type_ids.any():
            raise ValueError("token types other than 0 were given to a model without a table of token types")
        x = self.dropout(x if self.norm is None else self.norm(x))
        if self.config.embedding == "factorised":
            return self.map(x)
        return self.map(x, mask, cache) if self.config.embedding == "safe" else x

    def decode(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Scores over the vocabulary with the input table, so input and output stay tied.

        x (…, H), or (…, E) for "factorised" and "safe", whose heads narrow first; bias (V,); returns (…, V).
        """
        if self.config.embedding == "linear" and x.shape[-1] == self.config.hidden_size:
            x = x @ self.map.weight  # (…, H) @ (H, E): the transpose of the input map
        if hasattr(self.word, "scores"):  # a table that is not kept as numbers
            scores = self.word.scores(x)
            return scores if bias is None else scores + bias
        return F.linear(x, self.word.weight, bias)  # the bias inside the product: no second pass over V numbers a token


class SelfAttentiveMap(nn.Module):
    """Subformer's SAFE: one transformer block from width E to H (Reid et al. 2021, section 2.1 and appendix A).

    Attention at E with residual and LayerNorm, then an FFN E→E→H. The sizes differ, so that FFN has no residual.
    Weights: 4E² + E² + E·H, with the biases and LayerNorms that the paper's 5E² + E·H leaves out.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size, heads = config.embedding_size, config.embedding_heads
        self.attention = Attention(size, heads, size // heads, config.dropout)
        self.attention_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.up = nn.Linear(size, size)
        self.down = nn.Linear(size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: dict[str, Tensor] | None = None) -> Tensor:
        """(B, T, E) → (B, T, H); mask as in Attention, causal in a decoder."""
        attended, _ = self.attention(x, mask, cache=cache)
        x = self.attention_norm(x + self.dropout(attended))
        return self.norm(self.dropout(self.down(self.up(x).relu())))


def sinusoids(start: int, end: int, size: int, like: Tensor) -> Tensor:
    """Positions start…end−1 as (end − start, size) sines and cosines (Vaswani et al. 2017, section 3.5).

    Of the dtype and device of `like`; an odd last column is 0.
    """
    half = size // 2
    rate = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000) / max(half - 1, 1)))
    angle = torch.arange(start, end, device=like.device)[:, None] * rate
    table = torch.cat((angle.sin(), angle.cos(), angle.new_zeros(end - start, size % 2)), dim=1)
    return table.to(like.dtype)
