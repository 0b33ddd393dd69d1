"""Ranks and factors of one matrix: by hand, Eckart and Young, activations, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.compress.lowrank import (
    LowRankLinear,
    aware_factors,
    break_even_rank,
    corrected_bias,
    factorize,
    moments_of,
    rank_for_budget,
    spectrum,
    svd_factors,
)
from coursekit.measure import count_flops, count_parameters, stored_bytes

few = settings(max_examples=25, deadline=None)
sizes = st.integers(2, 14)


def correlated(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Inputs (rows, width) whose directions differ in size by orders of magnitude, around a mean that is not zero."""
    draw = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(width, width, generator=draw))[0]
    return torch.randn(rows, width, generator=draw) * 0.5 ** torch.arange(width) @ turn + turn[0]


def output_error(linear: nn.Linear, other: nn.Module, inputs: torch.Tensor) -> float:
    """Mean squared difference of outputs."""
    return (linear(inputs) - other(inputs)).double().square().sum(-1).mean().item()


def test_break_even_and_budget_by_hand():
    """Pitfall 52: 384 for 768², 614.4 for 768×3072; half of the weights is half of that rank, rounded down."""
    assert break_even_rank(768, 768) == 384 and break_even_rank(3072, 768) == pytest.approx(614.4)
    assert rank_for_budget(768, 768, 0.5) == 192 and rank_for_budget(3072, 768, 0.5) == 307
    assert rank_for_budget(6, 3, 1.0) == 2  # 6·3/9, a whole number: as large as the matrix
    assert rank_for_budget(2, 384, 0.5) == 0


@few
@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.01, 1))
def test_a_budget_is_kept_and_used(rows, columns, keep):
    rank = rank_for_budget(rows, columns, keep)
    assert rank * (rows + columns) <= keep * rows * columns * (1 + 1e-9)
    assert (rank + 1) * (rows + columns) > keep * rows * columns


@few
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
def test_a_share_that_means_a_whole_rank_gives_it(rows, columns, rank):
    """Floating point must not lose a rank: keep = rank·(m + n) / (m·n)."""
    share = rank * (rows + columns) / (rows * columns)
    if 0 < share <= 1:
        assert rank_for_budget(rows, columns, share) == rank


@few
@given(sizes, sizes, st.integers(0, 99))
def test_eckart_young(rows, columns, seed):
    """Pitfall 51: the error is the root of the dropped squares, and never grows with the rank."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    singular, errors = spectrum(weight), []
    for rank in range(1, min(rows, columns) + 1):
        up, down = svd_factors(weight, rank)
        assert up.shape == (rows, rank) and down.shape == (rank, columns)
        errors.append((weight - up @ down).norm().item())
        assert errors[-1] == pytest.approx(singular[rank:].square().sum().sqrt().item(), abs=1e-9)
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-9


def test_factors_by_hand():
    up, down = svd_factors(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), 1)
    assert torch.allclose(up @ down, torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), atol=1e-6)
    assert up.norm().item() == pytest.approx(math.sqrt(3)) == down.norm().item()  # the roots, in equal parts


def test_orientation_and_bias():
    """Pitfall 50: in → rank without bias, rank → out with the original one; the bias counts once."""
    linear = nn.Linear(10, 6)
    layer = factorize(linear, 4)
    assert layer.down.weight.shape == (4, 10) and layer.down.bias is None
    assert layer.up.weight.shape == (6, 4) and torch.equal(layer.up.bias, linear.bias)
    assert count_parameters(layer).total == 4 * (10 + 6) + 6
    assert stored_bytes(layer) == 4 * (4 * 16 + 6)
    assert count_flops(layer, inputs=torch.zeros(5, 10)) == 2 * 5 * 4 * 16
    x = torch.randn(3, 2, 10)
    assert torch.allclose(layer(x), x @ layer.weight.T + linear.bias, atol=1e-6)
    assert factorize(nn.Linear(10, 6, bias=False), 2).bias is None


def test_full_rank_changes_nothing_and_merge_folds_back():
    linear, x = nn.Linear(7, 12).eval(), torch.randn(9, 7)
    for moments in (None, moments_of(correlated(40, 7))):
        assert torch.allclose(factorize(linear, 7, moments)(x), linear(x), atol=1e-5)
        layer = factorize(linear, 3, moments)
        merged = layer.merge()
        assert type(merged) is nn.Linear and not merged.training
        assert torch.allclose(merged(x), layer(x), atol=1e-6)
        merged.bias.data += 1  # a copy
        assert not torch.equal(merged.bias, layer.bias)


@few
@given(st.integers(4, 12), st.integers(4, 12), st.integers(1, 3), st.integers(0, 99))
def test_aware_is_better_where_inputs_are_correlated(rows, columns, rank, seed):
    """At equal rank the outputs' error on the inputs seen is the optimum, and that of plain SVD is larger."""
    torch.manual_seed(seed)
    linear, inputs = nn.Linear(columns, rows).double(), correlated(200, columns, seed).double()
    moments = moments_of(inputs)
    up, down = aware_factors(linear.weight, rank, moments, damping=1e-10)
    best = spectrum(linear.weight, moments)[rank:].square().sum().item()
    aware = LowRankLinear.from_factors(up, down, corrected_bias(linear.weight, linear.bias, up, down, moments.mean))
    assert output_error(linear, aware, inputs) == pytest.approx(best, rel=1e-4, abs=1e-9)
    plain = output_error(linear, factorize(linear, rank), inputs)
    assert best <= plain
    assert output_error(linear, factorize(linear, rank, moments), inputs) < plain  # with the damping as it is


def test_aware_is_the_whitened_svd():
    """U_r U_rᵀ W equals cutting W·S and multiplying by S⁻¹, where that inverse exists."""
    weight, moments = torch.randn(6, 9, dtype=torch.double), moments_of(correlated(300, 9))
    root = torch.linalg.cholesky(moments.second + 1e-12 * torch.eye(9))
    left, singular, right = torch.linalg.svd(weight @ root, full_matrices=False)
    whitened = (left[:, :2] * singular[:2]) @ right[:2] @ torch.linalg.inv(root)
    up, down = aware_factors(weight, 2, moments, centred=False, damping=1e-12)
    assert torch.allclose(up @ down, whitened, atol=1e-6)


def test_isotropic_inputs_give_the_plain_svd():
    weight = torch.randn(5, 8, dtype=torch.double)
    moments = moments_of(torch.cat((torch.eye(8), -torch.eye(8))))  # mean 0, covariance I/8
    ours, plain = aware_factors(weight, 3, moments), svd_factors(weight, 3)
    assert torch.allclose(ours[0] @ ours[1], plain[0] @ plain[1], atol=1e-9)


def test_centring_leaves_the_mean_to_the_bias():
    """Inputs that vary along one direction around a large mean: rank 1 is exact with a bias, not without."""
    inputs = torch.tensor([[10.0, 0.0, 1.0], [10.0, 0.0, -1.0], [10.0, 0.0, 3.0]])
    linear = nn.Linear(3, 3)
    assert output_error(linear, factorize(linear, 1, moments_of(inputs)), inputs) < 1e-4
    bare = nn.Linear(3, 3, bias=False)
    assert output_error(bare, factorize(bare, 1, moments_of(inputs)), inputs) > 1e-3


def test_calibration_without_variance_or_of_low_rank():
    """All-zero inputs give the plain SVD; fewer inputs than dimensions finite factors that are exact on them."""
    linear = nn.Linear(8, 6)
    zero = factorize(linear, 2, moments_of(torch.zeros(4, 8)))
    assert torch.allclose(zero.weight, factorize(linear, 2).weight, atol=1e-5)
    assert torch.equal(zero.bias, linear.bias)
    inputs = torch.randn(3, 8)  # about their mean they span two directions
    layer = factorize(linear, 2, moments_of(inputs))
    assert layer.weight.isfinite().all() and output_error(linear, layer, inputs) < 1e-4
    constant = factorize(linear, 1, moments_of(torch.ones(5, 8)))
    assert torch.allclose(constant(torch.ones(8)), linear(torch.ones(8)), atol=1e-5)


def test_weights_of_low_rank_and_zero_weights():
    """More rank than the matrix has is no trouble: finite factors of equal size, and an exact product."""
    for weight in (torch.zeros(9, 5), torch.outer(torch.arange(9.0), torch.ones(5)), torch.ones(4, 7)):
        for up, down in (svd_factors(weight, 3), aware_factors(weight, 3, moments_of(correlated(20, weight.shape[1])))):
            assert up.isfinite().all() and down.isfinite().all()
            assert torch.allclose(up @ down, weight, atol=1e-5)


def test_precision_and_gradient_are_the_linears():
    linear = nn.Linear(8, 6).to(torch.bfloat16).requires_grad_(False)
    layer = factorize(linear, 3)
    assert layer.up.weight.dtype == torch.bfloat16 and not layer.up.weight.requires_grad
    trained = factorize(nn.Linear(8, 6), 3)
    trained(torch.randn(2, 8)).sum().backward()
    assert trained.down.weight.grad is not None and trained.up.bias.grad is not None


@pytest.mark.parametrize("rank", [0, -1, 7, 2.0, True])
def test_ranks_out_of_range(rank):
    for call in (
        lambda: factorize(nn.Linear(10, 6), rank),
        lambda: LowRankLinear(10, 6, rank),
        lambda: aware_factors(torch.ones(6, 10), rank, moments_of(torch.ones(2, 10))),
    ):
        with pytest.raises(ValueError, match="6×10 matrix lies between 1 and 6, got"):
            call()


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, math.nan, "half", True])
def test_shares_out_of_range(keep):
    with pytest.raises(ValueError, match="keep is the share"):
        rank_for_budget(6, 4, keep)


@pytest.mark.parametrize("damping", [0, -0.01, math.nan, math.inf, None])
def test_damping_that_is_not_positive(damping):
    """Of all-zero inputs too, which else divide by it."""
    for inputs in (torch.randn(9, 4), torch.zeros(9, 4)):
        with pytest.raises(ValueError, match=f"damping must be positive and finite, got {damping}"):
            aware_factors(torch.randn(3, 4), 2, moments_of(inputs), damping=damping)


def test_bad_matrices_and_moments():
    for value in (math.nan, math.inf):
        linear = nn.Linear(4, 3)
        linear.weight.data[0, 0] = value
        with pytest.raises(ValueError, match="the matrix has 1 NaN or infinite entries"):
            factorize(linear, 1)
        linear.weight.data[0, 0], linear.bias.data[2] = 0.0, value
        with pytest.raises(ValueError, match="the bias has 1 NaN or infinite entries"):
            factorize(linear, 1)
        with pytest.raises(ValueError, match="finite inputs"):
            moments_of(torch.full((2, 3), value))
    with pytest.raises(ValueError, match="two dimensions"):
        svd_factors(torch.ones(3), 1)
    with pytest.raises(ValueError, match="moments of 5 inputs were given for a matrix with 4"):
        factorize(nn.Linear(4, 3), 1, moments_of(torch.ones(2, 5)))
    with pytest.raises(ValueError, match="finite inputs"):
        moments_of(torch.ones(0, 3))
    with pytest.raises(ValueError, match=r"only an nn\.Linear"):
        factorize(nn.LayerNorm(3), 1)
