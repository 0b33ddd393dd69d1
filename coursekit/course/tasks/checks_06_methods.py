"""Checks of unit 06 on methods: the gradient of fake quantization, SmoothQuant's divisor, one column of GPTQ."""

from collections.abc import Callable

import torch
from torch import Tensor

from coursekit.course.expect import Draw, expect_call


def gradient(x: Tensor, incoming: Tensor, scale: float, zero: int, bits: int) -> Tensor:
    """06.5 as it should be."""
    codes = (x / scale).round() + zero
    return incoming * ((codes >= -(2 ** (bits - 1))) & (codes <= 2 ** (bits - 1) - 1))


def check_gradient(answer: Callable, draw: Draw) -> None:
    """06.5: values inside the range and beyond both ends, a zero point that shifts it."""
    bits, rows, columns = draw.integer(3, 5), draw.integer(4, 6), draw.integer(7, 9)
    x, incoming = 2 * draw.normal(rows, columns), draw.normal(rows, columns)
    zero = draw.choice((-2, 2))
    scale = round(5.0 / 2**bits, 4)
    low, high = (scale * (code - zero) for code in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    # Beyond each end, at each end (the least code is what a symmetric range leaves out), and where a zero point of 0,
    # or of the other sign, would see the other side of an end.
    ends = [low - 3 * scale, high + 3 * scale, low, high, low - scale, high + scale]
    x[0, :6] = torch.tensor(ends)
    incoming[0, :6] = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0, 6.0])

    def symmetric_range(x: Tensor, g: Tensor, s: float, z: int, b: int) -> Tensor:
        return g * (((x / s).round() + z).abs() <= 2 ** (b - 1) - 1)

    mistakes = {
        "values beyond the range were clamped: moving them changes nothing": lambda x, g, s, z, b: g,
        "this is the true derivative, 0 everywhere; rounding counts as the identity here": lambda x, g, s, z, b: g * 0,
        "the gradient that comes in is missing": lambda x, g, s, z, b: gradient(x, g * 0 + 1, s, z, b),
        "the zero point shifts the range": lambda x, g, s, z, b: gradient(x, g, s, 0, b),
        "the least code is used too: the range is not symmetric": symmetric_range,
        "the scale cancels: divided by it going in, multiplied coming out": lambda x, g, s, z, b: (
            gradient(x, g, s, z, b) * s
        ),
        "this is the gradient of what lies outside the range": lambda x, g, s, z, b: g - gradient(x, g, s, z, b),
    }
    expect_call(answer, (x, incoming, scale, zero, bits), gradient(x, incoming, scale, zero, bits), mistakes=mistakes)


def divisor(largest: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """06.6 as it should be."""
    read = weight.abs().amax(0)
    return torch.where((largest > 0) & (read > 0), largest**alpha / read ** (1 - alpha), 1.0)


def check_divisor(answer: Callable, draw: Draw) -> None:
    """06.6: an outlier channel, one never seen, one never read."""
    inputs, outputs, alpha = draw.integer(8, 10), draw.integer(5, 7), draw.choice((0.3, 0.4, 0.7, 0.8))
    largest, weight = draw.normal(inputs).abs() + 0.5, draw.normal(outputs, inputs)
    weight[:, 2] = -weight[:, 2].abs() - 0.5
    largest[1] *= 40
    largest[4], weight[:, 5] = 0.0, 0.0

    def plain(x: Tensor, w: Tensor, a: float) -> Tensor:
        return x**a / w.abs().amax(0) ** (1 - a)

    def used(x: Tensor, w: Tensor, s: Tensor) -> Tensor:
        return torch.where((x > 0) & (w.abs().amax(0) > 0), s, 1.0)

    mistakes = {
        "a channel that is never seen or never read must get 1, not 0 or infinity": plain,
        "the exponents are exchanged": lambda x, w, a: divisor(x, w, 1 - a),
        "this is the reciprocal: inputs are divided by it": lambda x, w, a: 1 / divisor(x, w, a),
        "the weights' exponent is missing": lambda x, w, a: used(x, w, x**a / w.abs().amax(0)),
        "the weights pull the other way: divide by their part": lambda x, w, a: used(
            x, w, x**a * w.abs().amax(0) ** (1 - a)
        ),
        "the largest absolute weight counts, whatever its sign": lambda x, w, a: used(
            x, w, x**a / w.amax(0).clamp(min=1e-5) ** (1 - a)
        ),
        "the mean of the weights is not their largest": lambda x, w, a: used(x, w, x**a / w.abs().mean(0) ** (1 - a)),
    }
    expect_call(answer, (largest, weight, alpha), divisor(largest, weight, alpha), mistakes=mistakes)


def column_step(weight: Tensor, column: int, scale: Tensor, factor: Tensor, most: int) -> Tensor:
    """06.7 as it should be."""
    rounded = (weight[:, column] / scale).round().clamp(-most, most) * scale
    error = (weight[:, column] - rounded) / factor[column, column]
    result = weight - error[:, None] * factor[column]
    result[:, :column], result[:, column] = weight[:, :column], rounded
    return result


def check_column(answer: Callable, draw: Draw) -> None:
    """06.7: a column in the middle, with a factor that is not symmetric."""
    outputs, inputs, most = draw.integer(4, 6), draw.integer(7, 9), draw.choice((1, 3, 7))
    column = draw.integer(2, 4)
    weight, rows = draw.normal(outputs, inputs), draw.normal(3 * inputs, inputs)
    rows = rows + draw.normal(3 * inputs, 1)  # inputs alike, so that one can stand in for another
    hessian = rows.T @ rows / len(rows)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    scale = weight.abs().amax(1) / most * 0.8

    def step(
        w: Tensor, c: int, s: Tensor, f: Tensor, m: int, *, sign=1.0, divide=True, keep=False, alike=False, until=None
    ):
        rounded = (w[:, c] / s).round().clamp(-m, m) * s
        error = sign * (w[:, c] - rounded) / (f[c, c] if divide else 1.0)
        result = w.clone()
        row = f[c, c].expand(len(f)) if alike else f[c]
        result[:, c + 1 : until] -= (error[:, None] * row)[:, c + 1 : until]
        result[:, c] = w[:, c] if keep else rounded
        return result

    mistakes = {
        "the error goes the wrong way: the later columns must make up for it": lambda *a: step(*a, sign=-1.0),
        "the error is not divided by the factor's diagonal": lambda *a: step(*a, divide=False),
        "the column itself keeps its old weights; it should be rounded now": lambda *a: step(*a, keep=True),
        "only the next column changes; all later ones should": lambda *a: step(*a, until=a[1] + 2),
        "this only rounds the column; the later ones should make up for its error": lambda *a: step(*a, sign=0.0),
        "every later column takes on the same; the factor's row says how much each does": lambda *a: step(
            *a, alike=True
        ),
    }
    given = (weight, column, scale, factor, most)
    expect_call(answer, given, column_step(*given), mistakes=mistakes, rtol=1e-3, atol=1e-4)
