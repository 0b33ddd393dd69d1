"""Moving a slider draws what was computed before: no lesson computes in the function that a widget calls."""

import ast

import pytest

from coursekit.course.sources import read_source
from coursekit.course.units import UNITS, course_root

CHEAP = {
    "Generator",
    "detach",
    "dict",
    "manual_seed",
    "mask_tokens",
    "match_layers",
    "partial",
    "path",
    "rank_for_budget",
    "tokens",
}
CHEAP |= {"tolist", "whole_word_mask", "zip"}
"""What a widget's function may call besides functions that draw. A name that computes anything large is not one."""

WITH_A_KNOB = ("01", "02", "04", "05", "06", "07", "08")
"""Width, sharing plan, rank, sparsity, bits, temperature, layer map: units where turning one teaches."""
LESSONS = [unit for unit in UNITS if unit.source("lesson", course_root()).is_file()]


def explored(tree):
    """The first argument of every `explore(...)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "explore")
    return [call.args[0] for call in calls]


def called(node):
    """Names of everything that is called below the node; of methods the last part."""
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return {call.id if isinstance(call, ast.Name) else ast.unparse(call).rpartition(".")[2] for call in calls}


def computes(tree):
    """What the widgets of a lesson call that neither draws nor is known to be cheap."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    drawing = {name.name for node in imports if node.module.startswith("coursekit.viz") for name in node.names}
    found = set()
    for function in explored(tree):
        if isinstance(function, ast.Name):
            function = functions.get(function.id, function)
        found |= called(function)
    return sorted(found - drawing - CHEAP)


@pytest.mark.parametrize("unit", LESSONS, ids=[unit.stem for unit in LESSONS])
def test_widgets_only_draw(unit):
    code = [cell.source for cell in read_source(unit, "lesson", course_root()).cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(code))
    assert explored(tree) or unit.number not in WITH_A_KNOB
    assert computes(tree) == [], "computed anew at every step: compute it in a cell, or, if cheap, add it to CHEAP"


def test_a_widget_that_computes_is_found():
    lesson = """
from coursekit.viz.low_rank import rank_card
def card(rank):
    return rank_card(torch.linalg.svd(weight)[:rank])
explore(card, rank=(1, 9, 1))
explore(lambda bits: rank_card(quantize(weight, bits)), bits=(2, 8, 1))
"""
    assert computes(ast.parse(lesson)) == ["quantize", "svd"]
