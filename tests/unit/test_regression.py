"""A task that asks for a number: its loss, its metrics, Hugging Face's num_labels=1, and what distillation does."""

import json

import pytest
import torch

from coursekit.data import Split, Task
from coursekit.distill import Recipe, Stage, Term, distill, tinybert
from coursekit.export import to_huggingface
from coursekit.models import Encoder, SequenceClassifier, TransformerConfig, from_huggingface
from coursekit.train import (
    Profile,
    TextBatches,
    TrainConfig,
    classification_loss,
    evaluate,
    finetune,
    predict,
    regression_loss,
    regression_metrics,
    train,
)

CONFIG = TransformerConfig(40, 24, 2, 4, 48, dropout=0.0, max_positions=16)


class Told(torch.nn.Module):
    """A model whose output is its first token."""

    def __init__(self, outputs=1):
        super().__init__()
        self.weight, self.outputs = torch.nn.Parameter(torch.ones(1)), outputs

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        return type("Output", (), {"logits": (input_ids[:, :1] * self.weight).expand(-1, self.outputs)})()


def batches(firsts, scores, **options):
    return TextBatches(
        [[first] * (1 + first % 3) for first in firsts], pad_id=0, batch_size=2, labels=scores, **options
    )


def small_task(seed=None):
    """Rows of one token each, 5 to 10, whose score is its number, from 0."""
    firsts = [number % 6 for number in range(48)]
    ids = [[5 + first] * (1 + row // 12) for row, first in enumerate(firsts)]
    return TextBatches(ids, pad_id=0, batch_size=16, seed=seed, labels=list(map(float, firsts)))


def test_loss_by_hand():
    found = evaluate(Told(), batches([1, 2, 4], [1.0, 4.0, 1.0]), regression_loss)
    assert found == {"loss": pytest.approx((0 + 4 + 9) / 3)}
    with pytest.raises(ValueError, match=r"one output \(num_labels=1\), the model 2"):
        evaluate(Told(2), batches([1, 2], [1.0, 2.0]), regression_loss)
    with pytest.raises(ValueError, match="scores, not numbers of classes; use regression_loss"):
        evaluate(Told(), batches([1, 2], [1.0, 2.0]), classification_loss)


def test_correlations_as_scipy_has_them():
    """Ties, another order than the batches', and a relation that is monotone but not straight."""
    stats = pytest.importorskip("scipy.stats")
    firsts, scores = [7, 1, 3, 3, 12, 30, 5], [2.0, 0.5, 1.0, 1.5, 1.5, 5.0, 1.0]
    found = regression_metrics(Told(), batches(firsts, scores))
    assert found["pearson"] == pytest.approx(stats.pearsonr(firsts, scores)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(firsts, scores)[0])
    assert found["loss"] == pytest.approx(sum((a - b) ** 2 for a, b in zip(firsts, scores, strict=True)) / 7)
    curve = regression_metrics(Told(), batches([1, 2, 3, 4], [1.0, 8.0, 27.0, 64.0]))
    assert curve["spearman"] == pytest.approx(1) and curve["pearson"] < 0.96
    assert regression_metrics(Told(), batches([2, 2], [1.0, 2.0]))["pearson"] != 1  # NaN


def test_a_model_learns_a_score():
    model, task = SequenceClassifier(Encoder(CONFIG), 1), small_task(seed=0)
    before = regression_metrics(model, small_task())
    train(model, task, regression_loss, TrainConfig(epochs=12, lr=1e-2))
    after = regression_metrics(model, small_task())
    assert after["loss"] < 0.5 * before["loss"] and min(after["pearson"], after["spearman"]) > 0.8


@pytest.mark.parametrize("family", ["Bert", "Albert", "DistilBert"])
def test_hugging_face_has_the_same_score_loss_and_gradient(family, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    if family == "DistilBert":
        sizes = dict(vocab_size=40, dim=24, n_layers=2, n_heads=4, hidden_dim=48)
    config = getattr(transformers, f"{family}Config")(**sizes, num_labels=1)
    theirs = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    ours = from_huggingface(theirs)
    ids, scores = torch.randint(1, 40, (5, 7)), torch.rand(5) * 5
    given = {"input_ids": ids, "attention_mask": torch.ones(5, 7, dtype=torch.bool), "labels": scores}
    loss, expected = regression_loss(ours, given), theirs(ids, labels=scores)
    torch.testing.assert_close(loss.mean, expected.loss)
    loss.mean.backward()
    expected.loss.backward()
    torch.testing.assert_close(ours.classifier.weight.grad, theirs.classifier.weight.grad)

    folder = to_huggingface(ours, tmp_path / "model", labels=("similarity",))
    assert json.loads((folder / "config.json").read_text())["problem_type"] == "regression"  # no sigmoid in a pipeline
    again = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(ids, labels=scores).loss, expected.loss.detach())


def test_distillation_fits_the_teachers_score():
    """TinyBERT's recipe for a regression; class probabilities are refused for a score, before any training."""
    teacher, student = (SequenceClassifier(Encoder(CONFIG), 1) for _ in range(2))
    train(teacher, small_task(seed=0), regression_loss, TrainConfig(epochs=12, lr=1e-2))
    wanted, texts = predict(teacher, small_task()), small_task(seed=1)

    def distance():
        return float((predict(student, small_task()) - wanted).square().mean())

    before = distance()
    distill(student, teacher, tinybert(2, 2, regression=True), texts, TrainConfig(epochs=12, lr=5e-3))
    assert distance() < before / 2
    for kind in ("soft", "hard"):
        recipe = Recipe("wrong", 2, 2, (Stage("one", (Term(kind),)),))
        with pytest.raises(ValueError, match=f"'{kind}' of a single label says nothing; .* kind 'logits'"):
            distill(student, teacher, recipe, texts, TrainConfig(epochs=1))


def test_the_real_encoder_is_fine_tuned_on_scores():
    texts = [f"{'good ' * (number % 4)}film" for number in range(24)]
    split = Split(texts, [float(number % 4) for number in range(24)], texts)
    task = Task("scores", ("similarity",), split, split, split)
    teacher = finetune(task, Profile(TrainConfig(epochs=1, lr=2e-4), batch_size=12))
    assert teacher.model.num_labels == 1
    assert {"loss", "pearson", "spearman"} <= teacher.result.evaluations[-1].keys()
