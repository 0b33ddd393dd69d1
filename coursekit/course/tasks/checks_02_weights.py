"""Checks of unit 02 on weights: gradients of shared ones, stacks that share, bytes, and a real conversion."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, Wrong, expect_call
from coursekit.models import Encoder, SharingPlan, TransformerConfig, share_layers

# ---- 02.4: the gradient of a shared weight ----


def shared_gradient(weight, x, upstream, depths, *, back=lambda w, g: w.T @ g, outer=torch.outer) -> Tensor:
    """Stand-in for 02.4; the options make its wrong variants."""
    states = [x]
    for _ in range(depths):
        states.append(weight @ states[-1])
    total = torch.zeros_like(weight)
    for state in reversed(states[:-1]):
        total += outer(upstream, state)
        upstream = back(weight, upstream)
    return total


def check_gradient(answer: Callable, draw: Draw) -> None:
    """02.4 against autograd."""
    size, depths = draw.integer(3, 5), draw.integer(3, 5)
    weight = draw.normal(size, size) / size**0.5 + 0.3 * torch.eye(size)
    x, upstream = draw.normal(size), draw.normal(size)
    free = weight.clone().requires_grad_()
    state = x
    for _ in range(depths):
        state = free @ state
    (expected,) = torch.autograd.grad(state, free, upstream)

    def uses(w, x, g, n):
        """The gradient of each use, the last one first."""
        states = [x]
        for _ in range(n):
            states.append(w @ states[-1])
        parts = []
        for state in reversed(states[:-1]):
            parts.append(torch.outer(g, state))
            g = w.T @ g
        return parts

    expect_call(
        answer,
        (weight, x, upstream, depths),
        expected,
        rtol=1e-3,
        atol=1e-4,
        mistakes={
            "this is the gradient of the last use alone": lambda *a: uses(*a)[0],
            "this is the gradient of the first use alone": lambda *a: uses(*a)[-1],
            "this is the mean over the uses; each of them adds its own": lambda *a: sum(uses(*a)) / a[3],
            "the last use is counted as often as there are depths": lambda *a: a[3] * uses(*a)[0],
            "one use is missing: the first, whose input is x": lambda *a: sum(uses(*a)[:-1]),
            "going back through a depth multiplies with the transposed weight": (
                lambda *a: shared_gradient(*a, back=lambda w, g: w @ g)
            ),
            "the gradient from above is not carried down through the depths": (
                lambda *a: shared_gradient(*a, back=lambda w, g: g)
            ),
            "it is transposed: row i, column j belongs to output i and input j": lambda *a: sum(uses(*a)).T,
            "each gradient is paired with the output of its depth, not with the input": lambda w, x, g, n: sum(
                uses(w, w @ x, g, n)
            ),
        },
    )


# ---- 02.5: a stack that shares ----


def build_stack(blocks, make) -> nn.ModuleList:
    """Stand-in for 02.5."""
    made = {}
    for block in blocks:
        if block not in made:
            made[block] = make()
    return nn.ModuleList(made[block] for block in blocks)


def check_stack(answer: Callable, draw: Draw) -> None:
    """02.5 by identity: the same object where the number is the same, another where it is not."""
    width = draw.integer(3, 6)
    shared, others = draw.integer(2, 4), draw.integer(1, 3)
    blocks = [0, *[1] * shared, 2, *[1] * others, 0]  # a block may come back
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(nn.Linear(width, width))
        return made[-1]

    stack = answer(list(blocks), make)
    if stack is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not isinstance(stack, nn.ModuleList):
        raise Wrong(f"expected a ModuleList, got {_article(stack)}; a model cannot see the weights inside a plain one")
    layers = list(stack)
    if len(layers) != len(blocks):
        raise Wrong(f"expected {len(blocks)} depths, got {len(layers)}")
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        raise Wrong("a depth is something else than what `make()` returned")
    _explain_identity(layers, blocks)
    if not all(any(layer is one for one in made) for layer in layers):
        raise Wrong("the blocks are copies of what `make()` returned, not those themselves")
    if len(made) > len(set(blocks)):
        raise Wrong(f"`make` was called {len(made)} times for {len(set(blocks))} blocks; the others are thrown away")


def _explain_identity(layers: list[nn.Module], blocks: list[int]) -> None:
    """Raise `Wrong` with the likeliest reason unless two depths are one object exactly if their numbers agree."""
    distinct = len({id(layer) for layer in layers})
    if distinct == 1:
        raise Wrong("all depths are one object; different numbers stand for different blocks")
    for i, layer in enumerate(layers):
        for j in range(i):
            same = layer is layers[j]
            if same and blocks[i] != blocks[j]:
                raise Wrong(f"depths {j} and {i} are one object, but their numbers {blocks[j]} and {blocks[i]} differ")
            if same or blocks[i] != blocks[j]:
                continue
            if layer.weight is layers[j].weight:
                raise Wrong(
                    "two modules hold one weight; put the module itself in both places, so that nothing is left out"
                )
            if torch.equal(layer.weight, layers[j].weight):
                raise Wrong("depths of one number are equal copies; after the first training step they will differ")
            if j == i - 1:
                raise Wrong(f"depths {j} and {i} have the same number, {blocks[i]}, but are two objects")
            raise Wrong("a block that was used before, with another in between, is made anew")


def _article(value: object) -> str:
    return f"a {type(value).__name__}"


# ---- 02.6: bytes of a state dict ----


def distinct_bytes(state, *, key=lambda name, t: t.data_ptr(), size=lambda t: t.numel() * t.element_size()) -> int:
    """Stand-in for 02.6; the options make its wrong variants."""
    return sum({key(name, tensor): size(tensor) for name, tensor in state.items()}.values())


def check_bytes(answer: Callable, draw: Draw) -> None:
    """02.6 on the state dict of a small model that shares, ties, and mixes precisions."""
    hidden, words = draw.integer(4, 9), draw.integer(20, 40)
    block = nn.Linear(hidden, hidden + 3).half()  # no shape in common with the LayerNorms
    model = nn.ModuleDict(
        {
            "words": nn.Embedding(words, hidden),
            "layers": nn.ModuleList([block] * draw.integer(3, 5)),
            "norms": nn.ModuleList([nn.LayerNorm(hidden) for _ in range(draw.integer(2, 4))]),
            "head": nn.Linear(hidden, words, bias=False),
        }
    )
    model["head"].weight = model["words"].weight
    state = dict(model.state_dict())
    expect_call(
        answer,
        (state,),
        distinct_bytes(state),
        mistakes={
            "a state dict has a new tensor object for each name; what they share is their memory": (
                lambda s: distinct_bytes(s, key=lambda name, t: name)
            ),
            "tensors with equal values are taken for one; two LayerNorms that hold ones are two": (
                lambda s: distinct_bytes(s, key=lambda name, t: (t.shape, str(t.tolist())))
            ),
            "tensors of equal shape are taken for one": lambda s: distinct_bytes(s, key=lambda name, t: t.shape),
            "these are numbers, not bytes": lambda s: distinct_bytes(s, size=Tensor.numel),
            "not every number has 4 bytes; ask the tensor": lambda s: distinct_bytes(s, size=lambda t: 4 * t.numel()),
            "what is shared is left out altogether; it is stored once": lambda s: sum(
                t.numel() * t.element_size()
                for t in s.values()
                if sum(other.data_ptr() == t.data_ptr() for other in s.values()) == 1
            ),
        },
    )


# ---- 02.8: share the middle of a trained encoder ----


def share_middle(encoder: Encoder) -> Encoder:
    """Stand-in for 02.8."""
    return share_layers(encoder, SharingPlan.sandwich(len(encoder.layers)))


def check_middle(answer: Callable, draw: Draw) -> None:
    """02.8 on a small encoder: what is one object, whose weights it has, and that the original is as it was."""
    depths, heads = draw.integer(5, 7), 2
    config = TransformerConfig(30, 8 * heads, depths, heads, 24, max_positions=12, dropout=0.0)
    encoder = Encoder(config).eval()
    original = copy.deepcopy(encoder)
    parts = [(layer.attention, layer.ffn, layer.attention_norm, layer.ffn_norm) for layer in encoder.layers]
    got = answer(encoder)
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not isinstance(got, Encoder):
        raise Wrong(f"expected an Encoder, got {_article(got)}")
    now = [(layer.attention, layer.ffn, layer.attention_norm, layer.ffn_norm) for layer in encoder.layers]
    if got is encoder or any(
        a is not b for old, new in zip(parts, now, strict=True) for a, b in zip(old, new, strict=True)
    ):
        raise Wrong("the encoder that was given is changed; work on a deep copy of it")
    if len(got.layers) != depths:
        raise Wrong(f"the result has {len(got.layers)} depths instead of {depths}; sharing removes none")
    _explain_middle(got, original)
    for name, weight in original.state_dict().items():
        if not torch.equal(weight, encoder.state_dict()[name]):
            raise Wrong("the weights of the encoder that was given are changed; work on a deep copy of it")


def _explain_middle(got: Encoder, original: Encoder) -> None:
    """Raise `Wrong` with the likeliest reason unless the middle shares the weights of the second depth."""
    last = len(got.layers) - 1
    for part, name in (("attention", "attention"), ("ffn", "FFN")):
        blocks = [getattr(layer, part) for layer in got.layers]
        middle = blocks[1:last]
        if blocks[0] is middle[0] or blocks[last] is middle[-1]:
            place = "first" if blocks[0] is middle[0] else "last"
            raise Wrong(f"the {place} depth shares its {name} too; first and last keep their own")
        if any(block is not middle[0] for block in middle):
            equal = all(_same_weights(block, middle[0]) for block in middle)
            reason = "are equal copies, not one object" if equal else "are still several"
            raise Wrong(f"the {name} blocks of the middle depths {reason}")
        for depth, block in ((0, blocks[0]), (1, middle[0]), (last, blocks[last])):
            if not _same_weights(block, getattr(original.layers[depth], part)):
                expected = "the second depth's, shared" if depth == 1 else f"depth {depth}'s own"
                raise Wrong(f"the {name} of depth {depth} has other weights than the original's; expected {expected}")
    norms = [norm for layer in got.layers for norm in (layer.attention_norm, layer.ffn_norm)]
    if len({id(norm) for norm in norms}) < len(norms):
        raise Wrong("LayerNorms are shared too; in a sandwich each depth keeps its own")
    if got.config.plan != SharingPlan.sandwich(last + 1):
        raise Wrong("the result's config does not say what is shared, so it could not be saved and built again")


def _same_weights(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
