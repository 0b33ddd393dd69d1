"""Pretraining on pairs of segments: hidden tokens and a question about the pair, both learnt from one forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import IGNORED, SentencePair, Tokenizer, pad
from coursekit.models import MaskedLM, SequenceClassifier
from coursekit.models.heads import HeadOutput
from coursekit.train.pieces import Loss, LossFunction
from coursekit.train.pretrain import MaskedBatches, round_up
from coursekit.train.text import TextBatches, inputs
from coursekit.train.vocabulary_loss import summed_nats


@dataclass
class PretrainingOutput(HeadOutput):
    """The output of a masked LM, and `sentence_logits` (B, 2) for the pair."""

    sentence_logits: Tensor | None = None


class PretrainingModel(nn.Module):
    """BERT's and ALBERT's two pretraining heads on one encoder.

    `masked_lm` and `sentence` are a `MaskedLM` and a `SequenceClassifier` that hold the same encoder, so each can be
    evaluated, or saved, by itself. Raises ValueError for an encoder without a pooler, which the pair's head needs.
    """

    def __init__(self, masked_lm: MaskedLM) -> None:
        super().__init__()
        if not masked_lm.config.pooler:
            raise ValueError("a sentence loss needs an encoder with a pooler; this config has pooler=False")
        self.masked_lm = masked_lm
        self.sentence = SequenceClassifier(masked_lm.encoder, 2)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> PretrainingOutput:
        """(B, T) ids → logits as `MaskedLM` gives them and sentence_logits (B, 2); the encoder runs once."""
        output = self.masked_lm(input_ids, attention_mask, token_type_ids, positions=positions)
        pooled = self.sentence.dropout(output.pooled)
        return PretrainingOutput(**vars(output), sentence_logits=self.sentence.classifier(pooled))


class MaskedPairBatches(MaskedBatches):
    """As `MaskedBatches`, of pairs: [CLS] first [SEP] second [SEP].

    A batch also has token_type_ids (B, T), 1 from the second segment on, and sentence_labels (B,). Segment ids are
    made here, after any swap. A pair of more than `max_length` tokens loses the end of its longer segment, whichever
    comes first. `hidden_per_row` is how many tokens are hidden in a row on average.
    """

    def __init__(
        self,
        pairs: Sequence[SentencePair],
        tokenizer: Tokenizer,
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        probability: float = 0.15,
        hide_all: bool = False,
        max_length: int = 128,
    ) -> None:
        rows, self.types = _encoded(pairs, tokenizer, max_length)
        limits = {"batch_size": batch_size, "max_tokens": max_tokens}
        super().__init__(rows, tokenizer, seed=seed, probability=probability, hide_all=hide_all, **limits)
        self.sentence_labels = torch.tensor([pair.label for pair in pairs])
        self.hidden_per_row = probability * sum(len(row) - 3 for row in rows) / len(rows)

    def build(self, rows: Sequence[int], epoch: int, number: int) -> dict[str, Tensor]:
        """The batch of some pairs, with tokens hidden as befits its epoch and its number there."""
        types = pad([self.types[row] for row in rows], 0, multiple_of=8).input_ids
        return super().build(rows, epoch, number) | {
            "token_type_ids": types,
            "sentence_labels": self.sentence_labels[list(rows)],
        }


def short_pairs(pairs: Sequence[SentencePair], max_words: int) -> list[SentencePair]:
    """The pairs of at most so many words, as separated by spaces, in both segments together.

    For sentence order, leave long pairs out rather than cut them: where outer ends are cut, a segment without its
    beginning is the earlier one and a segment without its full stop the later, and a model soon reads nothing else.
    """
    return [pair for pair in pairs if len(pair.first.split()) + len(pair.second.split()) <= max_words]


def sentence_batches(
    pairs: Sequence[SentencePair],
    tokenizer: Tokenizer,
    *,
    batch_size: int = 32,
    seed: int | None = None,
    max_length: int = 128,
) -> TextBatches:
    """Pairs as batches of a classifier: nothing hidden, the pair's label under "labels"; shuffled only by a seed."""
    rows, types = _encoded(pairs, tokenizer, max_length)
    labels = [pair.label for pair in pairs]
    return TextBatches(
        rows, pad_id=tokenizer.pad_id, batch_size=batch_size, seed=seed, token_type_ids=types, labels=labels
    )


def _encoded(
    pairs: Sequence[SentencePair], tokenizer: Tokenizer, max_length: int
) -> tuple[list[list[int]], list[list[int]]]:
    if not pairs:
        raise ValueError("no sentence pairs were given")
    return tokenizer.encode_pairs(
        [pair.first for pair in pairs], [pair.second for pair in pairs], max_length=max_length
    )


def joint_loss(hidden_per_row: float) -> LossFunction:
    """Masked-LM loss plus sentence loss of a `PretrainingModel`, in equal parts (ALBERT, section 3.1; BERT, 3.1).

    Their sum has one count, rows, so that the gradients of several batches add up exactly: the nats of all hidden
    tokens are divided by the number that rows × `hidden_per_row` leads to expect, not by that of the batch. Parts:
    masked_lm, sentence, and accuracy on the pairs. Raises ValueError unless hidden_per_row is positive.
    """
    if not hidden_per_row > 0:
        raise ValueError(f"hidden_per_row must be positive, got {hidden_per_row}")

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        labels, questions = batch["labels"], batch["sentence_labels"]  # (B, T), (B,)
        projected = round_up(labels != IGNORED)
        output = model(*inputs(batch), positions=projected)
        nats = summed_nats(output.logits.float(), labels[projected])
        masked_lm = nats / (hidden_per_row * len(questions))
        sentence = F.cross_entropy(output.sentence_logits.float(), questions)
        right = (output.sentence_logits.argmax(-1) == questions).float().mean()
        parts = {"masked_lm": masked_lm, "sentence": sentence, "accuracy": right}
        return Loss(masked_lm + sentence, len(questions), parts)

    return loss
