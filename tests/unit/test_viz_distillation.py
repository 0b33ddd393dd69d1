"""Figures of unit 07 say what their data say."""

import math

import numpy as np
import pytest

from coursekit.viz import distillation as figures

pytestmark = pytest.mark.usefixtures("drawing")


def test_tempered_by_hand():
    logits = 2 * np.log([4.0, 2.0, 1.0])
    assert figures.tempered(logits, 2.0) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert figures.tempered(logits, 1.0) == pytest.approx([16 / 21, 4 / 21, 1 / 21])
    assert figures.tempered([1e4, 0.0], 1.0) == pytest.approx([1, 0])  # no overflow


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        figures.tempered([1.0, 2.0], temperature)


def test_equally_likely_counts_uniform_answers():
    assert figures.equally_likely([0.25] * 4) == pytest.approx(4)
    assert figures.equally_likely([1.0, 0.0]) == pytest.approx(1)


def test_answers_at_shows_both_temperatures_and_the_rest():
    logits = 2 * np.log([4.0, 2.0, 1.0])
    figure = figures.answers_at(logits, {"one": 0, "two": 1}, 2.0, right="two")
    (axis,) = figure.axes
    cold, hot = ([bar.get_width() for bar in bars] for bars in axis.containers)
    assert cold == pytest.approx([1600 / 21, 400 / 21, 100 / 21]) and hot == pytest.approx([400 / 7, 200 / 7, 100 / 7])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one", "two  (what stood there)", "all others"]


def test_confidence_draws_shares():
    figure = figures.confidence({"sure": [0.99] * 4, "other": [0.51, 0.99]})
    heights = [patch.get_data().values for patch in figure.axes[0].patches]
    assert [values.sum() for values in heights] == pytest.approx([100, 100])
    assert heights[1][0] == 50 and heights[0][-1] == 100


def test_label_curves_draws_means_of_seeds():
    accuracies = {"alone-50": 0.6, "alone-200": 0.7, "soft-200": 0.75, "teacher": 0.8}
    runs = [
        {"arm": arm, "numbers": {"test_accuracy": base + seed / 100}}
        for arm, base in accuracies.items()
        for seed in (0, 2)
    ]
    words = {"bag_of_words": {"50": [0.5, 0.6], "200": [0.6, 0.6]}, "majority": 0.55}
    study = {"runs": runs, "arms": accuracies, "baselines": words}
    kinds = {"alone": "the student", "soft": "the taught student"}
    axis = figures.label_curves(study, ("50", "200"), kinds, {"teacher": "the teacher"}).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    assert lines["the student"] == pytest.approx([61, 71]) and lines["the taught student"] == pytest.approx([76])
    assert lines["the teacher"] == pytest.approx([81, 81]) and lines["bag of words"] == pytest.approx([55, 60])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["50", "200"]


def test_ablation_puts_ours_beside_the_paper():
    published = {"no soft": -2.96, "random": -3.69}
    ours = {name: {"difference": -0.01, "low": -0.02, "high": 0.0} for name in published}
    figure = figures.ablation(published, ours, {"no soft": (-0.03, 0.01), "random": (-0.2, 0.02)})
    first, second, third = figure.axes
    assert [bar.get_width() for bar in first.patches] == list(published.values())
    assert [line.get_xdata()[0] for line in second.lines if line.get_marker() == "o"] == pytest.approx([-1, -1])
    assert [line.get_xdata()[0] for line in third.lines if line.get_marker() == "o"] == pytest.approx([-3, -20])
