"""The pruning study: arms that differ in what they name, and runs from end to end on a few texts."""

import json

import pytest

from coursekit.course.studies import pruning as module
from coursekit.data import fetch

SIX_LAYERS = 10_764_288  # weights that may be pruned, the pooler's among them


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of one arm per kind, on toy settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("minilm", "rotten-tomatoes"):
            patch.setenv("COURSEKIT_ASSETS", str(fetch(name).parent))
        patch.setenv("COURSEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COURSEKIT_QUIET", "1")
        settings = module.settings(True)
        arms = ("dense-0", "magnitude-50", "wanda-50", "2:4-50", "gradual-70", "movement-70")
        arms += ("heads-50", "neurons-75", "layers-50", "rewound-70", "fresh-movement-70")
        yield {arm: module.run(arm, 0, settings) for arm in arms}
        module._start.cache_clear()


def test_sparsity_is_what_the_arm_says(runs):
    """Of all matrices: half the weights; a share of heads and neurons is a share of their part."""
    found = {arm: numbers["sparsity"] for arm, (numbers, _) in runs.items()}
    for arm, expected in (("dense-0", 0), ("magnitude-50", 0.5), ("2:4-50", 0.5), ("gradual-70", 0.7)):
        assert found[arm] == pytest.approx(expected, abs=0.002), arm
    assert found["movement-70"] == found["fresh-movement-70"] == pytest.approx(0.7, abs=0.002)
    attention, ffn = 6 * 4 * 384**2, 6 * 2 * 384 * 1536
    assert found["heads-50"] == pytest.approx(0.5 * attention / SIX_LAYERS, abs=0.0002)
    assert found["neurons-75"] == pytest.approx(0.75 * ffn / SIX_LAYERS, abs=0.0002)
    assert found["layers-50"] == pytest.approx(0.5 * (attention + ffn) / SIX_LAYERS, abs=0.0002)


def test_zeros_save_no_bytes_and_removal_does(runs):
    numbers = {arm: each for arm, (each, _) in runs.items()}
    dense = numbers["dense-0"]
    for arm in ("magnitude-50", "wanda-50", "movement-70", "rewound-70"):
        assert (numbers[arm]["bytes"], numbers[arm]["flops"]) == (dense["bytes"], dense["flops"]), arm
        assert numbers[arm]["sparse_bytes"] < dense["bytes"]
    for arm in ("heads-50", "neurons-75", "layers-50"):
        assert numbers[arm]["bytes"] < dense["bytes"] and numbers[arm]["flops"] < 0.9 * dense["flops"], arm
        assert numbers[arm]["sparse_bytes"] == numbers[arm]["bytes"]
    assert numbers["2:4-50"]["sparse_bytes"] == pytest.approx(dense["bytes"] - SIX_LAYERS * (4 - 2 - 1 / 8), rel=1e-4)


def test_only_what_is_pruned_at_once_is_judged_at_once(runs):
    judged = {arm for arm, (numbers, _) in runs.items() if "one_shot" in numbers}
    assert judged == {arm for arm in runs if arm.split("-")[0] not in ("gradual", "movement", "rewound", "fresh")}
    for numbers, details in runs.values():
        assert len(details["right"]) == 8 and set(details["right"]) <= {0, 1}
        assert numbers["test"] == pytest.approx(sum(details["right"]) / 8, abs=1e-4)
        json.dumps([numbers, details])


def test_every_comparison_is_of_arms_that_exist():
    assert {arm for pair in module.COMPARED for arm in pair} <= set(module.ARMS)
    assert {method for method, _ in module.ARMS.values()} == module.AT_ONCE.keys() | module.WHILE_TRAINING.keys()
    details = {arm: [{"right": [0, 1, 1, 0]}] * 3 for arm in module.ARMS} | {"wanda-50": [{"right": [1, 1, 1, 0]}] * 3}
    found = module.STUDY.compare(details, module.settings(False))
    assert found["wanda-50 − magnitude-50"]["test"]["difference"] == 0.25
    assert found["magnitude-50 − dense-0"]["test"]["difference"] == 0
