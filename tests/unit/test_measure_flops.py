import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.measure import count_flops
from coursekit.models import (
    MaskedLM,
    SequenceClassifier,
    SharingPlan,
    TransformerConfig,
    build,
    preset,
)

TINY = TransformerConfig(13, 8, 3, 2, 16, pooler=False)


def layer_flops(B, T, d, ff):
    """2 × MACs of one encoder layer: projections, scores and weighted sum, feed-forward."""
    return 2 * B * (4 * T * d * d + 2 * T * T * d + 2 * T * d * ff)


@given(B=st.integers(1, 3), T=st.integers(1, 9), heads=st.sampled_from([1, 2, 4]), ff=st.integers(1, 20))
@settings(deadline=None, max_examples=20)
def test_encoder_follows_the_formula(B, T, heads, ff):
    model = build(TransformerConfig(13, 8, 2, heads, ff, pooler=False))
    assert count_flops(model, B, T) == 2 * layer_flops(B, T, 8, ff)


def test_bert_base_layers_at_128_tokens():
    encoder = build(preset("bert-base").replace(pooler=False), device="meta")
    flops = count_flops(encoder, 1, 128)
    assert flops == 12 * layer_flops(1, 128, 768, 3072)
    assert round(flops / 1e9, 2) == 22.35  # TinyBERT's Table 1 prints 22.5B


@pytest.mark.parametrize(("name", "giga"), [("tinybert-4", 1.25), ("tinybert-6", 11.17)])
def test_tinybert_layers_at_128_tokens(name, giga):
    flops = count_flops(build(preset(name).replace(pooler=False), device="meta"), 1, 128)
    assert round(flops / 1e9, 2) == giga


def test_pooler_and_heads():
    body = count_flops(build(TINY), 2, 5)
    pooled = TINY.replace(pooler=True)
    assert count_flops(build(pooled), 2, 5) - body == 2 * 2 * 8 * 8  # one token per sequence
    classifier = count_flops(SequenceClassifier(build(pooled), 3), 2, 5)
    assert classifier - body == 2 * 2 * (8 * 8 + 8 * 3)
    assert count_flops(MaskedLM(build(TINY)), 2, 5) - body == 2 * 10 * (8 * 8 + 8 * 13)


def test_factorised_embedding_adds_its_map():
    narrow = TINY.replace(embedding="factorised", embedding_size=4)
    assert count_flops(build(narrow), 2, 5) - count_flops(build(TINY), 2, 5) == 2 * 10 * 4 * 8


def test_two_stacks_read_the_ids_twice():
    flops = count_flops(build("transformer-base", device="meta"), 2, 5)
    cross = 2 * 2 * (4 * 5 * 512 * 512 + 2 * 5 * 5 * 512)
    vocabulary = 2 * 10 * 512 * 32_768
    assert flops == 12 * layer_flops(2, 5, 512, 2048) + 6 * cross + vocabulary


def test_sharing_changes_nothing():
    shared = TINY.replace(sharing=SharingPlan.all(3))
    assert count_flops(build(shared), 2, 5) == count_flops(build(TINY), 2, 5)


def test_masks_and_zeros_change_nothing():
    model = build(TINY)
    dense = count_flops(model, 2, 5)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    ids = torch.ones(2, 5, dtype=torch.long)
    assert count_flops(model, inputs={"input_ids": ids, "attention_mask": mask}) == dense
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert count_flops(model, inputs=(ids, mask)) == dense


def test_a_choice_that_depends_on_values_is_run_for_real():
    """Boolean indexing has no shape without values: 3 of 10 positions reach the vocabulary."""
    model = MaskedLM(build(TINY))
    ids = torch.ones(2, 5, dtype=torch.long)
    positions = torch.zeros(2, 5, dtype=torch.bool)
    positions[0, :3] = True
    flops = count_flops(model, inputs={"input_ids": ids, "positions": positions})
    assert flops == count_flops(build(TINY), 2, 5) + 2 * 3 * (8 * 8 + 8 * 13)


@pytest.mark.parametrize("grouped", [False, True])
def test_fused_attention_counts_with_and_without_values(grouped):
    class Attend(nn.Module):
        def forward(self, x):
            if grouped:
                x.sum().item()  # impossible on meta
            return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    assert count_flops(Attend(), inputs=torch.ones(2, 4, 16, 8)) == 2 * 2 * (2 * 4 * 16 * 16 * 8)


def test_fast_path_of_torchs_own_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    fast = torch.backends.mha.get_fastpath_enabled()
    assert count_flops(layer, inputs=torch.ones(2, 5, 8)) == layer_flops(2, 5, 8, 16)
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_plain_stacks_and_vectors():
    stack = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 2, bias=False))
    assert count_flops(stack, inputs=torch.ones(7, 4)) == 2 * 7 * (4 * 6 + 6 * 2)
    assert count_flops(stack, inputs=torch.ones(2, 7, 4)) == 2 * 14 * (4 * 6 + 6 * 2)

    class Score(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return x @ self.weight

    assert count_flops(Score(), inputs=torch.ones(3, 5, 4)) == 2 * 15 * 4


class Described(nn.Module):
    """A layer that multiplies in a way of its own, with a plain layer inside."""

    def __init__(self, real=False):
        super().__init__()
        self.inner, self.real, self.asked = nn.Linear(8, 8), real, []

    def forward(self, x):
        if self.real:
            x.max().item()
        return self.inner(x)

    def flops(self, rows):
        self.asked.append(rows)
        return 1000 * rows


@pytest.mark.parametrize("real", [False, True])
def test_a_layer_that_states_its_products_is_believed(real):
    layer = Described(real)
    model = nn.Sequential(nn.Linear(4, 8), layer, layer, nn.Linear(8, 2))
    flops = count_flops(model, inputs=torch.ones(2, 3, 4))
    assert flops == 2 * 6 * (4 * 8 + 8 * 2) + 2 * 6000  # runs twice, counts twice, its inner product never
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_the_outermost_of_nested_layers_speaks():
    outer = Described()
    outer.inner = Described()
    assert count_flops(outer, inputs=torch.ones(3, 8)) == 3000


def test_nothing_is_computed_where_shapes_suffice():
    seen = []

    class Note(nn.Linear):
        def forward(self, x):
            seen.append((x.device.type, self.weight.device.type, self.training))
            return super().forward(x)

    assert count_flops(Note(4, 4), inputs=torch.ones(3, 4)) == 96
    assert seen == [("meta", "meta", False)]


def test_model_and_random_states_stay_as_they_were():
    model = MaskedLM(build(TINY.replace(dropout=0.5)))
    model.encoder.layers[1].eval()
    flags = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate()
    positions = torch.ones(1, 4, dtype=torch.bool)
    for inputs in (None, {"input_ids": torch.ones(1, 4, dtype=torch.long), "positions": positions}):
        count_flops(model, *((1, 4) if inputs is None else ()), inputs=inputs)
        assert [module.training for module in model.modules()] == flags
        assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(value.device.type == "cpu" for value in model.state_dict().values())


def test_an_error_in_the_model_is_the_models_own_and_leaves_it_clean():
    model = build(TINY.replace(max_positions=4)).train()
    with pytest.raises(ValueError, match="5 tokens is longer than the 4 positions"):
        count_flops(model, 1, 5)
    assert model.training and all(not module._forward_pre_hooks for module in model.modules())
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()


def test_compiled_model_counts_as_the_plain_one():
    model = build(TINY)
    assert count_flops(torch.compile(model), 1, 4) == count_flops(model, 1, 4)


def test_huggingface_encoder_counts_the_same():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=13, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16
    )
    theirs = transformers.BertModel(config, add_pooling_layer=False)
    assert count_flops(theirs, 2, 5) == count_flops(build(TINY), 2, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 0, "length": 4}, "batch must be an integer of at least 1, got 0"),
        ({"batch": 1, "length": 2.0}, "length must be .* got 2.0"),
        ({"batch": 1}, "length must be .* got None"),
        ({}, "batch must be .* got None"),
        ({"batch": 1, "length": 2, "inputs": torch.ones(1, 2)}, "not both; got batch=1, length=2"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        count_flops(build(TINY, device="meta"), **arguments)


def test_something_else_than_a_module_is_refused():
    with pytest.raises(ValueError, match="torch.nn.Module"):
        count_flops(lambda ids: ids, 1, 4)
