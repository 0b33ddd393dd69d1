"""The welcome page: every unit on the map, links that lead somewhere, progress and verdict as they are."""

import json
import re
from html import escape, unescape

import nbformat
import pytest

from coursekit.course import lab, welcome
from coursekit.course.accessibility import accessibility_faults
from coursekit.course.doctor import Finding
from coursekit.course.progress import record_check
from coursekit.course.run import start
from coursekit.course.units import FAMILIES, UNITS, course_root
from coursekit.course.welcome import ALTS, machine, verdict, write_welcome

FINE = Finding("disk", True, "9 GB free")
NEWS = Finding("GPU", False, "none <here>", "go on without", needed=False)
WRONG = Finding("widgets", False, "too old", "pip install widgets")


@pytest.fixture(autouse=True)
def quick_verdict(monkeypatch, tmp_path):
    """What doctor finds is not the subject; progress starts empty."""
    monkeypatch.setitem(welcome.__globals__, "examine", lambda training: [FINE, NEWS])
    monkeypatch.setenv("COURSEKIT_PROGRESS", str(tmp_path / "progress.json"))


@pytest.fixture
def checkout(tmp_path):
    """A course of which units 00 and 01 are ready, 02 is a draft that has not been built, and the rest is to come."""
    for unit in UNITS[:3]:
        for kind in ("lesson", "solution"):
            source = unit.source(kind, tmp_path)
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(unit.source(kind, course_root()).read_bytes())
    for unit in UNITS[:2]:
        for kind in ("lesson", "exercise"):
            path = unit.notebook(kind, tmp_path)
            path.parent.mkdir(exist_ok=True)
            nbformat.write(nbformat.v4.new_notebook(), path)
    return tmp_path


def links(html):
    return {unescape(text): target for target, text in re.findall(r'<a href="([^"]*)">([^<]*)</a>', html)}


def test_every_unit_is_on_the_map_once_and_only_open_ones_are_links(checkout):
    html = welcome(root=checkout, here=checkout).html
    the_map = html.partition("The route for your time")[0]
    for unit in UNITS:
        assert the_map.count(f"{unit.number} · ") == 1
        is_draft = f"<summary>{unit.number} · {escape(unit.title)} (in the making)</summary>" in the_map
        assert is_draft == (unit not in UNITS[:2])
    named = {text: target for text, target in links(the_map).items() if "·" in text}
    assert named == {f"{u.number} · {u.title}": f"notebooks/{u.stem}.ipynb" for u in UNITS[:2]}
    for target in links(html).values():
        assert (checkout / target).is_file()


def test_every_family_is_a_picture_that_leads_to_its_first_open_lesson(checkout):
    the_map = welcome(root=checkout, here=checkout).html.partition("The route for your time")[0]
    heads = re.findall(r"<th [^>]*>(.*?)</th>", the_map)
    assert len(heads) == len(FAMILIES) == len(ALTS)
    for head, family in zip(heads, FAMILIES, strict=True):
        assert f'alt="{family}: {ALTS[family]}"' in head and f"<br>{family}" in head
        lesson = '<a href="notebooks/01_parameters.ipynb"><img src="data:image/png;base64,'
        assert head.startswith(lesson) == (family == "low-rank factorization")
        assert ("<a " not in head and "in the making" in head) == (family != "low-rank factorization")


def test_a_unit_to_come_is_marked_and_unfolds_what_it_will_be(checkout):
    html = welcome(root=checkout, here=checkout).html
    unit = UNITS[7]
    needs = f"{unit.summary} {unit.minutes} minutes. Needs 02."
    inside = html.partition(f"<summary>{unit.number} · {unit.title} (in the making)</summary>")[2]
    assert unescape(inside).startswith(f"{needs}</details>")


def test_families_hold_known_units_once():
    numbers = [number for family in FAMILIES.values() for number in family]
    assert len(FAMILIES) == 5 and len(set(numbers)) == len(numbers)
    assert set(numbers) <= {unit.number for unit in UNITS}


def test_links_begin_where_the_notebook_is(checkout):
    for folder, target in (("notebooks", "00_measuring.ipynb"), ("my-work", "../notebooks/00_measuring.ipynb")):
        html = welcome(root=checkout, here=checkout / folder).html
        assert links(html)["00 · Measuring honestly"] == target


def test_routes_say_what_is_not_ready(checkout):
    route = welcome(root=checkout, here=checkout).html.partition("The route for your time")[2]
    for words in ("60 minutes", "half a day", "the whole course", "in the making: 02", "Ready: 00, 01."):
        assert words in route
    assert links(route)["lesson 01"] == "notebooks/01_parameters.ipynb"


def test_progress_and_started_exercises_are_shown(checkout):
    assert "□□□□□□□□ 0 of 8" in welcome(root=checkout, here=checkout).html
    record_check("00.1", "right")
    shown = start("00", root=checkout)
    html = welcome(root=checkout, here=checkout).html
    assert "■□□□□□□□ 1 of 8" in html and links(html)["my exercise"] == "my-work/00_measuring.ipynb"
    assert "1 of 16 tasks are right." in html  # of the two units that are open
    assert "my-work/00_measuring.ipynb</a>: ready" in shown._repr_html_()
    assert "there already, kept" in start("00", root=checkout)._repr_html_()


def test_the_verdict():
    assert verdict([FINE, NEWS]) == "This machine is ready for the course."
    assert verdict([WRONG, FINE]) == "This machine is not ready: 1 thing to do."
    assert verdict([WRONG, WRONG]).endswith("2 things to do.")
    html = machine([FINE, NEWS, WRONG])
    assert "none &lt;here&gt;" in html and "pip install widgets" in html
    before, _, folded = html.partition("<details>")
    assert "to do" in before and "advice" in before and "9 GB free" in folded and "9 GB free" not in before


def test_the_stored_page_needs_no_kernel_and_no_trust(checkout):
    path = write_welcome(checkout)
    assert path == checkout / "welcome.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert accessibility_faults(notebook) == []
    kinds = [set(output.data) for output in notebook.cells[1].outputs]
    assert kinds == [{"text/html", "text/plain"}]
    html = notebook.cells[1].outputs[0].data["text/html"]
    assert not re.search(r"<(script|svg|iframe|style|object)\b|javascript:|\son\w+=", html)  # JupyterLab would drop it
    assert html == welcome(root=checkout, here=checkout).html
    for cell in notebook.cells[1:]:
        compile(cell.source, cell.id, "exec")
    assert json.loads(path.read_text())["nbformat_minor"] == 5


def test_lab_makes_the_page_and_does_without_where_it_cannot(checkout, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("coursekit.data.fetch", lambda: None)
    monkeypatch.setattr("coursekit.train.load_teacher", made.append)
    monkeypatch.setattr(lab, "course_root", lambda: checkout)
    assert lab.lab(prepare=True) == 0 and (checkout / "welcome.ipynb").is_file() and made == ["quick"]

    def refused(root):
        raise PermissionError("read-only")

    monkeypatch.setattr(lab, "write_welcome", refused)
    assert lab.lab(prepare=True) == 0
    assert capsys.readouterr().err == "no welcome page: read-only\n"
