"""BLEU and chrF through sacreBLEU, against numbers worked out by hand."""

import math

import pytest

from coursekit.measure import bleu, bleu_difference, chrf, mean_difference


def test_equal_texts_score_100_and_unrelated_ones_nearly_0():
    texts = ["the cat sat on the mat .", "a dog slept under the old table ."]
    assert bleu(texts, texts).score == pytest.approx(100)
    assert chrf(texts, texts).score == pytest.approx(100)
    assert bleu(["x y z w v u t"], ["the cat sat on the mat ."]).score < 5


def test_bleu_by_hand():
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; equal length, so no brevity penalty
    found = bleu(["the cat sat on a mat"], ["the cat sat on the mat"])
    assert found.score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_brevity_penalty_by_hand():
    # all 5 words right and in order, but 5 of 8: exp(1 − 8/5)
    found = bleu(["one two three four five"], ["one two three four five six seven eight"])
    assert found.score == pytest.approx(100 * math.exp(1 - 8 / 5))


def test_it_is_a_corpus_score_not_a_mean_of_sentences():
    good, poor = "a b c d e f g h i j", "k l m n x"
    references = [good, "k l m n o"]
    mean = (bleu([good], references[:1]).score + bleu([poor], references[1:]).score) / 2
    assert abs(bleu([good, poor], references).score - mean) > 3


def test_signature_and_text():
    found = bleu(["a b c d"], ["a b c d"])
    assert {"nrefs:1", "case:mixed", "tok:13a", "smooth:exp"} <= set(found.signature.split("|"))
    assert "version:" in found.signature
    assert str(found).startswith("100.0 (nrefs:1|")
    assert "nc:6" in chrf(["a"], ["a"]).signature


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "0 hypotheses and 0 references"),
        (["a"], ["a", "b"], "1 hypotheses and 2 references; expected as many"),
        ("a", ["a"], "must be lists of strings, got one string"),
    ],
)
@pytest.mark.parametrize("metric", [bleu, chrf])
def test_bad_input(metric, hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        metric(hypotheses, references)


REFERENCES = ["the cat sat on the mat today", "a dog ran over the big hill", "one two three four five six"] * 8
GOOD = ["the cat sat on the mat", "a dog ran over the hill", "one two three four six five"] * 8
POOR = ["the cat lay on a mat today", "a dog ran up the small hill", "one three two four five six"] * 8


def test_a_difference_of_bleu_is_that_of_the_corpus_scores():
    found = bleu_difference([GOOD, GOOD], [POOR, POOR], REFERENCES, seed=0, repeats=200)
    expected = bleu(GOOD, REFERENCES).score - bleu(POOR, REFERENCES).score
    assert found.difference == pytest.approx(expected) and expected > 10
    assert 0 < found.low < found.difference < found.high and found.p == pytest.approx(2 / 201)


def test_no_difference_is_none_and_seeds_widen_the_interval():
    same = bleu_difference([GOOD], [GOOD], REFERENCES, seed=0, repeats=50)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    mixed = bleu_difference([GOOD, POOR], [POOR, GOOD], REFERENCES, seed=0, repeats=200)
    assert mixed.difference == pytest.approx(0) and mixed.low < -5 < 5 < mixed.high and mixed.p > 0.3
    assert mixed == bleu_difference([GOOD, POOR], [POOR, GOOD], REFERENCES, seed=0, repeats=200)


def test_bad_differences():
    with pytest.raises(
        ValueError, match=r"a has \[24\] translations per seed and b \[24, 24\]; expected as many seeds"
    ):
        bleu_difference([GOOD], [POOR, POOR], REFERENCES, seed=0)
    with pytest.raises(ValueError, match="23 each, one per reference"):
        bleu_difference([GOOD], [POOR], REFERENCES[1:], seed=0)


def test_mean_difference_by_hand():
    a, b, tokens = [[3.0, 5.0, 4.0]], [[1.0, 5.0, 3.0]], [1, 2, 1]
    found = mean_difference(a, b, tokens, seed=0, repeats=500)
    assert found.difference == pytest.approx(3 / 4)
    assert 0 <= found.low < found.difference < found.high <= 2
    per_seed = mean_difference([[1.0] * 50, [3.0] * 50], [[2.0] * 50] * 2, [1] * 50, seed=0)
    assert per_seed.difference == 0 and (per_seed.low, per_seed.high) == (-1, 1)


def test_mean_difference_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"got \(1, 2\), \(1, 3\) and \(2,\)"):
        mean_difference([[1, 2]], [[1, 2, 3]], [1, 1], seed=0)
    with pytest.raises(ValueError, match="weights must be positive, got 0"):
        mean_difference([[1, 2]], [[1, 2]], [1, 0], seed=0)
