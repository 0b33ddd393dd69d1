"""How sure an accuracy is."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from coursekit.measure.hygiene import require_counts


class Difference(NamedTuple):
    """Mean of a minus mean of b, the ends of its interval, and the two-sided p-value of "no difference"."""

    difference: float
    low: float
    high: float
    p: float


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Share of items whose prediction equals the label, both (N,). ValueError: empty, NaN, or shapes that differ."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or predictions.ndim != 1 or not predictions.size:
        raise ValueError(
            f"predictions and labels must be equal, non-empty (N,) shapes, got {predictions.shape} and {labels.shape}"
        )
    for name, values in (("predictions", predictions), ("labels", labels)):
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ValueError(f"{name} contain NaN")
    return float((predictions == labels).mean())


def standard_error(correct: ArrayLike) -> float:
    """√(p(1 − p)/N): how far the accuracy p on N items typically lies from that on endless such items. correct (N,)."""
    values = _outcomes("correct", correct)[0]
    share = values.mean()
    return math.sqrt(share * (1 - share) / values.size)


def bootstrap_interval(
    correct: ArrayLike, *, seed: int, repeats: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the accuracy over resampled test items.

    correct: (N,) of 0 and 1 per item, or (S, N) for S training seeds tested on the same items; then seeds are
    resampled too. Raises ValueError on other values, an empty array, or a level outside (0, 1).
    """
    return _ends(_resampled_means(_outcomes("correct", correct), seed, repeats), level)


def paired_bootstrap(
    correct_a: ArrayLike, correct_b: ArrayLike, *, seed: int, repeats: int = 10_000, level: float = 0.95
) -> Difference:
    """Accuracy of a minus accuracy of b on the same test items (and seeds), by resampling the paired differences.

    Shapes and errors as `bootstrap_interval`. p doubles the smaller tail at zero difference, counting one
    resample more than were drawn, so it is never 0.
    """
    a, b = _outcomes("correct_a", correct_a), _outcomes("correct_b", correct_b)
    if a.shape != b.shape:
        raise ValueError(f"correct_a has shape {np.shape(correct_a)}, correct_b {np.shape(correct_b)}")
    return as_difference(float((a - b).mean()), _resampled_means(a - b, seed, repeats), level)


def mean_difference(
    a: ArrayLike, b: ArrayLike, weights: ArrayLike, *, seed: int, repeats: int = 10_000, level: float = 0.95
) -> Difference:
    """Σa/Σweights minus Σb/Σweights, as nats per token, by a paired bootstrap over items and seeds.

    a and b: (S, N), any numbers, for S training seeds and the same N items; weights (N,), positive. p as
    `paired_bootstrap`. Raises ValueError for other shapes, no items, or weights that are not positive.
    """
    a, b, weights = (np.asarray(values, dtype=float) for values in (a, b, weights))
    if a.ndim != 2 or a.shape != b.shape or weights.shape != a.shape[1:] or not a.size:
        raise ValueError(f"expected a and b (S, N) and weights (N,), got {a.shape}, {b.shape} and {weights.shape}")
    if not (weights > 0).all():
        raise ValueError(f"weights must be positive, got {weights.min()}")
    require_counts(repeats=repeats)
    rng, (seeds, items) = np.random.default_rng(seed), a.shape
    drawn = rng.multinomial(items, np.full(items, 1 / items), size=repeats)  # (repeats, N)
    per_seed = drawn @ (a - b).T / (drawn @ weights)[:, None]  # (repeats, S)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=repeats) / seeds
    return as_difference(float((a - b).mean(0).sum() / weights.sum()), (per_seed * chosen).sum(1), level)


def as_difference(whole: float, resampled: np.ndarray, level: float = 0.95) -> Difference:
    """A difference with the interval and the p-value that its resampled values (repeats,) give it."""
    tail = int(min((resampled <= 0).sum(), (resampled >= 0).sum()))
    return Difference(whole, *_ends(resampled, level), min(1.0, 2 * (tail + 1) / (len(resampled) + 1)))


def _resampled_means(values: np.ndarray, seed: int, repeats: int) -> np.ndarray:
    """Mean of `values` (S, N) in each of `repeats` resamples of its items and of its seeds: (repeats,).

    Items with equal columns are interchangeable, so how often each distinct column is drawn is one multinomial
    draw: exactly the usual bootstrap, without `repeats` × N random numbers.
    """
    require_counts(repeats=repeats)
    rng = np.random.default_rng(seed)
    seeds, items = values.shape
    columns, counts = np.unique(values, axis=1, return_counts=True)
    drawn = rng.multinomial(items, counts / items, size=repeats)  # (repeats, distinct columns)
    per_seed = drawn @ columns.T / items  # (repeats, S)
    weight = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=repeats) / seeds
    return (per_seed * weight).sum(1)


def _ends(means: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _outcomes(name: str, correct: ArrayLike) -> np.ndarray:
    """`correct` as (S, N) floats, checked."""
    values = np.asarray(correct, dtype=float)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"{name} must be a non-empty (N,) or (S, N) array, got shape {values.shape}")
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{name} must hold only 0 and 1 (false and true)")
    return np.atleast_2d(values)
