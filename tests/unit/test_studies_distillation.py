"""The studies of distillation: pools, arms, compute, and a quick run of each from end to end."""

import json

import pytest
import torch

from coursekit.course.studies import distillation, few_labels, layers, run_study, tinybert, triple_loss
from coursekit.data import IGNORED, fetch
from coursekit.distill import minilm, soft_and_hard, theseus
from coursekit.models import MaskedLM
from coursekit.train import pretrained_encoder
from coursekit.train.mlm_teacher import MLMTeacher
from coursekit.train.runtime import own_random_numbers

STUDIES = {"distillation": distillation, "triple_loss": triple_loss, "layers": layers, "tinybert": tinybert}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache with the real assets, and a masked language model whose head has learnt nothing."""
    for name in ("minilm", "rotten-tomatoes", "news", "web-bible"):
        monkeypatch.setenv("COURSEKIT_ASSETS", str(fetch(name).parent))
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSEKIT_QUIET", "1")

    def untaught() -> MLMTeacher:
        with own_random_numbers(0, torch.device("cpu")):
            return MLMTeacher(MaskedLM(pretrained_encoder()), few_labels.tokenizer(), {})

    for module in (triple_loss, tinybert):
        monkeypatch.setattr(module, "load_mlm_teacher", untaught)
    caches = (triple_loss._teacher, tinybert._proposers, tinybert._general, tinybert._augmented)
    for remembered in caches:
        remembered.cache_clear()
    yield
    for remembered in caches:
        remembered.cache_clear()


def test_a_pool_hides_all_labels_but_those_it_names():
    settings = few_labels.common(quick=True)
    some, more = (few_labels.pool(labels, 3, settings) for labels in ("50", "1000"))
    assert some.texts == more.texts and len(some.texts) == 24
    for found, count in ((some, 4), (more, 12)):
        known = [row for row, label in enumerate(found.known) if label != IGNORED]
        assert len(known) == len(found.labelled) == count
        assert {found.texts.texts[row] for row in known} == set(found.labelled.texts)
        assert all(found.known[row] == found.texts.labels[row] for row in known)
    assert set(some.labelled.texts) <= set(more.labelled.texts)
    assert few_labels.pool("50", 4, settings).texts != some.texts
    assert all(label != IGNORED for label in few_labels.pool("3000", 3, settings).known)


def test_elsewhere_is_not_in_the_pool():
    settings = few_labels.common(quick=True)
    outside = few_labels.elsewhere(3, settings)
    assert len(outside) == 24 and not set(outside.texts) & set(few_labels.pool("50", 3, settings).texts.texts)
    assert few_labels.elsewhere(4, settings).texts != outside.texts


def test_agreement_by_hand():
    assert few_labels.agreement([1, 0, 1, 1], [1, 1, 1, 0]) == 0.5


@pytest.mark.parametrize("name", STUDIES)
def test_arms_that_are_compared_exist(name):
    module = STUDIES[name]
    compared = {arm for pair in module.COMPARED for arm in pair}
    assert compared <= set(module.ARMS) and len(set(module.ARMS)) == len(module.ARMS)
    json.dumps([module.settings(False), module.settings(True)])


def test_arms_that_choose_are_never_compared():
    assert not {arm for pair in distillation.COMPARED for arm in pair} & set(distillation.TRIES)
    chosen = distillation.settings(False)
    assert (chosen["alpha"], chosen["temperature"]) in distillation.TRIES.values()


def test_cost_of_a_step_by_hand():
    """Student alone 1 + 2; a teacher twice as deep 2; Theseus at r = 0.825: 1.175 forward, as much back, 0.825."""
    assert layers.step_cost(layers.recipe("alone", layers.settings(False)).stages[0]) == 3
    assert layers.step_cost(soft_and_hard(6, 3).stages[0]) == 5
    assert layers.step_cost(minilm(6, 3).stages[0]) == 5
    assert layers.step_cost(theseus(6, 3).stages[0]) == pytest.approx(2 * 1.175 + 0.825, abs=2e-3)


@pytest.mark.parametrize("method", (*layers.METHODS, layers.CONTROL))
def test_every_method_spends_the_same_compute(method):
    plan = layers.recipe(method, layers.settings(False))
    counts = layers.steps(plan, 450)
    spent = sum(counts[stage.name] * layers.step_cost(stage) for stage in plan.stages)
    assert counts.keys() == {stage.name for stage in plan.stages} and spent == pytest.approx(450, abs=5)


def test_what_a_student_is_far_from_is_measured():
    teacher = few_labels.classifier(0).eval()
    texts = few_labels.task(few_labels.common(True)).validation.take(4)
    settings = layers.settings(True) | {"precision": "fp32"}
    student = layers.init_from_teacher(teacher, layers.match_layers("top", 6, 3))
    found = layers.distances(student, teacher, texts, settings)
    assert found.keys() == {f"{what}_distance" for what in ("soft", "skip", "last", "attention", "value")}
    assert all(value > 0 for value in found.values())
    assert any(weight.requires_grad for weight in teacher.parameters())


def test_losses_that_tinybert_drops_are_gone_from_both_stages():
    for dropped in tinybert.WITHOUT.values():
        plan = tinybert.tinybert(6, 3, general=True).without(*dropped)
        for stage in plan.stages[:2]:
            assert {term.name for term in stage.terms} == {"embedding", "hidden", "attention"} - set(dropped)


@pytest.mark.filterwarnings("ignore:the teacher finds the label")  # after one step it is no teacher yet
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_from_end_to_end(cache, name):
    module = STUDIES[name]
    summary = json.loads(run_study(name, quick=True).read_text(encoding="utf-8"))
    assert summary["arms"].keys() == set(module.ARMS) and len(summary["runs"]) == len(module.ARMS)
    for run in summary["runs"]:
        assert 0 <= run["numbers"]["validation_accuracy"] <= 1
        assert run["arm"].startswith("try-") or 0 <= run["numbers"]["test_accuracy"] <= 1
    for pair, found in summary["differences"].items():
        one, other = pair.split(" − ")
        gap = summary["arms"][one]["test_accuracy"]["mean"] - summary["arms"][other]["test_accuracy"]["mean"]
        assert found["test_accuracy"]["difference"] == pytest.approx(gap, abs=1e-4)
    assert 0.3 < summary["baselines"]["majority"] < 0.8
