"""Batches of texts, evaluation weighted by items, predictions in order, and a tiny real classifier that learns."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.models import Encoder, SequenceClassifier, SharingPlan, TransformerConfig
from coursekit.train import Loss, TextBatches, TrainConfig, classification_loss, evaluate, inputs, predict, train

SHAPE = TransformerConfig(30, 16, 3, 2, 32, dropout=0.0, sharing=SharingPlan.all(3))


def texts(count=40, seed=0):
    """Token ids and labels; label 1 where token 7 occurs."""
    generator = torch.Generator().manual_seed(seed)
    sequences, labels = [], []
    for number in range(count):
        length = int(torch.randint(2, 9, (1,), generator=generator))
        tokens = torch.randint(8, 30, (length,), generator=generator).tolist()
        if number % 2:
            tokens[-1] = 7
        sequences.append([1, *tokens])
        labels.append(number % 2)
    return sequences, labels


def classifier(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SequenceClassifier(Encoder(SHAPE), 2).eval()


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=30),
    st.one_of(st.none(), st.integers(0, 9)),
    st.sampled_from([{"batch_size": 4}, {"max_tokens": 24}]),
)
def test_each_text_once_with_its_own_columns(lengths, seed, limit):
    sequences = [[10 + row] * length for row, length in enumerate(lengths)]
    batches = TextBatches(
        sequences, pad_id=0, seed=seed, row=range(len(lengths)), vector=torch.eye(len(lengths)), **limit
    )
    for number in (0, 3):
        seen = []
        for batch in batches.epoch(number):
            assert batch["input_ids"].shape == batch["attention_mask"].shape
            assert "token_type_ids" not in batch
            columns = (batch[name] for name in ("input_ids", "attention_mask", "row", "vector"))
            for line, mask, row, vector in zip(*columns, strict=True):
                assert line[mask].tolist() == sequences[row] and not line[~mask].any()
                assert vector.argmax() == row
                seen.append(int(row))
        assert sorted(seen) == list(range(len(lengths)))


def test_epochs_differ_but_are_the_same_again():
    sequences, labels = texts()
    batches = TextBatches(sequences, pad_id=0, batch_size=8, seed=4, labels=labels)
    assert batches.plan(0) == batches.plan(0) != batches.plan(1)
    assert batches.plan(1) != TextBatches(sequences, pad_id=0, batch_size=8, seed=5).plan(1)
    still = TextBatches(sequences, pad_id=0, batch_size=8)
    assert still.plan(0) == still.plan(5)
    widths = [batch["input_ids"].shape[1] for batch in still.epoch(0)]
    assert widths == sorted(widths)


def test_pairs_have_their_types():
    batches = TextBatches([[1, 5, 6], [1, 5]], pad_id=0, batch_size=2, token_type_ids=[[0, 0, 1], [0, 1]])
    (batch,) = batches.epoch(0)
    assert batch["token_type_ids"].tolist() == [[0, 1, 0], [0, 0, 1]]  # the short text first
    assert inputs(batch)[2] is batch["token_type_ids"]


def test_columns_must_fit():
    with pytest.raises(ValueError, match="labels has 1 rows for 2 texts"):
        TextBatches([[1], [2]], pad_id=0, batch_size=2, labels=[0])


def test_evaluation_weighs_by_items():
    def loss(model, batch):
        return Loss(batch.mean(), len(batch), {"twice": 2 * batch.mean()})

    batches = [torch.tensor([1.0, 1.0, 1.0]), torch.tensor([9.0])]
    found = evaluate(nn.Linear(1, 1), batches, loss)
    assert found == {"loss": 3.0, "twice": 6.0}  # the mean of means would be 5


def test_evaluation_keeps_modes_and_takes_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    seen = []

    def loss(model, batch):
        seen.append((model.training, torch.is_grad_enabled()))
        return Loss(model(batch).mean(), len(batch))

    for training in (True, False):
        model.train(training)
        evaluate(model, [torch.ones(3, 2)], loss)
        assert model.training is training
    assert seen == [(False, False)] * 2
    with pytest.raises(ValueError, match="no batches"):
        evaluate(model, [], loss)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(model, [torch.ones(3, 2)], lambda model, batch: Loss(torch.tensor(torch.nan), 0))


def test_predictions_come_in_the_order_of_the_texts():
    sequences, _ = texts(23)
    model = classifier()
    alone = torch.cat([model(torch.tensor([tokens])).logits for tokens in sequences])
    for limit in ({"batch_size": 5}, {"max_tokens": 30}, {"batch_size": 5, "seed": 3}):
        logits = predict(model, TextBatches(sequences, pad_id=0, **limit))
        assert torch.allclose(logits, alone, atol=1e-5)


def test_predictions_can_be_trained_on():
    sequences, _ = texts(8)
    targets = predict(classifier(1), TextBatches(sequences, pad_id=0, batch_size=3))
    student = classifier(2)

    def imitate(model, batch):
        return Loss(F.mse_loss(model(*inputs(batch)).logits, batch["targets"]), len(batch["targets"]))

    batches = TextBatches(sequences, pad_id=0, batch_size=4, targets=targets)
    before = evaluate(student, batches, imitate)["loss"]
    train(student, batches, imitate, TrainConfig(steps=20, lr=1e-2))
    assert evaluate(student, batches, imitate)["loss"] < before / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tiny_shared_encoder_learns_and_stays_shared(precision):
    sequences, labels = texts(200)
    model = classifier()
    batches = TextBatches(sequences, pad_id=0, batch_size=20, seed=0, labels=labels)
    held_out = TextBatches(texts(60, seed=1)[0], pad_id=0, batch_size=30, labels=texts(60, seed=1)[1])
    result = train(model, batches, classification_loss, TrainConfig(epochs=12, lr=5e-3, precision=precision))
    assert evaluate(model, held_out, classification_loss)["accuracy"] > 0.95
    assert result.history[-1]["accuracy"] > 0.95
    assert result.tokens == 12 * sum(map(len, sequences))
    assert model.encoder.layers[0].attention is model.encoder.layers[2].attention
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
