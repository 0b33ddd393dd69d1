"""The check machinery against answers of every kind a notebook may hold."""

import builtins
import importlib
import math
import os
import random
import sys
import threading

import numpy as np
import pytest
import torch

from coursekit.course import check as check_and_record
from coursekit.course import hints, tasks
from coursekit.course import stand_in as stand_in_for
from coursekit.course.check import COLOURS, run_check
from coursekit.course.difference import difference
from coursekit.course.expect import Draw, Wrong, expect_call, expect_close, expect_equal
from coursekit.course.sandbox import TimeUp, guarded
from coursekit.course.tasks import Task, find_task, task_units, unit_tasks
from coursekit.viz.colours import contrast

SEED = 7


def add_bias(answer, draw):
    """The task of these tests: add a bias (C,) to every row of x (R, C)."""
    x, bias = draw.normal(3, 4), draw.normal(4)
    expect_call(
        answer,
        (x, bias),
        x + bias,
        mistakes={
            "the bias is subtracted": lambda x, bias: x - bias,
            "the bias is left out": lambda x, bias: x,
            "only this message when it fails": lambda x, bias: x @ bias @ x,  # cannot be computed
        },
    )


def task(check=add_bias, **changes) -> Task:
    given = {
        "id": "00.1",
        "title": "Add a bias",
        "minutes": 1,
        "difficulty": 1,
        "importance": 1,
        "points": 1,
        "hints": ("a", "b", "c"),
        "check": check,
        "stand_in": lambda: right,
        "signature": "add_bias(x, bias)",
    }
    return Task(**(given | changes))


def right(x, bias):
    return x + bias


def said(answer, **changes) -> str:
    return repr(run_check(task(**changes), answer, seed=SEED))


# Answers that a learner might give, each with what it is told.


def stub(x, bias):
    """Add a bias."""
    raise NotImplementedError  # your code here


def ellipsis_body(x, bias): ...


def only_docstring(x, bias):
    """Add a bias."""


def returns_ellipsis(x, bias):
    y = ...
    return y


def inner_stub(x, bias):
    def helper():
        raise NotImplementedError

    return helper()


def raises(x, bias):
    return x / (1 // 0)


def raises_odd(x, bias):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    raise Odd


def raises_hostile(x, bias):
    class Hostile(BaseException):
        def __str__(self):
            raise SystemExit

    raise Hostile


def library_raises(x, bias):
    return x @ bias @ torch.ones(9)


def exits(x, bias):
    sys.exit(0)


def recurses(x, bias):
    return recurses(x, bias)


def generates(x, bias):
    yield x + bias


async def asynchronous(x, bias):
    return x + bias


def returns_nothing(x, bias):
    x + bias


def returns_list(x, bias):
    return (x + bias).tolist()


def transposes(x, bias):
    return (x + bias).T


def doubles(x, bias):
    return (x + bias).double()


def subtracts(x, bias):
    return x - bias


def forgets(x, bias):
    return x.clone()


def nearly(x, bias):
    y = x + bias
    y[1, 2] += 1
    return y


def not_a_number(x, bias):
    return (x + bias).masked_fill(torch.eye(3, 4, dtype=torch.bool), math.nan)


def mutates(x, bias):
    x += bias
    return x


def three_parameters(x, bias, scale):
    return x + bias


class EqualToAll:
    shape, dtype = (3, 4), torch.float32

    def __eq__(self, other):
        return True

    def __getattr__(self, name):
        return lambda *args, **kwargs: True


class TensorEqualToAll(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)


TOLD = [
    (stub, "00.1 not attempted"),
    (None, "00.1 not attempted"),
    (..., "00.1 not attempted"),
    (ellipsis_body, "00.1 not attempted"),
    (only_docstring, "00.1 not attempted"),
    (returns_ellipsis, "00.1 not attempted"),
    (inner_stub, "00.1 not attempted"),
    (right, "00.1 right"),
    (torch.add, "00.1 right"),
    (raises, "`return x / (1 // 0)`, raises ZeroDivisionError: integer division or modulo by zero"),
    (raises_odd, "raises Odd"),
    (raises_hostile, "raises Hostile"),
    (library_raises, "`return x @ bias @ torch.ones(9)`, raises RuntimeError: "),
    (exits, "SystemExit: leave with `return`"),
    (recurses, "raises RecursionError"),
    (generates, "got a generator; `return` it, without `yield`"),
    (asynchronous, "got a coroutine; `return` it, without `async`"),
    (returns_nothing, "it returns None; is a `return` missing?"),
    (returns_list, "expected a Tensor, got a list"),
    (transposes, "expected shape (3, 4), got (4, 3)"),
    (doubles, "expected dtype float32, got float64"),
    (subtracts, "00.1 wrong: the bias is subtracted"),
    (forgets, "00.1 wrong: the bias is left out"),
    (nearly, " at [1, 2] (1 of 12 entries differ); inputs: [["),
    (not_a_number, "got NaN in 3 of 12 entries, first at [0, 0]"),
    (mutates, "it changes its input"),
    (three_parameters, "it should be called as add_bias(x, bias); yours takes (x, bias, scale)"),
    (lambda: 1, "yours takes ()"),
    (3, "expected a function add_bias(x, bias), got something of type int"),
    (lambda x, bias: EqualToAll(), "expected a Tensor, got an EqualToAll"),
    (lambda x, bias: (x + bias).as_subclass(TensorEqualToAll), "expected a Tensor, got a TensorEqualToAll"),
    (lambda x, bias: right, "expected a Tensor, got a function; is it called?"),
    (lambda x, bias: torch.empty(3, 4, device="meta"), "expected a dense tensor"),
    (lambda x, bias: (x + bias).to_sparse(), "expected a dense tensor"),
    (EqualToAll(), "00.1 "),
]


@pytest.mark.parametrize(("answer", "words"), TOLD, ids=[str(number) for number in range(len(TOLD))])
def test_each_answer_is_told_its_own(answer, words, capfd):
    line = said(answer)
    assert words in line
    assert "\n" not in line
    assert len(line) < 400
    assert capfd.readouterr() == ("", "")


def forever(x, bias):
    while True:
        pass


def forever_swallowing(x, bias):
    while True:
        try:
            sum(range(100))
        except:  # noqa: E722
            pass


def sleeps(x, bias):
    import time

    time.sleep(60)


@pytest.mark.parametrize("answer", [forever, forever_swallowing, sleeps])
def test_time_limit(answer):
    assert said(answer, seconds=0.2) == "00.1 wrong: still running after 0.2 seconds; does a loop never end?"
    assert said(right) == "00.1 right"  # no alarm is left behind


def test_time_limit_in_another_thread():
    lines = []

    def work():
        lines.extend(said(answer, seconds=0.3) for answer in (forever, right, raises))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "still running" in lines[0]
    assert lines[1] == "00.1 right"
    assert "ZeroDivisionError" in lines[2]


def test_ctrl_c_passes():
    def interrupted(x, bias):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        said(interrupted)


def test_output_is_dropped(capfd):
    def chatty(x, bias):
        for _ in range(10_000):
            print("x" * 100)
        print("error", file=sys.stderr)
        sys.stdout.close()
        return x + bias

    assert said(chatty) == "00.1 right"
    print("still there")
    assert capfd.readouterr() == ("still there\n", "")


def test_global_state_is_restored(tmp_path):
    def meddles(x, bias):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        np.seterr(all="raise")
        sys.setrecursionlimit(500)
        os.chdir(tmp_path)
        torch.isclose = np.sum = builtins.len = math.isnan = lambda *args, **kwargs: True
        return x - bias

    def state():
        names = torch.isclose, np.sum, builtins.len, math.isnan
        numbers = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
        settings = torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr(), sys.getrecursionlimit(), os.getcwd()
        return names, numbers, settings

    before = state()
    assert said(meddles).startswith("00.1 wrong")
    assert state() == before


def test_the_checks_own_failure_is_reported_not_raised():
    code = compile("lambda answer, draw: answer(1, 2).shape", tasks.__file__, "eval")
    line = said(lambda x, bias: x, check=eval(code))
    problem = "AttributeError: 'int' object has no attribute 'shape'"
    assert line == f"00.1 wrong: the check cannot work with what you gave ({problem})"


def test_class_answers():
    def check(answer, draw):
        rows, columns = draw.sample(range(2, 9), 2)
        expect_equal(tuple(answer(rows, columns).weight.shape), (columns, rows))

    class Half(torch.nn.Module):
        def __init__(self, rows, columns):
            raise NotImplementedError

    changes = {"check": check, "signature": "Linear(in_features, out_features)"}
    assert said(torch.nn.Linear, **changes) == "00.1 right"
    assert said(Half, **changes) == "00.1 not attempted"
    assert "item 0: expected" in said(lambda rows, columns: torch.nn.Linear(columns, rows), **changes)


def test_signature_with_defaults_and_keywords():
    signature = "f(x, bits=8, *, axis)"
    check = {"check": lambda answer, draw: expect_equal(answer(1, axis=2), 3), "signature": signature}
    assert said(lambda y, bits=4, *, axis: y + axis, **check) == "00.1 right"
    assert "it should be called as f(x, bits=8, *, axis)" in said(lambda x, width=8, *, axis: 3, **check)
    assert "it should be called as f(x, bits=8, *, axis)" in said(lambda x, bits=8: 3, **check)


def test_every_draw_is_tried():
    seeds = []

    def check(answer, draw):
        seeds.append(draw.seed)
        if len(seeds) == 3:
            raise Wrong("only the third shows it")

    assert said(right, check=check) == "00.1 wrong: only the third shows it"
    assert len(set(seeds)) == 3


def test_fresh_inputs_without_a_seed():
    seeds = set()
    for _ in range(3):
        run_check(task(check=lambda answer, draw: seeds.add(draw.seed)), right)
    assert len(seeds) > 3


# Comparisons


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (550, 550, None),
        (550.0, 550, "expected a whole number (int), got the float 550"),
        (True, 1, "expected an int, got a bool"),
        (1, True, "expected a bool, got an int"),
        (np.int64(550), 550, None),
        (551, 550, "expected 550, got 551"),
        (2, 2.0, None),
        (np.float32(0.5), 0.5, None),
        (torch.tensor(2.0), 2.0, "expected a float, got a Tensor; .item() makes it a plain number"),
        (math.nan, math.nan, None),
        (math.nan, 1.0, "expected 1, got nan"),
        (math.inf, math.inf, None),
        (0.1 + 0.2, 0.3, "expected 0.3, got 0.30000000000000004"),
        (10**400, 10**400 + 1, "expected a huge number, got a huge number"),
        (10**400, 1.0, "expected 1, got a huge number"),
        ([1, 2], (1, 2), "expected a tuple, got a list"),
        ((1, 3), (1, 2), "item 1: expected 2, got 3"),
        ((1,), (1, 2), "expected 2 items, got 1"),
        ({"a": 1}, {"a": 1, "b": 2}, "the key 'b' is missing"),
        ({"a": 1, "c": 3}, {"a": 1}, "the key 'c' is not expected"),
        ({"a": 1, 5: 3}, {"a": 1}, "the key 5 is not expected"),
        ({"a": [1, {"x": 2}]}, {"a": [1, {"x": 3}]}, "at key 'a': item 1: at key 'x': expected 3, got 2"),
        ("a", "b", "expected 'b', got 'a'"),
        (None, 3, "expected an int, got None"),
        (torch.tensor(3), torch.tensor(4), "expected 4, got 3"),
        (torch.nn.Parameter(torch.ones(2)), torch.ones(2), None),
        (torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.nan]), None),
        (torch.tensor([True, False]), torch.tensor([True, True]), " at [1] (1 of 2 entries differ)"),
        (np.zeros(2), np.zeros(2), None),
        (np.zeros(2, np.float32), np.zeros(2), "expected dtype float64, got float32"),
        (torch.zeros(2), np.zeros(2), "expected a ndarray, got a Tensor"),
        (torch.float16, torch.float32, "expected torch.float32, got torch.float16"),
        (torch.zeros(0, 3), torch.zeros(0, 3), None),
    ],
)
def test_difference(got, expected, words):
    found = difference(got, expected)
    assert found is None if words is None else words in found


def test_tolerance_is_for_floats_only():
    assert difference(1.0001, 1.0, rtol=1e-3) is None
    assert difference(1.01, 1.0, rtol=1e-3)
    assert difference(torch.tensor(1001), torch.tensor(1000), rtol=1.0)
    assert difference(1001, 1000, rtol=1.0)


def test_reveal_keeps_the_number_out():
    for got, side in ((549, "too small"), (551, "too large")):
        with pytest.raises(Wrong, match=side) as caught:
            expect_equal(got, 550, reveal=False)
        assert "550" not in str(caught.value)
    with pytest.raises(Wrong) as caught:
        expect_equal("other", "secret", reveal=False)
    assert "secret" not in str(caught.value)


def test_mistakes_of_values():
    mistakes = {"the temperature is not squared": 2.0, "never": lambda: 1 / 0}
    with pytest.raises(Wrong, match="^the temperature is not squared$"):
        expect_close(2.0, 4.0, mistakes=mistakes)
    with pytest.raises(Wrong, match="^the mean: expected 4, got 3$"):
        expect_close(3.0, 4.0, what="the mean", mistakes=mistakes)
    expect_close(4.0, 4.0, mistakes={"equal to the right value here": 4.0})


def test_inputs_of_every_kind_are_clones():
    model, data = torch.nn.Linear(2, 2), {"a": [torch.zeros(2)]}

    def changes(model, data):
        data["a"][0] += 1
        return 1

    with pytest.raises(Wrong, match="changes its input"):
        expect_call(changes, (model, data), 1)
    with pytest.raises(Wrong, match="changes its input"):
        expect_call(lambda m, d: (m.weight.data.zero_(), 1)[1], (model, data), 1)
    assert expect_call(changes, (model, data), 1, may_change=True) == 1
    assert data["a"][0].tolist() == [0, 0]


def test_draws_are_repeatable_and_in_range():
    one, two = Draw(3), Draw(3)
    assert one.integer(1, 9) == two.integer(1, 9)
    assert torch.equal(one.normal(2, 3), two.normal(2, 3))
    for seed in range(50):
        draw = Draw(seed)
        assert set(draw.integers(2, 3, 20).tolist()) <= {2, 3}
        mask = draw.mask(3, 5)
        assert mask.dtype == torch.bool and mask.shape == (3, 5)
        lengths = mask.sum(1)
        assert lengths.min() >= 1 and lengths.max() == 5 and lengths.min() < 5
        assert torch.equal(mask, torch.arange(5) < lengths.unsqueeze(1))  # prefixes


# The frame around it


def test_alarm_of_others_survives():
    import signal

    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        assert guarded(lambda: 3, 1) == 3
        with pytest.raises(TimeUp):
            guarded(lambda: forever(0, 0), 0.1)
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert not rung


@pytest.fixture
def one_task(monkeypatch, tmp_path):
    """A course with the single task 00.1, and progress of its own."""
    monkeypatch.setenv("COURSEKIT_PROGRESS", str(tmp_path / "progress.json"))
    importlib.import_module("coursekit.course.sources")
    for module in ("coursekit.course.check", "coursekit.course.hints", "coursekit.course.sources"):
        monkeypatch.setattr(sys.modules[module], "find_task", lambda task_id: task())


def test_result_shows_itself():
    result = run_check(task(), lambda x, bias: {}, seed=SEED)
    assert repr(result) == "00.1 wrong: expected a Tensor, got a dict"
    assert "00.1 <b>wrong</b>: expected a Tensor, got a dict" in result._repr_html_()
    assert '<code>hint("00.1")</code>' in result._repr_html_() and "hint" not in repr(result)
    assert "hint" not in run_check(task(), right)._repr_html_()
    hostile = run_check(task(check=lambda answer, draw: expect_equal("<script>", "")), right)
    assert "<script>" not in hostile._repr_html_()
    assert "<script>" in repr(hostile)


def test_stand_in(one_task, capsys):
    def mine(x, bias):
        return bias + x

    assert stand_in_for("00.1", mine) is mine
    assert capsys.readouterr().out == ""
    for other in (stub, subtracts, None):
        assert stand_in_for("00.1", other) is right
        assert capsys.readouterr().out == "00.1: using coursekit's add_bias in place of yours, so that the rest runs\n"


def test_hints_in_order_then_the_answer(one_task, monkeypatch):
    monkeypatch.setattr(hints, "answer_source", lambda task_id: "return x + bias")
    given = [hints.hint("00.1") for _ in range(5)]
    shown = [repr(each) for each in given]
    assert shown[:3] == ["00.1 hint 1 of 3: a", "00.1 hint 2 of 3: b", "00.1 hint 3 of 3: c"]
    assert shown[3] == shown[4] == "00.1 answer\nreturn x + bias"
    assert given[0]._repr_markdown_() == "**00.1** hint 1 of 3: a"
    folded, _, code = given[3]._repr_markdown_().partition("</summary>")
    assert folded.startswith("<details><summary>00.1: the answer") and "```python\nreturn x + bias\n```" in code


SOURCE = """\
# %%
import torch

# %% task="00.1"
def add_bias(x, bias):
    ### BEGIN SOLUTION
    return x + bias
    ### END SOLUTION

# %% check="00.1"
check("00.1", add_bias)
"""


def test_the_answer_is_the_solutions_cell(one_task, tmp_path, monkeypatch):
    source = tmp_path / "solutions" / "_src" / "00_measuring.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    monkeypatch.setattr(hints, "course_root", lambda: tmp_path)
    assert hints.answer_source("00.1") == "def add_bias(x, bias):\n    return x + bias"
    elsewhere = "# it is in solutions/00_measuring.ipynb, above the check of 00.2"
    assert hints.answer_source("00.2") == elsewhere
    source.unlink()
    assert "solutions/00_measuring.ipynb" in hints.answer_source("00.1")


def test_check_records(one_task):
    from coursekit.course.progress import read_progress

    check_and_record("00.1", stub)
    assert read_progress()["00.1"]["checks"] == 0
    check_and_record("00.1", right)
    check_and_record("00.1", subtracts)
    entry = read_progress()["00.1"]
    assert (entry["status"], entry["checks"]) == ("wrong", 2)
    assert entry["message"] == "the bias is subtracted"
    assert entry["solved"]


def test_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="unknown task '77.9'"):
        find_task("77.9")


@pytest.mark.parametrize("unit", task_units())
def test_declared_tasks_are_well_formed(unit):
    for declared in unit_tasks(unit):
        assert find_task(declared.id) is declared
        assert 4 <= len(unit_tasks(unit)) <= 8
        assert all(hint.strip() for hint in declared.hints)


def test_task_rules():
    for changes, words in (
        ({"id": "1.1"}, "like 01.1"),
        ({"difficulty": 6}, "difficulty is 1 to 5, got 6"),
        ({"hints": ("a", "b")}, "three hints expected, got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            task(**changes)


def test_the_bars_of_all_answers_can_be_seen_on_white_and_on_black():
    assert min(contrast(colour, ground) for colour in COLOURS.values() for ground in ("#ffffff", "#111111")) >= 3
