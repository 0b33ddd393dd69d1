"""Every check of unit 05 accepts its reference and names the mistake of each wrong answer."""

import pytest
import torch
from proving import prove, reference

from coursekit.course.check import run_check


def by_threshold(weight, sparsity):
    border = weight.abs().flatten().sort().values[max(round(sparsity * weight.numel()) - 1, 0)]
    return weight.abs() > border if sparsity else torch.ones_like(weight, dtype=torch.bool)


def above_threshold(weight, sparsity):
    ordered = weight.abs().flatten().sort().values
    count = round(sparsity * weight.numel())
    if count == weight.numel():
        return torch.zeros_like(weight, dtype=torch.bool)
    return weight.abs() >= ordered[count]


def topk_mask(values, count):
    mask = torch.ones(values.numel(), dtype=torch.bool)
    mask[values.flatten().topk(count, largest=False).indices] = False
    return mask.view(values.shape)


def grouped(weight, m):
    return weight.view(len(weight), -1, m)


def keep_in_groups(scores, n):
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter(-1, scores.topk(n, -1).indices, True).flatten(1)


def n_m(score=torch.abs, refuse=ValueError):
    def answer(weight, n, m):
        if weight.shape[1] % m:
            if refuse is None:
                weight = weight[:, : weight.shape[1] // m * m]
            else:
                raise refuse("does not divide")
        return keep_in_groups(grouped(score(weight), m), n)

    return answer


def spread_groups(weight, n, m):
    scores = weight.abs().view(len(weight), m, -1)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter(1, scores.topk(n, 1).indices, True).flatten(1)


def wanda(norm=lambda tokens: tokens.norm(dim=0), real=lambda mask: mask, score=lambda w, x: w.abs() * x):
    def answer(weight, inputs, mask, sparsity):
        scores = score(weight, norm(inputs[real(mask)]))
        count = round(sparsity * weight.shape[1])
        result = torch.ones_like(scores, dtype=torch.bool)
        return result.scatter(1, scores.topk(count, 1, largest=False).indices, False)

    return answer


def cubic(power=3, low=True, high=True, shift=True, swap=False, rise=False):
    def answer(step, *, start, end, initial, final):
        part = (step - (start if shift else 0)) / (end - start)
        part = max(part, 0) if low else part
        part = min(part, 1) if high else part
        first, last = (final, initial) if swap else (initial, final)
        if rise:
            return first + (last - first) * part**power
        return last + (first - last) * (1 - part) ** power

    return answer


def head(rows=None, output=True, biases=True, columns=False, out_bias=False, by_row=False):
    """An answer to 05.6 with switches; rows(total, size, head, heads) are those that stay."""

    def answer(state, number, heads):
        total = len(state["query.weight"])
        size = total // heads
        inside = range(number * size, (number + 1) * size)
        kept = [row for row in range(total) if row not in inside] if rows is None else rows(total, size, number, heads)
        result = {}
        for name, tensor in state.items():
            part, kind = name.split(".")
            if part == "output":
                tensor = tensor[kept] if kind == "bias" and out_bias else tensor
                if kind == "weight" and output:
                    tensor = tensor[kept] if by_row else tensor[:, kept]
            elif kind == "weight":
                tensor = tensor[:, kept] if columns else tensor[kept]
            elif biases:
                tensor = tensor[kept]
            result[name] = tensor
        return result

    return answer


def band(total, first, size):
    return [row for row in range(total) if not first <= row < first + size]


def neurons(rows=lambda k, n: k, bias=True, columns=True, out_bias=False):
    def answer(up_weight, up_bias, down_weight, down_bias, keep):
        chosen = rows(keep, len(up_bias))
        return (
            up_weight[chosen],
            up_bias[chosen] if bias else up_bias,
            down_weight[:, chosen] if columns else down_weight,
            down_bias[: len(keep)] if out_bias else down_bias,
        )

    return answer


def zeroed(up_weight, up_bias, down_weight, down_bias, keep):
    on = torch.zeros(len(up_bias))
    on[keep] = 1
    return up_weight * on[:, None], up_bias * on, down_weight * on, down_bias


def sizes(kept_values=True, starts=1, index=None, value=None, bits=lambda n, kept: -(-n // 8), dense=True, columns=1):
    def answer(weight, index_bytes):
        kept, each = int((weight != 0).sum()), value or weight.element_size()
        number = index(weight) if index else index_bytes
        borders = 0 if starts is None else (len(weight) + starts) * index_bytes
        return {
            "dense": (weight.numel() if dense else kept) * each,
            "csr": kept * (each + columns * number) + borders,
            "bits": kept * each + bits(weight.numel(), kept),
        }

    return answer


def gradients(for_weight, for_scores):
    def answer(weight, mask, x, upstream):
        product = torch.einsum("no,ni->oi", upstream, x)
        return for_weight(product, weight, mask), for_scores(product, weight, mask)

    return answer


def masked(g, w, m):
    return g * m


def moving(g, w, m):
    return g * w


WRONG = {
    "05.1": {
        "all that are equal to the border fell together": by_threshold,
        "all that are equal to the border stayed together": above_threshold,
        "rounded to the nearest, not cut": lambda w, s: topk_mask(w.abs(), int(s * w.numel())),
        "one weight too many goes": lambda w, s: topk_mask(w.abs(), min(round(s * w.numel()) + 1, w.numel())),
        "here true marks those that go": lambda w, s: ~topk_mask(w.abs(), round(s * w.numel())),
        "the sign counts here": lambda w, s: topk_mask(w, round(s * w.numel())),
        "the largest go": lambda w, s: topk_mask(-w.abs(), round(s * w.numel())),
        "each row is ranked by itself here": lambda w, s: torch.stack(
            [topk_mask(row.abs(), round(s * len(row))) for row in w]
        ),
        "the share that stays": lambda w, s: topk_mask(w.abs(), round((1 - s) * w.numel())),
    },
    "05.2": {
        "in a straight line": cubic(power=1),
        "the square, not the cube": cubic(power=2),
        "slowly first and fast at the end": cubic(rise=True),
        "initial and final are exchanged": cubic(swap=True),
        "steps count from the start": cubic(shift=False),
        "the initial sparsity is missing": lambda step, *, start, end, initial, final: cubic()(
            step, start=start, end=end, initial=0.0, final=final
        ),
        "the formula must not run backwards": cubic(low=False),
        "stays at the final one": cubic(high=False),
    },
    "05.3": {
        "here n are removed": lambda w, n, m: n_m()(w, m - n, m),
        "here true marks those that go": lambda w, n, m: ~n_m()(w, n, m),
        "these run down the outputs": lambda w, n, m: n_m()(w.T.contiguous(), n, m).T,
        "these are spread over the row": spread_groups,
        "the sign counts here": n_m(score=lambda w: w),
        "the smallest stay": n_m(score=lambda w: -w.abs()),
        "the whole row is one ranking here": lambda w, n, m: wanda(score=lambda w, x: w.abs())(
            w, torch.ones(1, 1, w.shape[1]), torch.ones(1, 1, dtype=torch.bool), 1 - n / m
        ),
        "should raise a ValueError, not be cut": n_m(refuse=None),
        "should raise a ValueError, not a RuntimeError": n_m(refuse=RuntimeError),
    },
    "05.4": {
        "padding counts here": wanda(real=torch.ones_like),
        "the whole matrix is one ranking here": lambda w, x, r, s: topk_mask(
            w.abs() * x[r].norm(dim=0), round(s * w.numel())
        ),
        "the weights alone": wanda(score=lambda w, x: w.abs()),
        "the inputs alone": wanda(score=lambda w, x: x.expand_as(w)),
        "the root is missing": wanda(norm=lambda tokens: tokens.square().sum(0)),
        "here true marks those that go": lambda w, x, r, s: ~wanda()(w, x, r, s),
        "here within a column": lambda w, x, r, s: (
            wanda()((w * x[r].norm(dim=0)).T, torch.ones(1, 1, len(w)), torch.ones(1, 1, dtype=torch.bool), s).T
        ),
    },
    "05.5": {
        "pruned weights get a gradient here": gradients(lambda g, w, m: g, moving),
        "so none could ever come back": gradients(masked, lambda g, w, m: g * w * m),
        "does not know its weight": gradients(masked, lambda g, w, m: g),
        "the optimizer subtracts it": gradients(masked, lambda g, w, m: -g * w),
        "has no sign here": gradients(masked, lambda g, w, m: (g * w).abs()),
        "the two are exchanged": gradients(moving, masked),
        "both are transposed": gradients(lambda g, w, m: (g * m).T, lambda g, w, m: (g * w).T),
        "divided by the number of rows": lambda w, m, x, u: tuple(
            part / len(u) for part in gradients(masked, moving)(w, m, x, u)
        ),
    },
    "05.6": {
        "through its columns": head(by_row=True),
        "still expects the head's results": head(output=False),
        "biases of query, key and value": head(biases=False),
        "it stays whole": head(out_bias=True),
        "a head is a band of their rows": head(columns=True),
        "keeps the one head": head(rows=lambda t, size, h, a: list(range(h * size, (h + 1) * size))),
        "not every so-many-th row": head(rows=lambda t, size, h, a: [row for row in range(t) if row % a != h]),
        "heads count from 0": head(rows=lambda t, size, h, a: band(t, (h - 1) * size, size)),
    },
    "05.7": {
        "the biases of the neurons that go": neurons(bias=False),
        "its column of down": neurons(columns=False),
        "down's bias": neurons(out_bias=True),
        "not those to remove": neurons(rows=lambda k, n: [i for i in range(n) if i not in k.tolist()]),
        "all are still there": zeroed,
        "this keeps the first neurons": neurons(rows=lambda k, n: torch.arange(len(k))),
    },
    "05.8": {
        "where each row begins": sizes(starts=None),
        "one border more": sizes(starts=0),
        "a column number with every value": sizes(columns=0),
        "an index takes `index_bytes`": sizes(index=lambda w: w.element_size()),
        "not always 4 bytes": sizes(value=4),
        "not always 2 bytes": sizes(value=2),
        "fill a whole byte": sizes(bits=lambda n, kept: n // 8),
        "not a byte": sizes(bits=lambda n, kept: n),
        "for all entries": sizes(bits=lambda n, kept: -(-kept // 8)),
        "stores its zeros": sizes(dense=False),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def test_any_choice_among_equals_is_right():
    """The last of equal weights may go as well as the first."""

    def last_first(weight, sparsity):
        return topk_mask(weight.abs().flip(0, 1), round(sparsity * weight.numel())).flip(0, 1)

    for answer in (reference("05.1"), last_first):
        assert run_check("05.1", answer, seed=0).status == "right"


def test_other_types_are_named():
    assert "bool" in run_check("05.1", lambda w, s: reference("05.1")(w, s).float(), seed=0).message
    assert "bool" in run_check("05.3", lambda w, n, m: w * reference("05.3")(w, n, m), seed=0).message
    assert run_check("05.5", lambda w, m, x, u: reference("05.5")(w, m, x, u)[1], seed=0).status == "wrong"


def test_a_changed_state_is_noticed():
    def in_place(state, number, heads):
        kept = head()(state, number, heads)
        state.update(kept)
        return state

    assert "changes its input" in run_check("05.6", in_place, seed=0).message
