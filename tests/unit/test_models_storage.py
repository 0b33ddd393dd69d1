"""Saving and loading: same outputs, sharing and ties, each tensor once, nothing half-written."""

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from coursekit.models import (
    Attention,
    Encoder,
    FeedForward,
    MaskedLM,
    SequenceClassifier,
    SharingPlan,
    TransformerConfig,
    load,
    replace_module,
    save,
)


def make(kind: str, config: TransformerConfig) -> nn.Module:
    """A model of each saved class."""
    encoder = Encoder(config)
    model = {"encoder": encoder, "lm": MaskedLM(encoder), "classifier": SequenceClassifier(encoder, 3)}[kind]
    return model.eval()


@pytest.mark.parametrize("kind", ["encoder", "lm", "classifier"])
@pytest.mark.parametrize("plan", [SharingPlan.none(3), SharingPlan.all(3), SharingPlan.sandwich(3)])
@torch.no_grad()
def test_round_trip(tiny: TransformerConfig, tmp_path, kind: str, plan: SharingPlan) -> None:
    """Equal outputs bit for bit, equal config, sharing kept, each distinct tensor stored once."""
    model = make(kind, tiny.replace(sharing=plan, embedding="factorised", embedding_size=8))
    ids = torch.randint(0, 40, (2, 5))
    other = load(save(model, tmp_path / "model"))
    assert not other.training
    assert other.config == model.config
    before, after = model(ids), other(ids)
    assert torch.equal(before.last_hidden, after.last_hidden)
    if kind != "encoder":
        assert torch.equal(before.logits, after.logits)
    encoder = other if kind == "encoder" else other.encoder
    assert (encoder.layers[0].ffn is encoder.layers[1].ffn) == (plan.ffn[0] == plan.ffn[1])
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())
    assert stored == sum(p.numel() for p in model.parameters())
    assert [p.requires_grad for p in other.parameters()] == [True] * len(list(model.parameters()))


@torch.no_grad()
def test_dtype_is_kept(tiny: TransformerConfig, tmp_path) -> None:
    """Half-precision weights come back in half precision."""
    assert load(save(Encoder(tiny).bfloat16(), tmp_path / "m")).embeddings.word.weight.dtype == torch.bfloat16


@torch.no_grad()
def test_replaced_shapes(tiny: TransformerConfig, tmp_path) -> None:
    """A narrower FFN and fewer heads, shared ones too, are rebuilt from their description."""
    model = Encoder(tiny.replace(sharing=SharingPlan.all(3))).eval()
    assert replace_module(model, model.layers[1].ffn, FeedForward(24, 7, "gelu")) == 3
    assert replace_module(model, model.layers[0].attention, Attention(24, 3, 6, 0.1)) == 3
    model.eval()
    other = load(save(model, tmp_path / "m"))
    ids = torch.randint(0, 40, (2, 5))
    assert torch.equal(model(ids).last_hidden, other(ids).last_hidden)
    assert other.layers[0].ffn is other.layers[2].ffn
    assert other.layers[2].ffn.up.out_features == 7
    assert other.layers[0].attention.num_heads == 3
    replaced = json.loads((tmp_path / "m" / "config.json").read_text())["replaced"]
    assert sorted(replaced) == ["layers.0.attention", "layers.0.ffn"]


def test_a_layer_without_description_is_refused(tiny: TransformerConfig, tmp_path) -> None:
    """What could not be rebuilt must not be written, and nothing is left behind."""
    model = Encoder(tiny)
    model.layers[0].ffn.up = nn.Sequential(nn.Linear(24, 36))
    with pytest.raises(ValueError, match=r"layers\.0\.ffn\.up: a Sequential has no describe"):
        save(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces_the_whole_folder(tiny: TransformerConfig, tmp_path) -> None:
    """No file of the former model stays."""
    save(Encoder(tiny), tmp_path / "m")
    (tmp_path / "m" / "old.txt").write_text("left over")
    save(MaskedLM(Encoder(tiny)), tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    assert isinstance(load(tmp_path / "m"), MaskedLM)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_bad_folders(tiny: TransformerConfig, tmp_path) -> None:
    """No model, a foreign one, a cut file, other shapes, a class from elsewhere."""
    with pytest.raises(FileNotFoundError, match="no model in"):
        load(tmp_path / "none")
    folder = save(Encoder(tiny), tmp_path / "m")
    header = json.loads((folder / "config.json").read_text())

    def write(**changes: object) -> None:
        (folder / "config.json").write_text(json.dumps(header | changes))

    write(format="other")
    with pytest.raises(ValueError, match="not written by coursekit"):
        load(folder)
    write(config=header["config"] | {"hidden_size": 48})
    with pytest.raises(ValueError, match="has shape"):
        load(folder)
    write(config=header["config"] | {"num_layers": 2})
    with pytest.raises(ValueError, match="disagree about layers.2"):
        load(folder)
    write(config=header["config"] | {"colour": "red"})
    with pytest.raises(ValueError, match="unknown config field 'colour'"):
        load(folder)
    write(replaced={"layers.0.ffn": {"cls": "subprocess:Popen", "arguments": {"args": "true"}}})
    with pytest.raises(ValueError, match="only coursekit's own"):
        load(folder)
    write()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or missing"):
        load(folder)
    with pytest.raises(ValueError, match="unknown model class 'Linear'"):
        save(nn.Linear(2, 2), tmp_path / "x")
