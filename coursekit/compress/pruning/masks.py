"""Which weights to keep: decisions from numbers alone, nothing is changed here.

A mask is boolean and has its weight's shape; True keeps. Weights to drop are counted, then chosen by position, so a
sparsity is met exactly whatever the ties. A threshold would miss it: of four equal weights, `<=` drops all or none.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from coursekit.compress.checks import check_finite, is_number
from coursekit.measure.hygiene import require_counts


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Keep the largest |weight|: exactly round(sparsity·size) entries of any shape are False, the first among equals.

    Raises ValueError for a sparsity outside [0, 1], an empty weight, or NaN or infinite entries.
    """
    return keep_largest(_checked(weight).abs(), sparsity)


def global_magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """As `magnitude_mask`, but all tensors are ranked together, once: round(sparsity·(sum of sizes)) entries are False.

    A tensor under two names counts once, and both names get its mask. Raises ValueError also for no weights.
    """
    first: dict[int, str] = {}
    owner = {name: first.setdefault(id(weight), name) for name, weight in weights.items()}
    masks = keep_largest_together({name: _checked(weights[name], name).abs() for name in first.values()}, sparsity)
    return {name: masks[owner[name]] for name in weights}


def n_m_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """Keep the n largest |weight| among every m consecutive inputs of each row; weight (…, inputs).

    Scores such as Wanda's go the same way: `n_m_mask(weight.abs() * input_norm, 2, 4)`. Mishra et al. (2021,
    section 2) use 2:4. Wanda's released code names the number of *removed* weights first. Raises ValueError unless
    n and m are integers, 1 ≤ n ≤ m, and m divides the inputs.
    """
    scores = _checked(weight).abs()
    require_counts(n=n, m=m)
    if n > m:
        raise ValueError(f"n:m keeps n of every m weights, 1 ≤ n ≤ m; got {n}:{m}")
    if scores.shape[-1] % m:
        raise ValueError(f"{n}:{m} needs a number of inputs that is a multiple of {m}, got {scores.shape[-1]}")
    return ~_smallest(scores.unflatten(-1, (-1, m)), m - n).flatten(-2)


def wanda_mask(weight: Tensor, input_norm: Tensor, sparsity: float) -> Tensor:
    """Keep the largest |W_ij|·‖X_j‖₂ of each row (Sun et al. 2024, equation 1): what a weight does to real outputs.

    weight (out, in); input_norm (in,), the L2 norm of each input over real tokens, from `calibrate`. Outputs are
    compared with nothing but themselves: exactly round(sparsity·in) entries of every row are False. (torchao 0.18
    squares the norms and ranks the whole layer.) Raises ValueError as `magnitude_mask`, and for norms of another
    shape, negative or not finite.
    """
    _checked(weight)
    if weight.dim() != 2 or input_norm.shape != weight.shape[1:]:
        raise ValueError(
            f"a weight (out, in) needs one norm per input; got weight {tuple(weight.shape)} "
            f"and input_norm {tuple(input_norm.shape)}"
        )
    if not (input_norm.isfinite() & (input_norm >= 0)).all():
        raise ValueError("input_norm must be finite and not negative")
    scores = weight.detach().abs().double() * input_norm.detach().to(weight.device).double()
    return ~_smallest(scores, count_zeros(sparsity, weight.shape[1]))


def block_mask(weight: Tensor, sparsity: float, block: tuple[int, int]) -> Tensor:
    """Keep the tiles of block = (rows, columns) with the largest L2 norm; round(sparsity·tiles) of them are False.

    weight (out, in). Whole tiles can be skipped by a kernel, single zeros cannot (Lagunas et al. 2021, section 3).
    Raises ValueError as `magnitude_mask`, and unless tiles fill the weight.
    """
    _checked(weight)
    rows, columns = block
    if weight.dim() != 2 or min(block) < 1 or weight.shape[0] % rows or weight.shape[1] % columns:
        raise ValueError(f"tiles of {rows}×{columns} do not fill a weight of shape {tuple(weight.shape)}")
    squares = weight.detach().double().square().unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
    norms = squares.sum((1, 3))  # (out/rows, rows, in/columns, columns) → (out/rows, in/columns)
    return magnitude_mask(norms, sparsity).repeat_interleave(rows, 0).repeat_interleave(columns, 1)


def cubic_sparsity(step: float, *, start: float, end: float, initial: float, final: float) -> float:
    """Sparsity at a step: final + (initial − final)·(1 − (step − start)/(end − start))³, constant outside.

    Prunes fast while much is redundant, slowly at the end (Zhu & Gupta 2018, equation 1). Raises ValueError unless
    start < end and both sparsities lie in [0, 1].

    >>> [round(cubic_sparsity(step, start=0, end=100, initial=0, final=0.9), 4) for step in (0, 25, 50, 75, 100)]
    [0.0, 0.5203, 0.7875, 0.8859, 0.9]
    """
    if not start < end:
        raise ValueError(f"a schedule needs start < end, got start={start}, end={end}")
    for name, sparsity in (("initial", initial), ("final", final)):
        count_zeros(sparsity, 1, name)
    left = 1 - min(max((step - start) / (end - start), 0.0), 1.0)
    return final + (initial - final) * left**3


def count_zeros(sparsity: float, size: int, name: str = "sparsity") -> int:
    """round(sparsity·size), half to even. Raises ValueError unless the sparsity is a number in [0, 1]."""
    if not (is_number(sparsity) and 0 <= sparsity <= 1):
        raise ValueError(f"{name} must be a number in [0, 1], the share that goes; got {sparsity!r}")
    return round(sparsity * size)


def keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    """As `magnitude_mask`, by scores with a sign: the smallest go, −∞ first. Raises ValueError for NaN."""
    return keep_largest_together({"": scores}, sparsity)[""]


def keep_largest_together(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """As `keep_largest`, with all scores in one ranking."""
    if not scores:
        raise ValueError("there are no weights to rank")
    joined = torch.cat([part.detach().flatten() for part in scores.values()])
    if joined.isnan().any():
        raise ValueError("scores to rank contain NaN")
    keep = ~_smallest(joined, count_zeros(sparsity, joined.numel()))
    parts = keep.split([part.numel() for part in scores.values()])
    return {name: part.view(scores[name].shape).clone() for name, part in zip(scores, parts, strict=True)}


def _checked(weight: Tensor, name: str = "the weight") -> Tensor:
    weight = weight.detach()
    if weight.numel() == 0:
        raise ValueError(f"{name} is empty: shape {tuple(weight.shape)}")
    check_finite(weight, name)
    return weight


def _smallest(scores: Tensor, count: int) -> Tensor:
    """True at exactly `count` entries of each last-axis row: the smallest, and of equal ones the first."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    scores = scores if scores.dtype == torch.float64 else scores.float()  # exact; numpy has no bfloat16
    # numpy selects eight times faster than torch.kthvalue on a CPU.
    limit = np.partition(scores.cpu().numpy(), count - 1, axis=-1)[..., count - 1, None]
    limit = torch.from_numpy(limit).to(scores.device)
    below, tied = scores < limit, scores == limit
    room = count - below.sum(-1, keepdim=True)
    return below | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
