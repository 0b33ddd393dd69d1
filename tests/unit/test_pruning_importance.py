"""Importance by gates and calibration: against differences by hand, and independent of batches and padding."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.compress.pruning import (
    best_neurons,
    calibrate,
    head_importance,
    least_heads,
    neuron_importance,
    prune_ffn,
    prune_heads,
    wanda_mask,
)
from coursekit.models import Encoder, SequenceClassifier, SharingPlan
from coursekit.train import Loss, TextBatches, classification_loss, inputs


@pytest.fixture
def model(tiny) -> SequenceClassifier:
    """Weights large enough that heads matter; dropout is on in training mode."""
    model = SequenceClassifier(Encoder(tiny), 3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model.train()


def texts(count: int = 6, **limits: int) -> TextBatches:
    lengths = [3 + number % 4 for number in range(count)]
    sequences = [torch.randint(1, 40, (length,)).tolist() for length in lengths]
    return TextBatches(sequences, pad_id=0, labels=[number % 3 for number in range(count)], **limits)


def slope(model: nn.Module, batch: dict, weight: torch.Tensor, columns: slice) -> float:
    """dL/dgate of one text by central difference: a gate scales the columns that read the unit."""
    losses, step = [], 1e-4
    with torch.no_grad():
        original = weight.clone()
        for sign in (1, -1):
            weight[:, columns] = original[:, columns] * (1 + sign * step)
            losses.append(F.cross_entropy(model(*inputs(batch)).logits, batch["labels"]).item())
            weight.copy_(original)
    return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("kind", ["heads", "neurons"])
def test_importance_is_the_expected_absolute_slope(model, kind) -> None:
    """Pitfall 64: E_x |∂L/∂gate| in evaluation mode, by finite differences one text at a time."""
    torch.manual_seed(1)
    batches = texts(batch_size=6)
    batch = batches.epoch(0)[0]
    found = (head_importance if kind == "heads" else neuron_importance)(
        model, batches, classification_loss, normalise=False
    )
    assert [len(found[layer]) for layer in range(3)] == ([4] * 3 if kind == "heads" else [36] * 3)
    double = copy.deepcopy(model).double().eval()
    block = double.encoder.layers[1]
    weight, width = (block.attention.output.weight, 6) if kind == "heads" else (block.ffn.down.weight, 1)
    for unit in (0, 3):
        columns = slice(unit * width, (unit + 1) * width)
        rows = [{name: values[row : row + 1] for name, values in batch.items()} for row in range(6)]
        expected = sum(abs(slope(double, row, weight, columns)) for row in rows) / 6
        assert float(found[1][unit]) == pytest.approx(expected, rel=1e-3)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_importance_does_not_depend_on_batches(model) -> None:
    """|.| of a batch's mean would: slopes of opposite sign cancel in it."""
    results = []
    for size in (1, 4, 6):
        torch.manual_seed(2)
        results.append(head_importance(model, texts(batch_size=size), classification_loss))
    for other in results[1:]:
        for layer in range(3):
            torch.testing.assert_close(other[layer], results[0][layer], atol=1e-5, rtol=1e-4)
    for scores in results[0].values():
        assert float(scores.norm()) == pytest.approx(1, abs=1e-5)


def test_a_head_that_does_nothing_counts_nothing(model) -> None:
    with torch.no_grad():
        model.encoder.layers[1].attention.output.weight[:, 6:12] = 0
        model.encoder.layers[2].attention.output.weight.zero_()
        model.encoder.layers[0].ffn.down.weight[:, 5] = 0
    found = head_importance(model, texts(batch_size=3), classification_loss)
    assert float(found[1][1]) == 0
    assert (found[1][[0, 2, 3]] > 0).all()
    assert found[2].tolist() == [0] * 4  # a layer of zeros is not divided by its norm
    assert int(neuron_importance(model, texts(batch_size=3), classification_loss)[0].argmin()) == 5


def test_shared_blocks_have_one_gate(tiny) -> None:
    model = SequenceClassifier(Encoder(tiny.replace(sharing=SharingPlan.every(3, 2))), 3)
    found = head_importance(model, texts(batch_size=3), classification_loss)
    assert list(found) == [0, 2]
    prune_heads(model, least_heads(found, 0.5))
    assert model.encoder.layers[0].attention is model.encoder.layers[1].attention
    assert sum(model.encoder.layers[depth].attention.num_heads for depth in (0, 2)) == 4


def test_least_heads_spares_the_best_of_each_layer() -> None:
    importance = {0: torch.tensor([0.1, 0.2]), 1: torch.tensor([0.9, 0.8, 0.7, 0.6])}
    assert least_heads(importance, 1 / 6) == {0: [0]}
    assert least_heads(importance, 2 / 6) == {0: [0], 1: [3]}
    assert least_heads(importance, 4 / 6) == {0: [0], 1: [1, 2, 3]}
    assert least_heads(importance, 0) == {}
    assert importance[0].tolist() == pytest.approx([0.1, 0.2])
    with pytest.raises(ValueError, match="at most 4 of 6 heads can go, one stays in each layer; got 5"):
        least_heads(importance, 5 / 6)
    with pytest.raises(ValueError, match="got 1.5"):
        least_heads(importance, 1.5)


def test_best_neurons_feed_prune_ffn(model) -> None:
    importance = {1: torch.tensor([0.0, 3, 1, 2] + [0.5] * 32)}
    assert best_neurons(importance, 33 / 36) == {1: [1, 2, 3]}
    prune_ffn(model, best_neurons(neuron_importance(model, texts(batch_size=3), classification_loss), 0.75))
    assert [layer.ffn.intermediate_size for layer in model.encoder.layers] == [9, 9, 9]
    prune_heads(model, {0: [0]})
    assert len(head_importance(model, texts(batch_size=3), classification_loss)[0]) == 3


def test_importance_refuses(model) -> None:
    with pytest.raises(ValueError, match="no batches"):
        head_importance(model, [], classification_loss)
    with torch.no_grad():
        model.classifier.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="the loss is nan"):
        head_importance(model, texts(batch_size=3), classification_loss)
    assert not model.encoder.layers[0].attention.output._forward_pre_hooks
    with pytest.raises(ValueError, match="got Linear"):
        head_importance(nn.Linear(2, 2), texts(batch_size=3), lambda m, b: Loss(F.relu(torch.ones(())), 1))


@pytest.mark.parametrize("score", [head_importance, neuron_importance])
def test_texts_of_padding_alone_do_not_count(model, score) -> None:
    """In a batch of their own or among others; nothing else is an error, not NaN."""
    batch = texts(batch_size=6).epoch(0)[0]
    blank = {name: torch.zeros_like(values[:2]) for name, values in batch.items()}
    blank["attention_mask"] = blank["attention_mask"].bool()
    mixed = {name: torch.cat((values[:3], blank[name].to(values), values[3:])) for name, values in batch.items()}
    expected = score(model, [batch], classification_loss, normalise=False)
    for batches in ([blank, batch], [batch, blank], [mixed]):
        found = score(model, batches, classification_loss, normalise=False)
        for layer, scores in expected.items():
            torch.testing.assert_close(found[layer], scores, atol=1e-6, rtol=1e-4)
    with pytest.raises(ValueError, match="at least one real token that the loss counts; the batches have none"):
        score(model, [blank, blank], classification_loss)
    with pytest.raises(ValueError, match="at least one real token that the loss counts"):
        score(model, [batch], lambda m, b: Loss(m(*inputs(b)).logits.sum() * math.nan, 0))


@torch.no_grad()
def test_calibration_by_hand_leaves_padding_out(tiny) -> None:
    """Pitfall 66: the norm over the real tokens of texts run one by one, however they were batched and padded."""
    encoder = Encoder(tiny)
    batches = texts(batch_size=4)
    found = calibrate(encoder, batches)
    alone = encoder.eval()
    seen = []
    handle = alone.layers[1].ffn.up.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, 1)))
    for sequence in batches.sequences:
        alone(torch.tensor([sequence]))
    handle.remove()
    torch.testing.assert_close(found["layers.1.ffn.up"], torch.cat(seen).norm(dim=0), atol=1e-4, rtol=1e-5)
    assert set(found) >= {"layers.0.attention.query", "layers.2.ffn.down", "pooler"}
    more = [
        {name: F.pad(values, (0, 5)) for name, values in batch.items() if name != "labels"}
        for batch in batches.epoch(0)
    ]
    wider = calibrate(encoder, more)
    for name in found:
        torch.testing.assert_close(wider[name], found[name], atol=1e-4, rtol=1e-5)
    masks = {name: wanda_mask(encoder.get_submodule(name).weight, norm, 0.5) for name, norm in found.items()}
    assert masks["layers.2.ffn.down"].sum(1).unique().tolist() == [18]


@torch.no_grad()
def test_calibration_of_chosen_and_shared_layers(tiny) -> None:
    shared = Encoder(tiny.replace(sharing=SharingPlan.all(3))).train()
    found = calibrate(shared, texts(batch_size=3), ["layers.2.ffn.up"])
    assert list(found) == ["layers.2.ffn.up"]
    assert shared.training
    assert not shared.layers[0].ffn.up._forward_pre_hooks
    hidden = []
    handle = shared.layers[0].ffn.up.register_forward_pre_hook(
        lambda module, args: hidden.append(args[0].flatten(0, 1))
    )
    torch.manual_seed(0)
    batches = texts(batch_size=1)
    again = calibrate(shared, batches, ["layers.0.ffn.up"])["layers.0.ffn.up"]
    handle.remove()
    assert len(hidden) == 18  # six texts, three depths
    torch.testing.assert_close(again, torch.cat(hidden).norm(dim=0), atol=1e-4, rtol=1e-5)


def test_calibration_refuses(tiny) -> None:
    encoder = Encoder(tiny)
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.zeros(2, 3, dtype=torch.bool)}
    with pytest.raises(ValueError, match="no batches"):
        calibrate(encoder, [])
    with pytest.raises(ValueError, match="at least one real token"):
        calibrate(encoder, [batch, batch])
    real = batch | {"attention_mask": torch.ones(2, 3, dtype=torch.bool)}
    found = [calibrate(encoder, batches, ["pooler"])["pooler"] for batches in ([real], [batch, real])]
    assert torch.equal(*found) and found[0].isfinite().all()  # a batch of padding alone is passed over
    with pytest.raises(ValueError, match="unknown layer 'layers.0.ffn.u'"):
        calibrate(encoder, [real], ["layers.0.ffn.u"])
    with pytest.raises(ValueError, match="embeddings.word is a Embedding"):
        calibrate(encoder, [real], ["embeddings.word"])
    with torch.no_grad():
        encoder.layers[0].ffn.up.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"inputs of layers\.0\.ffn\.down are NaN"):
        calibrate(encoder, [real], ["layers.0.ffn.down"])
