"""Which rank, and which two factors: arithmetic on one matrix, no model in sight. Weights are (out, in) throughout."""

import math

import torch
from torch import Tensor

from coursekit.compress.checks import check_finite, check_positive, is_number
from coursekit.compress.lowrank.moments import InputMoments
from coursekit.measure.hygiene import require_counts

DAMPING = 0.01


def break_even_rank(out_features: int, in_features: int) -> float:
    """m·n / (m + n): two factors of a smaller rank store and multiply less than the m×n matrix.

    >>> break_even_rank(768, 768), round(break_even_rank(3072, 768), 1)
    (384.0, 614.4)
    """
    require_counts(out_features=out_features, in_features=in_features)
    return out_features * in_features / (out_features + in_features)


def rank_for_budget(out_features: int, in_features: int, keep: float) -> int:
    """Largest rank whose two factors hold at most keep·m·n numbers: ⌊keep·m·n / (m + n)⌋, which is not keep·min(m, n).

    0 where not even rank 1 fits. Raises ValueError unless 0 < keep ≤ 1.

    >>> rank_for_budget(768, 768, 0.5), rank_for_budget(3072, 768, 0.5), rank_for_budget(2, 384, 0.5)
    (192, 307, 0)
    """
    check_keep(keep)
    exact = keep * break_even_rank(out_features, in_features)
    return math.floor(exact * (1 + 1e-12))  # 10/21 of a 3×7 matrix is rank 1, whatever floating point makes of 10/21


def check_keep(keep: float) -> None:
    """Raise ValueError unless `keep` is a share in (0, 1]."""
    if not (is_number(keep) and 0 < keep <= 1):
        raise ValueError(f"keep is the share of weights to keep, above 0 and at most 1; got {keep!r}")


def check_rank(rank: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless 1 ≤ rank ≤ min(out, in)."""
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(shape):
        raise ValueError(f"the rank of a {shape[0]}×{shape[1]} matrix lies between 1 and {min(shape)}, got {rank!r}")


def check_weight(weight: Tensor, name: str = "the matrix") -> None:
    """Raise ValueError unless the weight has two dimensions and finite numbers."""
    if weight.dim() != 2:
        raise ValueError(f"{name} must have two dimensions (out, in), got shape {tuple(weight.shape)}")
    check_finite(weight, name)


def spectrum(weight: Tensor, moments: InputMoments | None = None, *, centred: bool = True) -> Tensor:
    """Singular values, largest first (min(out, in),), in double precision.

    Of W: the squares beyond rank r add up to the smallest ‖W − Ŵ‖² (Eckart and Young 1936). With moments, of W·S with
    S·Sᵀ the inputs' covariance (or, not centred, their second moment): the squares beyond r add up to the smallest
    mean squared error of the outputs.
    """
    check_weight(weight)
    gram, _ = _gram(weight.detach().double(), None if moments is None else _second(weight, moments, centred))
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()


def svd_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(out, rank) and (rank, in) whose product is nearest to W in Frobenius norm: U√Σ and √Σ Vᵀ of the SVD, cut.

    Of a weight of any precision, computed in double, returned in its own. Raises ValueError for a rank out of range or
    weights that are not finite.
    """
    check_weight(weight)
    check_rank(rank, weight.shape)
    return _factors(weight, rank, None)


def aware_factors(
    weight: Tensor, rank: int, moments: InputMoments, *, centred: bool = True, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """(out, rank) and (rank, in) whose product gives the nearest outputs: min E‖W x − Ŵ x‖² over inputs x as seen.

    With C = S·Sᵀ the covariance of x, the error is ‖(W − Ŵ) S‖². By Eckart and Young the best Ŵ S is W S cut at rank
    r, that is U_r U_rᵀ W S. Hence Ŵ = U_r U_rᵀ W: S need not be inverted, and U_r are the principal directions of the
    outputs. SVD-LLM (Wang et al. 2024) states the same problem, with second moments, cuts W S and multiplies by S⁻¹.
    Centred, the mean of the error is left to the bias (`corrected_bias`), which costs nothing and is never worse.

    damping: a share of the mean variance that is added to each input, so that directions without data count a little
    and all-zero inputs give the plain SVD. Factors are balanced as those of `svd_factors`. Raises ValueError for a rank
    out of range, weights that are not finite, moments of another width, or damping that is not positive.
    """
    check_weight(weight)
    check_rank(rank, weight.shape)
    check_positive("damping", damping)
    second = _second(weight, moments, centred)
    floor = second.diagonal().mean() or 1 / damping  # all-zero inputs: every direction counts the same
    return _factors(weight, rank, second + damping * floor * torch.eye(len(second)).to(second))


def corrected_bias(weight: Tensor, bias: Tensor, up: Tensor, down: Tensor, mean: Tensor) -> Tensor:
    """b + (W − Ŵ) μ (out,): the outputs keep their mean, so only the inputs' covariance is left to match."""
    lost = weight.detach().double() - up.double() @ down.double()
    return (bias.detach().double() + lost @ mean.double()).to(bias.dtype)


def _second(weight: Tensor, moments: InputMoments, centred: bool) -> Tensor:
    """The inputs' covariance, or their second moment (in, in), if it fits the weight."""
    second = moments.covariance if centred else moments.second
    if second.shape != (weight.shape[1],) * 2:
        raise ValueError(f"moments of {second.shape[0]} inputs were given for a matrix with {weight.shape[1]}")
    return second.to(weight.device, torch.double)


def _gram(weight: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The smaller of W C Wᵀ and Sᵀ Wᵀ W S, with the same eigenvalues but zeros, and W S where it is the latter.

    C = S Sᵀ is `second`, or the identity. An eigendecomposition of this is several times faster than an SVD of W S.
    """
    if weight.shape[0] <= weight.shape[1]:
        return (weight if second is None else weight @ second) @ weight.T, None
    if second is not None:
        values, vectors = torch.linalg.eigh(second)
        weight = weight @ (vectors * values.clamp(min=0).sqrt())
    return weight.T @ weight, weight


def _factors(weight: Tensor, rank: int, second: Tensor | None) -> tuple[Tensor, Tensor]:
    """U_r U_rᵀ W as two factors whose columns and rows have the roots of its singular values as lengths."""
    whole = weight.detach().double()
    gram, seen = _gram(whole, second)
    left = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :rank]
    if seen is not None:
        left = torch.linalg.qr(seen @ left).Q  # from right to left singular vectors; orthonormal even where they vanish
    down = left.T @ whole
    squares, turn = torch.linalg.eigh(down @ down.T)
    floor = 1e-15 * squares[-1]  # a direction that W lacks: zeros up to rounding, in both factors
    root = squares.clamp(min=floor or 1.0) ** 0.25
    return (left @ turn * root).to(weight.dtype), (turn.T @ down / root[:, None]).to(weight.dtype)
