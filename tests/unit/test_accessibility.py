"""The rules for readers who cannot see a figure or use a screen reader: each finds its fault, and ours have none."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from coursekit.course import accessibility
from coursekit.course.accessibility import accessibility_faults
from coursekit.course.sources import exercise_of, read_source
from coursekit.course.units import FOLDERS, UNITS, course_root

PNG = "iVBORw0KGgo="
ALT = "Two bars, the left one twice as high."
CAPTION = "Half is gone.\n\n<details><summary>The figure in words</summary>Two bars.</details>"
TITLE = new_markdown_cell("# A lesson", id="title")


def figure(alt=ALT, caption=CAPTION, source="show(f)"):
    metadata = {"image/png": {"alt": alt}} if alt is not None else {}
    outputs = [new_output("display_data", {"image/png": PNG}, metadata=metadata)]
    if caption is not None:
        outputs.append(new_output("display_data", {"text/markdown": caption}))
    return new_code_cell(source, id="figure", execution_count=1, outputs=outputs)


def page(html):
    return new_code_cell("t", id="page", execution_count=1, outputs=[new_output("display_data", {"text/html": html})])


def faults(*cells, title=TITLE):
    return accessibility_faults(new_notebook(cells=[*filter(None, [title]), *cells]))


def prose(text, title=TITLE):
    return faults(new_markdown_cell(text, id="prose"), title=title)


def test_a_good_notebook_has_no_faults():
    table = "| | size |\n|---|---|\n| a | 1 |\n\n| method | size |\n|---|---|\n| a | 1 |"
    link = "See [unit 01](01_parameters.ipynb) and ![a tall bar](bar.png)."
    assert prose("## Part\n\n### Detail\n\n## Next") == []
    assert prose(table) == [] and prose("```\n##### code\n[here](x)\n```") == []
    assert prose(link) == []
    assert faults(figure(), page("<table><tr><th>a</th></tr></table>")) == []
    assert faults(figure(source="explore(f, a=(1, 2))")) == []
    assert faults(new_code_cell("explore(f, a=(1, 2))", id="unrun")) == []


@pytest.mark.parametrize(
    ("text", "title", "fault"),
    [
        ("text", None, "no heading"),
        ("## Part", None, "'Part' is a heading of level 2 after level 0"),
        ("# Other", TITLE, "'Other' is a second heading of level 1"),
        ("### Deep", TITLE, "'Deep' is a heading of level 3 after level 1"),
        ("## A\n\n#### B", TITLE, "'B' is a heading of level 4 after level 2"),
        ("## \n\ntext", TITLE, "a heading without text"),
    ],
)
def test_headings(text, title, fault):
    assert any(fault in found for found in prose(text, title))


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (figure(alt=None), "alt text '' does not say"),
        (figure(alt="a plot"), "alt text 'a plot' does not say"),
        (figure(caption=None), "a figure without a sentence under it"),
        (figure(caption="**Bars**"), "a figure without a sentence under it"),
        (figure(caption=ALT), "caption and alt text of a figure are the same"),
        (new_markdown_cell("![](bar.png)", id="m"), "an image without alt text"),
    ],
)
def test_figures(cell, fault):
    (found,) = faults(cell)
    assert fault in found and repr(cell.id) in found


def test_a_widget_without_a_twin():
    ran = new_code_cell("viz.explore(f, a=(1, 2))", id="knob", execution_count=3)
    assert faults(ran) == ["cell 'knob' has a widget without its static twin"]
    ran.outputs = [new_output("display_data", {"text/html": "<b>5</b>"})]
    assert faults(ran) == ["cell 'knob' has a widget without its static twin"]
    ran.outputs = [new_output("display_data", {"text/html": "<table><tr><th>size</th></tr></table>"})]
    assert faults(ran) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("| a | |\n|---|---|\n| 1 | 2 |", "a table with a column without header"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n\n| | |\n|---|---|\n| 1 | 2 |", "a table with a column without header"),
        ("<table><tr><td>1</td></tr></table>", "an HTML table without headers"),
        ("[here](x.ipynb)", "called 'here'"),
        ("[Click here](x.ipynb)", "called 'Click here'"),
        ("[](x.ipynb)", "called ''"),
        ("[![](bar.png)](x.ipynb)", "called ''"),
        ("<https://example.org>", "called 'https://example.org'"),
        ('<a href="x.ipynb"><b>link</b></a>', "called 'link'"),
        ("<details>\n\nthe answer\n\n</details>", "<details> without a <summary>"),
        ("<details><summary></summary>\n\nthe answer\n\n</details>", "<details> without a <summary>"),
    ],
)
def test_tables_links_and_folds(text, fault):
    assert any(fault in found and "'prose'" in found for found in prose(text))


def test_html_of_outputs_is_looked_at_too():
    assert "an HTML table without headers" in faults(page("<table><tr><td>1</td></tr></table>"))[0]
    assert "called 'here'" in faults(page('<a href="x">here</a>'))[0]


def test_every_rule_is_asked(monkeypatch):
    bad = "# Again\n\n[here](x)\n\n<details>a</details>\n\n| a | |\n|---|---|\n| 1 | 2 |"
    cells = [new_markdown_cell(bad, id="bad"), figure(alt=""), new_code_cell("explore(f)", id="k", execution_count=1)]
    found = faults(*cells)
    rules = [name for name in vars(accessibility) if name.endswith("_faults") and name != "accessibility_faults"]
    assert len(rules) == 6
    for rule in rules:
        assert set(getattr(accessibility, rule)(new_notebook(cells=[TITLE, *cells]))) & set(found), rule


BUILT = [(unit, kind) for unit in UNITS for kind in FOLDERS if unit.notebook(kind, course_root()).is_file()]


@pytest.mark.parametrize(("unit", "kind"), BUILT, ids=[f"{kind}-{unit.stem}" for unit, kind in BUILT])
def test_every_notebook_of_the_course(unit, kind):
    assert accessibility_faults(nbformat.read(unit.notebook(kind, course_root()), as_version=4)) == []


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.ready], ids=str)
def test_every_exercise_says_what_it_asks(unit):
    """Difficulty, importance and minutes are in the task's heading; hints and standing in are explained and used."""
    from coursekit.course.tasks import unit_tasks

    exercise = exercise_of(read_source(unit, "solution", course_root()))
    text = "\n".join(cell.source for cell in exercise.cells)
    for task in unit_tasks(unit.number):
        about = f"Difficulty {task.difficulty} of 5, importance {task.importance} of 5, about {task.minutes} minutes."
        assert f"## Task {task.id} · {task.title}\n*{about}*" in text
        assert f'check("{task.id}", ' in text
    assert f'hint("{unit.number}.1")' in text
    assert any("stand_in(" in cell.source for cell in exercise.cells if cell.cell_type == "code")
