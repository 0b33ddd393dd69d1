"""LoRA: exact at the start, merged to equal outputs, few numbers trained, none saved on disk."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.compress.lowrank import LoRALinear, LowRankLinear, add_lora, factorize, merge_lora
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.models import Encoder, SequenceClassifier, SharingPlan, load, save

IDS = torch.tensor([[5, 4, 3, 2], [7, 8, 9, 6]])


@pytest.fixture
def model(tiny):
    return SequenceClassifier(Encoder(tiny.replace(dropout=0.0)), 2).eval()


def trained(model: nn.Module) -> nn.Module:
    """A few steps on made-up labels."""
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(free, lr=0.05)
    for _ in range(3):
        nn.functional.cross_entropy(model(IDS).logits, torch.tensor([0, 1])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_start_is_the_base_exactly(model):
    """B = 0: not nearly, but equal to the last bit."""
    base = model(IDS).logits
    assert torch.equal(add_lora(model, 3, 6.0)(IDS).logits, base)


def test_only_the_update_and_the_classifier_train(model):
    before = copy.deepcopy(model.state_dict())
    stored = stored_bytes(model)
    add_lora(model, 2)
    count = count_parameters(model)
    updates = 3 * 2 * 2 * (24 + 24)  # layers × query, value × rank × (in + out)
    assert count.trainable == updates + 2 * 24 + 2
    assert stored_bytes(model) == stored + 4 * updates  # more to store, not less
    trained(model)
    changed = {
        name for name, value in model.state_dict().items() if name in before and not torch.equal(value, before[name])
    }
    assert changed == {"classifier.weight", "classifier.bias"}
    merge_lora(model)
    assert stored_bytes(model) == stored and not any(isinstance(module, LoRALinear) for module in model.modules())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.floats(0.5, 32), st.booleans(), st.integers(0, 99))
def test_merge_gives_the_same_outputs(rank, alpha, bias, seed):
    torch.manual_seed(seed)
    layer = LoRALinear.from_linear(nn.Linear(7, 5, bias=bias), rank, alpha)
    nn.init.normal_(layer.up)
    x = torch.randn(4, 3, 7)
    assert torch.allclose(layer.merge()(x), layer(x), atol=1e-4)
    assert torch.linalg.matrix_rank(layer.update().detach().double(), rtol=1e-5) <= rank


def test_scale_by_hand():
    layer = LoRALinear.from_linear(nn.Linear(2, 2, bias=False), 1, 4.0)
    layer.weight.data, layer.down.data, layer.up.data = (
        torch.eye(2),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[1.0], [0.0]]),
    )
    assert layer(torch.tensor([1.0, 1.0])).tolist() == [13.0, 1.0]  # 1 + 4/1·(1 + 2), and 1
    assert count_flops(layer, inputs=torch.ones(3, 2)) == 3 * 2 * (4 + 2 + 2)


def test_update_is_low_rank_the_weight_is_not(model):
    """The contrast of the unit: after merging the weight has full rank; a factorised layer has not."""
    add_lora(model, 2)
    trained(model)
    layer = model.encoder.layers[0].attention.query
    assert torch.linalg.matrix_rank(layer.update().detach().double(), rtol=1e-5) == 2
    assert torch.linalg.matrix_rank(layer.merge().weight.double()) == 24
    assert torch.linalg.matrix_rank(factorize(nn.Linear(24, 24), 2).weight.detach().double(), rtol=1e-5) == 2


def test_the_model_trains_and_merges(model):
    trained(add_lora(model, 4, 8.0))
    logits = model(IDS).logits.detach()
    merge_lora(model)
    assert torch.allclose(model(IDS).logits, logits, atol=1e-5)
    assert not model.encoder.layers[0].attention.query.weight.requires_grad  # frozen as before


def test_shared_layers_get_one_update(tiny):
    shared = Encoder(tiny.replace(sharing=SharingPlan.all(3), dropout=0.0)).eval()
    add_lora(shared, 2, trained=())
    assert shared.layers[0].attention.query is shared.layers[2].attention.query
    assert count_parameters(shared).trainable == 2 * 2 * 48
    assert merge_lora(shared).layers[0].attention.value is shared.layers[1].attention.value


def test_files_and_copies(model, tmp_path):
    trained(add_lora(model, 3, 6.0))
    logits = model(IDS).logits.detach()
    save(model, tmp_path / "lora")
    again = load(tmp_path / "lora")
    assert again.encoder.layers[1].attention.value.alpha == 6.0
    assert torch.allclose(again(IDS).logits, logits, atol=1e-6)
    assert torch.equal(copy.deepcopy(model)(IDS).logits, logits)
    save(merge_lora(model), tmp_path / "merged")
    assert torch.allclose(load(tmp_path / "merged")(IDS).logits, logits, atol=1e-5)


def test_a_generator_draws_and_nothing_else(tiny):
    encoders = [Encoder(tiny) for _ in range(2)]
    encoders[1].load_state_dict(encoders[0].state_dict())
    state = torch.get_rng_state()
    for encoder in encoders:
        add_lora(encoder, 2, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.get_rng_state(), state)
    one, other = (encoder.layers[0].attention.query.down for encoder in encoders)
    assert torch.equal(one, other) and one.abs().max() <= 1 / 24**0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "lies between 1 and 24, got 0"),
        ({"rank": 25}, "lies between 1 and 24, got 25"),
        ({"rank": 2, "alpha": 0.0}, "alpha must be positive"),
        ({"rank": 2, "alpha": float("nan")}, "alpha must be positive"),
        ({"rank": 2, "layers": ("kwery",)}, "no plain nn.Linear called 'kwery'"),
    ],
)
def test_bad_input_leaves_the_model_alone(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        add_lora(model, **arguments)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, LoRALinear | LowRankLinear) for module in model.modules())


def test_bad_weights_and_nothing_to_merge(model):
    with pytest.raises(ValueError, match="no LoRALinear to merge"):
        merge_lora(model)
    model.encoder.layers[2].attention.value.weight.data[0] = torch.inf
    with pytest.raises(ValueError, match=r"layers\.2\.attention\.value\.weight has 24 NaN or infinite"):
        add_lora(model, 2)
    assert type(model.encoder.layers[0].attention.query) is nn.Linear
