"""What calibration sees, and what is made of it: static ranges, observers, SmoothQuant, GPTQ in a model."""

import pytest
import torch
from torch import nn

from coursekit.compress.quantization import (
    RangeObserver,
    fold_into_norm,
    input_statistics,
    quantizable,
    quantize_model,
    smooth_scales,
)
from coursekit.models import Encoder, TransformerConfig, load, save


def texts(batches: int = 3) -> list[dict[str, torch.Tensor]]:
    """Batches with padding on the right."""
    made = []
    for _ in range(batches):
        lengths = torch.randint(2, 8, (5,))
        made.append({"input_ids": torch.randint(1, 40, (5, 7)), "attention_mask": torch.arange(7) < lengths[:, None]})
    return made


def real_rows(model: Encoder, batches) -> torch.Tensor:
    """The inputs of the first layer at all real tokens."""
    return torch.cat([model.embeddings(batch["input_ids"])[batch["attention_mask"]] for batch in batches])


@torch.no_grad()
def test_calibration_sees_all_batches(tiny):
    """Minimum, maximum and XᵀX over the real tokens of every batch, in evaluation mode; a pooler's one row per text."""
    model, batches = Encoder(tiny).train(), texts()
    layers = {"query": model.layers[0].attention.query, "pooler": model.pooler}
    seen = input_statistics(model, batches, layers, hessian=True)
    assert model.training
    rows = real_rows(model.eval(), batches)
    torch.testing.assert_close(seen["query"].low, rows.amin(0))
    torch.testing.assert_close(seen["query"].largest, rows.abs().amax(0))
    torch.testing.assert_close(seen["query"].hessian, rows.T @ rows / len(rows))
    assert (seen["query"].count, seen["pooler"].count) == (len(rows), 15)
    static = quantize_model(model, "int8-static", calibration=batches).layers[0].attention.query
    torch.testing.assert_close(static.input_scale, (rows.amax() - rows.amin()) / 255)


@torch.no_grad()
def test_padding_is_left_out_of_calibration(tiny):
    """A padding token a hundred times larger than all others changes nothing."""
    model, batches = Encoder(tiny).eval(), texts()
    model.embeddings.norm = nn.Identity()
    model.embeddings.word.weight[39] = 100.0
    quiet = [batch | {"input_ids": batch["input_ids"].clamp(max=38)} for batch in batches]
    loud = [
        batch | {"input_ids": batch["input_ids"].where(batch["attention_mask"], torch.tensor(39))} for batch in quiet
    ]
    query = {"query": model.layers[0].attention.query}
    ranges = [input_statistics(model, data, query)["query"].largest for data in (loud, quiet)]
    assert torch.equal(*ranges)
    assert ranges[0].max() < 1
    without = [{"input_ids": batch["input_ids"]} for batch in loud]  # no mask: every token is real
    assert input_statistics(model, without, query)["query"].largest.max() == pytest.approx(100, abs=1)


@torch.no_grad()
def test_gptq_beats_rounding_in_a_model(tiny: TransformerConfig):
    """Outputs of the first layer's products, on the calibration texts."""
    model, batches = Encoder(tiny.replace(hidden_size=64, intermediate_size=96)).eval(), texts(6)
    for module in quantizable(model).values():
        module.weight.normal_()
    plain, better = quantize_model(model, "int4"), quantize_model(model, "int4-gptq", calibration=batches)
    x = real_rows(model, batches)

    def error(other):
        old, new = model.layers[0].attention.query, other.layers[0].attention.query
        return float((new(x) - old(x)).norm())

    assert error(better) < 0.8 * error(plain)


@pytest.mark.parametrize("scheme", ["int8", "int8-static"])
@torch.no_grad()
def test_smoothing_helps_where_a_channel_is_loud(tiny, scheme):
    """One channel of the inputs twenty-five times the others costs them their codes; α = 1/2 gives most back."""
    model, batches = Encoder(tiny).eval(), texts()
    model.embeddings.norm.weight[5] = 50.0
    x = real_rows(model, batches)
    errors = []
    for alpha in (None, 0.5):
        query = quantize_model(model, scheme, calibration=batches, smooth=alpha).layers[0].attention.query
        errors.append(float((query(x) - model.layers[0].attention.query(x)).norm()))
    assert errors[1] < 0.5 * errors[0]


@torch.no_grad()
def test_smoothed_model_reloads(tiny, tmp_path):
    """Divisors are stored, static ranges too."""
    model = quantize_model(Encoder(tiny).eval(), "int8-static", calibration=texts(), smooth=0.7)
    ids = torch.randint(1, 40, (2, 5))
    assert torch.equal(load(save(model, tmp_path / "m"))(ids).last_hidden, model(ids).last_hidden)


@torch.no_grad()
def test_smooth_scales_by_hand():
    """s = max|X|^α / max|W|^(1−α); the largest of several weights counts; unused channels get 1."""
    weight = torch.tensor([[1.0, -4.0, 0.5, 0.0], [0.25, 1.0, -0.5, 0.0]])
    largest = torch.tensor([16.0, 4.0, 0.0, 3.0])
    torch.testing.assert_close(smooth_scales(largest, weight), torch.tensor([4.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(smooth_scales(largest, weight, alpha=1.0)[:2], torch.tensor([16.0, 4.0]))
    torch.testing.assert_close(smooth_scales(largest, weight, alpha=0.0)[:2], torch.tensor([1.0, 0.25]))
    both = smooth_scales(largest, [weight, weight * 4])
    torch.testing.assert_close(both[:2], torch.tensor([2.0, 0.5]))
    x = torch.randn(20, 4) * largest
    scales = smooth_scales(x.abs().amax(0), weight)
    torch.testing.assert_close((x / scales) @ (weight * scales).T, x @ weight.T)
    for bad, message in (
        (lambda: smooth_scales(largest, weight, alpha=1.5), "alpha must lie in"),
        (lambda: smooth_scales(largest[:3], weight), r"\(3,\) inputs do not fit a weight of shape \(2, 4\)"),
        (lambda: smooth_scales(largest * torch.nan, weight), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


@torch.no_grad()
def test_folding_into_a_norm_is_exact_before_a_layer_and_wrong_before_a_residual():
    """Pre-norm: linear(norm(x)). Post-norm's n + linear(n) has the norm's output twice."""
    norm, linear, x = nn.LayerNorm(8), nn.Linear(8, 8), torch.randn(5, 8)
    norm.bias.normal_()
    scales = torch.rand(8) + 0.5
    pre, post = linear(norm(x)), norm(x) + linear(norm(x))
    fold_into_norm(norm, [linear], scales)
    torch.testing.assert_close(linear(norm(x)), pre)
    assert (norm(x) + linear(norm(x)) - post).abs().max() > 0.1
    with pytest.raises(ValueError, match=r"\(7,\) scales do not fit"):
        fold_into_norm(norm, [linear], scales[:7])
    with pytest.raises(ValueError, match="scales must be positive"):
        fold_into_norm(norm, [linear], -scales)


@torch.no_grad()
def test_folding_in_a_pre_norm_encoder(tiny):
    """Query, key and value read one LayerNorm and share its scales; every output stays the same."""
    model = Encoder(tiny.replace(norm_first=True)).eval()
    ids = torch.randint(1, 40, (2, 5))
    exact = model(ids).last_hidden
    for layer in model.layers:
        linears = [layer.attention.query, layer.attention.key, layer.attention.value]
        fold_into_norm(layer.attention_norm, linears, torch.rand(24) + 0.5)
        fold_into_norm(layer.ffn_norm, [layer.ffn.up], torch.rand(24) + 0.5)
    torch.testing.assert_close(model(ids).last_hidden, exact, atol=1e-5, rtol=1e-5)


def test_unused_layers_are_named(tiny):
    """A layer that calibration never reaches has no range."""
    model = Encoder(tiny)
    model.spare = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="spare not used by the calibration texts"):
        quantize_model(model, "int8-static", calibration=texts())


def test_observer():
    """Minimum and maximum over all that was seen; a moving average with momentum; frozen in evaluation mode."""
    everything, moving = RangeObserver(), RangeObserver(0.9)
    for x in (torch.tensor([-1.0, 2.0]), torch.tensor([-3.0, 1.0])):
        for observer in (everything, moving):
            assert observer(x) is x
    assert (everything.low, everything.high) == (-3, 2)
    torch.testing.assert_close(torch.stack((moving.low, moving.high)), torch.tensor([-1.2, 1.9]))
    everything.eval()(torch.tensor([50.0]))
    assert everything.high == 2
    scale, zero = everything.affine_parameters()
    torch.testing.assert_close(scale, torch.tensor(5 / 255))
    assert zero == -128 + 153
    with pytest.raises(ValueError, match="has seen no values"):
        RangeObserver().affine_parameters()
    with pytest.raises(ValueError, match="momentum must lie in"):
        RangeObserver(1.0)
