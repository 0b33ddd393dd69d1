import numpy as np
import pytest

from coursekit.measure import Latency
from coursekit.viz.measuring import (
    DRAWINGS,
    Card,
    blocks_and_turns,
    calls_in_order,
    families,
    family,
    file_sizes,
    intervals,
    relative,
    what_moved,
    zeros,
)
from coursekit.viz.style import to_png

pytestmark = pytest.mark.usefixtures("drawing")


def card(name="original", parameters=200, size=800, flops=1000, ratio=1.0, accuracy=0.8):
    time = Latency(0.01 * ratio, 0.001, 0.009, 1, (0.01,), ratio, 0.05)
    return Card(name, parameters, size, flops, time, accuracy, accuracy - 0.02, accuracy + 0.02)


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_relative_compares_the_lead_over_the_majority_not_the_accuracy():
    half = card(size=400, ratio=0.9, accuracy=0.7)
    assert relative(half, card(ratio=1.0), majority=0.6) == pytest.approx(
        {"parameters": 1, "bytes stored": 0.5, "FLOPs": 1, "time": 0.9, "accuracy lead": 0.5}
    )


def test_what_moved_has_a_panel_per_number_and_a_row_per_changed_model():
    figure = what_moved([card(), card("zeros", accuracy=0.6), card("half", size=400)], majority=0.6)
    assert [axis.get_title(loc="center") for axis in figure.axes] == list(relative(card(), card(), 0.6))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["zeros", "half"]
    assert texts(figure) == ["1.00"] * 3 + ["0.50"] + ["1.00"] * 4 + ["0.00", "1.00"]


def test_zeros_shades_exactly_the_smallest_and_knows_what_was_measured():
    weights = np.concatenate([np.linspace(0.001, 0.1, 50), np.linspace(-0.3, -0.201, 50)])
    cards = {0.0: card(), 0.5: card(ratio=1.1, accuracy=0.55)}
    figure = zeros(cards, weights, majority=0.6, sparsity=0.5)
    kept, dropped = (shape.get_data().values.sum() for shape in figure.axes[0].patches)
    assert (kept, dropped) == (49, 49)  # one at each end lies outside the range that is drawn
    assert texts(figure) == ["0.50", "1.00", "1.00", "1.10", "-0.25"]
    assert figure.axes[1].get_xlim()[0] < -0.2
    with pytest.raises(ValueError, match=r"sparsity 0\.4 was not measured; measured: 0\.0, 0\.5"):
        zeros(cards, weights, majority=0.6, sparsity=0.4)


def test_the_median_line_leaves_the_first_call_out():
    axis = calls_in_order([1.0, 0.010, 0.012, 0.014]).axes[0]
    levels = {line.get_label(): line.get_ydata()[0] for line in axis.lines}
    assert levels == pytest.approx({"their median": 12, "mean of all calls": 259})


def test_blocks_and_turns_draw_each_name_where_it_was_called():
    turns = [("A", 0.01), ("B", 0.02), ("A", 0.03), ("B", 0.04)]
    left, right = blocks_and_turns(sorted(turns), turns, disturbed=2).axes
    assert [points.get_offsets()[:, 0].tolist() for points in left.collections] == [[1, 2], [3, 4]]
    assert [points.get_offsets()[:, 0].tolist() for points in right.collections] == [[1, 3], [2, 4]]
    assert right.collections[1].get_offsets()[:, 1].tolist() == pytest.approx([20, 40])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: intervals({"bag": (0.7, 0.68, 0.72), "encoder": (0.8, 0.78, 0.82)}, 0.6),
        lambda: file_sizes([0, 0.5, 0.9], {"CSR": [2, 1, 0.2]}),
    ],
)
def test_the_others_can_be_drawn_and_say_what_they_show(draw):
    figure = draw()
    words = texts(figure) + [axis.get_xlabel() + axis.get_title(loc="center") for axis in figure.axes]
    assert any(words) and to_png(figure).startswith(b"\x89PNG")


def test_each_family_has_a_drawing_of_its_own():
    pictures = [to_png(family(name)) for name in DRAWINGS]
    assert len(set(pictures)) == 5 and to_png(family("pruning")) == pictures[2]
    titles = [axis.get_title() for axis in families().axes]
    assert titles == ["Weight sharing", "Low-rank", "Pruning", "Quantization", "Distillation"]
