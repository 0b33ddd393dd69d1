"""BLEU and chrF of translations, by sacreBLEU: numbers that can be compared because they carry their settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from coursekit.measure.statistics import Difference, as_difference


@dataclass(frozen=True)
class Bleu:
    """A corpus score from 0 to 100, and sacreBLEU's signature: tokenisation, case, smoothing, version."""

    score: float
    signature: str

    def __str__(self) -> str:
        return f"{self.score:.1f} ({self.signature})"


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """BLEU (Papineni et al. 2002) of a corpus of hypotheses, one reference each, as plain text (Post 2018).

    Raises ValueError for no hypotheses, or another number of references.
    """
    return _score(BLEU(), hypotheses, references)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """chrF2 (Popović 2015), which compares character n-grams. Arguments and errors as `bleu`."""
    return _score(CHRF(), hypotheses, references)


def bleu_difference(
    a: Sequence[Sequence[str]], b: Sequence[Sequence[str]], references: Sequence[str], *, seed: int, repeats: int = 2000
) -> Difference:
    """BLEU of a minus BLEU of b, each a list of S seeds' translations of the same N sources, with a 95 % interval.

    The mean over seeds; a paired bootstrap resamples sentences and seeds (Koehn 2004). Raises ValueError for unequal
    numbers of seeds or sentences.
    """
    if not a or len(a) != len(b) or any(len(said) != len(references) for said in (*a, *b)):
        raise ValueError(
            f"a has {[*map(len, a)]} translations per seed and b {[*map(len, b)]}; expected as many seeds, and "
            f"{len(references)} each, one per reference"
        )
    counts = np.array([[_counts(said, references) for said in side] for side in (a, b)])  # (2, S, N, 10)
    rng, seeds, items = np.random.default_rng(seed), len(a), len(references)

    def difference(sentences: np.ndarray, drawn: np.ndarray) -> float:
        sums = np.tensordot(counts, sentences, (2, 0))  # (2, S, 10)
        scores = np.array([[_from_counts(row) for row in side] for side in sums])
        return float((scores[0] - scores[1]) @ drawn / drawn.sum())

    found = np.array(
        [
            difference(rng.multinomial(items, [1 / items] * items), rng.multinomial(seeds, [1 / seeds] * seeds))
            for _ in range(repeats)
        ]
    )
    return as_difference(difference(np.ones(items, int), np.ones(seeds, int)), found)


def _counts(hypotheses: Sequence[str], references: Sequence[str]) -> list[list[int]]:
    """What BLEU adds up over sentences: right n-grams (4), n-grams (4), length, reference length."""
    metric = BLEU(effective_order=True)  # of its sentence scores only the counts are used
    scores = [metric.sentence_score(said, [right]) for said, right in zip(hypotheses, references, strict=True)]
    return [[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores]


def _from_counts(sums: np.ndarray) -> float:
    right, all_of_them, length, reference_length = sums[:4].tolist(), sums[4:8].tolist(), int(sums[8]), int(sums[9])
    return BLEU.compute_bleu(right, all_of_them, length, reference_length, smooth_method="exp").score


def _score(metric: BLEU | CHRF, hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise ValueError("hypotheses and references must be lists of strings, got one string; write [text]")
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} references; expected as many, at least 1")
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Bleu(score, str(metric.get_signature()))
