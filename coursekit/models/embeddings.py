"""Token ids to vectors of the model's width, and back from vectors to the vocabulary."""

import torch
from torch import Tensor, nn

from coursekit.models.config import TransformerConfig


class Embeddings(nn.Module):
    """Words + positions + token types, LayerNorm, dropout; narrower than H where the config says so.

    Attributes: word (V, E), position, token_type (None without types), norm, map (None for "full").
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        word_size = config.embedding_size or config.hidden_size
        # ALBERT adds positions and types while still narrow; after an SVD of a trained table they must stay at H.
        sum_size = word_size if config.embedding == "factorised" else config.hidden_size
        self.word = nn.Embedding(config.vocab_size, word_size)
        self.position = nn.Embedding(config.max_positions, sum_size)
        self.token_type = nn.Embedding(config.token_types, sum_size) if config.token_types else None
        self.norm = nn.LayerNorm(sum_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.map = None
        if config.embedding != "full":
            self.map = nn.Linear(word_size, config.hidden_size, bias=config.embedding == "factorised")

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids to (B, T, H). Raises ValueError for more tokens than positions, or types without a table."""
        length = input_ids.shape[1]
        if length > self.config.max_positions:
            raise ValueError(f"a sequence of {length} tokens is longer than the {self.config.max_positions} positions")
        x = self.word(input_ids)  # (B, T, E)
        if self.config.embedding == "linear":
            x = self.map(x)  # (B, T, H)
        x = x + self.position.weight[:length]
        if self.token_type is not None:
            types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            x = x + self.token_type(types)
        elif token_type_ids is not None and token_type_ids.any():
            raise ValueError("token types other than 0 were given to a model without a table of token types")
        x = self.dropout(self.norm(x))
        return self.map(x) if self.config.embedding == "factorised" else x

    def decode(self, x: Tensor) -> Tensor:
        """Scores over the vocabulary with the input table, so input and output stay tied.

        x (…, H), or (…, E) for "factorised", whose head narrows first; returns (…, V).
        """
        if self.config.embedding == "linear":
            x = x @ self.map.weight  # (…, H) @ (H, E): the transpose of the input map
        return x @ self.word.weight.T
