import matplotlib
import pytest

from coursekit.measure import Latency, Report
from coursekit.measure.report import ReportRow
from coursekit.models import SharingPlan
from coursekit.viz import PALETTE, sharing
from coursekit.viz import sharing_results as results
from coursekit.viz.style import to_png

pytestmark = pytest.mark.usefixtures("drawing")


def words(axis):
    return [text.get_text() for text in axis.texts]


def colours(axis):
    return {matplotlib.colors.to_hex(patch.get_facecolor()).lower() for patch in axis.patches}


def test_a_plan_is_drawn_with_a_letter_per_block_and_a_colour_per_shared_one():
    plans = {"none": SharingPlan.none(3), "sandwich": SharingPlan.sandwich(4), "all": SharingPlan.all(3)}
    figure = sharing.plan_grids(plans)
    none, sandwich, everything = figure.axes
    assert words(none) == [*"ABC", *"ace", *"ABC", *"bdf"]  # attention, LayerNorm, FFN, LayerNorm; depths upwards
    assert colours(none) == {sharing.PALE}
    assert words(sandwich) == [*"ABBC", *"aceg", *"ABBC", *"bdfh"]
    assert colours(sandwich) == {sharing.PALE, PALETTE[1].lower()}
    assert words(everything) == [*"AAA", *"aaa", *"AAA", *"bbb"]
    assert [axis.get_title(loc="center") for axis in figure.axes] == list(plans)


def test_blocks_after_z_are_numbers():
    (axis,) = sharing.plan_grids({"deep": SharingPlan.none(28)}).axes
    assert words(axis)[25:28] == ["Z", "26", "27"]


def test_a_card_says_what_is_left_of_each_cost():
    figure = sharing.plan_card("all", SharingPlan.all(2), {"MB": (25.0, 100.0), "GFLOP": (22.0, 22.0)})
    assert [bar.get_width() for bar in figure.axes[1].patches] == [0.25, 1.0]
    assert words(figure.axes[1]) == ["25.0 (25%)", "22.0 (100%)"]


def test_a_sandwich_has_funnels_only_where_the_width_changes():
    figure = sharing.sandwich_pictures({"base": (6, 512, 1024), "mid": (6, 768, 768)})
    assert [len(axis.patches) for axis in figure.axes] == [6 + 2, 6]
    assert words(figure.axes[0]) == ["A  512", *["B  1,024"] * 4, "C  512"]


def timed(ratio):
    return Latency(ratio / 10, 0.01, ratio / 11, 1, (ratio / 10,), ratio, 0.04)


def test_costs_are_relative_to_the_first_row():
    rows = (
        ReportRow("none", 400, 1600, 10, 50, timed(1.0)),
        ReportRow("all", 100, 400, 10, 50, timed(0.9)),
    )
    figure = results.costs(Report(rows, "here"))
    assert [words(axis) for axis in figure.axes] == [["0.25"], ["0.25"], ["1.00"], ["1.00"], ["0.90"]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["all"]


def test_time_by_tokens_draws_the_ratio_with_its_spread():
    (axis,) = results.time_by_tokens((1, 8), {"all": [timed(0.5), timed(1.0)]}).axes
    (line, _, (bars,)) = axis.containers[0]
    assert line.get_ydata().tolist() == [0.5, 1.0]
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([0.48, 0.52])


def test_albert_scores_names_every_model_twice():
    rows = {"BERT base": (108, 82.3, 4.7), "ALBERT base": (12, 80.1, 5.6), "ALBERT large": (18, 82.4, 1.7)}
    left, right = results.albert_scores(rows).axes
    assert sorted(words(left)) == sorted(words(right)) == sorted(rows)
    assert [line.get_xdata().tolist() for line in right.lines] == [[4.7], [5.6, 1.7]]


def test_depths_count_steps_from_one_and_applications_from_none():
    left, right = results.depths({"one block": [1.0, 0.5]}, [0.1, 0.7, 0.9], trained=2).axes
    assert left.lines[0].get_xdata().tolist() == [1, 2]
    assert right.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert right.lines[0].get_ydata().tolist() == pytest.approx([10, 70, 90])


def test_conversions_has_a_mark_before_and_after_for_each_row():
    rows = {"sandwich": [(0.7, 0.66, 0.74), (0.78, 0.75, 0.81)], "all": [(0.6, 0.56, 0.64)]}
    figure = results.conversions(rows, (0.81, 0.78, 0.84), 0.586)
    marks = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert [round(float(line.get_xdata()[0])) for line in marks] == [70, 78, 60]
    assert len(figure.legends[0].get_texts()) == 4


def study(arms, seeds=2):
    runs = [
        {
            "arm": arm,
            "seed": seed,
            "numbers": {
                "parameters": size,
                "dev_cross_entropy": 2.0 + seed,
                "test_bleu": 40.0 + seed,
                "curve": [[100, 5.0 + seed], [200, 3.0 + seed]],
            },
        }
        for arm, size in arms.items()
        for seed in range(seeds)
    ]
    spread = 0.7 if seeds > 1 else None
    summary = {
        arm: {
            "parameters": {"mean": size, "sd": None},
            "dev_cross_entropy": {"mean": 2.5, "sd": spread},
            "test_bleu": {"mean": 40.5, "sd": spread},
        }
        for arm, size in arms.items()
    }
    return {"arms": summary, "runs": runs}


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_study_shows_means_and_seeds_whatever_their_number(seeds):
    arms = {"none": 3.3e6, "sandwich": 1.9e6, "none-narrow": 1.91e6}
    found = study(arms, seeds)
    figure = results.size_and_quality(found, list(arms), 47.5, {"none": (61, 27.7), "sandwich": (38, 27.3)})
    loss, score, paper = figure.axes
    dots = [line for line in loss.lines if line.get_markersize() == 4]
    assert [len(line.get_ydata()) for line in dots] == [seeds] * 3
    assert [line.get_ydata().tolist() for line in paper.lines] == [[27.7], [27.3]]
    assert words(score) == ["the source, copied"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_arms_of_nearly_one_size_stand_apart_and_others_where_they_are():
    placed = results._apart({"none": 100.0, "sandwich": 50.0, "narrow": 50.5, "all": 20.0})
    assert placed["none"] == 100.0 and placed["all"] == 20.0
    assert placed["sandwich"] == pytest.approx(48.5) and placed["narrow"] == pytest.approx(52.0)


def test_learning_curves_are_means_with_a_band_over_seeds():
    (axis,) = results.learning_curves(study({"none": 3e6}, seeds=2), ["none"]).axes
    assert axis.lines[0].get_xdata().tolist() == [100, 200]
    assert axis.lines[0].get_ydata().tolist() == [5.5, 3.5]
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (3.0, 6.0)
