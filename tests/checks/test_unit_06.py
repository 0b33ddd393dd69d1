"""The checks of unit 06: the references pass, and each named mistake is found at every draw."""

import copy

import pytest
import torch
from proving import prove, reference
from torch import nn

from coursekit.compress.quantization import Scheme, affine_parameters, fake_quantize, gptq, quantize_model
from coursekit.course.check import run_check
from coursekit.course.tasks import checks_06_codes as codes
from coursekit.course.tasks import checks_06_methods as methods
from coursekit.measure import stored_bytes
from coursekit.models import Encoder, SequenceClassifier, TransformerConfig


def scale(stretch=True, steps=-1, first=None, whole=True, sign=1):
    """06.1 with switches."""

    def answer(low, high, bits):
        if stretch:
            low, high = min(low, 0.0), max(high, 0.0)
        least = -(2 ** (bits - 1)) if first is None else first
        step = (high - low) / (2**bits + steps)
        zero = least - sign * low / step
        return step, round(zero) if whole else zero

    return answer


def rows(axis=1, absolute=True, most=lambda bits: 2 ** (bits - 1) - 1, rounded=True, safe=True, keep=True, cast=True):
    """06.2 with switches."""

    def answer(weight, bits):
        size = weight.abs() if absolute else weight
        step = (size.max() if axis is None else size.amax(axis, keepdim=True)) / most(bits)
        if safe:
            step = torch.where(step != 0, step, torch.ones_like(step))
        quotient = weight / step
        quotient = quotient.round() if rounded else quotient
        limit = 2 ** (bits - 1) - 1
        whole = quotient.clamp(-limit - (most(bits) > limit), limit)
        return whole.to(torch.int8) if cast else whole, step if keep else step.flatten()

    return answer


def halves(packed):
    return (packed & 0b1111).to(torch.int8), (packed >> 4).to(torch.int8)


def signed(half):
    return torch.where(half >= 8, half - 16, half)


def interleave(first, second):
    return torch.stack((first, second), -1).reshape(-1)


def product(subtract=lambda x, z: x.int() - z, sums=lambda s: s, scaled=True, weights=True, bias=lambda b, s, t: b):
    """06.4 with switches."""

    def answer(x, x_scale, x_zero, w, w_scale, b):
        result = sums(subtract(x, x_zero).int() @ w.int().T).float()
        result = result * x_scale if scaled else result
        result = result * w_scale.flatten() if weights else result
        return result + bias(b, x_scale, w_scale.flatten())

    return answer


def slope(inside=lambda raw, b: (raw >= -(2 ** (b - 1))) & (raw < 2 ** (b - 1)), zero=True, value=lambda g, s: g):
    """06.5 with switches."""

    def answer(x, incoming, scale, zero_point, bits):
        raw = torch.round(x / scale) + (zero_point if zero else 0)
        return value(incoming, scale) * inside(raw, bits)

    return answer


def smooth(power=lambda a: (a, a - 1), read=lambda w: w.abs().amax(0), safe=True, invert=False):
    """06.6 with switches."""

    def answer(largest, weight, alpha):
        one, other = power(alpha)
        result = largest**one * read(weight) ** other
        result = 1 / result if invert else result
        return torch.where((largest > 0) & (weight.abs().amax(0) > 0), result, 1.0) if safe else result

    return answer


def column(sign=1, divide=True, rounds=True, spread=lambda f, c: f[c], last=None, moves=True):
    """06.7 with switches."""

    def answer(weight, c, scale, factor, most):
        result = weight.clone()
        q = (weight[:, c] / scale).round().clamp(-most, most) * scale
        error = sign * (weight[:, c] - q) / (factor[c, c] if divide else 1)
        stop = None if last is None else c + 1 + last
        if moves:
            result[:, c + 1 : stop] -= error[:, None] * spread(factor, c)[c + 1 : stop]
        if rounds:
            result[:, c] = q
        return result

    return answer


def size(
    scales=lambda out, groups: out * groups, packed=True, skip=True, once=True, freed=True, rest=True, groups=None
):
    """06.8 by the formula, with switches."""

    def answer(model, bits, group_size):
        total = stored_bytes(model) if rest else 4 * model.classifier.weight.numel()
        total += 0 if rest else 4 * model.classifier.bias.numel()
        for _, module in model.named_modules(remove_duplicate=once):
            if type(module) is not nn.Linear or (skip and module is model.classifier):
                continue
            out, width = module.weight.shape
            number = width // (group_size or groups or width)
            total += out * width * bits // 8 if packed else out * width
            total += 4 * scales(out, number) - (4 * out * width if freed and rest else 0)
        return total

    return answer


def without_rest(model, bits, group_size):
    return size()(model, bits, group_size) - codes.model_bytes_rest(model)


WRONG = {
    "06.1": {
        "stretched to contain 0": scale(stretch=False),
        "codes that start at 0": scale(first=0),
        "one step fewer": scale(steps=0),
        "this is the symmetric scale": lambda low, high, bits: (max(-low, high) / (2 ** (bits - 1) - 1), 0),
        "a whole number": scale(whole=False),
        "the wrong sign of low": scale(sign=-1),
    },
    "06.2": {
        "must not give NaN": rows(safe=False),
        "one scale for each column": rows(axis=0),
        "one scale for the whole matrix": rows(axis=None),
        "whatever its sign": rows(absolute=False),
        "one below that power of two": rows(most=lambda bits: 2 ** (bits - 1)),
        "round first": rows(rounded=False),
        "keeps its second axis": rows(keep=False),
    },
    "06.3": {
        "holds the first of its two codes": lambda p, n: interleave(*map(signed, halves(p)[::-1]))[:n],
        "the codes are signed": lambda p, n: interleave(*halves(p))[:n],
        "which is no code": lambda p, n: interleave(*map(signed, halves(p))),
        "shifts every code by 8": lambda p, n: interleave(*halves(p))[:n] - 8,
        "neighbours": lambda p, n: torch.cat([signed(half) for half in halves(p)])[:n],
    },
    "06.4": {
        "zero point of the inputs is missing": product(subtract=lambda x, z: x.int()),
        "taken off, not added": product(subtract=lambda x, z: x.int() + z),
        "wraps around": product(subtract=lambda x, z: x - z),
        "do not fit into 8 bits": product(sums=lambda s: s.to(torch.int8)),
        "scale of the inputs is missing": product(scaled=False),
        "scales of the weights are missing": product(weights=False),
        "it is not scaled": product(bias=lambda b, s, t: b * s * t),
        "the bias is missing": product(bias=lambda b, s, t: 0),
    },
    "06.5": {
        "values beyond the range": slope(inside=lambda raw, b: raw == raw),
        "the true derivative": slope(inside=lambda raw, b: raw != raw),
        "that comes in is missing": slope(value=lambda g, s: torch.ones_like(g)),
        "shifts the range": slope(zero=False),
        "not symmetric": slope(inside=lambda raw, b: raw.abs() < 2 ** (b - 1)),
        "the scale cancels": slope(value=lambda g, s: g * s),
        "outside the range": slope(inside=lambda raw, b: ~((raw >= -(2 ** (b - 1))) & (raw < 2 ** (b - 1)))),
    },
    "06.6": {
        "must get 1": smooth(safe=False),
        "exponents are exchanged": smooth(power=lambda a: (1 - a, -a)),
        "this is the reciprocal": smooth(invert=True),
        "exponent is missing": smooth(power=lambda a: (a, -1)),
        "pull the other way": smooth(power=lambda a: (a, 1 - a)),
        "whatever its sign": smooth(read=lambda w: w.amax(0).clamp(min=1e-5)),
        "the mean of the weights": smooth(read=lambda w: w.abs().mean(0)),
    },
    "06.7": {
        "goes the wrong way": column(sign=-1),
        "factor's diagonal": column(divide=False),
        "keeps its old weights": column(rounds=False),
        "only the next column": column(last=1),
        "only rounds the column": column(moves=False),
        "takes on the same": column(spread=lambda f, c: torch.full((len(f),), float(f[c, c]))),
    },
    "06.8": {
        "the scales are missing": size(scales=lambda out, number: 0),
        "a scale of its own": size(scales=lambda out, number: out),
        "share bytes": size(packed=False),
        "stays as it is": size(skip=False),
        "stored once": size(once=False),
        "no longer stored": size(freed=False),
        "LayerNorms are stored too": without_rest,
        "a row is one group": size(groups=16),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def test_other_ways_to_be_right():
    """Shifting the sign in, a whole matrix product in float64, and the factor's row from the diagonal on."""

    def shifted(packed, count):
        return interleave((packed << 4).view(torch.int8) >> 4, packed.view(torch.int8) >> 4)[:count]

    def from_the_diagonal(weight, c, step, factor, most):
        result = weight.clone()
        q = (weight[:, c] / step).round().clamp(-most, most) * step
        result[:, c:] -= ((weight[:, c] - q) / factor[c, c])[:, None] * factor[c, c:]
        return result

    def in_real_numbers(x, x_scale, x_zero, w, w_scale, bias):
        return nn.functional.linear((x.float() - x_zero) * x_scale, w * w_scale, bias)

    for task, answer in (("06.3", shifted), ("06.7", from_the_diagonal), ("06.4", in_real_numbers)):
        result = run_check(task, answer, seed=0)
        assert result.status == "right", result


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        ("06.2", rows(cast=False), "int8"),
        ("06.3", lambda p, n: reference("06.3")(p, n).long(), "int8"),
        ("06.1", lambda low, high, bits: scale()(low, high, bits)[0], "tuple"),
    ],
)
def test_odd_answers(task, answer, message):
    result = run_check(task, answer, seed=0)
    assert result.status == "wrong" and message in result.message, result


def test_checks_do_not_change_the_random_state():
    before = torch.get_rng_state()
    for task in WRONG:
        run_check(task, copy.copy(reference(task)), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_library_agrees_with_the_stand_ins():
    """Formulas of the checks against the library's own code."""
    step, zero = affine_parameters(torch.tensor(0.4), torch.tensor(1.7), bits=6, symmetric=False)
    assert codes.scale_and_zero(0.4, 1.7, 6) == (pytest.approx(float(step)), int(zero))
    x = torch.randn(5, 6, requires_grad=True)
    fake_quantize(x, bits=3, symmetric=False, scale=torch.tensor(0.2), zero_point=torch.tensor(1)).sum().backward()
    assert torch.equal(methods.gradient(x.detach(), torch.ones(5, 6), 0.2, 1, 3), x.grad)
    model = SequenceClassifier(Encoder(TransformerConfig(50, 32, 2, 4, 48)), 2)
    for group in (16, None):
        assert codes.model_bytes(model, 4, group) == stored_bytes(quantize_model(model, Scheme(4, group)))
    weight, inputs = torch.randn(3, 6), torch.randn(40, 6) + torch.randn(40, 1)
    hessian = (inputs.T @ inputs / 40).double()
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(6)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    scales, moving = weight.abs().amax(1).double() / 7, weight.double()
    for place in range(6):
        moving = methods.column_step(moving, place, scales, factor, 7)
    torch.testing.assert_close(moving.float(), gptq(weight, inputs, bits=4).dequantize(), atol=1e-5, rtol=1e-4)
