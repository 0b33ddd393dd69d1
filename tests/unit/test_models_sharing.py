"""Sharing plans: the tables of ALBERT and Subformer, written out; and what models built from them keep through life."""

import copy
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coursekit.measure import count_parameters
from coursekit.models import (
    Encoder,
    MaskedLM,
    Seq2Seq,
    Seq2SeqConfig,
    SequenceClassifier,
    SharingPlan,
    TransformerConfig,
    load,
    save,
    share_layers,
)
from coursekit.train import TrainConfig, make_optimizer
from coursekit.train.runtime import start_accelerator


def test_plans_of_six_depths() -> None:
    """Block numbers as the papers draw them."""
    assert SharingPlan.none(6).attention == (0, 1, 2, 3, 4, 5)
    assert SharingPlan.all(6).ffn == (0,) * 6
    assert SharingPlan.every(6, 2).attention == (0, 0, 1, 1, 2, 2)
    assert SharingPlan.every(5, 2).attention == (0, 0, 1, 1, 2)
    assert SharingPlan.sandwich(6).attention == (0, 1, 1, 1, 1, 2)
    assert SharingPlan.all_but_last(4).ffn == (0, 0, 0, 1)
    assert SharingPlan.attention_only(3).attention == (0, 0, 0)
    assert SharingPlan.attention_only(3).ffn == (0, 1, 2)
    assert SharingPlan.ffn_only(3).attention == (0, 1, 2)
    assert SharingPlan.ffn_only(3).ffn == (0, 0, 0)


def test_layer_norms() -> None:
    """ALBERT shares every LayerNorm; Subformer keeps them; the one-part plans share those of the shared part."""
    assert SharingPlan.all(3).norm == ((0, 1),) * 3
    assert SharingPlan.all(3, norms="private").norm == ((0, 1), (2, 3), (4, 5))
    assert SharingPlan.sandwich(3).norm == ((0, 1), (2, 3), (4, 5))
    assert SharingPlan.sandwich(4, norms="shared").norm == ((0, 1), (2, 3), (2, 3), (4, 5))
    assert SharingPlan.attention_only(3).norm == ((0, 1), (0, 2), (0, 3))
    assert SharingPlan.ffn_only(3).norm == ((0, 1), (2, 1), (3, 1))
    assert SharingPlan.every(4, 2).norm == ((0, 1), (2, 3), (4, 5), (6, 7))


@pytest.mark.parametrize("n", [1, 2])
def test_sandwich_needs_a_middle(n: int) -> None:
    """With one or two depths there is nothing to share."""
    assert SharingPlan.sandwich(n) == SharingPlan.none(n)


@given(st.integers(1, 48), st.integers(1, 50))
def test_every_is_integer_division(n: int, size: int) -> None:
    """No float error at any size: depth i uses block i // size."""
    plan = SharingPlan.every(n, size)
    assert plan.attention == tuple(i // size for i in range(n))
    assert len(plan) == len(plan.norm) == n


def test_bad_plans() -> None:
    """Each error names what was given."""
    with pytest.raises(ValueError, match="at least one depth, got 0"):
        SharingPlan.all(0)
    with pytest.raises(ValueError, match="size=0"):
        SharingPlan.every(4, 0)
    with pytest.raises(ValueError, match="2 attention, 1 FFN"):
        SharingPlan((0, 0), (0,), ((0, 1),))
    with pytest.raises(ValueError, match=r"attention \(0, 2\)"):
        SharingPlan((0, 2), (0, 1), ((0, 1), (2, 3)))
    with pytest.raises(ValueError, match="'shared' or 'private'"):
        SharingPlan.all(2, norms="own")


# ---- the life of a model that shares ----


def albert() -> MaskedLM:
    """One block for three depths, LayerNorms too, and a narrow word table that is the output as well."""
    config = TransformerConfig(
        40, 24, 3, 4, 36, max_positions=16, embedding="factorised", embedding_size=8, sharing=SharingPlan.all(3)
    )
    return MaskedLM(Encoder(config)).eval()


def sandwich() -> SequenceClassifier:
    """Four depths, three blocks, LayerNorms of their own."""
    config = TransformerConfig(40, 24, 4, 4, 36, max_positions=16, sharing=SharingPlan.sandwich(4))
    return SequenceClassifier(Encoder(config), 2).eval()


def subformer() -> Seq2Seq:
    """Both stacks as sandwiches of another width inside, SAFE, and one table for source, target and output."""
    config = TransformerConfig(
        vocab_size=40,
        hidden_size=24,
        num_layers=4,
        num_heads=4,
        intermediate_size=36,
        max_positions=16,
        token_types=0,
        pooler=False,
        embedding="safe",
        embedding_size=8,
        embedding_heads=2,
        sharing=SharingPlan.sandwich(4),
        inner_size=32,
        inner_heads=4,
        inner_intermediate_size=40,
    )
    return Seq2Seq(Seq2SeqConfig(config, 4, SharingPlan.sandwich(4, cross=True))).eval()


MODELS = {"ALBERT": albert, "sandwich": sandwich, "Subformer": subformer}
IDS = torch.tensor([[1, 5, 9, 2], [7, 3, 3, 8]])


def answer(model: nn.Module) -> Tensor:
    """Logits for two fixed texts."""
    with torch.inference_mode():
        return (model(IDS, None, IDS) if isinstance(model, Seq2Seq) else model(IDS)).logits


def shared_names(model: nn.Module) -> set[frozenset[str]]:
    """Every set of two or more names under which one module, or one parameter, stands."""
    names = defaultdict(set)
    for listed in (model.named_modules, model.named_parameters):
        for name, each in listed(remove_duplicate=False):
            names[id(each)].add(name)
    return {frozenset(group) for group in names.values() if len(group) > 1}


def prepared(model: nn.Module, _folder: object) -> nn.Module:
    """Through Accelerate and back."""
    accelerator = start_accelerator()
    optimizer = make_optimizer(model, TrainConfig(steps=1))
    wrapped, _ = accelerator.prepare(model, optimizer)
    return accelerator.unwrap_model(wrapped)


def assigned(model: nn.Module, _folder: object) -> nn.Module:
    """A state dict that is put in place instead of copied: by hand tied parameters come undone there."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = copy.deepcopy(model)
    other.load_state_dict(state, assign=True)
    return other


LIVES: dict[str, Callable[..., nn.Module]] = {
    "copied": lambda model, _: copy.deepcopy(model),
    "saved and loaded": lambda model, folder: load(save(model, folder / "model")),
    "state dict assigned": assigned,
    "moved": lambda model, _: model.to("cpu", torch.float64).to(torch.float32),
    "prepared by Accelerate": prepared,
}


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("kind", MODELS)
def test_sharing_and_ties_survive(kind: str, life: str, tmp_path) -> None:
    """The same names for one object, the same count, the same answers."""
    model = MODELS[kind]()
    names, total, logits = shared_names(model), count_parameters(model).total, answer(model)
    other = LIVES[life](model, tmp_path)
    assert shared_names(other) == names and names
    assert count_parameters(other).total == total
    assert torch.equal(answer(other.eval()), logits)


@pytest.mark.parametrize("kind", MODELS)
def test_sharing_survives_casting_and_a_stay_on_meta(kind: str) -> None:
    """In half precision, as shapes only, and in memory again: the same names for one object."""
    model = MODELS[kind]()
    names, total = shared_names(model), count_parameters(model).total
    assert shared_names(model.to(torch.bfloat16)) == names
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert shared_names(model.to("meta")) == names
    assert shared_names(model.to_empty(device="cpu")) == names
    assert count_parameters(model).total == total


@pytest.mark.parametrize("kind", MODELS)
def test_a_prepared_model_still_trains_as_one(kind: str, tmp_path) -> None:
    """After a step through Accelerate every use has moved, and moved alike."""
    model = prepared(MODELS[kind](), tmp_path)
    names, before = shared_names(model), answer(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (model(IDS, None, IDS) if isinstance(model, Seq2Seq) else model(IDS)).logits.square().mean().backward()
    optimizer.step()
    assert shared_names(model) == names
    assert not torch.equal(answer(model), before)


# ---- the gradient of a shared weight ----


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=3), st.sampled_from(["shared", "private"]))
def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_uses(blocks: list[int], norms: str) -> None:
    """Against equal copies, in double precision: attention, FFN and LayerNorms."""
    torch.manual_seed(0)
    config = TransformerConfig(20, 8, 3, 2, 12, max_positions=4, dropout=0.0)
    shared = Encoder(config.replace(sharing=SharingPlan.from_blocks(blocks, blocks, norms))).double()
    copies = share_layers(shared, SharingPlan.none(3))
    for model in (shared, copies):
        model(IDS[:, :4]).last_hidden.pow(3).sum().backward()
    uses = dict(copies.named_parameters())
    for name, weight in shared.named_parameters():
        places = [other for other, same in shared.named_parameters(remove_duplicate=False) if same is weight]
        expected = sum(uses[place].grad for place in places if uses[place].grad is not None)
        if weight.grad is not None:  # the pooler and unused tables have none
            torch.testing.assert_close(weight.grad, expected, msg=lambda text, name=name: f"{name}: {text}")


def test_so_it_is_in_a_decoder_with_its_cross_attention() -> None:
    """The middle block of a sandwich against two equal copies of it."""
    model = subformer().double()
    encoder = model.config.encoder.replace(inner_size=None, inner_heads=None, inner_intermediate_size=None, dropout=0.0)
    shared = Seq2Seq(model.config.replace(encoder=encoder)).double()
    copies = Seq2Seq(Seq2SeqConfig(encoder.replace(sharing=None), 4)).double()
    copies.load_state_dict(shared.state_dict())
    for each in (shared, copies):
        each(IDS, None, IDS).logits.pow(2).sum().backward()
    for part in ("attention", "cross", "ffn"):
        own = dict(getattr(shared.layers[1], part).named_parameters())
        for depth in (1, 2):
            assert getattr(shared.layers[depth], part) is getattr(shared.layers[1], part)
        uses = [dict(getattr(copies.layers[depth], part).named_parameters()) for depth in (1, 2)]
        for name, weight in own.items():
            torch.testing.assert_close(weight.grad, uses[0][name].grad + uses[1][name].grad)


def test_the_word_table_learns_from_source_target_and_output() -> None:
    """Its gradient is the sum of what the source's use and the other two give when the source has a copy."""
    tied = subformer().double()
    apart = copy.deepcopy(tied)
    apart.encoder.embeddings.word = copy.deepcopy(apart.encoder.embeddings.word)
    for model in (tied, apart):
        model(IDS, None, IDS + 10).logits.pow(2).sum().backward()
    parts = apart.encoder.embeddings.word.weight.grad, apart.embeddings.word.weight.grad
    assert all(part.abs().sum() > 0 for part in parts)
    torch.testing.assert_close(tied.embeddings.word.weight.grad, sum(parts))


# ---- bad input: one clear error each ----

SMALL = TransformerConfig(40, 24, 3, 4, 36, max_positions=16, token_types=0, pooler=False)
INNER = dict(inner_size=32, inner_heads=4, inner_intermediate_size=40)
BAD: dict[str, Callable[[], object]] = {
    "a plan for 4 depths was given to 3 layers": lambda: SMALL.replace(sharing=SharingPlan.all(4)),
    "a plan for 2 depths was given to 3 decoder layers": lambda: Seq2SeqConfig(
        SMALL, 3, SharingPlan.all(2, cross=True)
    ),
    r"in order of first use, got ffn \(0, 3, 3\); expected \(0, 1, 1\)": lambda: SharingPlan(
        (0, 1, 1), (0, 3, 3), ((0, 1), (2, 3), (4, 5))
    ),
    "inner_size needs a middle of its own: at least 3 depths, the first and last private": lambda: SMALL.replace(
        sharing=SharingPlan.all_but_last(3), **INNER
    ),
    "inner_size in a decoder needs a middle of its own": lambda: Seq2SeqConfig(
        SMALL.replace(sharing=SharingPlan.sandwich(3), **INNER), 3, SharingPlan.all(3, cross=True)
    ),
    "a sequence of 17 tokens is longer than the 16 positions": lambda: Encoder(SMALL)(IDS.new_ones(1, 17)),
    "a sequence of 18 tokens is longer than the 16 positions": lambda: Seq2Seq(Seq2SeqConfig(SMALL, 1))(
        IDS, None, IDS.new_ones(2, 18)
    ),
    r"input_ids must be a non-empty \(B, T\) tensor, got shape \(2, 0\)": lambda: Seq2Seq(Seq2SeqConfig(SMALL, 1))(
        IDS[:, :0], None, IDS
    ),
    "source 1 is empty; each needs at least one token": lambda: Seq2Seq(Seq2SeqConfig(SMALL, 1))(
        IDS, torch.tensor([[True] * 4, [False] * 4]), IDS
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message: str) -> None:
    """The error names what was given and what was expected."""
    with pytest.raises(ValueError, match=message):
        BAD[message]()
