"""Joint pretraining on pairs, and readers of words alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coursekit.data import IGNORED, SentencePair, Tokenizer, fetch, sop_pairs
from coursekit.measure import count_parameters
from coursekit.models import Encoder, MaskedLM, TransformerConfig, build, preset
from coursekit.train import (
    TrainConfig,
    classification_loss,
    evaluate,
    masked_lm_loss,
    masked_lm_metrics,
    predict,
    train,
)
from coursekit.train.bag_of_words import READERS, WordsAlone
from coursekit.train.sentence_pairs import (
    MaskedPairBatches,
    PretrainingModel,
    joint_loss,
    sentence_batches,
    short_pairs,
)

STORY = [
    ["The mayor spoke first.", "He promised new schools.", "They would open in May, he said.", "Nobody believed him."],
    ["Rain fell all night.", "It flooded the old bridge.", "The road was closed.", "Repairs took weeks."],
    ["A dog was lost.", "She came home again.", "Her owner wept.", "It was a good day."],
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(fetch("minilm"))


@pytest.fixture(scope="module")
def pairs():
    return sop_pairs(STORY, seed=0)


def small(tokenizer, **changes):
    torch.manual_seed(0)
    config = TransformerConfig(tokenizer.vocab_size, 32, 2, 2, 64, **{"dropout": 0.0} | changes)
    return PretrainingModel(MaskedLM(Encoder(config)))


def test_the_parameters_of_bert_for_pretraining_are_the_published_ones():
    with torch.device("meta"):
        model = PretrainingModel(MaskedLM(build(preset("bert-base"), device="meta")))
    assert count_parameters(model).total == 110_106_428


def test_both_heads_hold_one_encoder(tokenizer):
    model = small(tokenizer)
    assert model.masked_lm.encoder is model.sentence.encoder
    with pytest.raises(ValueError, match="needs an encoder with a pooler"):
        small(tokenizer, pooler=False)


def test_one_forward_pass_gives_what_both_heads_give_alone(tokenizer, pairs):
    model, batch = small(tokenizer).eval(), MaskedPairBatches(pairs, tokenizer, batch_size=4).epoch(0)[0]
    calls = []
    model.masked_lm.encoder.register_forward_hook(lambda *_: calls.append(1))
    asked = batch["labels"] != IGNORED
    given = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    output = model(*given, positions=asked)
    assert len(calls) == 1
    assert torch.equal(output.logits, model.masked_lm(*given).logits[asked])
    assert torch.equal(output.sentence_logits, model.sentence(*given).logits)


def test_batches_ask_inside_the_pair_and_number_segments_after_the_swap(tokenizer, pairs):
    batches = MaskedPairBatches(pairs, tokenizer, batch_size=4, probability=0.5, seed=3)
    seen = 0
    for batch, plan in zip(batches.epoch(0), batches.texts.plan(0), strict=True):
        for row, number in enumerate(plan):
            ids = torch.where(batch["labels"][row] == IGNORED, batch["input_ids"][row], batch["labels"][row])
            ids = ids[batch["attention_mask"][row]]
            types = batch["token_type_ids"][row][batch["attention_mask"][row]]
            first, second = ids[types == 0].tolist(), ids[types == 1].tolist()
            assert first == tokenizer.encode([pairs[number].first])[0]  # [CLS] first [SEP]
            assert second == tokenizer.encode([pairs[number].second])[0][1:]  # second [SEP]
            assert types.diff().min() >= 0
            assert batch["sentence_labels"][row] == pairs[number].label
            seen += 1
        asked = batch["labels"] != IGNORED
        assert not (asked & ~batch["attention_mask"]).any()
        assert not torch.isin(batch["labels"][asked], torch.tensor(tokenizer.special_ids)).any()
    assert seen == len(pairs)


def test_expected_number_of_hidden_tokens(tokenizer):
    pair = SentencePair("one two three", "four five", 0, 0, 0)
    assert MaskedPairBatches([pair], tokenizer, batch_size=1, probability=0.2).hidden_per_row == pytest.approx(1.0)


def test_the_joint_loss_by_hand(tokenizer, pairs):
    model, batches = small(tokenizer), MaskedPairBatches(pairs, tokenizer, batch_size=16, probability=0.3)
    batch = batches.epoch(0)[0]
    found = joint_loss(2.5)(model, batch)
    alone = masked_lm_loss(model.masked_lm, batch)
    logits = model.sentence(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).logits
    sentence = F.cross_entropy(logits, batch["sentence_labels"])
    masked = alone.mean * alone.count / (2.5 * len(logits))
    torch.testing.assert_close(found.mean, masked + sentence)
    torch.testing.assert_close(found.parts["sentence"], sentence)
    assert found.count == len(logits)
    with pytest.raises(ValueError, match="hidden_per_row must be positive, got 0"):
        joint_loss(0.0)


def test_accumulated_batches_train_as_one(tokenizer, pairs):
    weights = []
    loss = joint_loss(2.0)
    whole = MaskedPairBatches(pairs, tokenizer, batch_size=len(pairs), probability=0.4).epoch(0)[0]
    parts = [{name: value[rows] for name, value in whole.items()} for rows in (slice(0, 2), slice(2, len(pairs)))]
    for batches, accumulate in (([whole], 1), (parts, 2)):
        model = small(tokenizer)
        train(model, batches, loss, TrainConfig(steps=1, accumulate=accumulate, precision="fp32", clip=None))
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=2e-6)


def test_nothing_hidden_leaves_the_sentence_loss(tokenizer, pairs):
    batch = MaskedPairBatches(pairs, tokenizer, batch_size=16, probability=0.0).epoch(0)[0]
    found = joint_loss(1.0)(small(tokenizer), batch)
    assert found.parts["masked_lm"] == 0 and torch.equal(found.mean, found.parts["sentence"])


def test_training_learns_both_by_heart(tokenizer, pairs):
    model = small(tokenizer, embedding="factorised", embedding_size=16)
    batches = MaskedPairBatches(pairs, tokenizer, batch_size=16)
    train(model, batches, joint_loss(batches.hidden_per_row), TrainConfig(steps=120, lr=5e-3, precision="fp32"))
    questions = sentence_batches(pairs, tokenizer)
    assert evaluate(model.sentence, questions, classification_loss)["accuracy"] == 1
    held = MaskedPairBatches(pairs, tokenizer, batch_size=16, hide_all=True)
    assert masked_lm_metrics(model.masked_lm, held)["loss"] < 0.7 * math.log(tokenizer.vocab_size)
    labels = torch.tensor([pair.label for pair in pairs])
    assert torch.equal(predict(model.sentence, questions).argmax(-1), labels)


def test_short_pairs_are_left_whole():
    pairs = [SentencePair("a b", "c", 0, 0, 0), SentencePair("a b", "c d", 1, 0, 0)]
    assert short_pairs(pairs, 3) == pairs[:1] and short_pairs(pairs, 4) == pairs


@pytest.mark.parametrize("make", [sentence_batches, MaskedPairBatches])
def test_no_pairs_are_refused(make, tokenizer):
    with pytest.raises(ValueError, match="no sentence pairs were given"):
        make([], tokenizer, batch_size=2)


def labelled(texts):
    return [SentencePair(*text, label, 0, 1) for text, label in texts]


def test_similarity_by_hand():
    words = WordsAlone(labelled([(("red cat", "red cat"), 0), (("red cat", "blue sky"), 1)]))
    similar = words.similarity(labelled([(("red cat", "cat red"), 0), (("red", "sky"), 0), (("what", "red"), 0)]))
    assert similar == pytest.approx([1, 0, 0])


def test_each_reader_answers_what_it_can_see():
    topics = [("rain wind storm", "wind storm rain"), ("goal match team", "match team goal")]
    same = [((a, b), 0) for a, b in topics] * 5
    torn = [((topics[0][0], topics[1][1]), 1), ((topics[1][0], topics[0][1]), 1)] * 5
    nsp = labelled(same + torn)
    label = np.array([pair.label for pair in nsp])
    readers = WordsAlone(nsp)
    assert (readers.predict(nsp, "cosine") == label).all()
    assert (readers.predict(nsp, "difference") == label).mean() == 0.5
    order = labelled([(("today he came", "later she went"), 0), (("later she went", "today he came"), 1)] * 5)
    label = np.array([pair.label for pair in order])
    readers = WordsAlone(order)
    assert (readers.predict(order, "difference") == label).all()
    assert (readers.predict(order, "concatenation") == label).all()
    assert (readers.predict(order, "cosine") == label).mean() == 0.5
    assert set(READERS) == set(readers.models)


def test_one_label_is_refused():
    with pytest.raises(ValueError, match=r"1 pairs with labels \[0\]"):
        WordsAlone(labelled([(("a b", "b c"), 0)]))
