"""A word table as two factors: what is kept, what is saved, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.compress import factorize_embeddings
from coursekit.measure import count_parameters, embedding_parameters, stored_bytes
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan, TransformerConfig, load, save

V, H = 50, 12
CONFIG = TransformerConfig(V, H, num_layers=3, num_heads=2, intermediate_size=20, max_positions=16)
IDS = torch.tensor([[5, 4, 3, 2], [7, 8, 0, 0]])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder(CONFIG.replace(dropout=0.0)).eval()


def product(encoder):
    """The V×H table that the factors stand for."""
    return encoder.embeddings.word.weight @ encoder.embeddings.map.weight.T


def test_full_rank_changes_nothing(encoder):
    same = factorize_embeddings(encoder, H)
    assert torch.allclose(same(IDS).last_hidden, encoder(IDS).last_hidden, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(rank=st.integers(1, H), seed=st.integers(0, 99))
def test_error_is_the_tail_of_the_spectrum(rank, seed):
    torch.manual_seed(seed)
    encoder = Encoder(CONFIG)
    table = encoder.embeddings.word.weight
    error = (table - product(factorize_embeddings(encoder, rank))).norm()
    tail = torch.linalg.svdvals(table)[rank:].square().sum().sqrt()  # Eckart–Young
    assert error.item() == pytest.approx(tail.item(), abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(rank=st.integers(1, H - 1), seed=st.integers(0, 99))
def test_no_other_subspace_has_a_smaller_weighted_error(rank, seed):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoder = Encoder(CONFIG)
    table = encoder.embeddings.word.weight.detach()
    weights = torch.randint(0, 50, (V,), generator=generator).float() + 0.1

    def error(approximation):
        return (weights[:, None] * (table - approximation) ** 2).sum().item()

    best = error(product(factorize_embeddings(encoder, rank, weights)))
    assert best <= error(product(factorize_embeddings(encoder, rank))) * (1 + 1e-5)
    basis = torch.linalg.qr(torch.randn(H, rank, generator=generator))[0]
    assert best <= error(table @ basis @ basis.T) * (1 + 1e-5)


def test_a_word_that_alone_counts_is_kept_whole(encoder):
    weights = torch.zeros(V)
    weights[7] = 3.0
    kept = product(factorize_embeddings(encoder, 1, weights))
    assert torch.allclose(kept[7], encoder.embeddings.word.weight[7], atol=1e-6)
    assert not torch.allclose(kept[8], encoder.embeddings.word.weight[8], atol=1e-3)


def test_equal_weights_are_no_weights(encoder):
    plain, equal = factorize_embeddings(encoder, 4), factorize_embeddings(encoder, 4, torch.full((V,), 2.0))
    assert torch.allclose(product(plain), product(equal), atol=1e-6)


def test_only_the_table_changes(encoder):
    narrow = factorize_embeddings(encoder, 5)
    old, new = encoder.state_dict(), narrow.state_dict()
    assert new.keys() - old.keys() == {"embeddings.map.weight"}
    unequal = {name for name in old if old[name].shape != new[name].shape or not torch.equal(old[name], new[name])}
    assert unequal == {"embeddings.word.weight"}
    saved = V * H - embedding_parameters(V, H, 5, kind="linear")
    assert count_parameters(encoder).total - count_parameters(narrow).total == saved == 600 - 310
    assert stored_bytes(encoder) - stored_bytes(narrow) == 4 * saved
    assert narrow.config == encoder.config.replace(embedding="linear", embedding_size=5)
    assert narrow.embeddings.config == narrow.config


def test_the_given_encoder_and_the_random_state_stay_as_they_are(encoder):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = torch.get_rng_state()
    narrow = factorize_embeddings(encoder, 3)
    nn.init.ones_(narrow.layers[0].ffn.up.weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.config.embedding == "full"
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_mode_dtype_and_gradients_come_along():
    encoder = Encoder(CONFIG).double().train()
    encoder.embeddings.word.requires_grad_(False)
    narrow = factorize_embeddings(encoder, 3)
    assert narrow.training and narrow.embeddings.map.training
    assert {parameter.dtype for parameter in narrow.parameters()} == {torch.float64}
    assert not narrow.embeddings.word.weight.requires_grad
    assert narrow.embeddings.map.weight.requires_grad


def test_shared_layers_stay_shared():
    shared = Encoder(CONFIG.replace(sharing=SharingPlan.all(3)))
    narrow = factorize_embeddings(shared, 3)
    assert narrow.layers[0].attention is narrow.layers[2].attention
    assert narrow.layers[0].attention is not shared.layers[0].attention


def test_a_masked_language_model_stays_tied(encoder):
    model = MaskedLM(encoder).eval()
    expected = model(IDS).logits
    model.encoder = factorize_embeddings(encoder, H)
    assert torch.allclose(model(IDS).logits, expected, atol=1e-5)
    model.encoder = factorize_embeddings(encoder, 3)
    head = H * H + H + 2 * H + V  # dense, LayerNorm, a bias per word: no table of its own
    assert count_parameters(model).total == count_parameters(model.encoder).total + head
    loss = model(IDS).logits.sum()
    loss.backward()
    assert model.encoder.embeddings.map.weight.grad.abs().sum() > 0


def test_saved_and_loaded(encoder, tmp_path):
    model = SequenceClassifier(factorize_embeddings(encoder, 4), 2).eval()
    again = load(save(model, tmp_path / "model"))
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert again.encoder.embeddings.word.weight.shape == (V, 4)


@pytest.mark.parametrize("rank", (0, -1, H + 1, 8.0, True))
def test_rank_out_of_range(encoder, rank):
    with pytest.raises(ValueError, match=f"rank of a {V}×{H} matrix lies between 1 and {H}, got {rank}"):
        factorize_embeddings(encoder, rank)


@pytest.mark.parametrize("value", (float("nan"), float("inf")))
def test_a_table_that_is_not_finite(encoder, value):
    encoder.embeddings.word.weight.data[3, 1] = value
    with pytest.raises(ValueError, match=r"the word table has 1 NaN or infinite entries; shape \(50, 12\)"):
        factorize_embeddings(encoder, 4)


def test_a_narrow_table_is_not_factorised_again(encoder):
    with pytest.raises(ValueError, match="already 'linear'"):
        factorize_embeddings(factorize_embeddings(encoder, 4), 2)


@pytest.mark.parametrize(
    "weights, message",
    (
        (torch.ones(V - 1), r"one number per word, \(50,\), got \(49,\)"),
        (torch.ones(V, 1), r"got \(50, 1\)"),
        (-torch.ones(V), "none negative"),
        (torch.zeros(V), "at least one positive"),
        (torch.full((V,), float("nan")), "finite"),
    ),
)
def test_weights_that_cannot_be(encoder, weights, message):
    with pytest.raises(ValueError, match=message):
        factorize_embeddings(encoder, 4, weights)
