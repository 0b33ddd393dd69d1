"""Masks on a training model: what is pruned stays pruned, through optimizers, copies and files."""

import copy
import math

import pytest
import torch
from torch import nn

from coursekit.compress.pruning import (
    MaskedLinear,
    apply_masks,
    finalize,
    magnitude_mask,
    magnitude_masks,
    prunable,
    set_sparsity,
)
from coursekit.measure import count_flops, stored_bytes
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan, load, save


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def zeros(model: nn.Module) -> dict[str, int]:
    return {path: int((~layer.mask).sum()) for path, layer in prunable(model).items()}


def test_pruned_weights_stay_zero_through_adamw():
    """Pitfall 57: momentum brings back a weight that was zeroed by hand; a masked one stays zero in the product."""
    x = torch.randn(32, 6)
    plain = two_layers()
    masked = apply_masks(copy.deepcopy(plain))
    returned = {}
    for name, model in (("by hand", plain), ("masked", masked)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        first = model[0]
        for step in range(6):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            if step == 2:  # moments exist by now
                mask = magnitude_mask(first.weight, 0.5)
                if name == "masked":
                    apply_masks(model, {"0": mask})
                else:
                    first.weight.data *= mask
        weight = first.masked_weight() if name == "masked" else first.weight
        returned[name] = int((weight[~mask] != 0).sum())
    assert returned == {"by hand": 24, "masked": 0}
    assert torch.equal(finalize(masked)[0].weight != 0, mask)


def test_pruned_weights_get_no_gradient_and_outputs_are_those_of_zeros():
    model, x = two_layers(), torch.randn(5, 6)
    masks = magnitude_masks(model, 0.5)
    zeroed = copy.deepcopy(model)
    for path, mask in masks.items():
        zeroed.get_submodule(path).weight.data *= mask
    apply_masks(model, masks)
    assert torch.equal(model(x), zeroed(x))
    model(x).sum().backward()
    assert (model[0].weight.grad[~masks["0"]] == 0).all()
    assert (model[0].weight.grad[masks["0"]] != 0).any()


def test_what_is_pruned_by_default(tiny):
    """Pitfall 59: no embedding, LayerNorm, bias or classifier; shared layers once."""
    model = SequenceClassifier(Encoder(tiny.replace(sharing=SharingPlan.all(3))), 2)
    assert sorted(prunable(model)) == [
        *(f"encoder.layers.0.attention.{name}" for name in ("key", "output", "query", "value")),
        *(f"encoder.layers.0.ffn.{name}" for name in ("down", "up")),
        "encoder.pooler",
    ]
    assert set(prunable(MaskedLM(Encoder(tiny.replace(pooler=False))), ())) - set(
        prunable(MaskedLM(Encoder(tiny.replace(pooler=False))))
    ) == {"head.dense"}
    tied = nn.ModuleDict(
        {"word": nn.Embedding(7, 5), "out": nn.Linear(5, 7), "a": nn.Linear(5, 5), "b": nn.Linear(5, 5)}
    )
    tied["out"].weight, tied["b"].weight = tied["word"].weight, tied["a"].weight
    assert list(prunable(tied)) == ["a"]


def test_global_and_layer_scope(tiny):
    model = Encoder(tiny)
    with torch.no_grad():
        model.layers[0].ffn.up.weight.mul_(100)
    total = sum(layer.weight.numel() for layer in prunable(model).values())
    masks = magnitude_masks(model, 0.7, scope="global")
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.7 * total)
    assert int((~masks["layers.0.ffn.up"]).sum()) < 0.1 * 24 * 36
    for path, mask in magnitude_masks(model, 0.7).items():
        assert int((~mask).sum()) == round(0.7 * mask.numel()), path
    with pytest.raises(ValueError, match="unknown scope 'globl'; nearest: global"):
        magnitude_masks(model, 0.7, scope="globl")


@torch.no_grad()
def test_copies_states_and_files(tiny, tmp_path):
    """Pitfall 60: they survive copies, states and files, and add one byte per weight."""
    model = SequenceClassifier(Encoder(tiny.replace(sharing=SharingPlan.every(3, 2))), 2).eval()
    ids = torch.randint(0, 40, (2, 5))
    bytes_before = stored_bytes(model)
    apply_masks(model, magnitude_masks(model, 0.8))
    expected = model(ids).logits
    assert torch.equal(copy.deepcopy(model)(ids).logits, expected)
    entries = sum(layer.weight.numel() for layer in prunable(model).values())
    assert stored_bytes(model) == bytes_before + entries

    other = apply_masks(SequenceClassifier(Encoder(model.config), 2).eval())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(ids).logits, expected)

    again = load(save(model, tmp_path / "masked"))
    assert torch.equal(again(ids).logits, expected)
    assert again.encoder.layers[0].ffn.up is again.encoder.layers[1].ffn.up
    assert again.encoder.layers[0].ffn.up.sparsity == pytest.approx(0.8, abs=0.001)
    file = (tmp_path / "masked" / "model.safetensors").read_bytes()
    assert len(file) - 8 - int.from_bytes(file[:8], "little") == stored_bytes(model)  # all but the header

    plain = finalize(again)
    assert torch.equal(plain(ids).logits, expected)
    assert stored_bytes(plain) == bytes_before
    assert not any(isinstance(module, MaskedLinear) for module in plain.modules())
    assert plain.encoder.layers[0].ffn.up is plain.encoder.layers[1].ffn.up
    assert torch.equal(load(save(plain, tmp_path / "plain"))(ids).logits, expected)


def test_masks_change_no_flops(tiny):
    """Pitfall 61: zeros are multiplied like any number."""
    model = Encoder(tiny)
    before = count_flops(model, 2, 8)
    assert count_flops(apply_masks(model, magnitude_masks(model, 0.9)), 2, 8) == before


def test_a_layer_shared_by_depths_is_masked_in_all(tiny):
    model = Encoder(tiny.replace(sharing=SharingPlan.all(3)))
    mask = torch.rand(36, 24) > 0.5
    apply_masks(model, {"layers.2.ffn.up": mask})  # any of its names
    ups = {id(layer.ffn.up) for layer in model.layers}
    assert len(ups) == 1
    assert torch.equal(model.layers[0].ffn.up.mask, mask)


def test_layers_tied_by_their_weight_alone_are_masked_together():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    apply_masks(model)
    set_sparsity(model, 0.5)
    assert torch.equal(model[0].mask, model[1].mask)
    assert model[0].sparsity == 0.5
    finalize(model)
    assert model[0].weight is model[1].weight
    assert int((model[1].weight == 0).sum()) == 8


def test_bad_masks_leave_the_model_alone(tiny):
    model = Encoder(tiny)
    good = torch.ones(36, 24, dtype=torch.bool)
    cases = {
        "unknown layer 'layers.0.ffn.upp'; nearest: layers.0.ffn.up": {"layers.0.ffn.upp": good},
        "embeddings.word is a Embedding; only plain linear": {"embeddings.word": good},
        r"boolean of shape \(36, 24\), got torch.bool \(24, 36\)": {"layers.0.ffn.up": good.T},
        "must be boolean .* got torch.float32": {"layers.0.ffn.up": good.float()},
        "unknown layer ''": {"": good},
    }
    for message, masks in cases.items():
        with pytest.raises(ValueError, match=message):
            apply_masks(model, {"layers.1.ffn.up": good, **masks})
    shared = Encoder(tiny.replace(sharing=SharingPlan.all(3)))
    with pytest.raises(ValueError, match=r"layers\.0\.ffn\.up and layers\.1\.ffn\.up share one weight"):
        apply_masks(shared, {"layers.0.ffn.up": good, "layers.1.ffn.up": ~good})
    with torch.no_grad():
        model.layers[2].ffn.up.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"layers\.2\.ffn\.up\.weight has 1 NaN or infinite"):
        apply_masks(model)
    for encoder in (model, shared):
        assert not any(isinstance(module, MaskedLinear) for module in encoder.modules())


def test_the_pruned_set_only_grows_unless_regrowth_is_declared():
    """Pitfall 58."""
    model = apply_masks(two_layers())
    set_sparsity(model, 0.5)
    gone = ~model[0].mask
    with torch.no_grad():
        model[0].weight[gone] = 100.0  # as an optimizer's momentum might
    set_sparsity(model, 0.6)
    assert (~model[0].mask)[gone].all()
    with pytest.raises(ValueError, match="0 brings back 15 pruned weights; say regrow=True"):
        set_sparsity(model, 0.3)
    assert zeros(model) == {"0": 29, "2": 14}
    with pytest.raises(ValueError, match="brings back"):
        apply_masks(model, {"0": torch.ones(8, 6, dtype=torch.bool)})
    set_sparsity(model, 0.6, regrow=True)
    assert model[0].mask[gone].any()
    set_sparsity(model, 0.0, regrow=True)
    assert zeros(model) == {"0": 0, "2": 0}


def test_set_sparsity_refuses():
    with pytest.raises(ValueError, match="no masked layer"):
        set_sparsity(two_layers(), 0.5)
    model = apply_masks(two_layers())
    with pytest.raises(ValueError, match="got 1.2"):
        set_sparsity(model, 1.2)
    with torch.no_grad():
        model[2].weight[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"2\.weight has 1 NaN or infinite"):
        set_sparsity(model, 0.5, scope="global")
    assert zeros(model) == {"0": 0, "2": 0}
