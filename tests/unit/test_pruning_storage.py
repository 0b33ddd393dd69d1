"""Bytes of sparse forms against tensors really stored so, and the report of a pruned model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.compress.pruning import (
    apply_masks,
    finalize,
    magnitude_mask,
    magnitude_masks,
    prune_ffn,
    prune_heads,
    pruning_report,
    sparse_bytes,
)
from coursekit.measure import stored_bytes
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@given(rows=st.integers(1, 6), columns=st.integers(1, 20), sparsity=st.floats(0, 1), half=st.booleans())
@settings(deadline=None, max_examples=30)
def test_bytes_are_those_of_the_real_forms(rows, columns, sparsity, half):
    torch.manual_seed(0)
    weight = torch.randn(rows, columns, dtype=torch.bfloat16 if half else torch.float32)
    mask = magnitude_mask(weight, sparsity)
    found = sparse_bytes(weight * mask, index_bytes=8)
    csr = nn.ParameterDict({"weight": nn.Parameter((weight * mask).to_sparse_csr())})
    assert found.csr == stored_bytes(csr)
    packed = np.packbits(mask.numpy())
    assert found.bitmask == packed.nbytes + weight[mask].numel() * weight.element_size()
    assert found.dense == weight.numel() * weight.element_size()
    assert sparse_bytes(mask, value_bytes=weight.element_size(), index_bytes=8) == found


def test_when_it_pays():
    """A tenth of the weights left is a fifth of the bytes in CSR and 13 % as a bitmask, not 10 %."""
    weight = torch.randn(100, 100)
    tenth = sparse_bytes(magnitude_mask(weight, 0.9))
    assert (tenth.dense, tenth.csr, tenth.bitmask) == (40_000, 8_000 + 404, 4_000 + 1_250)
    assert tenth.smallest == "bitmask"
    half = sparse_bytes(magnitude_mask(weight, 0.5))
    assert half.csr > half.dense > half.bitmask
    assert sparse_bytes(weight).smallest == "dense"
    assert sparse_bytes(magnitude_mask(weight, 0.999)).csr == 10 * 8 + 404
    with pytest.raises(ValueError, match=r"two dimensions \(out, in\), got shape \(4,\)"):
        sparse_bytes(torch.ones(4))


def test_a_masked_layer_counts_what_it_would_be(tiny):
    model = Encoder(tiny)
    apply_masks(model, magnitude_masks(model, 0.75))
    layer = model.layers[0].ffn.up
    assert sparse_bytes(layer) == sparse_bytes(layer.mask)
    assert sparse_bytes(layer).bitmask == 216 * 4 + 108


def test_report_lists_every_layer(tiny):
    before = SequenceClassifier(Encoder(tiny), 2)
    after = SequenceClassifier(Encoder(tiny), 2)
    prune_ffn(prune_heads(after, {0: [1]}), {1: [0, 1, 2]})
    apply_masks(after, {"encoder.layers.2.ffn.up": torch.rand(36, 24) > 0.5})
    report = pruning_report(before, after)
    assert report.bytes_before == stored_bytes(before)
    assert report.bytes_after == stored_bytes(after)
    rows = {layer.path.removeprefix("encoder."): layer for layer in report.layers}
    assert rows["layers.0.attention.query"].what == "24×24 → 18×24"
    assert rows["layers.0.attention.query"].bytes_after == 4 * (18 * 24 + 18)
    assert rows["layers.1.ffn.down"].what == "24×36 → 24×3"
    assert rows["layers.2.ffn.up"].what.startswith("masked, ")
    assert rows["layers.2.ffn.up"].bytes_after == rows["layers.2.ffn.up"].bytes_before + 36 * 24
    assert rows["embeddings.word"].skipped
    assert rows["layers.2.ffn_norm"].what == "skipped: LayerNorm left as it was"
    finalize(after)
    again = {layer.path: layer for layer in pruning_report(before, after).layers}
    assert "zeros, stored dense" in again["encoder.layers.2.ffn.up"].what
    assert again["encoder.layers.2.ffn.up"].bytes_after == again["encoder.layers.2.ffn.up"].bytes_before
    table = str(report)
    assert len(table.splitlines()) == len(report.layers) + 3
    assert f"{report.bytes_after:,}" in table.splitlines()[-1]


def test_report_counts_shared_and_own_tensors_once(tiny):
    """A masked LM's head holds a bias of its own beside its layers; ALBERT's block stands once."""
    model = MaskedLM(Encoder(tiny.replace(sharing=SharingPlan.all(3))))
    report = pruning_report(model, model)
    assert report.bytes_before == report.bytes_after == stored_bytes(model)
    assert all(layer.skipped for layer in report.layers)
    assert [layer.path for layer in report.layers if ".ffn.up" in layer.path] == ["encoder.layers.0.ffn.up"]
    smaller = MaskedLM(Encoder(tiny.replace(num_layers=1)))
    assert {
        layer.what for layer in pruning_report(MaskedLM(Encoder(tiny)), smaller).layers if "layers.2" in layer.path
    } == {"removed"}
