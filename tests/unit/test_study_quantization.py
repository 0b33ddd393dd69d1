"""The study `quantization`: its arms, its pairs, and a quick run from end to end."""

import json

import pytest

from coursekit.course.studies import quantization as module
from coursekit.course.studies import run_study
from coursekit.data import fetch


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("minilm", "rotten-tomatoes"):
        monkeypatch.setenv("COURSEKIT_ASSETS", str(fetch(name).parent))
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSEKIT_QUIET", "1")
    return tmp_path / "cache"


def test_pairs_are_of_arms_and_controls_are_there():
    assert {arm for pair in module.COMPARED for arm in pair} <= set(module.ARMS)
    assert ("ternary-qat", "fp32-more") in module.COMPARED and module.ARMS["fp32-more"].scheme is None
    calibrated = {name for name, arm in module.ARMS.items() if arm.calibrated}
    assert calibrated == {
        "int8-static",
        "int8-smooth",
        "int8-static-smooth",
        "int8-static-smooth-norms",
        "int4-row-gptq",
        "int3-row-gptq",
        "int3-g64-gptq",
    }


def test_quick_run(cache):
    """Every arm once: sizes in order, full precision agrees with itself, the model is fine-tuned once."""
    summary = json.loads(run_study("quantization", quick=True).read_text(encoding="utf-8"))
    numbers = {run["arm"]: run["numbers"] for run in summary["runs"]}
    assert set(numbers) == set(module.ARMS)
    size = {arm: found["stored_bytes"] for arm, found in numbers.items()}
    assert size["fp32"] == size["fp32-more"] > size["int8"] > size["int4-g32"] > size["int4-row"] > size["int3-row"]
    assert size["int3-row"] > size["ternary"] == size["ternary-qat"] > size["int8-embeddings"]
    assert size["int8-embeddings"] > size["int4-g64-embeddings"]
    assert size["int3-row"] == size["int3-row-gptq"] == size["int3-row-qat"]
    assert size["int8-static-smooth"] > size["int8-static-smooth-norms"] > size["int8-static"]
    assert numbers["fp32"]["test_agreement"] == 1 and numbers["fp32"]["test_logit_error"] == 0
    assert 0 < numbers["int8"]["test_logit_error"] < numbers["ternary"]["test_logit_error"]
    difference = summary["differences"]["ternary − fp32"]["test_accuracy"]
    expected = numbers["ternary"]["test_accuracy"] - numbers["fp32"]["test_accuracy"]
    assert difference["difference"] == pytest.approx(expected, abs=1e-4)
    assert summary["baselines"]["test_texts"] == 48
    assert len(list((cache / "studies" / "quantization").glob("model-*"))) == 1
