"""Benchmarks: verdicts on hand-made numbers, suites on tiny shapes, equality that is really checked, never a time."""

import json

import matplotlib.pyplot as plt
import pytest
import torch

from coursekit.bench import SUITES, Arm, Bar, Case, MismatchError, Missing, Setting, judge, run_bench, run_case
from coursekit.bench import encoding as encoding_module
from coursekit.bench import inference as inference_module
from coursekit.bench import suites as suites_module
from coursekit.bench import training as training_module
from coursekit.bench.csr import CsrLinear, to_csr
from coursekit.bench.frame import attempt, relative_error, require_close, run_cases
from coursekit.bench.results import ArmResult, BenchResult
from coursekit.bench.table import ARM_COLUMNS, BAR_COLUMNS, arm_rows, bar_rows
from coursekit.compress.pruning import apply_masks, finalize, magnitude_masks
from coursekit.course.benchmarks import load_bench
from coursekit.models import Encoder, TransformerConfig, from_huggingface
from coursekit.viz.bench import bench as draw

TINY = TransformerConfig(64, 32, 2, 2, 64, max_positions=32)
TWO = Setting(rounds=2)


# ---- verdicts ----


def arm(name="fast", seconds=(1.0, 2.0, 3.0), **about):
    return ArmResult(name, seconds=seconds, **about)


def verdict(bar, *arms):
    return judge(bar, {each.name: each for each in (arm("base", (4.0, 5.0, 6.0)), *arms)})


def bar(arms=("fast",), **limits):
    return Bar(3, "something", arms, "base", reason="caches", **limits)


def test_ratios_are_of_the_same_round():
    found = verdict(bar(least=2.5), arm())  # 4/1, 5/2, 6/3 → 4, 2.5, 2; medians of times alone would give 5/2 too
    assert (found.value, found.verdict, found.arm, found.why) == (2.5, "met", "fast", "")
    assert found.quartiles == (2.25, 3.25)
    apart = verdict(bar(least=2.5), arm(seconds=(3.0, 1.0, 2.0)))  # 4/3, 5, 3
    assert apart.value == 3.0


@pytest.mark.parametrize(
    ("limits", "value", "expected"),
    [
        ({"least": 2.5}, 2.5, "met"),
        ({"least": 2.51}, 2.5, "not met"),
        ({"most": 2.5}, 2.5, "met"),
        ({"most": 2.4}, 2.5, "not met"),
        ({"least": 0.9, "most": 1.1}, 2.5, "not met"),
        ({"least": 2.0, "most": 3.0}, 2.5, "met"),
        ({"most": 0.4, "kind": "time"}, 0.4, "met"),
        ({"most": 0.39, "kind": "time"}, 0.4, "not met"),
        ({"least": 0.5, "kind": "ideal"}, 0.5, "met"),
        ({"least": 0.51, "kind": "ideal"}, 0.5, "not met"),
    ],
)
def test_limits(limits, value, expected):
    found = verdict(bar(**limits), arm(ideal=5.0))
    assert (found.value, found.verdict) == (pytest.approx(value), expected)
    assert found.why == ("" if expected == "met" else "caches")


@pytest.mark.parametrize(
    ("error", "expected"),
    [(0.02, "met"), (0.03, "met"), (0.031, "not met"), (None, "not met"), (float("nan"), "not met")],
)
def test_a_fast_arm_with_a_large_error_does_not_count(error, expected):
    if error is None:
        with pytest.raises(ValueError, match="'fast' has no error"):
            verdict(bar(least=2.0, error=0.03), arm())
        return
    found = verdict(bar(least=2.0, error=0.03), arm(error=error))
    assert found.verdict == expected
    assert ("its error is" in found.why) == (expected == "not met")


def test_one_of_several_arms_is_enough_and_the_best_is_shown():
    either = bar(("fast", "slow", "none"), least=2.0)
    none = ArmResult("none", why="no such hardware")
    slow = arm("slow", (4.0, 4.0, 4.0))
    assert verdict(either, arm(), slow, none).arm == "fast"
    assert verdict(either, arm(seconds=(9.0, 9.0, 9.0)), slow, none).arm == "slow"
    wrong = bar(("fast", "slow"), least=1.0, error=0.1)
    assert verdict(wrong, arm(error=0.5), arm("slow", (4.0, 4.0, 4.0), error=0.0)).arm == "slow"  # fast is wrong


def test_what_cannot_run_is_not_a_failure():
    found = verdict(bar(least=2.0), ArmResult("fast", why="no bf16 here"))
    assert (found.verdict, found.why, found.value) == ("not on this machine", "no bf16 here", None)
    found = judge(bar(least=2.0), {"fast": arm(), "base": ArmResult("base", why="not installed")})
    assert (found.verdict, found.why) == ("not on this machine", "not installed")


def test_bars_in_words_and_as_speeds():
    assert str(bar(least=2.5, error=0.03)) == "≥ 2.5×, error ≤ 0.03"
    assert str(bar(most=1.3, kind="time")) == "≤ 1.3× the time"
    assert str(bar(least=0.9, kind="ideal")) == "≥ 0.9 of ideal"
    assert str(bar(least=0.9, most=1.1)) == "0.9 to 1.1×"
    assert verdict(bar(least=2.5), arm()).limits(None) == [2.5]
    assert verdict(bar(most=1.25, kind="time"), arm()).limits(None) == [0.8]
    assert verdict(bar(least=0.5, kind="ideal"), arm(ideal=4.0)).limits(4.0) == [2.0]


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


def test_bars_are_for_the_cpu():
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


# ---- equality before timing ----


def test_require_close():
    assert require_close("x", torch.ones(3), torch.ones(3) + 1e-6, within=1e-5) < 2e-6
    for wrong in (torch.tensor([1.0, 1.0, 1.1]), torch.tensor([1.0, 1.0, torch.nan]), torch.tensor([torch.inf] * 3)):
        with pytest.raises(MismatchError, match="the loss differs by .*, more than 1e-05"):
            require_close("the loss", wrong, torch.ones(3), within=1e-5)
    with pytest.raises(MismatchError, match="has shape"):
        require_close("x", torch.ones(2), torch.ones(3), within=1.0)
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == pytest.approx(0.75)


def test_a_wrong_model_is_not_timed(monkeypatch):
    def slightly_wrong(model):
        ours = from_huggingface(model)
        with torch.no_grad():
            ours.head.bias[7:20] += 0.5
        return ours

    case = training_module.masked_lm_case(64, 1.5, 2.2, layers=1, hidden=32, batch=4, length=8)
    monkeypatch.setattr(training_module, "from_huggingface", slightly_wrong)
    with pytest.raises(MismatchError, match="masked-LM step, V 64: the loss differs by .*; nothing was timed"):
        run_case(case, TWO)


def pair_of_encoders():
    import transformers

    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    theirs = transformers.BertModel(config).eval()
    return theirs, from_huggingface(theirs)


SENTENCES = [[2, *range(5, 5 + length), 3] for length in (3, 9, 4, 4, 11, 2)]


def test_an_encoder_that_differs_at_one_token_is_not_timed():
    theirs, ours = pair_of_encoders()
    assert set(encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)) >= {"ours, fp32", "ours, int8"}
    with torch.no_grad():
        ours.embeddings.word.weight[15, 3] += 0.5  # in the longest sentence alone
    with pytest.raises(MismatchError, match="a state of a real token differs"):
        encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)


def test_sentences_are_encoded_in_their_order_without_padding():
    theirs, ours = pair_of_encoders()
    arms = encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)
    expected = arms[encoding_module.HF].call()
    for name in ("Hugging Face, sorted by length", "ours, fp32"):
        torch.testing.assert_close(arms[name].call(), expected, atol=1e-5, rtol=0)
    assert arms["ours, fp32"].error < 1e-5 < arms["ours, int8"].error < 0.1
    rows = []
    ours.layers[0].ffn.register_forward_pre_hook(lambda _, args: rows.append(args[0][..., 0].numel()))
    arms["ours, fp32"].call()
    assert sum(rows) == sum(map(len, SENTENCES))


def test_csr_computes_what_zeros_compute():
    encoder = Encoder(TINY).eval()
    finalize(apply_masks(encoder, magnitude_masks(encoder, 0.9)))
    sparse, ids = to_csr(encoder), torch.randint(1, 64, (2, 5))
    assert sum(isinstance(part, CsrLinear) for part in sparse.modules()) == 13
    with torch.no_grad():
        torch.testing.assert_close(sparse(ids).last_hidden, encoder(ids).last_hidden, atol=1e-5, rtol=1e-5)


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
    monkeypatch.setattr(inference_module, "_encoder", lambda config: Encoder(TINY))
    monkeypatch.setattr(inference_module, "_inputs", lambda *_: (torch.ones(1, 2, dtype=torch.long),))
    made = {case.name: case.make(TWO) for case in inference_module.inference_cases() if "sharing" not in case.name}
    assert {name for name, arms in made.items() if "onnx" not in arms} == {"MiniLM 6 × 384, 1 × 8"}
    assert all("masks" in arms for arms in made.values()) and len(made) == 6


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_at_once():
    with pytest.raises(ValueError, match="no CUDA device is there.*--device cpu runs everywhere"):
        run_bench("training", device="cuda")
