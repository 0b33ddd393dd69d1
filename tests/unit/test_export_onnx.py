"""ONNX files: ONNX Runtime gives the model's outputs, and a shared weight is in the file once."""

import copy

import numpy as np
import pytest
import torch
from export_models import CONFIGS, PLAIN, batch, classifier, large

from coursekit.compress.lowrank import compress
from coursekit.compress.pruning import drop_layers, prune_ffn, prune_heads
from coursekit.compress.quantization import Scheme, quantize_model
from coursekit.compress.quantization.kernels import FEATURES
from coursekit.export import to_onnx
from coursekit.measure import stored_bytes
from coursekit.models import Encoder, MaskedLM, Seq2Seq, Seq2SeqConfig, SharingPlan

runtime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


def compare(model, file, names=("logits",), within=1e-4, codes=False):
    """Outputs of the file and of the model, on several shapes; returns the session.

    codes: where inputs are rounded, a sum that another processor ends in another last bit can fall to the next code;
    then half of the outputs must be as near as else, and the others near.
    """
    session = runtime.InferenceSession(str(to_onnx(model, file)), providers=["CPUExecutionProvider"])
    for rows, length in ((2, 9), (1, 1), (3, 24)):
        given = batch(rows, length, model.config.token_types)
        with torch.inference_mode():
            out = model(**given)
        found = session.run(list(names), {name: value.numpy() for name, value in given.items()})
        attributes = {"logits": "logits", "last_hidden_state": "last_hidden", "pooler_output": "pooled"}
        for name, values in zip(names, found, strict=True):
            expected = getattr(out, attributes[name]).numpy()
            assert values.shape == expected.shape
            off = np.abs(values - expected) / max(1, np.abs(expected).max())
            assert (np.median(off) if codes else off.max()) <= within, (name, rows, length)
            assert off.max() <= 100 * within
    return session


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shape_of_model(name, tmp_path):
    compare(classifier(CONFIGS[name]), tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["bert", "albert", "linear, pre-norm, tanh", "distilbert"])
def test_heads(name, tmp_path):
    config = CONFIGS[name]
    compare(large(MaskedLM(Encoder(config))), tmp_path / "lm.onnx")
    names = ("last_hidden_state", "pooler_output") if config.pooler else ("last_hidden_state",)
    session = compare(large(Encoder(config)), tmp_path / "encoder.onnx", names)
    asked = ["input_ids", "attention_mask", "token_type_ids"][: 2 + (config.token_types > 0)]
    assert [each.name for each in session.get_inputs()] == asked
    assert session.get_inputs()[0].shape == ["batch", "length"]


def test_shared_layers_are_written_once(tmp_path):
    """Twelve depths of one layer: a file of one layer and the word table, not of twelve."""
    shared = CONFIGS["albert"].replace(num_layers=12, sharing=SharingPlan.all(12))
    files = {}
    for name, config in {"shared": shared, "one": shared.replace(num_layers=1, sharing=None)}.items():
        model = classifier(config)
        files[name] = to_onnx(model, tmp_path / f"{name}.onnx").read_bytes()
        weights = sum(int(np.prod(each.dims)) for each in onnx.load_from_string(files[name]).graph.initializer)
        assert weights - 100 < stored_bytes(model) / 4 <= weights  # besides the weights only shapes and numbers
    nodes_of_eleven_depths = 11 * 60 * 100
    assert len(files["shared"]) < len(files["one"]) + nodes_of_eleven_depths


def test_smaller_models_are_written_smaller(tmp_path):
    model = classifier()
    plain = len(to_onnx(model, tmp_path / "plain.onnx").read_bytes())
    low = compress(model, 0.4)
    pruned = prune_ffn(prune_heads(copy.deepcopy(model), {0: [1], 2: [0, 3]}), {1: range(7), 3: [0]})
    short = drop_layers(copy.deepcopy(model), [0, 3])
    for name, small in {"low": low, "pruned": pruned, "short": short, "both": compress(pruned, 0.4)}.items():
        compare(small, tmp_path / f"{name}.onnx")
        saved = stored_bytes(model) - stored_bytes(small)
        assert (tmp_path / f"{name}.onnx").stat().st_size < plain - saved / 2, name


QUANTIZED = {
    "int8": {"scheme": "int8"},
    "int8 with tables": {"scheme": "int8", "embeddings": True},
    "int8 static": {"scheme": "int8-static"},
    "int8 smooth": {"scheme": "int8", "smooth": 0.5},
    "int8 weight only": {"scheme": "int8-weight-only"},
    "int4 in groups": {"scheme": Scheme(bits=4, group_size=16)},
    "ternary": {"scheme": "ternary"},
}


@pytest.mark.skipif(not FEATURES, reason="this processor saturates sums of int8 products in ONNX Runtime")
@pytest.mark.parametrize("name", QUANTIZED)
def test_codes(name, tmp_path):
    """The same integers as ours, so the same outputs; and a file of codes."""
    model = classifier(PLAIN.replace(vocab_size=600))
    calibration = [batch(4, 12, 2)] if "static" in name or "smooth" in name else None
    small = quantize_model(model, calibration=calibration, **QUANTIZED[name])
    compare(small, tmp_path / "small.onnx", codes=True)
    size, plain = (to_onnx(each, tmp_path / "x.onnx").stat().st_size for each in (small, model))
    saved = stored_bytes(model) - stored_bytes(small)
    assert plain - size > 0.7 * saved > 0


@pytest.mark.skipif(not FEATURES, reason="this processor saturates sums of int8 products in ONNX Runtime")
def test_codes_in_what_is_shared_pruned_or_factorised(tmp_path):
    shared = quantize_model(classifier(CONFIGS["albert"]), "int8")
    compare(shared, tmp_path / "shared.onnx", codes=True)
    assert (tmp_path / "shared.onnx").stat().st_size < stored_bytes(shared) + 4 * 60 * 150
    compare(quantize_model(compress(classifier(), 0.4), "int8"), tmp_path / "low.onnx", codes=True)
    compare(quantize_model(prune_heads(classifier(), {1: [0]}), "int8"), tmp_path / "pruned.onnx", codes=True)
    head = quantize_model(large(MaskedLM(Encoder(PLAIN))), "int8", embeddings=True)
    compare(head, tmp_path / "lm.onnx", codes=True)


def test_what_cannot_be_written(tmp_path):
    file = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="expected an Encoder, MaskedLM or SequenceClassifier, got Seq2Seq"):
        plan = SharingPlan.none(4, cross=True)
        to_onnx(Seq2Seq(Seq2SeqConfig(PLAIN.replace(token_types=0, pooler=False), 4, plan)), file)
    model = classifier()
    model.encoder.layers[1].ffn.up = torch.nn.Bilinear(2, 2, 2)
    with pytest.raises(ValueError, match="a Bilinear cannot be written as ONNX"):
        to_onnx(model, file)
    with pytest.raises(ValueError, match="in fp32 or in int8 per row, got int4"):
        to_onnx(quantize_model(classifier(), Scheme(bits=4, group_size=16), embeddings=True), file)
    assert not list(tmp_path.iterdir())  # nothing half-written
