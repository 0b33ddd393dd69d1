"""Benchmarks: cases and suites on tiny shapes, never a time."""

import json

import matplotlib.pyplot as plt
import pytest
import torch

from coursekit.bench import SUITES, Arm, Bar, Case, Missing, Setting, run_bench, run_case
from coursekit.bench import frame as frame_module
from coursekit.bench import inference as inference_module
from coursekit.bench import suites as suites_module
from coursekit.bench import training as training_module
from coursekit.bench.frame import attempt, run_cases
from coursekit.bench.results import ArmResult, BenchResult, CaseResult
from coursekit.bench.table import ARM_COLUMNS, BAR_COLUMNS, arm_rows, bar_rows
from coursekit.course.benchmarks import load_bench
from coursekit.models import Encoder, TransformerConfig
from coursekit.viz.bench import bench as draw

TINY = TransformerConfig(64, 32, 2, 2, 64, max_positions=32)
TWO = Setting(rounds=2)


# ---- cases ----


def test_a_case_times_every_arm_as_often_and_first_against_itself():
    calls = []
    arms = {name: Arm(lambda name=name: calls.append(name)) for name in "ab"} | {"c": Arm(None, "not here")}
    held = (Bar(1, "x", ("c",), "a", 1.0), Bar(2, "y", ("b",), "a", 0.0))
    found = run_case(Case("toy", "two calls", lambda setting: arms, held, rounds=5, warmup=2), Setting(rounds=3))
    assert sorted(calls) == ["a"] * 5 + ["b"] * 5  # two to warm up, three rounds
    first, second, third = found.arms
    assert (first.speed, first.speed_quartiles) == (1.0, (1.0, 1.0)) and len(second.seconds) == 3
    assert (third.why, third.seconds, third.median) == ("not here", (), None)
    assert [bar.verdict for bar in found.bars] == ["not on this machine", "met"]
    assert found.rounds == 3


def test_bars_are_for_the_cpu(monkeypatch):
    monkeypatch.setattr(frame_module, "peak_memory", lambda call, **where: 1)
    case = Case("toy", "", lambda setting: {"a": Arm(int), "b": Arm(int)}, (Bar(1, "x", ("b",), "a", 0.0),), rounds=2)
    (found,) = run_case(case, Setting(device="cuda")).bars
    assert (found.verdict, found.why) == ("not on this machine", "the bar is stated for a CPU, this ran on cuda")


def test_a_case_that_needs_what_is_not_installed_keeps_its_bars(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    case = training_module.masked_lm_case(64, 1.5, 2.2, layers=1, hidden=32, batch=2, length=8)
    found = run_case(case, TWO)
    assert found.arms == () and found.why == "transformers is not installed (pip install transformers)"
    assert [(bar.verdict, bar.why) for bar in found.bars] == [("not on this machine", found.why)] * 2


def test_arms_of_other_libraries_may_fail():
    def missing():
        raise Missing("torchao is not installed")

    assert attempt(missing, "torchao").why == "torchao is not installed"
    assert attempt(lambda: 1 / 0, "torchao") == Arm(None, "torchao: ZeroDivisionError: division by zero")


# ---- suites ----


def tiny_suites(full):
    """Every kind of case, at shapes that take milliseconds."""
    return [
        training_module.masked_lm_case(64, 1.5, 2.2, layers=1, hidden=32, batch=2, length=8),
        training_module.optimizer_case(TINY),
        inference_module.case(TINY, 1, 8, [n for n in inference_module.METHODS if n not in inference_module.OTHERS]),
        inference_module.sharing_case(TINY, 8, 64 if full else 32),
    ]


@pytest.fixture(scope="module")
def result():
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites_module, "SUITES", {"training": tiny_suites})
        found = run_bench("training", rounds=2, progress=lambda name, number, of: seen.append((name, number, of)))
    assert [number for _, number, _ in seen] == [0, 1, 2, 3] and {of for *_, of in seen} == {4}
    return found


def test_a_suite_is_complete_as_json(result, tmp_path):
    data = json.loads(json.dumps(result.to_dict()))
    assert data["format"] == "coursekit bench 1" and data["command"] == "coursekit bench training --rounds 2"
    assert data["versions"]["torch"] == torch.__version__ and data["versions"].keys() >= {"python", "coursekit"}
    assert "1 thread," in data["machine"] and data["device"] == "cpu" and data["date"].endswith("+00:00")
    names = {arm["name"] for case in data["cases"] for arm in case["arms"]}
    assert names >= {"Hugging Face, fp32", "ours, bf16", "fused", "dense, fp32", "low rank, half the weights"}
    assert names >= {"90 % zeros, masked", "90 % zeros, dense", "90 % zeros, CSR"}
    assert names >= {"heads −50 %", "FFN −50 %", "layers −50 %", "int8, eager", "int4 weights"}
    for case in data["cases"]:
        for arm in case["arms"]:
            assert arm["why"] or (len(arm["seconds"]) == 2 and arm["median"] > 0 and len(arm["speed_quartiles"]) == 2)
    bars = [bar for case in data["cases"] for bar in case["bars"]]
    assert [bar["number"] for bar in bars] == [2, 2]
    assert all(bar["verdict"] in ("met", "not met", "not on this machine") for bar in bars)


def test_a_result_read_from_json_prints_as_before(result):
    again = BenchResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert [arm_rows(case) for case in again.cases] == [arm_rows(case) for case in result.cases]
    assert bar_rows(again) == bar_rows(result) and again.command == result.command
    with pytest.raises(ValueError, match="format 'coursekit bench 1'; got None"):
        BenchResult.from_dict({"cases": []})


def test_stored_benchmarks_of_a_device_nobody_measured():
    with pytest.raises(FileNotFoundError, match="coursekit bench --device abacus --json"):
        load_bench("abacus")


def test_smaller_models_know_their_ideal_and_their_bytes(result):
    arms = {arm.name: arm for arm in result.cases[2].arms}
    assert arms["layers −50 %"].ideal == pytest.approx(2.0, rel=0.1)  # the pooler stays
    dense = arms["dense, fp32"].bytes
    assert arms["90 % zeros, masked"].bytes > dense  # a byte per weight for the mask
    assert arms["90 % zeros, masked"].error == arms["90 % zeros, dense"].error > 0
    assert arms["90 % zeros, dense"].bytes == dense > arms["heads −50 %"].bytes > arms["layers −50 %"].bytes
    assert arms["int8, eager"].bytes < dense and arms["dense, fp32"].error == 0.0
    shared = {arm.name: arm for arm in result.cases[3].arms}
    assert shared["all shared"].bytes < shared["unshared"].bytes


def test_masked_lm_steps_of_other_shapes_show_memory_and_hold_no_bar():
    case = training_module.shape_case(layers=1, hidden=32, batch=2, length=16, vocab=512)
    assert case.name == "masked-LM step, 1 × 32, 2 × 16 tokens" and case.bars == ()
    theirs, ours, *_ = run_case(case, TWO).arms
    assert (theirs.name, ours.name) == ("Hugging Face, fp32", "ours, fp32") and ours.error < 1e-4
    assert 0 < ours.peak < theirs.peak  # of 32 tokens, few meet the vocabulary


def test_the_full_suite_trains_from_tiny_to_bert_base():
    new = [case.name for case in training_module.training_cases(True) if "×" in case.name]
    assert new == [f"masked-LM step, {shape} tokens" for shape in
                   ("2 × 128, 16 × 128", "6 × 384, 8 × 128", "12 × 768, 4 × 128")]  # fmt: skip
    assert not [case for case in training_module.training_cases(False) if "×" in case.name or case.memory]


def test_models_that_do_not_fit_into_memory_are_left_out(monkeypatch):
    monkeypatch.setattr(training_module.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1e9}))
    needs = 4 * 16 * (30522 * 768 + 12 * 12 * 768**2)  # four models: weight, gradient, two moments
    found = run_case(training_module.shape_case(**training_module.SHAPES[-1]), TWO)
    assert found.why == f"its models need {needs / 1e9:.1f} GB of memory, 1.0 GB are free" and not found.arms


def test_torchao_on_a_tiny_model():
    pytest.importorskip("torchao.quantization")
    arms = inference_module.case(TINY, 2, 8, ["torchao"]).make(TWO)
    assert 1e-5 < arms["torchao int8, eager"].error < 0.1
    assert arms["torchao int8, eager"].call().shape == (2, 8, 32)


def test_onnx_runtime_on_a_tiny_model():
    pytest.importorskip("onnxruntime")
    arms = inference_module.case(TINY, 2, 8, ["onnx"]).make(TWO)
    full, small = arms["ONNX Runtime, fp32"], arms["ONNX Runtime, int8"]
    assert full.error < 1e-5 < small.error < 0.3
    assert small.bytes < full.bytes


def test_onnx_runtime_is_at_every_shape_but_the_smallest(monkeypatch):
    stubs = {name: lambda *_, name=name: {name: Arm(None, "not made")} for name in inference_module.METHODS}
    monkeypatch.setattr(inference_module, "METHODS", stubs)
    monkeypatch.setattr(inference_module, "make_encoder", lambda config: Encoder(TINY))
    monkeypatch.setattr(inference_module, "make_inputs", lambda *_: (torch.ones(1, 2, dtype=torch.long),))
    made = {case.name: case.make(TWO) for case in inference_module.inference_cases() if "sharing" not in case.name}
    assert {name for name, arms in made.items() if "onnx" not in arms} == {"MiniLM 6 × 384, 1 × 8"}
    assert all("masks" in arms and "hugging face" in arms for arms in made.values()) and len(made) == 6


def test_the_table_says_how_each_arm_compares_with_hugging_face():
    def row(case, name):
        (found,) = (row for row in arm_rows(case) if row[0] == name)
        return dict(zip(ARM_COLUMNS, found, strict=True))

    def timed(name, *seconds):
        return ArmResult(name, "", seconds[0], 0.0, seconds, 1.0, (1.0, 1.0))

    theirs, dense = timed("Hugging Face, fp32", 4.0, 9.0, 8.0), timed("dense, fp32", 2.0, 3.0, 4.0)
    case = CaseResult("x", "", (dense, theirs))
    assert row(case, "dense, fp32")["× HF"] == "2.00"  # of 4/2, 9/3, 8/4
    assert row(case, "Hugging Face, fp32")["× HF"] == "1.00"
    assert row(CaseResult("x", "", (theirs, dense)), "dense, fp32")["× HF"] == ""  # "× as fast" says it already
    missing = CaseResult("x", "", (dense, ArmResult("Hugging Face, fp32", "not installed")))
    assert row(missing, "dense, fp32")["× HF"] == ""


def test_tables_and_figure(result):
    for case in result.cases:
        assert all(len(row) == len(ARM_COLUMNS) for row in arm_rows(case))
    rows = bar_rows(result)
    assert [row[0] for row in rows] == ["2", "2"] and all(len(row) == len(BAR_COLUMNS) for row in rows)
    figure = draw(result)
    titles = [axis.get_title("left") or axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == [case.name for case in result.cases]
    labels = [tick.get_text() for tick in figure.axes[2].get_yticklabels()]
    assert labels == [arm.name for arm in result.cases[2].arms if arm.seconds]
    plt.close(figure)
    with pytest.raises(ValueError, match="no case of 'x' could be timed"):
        draw(run_cases("x", [], TWO))


def test_the_bars_of_the_project_are_all_held():
    held = [bar for suite in SUITES.values() for case in suite(False) for bar in case.bars]
    assert {bar.number for bar in held} >= {1, 2, 3, 5, 6}
    limits = {(bar.number, bar.least, bar.most, bar.error) for bar in held}
    assert limits >= {(1, 4.0, None, None), (1, 8.0, None, None), (2, 1.5, None, None), (2, 2.2, None, None)}
    assert limits >= {(2, 2.7, None, None), (2, 4.0, None, None), (3, 2.5, None, 0.03), (3, 3.0, None, 0.03)}
    assert limits >= {(5, 0.9, None, None), (5, 0.8, None, None), (6, 0.9, 1.1, None)}
    full = [case.name for suite in SUITES.values() for case in suite(True)]
    assert len(full) == len(set(full)) > len([case for suite in SUITES.values() for case in suite(False)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"suite": "trainin"}, "unknown suite 'trainin'; nearest: training"),
        ({"suite": "speed"}, "unknown suite 'speed'; known: all, .*inference, training"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_bench(**arguments)


def test_no_gpu_is_said_at_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device is there.*--device cpu runs everywhere"):
        run_bench("training", device="cuda")
