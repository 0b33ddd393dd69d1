"""Whole models: what is quantized and what is not, sharing and ties, files, calibration, bad input."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from coursekit.compress.lowrank import compress
from coursekit.compress.pruning import apply_masks, finalize
from coursekit.compress.quantization import (
    SCHEMES,
    Int8Linear,
    QuantizedEmbedding,
    QuantizedLinear,
    Scheme,
    input_statistics,
    prepare_qat,
    quantization_report,
    quantize,
    quantize_model,
)
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.models import Encoder, MaskedLM, Seq2Seq, SequenceClassifier, SharingPlan, TransformerConfig, load, save
from coursekit.models.seq2seq import Seq2SeqConfig

CALIBRATED = {"int8-static", "int4-gptq"}


def texts(batches: int = 3) -> list[dict[str, torch.Tensor]]:
    """Batches with padding on the right."""
    made = []
    for _ in range(batches):
        lengths = torch.randint(2, 8, (5,))
        made.append({"input_ids": torch.randint(1, 40, (5, 7)), "attention_mask": torch.arange(7) < lengths[:, None]})
    return made


def quantized(model: nn.Module, scheme: str, **options) -> nn.Module:
    """The model by a scheme, calibrated where it must be."""
    return quantize_model(model, scheme, calibration=texts() if scheme in CALIBRATED else None, **options)


@pytest.fixture
def wide(tiny: TransformerConfig) -> TransformerConfig:
    """Widths that int4's groups of 16 to 64 divide."""
    return tiny.replace(hidden_size=64, intermediate_size=96)


@pytest.mark.parametrize("scheme", SCHEMES)
@torch.no_grad()
def test_every_scheme_is_smaller_and_close(wide, scheme):
    """A copy with all linear layers of the encoder in codes; the model itself is as it was."""
    model = SequenceClassifier(Encoder(wide), 2).eval()
    ids = torch.randint(1, 40, (4, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exact = model(ids).last_hidden
    other = quantized(model, scheme)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert type(model.encoder.layers[0].ffn.up) is nn.Linear
    kinds = {path for path, module in other.named_modules() if isinstance(module, QuantizedLinear)}
    assert len(kinds) == 3 * 6 + 1
    assert type(other.classifier) is nn.Linear
    error = float((other(ids).last_hidden - exact).norm() / exact.norm())
    limit = {"int8": 0.03, "int8-static": 0.03, "int8-weight-only": 0.02, "ternary": 1.0}.get(scheme, 0.2)
    assert 0 < error < limit
    assert stored_bytes(other) < stored_bytes(model) * (0.5 if scheme.startswith("int8") else 0.45)
    assert count_parameters(other).total == count_parameters(model).total
    assert count_flops(other, 2, 5) == count_flops(model, 2, 5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embeddings", [False, True])
@torch.no_grad()
def test_round_trip(wide, tmp_path, scheme, embeddings):
    """Saved, loaded: equal outputs to the bit, sharing kept; the file is what `stored_bytes` says."""
    config = wide.replace(sharing=SharingPlan.sandwich(3), vocab_size=400, embedding="factorised", embedding_size=32)
    model = quantized(MaskedLM(Encoder(config)).eval(), scheme, embeddings=embeddings)
    ids = torch.randint(1, 40, (2, 5))
    folder = save(model, tmp_path / "m")
    other = load(folder)
    assert torch.equal(model(ids).logits, other(ids).logits)
    size = (folder / "model.safetensors").stat().st_size
    header = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little") + 8
    assert size - header == stored_bytes(model) == stored_bytes(other)


@pytest.mark.parametrize("gptq", [False, True])
@torch.no_grad()
def test_three_bits(wide, tmp_path, gptq):
    """Eight codes in three bytes, in layers and tables, nearest or by GPTQ; saved and loaded to the bit."""
    model, ids = Encoder(wide).eval(), torch.randint(1, 40, (4, 6))
    three = Scheme(3, "auto", gptq=gptq)
    other = quantize_model(model, three, embeddings=True, calibration=texts(6) if gptq else None)
    down = other.layers[0].ffn.down
    assert down.what == "int3 in groups of 48, packed, no activation codes"
    assert stored_bytes(down) == 96 * 64 * 3 // 8 + 64 * 2 * 4 + 64 * 4
    assert other.embeddings.word.what == "int3 per row"
    assert torch.equal(load(save(other, tmp_path / "m"))(ids).last_hidden, other(ids).last_hidden)
    four, exact = quantize_model(model, "int4", embeddings=True)(ids).last_hidden, model(ids).last_hidden
    assert (four - exact).norm() < (other(ids).last_hidden - exact).norm() < 0.5 * exact.norm()


@torch.no_grad()
def test_file_within_five_percent(tmp_path):
    """The header too, at a size nearer to real ones."""
    model = quantize_model(Encoder(TransformerConfig(3000, 128, 2, 4, 512)), "int4", embeddings=True)
    size = (save(model, tmp_path / "m") / "model.safetensors").stat().st_size
    assert stored_bytes(model) <= size <= 1.05 * stored_bytes(model)
    linear = 2 * (4 * 128**2 + 2 * 128 * 512) + 128**2
    assert stored_bytes(model) < (linear + (3000 + 512 + 2) * 128) * (4 + 32 / 64) / 8 + 20_000


@torch.no_grad()
def test_shared_layers_stay_shared(tiny):
    """One set of codes, used in all depths."""
    model = Encoder(tiny.replace(sharing=SharingPlan.all(3))).eval()
    other = quantize_model(model, "int8")
    assert other.layers[0].attention is other.layers[2].attention
    assert isinstance(other.layers[2].attention.query, Int8Linear)
    assert model.layers[0].attention.query is model.layers[2].attention.query
    one_layer = 4 * 24 * 24 + 2 * 24 * 36 + (5 * 24 + 36) * 8 + 2 * 2 * 24 * 4  # codes; scales and biases; LayerNorms
    assert stored_bytes(quantize_model(Encoder(tiny), "int8")) - stored_bytes(other) == 2 * one_layer


@torch.no_grad()
def test_one_layer_used_under_two_names():
    """Replaced wherever it is referred to, lists and attributes alike."""
    linear = nn.Linear(8, 8)
    model = nn.Sequential(linear, nn.Sequential(linear, nn.ReLU()))
    model.alias = linear
    other = quantize_model(model, "int8")
    assert isinstance(other[0], Int8Linear)
    assert other[0] is other[1][0] is other.alias
    assert isinstance(quantize_model(linear), Int8Linear)


@pytest.mark.parametrize("embedding", ["full", "linear", "factorised"])
@pytest.mark.parametrize("scheme", ["int8", "int4", "ternary"])
@torch.no_grad()
def test_tied_embeddings_on_both_sides_or_neither(wide, embedding, scheme):
    """The output scores with the very codes of the input, and no second table is stored."""
    size = None if embedding == "full" else 32
    model = MaskedLM(Encoder(wide.replace(embedding=embedding, embedding_size=size, vocab_size=300))).eval()
    neither = quantize_model(model, scheme)
    assert neither.encoder.embeddings.word.weight.dtype == torch.float32
    assert torch.equal(neither.encoder.embeddings.word.weight, model.encoder.embeddings.word.weight)
    both = quantize_model(model, scheme, embeddings=True)
    word = both.encoder.embeddings.word
    assert isinstance(word, QuantizedEmbedding)
    assert stored_bytes(both) < stored_bytes(neither)
    hidden = torch.randn(1, 32 if embedding == "factorised" else 64)
    seen = hidden @ both.encoder.embeddings.map.weight if embedding == "linear" else hidden
    torch.testing.assert_close(both.encoder.embeddings.decode(hidden), seen @ word(torch.arange(300)).T)


@torch.no_grad()
def test_a_table_in_two_places(tiny):
    """An encoder-decoder's one table: three uses, one set of codes."""
    model = Seq2Seq(Seq2SeqConfig(tiny.replace(token_types=0, pooler=False), 2)).eval()
    other = quantize_model(model, "int8", embeddings=True)
    assert other.encoder.embeddings.word is other.embeddings.word
    ids = torch.randint(1, 40, (2, 5))
    exact = model(ids, None, ids).logits
    assert (other(ids, None, ids).logits - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_weights_tied_by_tensor_are_left_alone():
    """Quantizing one side would untie them and grow the model: a language model's head on its own table."""
    model = nn.Module()
    model.table, model.body, model.head = nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 30, bias=False)
    model.head.weight = model.table.weight
    other = quantize_model(model, "int8", embeddings=True)
    assert other.head.weight is other.table.weight
    assert isinstance(other.body, Int8Linear)
    report = {layer.path: layer.what for layer in quantization_report(model, other).layers}
    assert report["table"] == "skipped: weight tied to head"
    assert stored_bytes(other) < stored_bytes(model)


@torch.no_grad()
def test_report_lists_every_layer(tiny):
    """All modules with weights and all attentions; what was skipped says why; bytes add up to the model's."""
    model = SequenceClassifier(Encoder(tiny.replace(sharing=SharingPlan.all(3))), 2)
    other = quantize_model(model, "int8", exclude=("classifier", "pooler"))
    report = quantization_report(model, other)
    what = {layer.path: layer.what for layer in report.layers}
    assert set(what) == {
        *(f"encoder.embeddings.{name}" for name in ("word", "position", "token_type", "norm")),
        "encoder.layers.0.attention",
        *(f"encoder.layers.0.attention.{name}" for name in ("query", "key", "value", "output")),
        "encoder.layers.0.attention_norm",
        *(f"encoder.layers.0.ffn.{name}" for name in ("up", "down")),
        "encoder.layers.0.ffn_norm",
        "encoder.pooler",
        "classifier",
    }
    assert what["encoder.layers.0.ffn.up"] == "int8 per row, dynamic activation codes"
    assert what["encoder.layers.0.attention"].startswith("skipped: scores, softmax")
    assert what["encoder.layers.0.ffn_norm"] == "skipped: LayerNorm stays in full precision"
    assert what["encoder.embeddings.word"] == "skipped: embedding table, left in full precision"
    assert what["encoder.pooler"] == what["classifier"] == "skipped: left in full precision on request"
    assert report.bytes_before == stored_bytes(model)
    assert report.bytes_after == stored_bytes(other)
    assert "int8 per row" in str(report)


@torch.no_grad()
def test_masked_lm_report_adds_up(wide):
    """The vocabulary bias has no layer of its own but is counted."""
    model = MaskedLM(Encoder(wide))
    other = quantize_model(model, "int4", embeddings=True)
    report = quantization_report(model, other)
    assert (report.bytes_before, report.bytes_after) == (stored_bytes(model), stored_bytes(other))
    assert {layer.path: layer.what for layer in report.layers}["encoder.layers.0.ffn.down"] == (
        "int4 in groups of 48, packed, no activation codes"
    )


@torch.no_grad()
def test_results_do_not_depend_on_the_rest_of_the_batch(tiny):
    """Dynamic codes per token: a text alone or with others, and with more padding."""
    model = quantize_model(Encoder(tiny).eval(), "int8")
    ids = torch.randint(1, 40, (3, 6))
    together = model(ids).last_hidden
    for row in range(3):
        torch.testing.assert_close(model(ids[row : row + 1]).last_hidden[0], together[row], atol=2e-5, rtol=1e-4)


def test_group_sizes():
    """auto: the largest divisor from 16 to 64, else the whole row."""
    auto = SCHEMES["int4"]
    assert [auto.groups(width) for width in (768, 384, 312, 1200, 24, 36, 7, 67)] == [
        64,
        64,
        52,
        60,
        24,
        36,
        None,
        None,
    ]
    assert Scheme(4, 32).groups(768) == 32
    assert Scheme(4).groups(768) is None


def test_what_changes_nothing_changes_nothing(tiny):
    """Bad input: one clear error, the model untouched."""
    model = Encoder(tiny).eval()
    before = copy.deepcopy(model.state_dict())
    empty = {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.zeros(2, 3, dtype=torch.bool)}
    for call, message in (
        (lambda: quantize_model(model, "int3"), "unknown scheme 'int3'; nearest: int8, int4"),
        (lambda: quantize_model(model, "int8-static"), "need calibration batches, got none"),
        (lambda: quantize_model(model, "int4-gptq"), "need calibration batches, got none"),
        (lambda: quantize_model(model, "int8", smooth=0.5), "need calibration batches, got none"),
        (lambda: quantize_model(model, "int8-static", calibration=[]), "epoch 0 has no batches"),
        (lambda: quantize_model(model, "int8-static", calibration=[empty]), "at least one real token"),
        (lambda: quantize_model(model, "int4", smooth=0.5), "this scheme has none"),
        (lambda: quantize_model(model, Scheme(4, 10)), "group size 10 does not divide the width 24 of layers.0"),
        (lambda: quantize_model(nn.ReLU()), "ReLU has no plain nn.Linear to quantize"),
        (lambda: quantize_model(quantize_model(model)), "no plain nn.Linear"),
        (lambda: Scheme(5), "8, 4, 3 or 2"),
        (lambda: Scheme(4, activations="dynamic"), "beside 8-bit weights alone"),
        (lambda: Scheme(8, 32), "groups are for 4 and 3 bits"),
        (lambda: Scheme(2, gptq=True), "ternary weights have their own rule"),
        (lambda: Scheme(4, 0), "group_size must be an integer of at least 1, got 0"),
        (lambda: Scheme(4, True), "group_size must be an integer of at least 1, got True"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.layers[1].ffn.down.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layers\.1\.ffn\.down\.weight has 1 NaN or infinite"):
        quantize_model(model)
    with pytest.raises(ValueError, match="the inputs of layers.2.attention.query are NaN or infinite"):
        input_statistics(model, texts(), {"layers.2.attention.query": model.layers[2].attention.query})


@pytest.mark.parametrize("scheme", ["int8", "int4", "ternary"])
def test_a_bias_that_is_not_finite(tiny, scheme):
    """It would pass through: codes are made of the weight alone."""
    model = Encoder(tiny)
    model.layers[1].ffn.up.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match=r"layers\.1\.ffn\.up\.bias has 1 NaN or infinite entries"):
        quantize_model(model, scheme)


def test_masks_have_to_be_made_permanent_first(tiny):
    """A model whose linears are all masked has nothing to quantize; the error says what to do."""
    masked = apply_masks(Encoder(tiny))
    for call in (quantize_model, prepare_qat, partial(compress, keep=0.5)):
        with pytest.raises(ValueError, match=r"no plain nn.Linear .* masked layers: .*pruning\.finalize\(model\)"):
            call(masked)
    assert any(hasattr(module, "codes") for module in quantize_model(finalize(masked)).modules())


@torch.no_grad()
def test_compressed_twice(wide):
    """Codes are codes of the weights given: quantizing a pruned model keeps its zeros."""
    model = Encoder(wide).eval()
    model.layers[0].ffn.up.weight[:, ::2] = 0
    other = quantize_model(model, "int8")
    assert (other.layers[0].ffn.up.codes[:, ::2] == 0).all()
    again = quantize(model.layers[0].ffn.up.weight, axis=0)
    assert torch.equal(other.layers[0].ffn.up.codes, again.codes)
