"""The figures that compare models: what is drawn is what was given."""

import numpy as np
import pytest

from coursekit.viz.comparison import Candidate, differences, one_page

pytestmark = pytest.mark.usefixtures("drawing")


def test_one_page_shows_bytes_time_and_accuracy():
    cards = [Candidate("fp32", 90.9, 1.0, 0.02, 0.81, 0.78, 0.84), Candidate("int8", 23.0, 0.6, 0.1, 0.8, 0.77, 0.83)]
    size, time, quality = one_page(cards, 0.58).axes
    assert [text.get_text().strip() for text in size.texts] == ["90.9", "23.0"]
    assert [text.get_text().strip() for text in time.texts] == ["1.00", "0.60"]
    assert [label.get_text() for label in size.get_yticklabels()] == ["fp32", "int8"]
    spans = [tuple(line.get_xdata()) for line in quality.lines if len(line.get_xdata()) == 2]
    assert (78.0, 84.0) in [tuple(np.round(span, 6)) for span in spans]


def test_differences_tell_clear_ones_apart():
    rows = {
        "clear": {"difference": -0.05, "low": -0.07, "high": -0.03},
        "not": {"difference": 0.01, "low": -0.01, "high": 0.03},
    }
    (axis,) = differences(rows, "x").axes
    points = [line for line in axis.lines if line.get_linestyle() == "None"]
    assert [line.get_marker() for line in points] == ["s", "o"]
    assert points[0].get_xdata()[0] == pytest.approx(-5)
