"""Checks of unit 00 that count: parameters, FLOPs, bytes."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, Wrong, expect_call, expect_close, expect_equal

# ---- 00.2: distinct parameters ----


class _Tied(nn.Module):
    """Embeddings, a block used several times, and a decoder tied to the embeddings."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        vocabulary, hidden, inner = draw.integer(30, 60), draw.integer(5, 9), draw.integer(11, 20)
        self.embeddings = nn.Embedding(vocabulary, hidden)
        block = nn.Sequential(nn.Linear(hidden, inner), nn.Linear(inner, hidden), nn.LayerNorm(hidden))
        self.layers = nn.ModuleList([block] * draw.integer(2, 4))
        self.head = nn.ModuleDict(
            {"norm": nn.LayerNorm(hidden), "dense": nn.Linear(hidden, vocabulary), "steps": nn.BatchNorm1d(hidden)}
        )
        self.head["dense"].weight = self.embeddings.weight
        self.decoder = nn.Linear(hidden, vocabulary, bias=False)
        self.decoder.weight = self.embeddings.weight
        block[0].requires_grad_(False)


def parameters_by_component(model, key=id, wanted=lambda p: True, size=Tensor.numel) -> dict[str, int]:
    """Stand-in for 00.2; the options make its wrong variants."""
    seen, counts = set(), {}
    for name, child in model.named_children():
        counts[name] = 0
        for parameter in child.parameters():
            if key(parameter) not in seen and wanted(parameter):
                seen.add(key(parameter))
                counts[name] += size(parameter)
    return counts


def check_components(answer, draw: Draw) -> None:
    """00.2 on a model with a shared block, tied tables, frozen weights and buffers."""
    model = _Tied(draw)
    expect_call(
        answer,
        (model,),
        parameters_by_component(model),
        mistakes={
            "a tensor that two components hold is counted in both": lambda m: {
                name: sum(p.numel() for p in child.parameters()) for name, child in m.named_children()
            },
            "a block that is used several times is counted once per use": lambda m: {
                name: sum(p.numel() for _, p in child.named_parameters(remove_duplicate=False))
                for name, child in m.named_children()
            },
            "a state_dict names a shared tensor once per use, and holds buffers, which are no parameters": lambda m: {
                name: sum(t.numel() for t in child.state_dict().values()) for name, child in m.named_children()
            },
            "frozen parameters are left out; they are stored all the same": lambda m: parameters_by_component(
                m, wanted=lambda p: p.requires_grad
            ),
            "tensors with equal values are taken for one tensor; what counts is being the same object": (
                lambda m: parameters_by_component(m, key=lambda p: str(p.tolist()))
            ),
            "tensors of equal shape are taken for one tensor": lambda m: parameters_by_component(
                m, key=lambda p: p.shape
            ),
            "this counts tensors, not the numbers in them": lambda m: parameters_by_component(m, size=lambda p: 1),
            "a component that owns nothing of its own is missing; list it with 0": lambda m: {
                name: count for name, count in parameters_by_component(m).items() if count
            },
        },
    )


# ---- 00.3: FLOPs of a layer ----


def layer_flops(b, t, h, f, *, projections=4, products=2, ffn=2, per=2) -> int:
    """Stand-in for 00.3; the options make its wrong variants."""
    return per * b * (projections * t * h * h + products * t * t * h + ffn * t * h * f)


def check_layer_flops(answer, draw: Draw) -> None:
    """00.3 on sizes that are all different."""
    batch, tokens = draw.integer(3, 7), draw.integer(5, 60)
    hidden = draw.integer(8, 40)
    intermediate = 3 * hidden + draw.integer(1, 9)
    expect_call(
        answer,
        (batch, tokens, hidden, intermediate),
        layer_flops(batch, tokens, hidden, intermediate),
        mistakes={
            "these are multiply-accumulates; each is a multiplication and an addition": (
                lambda *a: layer_flops(*a, per=1)
            ),
            "the two products inside attention, queries with keys and weights with values, are missing": (
                lambda *a: layer_flops(*a, products=0)
            ),
            "attention has two products of tokens with tokens, one is missing": lambda *a: layer_flops(*a, products=1),
            "attention has four projections: query, key, value and output": lambda *a: layer_flops(*a, projections=3),
            "the FFN has two matrices, up and down": lambda *a: layer_flops(*a, ffn=1),
            "the batch size is not used": lambda b, *a: layer_flops(1, *a),
            "tokens of different sentences do not attend to each other: the batch is not squared": (
                lambda b, t, h, f: layer_flops(1, b * t, h, f)
            ),
            "these are parameters, not FLOPs: every token passes through every matrix": (
                lambda b, t, h, f: 4 * h * h + 2 * h * f
            ),
        },
    )


# ---- 00.6: break-even of a sparse format ----


def break_even_sparsity(rows, columns, value, index, *, pointers=1, indices=1) -> float:
    """Stand-in for 00.6; the options make its wrong variants."""
    dense = rows * columns * value
    kept = (dense - pointers * (rows + 1) * index) / (value + indices * index)
    return 1 - kept / (rows * columns)


def check_break_even(answer, draw: Draw) -> None:
    """00.6 on sizes of values and indices that differ."""
    rows, columns = draw.integer(6, 30), draw.integer(31, 60)
    value, index = draw.choice([(4, 2), (2, 4), (1, 2), (1, 4), (2, 8)])
    expect_call(
        answer,
        (rows, columns, value, index),
        break_even_sparsity(rows, columns, value, index),
        mistakes={
            "the row pointers are missing": lambda *a: break_even_sparsity(*a, pointers=0),
            "one row pointer is missing: the last one says where the last row ends": (
                lambda r, c, v, i: 1 - (r * c * v - r * i) / ((v + i) * r * c)
            ),
            "this is the share of entries that are kept, not of zeros": lambda *a: 1 - break_even_sparsity(*a),
            "each kept entry has one index, its column; its row follows from the pointers": (
                lambda *a: break_even_sparsity(*a, indices=2)
            ),
            "values and indices are taken to be of the same size": lambda r, c, v, i: break_even_sparsity(r, c, v, v),
            "this is a number of entries, not a share": lambda r, c, v, i: break_even_sparsity(r, c, v, i) * r * c,
        },
    )


# ---- 00.8: real weights: zeros and bytes ----


@cache
def _real_matrices() -> dict[str, Tensor]:
    """The matrices of one layer of the real encoder, in half precision: coarse enough for equal magnitudes."""
    from safetensors import safe_open

    from coursekit.data import fetch

    with safe_open(fetch("minilm", quiet=True) / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if "layer.2." in name]
        return {name: tensor.half() for name in names if (tensor := file.get_tensor(name)).dim() == 2}


def _real_case(draw: Draw) -> tuple[Tensor, float]:
    """A block of a real matrix, and a sparsity whose border falls between entries of equal magnitude."""
    weight = _real_matrices()[draw.choice(sorted(_real_matrices()))]
    weight = weight[: draw.integer(50, 90), : draw.integer(91, 140)].contiguous()
    ordered = weight.abs().flatten().sort().values
    while True:
        sparsity = draw.number(0.55, 0.9)
        count = round(sparsity * weight.numel())
        if ordered[count - 1] == ordered[count]:
            return weight, sparsity


def _pruned(weight: Tensor, count: int) -> Tensor:
    result = weight.clone()
    result.view(-1)[weight.abs().flatten().topk(count, largest=False).indices] = 0
    return result


def _is_pruned(got: object, weight: Tensor, count: int, size: Callable[[Tensor], Tensor] = Tensor.abs) -> bool:
    """Whether `got` is `weight` with `count` zeros, none larger than what is kept; ties may fall either way."""
    if type(got) is not Tensor or got.shape != weight.shape or got.dtype != weight.dtype:
        return False
    kept = got != 0
    if int(kept.sum()) != weight.numel() - count or not torch.equal(got[kept], weight[kept]):
        return False
    return bool(size(weight)[~kept].max() <= size(weight)[kept].min())


def _check_pruned(got: object, weight: Tensor, count: int) -> None:
    if _is_pruned(got, weight, count):
        return
    variants = {
        "the smallest values are pruned, not the smallest magnitudes: the large negative weights are gone": (
            count,
            Tensor.float,
        ),
        "the largest magnitudes are pruned": (count, lambda w: -w.abs()),
        "the sparsity is the share of zeros, here it is the share that is kept": (weight.numel() - count, Tensor.abs),
    }
    for message, (zeros, size) in variants.items():
        if _is_pruned(got, weight, zeros, size):
            raise Wrong(message)
    threshold = weight.abs().flatten().kthvalue(count).values
    expect_close(
        got,
        _pruned(weight, count),
        what="the pruned matrix",
        mistakes={
            "entries as large as the threshold are all pruned: more zeros than asked for": (
                weight.masked_fill(weight.abs() <= threshold, 0)
            )
        },
    )


def _csr_bytes(kept: int, rows: int, value: int, *, index=4, indices=1, pointers=1) -> int:
    return kept * (value + indices * index) + pointers * (rows + 1) * index


def check_weigh(answer, draw: Draw) -> None:
    """00.8 on a block of a real matrix."""
    weight, sparsity = _real_case(draw)
    count, rows = round(sparsity * weight.numel()), len(weight)
    kept, given = weight.numel() - count, weight.clone()
    got = answer(given, sparsity)
    if not torch.equal(given, weight):
        raise Wrong("it changes the matrix it was given; work on a copy")
    if type(got) is not tuple or len(got) != 3:
        expect_close(got, (weight, 0, 0))  # says what kind of result is expected
    pruned, dense, sparse = got
    _check_pruned(pruned, weight, count)
    expect_equal(
        dense,
        2 * weight.numel(),
        what="the bytes of the dense matrix",
        mistakes={
            "an entry is taken to have 4 bytes; ask the tensor": 4 * weight.numel(),
            "a dense matrix stores its zeros too": 2 * kept,
        },
    )
    expect_equal(
        sparse,
        _csr_bytes(kept, rows, 2),
        what="the bytes of the sparse matrix",
        mistakes={
            "the sparse form has no indices: nobody could tell where the values belong": _csr_bytes(
                kept, rows, 2, indices=0, pointers=0
            ),
            "the row pointers are missing": _csr_bytes(kept, rows, 2, pointers=0),
            "one row pointer is missing: the last one says where the last row ends": _csr_bytes(kept, rows, 2) - 4,
            "each kept entry has one index, its column; its row follows from the pointers": _csr_bytes(
                kept, rows, 2, indices=2, pointers=0
            ),
            "the indices are taken to have 8 bytes": _csr_bytes(kept, rows, 2, index=8),
            "the indices are taken to be as small as the values": _csr_bytes(kept, rows, 2, index=2),
        },
    )


def weigh(weight: Tensor, sparsity: float) -> tuple[Tensor, int, int]:
    """Stand-in for 00.8."""
    count = round(sparsity * weight.numel())
    sparse = _csr_bytes(weight.numel() - count, len(weight), weight.element_size())
    return _pruned(weight, count), weight.nbytes, sparse
