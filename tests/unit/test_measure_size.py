import pytest
import torch
from safetensors.torch import save_model
from torch import nn
from torch.nn.utils import prune

from coursekit.measure import stored_bytes
from coursekit.models import MaskedLM, SharingPlan, TransformerConfig, build


def test_counts_by_hand():
    model = nn.Linear(3, 4)
    model.register_buffer("kept", torch.zeros(5, dtype=torch.int8))
    model.register_buffer("rebuilt", torch.zeros(99), persistent=False)
    assert stored_bytes(model) == 4 * (12 + 4) + 5
    assert stored_bytes(model.bfloat16()) == 2 * (12 + 4) + 5


def test_ties_transposes_and_parts_of_one_storage_count_once():
    model = nn.ModuleDict({"table": nn.Embedding(7, 5), "out": nn.Linear(5, 7, bias=False)})
    assert stored_bytes(model) == 2 * 140
    model["out"].weight = model["table"].weight
    assert stored_bytes(model) == 140
    model["out"].weight = nn.Parameter(model["table"].weight.detach().T)
    assert stored_bytes(model) == 140
    model["out"].weight = nn.Parameter(model["table"].weight.detach()[:3])
    assert stored_bytes(model) == 140


def test_disjoint_views_count_each():
    fused = torch.zeros(3, 4, 4)
    model = nn.ParameterList([nn.Parameter(part) for part in fused])
    assert stored_bytes(model) == 3 * 16 * 4


def test_a_slice_counts_what_it_holds_not_what_it_was_cut_from():
    layer = nn.Linear(8, 6, bias=False)
    layer.weight = nn.Parameter(layer.weight.detach()[:, :2])
    assert stored_bytes(layer) == 6 * 2 * 4


def test_meta_tensors_are_told_apart():
    config = TransformerConfig(13, 8, 3, 2, 16)
    assert stored_bytes(build(config, device="meta")) == stored_bytes(build(config))


def test_ninety_percent_zeros_cost_the_same_and_a_mask_costs_more():
    layer = nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        layer.weight.flatten()[:90] = 0
    assert stored_bytes(layer) == 400
    prune.l1_unstructured(layer, "weight", 0.9)
    assert stored_bytes(layer) == 800


def test_sparse_storage_counts_its_indices():
    class Sparse(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.register_buffer("weight", weight)

    dense = torch.zeros(4, 6)
    dense[1, 2] = dense[3, 5] = 1.0
    assert stored_bytes(Sparse(dense.to_sparse_csr())) == (5 + 2) * 8 + 2 * 4
    assert stored_bytes(Sparse(dense.to_sparse())) == 2 * 2 * 8 + 2 * 4


def test_a_wrapping_subclass_counts_what_it_wraps():
    from torch.testing._internal.two_tensor import TwoTensor

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            codes, scale = torch.zeros(8, 8), torch.zeros(8, 8)
            self.weight = nn.Parameter(TwoTensor(codes, scale), requires_grad=False)

    assert stored_bytes(Wrapped()) == 2 * 64 * 4


@pytest.mark.parametrize("name", ["albert-base", "tinybert-4"])
def test_equals_the_file_of_a_real_model(name, tmp_path):
    model = MaskedLM(build(name))
    save_model(model, str(tmp_path / "model.safetensors"))
    size = (tmp_path / "model.safetensors").stat().st_size
    assert stored_bytes(model) <= size <= 1.01 * stored_bytes(model)


def test_sharing_shrinks_the_size():
    config = TransformerConfig(13, 8, 4, 2, 16)
    layer = 4 * (4 * 72 + 2 * 16 + (8 * 16 + 16 + 16 * 8 + 8))
    shared = config.replace(sharing=SharingPlan.all(4))
    assert stored_bytes(build(config)) - stored_bytes(build(shared)) == 3 * layer


def test_what_is_not_a_tensor_is_refused():
    class Packed(nn.Linear):
        def get_extra_state(self):
            return ("packed", 3)

    with pytest.raises(ValueError, match="_extra_state is stored as tuple"):
        stored_bytes(Packed(2, 2))
    with pytest.raises(ValueError, match="torch.nn.Module"):
        stored_bytes({"weight": torch.ones(2)})
