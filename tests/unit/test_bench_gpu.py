"""Benchmarks for a GPU, run on the CPU at tiny shapes: every arm equals its dense reference, or says why not."""

import pytest
import torch
from torch import Tensor

from coursekit.bench import SUITES, Case, MismatchError, Missing, Setting, run_case
from coursekit.bench import frame as frame_module
from coursekit.bench import gpu as gpu_module
from coursekit.bench import linears as linears_module
from coursekit.bench import peers as peers_module
from coursekit.bench.frame import Arm, attempt, run_cases
from coursekit.bench.table import ARM_COLUMNS, arm_rows
from coursekit.models import TransformerConfig

TINY = TransformerConfig(64, 32, 2, 2, 64, max_positions=32)
TWO = Setting(rounds=2)


# ---- what is left out, and what is measured where ----


def gpu_cases():
    toy = {"a": Arm(int), "b": Arm(None, "not here")}
    return [Case(name, "", lambda setting: toy, gpu=name != "plain") for name in ("2:4, 1", "plain", "2:4, 2", "int8")]


@pytest.mark.parametrize(
    ("there", "why"), [(False, "there is no CUDA device"), (True, "--device cuda runs them")], ids=["no GPU", "a GPU"]
)
def test_a_cpu_names_in_one_line_what_it_leaves_out(monkeypatch, there, why):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    seen = []
    found = run_cases("x", gpu_cases(), TWO, progress=lambda *call: seen.append(call))
    assert seen == [("plain", 0, 1)]
    assert [case.name for case in found.cases] == ["plain", "for a GPU"]
    assert found.cases[1].why == f"2:4, int8; left out: {why}" and found.cases[1].about == "3 cases"
    assert found.cases[1].arms == ()


def test_a_run_without_cases_for_a_gpu_leaves_nothing_out():
    assert [case.name for case in run_cases("x", gpu_cases()[1:2], TWO).cases] == ["plain"]


def test_a_gpu_runs_them_and_measures_memory(monkeypatch):
    asked = []
    monkeypatch.setattr(frame_module, "peak_memory", lambda call, **where: asked.append(where) or 7_000_000)
    found = run_cases("x", gpu_cases(), Setting("cuda", rounds=2))
    assert [case.name for case in found.cases] == ["2:4, 1", "plain", "2:4, 2", "int8"]
    assert asked == [{"device": "cuda", "grad": False}] * 4  # of what can be called
    assert [arm.peak for arm in found.cases[0].arms] == [7_000_000, None]
    assert dict(zip(ARM_COLUMNS, arm_rows(found.cases[0])[0], strict=True))["peak MB"] == "7.0"


def test_peak_memory_on_a_cpu_is_that_of_the_call():
    arms = {"small": Arm(lambda: torch.ones(1000)), "large": Arm(lambda: torch.ones(3000))}
    case = Case("toy", "", lambda setting: arms, rounds=1)
    assert [arm.peak for arm in run_case(case, TWO).arms] == [None, None]
    measured = run_case(Case("toy", "", lambda setting: arms, rounds=1, memory=True), TWO).arms
    assert [arm.peak for arm in measured] == [4000, 12000]


def test_too_little_memory_on_a_gpu_ends_one_case_and_no_more():
    def make(setting):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    found = run_case(Case("toy", "", make), Setting("cuda"))
    assert (found.why, found.arms) == ("cuda has too little memory for it", ())


def test_bf16_is_refused_in_the_name_of_the_device_asked(monkeypatch):
    monkeypatch.setattr(peers_module, "cpu_name", lambda: "An Old CPU")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"An Old Card ({device})")
    assert peers_module.no_bf16() == "An Old CPU does not multiply in bfloat16; emulated it is slower than fp32"
    assert peers_module.no_bf16("cuda").startswith("An Old Card (cuda) does not multiply")


def test_a_mismatch_is_no_excuse():
    def make():
        raise MismatchError("it differs")

    with pytest.raises(MismatchError, match="it differs"):
        attempt(make, "somebody")


# ---- attention ----


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_back_ends(padded, grad):
    case = gpu_module.attention_case(2, 8, padded=padded, grad=grad, heads=2)
    arms = case.make(TWO)
    assert list(arms) == ["math", "flash", "memory-efficient", "cuDNN", "torch's own choice"]
    assert case.gpu and case.grad == grad
    for name in ("math", "torch's own choice"):
        assert arms[name].error < 0.05 and arms[name].call().shape == (2, 2, 8, 64)
    if not torch.cuda.is_available():
        assert all(arms[name].why.startswith(f"{name}: RuntimeError: ") for name in ("memory-efficient", "cuDNN"))


def test_attention_is_compared_with_the_formula():
    query, key, value = torch.randn(3, 2, 2, 4, 64)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])[:, None, None]
    scores = (query @ key.transpose(-1, -2) / 8).masked_fill(~mask, -torch.inf)
    found = gpu_module._attend((query, key, value), mask, False, gpu_module.BACKENDS["math"])
    torch.testing.assert_close(found, scores.softmax(-1) @ value, atol=1e-5, rtol=1e-5)


def test_a_back_end_that_computes_something_else_is_not_timed(monkeypatch):
    attend = gpu_module._attend

    def wrong(states, mask, grad, backends):
        return attend(states, mask, grad, backends) + (len(backends) > 1)

    monkeypatch.setattr(gpu_module, "_attend", wrong)
    with pytest.raises(MismatchError, match="attention back-ends, 2 × 8: attention is .* off.*nothing was timed"):
        run_case(gpu_module.attention_case(2, 8, heads=2), TWO)


# ---- batches ----


def test_batch_scaling_does_the_same_texts_in_all_batches(monkeypatch):
    rows, split = [], Tensor.split
    case = gpu_module.scaling_case(TINY, texts=6, length=8, batches=(1, 4, 6))
    monkeypatch.setattr(
        Tensor, "split", lambda x, size: rows.append([len(y) for y in split(x, size)]) or split(x, size)
    )
    arms = case.make(TWO)
    assert rows == [[1] * 6, [1] * 6, [4, 2], [6]]  # the first for comparison
    assert list(arms) == ["batches of 1", "batches of 4", "batches of 6"]
    assert all(arm.error < 0.05 and arm.call().shape == (6, 32) and arm.texts == 6 for arm in arms.values())


def test_batch_scaling_prints_texts_per_second_and_memory():
    found = run_case(gpu_module.scaling_case(TINY, texts=4, length=8, batches=(1, 4)), TWO)
    small, large = found.arms
    assert 0 < small.peak < large.peak
    for arm, row in zip(found.arms, arm_rows(found), strict=True):
        assert dict(zip(ARM_COLUMNS, row, strict=True))["texts/s"] == f"{4 / arm.median:,.0f}"


def test_a_step_in_parts_is_the_same_step_in_less_memory():
    case = gpu_module.parts_case(TINY, 8, 16, parts=(1, 4))
    whole, parts = run_case(case, TWO).arms
    assert (whole.name, parts.name) == ("1 × 8 rows", "4 × 2 rows")
    assert parts.peak < whole.peak and whole.texts == parts.texts == 8


def test_a_step_in_parts_that_sees_other_rows_is_not_timed(monkeypatch):
    chunk = Tensor.chunk
    monkeypatch.setattr(Tensor, "chunk", lambda x, count: [chunk(x, count)[0]] * count)  # the same part every time
    with pytest.raises(MismatchError, match="over 4 parts differs by .*; nothing was timed"):
        run_case(gpu_module.parts_case(TINY, 8, 16, parts=(1, 4)), TWO)


# ---- products ----


def test_2_to_4_weights_need_a_gpu_and_say_so():
    arms = linears_module.sparse_case(4, 64, 32).make(TWO)
    assert list(arms) == ["dense, fp16", "2:4, fp16", "dense, bf16", "2:4, bf16"]
    assert arms["dense, bf16"].error < 0.01 and arms["dense, fp16"].error < 0.001
    for name in ("2:4, fp16", "2:4, bf16"):
        assert arms[name].call is None and "CUDA devices of capability 8.0 or more, not by cpu" in arms[name].why
    with pytest.raises(Missing):
        linears_module.semi_structured(torch.zeros(32, 64))


def test_2_to_4_weights_are_two_zeros_in_four_and_compared(monkeypatch):
    seen = []
    monkeypatch.setattr(linears_module, "semi_structured", lambda weight: seen.append(weight) or weight)
    arms = linears_module.sparse_case(4, 64, 32).make(TWO)
    assert all(arm.call().shape == (4, 32) for arm in arms.values())
    for weight in seen:
        assert ((weight.unflatten(-1, (-1, 4)) != 0).sum(-1) == 2).all()
    monkeypatch.setattr(linears_module, "semi_structured", lambda weight: weight * 1.5)
    with pytest.raises(MismatchError, match="the layer's output is 0.4.* off, .* rounding explains 0.01"):
        linears_module.sparse_case(4, 64, 32).make(TWO)


def test_integer_products_are_exact_and_layers_near(monkeypatch):
    arms = linears_module.int8_case(32, 64, 24).make(TWO)
    assert list(arms) == ["16-bit layer", "fp32 layer", "int8 product alone", "int8 layer"]
    assert arms["int8 product alone"].call().dtype == torch.int32
    assert arms["16-bit layer"].error < 0.01 and 1e-4 < arms["int8 layer"].error < 0.05
    product = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda left, right: product(left, right) + 1)
    with pytest.raises(MismatchError, match="the product of integers differs by 1"):
        linears_module.int8_case(32, 64, 24).make(TWO)


def test_the_suites_hold_what_a_gpu_is_asked():
    held = {suite: [case for case in make(False) if case.gpu] for suite, make in SUITES.items()}
    kinds = {suite: [case.name.partition(",")[0] for case in cases] for suite, cases in held.items()}
    assert set(kinds["inference"]) == {"attention back-ends", "batch scaling", "2:4 weights", "int8 products"}
    assert set(kinds["training"]) == {"attention back-ends", "batch scaling", "step of BERT-base"}
    assert kinds["distillation"] == []
    for suite in ("inference", "training"):
        full = [case for case in SUITES[suite](True) if case.gpu]
        assert {case.name for case in held[suite]} < {case.name for case in full}
        assert not [case for case in full if case.bars]
