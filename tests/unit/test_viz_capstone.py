"""The figures of unit 10: what is drawn is what was given."""

import re

import pytest

from coursekit.course.studies.leaderboard_table import COLUMNS, Row
from coursekit.viz import capstone

pytestmark = pytest.mark.usefixtures("drawing")


def row(name, accuracy=0.8, size=10e6, ratio=1.0, peak=1e6, family="baseline"):
    return Row(name, family, accuracy, 0.01, 2e6, size, 3e8, ratio, ratio, peak, 12)


ROWS = [
    row("teacher", 0.8, 90e6, family="teacher"),
    row("int8", 0.79, 58e6, 0.6, family="quantization"),
    row("distil", 0.78, 60e6, 0.5, family="distillation"),
    row("bag-of-words", 0.7, 1e6, 0.01, peak=None),
]


def lines(table):
    """The table's head and rows, as lists of words."""
    rows = re.findall(r"<tr>(.*?)</tr>", table.data, re.DOTALL)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


@pytest.mark.parametrize("order", COLUMNS)
def test_the_table_is_sorted_by_its_column(order):
    table = capstone.leaderboard(ROWS, order)
    head, *rows = lines(table)
    assert head == ["model", *(name for name, _, _ in COLUMNS.values()), "GPU"]
    assert {len(row) for row in rows} == {len(head)}
    first = [row[0] for row in rows]
    expected = {"accuracy": "teacher", "bytes": "bag-of-words", "ratio_1": "bag-of-words", "ratio_32": "bag-of-words"}
    assert first[0] == expected.get(order, first[0])
    assert set(first) == {each.name for each in ROWS}
    if order == "peak_bytes":
        assert first[-1] == "bag-of-words"  # what was not seen stands last
    assert {row[-1] for row in rows} == {"not&nbsp;yet"}  # the graphics card
    [(direction, name)] = re.findall(r'aria-sort="(\w+)">([^<]+)<', table.data)
    assert name == COLUMNS[order][0] and direction == ("descending" if order == "accuracy" else "ascending")


def test_a_family_stands_beside_the_teacher():
    _, *rows = lines(capstone.leaderboard(ROWS, family="quantization"))
    assert {row[0] for row in rows} == {"teacher", "int8"}


def test_the_picture_names_the_front_and_draws_the_budget():
    axis = capstone.pareto(ROWS, "bytes", 16.0).axes[0]
    assert [text.get_text() for text in axis.texts] == ["bag-of-words", "int8", "teacher"]
    assert any(list(line.get_xdata()) == [16.0, 16.0] for line in axis.lines)
    assert axis.get_xscale() == "log"


def test_names_of_neighbours_do_not_overlap():
    close = [row(name, 0.8 + 0.001 * place, 50e6 + 1e4 * place) for place, name in enumerate("abc")]
    axis = capstone.pareto([*close, row("far", 0.6, 1e6)]).axes[0]
    assert [(text.get_text(), text.get_position()[1]) for text in axis.texts] == [
        ("far", 5),
        ("a", 5),
        ("b", 16),
        ("c", 27),
    ]


def test_bad_input():
    with pytest.raises(ValueError, match=r"unknown column 'byte'.*bytes"):
        capstone.leaderboard(ROWS, "byte")
    with pytest.raises(ValueError, match=r"unknown family 'prunning'.*pruning"):
        capstone.leaderboard(ROWS, family="prunning")
    with pytest.raises(ValueError, match="unknown cost 'flops'"):
        capstone.pareto(ROWS, "flops")
