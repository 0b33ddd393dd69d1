"""The figures of unit 09: what is drawn is what was given."""

import pytest

from coursekit.viz import tinybert as viz

pytestmark = pytest.mark.usefixtures("drawing")


def test_a_loss_over_the_padding():
    (axis,) = viz.padding_curves([4, 8], {"ours": [1.0, 1.0], "theirs": [1.0, 0.25]}).axes
    assert [line.get_ydata().tolist() for line in axis.lines] == [[1.0, 1.0], [1.0, 0.25]]
    assert axis.get_ylim()[0] == 0


def test_agreement_groups_texts_by_replaced_words():
    (axis,) = viz.agreement_by_changes({"words": ([1, 1, 2, 3, 7], [1, 0, 1, 1, 0])}, most=3).axes
    assert axis.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert axis.lines[0].get_ydata().tolist() == [50, 100, 50]  # 3 and 7 are one group
    ticks = [text.get_text() for text in axis.get_xticklabels()]
    assert ticks == ["1\n2 texts", "2\n1 texts", "3 or more\n2 texts"]


def test_losses_are_relative_to_their_first_value_and_a_term_looks_alike_in_every_stage():
    stages = {
        "general": {"hidden": ([1, 2], [4.0, 2.0]), "attention": ([1, 2], [1.0, 0.5])},
        "inner": {"attention": ([1, 2], [3.0, 0.3])},
    }
    first, second = viz.stage_losses(stages).axes
    assert [line.get_ydata().tolist() for line in first.lines] == [[1.0, 0.5], [1.0, 0.5]]
    assert second.lines[0].get_ydata() == pytest.approx([1.0, 0.1])
    assert second.lines[0].get_color() == first.lines[1].get_color() != first.lines[0].get_color()


def test_an_ablation_stands_beside_the_published_one():
    ours = {
        "no stage": {"difference": -0.03, "low": -0.05, "high": -0.01},
        "own arm": {"difference": 0.01, "low": -0.01, "high": 0.03},
    }
    left, right = viz.ablations(ours, {"no stage": -3.1}).axes
    assert left.lines[0].get_xdata() == pytest.approx([-5, -1]) and left.lines[1].get_xdata() == pytest.approx([-3])
    assert left.lines[1].get_color() != left.lines[3].get_color()  # the second interval holds zero
    assert [bar.get_width() for bar in right.patches] == [-3.1]
    assert [text.get_text() for text in right.texts] == ["-3.1"]
