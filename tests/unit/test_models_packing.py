"""A batch without its padding: the same states at real tokens, and fewer rows for the layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.models import Capture, Encoder, MaskedLM, SequenceClassifier, SharingPlan, TransformerConfig
from coursekit.models.packing import Packing
from coursekit.train import Loss, TextBatches, evaluate, predict

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 0]]).bool()


def test_tokens_and_groups_by_hand():
    packing = Packing.of(MASK)
    assert packing.tokens.tolist() == [4, 13, 15, 0, 1, 2, 16, 17, 18]  # one token, two, then the texts of three
    assert packing.groups == ((1, 1), (1, 2), (2, 3)) and packing.shape == (5, 4)
    x = torch.randn(5, 4, 3)
    packed = packing.pack(x)
    assert packed.shape == (1, 9, 3) and torch.equal(packed[0, 1], x[3, 1])
    assert torch.equal(packing.unpack(packed), x * MASK[..., None])


CONFIGS = {
    "bert": {},
    "albert": {"embedding": "factorised", "embedding_size": 8, "sharing": SharingPlan.all(3)},
    "linear": {"embedding": "linear", "embedding_size": 8},
    "safe": {"embedding": "safe", "embedding_size": 8, "embedding_heads": 2},
    "pre-norm": {"norm_first": True},
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_same_states_at_real_tokens_and_zero_elsewhere(tiny, changes):
    encoder = Encoder(tiny.replace(**changes)).eval()
    ids = torch.randint(1, 40, MASK.shape)
    with torch.no_grad():
        plain = encoder(ids, MASK)
        encoder.skip_padding = True
        packed = encoder(ids, MASK)
    torch.testing.assert_close(packed.last_hidden[MASK], plain.last_hidden[MASK], atol=1e-5, rtol=1e-5)
    assert not packed.last_hidden[~MASK].any() and plain.last_hidden[~MASK].any()
    torch.testing.assert_close(packed.pooled[[0, 1, 4]], plain.pooled[[0, 1, 4]], atol=1e-5, rtol=1e-5)
    assert packed.pooled.isfinite().all()


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=7), seed=st.integers(0, 99))
def test_any_lengths(lengths, seed):
    torch.manual_seed(seed)
    encoder = Encoder(TransformerConfig(40, 24, 2, 4, 36, max_positions=16)).eval()
    encoder.skip_padding = True
    mask = torch.arange(13) < torch.tensor(lengths)[:, None]
    ids = torch.randint(1, 40, mask.shape)
    with torch.no_grad():
        found = encoder(ids, mask).last_hidden
        for row, length in enumerate(lengths):  # each text by itself, never padded
            torch.testing.assert_close(found[row, :length], encoder(ids[row, :length][None]).last_hidden[0])


def seen_rows(encoder, *arguments, **named):
    """How many vectors the first feed-forward block was given."""
    rows = []
    handle = encoder.layers[0].ffn.register_forward_pre_hook(lambda _, args: rows.append(args[0][..., 0].numel()))
    encoder(*arguments, **named)
    handle.remove()
    return rows[0]


def test_layers_see_real_tokens_only_where_it_is_allowed(tiny):
    encoder, ids = Encoder(tiny).eval(), torch.ones(5, 4, dtype=torch.long)
    almost = torch.ones(5, 4, dtype=torch.bool)
    with torch.no_grad():
        assert seen_rows(encoder, ids, MASK) == 20  # off by default
        encoder.skip_padding = True
        assert seen_rows(encoder, ids, MASK) == seen_rows(encoder, ids, MASK.long()) == 9
        assert seen_rows(encoder, ids) == seen_rows(encoder, ids, almost) == 20
        assert seen_rows(encoder, ids, torch.zeros_like(MASK)) == 20  # no real token at all
        assert seen_rows(encoder, ids, MASK, capture=Capture(hidden=(1,))) == 20
        encoder.train()
        assert seen_rows(encoder, ids, MASK) == 20
    encoder.eval()
    assert seen_rows(encoder, ids, MASK) == 20  # a gradient is wanted


def texts(labels=(0, 1, 1, 0)):
    return TextBatches([[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11, 12]], pad_id=0, batch_size=4, labels=list(labels))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_prediction_and_evaluation_skip_padding_and_leave_the_switch_alone(tiny, precision):
    model, rows = SequenceClassifier(Encoder(tiny), 2).train(), []
    model.encoder.layers[1].ffn.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[:-1].numel()))
    logits = predict(model, texts(), precision=precision)
    evaluate(model, texts(), lambda m, b: Loss(m(b["input_ids"], b["attention_mask"]).logits.mean(), 4))
    assert rows == [12, 12] and not model.encoder.skip_padding and model.training
    model.eval()
    for row, ids in enumerate(texts().sequences):
        alone = model(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(logits[row], alone, atol=1e-5 if precision == "fp32" else 3e-2, rtol=0)


def test_a_masked_lm_finds_its_positions(tiny):
    model = MaskedLM(Encoder(tiny)).eval()
    ids, asked = torch.randint(1, 40, MASK.shape), torch.zeros_like(MASK)
    asked[0, 2] = asked[3, 3] = True
    with torch.no_grad():
        plain = model(ids, MASK, positions=asked).logits
        model.encoder.skip_padding = True
        torch.testing.assert_close(model(ids, MASK, positions=asked).logits, plain, atol=1e-5, rtol=1e-5)


def test_bfloat16_converts_each_weight_once_for_all_batches(tiny):
    """Autocast keeps converted weights only outside inference mode."""
    model = SequenceClassifier(Encoder(tiny), 2)
    batches = TextBatches([[1, 2, 3]] * 12, pad_id=0, batch_size=2)
    linears = sum(isinstance(part, torch.nn.Linear) for part in model.modules())
    counts = []
    for few in (TextBatches([[1, 2, 3]] * 2, pad_id=0, batch_size=2), batches):
        with torch.profiler.profile() as profiler:
            predict(model, few, precision="bf16")
        counts.append({event.key: event.count for event in profiler.key_averages()}["aten::_to_copy"])
    one, six = counts
    assert six - one <= 5 * (one - 2 * linears)  # later batches convert activations, not weights and biases
