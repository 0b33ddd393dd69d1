"""The figures of unit 08: what is drawn is what was given."""

from itertools import product

import numpy as np
import pytest

from coursekit.viz import inner_layers as viz

pytestmark = pytest.mark.usefixtures("drawing")


def words(axis):
    return [text.get_text() for text in axis.texts]


def labels(axis):
    return [text.get_text() for text in axis.get_yticklabels()]


def test_distances_are_written_and_each_map_is_marked():
    maps = {"start": [(0, 0), (1, 1)], "skip": [(1, 2)]}
    (axis,) = viz.state_distances([[0.0, 0.5, 1.0], [0.5, 0.0, 0.25]], maps, "distance").axes
    assert words(axis) == ["0.00", "0.50", "1.00", "0.50", "0.00", "0.25"]
    start, skip = axis.lines
    assert start.get_xdata().tolist() == [0, 1] and skip.get_xdata().tolist() == [2]
    assert skip.get_ydata() == pytest.approx([1 - 0.14])
    assert not axis.yaxis_inverted()  # the embeddings are at the bottom


def test_replacing_shows_the_rate_the_share_and_each_module():
    drawn = [[False, True], [True, True], [False, False]]
    curve, raster = viz.replacing([0.3, 0.6, 1.0], drawn).axes
    assert curve.lines[0].get_ydata().tolist() == [0.3, 0.6, 1.0]
    assert curve.lines[1].get_ydata().tolist() == [0.5, 1.0, 0.0]
    pixels = raster.images[0].get_array()
    blue = np.array([0, 0x72, 0xB2]) / 255
    assert pixels.shape == (2, 3, 3)  # modules, steps, colour
    assert (np.abs(pixels - blue).max(-1) < 1e-6).tolist() == [[False, True, False], [True, True, False]]
    assert labels(raster) == ["1", "2"]


def test_mixtures_are_ordered_by_the_modules_that_are_replaced():
    found = {pattern: 0.5 + 0.1 * sum(pattern) for pattern in product((False, True), repeat=2)}
    (axis,) = viz.mixtures({"after": found}, 0.6).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["□□", "■□", "□■", "■■"]
    assert axis.lines[0].get_ydata() == pytest.approx([50, 60, 60, 70])
    assert axis.lines[1].get_ydata() == pytest.approx([60, 60])


def test_relations_share_one_scale_in_a_row():
    rows = {"attention": {"teacher": np.eye(2), "student": np.full((2, 2), 0.5)}}
    figure = viz.relation_maps(rows, ["a", "b"])
    first, second = figure.axes
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 1)
    assert [axis.get_title(loc="center") for axis in figure.axes] == ["teacher", "student"]
    assert labels(first) == ["a", "b"] and labels(second) == ["", ""]


def test_a_table_shades_each_column_by_its_largest():
    (axis,) = viz.distance_table([[1.0, 10.0], [0.5, 20.0]], ["one", "two"], ["x", "y"]).axes
    assert axis.images[0].get_array().tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert words(axis) == ["1", "10", "0.5", "20"]


def test_intervals_in_percent_with_levels():
    (axis,) = viz.intervals({"a": (0.7, 0.6, 0.8), "b": (0.5, 0.4, 0.6)}, {"majority": 0.59}, "accuracy, %").axes
    ends = [line.get_xdata() for line in axis.lines]
    assert ends[0] == pytest.approx([60, 80]) and ends[1] == pytest.approx([70]) and ends[3] == pytest.approx([50])
    assert ends[4] == pytest.approx([59, 59]) and labels(axis) == ["a", "b"]


def test_a_study_shows_every_seed_of_its_arms():
    study = {
        "arms": {arm: {"test_accuracy": {"mean": 0.7, "min": 0.6, "max": 0.8}} for arm in ("x-1", "y-1")},
        "runs": [{"arm": "x-1", "numbers": {"test_accuracy": value}} for value in (0.6, 0.7, 0.8)]
        + [{"arm": "y-1", "numbers": {"test_accuracy": 0.5}}],
    }
    figure = viz.study_panels(study, {"all": {"X": "x-1", "Y": "y-1"}, "one": {"Y": "y-1"}}, {"level": 0.5}, "%")
    first, second = figure.axes
    assert first.lines[2].get_xdata() == pytest.approx([60, 70, 80]) and first.lines[5].get_xdata() == pytest.approx(
        [50]
    )
    assert labels(first) == ["X", "Y"] and labels(second) == ["Y"]


def test_published_scores_are_ordered_and_written():
    (axis,) = viz.published({"Table": {"best": 82.25, "worst": 70.0}}, "score").axes
    assert labels(axis) == ["worst", "best"] and axis.lines[0].get_xdata().tolist() == [70.0, 82.25]
    assert words(axis) == ["70.0", "82.2"]
