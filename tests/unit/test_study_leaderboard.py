"""The leaderboard: chains that say what they make, equal compute, and one run of every kind on a few texts."""

import json

import pytest
import torch

from coursekit.compress.lowrank import LowRankLinear
from coursekit.compress.pruning import prunable
from coursekit.compress.quantization import Int8Linear, QuantizedEmbedding, QuantizedLinear
from coursekit.course.studies import leaderboard as module
from coursekit.course.studies.leaderboard_starts import STARTS, equal_steps
from coursekit.course.studies.leaderboard_steps import CODES, STEPS, made
from coursekit.data import fetch

KINDS = (
    "teacher",
    "words",
    "low-rank",
    "word-table",
    "masked",
    "wanda",
    "distil",
    "shared-2",
    "sandwich",
    "int8+distil+prune",
    "bag-of-words",
    "probe",
)


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
    sandwich = made(("sandwich",), 0, settings).model.encoder.layers
    assert len({id(layer.ffn) for layer in sandwich[1:5]}) == 1  # the filling
    assert len({id(layer.attention) for layer in sandwich}) == 3
    assert len({id(layer.ffn_norm) for layer in sandwich}) == 6


def test_pruned_models_lack_half_of_every_matrix(runs, settings):
    """Wanda compares within a row, so there every row lacks half; the sizes of scores know no rows."""
    teacher = prunable(made(module.CHAINS["teacher"], 0, settings).model)
    gone = {}
    for arm in ("masked", "wanda", "movement"):
        layers = prunable(made(module.CHAINS[arm], 0, settings).model)
        assert all(type(layer) is torch.nn.Linear for layer in layers.values()), arm
        gone[arm] = {path: layer.weight == 0 for path, layer in layers.items()}
        assert gone[arm].keys() == teacher.keys()
        for path, zeros in gone[arm].items():
            assert int(zeros.sum()) == zeros.numel() // 2, (arm, path)
    path = "encoder.layers.3.ffn.up"
    assert set(gone["wanda"][path].sum(1).tolist()) == {192}
    assert len(set(gone["masked"][path].sum(1).tolist())) > 1
    for one, other in (("masked", "wanda"), ("masked", "movement"), ("wanda", "movement")):
        assert not torch.equal(gone[one][path], gone[other][path])


def test_int8_arms_are_static_and_smoothed_or_trained(runs, settings):
    layers = {}
    for arm in ("int8", "int8-static", "int8-static-smooth", "int8-qat"):
        model = made(module.CHAINS[arm], 0, settings).model
        layers[arm] = [layer for layer in model.modules() if isinstance(layer, Int8Linear)]
        assert len(layers[arm]) == 6 * 6 + 1  # four projections, two of the FFN; the pooler
    found = {arm: (each[0].activations, each[0].divisor is not None) for arm, each in layers.items()}
    assert found == {
        "int8": ("dynamic", False),
        "int8-static": ("static", False),
        "int8-static-smooth": ("static", True),
        "int8-qat": ("dynamic", False),
    }
    codes = {arm: each[0].codes for arm, each in layers.items()}
    assert torch.equal(codes["int8"], codes["int8-static"])  # nothing trained between
    assert not torch.equal(codes["int8"], codes["int8-qat"])


def test_the_narrow_word_table_knows_frequent_words_best(runs, settings):
    teacher = made(("teacher",), 0, settings).model.encoder.embeddings.word.weight
    narrow = made(module.CHAINS["word-table"], 0, settings).model.encoder.embeddings
    assert narrow.word.weight.shape == (30_522, 189)  # 189·(30,522 + 384) numbers, half of 30,522·384
    error = (teacher - narrow.map(narrow.word.weight)).norm(dim=1) / teacher.norm(dim=1)
    frequent = [101, 102, 1996, 1012]  # [CLS], [SEP], the, full stop
    assert error[frequent].max() < error.median() / 2


def test_numbers(runs):
    numbers = {arm: each for arm, (each, _) in runs.items()}
    teacher = numbers["teacher"]
    assert teacher["parameters"] == 22_713_986  # the encoder with its pooler, and two labels
    assert numbers["masked"]["bytes"] == teacher["bytes"] == 4 * teacher["parameters"]
    assert numbers["masked"]["sparse_bytes"] < teacher["bytes"]
    assert numbers["words"]["bytes"] < teacher["bytes"] and numbers["words"]["flops"] == teacher["flops"]
    assert numbers["shared-2"]["flops"] == teacher["flops"] and numbers["shared-2"]["bytes"] < teacher["bytes"]
    assert numbers["sandwich"]["bytes"] == numbers["shared-2"]["bytes"]
    assert teacher["bytes"] - numbers["word-table"]["bytes"] == 4 * (30_522 * 384 - 189 * (30_522 + 384))
    assert numbers["word-table"]["flops"] > teacher["flops"]  # the map back to full width
    assert numbers["wanda"]["sparse_bytes"] == numbers["masked"]["sparse_bytes"]
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


def test_the_clock_times_all_models_side_by_side(settings, runs, monkeypatch):
    monkeypatch.setattr(module, "ARMS", ("teacher", "distil", "bag-of-words"))
    numbers, kept = module.run("clock", 0, settings)
    assert kept == {}
    wanted = {f"{arm} ratio{spread}_{batch}" for arm in module.ARMS for spread in ("", "_iqr") for batch in (1, 2)}
    assert set(numbers) == wanted | {"teacher milliseconds_1", "teacher milliseconds_2"}
    assert all(value >= 0 for value in numbers.values()) and numbers["teacher milliseconds_1"] > 0
    assert numbers["teacher ratio_1"] == 1  # an arm over itself
