from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import SentencePair, nsp_pairs, sop_pairs


def corpus(*sizes):
    """Documents of the given numbers of sentences; sentence "d3s1" is the second of the fourth."""
    return [[f"d{doc}s{i}" for i in range(size)] for doc, size in enumerate(sizes)]


def places(pair):
    """(document, sentence) of both segments, of one sentence each."""
    return [tuple(map(int, segment[1:].split("s"))) for segment in (pair.first, pair.second)]


sizes = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@given(sizes, st.integers(0, 10**9))
@settings(deadline=None, max_examples=100)
def test_sop_is_every_two_consecutive_sentences_once(sizes, seed):
    if max(sizes) < 2:
        with pytest.raises(ValueError, match="none of the .* documents has the 2 sentences that a pair needs"):
            sop_pairs(corpus(*sizes), seed=seed)
        return
    pairs = sop_pairs(corpus(*sizes), seed=seed)
    meetings = []
    for pair in pairs:
        (doc, first), (same, second) = places(pair)
        assert doc == same == pair.first_doc == pair.second_doc
        assert second - first == (-1 if pair.label else 1)
        meetings.append((doc, min(first, second)))
    assert meetings == [(doc, i) for doc, size in enumerate(sizes) for i in range(size - 1)]
    assert abs(2 * sum(pair.label for pair in pairs) - len(pairs)) <= 1


@given(sizes, st.integers(0, 10**9))
@settings(deadline=None, max_examples=100)
def test_nsp_negatives_come_from_another_document(sizes, seed):
    able = [doc for doc, size in enumerate(sizes) if size > 1]
    if len(able) < 2:
        with pytest.raises(ValueError):
            nsp_pairs(corpus(*sizes), seed=seed)
        return
    pairs = nsp_pairs(corpus(*sizes), seed=seed)
    assert len(pairs) == sum(size - 1 for size in sizes if size)
    for pair in pairs:
        (doc, first), (other, second) = places(pair)
        assert (pair.first_doc, pair.second_doc) == (doc, other)
        assert other in able and second >= 1
        assert other != doc if pair.label else (other, second) == (doc, first + 1)
    assert abs(2 * sum(pair.label for pair in pairs) - len(pairs)) <= 1


@pytest.mark.parametrize("make", [nsp_pairs, sop_pairs])
def test_a_seed_decides_everything(make):
    documents = corpus(20, 20, 20)
    assert make(documents, seed=1) == make(documents, seed=1)
    assert make(documents, seed=1) != make(documents, seed=2)
    assert all(isinstance(pair, SentencePair) for pair in make(documents, seed=1))


def test_nsp_of_one_document_raises():
    with pytest.raises(ValueError, match="needs two documents of at least 2 sentences.*of the 1 given, 1 is so long"):
        nsp_pairs(corpus(9), seed=0)
    with pytest.raises(ValueError, match="of the 3 given, 1 is so long"):
        nsp_pairs(corpus(9, 1, 0), seed=0)


def test_nsp_negatives_are_uniform_over_the_pairs_of_other_documents():
    documents = corpus(2, 5, 9)  # 1, 4 and 8 pairs
    drawn = Counter()
    for seed in range(3000):
        drawn.update(places(pair)[1] for pair in nsp_pairs(documents, seed=seed) if pair.label and pair.first_doc == 2)
    total = sum(drawn.values())  # 3000 × 8 pairs / 2
    assert set(drawn) == {(0, 1), (1, 1), (1, 2), (1, 3), (1, 4)}
    assert all(abs(count / total - 0.2) < 4 * (0.16 / total) ** 0.5 for count in drawn.values())


def test_swaps_are_independent_of_place():
    swapped = [sum(pair.label for pair in sop_pairs(corpus(5), seed=seed)) for seed in range(20)]
    assert swapped == [2] * 20
    by_place = [sum(sop_pairs(corpus(5), seed=seed)[place].label for seed in range(2000)) for place in range(4)]
    assert all(abs(count / 2000 - 0.5) < 4 * 0.0112 for count in by_place)


def test_segments_of_several_sentences_meet_once():
    pairs = sop_pairs(corpus(5, 3, 4), seed=0, sentences=2)
    texts = [(pair.second, pair.first) if pair.label else (pair.first, pair.second) for pair in pairs]
    assert texts == [
        ("d0s0 d0s1", "d0s2 d0s3"),
        ("d0s1 d0s2", "d0s3 d0s4"),
        ("d2s0 d2s1", "d2s2 d2s3"),
    ]
    with pytest.raises(ValueError, match="at least 4 sentences"):
        nsp_pairs(corpus(5, 3), seed=0, sentences=2)


@pytest.mark.parametrize("max_words", [2, 3, 4, 5, 6, 9, 10, 11])
def test_truncation_keeps_the_junction(max_words):
    documents = [["a b c d e f", "u v w x"]]
    expected = {
        2: ("f", "u"),
        3: ("e f", "u"),
        4: ("e f", "u v"),
        5: ("d e f", "u v"),
        6: ("d e f", "u v w"),
        9: ("b c d e f", "u v w x"),
        10: ("a b c d e f", "u v w x"),
        11: ("a b c d e f", "u v w x"),
    }[max_words]
    seen = set()
    for seed in range(10):
        (pair,) = sop_pairs(documents, seed=seed, max_words=max_words)
        assert ((pair.second, pair.first) if pair.label else (pair.first, pair.second)) == expected
        seen.add(pair.label)
    assert seen == {0, 1}


def test_truncation_of_random_pairs_trims_the_outer_ends_too():
    documents = [["a b c d", "e f g h"], ["p q r s", "t u v w"]]
    for seed in range(10):
        for pair in nsp_pairs(documents, seed=seed, max_words=4):
            assert (pair.first, pair.second) in {(f, s) for f in ("c d", "r s") for s in ("e f", "t u")}


def test_texts_are_left_as_they_are_unless_too_long():
    (pair,) = sop_pairs([["a  b", "c\td"]], seed=0, max_words=4)
    assert {pair.first, pair.second} == {"a  b", "c\td"}


@pytest.mark.parametrize("make", [nsp_pairs, sop_pairs])
def test_bad_input_is_one_clear_error(make):
    with pytest.raises(ValueError, match="none of the 0 documents"):
        make([], seed=0)
    with pytest.raises(ValueError, match=r"documents\[1\] must be a list of sentences"):
        make([["a", "b"], "a text"], seed=0)
    with pytest.raises(ValueError, match=r"documents\[0\] must be a list of sentences"):
        make([["a", None]], seed=0)
    with pytest.raises(ValueError, match="sentences must be at least 1, got 0"):
        make(corpus(3, 3), seed=0, sentences=0)
    with pytest.raises(ValueError, match="max_words must be at least 2.*got 1"):
        make(corpus(3, 3), seed=0, max_words=1)
