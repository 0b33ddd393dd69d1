"""The figures of unit 01: what is drawn is what was given."""

import numpy as np
import pytest

from coursekit.measure import count_parameters
from coursekit.models import build
from coursekit.viz.embeddings import (
    PARTS,
    REST,
    factorised_table,
    main_parts,
    relative_quality,
    safe_picture,
    spectrum,
    stacked_parts,
    widths_against_quality,
)
from coursekit.viz.style import use_style

pytestmark = pytest.mark.usefixtures("drawing")


def test_main_parts_of_minilm():
    parts = main_parts(count_parameters(build("minilm-l6-h384", device="meta")).by_component)
    assert parts["word table"] == 30_522 * 384
    assert parts["attention"] == 6 * 4 * (384 * 384 + 384)
    assert parts["FFN"] == 6 * (2 * 384 * 1536 + 1536 + 384)
    assert parts["pooler"] == 384 * 384 + 384
    assert parts[REST] == (512 + 2 + 2) * 384 + 6 * 4 * 384
    assert sum(parts.values()) == 22_713_216


def test_main_parts_puts_what_it_does_not_know_into_the_rest():
    parts = main_parts({"embeddings.word": 12, "embeddings.map": 3, "classifier": 2})
    assert parts == {"word table": 12, "attention": 0, "FFN": 0, "pooler": 0, REST: 5}


def test_stacked_parts_add_up():
    models = {"large": {"embeddings.word": 6_000_000, "layers.ffn": 2_000_000}, "small": {"embeddings.word": 1_000_000}}
    left, right = stacked_parts(models).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["small", "large"]  # the first is on top
    ends = [max(bar.get_x() + bar.get_width() for bar in axis.patches) for axis in (left, right)]
    assert ends == pytest.approx([8, 100])
    assert len(left.patches) == len(models) * (len(PARTS) + 1)
    assert {text.get_text() for text in right.texts} == {"75 %", "100 %"}


def test_factorised_table_is_to_scale():
    drawn, axis = factorised_table(100, 10, 5).axes
    areas = [patch.get_width() * patch.get_height() for patch in drawn.patches]
    assert areas == pytest.approx([1000, 500, 50])
    assert drawn.get_title(loc="left") + drawn.get_title() == "1,000 or 550 numbers"
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend[1:] == ["break-even: E = 9.09", "E = 5: V·E + E·H = 550 (55%)"]


@pytest.mark.parametrize("sizes", ((10, 2, 40), (500, 2, 40), (500, 40, 1), (10, 40, 40), (1, 1, 1)))
def test_factorised_table_at_the_ends_of_its_sliders(sizes):
    """Nothing is drawn outside of its axes, no label is cut off or covers another."""
    use_style()
    figure = factorised_table(*sizes)
    figure.canvas.draw()
    drawn = figure.axes[0]
    low, high = drawn.get_ylim()
    assert all(low <= patch.get_y() and patch.get_y() + patch.get_height() <= high for patch in drawn.patches)
    boxes = [text.get_window_extent() for text in drawn.texts]
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, drawn.texts[number].get_text()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, drawn.texts[number].get_text()
        assert not any(box.overlaps(other) for other in boxes[:number]), drawn.texts[number].get_text()


def test_factorised_table_refuses_no_words():
    with pytest.raises(ValueError, match="V"):
        factorised_table(0, 10, 5)


def test_safe_adds_up_to_the_papers_formula():
    (axis,) = safe_picture(100, 10, 5).axes
    assert axis.get_title(loc="left") + axis.get_title() == "SAFE: 500 + 100 + 25 + 50 = 675 weights"
    words = [text.get_text() for text in axis.texts]
    assert [text for text in words if text.isdigit()] == ["5", "5", "5", "10"]  # what is carried from part to part
    assert [text.splitlines()[-1] for text in words if "weights" in text] == [
        "500 weights",
        "100 weights",
        "25 weights",
        "50 weights",
    ]


def test_safe_matrices_but_the_table_are_to_scale():
    (axis,) = safe_picture(1000, 12, 4).axes
    sizes = [(patch.get_width(), patch.get_height()) for patch in axis.patches if hasattr(patch, "get_width")]
    assert sizes[1:] == [(1, 1)] * 5 + [(3, 1)]  # Q, K, V, O and the first matrix are 4×4, the last one 4×12


def test_spectrum_keeps_everything_at_full_width():
    values, energy = spectrum([3.0, 1.0, 0.0], [2.0, 2.0, 2.0], break_even=2.5).axes
    real, flat = (line.get_ydata() for line in energy.lines[:2])
    assert real == pytest.approx([90, 100, 100])
    assert flat == pytest.approx([100 / 3, 200 / 3, 100])
    assert values.lines[0].get_ydata() == pytest.approx([3, 1, 0])


def test_widths_against_quality_shows_every_interval():
    rows = {"plain": [(0.9, 0.8, 1.0), (0.5, 0.4, 0.7)], "by use": [(0.9, 0.9, 0.9), (0.8, 0.7, 0.85)]}
    figure = widths_against_quality((64, 32), rows, rows, break_even=60, majority=0.6)
    left, right = figure.axes
    assert len(left.containers) == len(right.containers) == 2
    (line, _, (bars,)) = right.containers[0]
    assert line.get_ydata() == pytest.approx([90, 50])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert ends == pytest.approx(np.array([[80, 100], [40, 70]]))


def test_relative_quality_is_relative_to_the_widest():
    (axis,) = relative_quality({"cut": ((1.0, 0.5), (0.8, 0.6)), "narrow": ((0.25, 1.0), (79.0, 79.0))}).axes
    cut, narrow = axis.lines
    assert cut.get_xdata() == pytest.approx([50, 100]) and cut.get_ydata() == pytest.approx([75, 100])
    assert narrow.get_ydata() == pytest.approx([100, 100])
