"""Pairs for the loop: batches, the label-smoothed loss by hand, scores, translations, and learning to copy."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import Pairs, train_tokenizer
from coursekit.models import Seq2Seq, Seq2SeqConfig, SharingPlan, TransformerConfig
from coursekit.train import TrainConfig, evaluate, train
from coursekit.train.seq2seq import PairBatches, pair_batches, score_pairs, translate, translation_loss

WORDS = "sun moon star sea sand rock tree bird".split()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    return train_tokenizer([" ".join(WORDS)] * 3, 60, file)


def pairs(count, longest=5):
    generator = torch.Generator().manual_seed(0)
    sources = []
    for _ in range(count):
        length = int(torch.randint(1, longest + 1, (), generator=generator))
        sources.append(" ".join(WORDS[i] for i in torch.randint(0, 8, (length,), generator=generator)))
    return Pairs(sources, sources, [str(number) for number in range(count)])


def toy(vocab_size, layers=2, sharing=None, **changes):
    plan = sharing or SharingPlan.none
    shape = {"num_heads": 2, "intermediate_size": 32, "dropout": 0.0, "max_positions": 16, "activation": "relu"}
    config = TransformerConfig(
        vocab_size, 16, layers, **shape, token_types=0, pooler=False, sharing=plan(layers), **changes
    )
    return Seq2Seq(Seq2SeqConfig(config, layers, plan(layers, cross=True)))


class Fixed(torch.nn.Module):
    """A stand-in model that answers with given logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)
        self.config = Seq2SeqConfig(TransformerConfig(logits.shape[-1], 4, 1, 1, 4), 1)

    def forward(self, source_ids, source_mask, target_ids):
        return self


def batch_of(targets):
    ids = torch.tensor(targets)
    return {"input_ids": ids[:, 1:], "attention_mask": ids[:, 1:] > 0, "target_ids": ids}


def test_batches_hold_each_pair_once_within_the_limit(tokenizer):
    some = pairs(50)
    batches = pair_batches(some, tokenizer, max_tokens=12, seed=3)
    plan, epoch = batches.plan(0), batches.epoch(0)
    assert sorted(row for rows in plan for row in rows) == list(range(50))
    assert batches.plan(0) == plan != batches.plan(1)
    sources, targets = tokenizer.encode(some.sources), tokenizer.encode(some.targets)
    for rows, batch in zip(plan, epoch, strict=True):
        assert batch["input_ids"].numel() <= 12 and batch["target_ids"][:, 1:].numel() <= 12
        for line, row in enumerate(rows):
            assert batch["input_ids"][line][batch["attention_mask"][line]].tolist() == sources[row]
            told = batch["target_ids"][line]
            assert told[told != 0].tolist() == [tokenizer.start_id, *targets[row]]


def test_pairs_that_do_not_fit(tokenizer):
    with pytest.raises(ValueError, match="2 sources and 1 targets; each source needs one target"):
        PairBatches([[5, 2], [6, 2]], [[5, 2]], tokenizer, max_tokens=10)
    with pytest.raises(ValueError, match="sequence 0 has 4 tokens, max_tokens is 3"):
        PairBatches([[5, 2]], [[5, 6, 7, 2]], tokenizer, max_tokens=3).plan(0)


def test_label_smoothing_by_hand():
    # one row: [START] 3 [END] then padding; V = 4, so the second logits matter and the third do not
    logits = torch.tensor([[[0.0, 0.0, 0.0, math.log(3)], [0.0, math.log(5), 0.0, 0.0], [9.0, 9.0, -9.0, 1.0]]])
    batch = batch_of([[1, 3, 2, 0]])
    first = [math.log(6), math.log(6), math.log(6), math.log(2)]  # −log p: 1/6, 1/6, 1/6, 3/6
    second = [math.log(8), math.log(8 / 5), math.log(8), math.log(8)]
    plain = (first[3] + second[2]) / 2
    spread = (sum(first) / 4 + sum(second) / 4) / 2
    found = translation_loss(0.0)(Fixed(logits), batch)
    assert found.count == 2 and float(found.mean.detach()) == pytest.approx(plain)
    smooth = translation_loss(0.1)(Fixed(logits), batch)
    assert float(smooth.mean.detach()) == pytest.approx(0.9 * plain + 0.1 * spread)


def test_nothing_but_padding_is_a_zero_with_a_gradient():
    model = Fixed(torch.randn(1, 2, 6))
    found = translation_loss(0.1)(model, batch_of([[1, 0, 0]]))
    assert found.count == 0 and float(found.mean.detach()) == 0
    found.mean.backward()
    assert torch.equal(model.logits.grad, torch.zeros(1, 2, 6))


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.sampled_from([0.0, 0.2]))
def test_padding_and_batching_change_nothing(lengths, smoothing):
    torch.manual_seed(1)
    model = toy(12).eval()
    generator = torch.Generator().manual_seed(len(lengths))
    rows = [torch.randint(4, 12, (length,), generator=generator).tolist() + [2] for length in lengths]
    width, loss, total, count = max(lengths) + 3, translation_loss(smoothing), 0.0, 0
    with torch.inference_mode():
        for row in rows:
            alone = loss(model, batch_of([[1, *row]]))
            total, count = total + float(alone.mean) * alone.count, count + alone.count
        together = loss(model, batch_of([[1, *row, *[0] * (width - len(row))] for row in rows]))
    assert together.count == count == sum(lengths) + len(lengths)
    assert float(together.mean) == pytest.approx(total / count, abs=1e-5)


def test_scores_are_those_of_each_pair_alone_and_add_up_to_the_loss(tokenizer):
    some, model = pairs(9), toy(tokenizer.vocab_size)
    batches = pair_batches(some, tokenizer, max_tokens=20)
    nats, tokens = score_pairs(model, batches)
    assert tokens.tolist() == [len(ids) for ids in tokenizer.encode(some.targets)]
    mean = evaluate(model, batches, translation_loss())["loss"]
    assert float(nats.sum() / tokens.sum()) == pytest.approx(mean, abs=1e-5)
    source, target = tokenizer.encode([some.sources[4], some.targets[4]])
    with torch.inference_mode():
        told = torch.tensor([[tokenizer.start_id, *target[:-1]]])
        logits = model.eval()(torch.tensor([source]), None, told).logits[0]
    expected = F.cross_entropy(logits, torch.tensor(target), reduction="sum")
    assert float(nats[4]) == pytest.approx(float(expected), abs=1e-4)


def test_a_sandwich_learns_to_copy(tokenizer):
    some = pairs(60, longest=3)
    model = toy(tokenizer.vocab_size, layers=3, sharing=SharingPlan.sandwich)
    batches = pair_batches(some, tokenizer, max_tokens=120, seed=0)
    before = evaluate(model, batches, translation_loss())["loss"]
    config = TrainConfig(steps=250, lr=1e-2, warmup=0.1, weight_decay=0.0, precision="fp32")
    result = train(model, batches, translation_loss(0.1), config)
    assert result.tokens > 0 and result.history[-1]["loss"] < result.history[0]["loss"]
    assert before > 3 > 0.6 > evaluate(model, batches, translation_loss())["loss"]
    said = translate(model, tokenizer, some.sources, max_length=12, batch_size=7)
    assert sum(a == b for a, b in zip(said, some.targets, strict=True)) > 45
    both = translate(model, tokenizer, some.sources, max_length=12, beams=3)
    assert sum(a == b for a, b in zip(both, some.targets, strict=True)) > 45


def test_translations_come_in_the_order_of_the_sources_whatever_the_batches(tokenizer):
    some, model = pairs(11), toy(tokenizer.vocab_size)
    one_by_one = translate(model, tokenizer, some.sources, max_length=6, batch_size=1)
    assert translate(model, tokenizer, some.sources, max_length=6, batch_size=4) == one_by_one


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_its_range(smoothing):
    with pytest.raises(ValueError, match=r"smoothing must lie in \[0, 1\)"):
        translation_loss(smoothing)
