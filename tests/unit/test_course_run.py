import html
import json
import subprocess
import sys

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

from coursekit.course import execute
from coursekit.course.build import build
from coursekit.course.execute import NotebookFailed, execute_notebook
from coursekit.course.outputs import working_cells
from coursekit.course.run import UnitResult, by_profile, profile, start
from coursekit.course.run import run as run_units

LESSON = """# %% [markdown]
# # A lesson

# %% name="where" tags=["nbval-check-output"]
import os
import sys
from pathlib import Path

from coursekit.course.run import by_profile

print(Path.cwd().name, by_profile(quick="quick", full="full"), Path(os.environ["EXPECTED_PREFIX"]) == Path(sys.prefix))

# %% name="progress"
from tqdm.auto import tqdm

for _ in tqdm(range(3)):
    pass
written = Path(os.environ["COURSEKIT_PROGRESS"]).write_text("of this run only")

# %% name="figure"
import matplotlib.pyplot as plt

from coursekit.viz import explore, show, use_style

use_style()
figure, axis = plt.subplots()
axis.plot([1, 2, 3])
show(figure, alt="A line from 1 to <3>.", caption="It rises.")

# %% name="widget"


def draw(height):
    figure, axis = plt.subplots()
    axis.bar(["a"], [height])
    return figure


explore(draw, alt="One bar of height four.", caption="The bar grows.", static={"height": 4}, height=(1, 9, 1))
"""


def source(root, text, folder="notebooks"):
    path = root / folder / "_src" / "01_parameters.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def notebook(*codes):
    cells = [nbformat.v4.new_code_cell(code, id=f"cell-{n}") for n, code in enumerate(codes)]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The lesson above, built and run for real; a foreign `python3` kernel lies in wait."""
    root = tmp_path_factory.mktemp("course")
    source(root, LESSON)
    kernel = root / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["false"], "display_name": "foreign", "language": "python"}))
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(root / "jupyter"))
        patch.setenv("EXPECTED_PREFIX", sys.prefix)
        patch.setenv("COURSEKIT_PROGRESS", str(root / "learners.json"))
        result = build(execute=True, root=root, progress=lambda *call: calls.append(call))
    return root, result, calls, nbformat.read(root / "notebooks" / "01_parameters.ipynb", as_version=4)


def test_a_lesson_runs_here_in_its_folder_and_the_result_is_clean(built):
    root, result, calls, lesson = built
    assert [path.name for path in result.executed] == ["01_parameters.ipynb"]
    assert calls == [("notebooks/01_parameters.ipynb", done, 5) for done in range(6)]
    assert working_cells(lesson)[0].outputs == [
        {"output_type": "stream", "name": "stdout", "text": "notebooks quick True\n"}
    ]
    assert build(check=True, root=root).problems == []
    assert build(execute=True, root=root).executed == []


def test_progress_bars_and_the_learners_progress_are_left_out(built):
    root, _, _, lesson = built
    assert working_cells(lesson)[1].outputs == []
    assert not (root / "learners.json").exists()
    assert "widgets" not in lesson.metadata


def test_a_figure_is_stored_once_with_alt_text_and_caption(built):
    image, words = working_cells(built[3])[2].outputs
    assert image.metadata["image/png"]["alt"] == "A line from 1 to <3>."
    assert image.metadata["image/png"]["width"] == round(7.2 * 96)
    assert words.data["text/markdown"].startswith("It rises.\n\n<details>")
    assert "A line from 1 to &lt;3&gt;." in words.data["text/markdown"]
    page = nbformat.from_dict({**built[3], "cells": working_cells(built[3])[2:3]})
    classic = HTMLExporter(template_name="classic").from_notebook_node(page)[0]
    assert 'alt="A line from 1 to <3>."' in html.unescape(classic) and "It rises." in classic
    assert "A line from 1 to &lt;3&gt;." in HTMLExporter().from_notebook_node(page)[0]


def test_a_widget_is_stored_as_its_static_twin(built):
    image, words = working_cells(built[3])[3].outputs
    assert image.metadata["image/png"]["alt"] == "One bar of height four."
    assert words.data["text/markdown"].startswith("The bar grows. (Drawn for height = 4.)")


def test_a_failing_cell_is_named_in_one_line(tmp_path):
    source(tmp_path, '# %%\nx = 1\n\n# %% name="bad"\nraise RuntimeError("first line\\nlast line")\n')
    build(root=tmp_path)
    before = (tmp_path / "notebooks" / "01_parameters.ipynb").read_bytes()
    with pytest.raises(NotebookFailed) as caught:
        build(root=tmp_path, execute=True)
    assert str(caught.value) == "notebooks/01_parameters.ipynb, cell 'bad': RuntimeError: last line"
    assert (tmp_path / "notebooks" / "01_parameters.ipynb").read_bytes() == before


def test_a_cell_that_does_not_end_is_stopped(tmp_path):
    with pytest.raises(NotebookFailed, match="endless, cell 'cell-0': not finished after 1 seconds"):
        execute_notebook(notebook("while True: pass"), name="endless", folder=tmp_path, timeout=1)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_lost_kernel_is_an_error_and_an_interrupt_stays_one(tmp_path, monkeypatch, interrupted):
    def dead(client, **_kwargs):
        if interrupted:
            client._async_cleanup_kernel_future = None  # as nbclient does when it is interrupted
        raise DeadKernelError

    monkeypatch.setattr(execute.NotebookClient, "execute", dead)
    with pytest.raises(KeyboardInterrupt if interrupted else NotebookFailed):
        execute_notebook(notebook("x = 1"), name="dead", folder=tmp_path)


# --- running units


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one ready unit, and a run that notes what it is given and answers as `said` tells."""
    source(tmp_path, "# %%\nx = 1\n")
    source(tmp_path, "# %%\ny = 2\n", "solutions")
    build(root=tmp_path)
    seen = []

    def fake(stored, *, name, folder, profile, progress):
        seen.append((name, folder, profile))
        if name in fake.fails:
            raise NotebookFailed(f"{name}, cell 'x': ValueError: no")
        stored.cells.append(fake.check)
        return stored

    fake.fails, fake.check = (), nbformat.v4.new_code_cell("y = 2")
    monkeypatch.setattr(execute, "execute_notebook", fake)
    return tmp_path, fake, seen


def test_run_takes_lesson_and_solution_and_leaves_the_stored_ones_alone(course):
    root, _, seen = course
    before = {path: path.read_bytes() for path in root.rglob("*.ipynb")}
    results = run_units(root=root, profile="full")
    assert [(r.unit, r.kind, r.ok, r.error) for r in results] == [
        ("01", "lesson", True, ""),
        ("01", "solution", True, ""),
    ]
    assert all(r.seconds >= 0 for r in results)
    assert [(name, folder.name, how) for name, folder, how in seen] == [
        ("notebooks/01_parameters.ipynb", "notebooks", "full"),
        ("solutions/01_parameters.ipynb", "solutions", "full"),
    ]
    assert {path: path.read_bytes() for path in root.rglob("*.ipynb")} == before


def test_a_recorded_run_notes_its_time_and_nothing_else(course, monkeypatch):
    root, fake, _ = course
    path = root / "notebooks" / "01_parameters.ipynb"
    before, other = nbformat.read(path, as_version=4), (root / "solutions" / "01_parameters.ipynb").read_bytes()
    fake.fails = ("solutions/01_parameters.ipynb",)
    clock = iter((10.0, 135.4, 200.0, 201.0))
    monkeypatch.setattr("coursekit.course.run.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("os.getloadavg", lambda: (50.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    with pytest.raises(RuntimeError, match="busy"):
        run_units(root=root, record=True)
    monkeypatch.setattr("os.getloadavg", lambda: (5.9, 0.0, 0.0))
    run_units(root=root, record=True)
    after = nbformat.read(path, as_version=4)
    assert after.metadata.coursekit.pop("seconds") == 125 and after.metadata.coursekit.pop("cores") == 4
    before.metadata.setdefault("coursekit", {})
    assert after == before and (root / "solutions" / "01_parameters.ipynb").read_bytes() == other


def test_run_goes_on_after_a_failure_and_reports_it(course):
    root, fake, _ = course
    fake.fails = ("notebooks/01_parameters.ipynb",)
    (root / "solutions" / "01_parameters.ipynb").unlink()
    results = run_units(["parameters"], root=root)
    assert [r.error for r in results] == [
        "notebooks/01_parameters.ipynb, cell 'x': ValueError: no",
        "solutions/01_parameters.ipynb: missing; run `coursekit build`",
    ]
    assert not any(r.ok for r in results)


@pytest.mark.parametrize(("said", "ok"), [("01.1 right", True), ("01.1 wrong: this is not right", False), ("", False)])
def test_a_solution_whose_check_is_not_right_fails(course, said, ok):
    root, fake, _ = course
    outputs = [nbformat.v4.new_output("execute_result", {"text/plain": said})] if said else []
    metadata = {"nbgrader": {"grade": True}}
    fake.check = nbformat.v4.new_code_cell("check()", id="check-01-1", metadata=metadata, outputs=outputs)
    result = run_units(["01"], root=root)[1]
    assert isinstance(result, UnitResult) and result.ok is ok
    assert ok or result.error == f"solutions/01_parameters.ipynb, cell 'check-01-1': {said or 'the check says nothing'}"


def test_run_refuses_unknown_units_profiles_and_unwritten_units(course):
    root = course[0]
    for arguments, message in (
        ({"units": ["paramters"]}, "unknown unit 'paramters'; nearest: 01_parameters"),
        ({"units": ["02"]}, "unit 02_sharing is not written yet; ready: 01_parameters"),
        ({"profile": "fast"}, "unknown profile 'fast'"),
        ({"profile": "full", "record": True}, "times are noted of the quick profile; got 'full'"),
    ):
        with pytest.raises(ValueError, match=message):
            run_units(root=root, **arguments)


# --- profile and start


def test_the_profile_is_quick_unless_said_otherwise(monkeypatch):
    monkeypatch.delenv("COURSEKIT_PROFILE", raising=False)
    assert profile() == "quick" and by_profile(quick=1, full=2) == 1
    monkeypatch.setenv("COURSEKIT_PROFILE", "full")
    assert by_profile(quick=1, full=2) == 2
    monkeypatch.setenv("COURSEKIT_PROFILE", "fulll")
    with pytest.raises(ValueError, match=r"COURSEKIT_PROFILE\) 'fulll'; nearest: full"):
        profile()


def test_start_copies_once_and_keeps_the_learners_work(course):
    root = course[0]
    first = start("01", root=root)
    assert first.path == root / "my-work" / "01_parameters.ipynb" and not first.kept and first.backup is None
    assert first.path.read_bytes() == (root / "exercises" / "01_parameters.ipynb").read_bytes()
    first.path.write_text("my answer")
    again = start(1, root=root)
    assert again.kept and again.path.read_text() == "my answer"


def test_a_fresh_start_keeps_every_earlier_one(course):
    root = course[0]
    for number in range(3):
        started = start("01", root=root)
        started.path.write_text(f"answer {number}")
        fresh = start("01", fresh=True, root=root)
        assert fresh.backup.read_text() == f"answer {number}"
        assert fresh.backup.name.startswith("01_parameters-20")
        assert fresh.path.read_bytes() == (root / "exercises" / "01_parameters.ipynb").read_bytes()
    assert len(list((root / "my-work").iterdir())) == 4


def test_start_needs_a_ready_unit_and_a_folder_it_can_write(course):
    root = course[0]
    with pytest.raises(ValueError, match="unit 04_low_rank has no exercise yet; ready: 01_parameters"):
        start("04", root=root)
    (root / "my-work").write_text("a file in the way")
    with pytest.raises(OSError, match=r"File exists; expected a folder that can be written: '.*my-work'$"):
        start("01", root=root)


def test_profile_is_cheap_to_import():
    """Lessons ask for the profile in every kernel: it must not drag nbclient or torch in."""
    code = "import sys, coursekit.course.run; print([m for m in ('nbclient', 'nbformat', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
