"""Checks of unit 05 that take apart: movement's gradients, heads, neurons, and the bytes of zeros."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from coursekit.course.expect import Draw, expect_call

State = dict[str, Tensor]


def check_movement(answer: Callable, draw: Draw) -> None:
    """05.5: what autograd gives a masked layer with scores."""
    from coursekit.compress.pruning import MaskedLinear

    outputs, width, rows = draw.integer(3, 4), draw.integer(5, 7), draw.integer(8, 9)
    weight, x, upstream = draw.normal(outputs, width), draw.normal(rows, width), draw.normal(rows, outputs)
    mask = (draw.normal(outputs * width).argsort() % 2 == 0).view(outputs, width)
    layer = MaskedLinear(width, outputs, bias=False, movement=True)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.mask.copy_(mask)
    (layer(x) * upstream).sum().backward()
    expect_call(
        answer,
        (weight, mask, x, upstream),
        (layer.weight.grad, layer.scores.grad),
        mistakes={
            "pruned weights get a gradient here; the mask stops it": lambda w, m, x, u: (u.T @ x, (u.T @ x) * w),
            "scores of pruned weights get nothing here, so none could ever come back": lambda w, m, x, u: (
                (u.T @ x) * m,
                (u.T @ x) * w * m,
            ),
            "the score's gradient does not know its weight": lambda w, m, x, u: ((u.T @ x) * m, u.T @ x),
            "the sign of the score's gradient is turned: the optimizer subtracts it, not you": lambda w, m, x, u: (
                (u.T @ x) * m,
                -(u.T @ x) * w,
            ),
            "the score's gradient has no sign here": lambda w, m, x, u: ((u.T @ x) * m, ((u.T @ x) * w).abs()),
            "the two are exchanged: the weight's first": lambda w, m, x, u: ((u.T @ x) * w, (u.T @ x) * m),
            "both are transposed: a weight is (out, in)": lambda w, m, x, u: (
                ((u.T @ x) * m).T,
                ((u.T @ x) * w).T,
            ),
            "it is divided by the number of rows; upstream has all the division there is": lambda w, m, x, u: (
                (u.T @ x) * m / len(x),
                (u.T @ x) * w / len(x),
            ),
        },
    )


def check_head(answer: Callable, draw: Draw) -> None:
    """05.6 on one attention block with random biases."""
    heads, size = draw.integer(3, 5), draw.integer(2, 4)
    hidden = heads * size
    state = {}
    for name in ("query", "key", "value", "output"):
        state |= {f"{name}.weight": draw.normal(hidden, hidden), f"{name}.bias": draw.normal(hidden)}
    head = draw.integer(1, heads - 1)
    expect_call(
        answer,
        (state, head, heads),
        without_head(state, head, heads),
        mistakes={
            "the output projection loses rows here; the head's results come in through its columns": (
                lambda s, h, a: _cut(s, h, a) | {"output.weight": s["output.weight"][_kept(s, h, a)]}
            ),
            "the output projection still expects the head's results": lambda s, h, a: (
                _cut(s, h, a) | {"output.weight": s["output.weight"]}
            ),
            "the biases of query, key and value belong to the head too": lambda s, h, a: (
                _cut(s, h, a) | {f"{name}.bias": s[f"{name}.bias"] for name in ("query", "key", "value")}
            ),
            "the output's bias is as wide as the model: it stays whole": lambda s, h, a: (
                _cut(s, h, a) | {"output.bias": s["output.bias"][_kept(s, h, a)]}
            ),
            "query, key and value lose columns here; a head is a band of their rows": lambda s, h, a: (
                _cut(s, h, a)
                | {f"{name}.weight": s[f"{name}.weight"][:, _kept(s, h, a)] for name in ("query", "key", "value")}
            ),
            "this keeps the one head and drops the others": lambda s, h, a: _cut(s, h, a, only=True),
            "a head is a band of neighbouring rows, not every so-many-th row": lambda s, h, a: _cut(
                s, h, a, strided=True
            ),
            "heads count from 0": lambda s, h, a: _cut(s, h - 1, a),
            "a band has as many rows as a head is wide, not as there are heads": lambda s, h, a: _cut(
                s, h, len(s["query.bias"]) // a
            ),
        },
    )


def _kept(state: State, head: int, heads: int, strided: bool = False, only: bool = False) -> Tensor:
    rows = torch.arange(len(state["query.bias"]))
    belongs = rows % heads == head if strided else rows // (len(rows) // heads) == head
    return rows[belongs if only else ~belongs]


def _cut(state: State, head: int, heads: int, **how: bool) -> State:
    kept = _kept(state, head, heads, **how)
    result = dict(state)
    for name in ("query", "key", "value"):
        result |= {f"{name}.weight": state[f"{name}.weight"][kept], f"{name}.bias": state[f"{name}.bias"][kept]}
    return result | {"output.weight": state["output.weight"][:, kept]}


def check_neurons(answer: Callable, draw: Draw) -> None:
    """05.7 on one feed-forward block."""
    hidden, neurons = draw.integer(4, 6), draw.integer(9, 12)
    up, down = (draw.normal(neurons, hidden), draw.normal(neurons)), (draw.normal(hidden, neurons), draw.normal(hidden))
    keep = torch.tensor(sorted(draw.sample(range(neurons), draw.integer(3, 4))))
    expect_call(
        answer,
        (*up, *down, keep),
        keep_neurons(*up, *down, keep),
        mistakes={
            "the biases of the neurons that go should go too": lambda u, ub, d, db, k: (u[k], ub, d[:, k], db),
            "a neuron's results leave through its column of down: that is still there": lambda u, ub, d, db, k: (
                u[k],
                ub[k],
                d,
                db,
            ),
            "down's bias is as wide as the model: it stays whole": lambda u, ub, d, db, k: (
                u[k],
                ub[k],
                d[:, k],
                db[: len(k)],
            ),
            "these are the neurons to keep, not those to remove": lambda u, ub, d, db, k: keep_neurons(
                u, ub, d, db, torch.tensor([n for n in range(len(ub)) if n not in k])
            ),
            "rows were set to zero, but all are still there": lambda u, ub, d, db, k: (
                u * _chosen(ub, k)[:, None],
                ub * _chosen(ub, k),
                d * _chosen(ub, k),
                db,
            ),
            "this keeps the first neurons, not the ones asked for": lambda u, ub, d, db, k: keep_neurons(
                u, ub, d, db, torch.arange(len(k))
            ),
        },
    )


def _chosen(bias: Tensor, keep: Tensor) -> Tensor:
    return torch.zeros_like(bias).index_fill(0, keep, 1.0)


def check_bytes(answer: Callable, draw: Draw) -> None:
    """05.8 in two number formats, with few zeros and with many."""
    from coursekit.compress.pruning import sparse_bytes

    for dtype, index_bytes in ((torch.float32, 8), (torch.float16, 4)):
        rows, columns = draw.choice((5, 7, 9)), draw.choice((11, 13, 19))  # bits never fill whole bytes
        weight = draw.normal(rows, columns).to(dtype)
        weight[draw.normal(rows, columns) > draw.number(-0.5, 0.8)] = 0
        weight[0, 0], weight[-1, -1] = 1, 0
        found = sparse_bytes(weight, index_bytes=index_bytes)
        expected = {"dense": found.dense, "csr": found.csr, "bits": found.bitmask}
        expect_call(answer, (weight, index_bytes), expected, mistakes=_BYTES_MISTAKES)


def _bytes(
    w: Tensor, i: int, *, starts: int = 1, value: int | None = None, columns: bool = True, own: int | None = None
) -> Mapping[str, int]:
    """The three counts; the options make their wrong variants."""
    kept, size = int((w != 0).sum()), value or w.element_size()
    csr = kept * (size + (own or i) * columns) + (len(w) + starts) * i * (starts >= 0)
    return {"dense": w.numel() * size, "csr": csr, "bits": kept * size - (-w.numel() // 8)}


_BYTES_MISTAKES: dict[str, Callable] = {
    "CSR also stores where each row begins": lambda w, i: _bytes(w, i, starts=-1),
    "rows have one border more than there are rows": lambda w, i: _bytes(w, i, starts=0),
    "CSR stores a column number with every value": lambda w, i: _bytes(w, i, columns=False),
    "an index takes `index_bytes`, whatever a value takes": lambda w, i: _bytes(w, i, own=w.element_size()),
    "a value is not always 4 bytes": lambda w, i: _bytes(w, i, value=4),
    "a value is not always 2 bytes": lambda w, i: _bytes(w, i, value=2),
    "the last bits fill a whole byte: round up": lambda w, i: (
        {**_bytes(w, i), "bits": int((w != 0).sum()) * w.element_size() + w.numel() // 8}
    ),
    "a mask of bits takes a bit for each entry, not a byte": lambda w, i: (
        {**_bytes(w, i), "bits": int((w != 0).sum()) * w.element_size() + w.numel()}
    ),
    "the bits are for all entries, the zeros too": lambda w, i: (
        {**_bytes(w, i), "bits": int((w != 0).sum()) * w.element_size() - (-int((w != 0).sum()) // 8)}
    ),
    "a dense matrix stores its zeros": lambda w, i: ({**_bytes(w, i), "dense": int((w != 0).sum()) * w.element_size()}),
}


# ---- what stands in for a learner's answer ----


def movement_gradients(weight: Tensor, mask: Tensor, x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Stand-in for 05.5."""
    product = upstream.T @ x
    return product * mask, product * weight


def without_head(state: State, head: int, heads: int) -> State:
    """Stand-in for 05.6."""
    return _cut(state, head, heads)


def keep_neurons(
    up_weight: Tensor, up_bias: Tensor, down_weight: Tensor, down_bias: Tensor, keep: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Stand-in for 05.7."""
    return up_weight[keep], up_bias[keep], down_weight[:, keep], down_bias


def three_sizes(weight: Tensor, index_bytes: int) -> dict[str, int]:
    """Stand-in for 05.8."""
    return dict(_bytes(weight, index_bytes))
