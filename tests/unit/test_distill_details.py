"""What goes wrong quietly: who teaches a stage, what is clipped, what a cache is keyed by."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from distill_models import FAST, SHAPE, model, narrow, texts, weights
from torch import nn

from coursekit.distill import (
    Distillation,
    Theseus,
    cache_teacher,
    distill,
    distillation_loss,
    init_from_teacher,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.models import Encoder
from coursekit.train import TrainConfig, train

quiet = pytest.mark.filterwarnings("ignore:the teacher finds the label")


@quiet
def test_a_step_without_any_label_is_taught_by_the_teacher_alone():
    teacher = model()
    student, config = narrow(teacher), replace(FAST, steps=2, accumulate=2)
    data = texts(16, labels=[-100] * 16)
    history = distill(student, teacher, soft_and_hard(6, 3), data, config).stages["distil"].history
    assert all(entry["hard"] == 0 and entry["soft"] > 0 for entry in history) and weights(student).isfinite().all()


@quiet
def test_a_stage_is_taught_by_the_model_it_names():
    plan, found = tinybert(6, 3, general=True).without("inner", "prediction"), []
    for seed, other_seed in ((0, 9), (1, 9), (0, 8)):
        teacher, others = model(seed=seed), {"pretrained": model(Encoder, seed=other_seed)}
        result = distill(narrow(teacher), teacher, plan, texts(), FAST, others=others)
        found.append(result.stages["general"].history[0]["loss"])
    assert found[0] == found[1] != found[2]


def test_the_clipped_norm_has_the_projections():
    teacher, batch = model(), texts().epoch(0)[0]
    maps = nn.ModuleDict({"all layers": nn.Linear(16, 24)})
    pair = Distillation(narrow(teacher), teacher, tinybert(6, 3).stages[0].terms, maps)
    distillation_loss(pair, batch).mean.backward()
    whole, student = (
        torch.nn.utils.get_total_norm([w.grad for w in part.parameters() if w.grad is not None]).item()
        for part in (pair, pair.student)
    )
    found = train(pair, [batch], distillation_loss, replace(FAST, steps=1)).history[0]["norm"]
    assert found == pytest.approx(whole, rel=1e-5) and whole > student


@quiet
def test_the_rate_climbs_over_the_steps_of_the_stage(monkeypatch):
    rates, draw = [], Theseus.draw
    monkeypatch.setattr(Theseus, "draw", lambda self: rates.append(self.rate) or draw(self))
    teacher = model()
    student, config = init_from_teacher(teacher, theseus(6, 3).start), TrainConfig(epochs=2, accumulate=2)
    distill(student, teacher, theseus(6, 3), texts(24, batch_size=8), config)
    assert rates == pytest.approx([0.3, 0.3, 0.65, 1, 1, 1])


def test_an_untaught_predecessor_is_warned_of():
    teacher = model()
    with pytest.warns(UserWarning, match="finds the label of"):
        distill(init_from_teacher(teacher, theseus(6, 3).start), teacher, theseus(6, 3), texts(80), FAST)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "answers"


def test_a_teacher_in_training_mode_is_asked_without_dropout(folder):
    teacher, data = model(config=SHAPE.replace(dropout=0.5)).train(), texts()
    awake = cache_teacher(teacher, data, tinybert(6, 3), stored="fp32", folder=folder)
    assert teacher.training
    asleep = cache_teacher(teacher.eval(), data, tinybert(6, 3), stored="fp32", folder=folder.with_name("eval"))
    for name, state in asleep.build([0, 9])["teacher"].items():
        assert torch.equal(awake.build([0, 9])["teacher"][name], state), name


def test_answers_are_memory_mapped(folder):
    cached = cache_teacher(model(), texts(), tinybert(6, 3), folder=folder)
    assert all(isinstance(shelf.flat.base, np.memmap) for shelf in cached.cache.shelves.values())


def test_the_precision_of_the_teacher_belongs_to_the_key(folder, capsys):
    for precision in ("fp32", "bf16"):
        cache_teacher(model(), texts(), tinybert(6, 3), precision=precision, folder=folder)
    assert "has other precision: making it again" in capsys.readouterr().err


def test_a_cache_holds_only_what_its_teacher_is_asked(folder):
    pretrained, recipe = model(Encoder, seed=9), tinybert(6, 3, general=True)
    cached = cache_teacher(pretrained, texts(), recipe, who="pretrained", folder=folder)
    assert "logits" not in cached.cache.about["asked"] and "scores 5" in cached.cache.about["asked"]
