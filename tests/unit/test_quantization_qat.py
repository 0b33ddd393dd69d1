"""Quantization-aware training: what is trained, what is frozen, and that conversion changes nothing."""

import pytest
import torch
from torch import nn

from coursekit.compress.quantization import (
    SCHEMES,
    FakeQuantLinear,
    Int8Linear,
    QuantizedLinear,
    Scheme,
    convert_qat,
    prepare_qat,
    quantize,
    quantize_model,
)
from coursekit.models import Encoder, SequenceClassifier, SharingPlan, load, save

PADDING = {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.zeros(2, 3, dtype=torch.bool)}
TRAINABLE = [*(name for name, scheme in SCHEMES.items() if not scheme.gptq), Scheme(3, "auto")]


def train(model: nn.Module, steps: int = 5) -> None:
    """A few steps on random texts."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(steps):
        ids = torch.randint(1, 40, (8, 6), generator=generator)
        loss = nn.functional.cross_entropy(model(ids).logits, ids[:, 1] % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("scheme", TRAINABLE)
def test_converted_outputs_equal_those_of_evaluation(tiny, scheme):
    """To 1e-5, after training has moved weights and observers; shared layers too."""
    config = tiny.replace(dropout=0.0, sharing=SharingPlan.every(3, 2))
    model = prepare_qat(SequenceClassifier(Encoder(config), 2), scheme)
    train(model)
    converted = convert_qat(model)
    assert not any(isinstance(module, FakeQuantLinear) for module in converted.modules())
    assert sum(isinstance(module, QuantizedLinear) for module in converted.modules()) == 2 * 6 + 1
    assert converted.encoder.layers[0].ffn is converted.encoder.layers[1].ffn
    ids = torch.randint(1, 40, (4, 6))
    with torch.no_grad():
        torch.testing.assert_close(converted(ids).last_hidden, model(ids).last_hidden, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(converted(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)


def test_every_weight_trains_through_the_rounding(tiny):
    """Weights, biases and what stands before them get gradients; without the estimator none would."""
    model = prepare_qat(SequenceClassifier(Encoder(tiny), 2), "int8")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    train(model, 2)
    unchanged = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert unchanged <= {name for name in before if name.endswith("key.bias")}  # softmax does not see a key's bias


def test_training_heals_what_rounding_broke():
    """A ternary regression: trained through its rounding it beats the rounded full-precision solution."""
    torch.manual_seed(3)
    x, target = torch.randn(256, 16), torch.randn(16, 4)
    y = (x @ target).tanh()

    def fit(model):
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(150):
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model

    def error(model):
        with torch.no_grad():
            return float((model(x) - y).square().mean())

    dense = fit(nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)))
    rounded = quantize_model(dense, "ternary")
    trained = convert_qat(fit(prepare_qat(dense, "ternary")))
    assert error(trained) < 0.7 * error(rounded)


def test_observers_are_frozen_in_evaluation(tiny):
    """Evaluating changes neither ranges nor outputs; training moves them; the model given has none."""
    plain = Encoder(tiny)
    model = prepare_qat(plain, "int8-static")
    assert type(plain.layers[0].ffn.up) is nn.Linear
    observer = model.layers[0].ffn.up.observer
    with pytest.raises(ValueError, match="has seen no values"):
        model.eval()(torch.ones(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="has seen no values"):
        convert_qat(model)
    model.train()(torch.randint(1, 40, (4, 6)))
    seen = observer.low.clone(), observer.high.clone()
    model.eval()
    model.embeddings.norm.weight.data *= 3
    ids = torch.randint(1, 40, (4, 6))
    assert torch.equal(model(ids).last_hidden, model(ids).last_hidden)
    assert (observer.low, observer.high) == seen
    model.train()(ids)
    assert (observer.low, observer.high) != seen


def test_calibration_starts_the_observers(tiny):
    """From real tokens alone; then evaluation works at once."""
    ids = torch.randint(1, 40, (3, 5))
    mask = torch.arange(5) < torch.tensor([[5], [2], [3]])
    model = prepare_qat(Encoder(tiny).eval(), "int8-static", calibration=[{"input_ids": ids, "attention_mask": mask}])
    with torch.no_grad():
        rows = model.embeddings(ids)[mask]
        observer = model.layers[0].attention.query.observer
        torch.testing.assert_close(observer.low, rows.amin())
        torch.testing.assert_close(observer.high, rows.amax())
        converted = convert_qat(model)
        assert isinstance(converted.layers[0].attention.query, Int8Linear)
        torch.testing.assert_close(converted(ids, mask).last_hidden, model(ids, mask).last_hidden, atol=1e-5, rtol=1e-5)


def test_prepared_outputs_are_those_of_quantization(tiny):
    """Before any training, preparing and converting is quantizing."""
    plain = Encoder(tiny).eval()
    converted, direct = convert_qat(prepare_qat(plain, "int8")), quantize_model(plain, "int8")
    for (name, value), other in zip(converted.state_dict().items(), direct.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_a_model_in_training_saves_and_loads(tiny, tmp_path):
    """Weights, observers and scheme, so that training can go on."""
    model = prepare_qat(SequenceClassifier(Encoder(tiny), 2), "int8-static")
    train(model, 2)
    other = load(save(model, tmp_path / "m"))
    ids = torch.randint(1, 40, (4, 6))
    assert torch.equal(other(ids).logits, model(ids).logits)
    assert other.encoder.layers[0].ffn.up.scheme == Scheme(8, activations="static")


def test_one_layer_used_under_two_names():
    """Both names train, and convert to, one layer."""
    linear = nn.Linear(8, 8)
    model = prepare_qat(nn.Sequential(linear, nn.Sequential(linear)), "int8")
    assert isinstance(model[0], FakeQuantLinear)
    assert model[0] is model[1][0]
    assert model[0].weight is not linear.weight
    converted = convert_qat(model)
    assert isinstance(converted[0], Int8Linear)
    assert converted[0] is converted[1][0]


def test_fake_weight_is_the_quantized_one():
    """Forward uses codes of the present weight; the parameter itself keeps full precision."""
    linear = nn.Linear(6, 3, bias=False)
    layer = FakeQuantLinear.from_linear(linear, Scheme(4, 3))
    assert layer.weight is linear.weight
    expected = quantize(linear.weight.detach(), bits=4, group_size=3).dequantize()
    assert torch.equal(layer(torch.eye(6)).T, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: prepare_qat(model, "int4-gptq"), "GPTQ rounds a trained model"),
        (lambda model: prepare_qat(model, "int9"), "unknown scheme 'int9'"),
        (lambda model: prepare_qat(model, Scheme(4, 7)), "group_size 7 does not divide the last axis of 24"),
        (lambda model: prepare_qat(nn.ReLU()), "ReLU has no plain nn.Linear"),
        (lambda model: prepare_qat(model, calibration=[]), "epoch 0 has no batches"),
        (lambda model: prepare_qat(model, "int8-static", calibration=[PADDING]), "at least one real token"),
        (convert_qat, "Encoder has no FakeQuantLinear; call prepare_qat first"),
    ],
)
def test_bad_input(tiny, call, message):
    """One clear error, the model untouched."""
    model = Encoder(tiny)
    with pytest.raises(ValueError, match=message):
        call(model)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("scheme", ["int8", "int4", "ternary"])
def test_weights_that_are_not_finite(tiny, scheme, part):
    """Named before training starts."""
    model = Encoder(tiny)
    getattr(model.layers[2].ffn.down, part).data.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=rf"layers\.2\.ffn\.down\.{part} has 1 NaN or infinite entries"):
        prepare_qat(model, scheme)
