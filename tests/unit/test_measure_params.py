import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.measure import break_even_embedding_size, count_parameters, embedding_parameters
from coursekit.models import MaskedLM, SharingPlan, TransformerConfig, build


class Quantized(nn.Module):
    """Codes and scales as buffers, the bias a parameter."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def logical_parameters(self) -> int:
        return self.codes.numel() + self.bias.numel()


def test_counts_by_hand():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    model[1].requires_grad_(False)
    count = count_parameters(model)
    assert (count.total, count.trainable, count.bytes) == (3 * 4 + 4 + 8, 16, 24 * 4)
    assert count.by_component == {"0": 16, "1": 8}


def test_bytes_follow_the_number_format():
    assert count_parameters(nn.Linear(3, 4).bfloat16()).bytes == 16 * 2


def test_tied_tensor_counts_once_under_its_first_name():
    model = nn.ModuleDict({"embeddings": nn.Embedding(7, 5), "out": nn.Linear(5, 7)})
    model["out"].weight = model["embeddings"].weight
    count = count_parameters(model)
    assert count.total == 7 * 5 + 7
    assert count.by_component == {"embeddings": 35, "out": 7}


def test_equal_copies_are_not_tied():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.load_state_dict(first.state_dict())
    assert count_parameters(nn.ModuleList([first, second])).total == 12


def test_shared_module_counts_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.ModuleList([layer] * 5)).total == 12


def test_quantized_layer_counts_the_weights_it_stands_for():
    count = count_parameters(nn.ModuleDict({"layers": Quantized(8, 4), "head": nn.Linear(4, 2)}))
    assert count.by_component == {"layers": 8 * 4 + 4, "head": 10}
    assert count.trainable == 4 + 10
    assert count.bytes == (32 * 1 + 4 * 4 + 4 * 4) + 10 * 4


def test_shared_quantized_layer_counts_once():
    layer = Quantized(8, 4)
    depths = nn.ModuleList([nn.Sequential(layer), nn.Sequential(layer)])
    assert count_parameters(depths).total == 36


def test_bert_base_piece_by_piece():
    count = count_parameters(build("bert-base", device="meta"))
    assert count.total == count.trainable == 109_482_240
    assert count.bytes == 4 * 109_482_240
    pieces = count.by_component
    assert pieces["embeddings.word"] == 23_440_896
    assert pieces["embeddings.position"] == 393_216
    assert pieces["embeddings.token_type"] == pieces["embeddings.norm"] == 1_536
    assert pieces["layers.attention"] == 12 * 4 * (768 * 768 + 768)
    assert pieces["layers.ffn"] == 12 * (2 * 768 * 3072 + 768 + 3072)
    assert pieces["layers.attention_norm"] == pieces["layers.ffn_norm"] == 12 * 2 * 768
    assert pieces["pooler"] == 590_592
    assert sum(pieces.values()) == count.total


def test_albert_is_counted_as_shared():
    pieces = count_parameters(build("albert-base", device="meta")).by_component
    assert pieces["layers.attention"] + pieces["layers.attention_norm"] == 2_363_904
    assert pieces["layers.ffn"] + pieces["layers.ffn_norm"] == 4_723_968
    assert pieces["embeddings.map"] == 99_072


@given(depth=st.integers(3, 6), hidden=st.sampled_from([4, 8]))
@settings(deadline=None, max_examples=10)
def test_sandwich_holds_three_blocks_at_any_depth(depth, hidden):
    config = TransformerConfig(11, hidden, depth, 2, 2 * hidden, sharing=SharingPlan.sandwich(depth))
    pieces = count_parameters(build(config, device="meta")).by_component
    assert pieces["layers.attention"] == 3 * 4 * (hidden * hidden + hidden)
    assert pieces["layers.ffn_norm"] == depth * 2 * hidden


def test_a_wrapped_encoder_keeps_its_component_names():
    encoder = build(TransformerConfig(11, 4, 2, 2, 8))
    alone, wrapped = count_parameters(encoder).by_component, count_parameters(MaskedLM(encoder)).by_component
    assert {name: wrapped[name] for name in alone} == alone
    assert {name for name in wrapped if name not in alone} == {"head.dense", "head.norm", "head.bias"}


def test_two_stacks_add_up_by_role():
    pieces = count_parameters(build("transformer-base", device="meta")).by_component
    attention = 4 * (512 * 512 + 512)
    assert pieces["embeddings.word"] == 32_768 * 512
    assert pieces["layers.attention"] == 12 * attention
    assert pieces["layers.cross"] == 6 * attention
    assert sum(pieces.values()) == 60_915_712


def test_table_shows_every_component_and_the_total():
    lines = str(count_parameters(nn.ModuleDict({"body": nn.Linear(30, 100), "head": nn.Linear(100, 9)})))
    assert lines.splitlines()[0].split() == ["body", "3,100", "77.3%"]
    assert lines.splitlines()[-1].split() == ["total", "4,009", "100.0%"]
    assert count_parameters(nn.Dropout()).total == 0 and "total" in str(count_parameters(nn.Dropout()))


def test_something_else_than_a_module_is_refused():
    with pytest.raises(ValueError, match="torch.nn.Module, got str 'bert-base'"):
        count_parameters("bert-base")


def test_embeddings_by_hand():
    assert embedding_parameters(100, 10) == 1000
    assert embedding_parameters(100, 10, 5, "linear") == 550
    assert embedding_parameters(100, 10, 5, kind="safe") == 675
    assert break_even_embedding_size(30_000, 768) == pytest.approx(748.83, abs=0.01)


@given(V=st.integers(1, 500), d_m=st.integers(1, 500), d_v=st.integers(1, 500))
@settings(deadline=None)
def test_break_even_divides_smaller_from_larger(V, d_m, d_v):
    full, linear = embedding_parameters(V, d_m), embedding_parameters(V, d_m, d_v, "linear")
    assert (linear < full) == (d_v * (V + d_m) < V * d_m)
    edge = break_even_embedding_size(V, d_m)
    assert edge * (V + d_m) == pytest.approx(full)
    assert embedding_parameters(V, d_m, d_v, "safe") - linear == 5 * d_v * d_v


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10), "V must be an integer of at least 1, got 0"),
        ((100, -1), "d_m must be .* got -1"),
        ((100, 10, None, "linear"), "d_v must be .* got None"),
        ((100, 10, 2.5, "safe"), "d_v must be .* got 2.5"),
        ((100, float("nan")), "d_m must be .* got nan"),
        ((100, 10, 5, "lineal"), "unknown embedding kind 'lineal'; nearest: linear"),
    ],
)
def test_bad_embedding_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        embedding_parameters(*arguments)


def test_bad_break_even():
    with pytest.raises(ValueError, match="d_m must be"):
        break_even_embedding_size(100, 0)
