"""Heads, neurons and layers removed for good: equal to masking, really smaller, shared blocks everywhere."""

import copy
import json

import pytest
import torch
from torch import nn

from coursekit.compress.pruning import apply_masks, drop_layers, prune_ffn, prune_heads
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.models import Encoder, MaskedLM, Seq2Seq, Seq2SeqConfig, SequenceClassifier, SharingPlan, load, save


@pytest.fixture
def encoder(tiny) -> Encoder:
    """Random biases too: with zero ones a forgotten bias would not show."""
    return with_biases(Encoder(tiny))


def with_biases(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model.eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 40, (2, 7))


def mask_heads(encoder: Encoder, layer: int, heads: list[int]) -> None:
    with torch.no_grad():
        for head in heads:
            encoder.layers[layer].attention.output.weight[:, head * 6 : head * 6 + 6] = 0


@torch.no_grad()
def test_removing_heads_is_masking_them(encoder, ids) -> None:
    """Pitfall 62: same outputs, head size and scale stay, parameters and products really go."""
    masked = copy.deepcopy(encoder)
    mask_heads(masked, 0, [1, 3])
    mask_heads(masked, 2, [0])
    parameters, flops = count_parameters(encoder).total, count_flops(encoder, 2, 7)
    assert prune_heads(encoder, {0: [3, 1], 2: (0,)}) is encoder
    torch.testing.assert_close(encoder(ids).last_hidden, masked(ids).last_hidden, atol=1e-6, rtol=0)
    assert [layer.attention.num_heads for layer in encoder.layers] == [2, 4, 3]
    assert encoder.layers[0].attention.head_size == 6
    assert encoder.layers[0].attention.query.weight.shape == (12, 24)
    assert encoder.layers[0].attention.output.weight.shape == (24, 12)
    # Per head: 3 × (6 rows of 24 + 6 biases) and 6 columns of 24.
    assert parameters - count_parameters(encoder).total == 3 * (3 * (6 * 24 + 6) + 6 * 24)
    # Per head and token: 4 · 6 · 24 multiply-accumulates of projections, 2 · 7 · 6 of attention.
    assert flops - count_flops(encoder, 2, 7) == 3 * 2 * 14 * (4 * 6 * 24 + 2 * 7 * 6)
    assert encoder.config.num_heads == 4


@torch.no_grad()
def test_removing_neurons_is_masking_their_columns(encoder, ids) -> None:
    """Pitfall 63: bias and output column go too; zeroing the row of `up` alone would leave act(bias) flowing."""
    keep = [0, 3, 4, 20, 35]
    masked, wrong = copy.deepcopy(encoder), copy.deepcopy(encoder)
    gone = [neuron for neuron in range(36) if neuron not in keep]
    masked.layers[1].ffn.down.weight[:, gone] = 0
    wrong.layers[1].ffn.up.weight[gone] = 0
    parameters = count_parameters(encoder).total
    prune_ffn(encoder, {1: torch.tensor(keep).flip(0)})
    torch.testing.assert_close(encoder(ids).last_hidden, masked(ids).last_hidden, atol=1e-6, rtol=0)
    assert (encoder(ids).last_hidden - wrong(ids).last_hidden).abs().max() > 0.01
    assert encoder.layers[1].ffn.up.weight.shape == (5, 24)
    assert encoder.layers[1].ffn.intermediate_size == 5
    assert parameters - count_parameters(encoder).total == 31 * (24 + 1 + 24)


@torch.no_grad()
def test_dropping_layers(encoder, ids) -> None:
    first, last = encoder.layers[0], encoder.layers[2]
    expected, _ = last(first(encoder.embeddings(ids))[0])
    drop_layers(encoder, [0, 2])
    assert encoder.config.num_layers == encoder.embeddings.config.num_layers == len(encoder.layers) == 2
    assert torch.equal(encoder(ids).last_hidden, expected)
    assert encoder.layers[1] is last


@pytest.mark.parametrize("kind", ["encoder", "lm", "classifier"])
@torch.no_grad()
def test_all_together_saved_and_reloaded(encoder, ids, tmp_path, kind) -> None:
    """Through the head or on the encoder inside: the file is smaller and gives the same outputs."""
    model = {"encoder": lambda e: e, "lm": MaskedLM, "classifier": lambda e: SequenceClassifier(e, 3)}[kind](encoder)
    model.eval()
    before = save(model, tmp_path / "before")
    bytes_before = stored_bytes(model)
    assert prune_heads(model, {0: [0, 1, 2], 1: [2]}) is model
    prune_ffn(encoder, {0: range(0, 36, 2), 2: [7]})
    drop_layers(model, (0, 2))
    after = save(model, tmp_path / "after")
    other = load(after)
    assert other.config == model.config
    output, again = model(ids), other(ids)
    assert torch.equal(output.last_hidden, again.last_hidden)
    if kind != "encoder":
        assert torch.equal(output.logits, again.logits)
    for folder, expected in ((before, bytes_before), (after, stored_bytes(model))):
        file = (folder / "model.safetensors").read_bytes()
        assert len(file) - 8 - int.from_bytes(file[:8], "little") == expected  # all but the header
    assert stored_bytes(model) < 0.7 * bytes_before


def test_what_trained_still_trains(encoder, ids) -> None:
    encoder.layers[0].attention.query.weight.requires_grad_(False)
    prune_heads(encoder.bfloat16(), {0: [0]})
    assert encoder.layers[0].attention.query.weight.dtype == torch.bfloat16
    assert not encoder.layers[0].attention.query.weight.requires_grad
    assert encoder.layers[0].attention.key.weight.requires_grad
    encoder(ids).last_hidden.sum().backward()
    assert encoder.layers[0].attention.key.weight.grad.shape == (18, 24)


@torch.no_grad()
def test_a_shared_block_loses_it_everywhere(tiny, ids, tmp_path) -> None:
    """Pitfall 68, and depths that share a block cannot be asked for different heads."""
    encoder = with_biases(Encoder(tiny.replace(sharing=SharingPlan.every(3, 2))))  # 0 0 1
    masked = copy.deepcopy(encoder)
    mask_heads(masked, 0, [2])
    prune_heads(encoder, {1: [2]})
    assert encoder.layers[0].attention is encoder.layers[1].attention
    assert [layer.attention.num_heads for layer in encoder.layers] == [3, 3, 4]
    torch.testing.assert_close(encoder(ids).last_hidden, masked(ids).last_hidden, atol=1e-6, rtol=0)
    prune_heads(encoder, {0: [0, 1], 1: [1, 0]})  # the same set twice is one removal
    assert encoder.layers[0].attention.num_heads == 1
    prune_ffn(encoder, {0: [1, 2]})
    assert encoder.layers[1].ffn.up.out_features == 2
    other = load(save(encoder, tmp_path / "m"))
    assert torch.equal(other(ids).last_hidden, encoder(ids).last_hidden)
    assert other.layers[0].attention is other.layers[1].attention
    with pytest.raises(ValueError, match="layers 0 and 1 share their ffn but name different neurons"):
        prune_ffn(encoder, {0: [0], 1: [1]})


@torch.no_grad()
def test_dropping_shared_layers_keeps_the_plan_true(tiny, ids, tmp_path) -> None:
    config = tiny.replace(num_layers=6, sharing=SharingPlan.sandwich(6))
    encoder = with_biases(Encoder(config))
    drop_layers(encoder, [1, 2, 5])
    assert encoder.config.sharing == SharingPlan((0, 0, 1), (0, 0, 1), ((0, 1), (2, 3), (4, 5)))
    other = load(save(encoder, tmp_path / "m"))
    assert other.layers[0].ffn is other.layers[1].ffn
    assert other.layers[0].ffn_norm is not other.layers[1].ffn_norm
    assert torch.equal(other(ids).last_hidden, encoder(ids).last_hidden)
    albert = Encoder(tiny.replace(sharing=SharingPlan.all(3)))
    assert drop_layers(albert, [2]).config.sharing == SharingPlan.all(1)


@torch.no_grad()
def test_a_sandwich_of_another_width(tiny, ids, tmp_path) -> None:
    """Its projections live in the second and the last depth: those stay. Inner heads count as they are."""
    config = tiny.replace(
        num_layers=5, sharing=SharingPlan.sandwich(5), inner_size=30, inner_heads=5, inner_intermediate_size=40
    )
    encoder = with_biases(Encoder(config))
    for keep in ([0, 2, 4], [1, 4], [0, 1, 2]):
        with pytest.raises(ValueError, match="keep 0, 1 and 4; got"):
            drop_layers(encoder, keep)
    prune_heads(encoder, {2: [4]})
    drop_layers(encoder, [0, 1, 3, 4])
    other = load(save(encoder, tmp_path / "m"))
    assert torch.equal(other(ids).last_hidden, encoder(ids).last_hidden)
    assert [layer.attention.num_heads for layer in other.layers] == [4, 4, 4, 4]


BAD_CALLS = {
    "layer 1 would lose all its 4 heads": lambda e: prune_heads(e, {0: [1], 1: range(4)}),
    "there is no layer 3; the encoder has layers 0 to 2": lambda e: prune_heads(e, {0: [1], 3: [0]}),
    "there is no layer -1": lambda e: prune_ffn(e, {0: [1], -1: [0]}),
    "layer 2 has no head 4; it has heads 0 to 3": lambda e: prune_heads(e, {0: [1], 2: [4]}),
    "layer 2 has no head -1": lambda e: prune_heads(e, {0: [1], 2: [-1]}),
    "layer 2: a head is named twice": lambda e: prune_heads(e, {0: [1], 2: [1, 1]}),
    "layer 2 has no neuron 36; it has neurons 0 to 35": lambda e: prune_ffn(e, {0: [1], 2: [36]}),
    "layer 2 must keep at least one of its 36 neurons": lambda e: prune_ffn(e, {0: [1], 2: []}),
    "neuron numbers must be integers, got True": lambda e: prune_ffn(e, {0: torch.ones(36, dtype=torch.bool)}),
    "head numbers must be integers, got 1.5": lambda e: prune_heads(e, {0: [1.5]}),
    "head numbers must be a list of integers, got 1": lambda e: prune_heads(e, {0: 1}),
    "rising numbers of at least one layer, got \\[\\]": lambda e: drop_layers(e, []),
    "rising numbers of at least one layer, got \\[1, 0\\]": lambda e: drop_layers(e, [1, 0]),
    "rising numbers of at least one layer, got \\[1, 1\\]": lambda e: drop_layers(e, [1, 1]),
    "there is no layer 7": lambda e: drop_layers(e, [0, 7]),
}


@pytest.mark.parametrize("message", BAD_CALLS)
def test_bad_requests_leave_the_encoder_alone(encoder, message) -> None:
    before, config = copy.deepcopy(encoder.state_dict()), encoder.config
    with pytest.raises(ValueError, match=message):
        BAD_CALLS[message](encoder)
    assert encoder.config is config
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["layers.1.attention.key.weight", "layers.0.ffn.up.bias", "embeddings.word.weight"])
def test_weights_that_are_not_finite_are_refused(encoder, name) -> None:
    with torch.no_grad():
        encoder.get_parameter(name).view(-1)[5] = torch.nan
    for call in (
        lambda: prune_heads(encoder, {0: [1]}),
        lambda: prune_ffn(encoder, {0: [1]}),
        lambda: drop_layers(encoder, [0, 2]),
    ):
        with pytest.raises(ValueError, match=f"^{name} has 1 NaN or infinite entries"):
            call()
    assert len(encoder.layers) == 3
    assert (encoder.layers[0].attention.num_heads, encoder.layers[0].ffn.intermediate_size) == (4, 36)


def test_masked_projections_are_refused(encoder) -> None:
    apply_masks(encoder, {"layers.1.attention.key": torch.ones(24, 24, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"layer 1: attention\.key is a MaskedLinear; prune first"):
        prune_heads(encoder, {0: [0], 1: [0]})
    assert encoder.layers[0].attention.num_heads == 4


@torch.no_grad()
def test_heads_and_neurons_of_a_translator(tiny, tmp_path) -> None:
    """Through its encoder, whose depth must stay: the config of the whole is another."""
    model = Seq2Seq(Seq2SeqConfig(tiny.replace(token_types=0, pooler=False), decoder_layers=1)).eval()
    prune_ffn(prune_heads(model.encoder, {0: [0]}), {1: [3, 4]})
    source, target = torch.randint(1, 40, (2, 5)), torch.randint(1, 40, (2, 4))
    other = load(save(model, tmp_path / "m"))
    assert torch.equal(other(source, None, target).logits, model(source, None, target).logits)
    with pytest.raises(ValueError, match="expected an Encoder, MaskedLM or SequenceClassifier, got Seq2Seq"):
        drop_layers(model, [0])


def test_the_file_says_what_is_left(encoder, tmp_path) -> None:
    prune_ffn(prune_heads(encoder, {1: [0]}), {2: [3]})
    replaced = json.loads((save(encoder, tmp_path / "m") / "config.json").read_text())["replaced"]
    assert {path: entry["arguments"] for path, entry in replaced.items()} == {
        "layers.1.attention": {"hidden_size": 24, "num_heads": 3, "head_size": 6, "dropout": 0.1},
        "layers.2.ffn": {"hidden_size": 24, "intermediate_size": 1, "activation": "gelu"},
    }
