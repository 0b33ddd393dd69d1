"""Whole models in factors: what is touched and what is not, sharing, files, calibration, stacking, bad input."""

import copy

import pytest
import torch
from torch import nn

from coursekit.compress.lowrank import (
    LowRankLinear,
    compress,
    factorizable,
    factorize_embeddings,
    input_moments,
    low_rank_report,
    plan_ranks,
)
from coursekit.compress.quantization import Int8Linear, quantize_model
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan, load, save

IDS = torch.tensor([[5, 4, 3, 2], [7, 8, 0, 0]])


def texts(batches: int = 3) -> list[dict[str, torch.Tensor]]:
    """Batches with padding on the right."""
    made = []
    for _ in range(batches):
        lengths = torch.randint(2, 8, (5,))
        made.append({"input_ids": torch.randint(1, 40, (5, 7)), "attention_mask": torch.arange(7) < lengths[:, None]})
    return made


@pytest.fixture
def model(tiny):
    return SequenceClassifier(Encoder(tiny.replace(dropout=0.0)), 2).eval()


def low_rank(model: nn.Module) -> dict[str, LowRankLinear]:
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LowRankLinear)}


@pytest.mark.parametrize("calibrated", [False, True])
@torch.no_grad()
def test_a_smaller_copy(model, calibrated):
    """The model is as it was; all layers of the encoder have the rank that half of their weights buys."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    smaller = compress(model, 0.5, texts() if calibrated else None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    layers = low_rank(smaller)
    assert len(layers) == 3 * 6 + 1 and not low_rank(model)
    assert layers["encoder.layers.0.attention.query"].rank == 6  # 24·24/48/2
    assert layers["encoder.layers.2.ffn.up"].rank == 7  # 24·36/60/2 = 7.2
    assert type(smaller.classifier) is nn.Linear and smaller(IDS).logits.isfinite().all()
    assert stored_bytes(smaller) < stored_bytes(model) and count_flops(smaller, 1, 4) < count_flops(model, 1, 4)


@torch.no_grad()
def test_at_break_even_a_layer_stays_dense(model):
    """Pitfall 52: keep = 1 buys 24·24/48 = 12, which saves nothing; of 24·36/60 = 14.4 it buys 14."""
    same = compress(model, 1.0)
    kinds = {path.split(".")[-1] for path in low_rank(same)}
    assert kinds == {"up", "down"}
    lines = {layer.path: layer for layer in low_rank_report(model, same, 1.0).layers}
    assert lines["encoder.layers.0.attention.key"].skipped
    assert "rank 12 saves nothing: 24×24 breaks even at rank 12.0" in lines["encoder.layers.0.attention.key"].what
    assert compress(model, {"encoder.layers.0.attention.key": 20}).state_dict().keys() == model.state_dict().keys()


@torch.no_grad()
def test_the_report_lists_every_layer_once(model):
    smaller = compress(model, 0.05)
    report = low_rank_report(model, smaller, 0.05)
    assert report.bytes_before == stored_bytes(model) and report.bytes_after == stored_bytes(smaller)
    lines = {layer.path: layer for layer in report.layers}
    assert lines["encoder.layers.0.attention.query"].what.startswith("skipped: left dense, not even rank 1")
    assert (
        lines["classifier"].what == "skipped: left dense, not even rank 1 fits the budget: 2×24 breaks even at rank 1.8"
    )
    smaller = compress(model, 0.5)
    lines = {layer.path: layer for layer in low_rank_report(model, smaller, 0.5).layers}
    assert lines["encoder.layers.1.ffn.up"].what == "36×24, rank 7 of 14.4"
    assert lines["encoder.layers.1.ffn.up"].bytes_after == 4 * (7 * 60 + 36)
    assert "factorize_embeddings" in lines["encoder.embeddings.word"].what
    assert lines["encoder.layers.0.ffn_norm"].what == "skipped: LayerNorm has no matrix product"
    every = {path for path, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    assert set(lines) == every


@torch.no_grad()
def test_a_shared_layer_is_factorised_once(tiny):
    """Pitfalls 34 and 49: every depth uses the one successor, in file and count."""
    shared = Encoder(tiny.replace(sharing=SharingPlan.all(3), dropout=0.0)).eval()
    smaller = compress(shared, 0.5, texts())
    assert len({id(layer.attention.query) for layer in smaller.layers}) == 1
    assert isinstance(smaller.layers[2].attention.query, LowRankLinear)
    assert len(low_rank(smaller)) == 6 + 1
    names = [layer.path for layer in low_rank_report(shared, smaller).layers]
    assert len(names) == len(set(names)) and "layers.1.attention.query" not in names


@torch.no_grad()
def test_whole_model_counts(model):
    """Pitfall 53: half of each matrix is far from half of the model."""
    smaller = compress(model, 0.5)
    dense, now = count_parameters(model), count_parameters(smaller)
    assert dense.by_component["embeddings.word"] == now.by_component["embeddings.word"]
    saved = sum(
        rows * columns - layer.rank * (rows + columns)
        for layer in low_rank(smaller).values()
        for rows, columns in [(layer.out_features, layer.in_features)]
    )
    assert dense.total - now.total == saved


@pytest.mark.parametrize("kind", ["plain", "int8", "shared", "narrow"])
@torch.no_grad()
def test_files(tiny, tmp_path, kind):
    """What is saved comes back with equal outputs, and takes the bytes that are counted."""
    sharing = SharingPlan.sandwich(3) if kind == "shared" else None
    model = MaskedLM(Encoder(tiny.replace(dropout=0.0, pooler=False, sharing=sharing, vocab_size=400))).eval()
    smaller = compress(model, 0.5, texts())
    if kind == "int8":
        smaller = quantize_model(smaller, "int8")
        assert isinstance(smaller.encoder.layers[0].ffn.up.down, Int8Linear)
        assert smaller.encoder.layers[0].ffn.up.merge().weight.shape == (36, 24)
    if kind == "narrow":
        smaller.encoder = factorize_embeddings(smaller.encoder, 8)
    logits = smaller(IDS).logits
    save(smaller, tmp_path / "model")
    again = load(tmp_path / "model")
    assert torch.allclose(again(IDS).logits, logits, atol=1e-6)
    if kind == "shared":
        assert again.encoder.layers[1].ffn.up is not again.encoder.layers[0].ffn.up
    size = sum(
        tensor.numel() * tensor.element_size()
        for tensor in {**dict(again.named_parameters()), **dict(again.named_buffers())}.values()
    )
    assert stored_bytes(smaller) == stored_bytes(again) == size
    assert abs((tmp_path / "model" / "model.safetensors").stat().st_size - size) < 0.05 * size + 12_000  # the header


@torch.no_grad()
def test_a_narrow_table_keeps_its_tie(tiny):
    """Pitfall 54: E = A·B at the input, Bᵀ then Aᵀ at the output; and compressing the rest leaves both alone."""
    model = MaskedLM(Encoder(tiny.replace(dropout=0.0))).eval()
    model.encoder = factorize_embeddings(model.encoder, 8)
    smaller = compress(model, 0.5)
    assert type(smaller.encoder.embeddings.map) is nn.Linear and smaller.encoder.embeddings.word.weight.shape == (40, 8)
    table = smaller.encoder.embeddings.word.weight @ smaller.encoder.embeddings.map.weight.T
    states = torch.randn(3, tiny.hidden_size)
    assert torch.allclose(smaller.encoder.embeddings.decode(states), states @ table.T, atol=1e-5)
    wide = compress(model, 0.9, exclude=())  # even a factorised map serves both sides
    assert isinstance(wide.encoder.embeddings.map, LowRankLinear)
    assert wide(IDS).logits.isfinite().all()


@torch.no_grad()
def test_a_tied_weight_is_left_alone():
    tied = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9), nn.Linear(9, 8))
    tied[1].weight = tied[0].weight
    smaller = compress(tied, 0.5)
    assert smaller[1].weight is smaller[0].weight and isinstance(smaller[2], LowRankLinear)
    assert low_rank_report(tied, smaller, 0.5).layers[1].what == "skipped: weight tied to 0"
    assert plan_ranks(tied, 0.5) == {"2": 2}


@torch.no_grad()
def test_calibration_sees_real_tokens_only(model):
    """More padding changes nothing; and moments computed once serve for several shares."""
    batches = texts()
    padded = [{name: nn.functional.pad(value, (0, 5)) for name, value in batch.items()} for batch in batches]
    layers = factorizable(model)
    one, other = (input_moments(model, each, layers) for each in (batches, padded))
    for path in layers:
        assert torch.allclose(one[path].covariance, other[path].covariance, atol=1e-5)
        assert one[path].count == other[path].count
    direct, from_moments = compress(model, 0.5, batches), compress(model, 0.5, one)
    assert torch.allclose(direct(IDS).logits, from_moments(IDS).logits, atol=1e-6)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert one["encoder.layers.0.ffn.up"].count == tokens and one["encoder.pooler"].count == 15


@torch.no_grad()
def test_moments_by_hand(model):
    batch = {"input_ids": IDS, "attention_mask": IDS > 0}
    moments = input_moments(model, [batch], {"q": model.encoder.layers[0].attention.query})["q"]
    rows = model.encoder.embeddings(IDS)[IDS > 0].double()
    assert torch.allclose(moments.mean, rows.mean(0), atol=1e-6)
    assert torch.allclose(moments.covariance, rows.T.cov(correction=0), atol=1e-6)


@torch.no_grad()
def test_calibration_helps_the_model(tiny):
    """States, not only one layer, are nearer to the dense model's at equal rank."""
    dense = Encoder(tiny.replace(dropout=0.0)).eval()
    for parameter in dense.parameters():
        parameter.mul_(3)  # away from the linear regime of tiny weights
    batches = texts(20)
    ids, mask = (torch.cat([batch[name] for batch in batches]) for name in ("input_ids", "attention_mask"))
    exact = dense(ids, mask).last_hidden[mask]
    errors = [(compress(dense, 0.3, each)(ids, mask).last_hidden[mask] - exact).norm() for each in (None, batches)]
    assert errors[1] < 0.9 * errors[0]


def padding_only() -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": IDS, "attention_mask": torch.zeros(2, 4, dtype=torch.bool)}]


@pytest.mark.parametrize(
    ("keep", "calibration", "message"),
    [
        (0.0, None, "keep is the share"),
        (1.2, None, "keep is the share"),
        ({"encoder.layers.0.ffn.up": 25}, None, "lies between 1 and 24, got 25"),
        ({"encoder.layers.0.ffn.upp": 2}, None, "encoder.layers.0.ffn.up"),
        ({"classifier": 1}, None, "classifier"),
        (0.5, [], "no batches"),
        (0.5, padding_only(), "at least one real token"),
        (0.5, {}, "no moments of encoder.layers.0.attention.query"),
    ],
)
def test_bad_input_leaves_the_model_alone(model, keep, calibration, message):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        compress(model, keep, calibration)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_weights_and_models(model):
    model.encoder.layers[1].ffn.down.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"encoder\.layers\.1\.ffn\.down\.weight has 1 NaN or infinite"):
        compress(model, 0.5)
    with pytest.raises(ValueError, match=r"no plain nn\.Linear to factorise"):
        compress(nn.LayerNorm(3), 0.5)
