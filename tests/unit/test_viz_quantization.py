"""The figures of unit 06: what is drawn is what was given."""

import numpy as np
import pytest

from coursekit.viz.quantization import (
    bits_and_groups,
    channels,
    codes_on_a_line,
    errors_by_bits,
    packed_bytes,
    straight_through,
)
from coursekit.viz.quantization_results import (
    beside_published,
    layer_errors,
    sensitivity,
    study_arms,
)

pytestmark = pytest.mark.usefixtures("drawing")


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_codes_on_a_line_draws_every_code_and_every_landing():
    upper, lower = codes_on_a_line([-0.9, 0.4, 5.0], {"symmetric": (0.5, 0, -3, 3), "moved": (0.5, -2, -4, 3)}).axes
    assert [label for label in texts(upper) if label] == ["-3", "-2", "-1", "0", "1", "2", "3"]
    marks = upper.collections[0].get_offsets()[:, 0]
    assert list(marks) == pytest.approx(list(0.5 * np.arange(-3, 4)))
    assert list(lower.collections[0].get_offsets()[:, 0]) == pytest.approx(list(0.5 * np.arange(-2, 6)))
    ends = [note.xy[0] for note in upper.texts if hasattr(note, "xy") and not note.get_text()]
    assert ends == pytest.approx([-1.0, 0.5, 1.5])  # the last is clamped


def test_packed_bytes_by_hand():
    (axis,) = packed_bytes([1, -8, 7, -1, 3]).axes
    assert {"byte 0: 129 = 0x81", "byte 1: 247 = 0xF7", "byte 2: 3 = 0x03"} <= set(texts(axis))
    bits = sorted(
        (text.get_position()[0], text.get_text()) for text in axis.texts if text.get_text() in "01" and text.get_text()
    )
    assert "".join(bit for _, bit in bits) == "100000011111011100000011"
    assert len(axis.patches) == 24


def test_three_bits_cross_a_byte():
    (axis,) = packed_bytes([1, -1, -3], bits=3).axes
    assert "byte 0: 121 = 0x79" in texts(axis) and "byte 1: 1 = 0x01" in texts(axis)
    assert "-3" not in texts(axis)  # its bits lie in two bytes


def test_packed_bytes_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="8 does not fit into 4 bits: -8 to 7"):
        packed_bytes([8])


def test_straight_through_draws_its_data():
    left, right = straight_through([0.0, 1.0], [0.0, 0.8], [1.0, 0.0]).axes
    assert left.lines[1].get_ydata() == pytest.approx([0.0, 0.8])
    assert right.lines[1].get_ydata() == pytest.approx([1.0, 0.0])


def test_channels_mark_the_named_one():
    before, after = channels({"before": [1.0, 9.0, 2.0], "after": [1.0, 3.0, 2.0]}, named=(1,)).axes
    assert before.get_ylim() == after.get_ylim()  # the same scale
    assert [text.strip() for text in texts(before)] == ["channel 1"]
    assert before.texts[0].xy == (1, 9.0)


def test_errors_by_bits_in_per_cent():
    (axis,) = errors_by_bits([2, 4], {"nearest": [0.5, 0.1], "gptq": [0.3, 0.05]}, "x").axes
    assert axis.lines[1].get_ydata() == pytest.approx([30, 5])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["2", "4"]


TABLE = {(bits, group): (2.0**-bits, bits + 32 / group) for bits in (2, 3) for group in (16, 64)}


def test_bits_and_groups_marks_the_choice():
    left, right = bits_and_groups(np.linspace(-1, 1, 64), TABLE, 3, 16).axes
    x, y = (values[0] for values in right.lines[-1].get_data())
    assert (x, y) == pytest.approx((5.0, 12.5))
    assert right.get_title() + right.get_title(loc="left") == "5.00 bits, error 12.5%"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["groups of 64", "groups of 16"]
    assert len(left.collections[-1].get_offsets()) == 64


def test_bits_and_groups_refuses_what_was_not_computed():
    with pytest.raises(ValueError, match="bits 8 with groups of 16 was not computed"):
        bits_and_groups(np.ones(64), TABLE, 8, 16)


def test_layer_errors_keep_the_order_and_shorten_the_names():
    errors = {"encoder.layers.0.attention.query": 0.02, "encoder.pooler": 0.01}
    (axis,) = layer_errors({"int8": errors}, "x").axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.query", "pooler"]
    assert axis.lines[0].get_ydata() == pytest.approx([2, 1])


def test_sensitivity_writes_its_numbers():
    axis, _ = sensitivity([[1.0, 2.5], [0.0, 9.0]], ["a", "b"], ["x", "y"], "t").axes
    assert texts(axis) == ["1.0", "2.5", "0.0", "9.0"]


def arm(mean, size):
    numbers = {"mean": mean, "min": mean - 0.01, "max": mean + 0.01, "sd": 0.01}
    return {
        "stored_bytes": {"mean": size, "min": size, "max": size, "sd": 0.0},
        "test_agreement": numbers,
        "test_accuracy": numbers,
    }


def test_study_arms_draws_each_family():
    study = {"arms": {"fp32": arm(0.8, 9e7), "int8": arm(0.79, 5e7), "int4": arm(0.7, 4e7)}}
    study["baselines"] = {"majority_test_accuracy": 0.59}
    left, right = study_arms(study, {"rounded": ["int4", "int8"]}).axes
    line = right.lines[0]
    assert line.get_xdata() == pytest.approx([40, 50]) and line.get_ydata() == pytest.approx([70, 79])
    assert {round(line.get_ydata()[0], 6) for line in right.lines} >= {80.0, 59.0}


def test_beside_published_in_per_cent_of_full():
    (axis,) = beside_published({"Q8BERT": {"RTE": (50.0, 49.0)}}, {"int8": (0.8, 0.8)}).axes
    assert axis.lines[1].get_xdata() == pytest.approx([98]) and axis.lines[2].get_xdata() == pytest.approx([100])
    assert axis.lines[1].get_label() == "Q8BERT (published)" and axis.lines[2].get_label() == "measured here"
