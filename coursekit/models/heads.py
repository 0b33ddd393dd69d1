"""Encoders with a purpose: predicting hidden words, and classifying texts."""

from dataclasses import dataclass

from torch import Tensor, nn

from coursekit.models.config import ACTIVATIONS, TransformerConfig
from coursekit.models.embeddings import Embeddings
from coursekit.models.encoder import Capture, Encoder, EncoderOutput
from coursekit.models.layers import initialise


@dataclass
class HeadOutput(EncoderOutput):
    """The encoder's output and `logits`: (B, T, V) or (N, V) of a masked LM, (B, labels) of a classifier."""

    logits: Tensor | None = None


class MaskedLMHead(nn.Module):
    """Transform, then score with the input embeddings plus a bias per word (BERT, appendix A; ALBERT, section 3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size = config.embedding_size if config.embedding in ("factorised", "safe") else config.hidden_size
        self.activation = config.activation
        self.dense = nn.Linear(config.hidden_size, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(self.dense.bias.new_zeros(config.vocab_size))
        self.apply(initialise)

    def forward(self, hidden: Tensor, embeddings: Embeddings) -> Tensor:
        """(…, H) → (…, V). The table is passed in, never held: a tie that cannot come undone."""
        return embeddings.decode(self.norm(ACTIVATIONS[self.activation](self.dense(hidden))), self.bias)


class MaskedLM(nn.Module):
    """An encoder that predicts the words under the mask."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = MaskedLMHead(encoder.config)

    @property
    def config(self) -> TransformerConfig:
        """The encoder's config."""
        return self.encoder.config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        capture: Capture | None = None,
        positions: Tensor | None = None,
    ) -> HeadOutput:
        """As the encoder; logits (B, T, V), or (N, V) for the N true entries of `positions` (B, T) in row order.

        With 15 % of the words masked, projecting only those does the vocabulary product on a seventh of the rows.
        """
        output = self.encoder(input_ids, attention_mask, token_type_ids, capture)
        hidden = output.last_hidden
        if positions is not None:
            if positions.shape != input_ids.shape:
                raise ValueError(f"positions has shape {tuple(positions.shape)}, input_ids {tuple(input_ids.shape)}")
            hidden = hidden[positions.bool()]
        return HeadOutput(**vars(output), logits=self.head(hidden, self.encoder.embeddings))


class SequenceClassifier(nn.Module):
    """An encoder whose first token decides a label: dropout, then one linear layer on the pooled state. One label is a
    regression: the logit is the score.

    Without a pooler, a dense layer with ReLU of its own stands in for it (DistilBERT).
    """

    def __init__(self, encoder: Encoder, num_labels: int) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"num_labels must be at least 1, got {num_labels}")
        self.encoder = encoder
        size = encoder.config.hidden_size
        self.dense = None if encoder.config.pooler else nn.Linear(size, size)
        self.dropout = nn.Dropout(encoder.config.dropout)
        self.classifier = nn.Linear(size, num_labels)
        for module in (self.dense, self.classifier):
            if module is not None:
                initialise(module)

    @property
    def config(self) -> TransformerConfig:
        """The encoder's config."""
        return self.encoder.config

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return self.classifier.out_features

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        capture: Capture | None = None,
    ) -> HeadOutput:
        """As the encoder; logits (B, labels)."""
        output = self.encoder(input_ids, attention_mask, token_type_ids, capture)
        pooled = output.pooled if self.dense is None else self.dense(output.last_hidden[:, 0]).relu()
        return HeadOutput(**vars(output), logits=self.classifier(self.dropout(pooled)))
