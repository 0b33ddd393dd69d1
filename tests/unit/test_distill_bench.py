"""The distillation suite on a tiny shape: arms, equal losses, bars."""

import pytest
import torch

from coursekit.bench import MismatchError, Setting, run_case
from coursekit.bench import distillation as suite

TINY = {"vocab": 50, "rows": 4, "student": {"num_layers": 2, "hidden_size": 16, "intermediate_size": 24}, "rounds": 2}


def test_all_arms_compute_the_same_loss_and_are_held_to_bar_4():
    result = run_case(suite.step_case(24, 1.4, **TINY), Setting())
    names = [f"{arm}, {precision}" for precision in ("fp32", "bf16")
             for arm in ("naive", "ours", "cached teacher", "student alone")]  # fmt: skip
    assert [arm.name for arm in result.arms] == names
    errors = {arm.name: arm.error for arm in result.arms}
    assert errors["ours, fp32"] < 1e-4 and errors["cached teacher, fp32"] < 1e-3
    assert errors["student alone, fp32"] is None
    assert [bar.number for bar in result.bars] == [4, 4]
    assert [bar.bar for bar in result.bars] == ["≤ 1.4× the time"] * 2


def test_the_naive_loss_is_the_engines():
    from coursekit.distill import fresh_student, tinybert
    from coursekit.models import Encoder, SequenceClassifier, TransformerConfig

    teacher = SequenceClassifier(Encoder(TransformerConfig(50, 24, 6, 8, 48, dropout=0.0)), 2)
    student = fresh_student(teacher, **TINY["student"])
    recipe = tinybert(6, 2).without("prediction")
    pair = suite._pair(student, teacher, recipe, torch.nn.Linear(16, 24))
    batch = suite._texts(50, 4).epoch(0)[0]
    naive, ours = suite.naive_loss(pair, batch), suite.distillation_loss(pair, batch)
    assert naive.mean.item() == pytest.approx(ours.mean.item(), rel=1e-5)


def test_unequal_losses_stop_the_case(monkeypatch):
    naive = suite.naive_loss
    monkeypatch.setattr(suite, "naive_loss", lambda *pair: suite.Loss(1.1 * naive(*pair).mean, 4))
    with pytest.raises(MismatchError, match="the loss, ours"):
        run_case(suite.step_case(24, 1.4, **TINY), Setting())


def test_the_suite_is_of_both_teachers():
    cases = suite.distillation_cases()
    assert [case.name.split()[-1] for case in cases] == ["384", "768"]
    assert [case.bars[0].most for case in cases] == [1.3, 1.4]
