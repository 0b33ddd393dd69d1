"""Sharing the layers of a trained encoder afterwards."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.measure import count_parameters
from coursekit.models import Encoder, SharingPlan, load, save, share_layers


@pytest.fixture
def trained(tiny):
    """An encoder with no two weights alike, LayerNorms and biases included."""
    encoder = Encoder(tiny).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return encoder


IDS = torch.tensor([[1, 5, 9, 2], [7, 3, 3, 8]])


def last_hidden(encoder):
    with torch.inference_mode():
        return encoder(IDS).last_hidden


def equal_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("how", ["first", "mean"])
def test_the_plan_none_changes_nothing(trained, how):
    shared = share_layers(trained, SharingPlan.none(3), how=how)
    assert torch.equal(last_hidden(shared), last_hidden(trained))
    assert count_parameters(shared).total == count_parameters(trained).total


@pytest.mark.parametrize("how", ["first", "mean"])
@pytest.mark.parametrize(
    "make", [SharingPlan.all, SharingPlan.sandwich, SharingPlan.all_but_last, SharingPlan.ffn_only]
)
def test_it_counts_what_the_config_builds_and_shares_by_identity(trained, make, how):
    plan = make(3)
    shared = share_layers(trained, plan, how=how)
    built = Encoder(trained.config.replace(sharing=plan))
    assert shared.config == built.config
    assert count_parameters(shared).by_component == count_parameters(built).by_component
    assert [id(layer.attention) == id(shared.layers[0].attention) for layer in shared.layers] == [
        number == 0 for number in plan.attention
    ]
    assert [id(layer.ffn) == id(shared.layers[0].ffn) for layer in shared.layers] == [n == 0 for n in plan.ffn]


def test_parameters_drop_by_two_blocks_when_three_share_one(trained):
    # per depth: attention 4·(24² + 24), FFN 24·36 + 36 + 36·24 + 24, two LayerNorms of 48
    block = 4 * (24 * 24 + 24) + 2 * 24 * 36 + 36 + 24 + 2 * 48
    shared = share_layers(trained, SharingPlan.all(3))
    assert count_parameters(trained).total - count_parameters(shared).total == 2 * block


def test_first_keeps_the_first_depth_and_mean_averages(trained):
    plan = SharingPlan.all_but_last(3)
    first, mean = share_layers(trained, plan), share_layers(trained, plan, how="mean")
    blocks = [layer.ffn for layer in trained.layers]
    assert equal_weights(first.layers[1].ffn, blocks[0])
    assert equal_weights(mean.layers[2].ffn, blocks[2])
    expected = (blocks[0].up.weight + blocks[1].up.weight) / 2
    assert torch.allclose(mean.layers[0].ffn.up.weight, expected, atol=1e-7)
    assert equal_weights(mean.layers[1].ffn_norm, trained.layers[1].ffn_norm)  # private LayerNorms stay
    assert torch.equal(mean.embeddings.word.weight, trained.embeddings.word.weight)


@pytest.mark.parametrize("how", ["first", "mean"])
def test_the_original_is_untouched(trained, how):
    before = copy.deepcopy(trained)
    shared = share_layers(trained, SharingPlan.all(3), how=how)
    with torch.no_grad():
        for weight in shared.parameters():
            weight.zero_()
    assert equal_weights(trained, before) and trained.config == before.config
    assert len({id(layer.attention) for layer in trained.layers}) == 3


def test_equal_depths_lose_nothing(tiny):
    albert = Encoder(tiny.replace(sharing=SharingPlan.all(3))).eval()
    apart = share_layers(albert, SharingPlan.none(3))
    assert len({id(layer.attention) for layer in apart.layers}) == 3
    together = share_layers(apart, SharingPlan.all(3), how="mean")
    for encoder in (apart, together):
        assert torch.allclose(last_hidden(encoder), last_hidden(albert), atol=1e-6)
    assert count_parameters(together).total == count_parameters(albert).total < count_parameters(apart).total


def test_it_is_saved_and_trains_as_one(trained, tmp_path):
    shared = share_layers(trained, SharingPlan.sandwich(3), how="mean")
    save(shared, tmp_path / "model")
    assert torch.equal(last_hidden(load(tmp_path / "model")), last_hidden(shared))
    tied = share_layers(trained, SharingPlan.all(3))
    tied(IDS).last_hidden.square().sum().backward()
    assert tied.layers[2].attention.query.weight.grad is tied.layers[0].attention.query.weight.grad is not None


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=3), st.sampled_from(["first", "mean"]))
def test_any_plan_counts_what_it_would_build(blocks, how):
    from coursekit.models import TransformerConfig

    config = TransformerConfig(20, 8, 3, 2, 12, max_positions=4)
    plan = SharingPlan.from_blocks(blocks, blocks, "shared")
    shared = share_layers(Encoder(config), plan, how=how)
    assert count_parameters(shared).total == count_parameters(Encoder(config.replace(sharing=plan))).total


def test_bad_input(trained):
    with pytest.raises(ValueError, match="a plan for 4 depths was given to 3 layers"):
        share_layers(trained, SharingPlan.all(4))
    with pytest.raises(ValueError, match="an encoder's plan has 2 LayerNorms per depth, got 3"):
        share_layers(trained, SharingPlan.all(3, cross=True))
    with pytest.raises(ValueError, match="how must be 'first' or 'mean', got 'sum'"):
        share_layers(trained, SharingPlan.all(3), how="sum")
    trained.layers[1].ffn = type(trained.layers[1].ffn)(24, 30, "gelu")
    with pytest.raises(ValueError, match=r"cannot average the ffn of depths \[0, 1, 2\]"):
        share_layers(trained, SharingPlan.all(3), how="mean")
