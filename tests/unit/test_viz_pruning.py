"""The figures of unit 05: what is drawn is what was given."""

import numpy as np
import pytest
import torch

from coursekit.compress.pruning import magnitude_mask, sparse_bytes
from coursekit.viz.pruning import bytes_per_weight, grid, moved, patterns, schedules, sparsity_card
from coursekit.viz.pruning_results import Cost, Point, accuracy_curves, costs, study_curves

pytestmark = pytest.mark.usefixtures("drawing")


def test_patterns_dot_what_is_gone():
    weight = torch.arange(1.0, 13).view(3, 4)
    masks = {"half": weight > 6, "all": weight > 0}
    first, second = patterns(weight, masks).axes
    assert first.get_title() == "half"
    dots = {tuple(place) for place in first.collections[0].get_offsets().data.tolist()}
    assert dots == {(column, row) for row, column in (~masks["half"]).nonzero().tolist()}
    assert len(second.collections[0].get_offsets()) == 0
    drawn = first.images[0].get_array()
    assert drawn.mask.sum() == 6 and drawn.max() == 12


def test_schedules_are_per_cent():
    (axis,) = schedules({"line": ([0, 10], [0.0, 0.9])}).axes
    assert axis.lines[0].get_ydata().tolist() == [0, 90]


def test_moved_marks_the_cut():
    after = np.linspace(-1, 1, 1001)
    cloud, change = moved(after + 0.1, after, 0.5).axes
    band = cloud.patches[-1].get_extents().transformed(cloud.transData.inverted())
    assert band.y0 == pytest.approx(-0.5, abs=0.01) and band.y1 == pytest.approx(0.5, abs=0.01)
    labels = [text.get_text() for text in change.get_legend().get_texts()]
    assert labels == ["fine-tuned weight", "its movement"]


def test_grid_writes_numbers_and_crosses():
    crossed = np.array([[False, True], [False, False]])
    axis, _ = grid([[0.1, 0.2], [0.3, 0.4]], ["a", "b"], ["x", "y"], label="value", crossed=crossed).axes
    assert [text.get_text() for text in axis.texts] == ["0.10", "×", "0.30", "0.40"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]


def test_bytes_curves_are_those_of_sparse_bytes():
    (axis,) = bytes_per_weight().axes
    curves = {line.get_label(): line.get_ydata() for line in axis.lines}
    mask = magnitude_mask(torch.randn(400, 1000), 0.7)
    for label, index, form in (
        ("dense", 4, "dense"),
        ("CSR, 8-byte index", 8, "csr"),
        ("CSR, 4-byte index", 4, "csr"),
        ("bits and values", 4, "bitmask"),
    ):
        found = getattr(sparse_bytes(mask, index_bytes=index), form) / mask.numel()
        assert curves[label][70] == pytest.approx(found, abs=0.01)  # row starts are not in the curve


def test_card_rings_the_chosen_point():
    weight = torch.randn(6, 6)
    masks = {(name, zeros): magnitude_mask(weight, zeros / 100) for name in ("a", "b") for zeros in (0, 50)}
    accuracy = {"a": {0: 0.8, 50: 0.7}, "b": {0: 0.8, 50: 0.6}}
    cells, quality, size = sparsity_card(weight, masks, accuracy, method="b", zeros=50, majority=0.5).axes
    assert cells.get_title() + cells.get_title(loc="left") == "b, 50 % zeros"
    rings = [line for line in quality.lines if line.get_markersize() == 15]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [(50, 60)]
    assert size.lines[-1].get_xdata() == [50, 50]


def test_accuracy_curves_have_their_ranges():
    (axis,) = accuracy_curves({"m": [Point(0.0, 0.8, 0.7, 0.85), Point(0.5, 0.6, 0.5, 0.7)]}, 0.8, 0.55).axes
    drawn = axis.containers[0]
    assert drawn[0].get_xydata().tolist() == [[0, 80], [50, 60]]
    ends = [segment.tolist() for segment in drawn[2][0].get_segments()]
    assert np.allclose(ends, [[[0, 70], [0, 85]], [[50, 50], [50, 70]]])
    levels = {line.get_label(): line.get_ydata()[0] for line in axis.lines if not line.get_label().startswith("_")}
    assert levels["nothing pruned"] == 80 and levels["always the larger class"] == pytest.approx(55)


def number(mean, low=None, high=None):
    return {"mean": mean, "sd": 0.0, "min": mean if low is None else low, "max": mean if high is None else high}


COSTS = {"bytes": number(90.9e6), "sparse_bytes": number(70.7e6), "flops": number(0.56e9)}
STUDY = {
    "arms": {
        "dense-0": {"sparsity": number(0.0), "one_shot": number(0.81), "test": number(0.79), **COSTS},
        "magnitude-50": {"sparsity": number(0.5), "one_shot": number(0.7), "test": number(0.78, 0.77, 0.79), **COSTS},
        "gradual-50": {"sparsity": number(0.5), "test": number(0.775), **COSTS},
    },
    "baselines": {"majority": {"validation": 0.58, "test": 0.59}},
}
METHODS = {"magnitude": ["magnitude-50"], "gradual": ["gradual-50"]}


def test_study_curves_leave_out_what_was_not_measured():
    figure = study_curves(STUDY, METHODS)
    before, *after = figure.axes
    assert [container.get_label() for container in before.containers] == ["magnitude"]
    for axis in after:
        assert [container.get_label() for container in axis.containers] == ["magnitude", "gradual"]
    assert len({axis.containers[0][0].get_color() for axis in figure.axes}) == 1
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["magnitude", "gradual", "nothing pruned", "always the larger class"]


def test_study_curves_stand_over_shares_bytes_and_operations():
    axes = study_curves(STUDY, METHODS).axes
    points = [axis.containers[0][0].get_xydata()[0].tolist() for axis in axes]
    assert np.allclose(points, [[50, 70], [50, 78], [90.9, 78], [70.7, 78], [0.56, 78]])
    assert [axis.get_xlabel().split()[0] for axis in axes] == ["gone", "gone", "MB", "MB,", "GFLOP"]
    levels = [line.get_ydata()[0] for axis in axes for line in axis.lines if line.get_label() == "nothing pruned"]
    assert levels == [81, 79, 79, 79, 79]  # each panel's own dense model: before the training, and after it
    assert [bool(axis.get_ylabel()) for axis in axes] == [True, False, True, False, False]


def test_costs_show_three_things_per_model():
    rows = {
        "dense": Cost((0.8, 0.78, 0.82), 90.0, 90.0, 1.0, 0.0),
        "zeros": Cost((0.75, 0.7, 0.8), 90.0, 70.0, 1.02, 0.1),
    }
    quality, size, time = costs(rows, 0.59).axes
    assert [label.get_text() for label in quality.get_yticklabels()] == ["dense", "zeros"]
    assert [text.get_text() for text in time.texts] == ["1.00", "1.02"]
    points = [line.get_xdata()[0] for line in size.lines if line.get_linestyle() == "None"]
    assert points == [90, 90, 70, 90]
