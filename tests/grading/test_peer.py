"""Calls over the wire, with both sides in this process: what arrives is equal, and who is who is kept."""

import inspect
import math
import random
import socket
import threading

import numpy as np
import pytest
import torch
from torch import nn

from coursekit.course.grading.packing import Shared, pack
from coursekit.course.grading.peer import Peer
from coursekit.course.grading.unpacking import unpack
from coursekit.course.grading.wire import LENGTHS, Channel, WireError
from coursekit.models import SharingPlan


@pytest.fixture
def remote():
    """remote(f) stands here for `f` on the other side of a wire."""
    sockets = []

    def connect(function):
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))

        def serve():
            try:
                Peer(Channel(theirs), "w").serve(lambda peer, message: function)
            except WireError:  # we hung up
                pass

        threading.Thread(target=serve, daemon=True).start()
        return Peer(Channel(ours), "j").ask({"op": "load"})

    yield connect
    for each in sockets:
        each.close()


VALUES = [
    None,
    True,
    -7,
    10**40,
    math.pi,
    math.inf,
    "a \u2192 b",
    ...,
    (1, (2.5, "x")),
    [1, [2, (3,)]],
    {"a": 1, 2: [3], (4, 5): None},
    {1, 2},
    frozenset({"a"}),
    range(3, 9, 2),
    slice(1, None, 2),
    b"\x00\xff",
    1 + 2j,
    torch.Size((2, 3)),
    torch.float16,
    SharingPlan.sandwich(5),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_arrive(remote, value):
    got = remote(lambda x: (x, type(x).__name__))(value)
    assert got[0] == value and type(got[0]) is type(value)
    assert got[1] == type(value).__name__


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.complex64]
)
def test_tensors_arrive(remote, dtype):
    x = (torch.arange(12).reshape(3, 4) % 5).to(dtype)
    for tensor in (x, x.T, x[1:, ::2], x[:0], x[0, 0]):
        got = remote(lambda t: (t.clone(), t.stride()))(tensor)
        assert got[0].dtype == dtype and torch.equal(got[0], tensor)
        assert got[1] == tensor.stride()


def test_arrays_and_scalars_arrive(remote):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    got = remote(lambda a: (a * 2, np.float32(a.sum())))(array)
    assert got[0].dtype == np.int16 and np.array_equal(got[0], array * 2)
    assert type(got[1]) is np.float32 and got[1] == 15


def test_one_object_in_two_places_stays_one(remote):
    shared = [1]
    first, second, own = remote(lambda a, b: (a, b, a is b))(shared, shared)
    assert own and first is shared and second is shared
    left, right = remote(lambda: ((block := nn.Linear(2, 2)), nn.ModuleList([block])))()
    assert right[0] is left


def test_memory_that_is_shared_stays_shared(remote):
    table = torch.randn(4, 3)
    state = {"a": table, "b": table.view(3, 4), "c": table.clone()}
    assert remote(lambda s: len({t.data_ptr() for t in s.values()}))(state) == 2


def test_changes_of_arguments_come_back(remote):
    def change(numbers, names, tensor, layer):
        numbers.append(4)
        names["b"] = numbers
        tensor[0] = 9
        layer.weight.data.zero_()
        layer.bias = None

    numbers, names, tensor, layer = [1], {"a": 0}, torch.zeros(2), nn.Linear(2, 2)
    weight = layer.weight
    remote(change)(numbers, names, tensor, layer)
    assert numbers == [1, 4] and names["b"] is numbers and tensor.tolist() == [9, 0]
    assert layer.weight is weight and not weight.any() and layer.bias is None


def test_a_result_may_hold_what_was_given(remote):
    def tie(words):
        layer = nn.Linear(3, 5)
        layer.weight = words.weight
        return layer

    words = nn.Embedding(5, 3)
    layer = remote(tie)(words)
    assert type(layer) is nn.Linear and layer.weight is words.weight
    assert torch.equal(layer(torch.ones(3)), words.weight.sum(1) + layer.bias)


def test_functions_call_back(remote):
    made = []

    def make():
        made.append(nn.Linear(2, 2))
        return made[-1]

    stack = remote(lambda f, n: nn.ModuleList(f() for _ in range(n)))(make, 3)
    assert len(made) == 3 and all(layer is own for layer, own in zip(stack, made, strict=True))
    adder = remote(lambda a: lambda b: a + b)(3)
    assert adder(4) == 7


def test_random_states_go_and_come_back(remote):
    generator, dice = torch.Generator().manual_seed(1), random.Random(1)
    got = remote(lambda g, d: (torch.randn(3, generator=g), d.random()))(generator, dice)
    expected = torch.Generator().manual_seed(1), random.Random(1)
    assert torch.equal(got[0], torch.randn(3, generator=expected[0])) and got[1] == expected[1].random()
    assert torch.equal(generator.get_state(), expected[0].get_state()) and dice.random() == expected[1].random()


def test_signatures_are_the_functions(remote):
    def f(x, *, bits=8):
        return x

    assert str(inspect.signature(remote(f))).startswith("(x, *, bits=")
    assert not remote(f).empty
    assert remote(lambda: None).empty


class Scaled(nn.Module):
    """A learner's own layer."""

    __module__ = "__main__"

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        """x · w."""
        return x * self.weight

    def merged(self):
        """A plain layer."""
        return nn.Linear(1, 1)

    def parameters(self, recurse=True):
        """A lie about its size."""
        return iter(())


def test_a_class_of_a_learners_is_a_shell_here(remote):
    layer = remote(Scaled)(torch.tensor([2.0, 3.0]))
    assert isinstance(layer, nn.Module) and type(layer) is not Scaled and type(layer).__name__ == "Scaled"
    assert layer(torch.ones(2)).tolist() == [2, 3]
    assert type(layer.merged()) is nn.Linear
    assert [p.tolist() for p in layer.parameters()] == [[2, 3]]  # nn.Module's own, not the learner's
    with torch.no_grad():
        layer.weight.mul_(2)
    assert layer(torch.ones(2)).tolist() == [4, 6]


class Liar:
    """Equal to everything."""

    __module__ = "__main__"
    __hash__ = None

    def __eq__(self, other):
        return True

    def equal(self, other):
        """Always."""
        return True


def test_no_comparison_of_a_learners_is_used(remote):
    liar = remote(Liar)()
    assert liar != 1 and not liar == "x" and type(liar).__name__ == "Liar"


def test_gradients_flow_through_a_call(remote):
    def loss(x, weight):
        return ((x @ weight) ** 2).sum(), x.detach() * 2

    x, weight = torch.randn(3, 4, requires_grad=True), nn.Parameter(torch.randn(4, 2))
    value, fixed = remote(loss)(x, weight)
    (2 * value).backward()
    expected = torch.autograd.grad(2 * loss(x, weight)[0], [x, weight])
    assert torch.allclose(x.grad, expected[0]) and torch.allclose(weight.grad, expected[1])
    assert not fixed.requires_grad


def test_gradients_flow_into_a_layer_that_came_back(remote):
    layer = remote(Scaled)(torch.tensor([2.0]))
    layer(torch.tensor([5.0])).sum().backward()
    assert layer.weight.grad.tolist() == [5]


def test_gradients_left_on_arguments_come_back(remote):
    x = torch.ones(2, requires_grad=True)
    remote(lambda t: (t * 3).sum().backward())(x)
    assert x.grad.tolist() == [3, 3]


def test_exceptions_come_back_with_their_kind_and_line(remote):
    class Own(KeyError):
        pass

    def fail(kind):
        raise {"value": ValueError("width 3, expected 4"), "own": Own("x"), "exit": SystemExit(0)}[kind]

    with pytest.raises(ValueError, match="width 3, expected 4"):
        remote(fail)("value")
    with pytest.raises(KeyError) as caught:
        remote(fail)("own")
    assert type(caught.value).__name__ == "Own"
    with pytest.raises(SystemExit):
        remote(fail)("exit")


BAD = [
    ([{"t": "ref", "v": "j0"}], {"j0": {"k": "list", "v": []}}, {}),  # ours, and never sent
    ([{"t": "ref", "v": "w0"}], {"w0": {"k": "object", "class": "subprocess:Popen", "v": []}}, {}),
    ([{"t": "named", "v": "torch.load"}], {}, {}),
    ([{"t": "named", "v": "os:system"}], {}, {}),
    ([[1]], {}, {}),
    ([{"t": "pickle", "v": ""}], {}, {}),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_data_is_refused(number):
    values, nodes, blocks = BAD[number]
    with pytest.raises(WireError):
        unpack(Shared("j"), {"values": values, "nodes": nodes}, blocks, None, None)


@pytest.mark.parametrize(
    "change",
    [{"shape": [4]}, {"shape": [10**9], "stride": [0]}, {"offset": 9}, {"offset": -1}, {"dtype": "torch.nothing"}],
    ids=str,
)
def test_a_tensor_stays_in_its_memory(change):
    packed = pack(Shared("w"), [torch.zeros(3)])
    (name,) = packed.nodes
    blocks = {key: bytearray(data) for key, data in packed.blocks.items()}
    data = {"values": packed.values, "nodes": packed.nodes}
    assert unpack(Shared("j"), data, blocks, None, None)[0].tolist() == [0, 0, 0]
    packed.nodes[name] |= change
    with pytest.raises(WireError):
        unpack(Shared("j"), data, blocks, None, None)


def test_a_truth_value_is_zero_or_one():
    packed = pack(Shared("w"), [torch.tensor([True, False, True])])
    blocks = {key: bytearray(b"\x02\x00\xff") for key in packed.blocks}
    (got,) = unpack(Shared("j"), {"values": packed.values, "nodes": packed.nodes}, blocks, None, None)
    assert torch.equal(got.view(torch.uint8), torch.tensor([1, 0, 1], dtype=torch.uint8))


@pytest.mark.parametrize(
    "data", [b"", b"short", LENGTHS.pack(10**15, 0), LENGTHS.pack(3, 0) + b"[1]", LENGTHS.pack(2, 0) + b"{{"]
)
def test_what_is_no_message_is_refused(data):
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(WireError):
        Channel(ours).receive()
    ours.close()
