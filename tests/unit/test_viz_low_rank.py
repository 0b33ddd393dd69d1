"""Figures of unit 04: they draw what they are given."""

import numpy as np
import pytest
import torch

from coursekit.viz import low_rank

pytestmark = pytest.mark.usefixtures("drawing")


def test_direction_sweep_finds_the_smallest_error():
    axis = low_rank.direction_sweep(torch.tensor([[3.0, 0.0], [4.0, 5.0]])).axes[0]
    errors = axis.lines[0].get_ydata()
    assert errors.min() == pytest.approx(5**0.5) and axis.lines[2].get_xdata()[0] == pytest.approx(45)
    assert errors.max() == pytest.approx(45**0.5)


def test_rank_card_counts_and_marks_the_rank():
    lost = {"weight": np.linspace(1, 0, 11), "output": np.linspace(1, 0, 11) ** 2}
    drawn, axis = low_rank.rank_card(20, 10, 4, lost).axes
    assert drawn.get_title(loc="left") == "200 or 120 numbers: 60%"
    assert axis.lines[1].get_xydata().tolist() == [[4, pytest.approx(60)]]
    assert axis.lines[-1].get_xdata()[0] == pytest.approx(200 / 30)
    for rank in (0, 11):
        with pytest.raises(ValueError, match="20×10 matrix lies between 1 and 10"):
            low_rank.rank_card(20, 10, rank, lost)


def test_break_even_times_crosses_at_one():
    axis = low_rank.break_even_times((10, 20), {"8 rows": [(0.6, 0.1), (1.2, 0.1)]}, 20.0).axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[0, 0], [20, 1]]


def test_energy_panels_share_of_squares():
    figure = low_rank.energy_panels({"a": ({"one": [2.0, 1.0, 1.0]}, 1.5), "b": ({"one": [1.0]}, 0.5)}, log=True)
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([400 / 6, 500 / 6, 100])
    assert figure.axes[0].get_xscale() == "log"


def test_layer_maps_write_every_cell():
    figure = low_rank.layer_maps({"plain": [[0.5, 0.25]], "aware": [[0.1, 0.2]]}, ["query", "key"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["50", "25"]
    assert figure.axes[0].images[0].get_clim() == figure.axes[1].images[0].get_clim() == (0, 50)


def test_part_effects_first_on_top():
    axis = low_rank.part_effects({"kind": {"query": 0.1, "up": 0.4}}, "change").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["up", "query"]


def test_trade_offs_share_heights():
    rows = [{"accuracy": 0.7, "low": 0.6, "high": 0.8, "keep": 50, "mb": 60}]
    dense = {"accuracy": 0.8, "keep": 100, "mb": 90}
    figure = low_rank.trade_offs({"svd": rows}, dense=dense, majority=0.6, columns={"keep": "kept", "mb": "MB"})
    assert [axis.get_xlabel() for axis in figure.axes] == ["kept", "MB"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[60, pytest.approx(70)]]


def test_recovery_draws():
    row = {"mean": 0.7, "min": 0.68, "max": 0.71}
    figure = low_rank.recovery([0.5, 0.3], {name: [row, row] for name in "abcd"}, {"dense": 0.8, "larger class": 0.6})
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["dense", "larger class", "a", "b", "c", "d"]
