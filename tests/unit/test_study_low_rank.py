"""The arms of the study of unit 04: what each model is, without training it."""

import pytest
import torch

from coursekit.compress.lowrank import LowRankLinear
from coursekit.course.studies import find_study
from coursekit.course.studies import low_rank as module
from coursekit.data import Split, Task, Tokenizer, fetch
from coursekit.measure import count_parameters
from coursekit.models import Encoder, SequenceClassifier, TransformerConfig
from coursekit.train import Teacher, TrainResult

TEXTS = ["a fine film", "dull and long", "not bad at all", "a mess", "great fun", "no"] * 4


@pytest.fixture
def teacher(monkeypatch):
    """A small untrained one with the real tokenizer, in the place of the real one."""
    split = Split(TEXTS, [1, 0, 1, 0, 1, 0] * 4, ["film"] * 24)
    config = TransformerConfig(
        30_522, 12, num_layers=6, num_heads=2, intermediate_size=16, max_positions=128, dropout=0.0
    )
    model = SequenceClassifier(Encoder(config), 2).eval()
    task = Task("toy", ["negative", "positive"], split, split, split)
    made = Teacher(model, Tokenizer(fetch("minilm")), task, TrainResult())
    monkeypatch.setattr(module, "_teacher", lambda profile, name: made)
    return made


@pytest.fixture
def settings():
    return module.settings(quick=True) | {"teacher_texts": 16, "precision": "fp32"}


def test_every_arm_is_what_its_name_says(teacher, settings):
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    for arm in module.ARMS:
        model = module.compressed(arm, 0, settings, teacher)
        low = [layer for layer in model.modules() if isinstance(layer, LowRankLinear)]
        assert len(model.encoder.layers) == (3 if arm.startswith("layers") else 6)
        assert bool(low) == arm.startswith(("svd", "aware"))
        if "0.5" in arm:
            assert low[0].rank == 3  # 12·12/24/2
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())


def test_a_run_trains_only_where_it_says_so(teacher, settings, monkeypatch):
    trainings, real = [], module.train
    monkeypatch.setattr(module, "train", lambda *given, **options: trainings.append(1) or real(*given, **options))
    plain, kept = module.run("aware-0.5", 1, settings)
    assert not trainings
    trained, _ = module.run("aware-0.5+train", 1, settings)
    assert len(trainings) == 1
    assert plain["parameters"] == trained["parameters"] < count_parameters(teacher.model).total
    assert set(kept["right"]) <= {0, 1} and len(kept["right"]) == 16
    assert plain["test_accuracy"] == sum(kept["right"]) / 16


def test_comparisons_and_baselines(teacher, settings):
    details = {arm: [{"right": [1, 0, 1, 1]}, {"right": [1, 1, 0, 1]}] for arm in module.ARMS}
    details["dense+train"] = [{"right": [1, 1, 1, 1]}] * 2
    found = module.STUDY.compare(details, settings)
    assert found["dense+train − dense"]["test_accuracy"]["difference"] == pytest.approx(0.25)
    assert len(found) == len(module.COMPARED)
    assert module.baselines(settings) == {"majority_validation": 0.5, "majority_test": 0.5}
    assert find_study("low_rank").arms == module.ARMS
