"""Every check of unit 02 knows the right answer, and names the mistakes."""

import copy

import pytest
import torch
from proving import prove
from torch import nn

from coursekit.course.check import run_check
from coursekit.models import SharingPlan, share_layers

# ---- 02.1 and 02.2 ----


def ends_shared(depths):
    blocks = [1] * depths
    blocks[0] = blocks[-1] = 0
    return blocks


def ended_by_depth(depths):
    return [depth if depth in (0, depths - 1) else 1 for depth in range(depths)]


def without_short_stacks(last):
    def blocks(depths):
        return [0] + [1] * (depths - 2) + [last(depths)]

    return blocks


def skipping_a_number(depths):
    return [0 if depth == 0 else 2 if depth == depths - 1 else 1 for depth in range(depths)]


def cyclic(depths, groups):
    return [depth % groups for depth in range(depths)]


def leftover_to_last(depths, groups):
    size = depths // groups
    return [min(depth // size, groups - 1) for depth in range(depths)]


# ---- 02.3 ----


def counted(attention=None, ffn=None, norms=None, biases=True):
    def count(plan, hidden, intermediate):
        blocks = len(attention(plan) if attention else set(plan.attention))
        networks = len(ffn(plan) if ffn else set(plan.ffn))
        scales = len(norms(plan)) if norms else len({number for depth in plan.norm for number in depth})
        matrices = blocks * 4 * hidden**2 + networks * 2 * hidden * intermediate
        vectors = blocks * 4 * hidden + networks * (intermediate + hidden) if biases else 0
        return matrices + vectors + scales * 2 * hidden

    return count


def per_depth(plan):
    return range(len(plan))


def two_per_depth(plan):
    return range(2 * len(plan))


def one_per_block(plan):
    return range(len(set(plan.attention)) + len(set(plan.ffn)))


def by_largest_number(plan, hidden, intermediate):
    attention, ffn = max(plan.attention), max(plan.ffn)
    norm = max(max(depth) for depth in plan.norm)
    matrices = attention * 4 * (hidden**2 + hidden) + ffn * (2 * hidden * intermediate + intermediate + hidden)
    return matrices + norm * 2 * hidden


# ---- 02.4 ----


def through(combine, back=lambda w, g: w.T @ g, state_of=lambda states, i: states[i]):
    def gradient(weight, x, upstream, depths):
        states = [x]
        for _ in range(depths):
            states.append(weight @ states[-1])
        parts = []
        for depth in reversed(range(depths)):
            parts.append(torch.outer(upstream, state_of(states, depth)))
            upstream = back(weight, upstream)
        return combine(parts)

    return gradient


# ---- 02.5 ----


def fresh_each_time(blocks, make):
    return nn.ModuleList(make() for _ in blocks)


def equal_copies(blocks, make):
    made = {block: make() for block in set(blocks)}
    return nn.ModuleList(copy.deepcopy(made[block]) for block in blocks)


def one_for_all(blocks, make):
    return nn.ModuleList([make()] * len(blocks))


def like_the_one_before(blocks, make):
    layers = []
    for depth, block in enumerate(blocks):
        layers.append(layers[-1] if depth and block == blocks[depth - 1] else make())
    return nn.ModuleList(layers)


def tied_weights_only(blocks, make):
    made, layers = {}, []
    for block in blocks:
        layer = make()
        layer.weight = made.setdefault(block, layer).weight
        layers.append(layer)
    return nn.ModuleList(layers)


def plain_list(blocks, make):
    made = {block: make() for block in set(blocks)}
    return [made[block] for block in blocks]


def too_many_made(blocks, make):
    made = [make() for _ in blocks]
    return nn.ModuleList(made[block] for block in blocks)


def distinct_only(blocks, make):
    return nn.ModuleList(make() for _ in set(blocks))


def two_for_all(blocks, make):
    made = [make(), make()]
    return nn.ModuleList(made[block % 2] for block in blocks)


# ---- 02.6 ----


def weighed(key, size=lambda t: t.numel() * t.element_size()):
    def count(state):
        seen, total = set(), 0
        for name, tensor in state.items():
            if key(name, tensor) not in seen:
                seen.add(key(name, tensor))
                total += size(tensor)
        return total

    return count


def unshared_only(state):
    addresses = [tensor.data_ptr() for tensor in state.values()]
    return sum(t.numel() * t.element_size() for t in state.values() if addresses.count(t.data_ptr()) == 1)


def address(name, tensor):
    return tensor.data_ptr()


# ---- 02.7 ----


def safe(biases=True, norms=True, attention=4):
    def count(v, e, m):
        total = v * e + (attention + 1) * e * e + e * m
        total += (attention + 1) * e + m if biases else 0
        return total + (2 * e + 2 * m if norms else 0)

    return count


# ---- 02.8 ----


def in_place(encoder):
    for layer in encoder.layers[2:-1]:
        layer.attention, layer.ffn = encoder.layers[1].attention, encoder.layers[1].ffn
    return encoder


def by_plan(plan, how="first"):
    return lambda encoder: share_layers(encoder, plan(len(encoder.layers)), how=how)


def copied_weights(encoder):
    result = copy.deepcopy(encoder)
    for layer in result.layers[2:-1]:
        layer.attention.load_state_dict(result.layers[1].attention.state_dict())
        layer.ffn.load_state_dict(result.layers[1].ffn.state_dict())
    return result


def sharing(start, stop, of=1, parts=("attention", "ffn"), told=True):
    def share(encoder):
        result = copy.deepcopy(encoder)
        for layer in result.layers[start:stop]:
            for part in parts:
                setattr(layer, part, getattr(result.layers[of], part))
        if told:
            result.config = result.config.replace(sharing=SharingPlan.sandwich(len(result.layers)))
        return result

    return share


def dropping(encoder):
    result = copy.deepcopy(encoder)
    result.layers = nn.ModuleList([result.layers[0], result.layers[1], result.layers[-1]])
    return result


WRONG = {
    "02.1": {
        "first and the last depth share a block": ends_shared,
        "not the number of its depth": ended_by_depth,
        "the last depth is in the shared block": lambda n: [0] + [1] * (n - 1),
        "the first depth is in the shared block": lambda n: [0] * (n - 1) + [1],
        "nothing is shared": lambda n: list(range(n)),
        "numbered from 0": lambda n: [1] + [2] * (n - 2) + [3],
        "one depth too many": lambda n: [0] + [1] * (n - 1) + [2],
        "two depths have nothing between": skipping_a_number,
        "expected 2 items, got 3": lambda n: [0, *[1] * max(1, n - 2), 2],
        "expected a list": lambda n: tuple(SharingPlan.sandwich(n).attention),
    },
    "02.2": {
        "a quotient of floats": lambda n, g: [int(d / (n / g)) for d in range(n)],
        "a product of floats": lambda n, g: [int(d / n * g) for d in range(n)],
        "takes turns": cyclic,
        "as many depths as there should be groups": lambda n, g: [d // g for d in range(n)],
        "groups of their own": lambda n, g: [d // (n // g) for d in range(n)],
        "all go to the last group": leftover_to_last,
        "rounded up": lambda n, g: [d // ((n + g - 1) // g) for d in range(n)],
        "half a group": lambda n, g: [min(g - 1, round(d * g / n)) for d in range(n)],
    },
    "02.3": {
        "every depth is counted": counted(per_depth, per_depth, two_per_depth),
        "FFNs are counted with": counted(ffn=lambda plan: set(plan.attention)),
        "attention is counted with": counted(attention=lambda plan: set(plan.ffn)),
        "LayerNorms can be shared": counted(norms=two_per_depth),
        "LayerNorms can be private": counted(norms=one_per_block),
        "LayerNorms are missing": counted(norms=lambda plan: ()),
        "holds two LayerNorms": counted(norms=lambda plan: set(plan.norm)),
        "one less than the number": by_largest_number,
        "biases are missing": counted(biases=False),
    },
    "02.4": {
        "last use alone": through(lambda parts: parts[0]),
        "first use alone": through(lambda parts: parts[-1]),
        "mean over the uses": through(lambda parts: torch.stack(parts).mean(0)),
        "as often as there are depths": through(lambda parts: len(parts) * parts[0]),
        "one use is missing": through(lambda parts: sum(parts[:-1])),
        "with the transposed weight": through(sum, back=lambda w, g: w @ g),
        "not carried down": through(sum, back=lambda w, g: g),
        "it is transposed": through(lambda parts: sum(parts).T),
        "not with the input": through(sum, state_of=lambda states, i: states[i + 1]),
    },
    "02.5": {
        "have the same number": fresh_each_time,
        "equal copies": equal_copies,
        "all depths are one object": one_for_all,
        "with another in between": like_the_one_before,
        "two modules hold one weight": tied_weights_only,
        "expected a ModuleList": plain_list,
        "are thrown away": too_many_made,
        "depths, got": distinct_only,
        "are one object, but their numbers": two_for_all,
    },
    "02.6": {
        "a new tensor object for each name": weighed(lambda name, tensor: id(tensor)),
        "with equal values": weighed(lambda name, t: (t.dtype, t.shape, *t.flatten().tolist())),
        "of equal shape": weighed(lambda name, tensor: tensor.shape),
        "not bytes": weighed(address, torch.Tensor.numel),
        "has 4 bytes": weighed(address, lambda tensor: 4 * tensor.numel()),
        "left out altogether": unshared_only,
    },
    "02.7": {
        "the paper's formula": safe(biases=False, norms=False),
        "biases are missing": safe(biases=False),
        "LayerNorms are missing": safe(norms=False),
        "output projection": safe(attention=3),
        "linear factorisation": lambda v, e, m: v * e + e * m,
        "word table is missing": lambda v, e, m: safe()(0, e, m),
        "second LayerNorm": lambda v, e, m: safe()(v, e, m) - 2 * m + 2 * e,
        "so does its bias": lambda v, e, m: safe()(v, e, m) - m + e,
    },
    "02.8": {
        "encoder that was given is changed": in_place,
        "the first depth shares": sharing(0, -1),
        "the last depth shares": sharing(2, None),
        "are equal copies": copied_weights,
        "the attention blocks of the middle depths are still": sharing(3, -1),
        "the FFN blocks of the middle depths are still": sharing(2, -1, parts=("attention",)),
        "of depth 1 has other weights": by_plan(SharingPlan.sandwich, how="mean"),
        "LayerNorms are shared": by_plan(lambda n: SharingPlan.sandwich(n, norms="shared")),
        "config does not say": sharing(2, -1, told=False),
        "sharing removes none": dropping,
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def weights_changed(encoder):
    result = sharing(2, -1)(encoder)
    with torch.no_grad():
        encoder.layers[0].ffn.up.weight.zero_()
    return result


def last_from_second(encoder):
    result = sharing(2, -1)(encoder)
    result.layers[-1].ffn.load_state_dict(result.layers[1].ffn.state_dict())
    return result


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("02.1", lambda n: SharingPlan.sandwich(n), "expected a list, got a SharingPlan"),
        ("02.2", lambda n, g: torch.arange(n) * g // n, "expected a list, got a Tensor"),
        ("02.3", lambda plan, h, f: float(counted()(plan, h, f)), "expected a whole number"),
        ("02.4", lambda w, x, g, n: through(sum)(w, x, g, n).sum(0), "expected shape"),
        ("02.4", lambda w, x, g, n: w.zero_() + through(sum)(w.clone(), x, g, n), "changes its input"),
        ("02.5", lambda blocks, make: make() and None, "returns None"),
        ("02.5", lambda blocks: list(blocks), "it should be called as build_stack(blocks, make)"),
        ("02.5", lambda blocks, make: nn.ModuleList(nn.ReLU() for _ in blocks), "something else than what"),
        ("02.5", lambda blocks, make: (make(), copy.deepcopy(_stack_of_copies(blocks, make)))[1], "are copies of"),
        ("02.6", lambda state: torch.tensor(3), ".item() makes it a plain number"),
        ("02.8", lambda encoder: in_place(encoder) and None, "returns None"),
        ("02.8", lambda encoder: encoder.layers, "expected an Encoder, got a ModuleList"),
        ("02.8", weights_changed, "weights of the encoder that was given are changed"),
        ("02.8", last_from_second, "has other weights than the original's"),
    ],
)
def test_odd_answers(task, answer, words):
    result = run_check(task, answer, seed=5)
    assert result.status == "wrong" and words in result.message, result


def _stack_of_copies(blocks, make):
    made = {block: make() for block in set(blocks)}
    return nn.ModuleList(made[block] for block in blocks)


def test_other_right_answers_are_right():
    """02.6 by storage, 02.4 by autograd, 02.5 by a list of blocks, 02.8 by the library."""

    def by_storage(state):
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.values()}
        return sum(storages.values())

    def by_autograd(weight, x, upstream, depths):
        weight = weight.clone().requires_grad_()
        for _ in range(depths):
            x = weight @ x
        x.backward(upstream)
        return weight.grad

    def by_position(blocks, make):
        made = [make() for _ in range(max(blocks) + 1)]
        return nn.ModuleList([made[block] for block in blocks])

    answers = {"02.4": by_autograd, "02.5": by_position, "02.6": by_storage, "02.8": by_plan(SharingPlan.sandwich)}
    for task, answer in answers.items():
        for seed in range(5):
            assert run_check(task, answer, seed=seed).status == "right", (task, run_check(task, answer, seed=seed))
