"""The leaderboard: chains that say what they make, equal compute, and one run of every kind on a few texts."""

import json

import pytest
import torch

from coursekit.compress.lowrank import LowRankLinear
from coursekit.compress.quantization import QuantizedEmbedding, QuantizedLinear
from coursekit.course.studies import leaderboard as module
from coursekit.course.studies.leaderboard_steps import CODES, STARTS, STEPS, equal_steps, made
from coursekit.data import fetch

KINDS = ("teacher", "words", "low-rank", "masked", "distil", "shared-2", "int8+distil+prune", "bag-of-words", "probe")


@pytest.fixture(scope="module")
def settings():
    return module.settings(True)


@pytest.fixture(scope="module")
def runs(settings, tmp_path_factory):
    """One arm per kind, on toy settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("minilm", "rotten-tomatoes"):
            patch.setenv("COURSEKIT_ASSETS", str(fetch(name).parent))
        patch.setenv("COURSEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COURSEKIT_QUIET", "1")
        yield {arm: module.run(arm, 0, settings) for arm in KINDS}


def test_chains_are_made_of_known_steps():
    for arm, (start, *steps) in module.CHAINS.items():
        assert start in STARTS, arm
        assert all(step in STEPS or step in CODES or step == "words" for step in steps), arm


def test_every_order_is_there_and_ends_in_codes():
    assert len(module.ORDERS) == 6
    assert all(chain[0] == "teacher" and chain[-1] == "int8-tables" for chain in module.ORDERS.values())
    assert module.ORDERS["distil+prune+int8"] == ("teacher", "distil", "neurons", "int8-tables")
    assert module.ORDERS["distil+int8+prune"] == ("teacher", "distil", "int8-tables", "neurons", "int8-tables")


def test_equal_compute_by_hand():
    """100 steps of six layers: 300; 100 of three that ask: 250; so 183 steps of six, 367 of three."""
    assert equal_steps({"steps": 100}) == {"six": 183, "three": 367}


def test_comparisons_name_arms():
    for one, other in module.COMPARED:
        assert {one, other} <= set(module.ARMS)
    assert len(set(module.COMPARED)) == len(module.COMPARED)


def test_models_are_what_their_arms_say(runs, settings):
    kinds = {
        "low-rank": LowRankLinear,
        "int8+distil+prune": (QuantizedLinear, QuantizedEmbedding),
    }
    for arm, kind in kinds.items():
        model = made(module.CHAINS[arm], 0, settings).model
        assert any(isinstance(layer, kind) for layer in model.modules()), arm
    stacked = made(module.CHAINS["int8+distil+prune"], 0, settings).model
    assert len(stacked.encoder.layers) == 3
    assert stacked.encoder.layers[0].ffn.intermediate_size == 768
    shared = made(("shared-2",), 0, settings).model.encoder.layers
    assert shared[0].ffn is shared[1].ffn and shared[1].ffn is not shared[2].ffn


def test_numbers(runs):
    numbers = {arm: each for arm, (each, _) in runs.items()}
    teacher = numbers["teacher"]
    assert teacher["parameters"] == 22_713_986  # the encoder with its pooler, and two labels
    assert numbers["masked"]["bytes"] == teacher["bytes"] == 4 * teacher["parameters"]
    assert numbers["masked"]["sparse_bytes"] < teacher["bytes"]
    assert numbers["words"]["bytes"] < teacher["bytes"] and numbers["words"]["flops"] == teacher["flops"]
    assert numbers["shared-2"]["flops"] == teacher["flops"] and numbers["shared-2"]["bytes"] < teacher["bytes"]
    assert numbers["distil"]["flops"] == pytest.approx(teacher["flops"] / 2, rel=0.01)
    assert numbers["int8+distil+prune"]["bytes"] < numbers["distil"]["bytes"] / 3
    assert numbers["distil"]["cpu_seconds"] >= teacher["cpu_seconds"]  # who distils pays for the teacher
    assert numbers["bag-of-words"]["flops"] < teacher["flops"] / 1e5


def test_accuracy_is_what_is_kept_and_all_is_json(runs, settings):
    for numbers, kept in runs.values():
        assert numbers["test_accuracy"] == pytest.approx(sum(kept["right"]) / len(kept["right"]), abs=1e-4)
        assert len(kept["validation"]) == settings["validation_texts"]
    json.dumps(runs)


def test_compare_has_test_and_validation(settings):
    details = {arm: [{"right": [1, 0], "validation": [1, 0]}] for arm in module.ARMS}
    details["teacher"] = [{"right": [1, 1], "validation": [0, 0]}]
    found = module.compare(details, settings)
    assert found["int8 − teacher"]["test_accuracy"]["difference"] == pytest.approx(-0.5)
    assert found["int8 − teacher"]["validation_accuracy"]["difference"] == pytest.approx(0.5)
    assert "validation_accuracy" not in found["distil − shared-2"]


def test_a_model_is_not_changed_by_what_is_made_of_it(settings, runs):
    before = made(("teacher",), 0, settings).model
    state = {name: value.clone() for name, value in before.state_dict().items()}
    made(("teacher", "neurons"), 0, settings)
    assert all(torch.equal(value, state[name]) for name, value in before.state_dict().items())
