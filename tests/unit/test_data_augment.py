"""TinyBERT's augmentation: what may be replaced, by what, how often; and never outside training."""

import inspect
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import (
    STOP_WORDS,
    MaskedLMProposer,
    NeighbourProposer,
    Split,
    Task,
    TinyBERTProposer,
    Tokenizer,
    augment,
    augment_task,
    augment_texts,
    fetch,
)
from coursekit.models import MaskedLM
from coursekit.train import pretrained_encoder

SENTENCE = "The acting , by 3 old actors , is not dull at all ."


def upper(words, position, k):
    """Three candidates that tell what they replace; the word itself and doubles are no candidates."""
    word = words[position]
    return [word, f"{word}A", f"{word}B", f"{word}A", f"{word}C"]


def changed(before, after):
    return [(one, other) for one, other in zip(before.split(), after.split(), strict=True) if one != other]


def test_stop_words_punctuation_and_numbers_stay():
    for new in augment(SENTENCE, propose=upper, rng=random.Random(0), p=1.0):
        pairs = changed(SENTENCE, new)
        assert [one for one, _ in pairs] == ["acting", "old", "actors", "dull"]
        assert all(other[:-1] == one and other[-1] in "ABC" for one, other in pairs)
    asked = []
    augment(SENTENCE, propose=lambda words, i, k: asked.append((words[i], k)) or [], rng=random.Random(0), k=7)
    assert asked == [("acting", 7), ("old", 7), ("actors", 7), ("dull", 7)]


def test_spaces_and_marks_stay_where_they_were():
    sentence = "  fine,\tcan't-miss  stuff!\n"
    (new,) = set(augment(sentence, propose=lambda w, i, k: ["x"], rng=random.Random(0), p=1.0, n=1))
    assert new == "  x,\tcan't-x  x!\n"


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 30), st.floats(0, 1))
def test_results_are_different_at_most_n_and_never_the_original(seed, n, p):
    found = augment(SENTENCE, propose=upper, rng=random.Random(seed), n=n, p=p)
    assert len(found) == len(set(found)) <= n and SENTENCE not in found
    assert found == augment(SENTENCE, propose=upper, rng=random.Random(seed), n=n, p=p)


def test_p_is_the_share_of_words_replaced():
    words = [f"{a}{b}word" for a in "bcdfgh" for b in "aeiou"]
    found = augment(" ".join(words), propose=upper, rng=random.Random(0), n=400)
    assert len(found) == 400
    replaced = [len(changed(" ".join(words), new)) for new in found]
    assert np.mean(replaced) / len(words) == pytest.approx(0.4, abs=0.02)
    letters = "".join(other[-1] for new in found for _, other in changed(" ".join(words), new))
    assert all(letters.count(letter) / len(letters) == pytest.approx(1 / 3, abs=0.02) for letter in "ABC")


def test_only_the_first_k_candidates_are_used():
    found = augment("dull", propose=upper, rng=random.Random(0), p=1.0, k=2, n=50)
    assert sorted(found) == ["dullA", "dullB"]


def test_nothing_to_replace_gives_nothing():
    for sentence in ("", "of the 90 ...", "the and of"):
        assert augment(sentence, propose=upper, rng=random.Random(0)) == []
    assert augment(SENTENCE, propose=lambda words, i, k: [], rng=random.Random(0)) == []
    assert augment(SENTENCE, propose=upper, rng=random.Random(0), p=0.0) == []


def test_numpy_generators_serve_too():
    assert augment(SENTENCE, propose=upper, rng=np.random.default_rng(0))


@pytest.mark.parametrize(("arguments", "says"), [({"p": 1.2}, "1.2"), ({"n": 0}, "n=0"), ({"k": 0}, "k=0")])
def test_bad_numbers_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        augment(SENTENCE, propose=upper, rng=random.Random(0), **arguments)


def test_stop_words_are_lower_case_and_no_opinions():
    assert all(word == word.lower() and word.isalpha() for word in STOP_WORDS)
    assert {"the", "not", "of"} <= STOP_WORDS and not {"good", "bad", "film", "like", "well"} & STOP_WORDS


def task():
    return Task(
        "films",
        ("rotten", "fresh"),
        Split(["a dull film", "a fine film"], [0, 1], ["one", "two"]),
        Split(["a dullA film"], [0], ["three"]),
        Split(["a fineB film"], [1], ["four"]),
    )


def test_labels_and_groups_are_copied_and_held_out_texts_kept_out():
    films = task()
    more = augment_task(films, propose=upper, rng=random.Random(0), n=60)
    assert more.validation is films.validation and more.test is films.test
    assert len(more.train) > 20 and films.train == task().train
    for text, label, group in zip(more.train.texts, more.train.labels, more.train.groups, strict=True):
        assert ("dull" in text) == (label == 0) == (group == "one")
    assert "a dullB film" in more.train.texts and "a fineA film" in more.train.texts
    assert not {"a dullA film", "a fineB film"} & set(more.train.texts)
    assert more.train.texts.count("a dull film") == more.train.texts.count("a fine film") == 1


def test_the_other_text_of_a_pair_stays_beside_its_own():
    films = task()
    pairs = replace(films, train=replace(films.train, second=[f"about {text}" for text in films.train.texts]))
    more = augment_task(pairs, propose=upper, rng=random.Random(0), n=60).train
    assert len(more.second) == len(more) > 20
    assert all(("dull" in text) == ("dull" in other) for text, other in zip(more.texts, more.second, strict=True))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(fetch("minilm"))


class OneWord(torch.nn.Module):
    """A masked LM that likes the same words everywhere, and notes what it was shown."""

    def __init__(self, tokenizer, favourites):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.scores = torch.zeros(tokenizer.vocab_size)
        for rank, name in enumerate(favourites):
            (i,) = [i for i in range(tokenizer.vocab_size) if tokenizer.tokens([i]) == [name]]
            self.scores[i] = 100.0 - rank
        self.shown, self.calls = [], 0

    def forward(self, input_ids, attention_mask, token_type_ids, positions):
        assert not self.training and torch.equal(input_ids[positions], torch.full((len(input_ids),), 103))
        self.calls += 1
        self.shown += [row[real].tolist() for row, real in zip(input_ids, attention_mask, strict=True)]
        return type("Output", (), {"logits": self.scores.expand(len(input_ids), -1)})


def test_a_masked_lm_sees_the_sentence_with_the_word_hidden(tokenizer):
    favourites = ["[SEP]", "dull", "##ing", "!", "lively", "7", "bright", "fine"]
    lm = OneWord(tokenizer, favourites).train()
    propose = MaskedLMProposer(lm, tokenizer)
    words = "a dull , dull film".split()
    assert propose(words, 1, 2) == ["lively", "bright"]  # no special piece, no part, no mark, not the word itself
    assert lm.training and lm.shown == [[101, 1037, 103, 1010, 10634, 2143, 102]]
    assert propose("an unwatchably bad film".split(), 1, 2) == [] and lm.calls == 1  # several pieces: not its business


def test_a_proposer_works_in_batches_and_remembers(tokenizer):
    lm = OneWord(tokenizer, ["lively", "bright", "fine"])
    propose = TinyBERTProposer(MaskedLMProposer(lm, tokenizer), lambda words, i, k: ["xyz"])
    sentences = ["a dull film", "the dull story of a man", "an unwatchably bad film"] * 10
    found = augment_texts(sentences, propose=propose, rng=random.Random(0), n=3)
    assert lm.calls == 1 and len(found) == 30
    assert len(lm.shown) == 2 + 3 + 2  # dull film; dull story man; bad film: each sentence once
    assert any("xyz bad" in text or "xyz lively" in text for text in found[2] + found[5] + found[8])
    alone = TinyBERTProposer(MaskedLMProposer(OneWord(tokenizer, ["lively", "bright", "fine"]), tokenizer), upper)
    assert alone("a dull film".split(), 1, 2) == propose("a dull film".split(), 1, 2) == ["lively", "bright"]


def test_a_sentence_longer_than_the_model_keeps_the_words_around_the_mask(tokenizer):
    lm = OneWord(tokenizer, ["lively"])
    words = ["film"] * 400 + ["dull"] + ["story"] * 400
    assert MaskedLMProposer(lm, tokenizer)(words, 400, 1) == ["lively"]
    (shown,) = lm.shown
    assert len(shown) == tokenizer.max_positions and shown.count(103) == 1 and 200 < shown.index(103) < 300


def test_neighbours_of_a_word_by_its_pieces(tokenizer):
    table = torch.zeros(tokenizer.vocab_size, 3)
    ids = {word: tokenizer.encode([word])[0][1] for word in ("dull", "boring", "fine", "film", "nice")}
    rows = {"dull": (1, 0, 0), "boring": (2, 0.2, 0), "fine": (0, 1, 0), "nice": (0, 3, 1), "film": (0, 0, 1)}
    for word, row in rows.items():
        table[ids[word]] = torch.tensor(row, dtype=torch.float)
    propose = NeighbourProposer(table, tokenizer)
    assert propose(["dull"], 0, 1) == ["boring"] and propose(["fine"], 0, 2)[0] == "nice"
    pieces = tokenizer.encode(["unwatchably"])[0][1:-1]
    assert len(pieces) > 1
    table[pieces[0]], table[pieces[1]] = torch.tensor([0.0, 2, 0]), torch.tensor([0.0, 0, 1])
    near = NeighbourProposer(table, tokenizer)(["unwatchably"], 0, 3)
    assert near[:2] == ["nice", "fine"]  # towards (0, 2, 1)
    with pytest.raises(ValueError, match="5 rows.*30522"):
        NeighbourProposer(table[:5], tokenizer)


def test_with_the_real_encoder_and_its_word_table(tokenizer):
    torch.manual_seed(0)
    model = MaskedLM(pretrained_encoder())
    table = model.encoder.embeddings.word.weight
    propose = TinyBERTProposer(MaskedLMProposer(model, tokenizer), NeighbourProposer(table, tokenizer))
    sentences = ["an unwatchably dull film", "a charming , funny film"]
    found = augment_texts(sentences, propose=propose, rng=random.Random(0), n=8)
    for sentence, new in zip(sentences, found, strict=True):
        assert 2 <= len(new) <= 8
        assert all(len(text.split()) == len(sentence.split()) for text in new)
    assert all("," in text for text in found[1])
    near = NeighbourProposer(table, tokenizer)
    assert "funnier" in near(["funny"], 0, 15) or "hilarious" in near(["funny"], 0, 15)


def test_defaults_are_the_papers():
    for function in (augment, augment_texts, augment_task):
        found = inspect.signature(function).parameters
        assert [found[name].default for name in "pnk"] == [0.4, 20, 15]
