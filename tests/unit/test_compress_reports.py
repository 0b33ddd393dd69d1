"""What holds for the reports of all three families, also where several methods were at work."""

import copy

import pytest
import torch

from coursekit.compress.lowrank import add_lora, compress, factorize_embeddings, low_rank_report
from coursekit.compress.pruning import (
    apply_masks,
    drop_layers,
    finalize,
    magnitude_masks,
    prune_ffn,
    prune_heads,
    pruning_report,
)
from coursekit.compress.quantization import quantization_report, quantize_model
from coursekit.measure import stored_bytes
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan, TransformerConfig, load, save

CONFIG = TransformerConfig(vocab_size=3000, hidden_size=128, num_layers=2, num_heads=4, intermediate_size=256)
REPORTS = {"low rank": low_rank_report, "pruning": pruning_report, "quantization": quantization_report}


def narrow(model):
    """The classifier with a word table of width 32."""
    model.encoder = factorize_embeddings(model.encoder, 32)
    return model


STEPS = {
    "nothing": lambda model: model,
    "masks": lambda model: apply_masks(model, magnitude_masks(model, 0.5)),
    "zeros": lambda model: finalize(apply_masks(model, magnitude_masks(model, 0.5))),
    "heads": lambda model: prune_heads(model, {0: [1]}),
    "neurons": lambda model: prune_ffn(model, {0: range(64)}),
    "layers": lambda model: drop_layers(model, [0]),
    "low rank": lambda model: compress(model, 0.5),
    "lora": lambda model: add_lora(model, 4),
    "narrow table": lambda model: narrow(model),
    "int8": lambda model: quantize_model(model, "int8"),
    "int8 tables": lambda model: quantize_model(model, "int8", embeddings=True),
    "int4": lambda model: quantize_model(model, "int4", embeddings=True),
}
STACKS = [
    *((name,) for name in STEPS),
    ("layers", "int8"),
    ("low rank", "int8"),
    ("heads", "low rank", "int4"),
    ("neurons", "masks"),
    ("narrow table", "int8 tables"),
    ("narrow table", "low rank"),
]


def model():
    """A small classifier."""
    torch.manual_seed(0)
    return SequenceClassifier(Encoder(CONFIG), 2).eval()


def stacked(names):
    """The classifier after these steps."""
    made = model()
    for name in names:
        made = STEPS[name](copy.deepcopy(made)) or made
    return made


@pytest.mark.parametrize("names", STACKS, ids=" + ".join)
@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_all_bytes_are_accounted_for(report, names):
    """Every layer once, and the rows add up to what is stored, whichever methods stand between."""
    before, after = model(), stacked(names)
    found = report(before, after)
    assert found.bytes_before == stored_bytes(before) and found.bytes_after == stored_bytes(after)
    paths = [row.path for row in found.layers]
    assert len(paths) == len(set(paths)) and "encoder.embeddings.word" in paths
    assert all(row.bytes_before == row.bytes_after for row in found.layers if row.skipped)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_masked_model_before(report):
    before = stacked(("masks",))
    assert report(before, stacked(("zeros",))).bytes_before == stored_bytes(before)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_tied_and_shared_once(report):
    torch.manual_seed(0)
    shared = MaskedLM(Encoder(CONFIG.replace(sharing=SharingPlan.all(2))))
    assert report(shared, copy.deepcopy(shared)).bytes_after == stored_bytes(shared)


def test_removed_and_new_layers_are_named():
    what = {row.path: row.what for row in quantization_report(model(), stacked(("layers", "int8"))).layers}
    assert what["encoder.layers.1.ffn.up"] == "removed"
    what = {row.path: row.what for row in low_rank_report(model(), stacked(("narrow table",))).layers}
    assert what["encoder.embeddings.word"] == "3000×128 → 3000×32" and what["encoder.embeddings.map"] == "new → Linear"
    what = {row.path: row.what for row in quantization_report(model(), stacked(("low rank", "int8"))).layers}
    assert what["encoder.layers.0.ffn.up"] == "Linear → LowRankLinear"
    assert "skipped" not in what["encoder.layers.0.ffn.up.down"]


@pytest.mark.parametrize("names", STACKS, ids=" + ".join)
def test_stored_bytes_are_those_of_the_file(names, tmp_path):
    """`stored_bytes` counts codes, scales, indices and masks: at most 5 % under the file, which has a header too."""
    made = stacked(names)
    folder = save(made, tmp_path / "model")
    size = (folder / "model.safetensors").stat().st_size
    assert stored_bytes(made) <= size <= 1.05 * stored_bytes(made)
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(load(folder)(ids).logits, made(ids).logits)
