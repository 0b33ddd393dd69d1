import gc
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from coursekit.measure import compare, cpu_features, format_seconds, latency, machine, peak_memory
from coursekit.measure.hygiene import evaluating


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when told to: timings become arithmetic."""

    class Clock:
        now = 100.0

        def advance(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def test_statistics_of_known_times(clock):
    durations = iter([9, 9, 1, 2, 3, 4, 10])
    result = latency(lambda: clock.advance(next(durations)), repeats=5, warmup=2)
    assert result.seconds == (1, 2, 3, 4, 10)
    assert (result.median, result.iqr, result.minimum) == (3, 2, 1)
    assert result.ratio is None and result.ratio_iqr is None
    assert result.threads == torch.get_num_threads()


def test_ratios_are_paired_within_rounds(clock):
    """A machine that slows down tenfold moves the medians and not the ratio."""
    rounds = Counter()

    def arm(name, cost):
        def call():
            rounds[name] += 1
            clock.advance(cost * (1 if rounds[name] <= 4 else 10))

        return call

    results = compare({"a": arm("a", 2), "b": arm("b", 1), "c": arm("c", 6)}, repeats=7, warmup=0)
    assert list(results) == ["a", "b", "c"]
    assert [result.ratio for result in results.values()] == pytest.approx([1, 0.5, 3])
    assert [result.ratio_iqr for result in results.values()] == pytest.approx([0, 0, 0], abs=1e-9)
    assert results["a"].median == pytest.approx(2) and results["a"].iqr > 1


def test_rounds_interleave_and_no_arm_always_goes_first():
    calls = []
    compare({name: lambda name=name: calls.append(name) for name in "abc"}, repeats=6, warmup=0)
    rounds = ["".join(calls[start : start + 3]) for start in range(0, 18, 3)]
    assert len(set(rounds)) == 6  # every order once
    assert Counter(order[0] for order in rounds) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("arms", [1, 2, 4, 5])
def test_every_arm_runs_once_a_round(arms):
    calls = []
    compare({str(arm): lambda arm=arm: calls.append(arm) for arm in range(arms)}, repeats=2 * arms, warmup=3)
    timed = calls[3 * arms :]
    assert calls[: 3 * arms] == [*range(arms)] * 3
    rounds = [timed[start : start + arms] for start in range(0, len(timed), arms)]
    assert all(sorted(order) == [*range(arms)] for order in rounds)
    assert set(Counter(order[0] for order in rounds).values()) == {2}


def test_conditions_during_and_after_a_call():
    before, seen = torch.get_num_threads(), []

    def fn():
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), gc.isenabled()))

    assert latency(fn, threads=before + 1, repeats=2, warmup=1).threads == before + 1
    assert seen == [(before + 1, True, False)] * 3
    assert (torch.get_num_threads(), torch.is_inference_mode_enabled(), gc.isenabled()) == (before, False, True)


def test_conditions_return_after_an_exception():
    before = torch.get_num_threads()
    torch.manual_seed(3)
    state = torch.get_rng_state()

    def fails():
        torch.rand(1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        compare({"fine": lambda: None, "fails": fails}, threads=before + 1)
    assert torch.get_num_threads() == before and gc.isenabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_collection_stays_off_if_it_was_off():
    gc.disable()
    try:
        latency(lambda: None, repeats=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("measure", [lambda fn: latency(fn, repeats=2), peak_memory])
def test_random_states_are_untouched(measure):
    def draws():
        return torch.rand(2), np.random.rand(2), random.random()

    def reset():
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)

    reset()
    expected = draws()
    reset()
    measure(draws)
    after = draws()
    assert torch.equal(after[0], expected[0])
    assert np.array_equal(after[1], expected[1]) and after[2] == expected[2]


def test_a_training_step_can_be_timed():
    model = nn.Linear(3, 1)
    latency(lambda: model(torch.ones(2, 3)).sum().backward(), repeats=1, warmup=0, grad=True)
    assert model.weight.grad is not None


def test_a_clock_that_stands_still_gives_no_nan(clock):
    result = compare({"a": lambda: None, "b": lambda: None}, repeats=3, warmup=0)["b"]
    assert (result.ratio, result.ratio_iqr) == (1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must be an integer of at least 1, got 0"),
        ({"repeats": 2.5}, "repeats must be"),
        ({"warmup": -1}, "warmup must be an integer of at least 0, got -1"),
        ({"threads": 0}, "threads must be an integer of at least 1, got 0"),
        ({"threads": True}, "threads must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        latency(lambda: None, **options)


def test_nothing_to_time():
    with pytest.raises(ValueError, match="nothing to time"):
        compare({})
    with pytest.raises(ValueError, match="can be timed, got Tensor"):
        latency(torch.ones(1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, "1.50 s"), (0.0123, "12.3 ms"), (0.123456, "123 ms"), (4.2e-5, "42.0 µs"), (3e-8, "0.03 µs")],
)
def test_seconds_as_text(seconds, text):
    assert format_seconds(seconds) == text


def test_latency_as_text(clock):
    slow_fast = {"slow": lambda: clock.advance(0.02), "fast": lambda: clock.advance(0.005)}
    assert str(compare(slow_fast, repeats=4)["fast"]) == "5.00 ms (IQR 0.00 µs), ratio 0.25 (IQR 0.00)"


def test_machine_is_one_line_that_names_torch_and_threads():
    line = machine()
    assert "\n" not in line
    assert f"torch {torch.__version__}" in line
    assert f"{torch.get_num_threads()} thread" in line
    assert set(cpu_features()) == {"bf16", "int8"}


def test_peak_memory_counts_what_is_held_at_once():
    megabyte = 250_000  # floats

    def together():
        return [torch.zeros(megabyte) for _ in range(4)]

    def one_by_one():
        for _ in range(4):
            torch.zeros(megabyte)

    assert peak_memory(together) == 4_000_000
    assert peak_memory(one_by_one) == 1_000_000
    assert peak_memory(lambda: None) == 0


def test_peak_memory_ignores_what_was_held_before():
    weight = torch.zeros(1000, 1000)
    assert peak_memory(lambda: weight.sum()) < 1000


def test_peak_memory_sees_what_training_keeps():
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8)))
    x = torch.ones(100, 64)
    forward = peak_memory(lambda: model(x))
    assert 2 * 25_600 <= forward < 4 * 25_600  # a layer's input and output
    assert peak_memory(lambda: model(x).sum(), grad=True) >= 8 * 25_600


def test_peak_memory_is_quiet(capfd):
    peak_memory(lambda: torch.zeros(10))
    assert capfd.readouterr() == ("", "")


def test_peak_memory_of_another_device():
    with pytest.raises(ValueError, match="cpu or cuda, got 'meta'"):
        peak_memory(lambda: None, device="meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    x = torch.ones(1000, 1000, device="cuda")
    assert peak_memory(lambda: x + 1, device="cuda") == 4_000_000
    torch.cuda.manual_seed(0)
    state = torch.cuda.get_rng_state()
    latency(lambda: torch.rand(10, device="cuda"), repeats=2)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_evaluating_gives_every_module_its_own_flag_back():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    model[0].eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert [module.training for module in model.modules()] == [True, False, True]
