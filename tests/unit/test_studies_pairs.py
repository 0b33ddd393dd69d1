"""The studies of unit 03: that their arms differ in what they name, and that they run from end to end."""

import json

import numpy as np
import pytest

from coursekit.course.studies import pretraining, run_study, sentence_order
from coursekit.data import SentencePair, assets_folder, fetch
from coursekit.measure import count_parameters
from coursekit.models import build


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    for name in ("news", "minilm"):
        fetch(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSEKIT_ASSETS", str(assets_folder()))
        patch.setenv("COURSEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COURSEKIT_QUIET", "1")
        yield


def test_sentence_order_runs_from_end_to_end():
    summary = json.loads(run_study("sentence_order", quick=True).read_text(encoding="utf-8"))
    assert summary["arms"].keys() == set(sentence_order.ARMS)
    tests = summary["baselines"]["test_pairs"]
    for run in summary["runs"]:
        assert all(0 <= run["numbers"][f"{test} accuracy"] <= 1 for test in sentence_order.TESTS)
        assert run["numbers"]["curve"][-1][0] == run["numbers"]["steps"]
        assert ("masked_lm accuracy" in run["numbers"]) == (run["arm"] == "any-joint")
    for test, features in summary["baselines"]["features"].items():
        assert {len(values) for values in features.values()} == {tests[test]}
        assert set(features["third"]) <= set("012") and set(features["place"]) <= set("0123")
    assert set(summary["baselines"]["features"]["leads-sop"]["place"]) == {"0"}
    right = summary["differences"]["right"]
    for test, arms in right.items():
        for arm, counts in arms.items():
            accuracy = summary["arms"][arm][f"{test} accuracy"]["mean"]
            assert np.mean([*map(int, counts)]) == pytest.approx(accuracy, abs=1e-4)  # one seed
    assert len(summary["differences"]["accuracy"]) == len(sentence_order.COMPARED)


def test_pairs_of_sentence_order():
    settings = sentence_order.settings(True)
    sets = sentence_order.prepared(settings)
    for side in sets.values():
        for kind, pairs in side.items():
            limit = settings["any_words" if kind.startswith("any") else "lead_words"]
            assert all(len(f"{pair.first} {pair.second}".split()) <= limit for pair in pairs)
            torn = [pair for pair in pairs if pair.first_doc != pair.second_doc]
            assert len(torn) == (0 if kind.endswith("sop") else sum(pair.label for pair in pairs))
        leads = {(pair.first, pair.first_doc) for pair in side["leads-nsp"]}
        assert {(pair.first, pair.first_doc) for pair in side["random-nsp"]} <= leads
    documents = {side: {text for pair in sets[side]["any-sop"] for text in (pair.first, pair.second)} for side in sets}
    assert not documents["train"] & documents["test"]


def test_points_back():
    made = [("The mayor spoke.", "He left."), ("“They won,” he said.", "Ali lost."), ("He ate.", "She slept.")]
    assert [sentence_order.points_back(SentencePair(*texts, 0, 0, 0)) for texts in made] == [True, True, False]


def test_arms_of_pretraining_differ_in_what_they_name():
    settings = pretraining.settings(False)
    shapes = {arm: pretraining.model_config(arm, settings, settings["vocab_size"]) for arm in pretraining.ARMS}
    total = {arm: count_parameters(build(shape, device="meta")).total for arm, shape in shapes.items()}
    assert total["bert"] > total["no-sharing"] > total["full-table"] > total["albert"]
    assert shapes["nsp"] == shapes["no-sentence-loss"] == shapes["albert"]
    assert shapes["no-sharing"].replace(sharing=shapes["albert"].sharing) == shapes["albert"]
    assert shapes["full-table"].replace(embedding="factorised", embedding_size=32) == shapes["albert"]


def test_pretraining_runs_from_end_to_end():
    summary = json.loads(run_study("pretraining", quick=True).read_text(encoding="utf-8"))
    assert summary["arms"].keys() == set(pretraining.ARMS)
    for run in summary["runs"]:
        numbers = run["numbers"]
        assert [point[0] for point in numbers["curve"]] == [4, 8]
        assert 5 < numbers["masked_lm loss"] < 12 and 0 <= numbers["masked_lm accuracy"] < 0.5
        assert ("sop accuracy" in numbers) == (run["arm"] != "no-sentence-loss")
    loss = summary["differences"]["bert − albert"]["masked_lm loss"]
    found = {run["arm"]: run["numbers"]["masked_lm loss"] for run in summary["runs"]}
    assert loss["difference"] == pytest.approx(found["bert"] - found["albert"], abs=2e-3)
    assert "sop accuracy" not in summary["differences"]["no-sentence-loss − albert"]
    assert 0 < summary["baselines"]["unigram"]["accuracy"] < 0.2 and summary["baselines"]["unigram"]["loss"] > 5


def test_the_same_seed_gives_the_same_run():
    settings = pretraining.settings(True)
    first, again = (pretraining.run("albert", 1, settings) for _ in range(2))
    assert first[0] | {"seconds": 0} == again[0] | {"seconds": 0} and first[1] == again[1]
