import json
import sys
from types import SimpleNamespace

import nbformat
import pytest

from coursekit.course import build as builder
from coursekit.course import sources
from coursekit.course.build import build
from coursekit.course.execute import NotebookFailed
from coursekit.course.outputs import (
    clean_outputs,
    code_hash,
    comparable,
    keep_outputs,
    output_faults,
    working_cells,
)
from coursekit.course.sources import SourceError
from coursekit.course.units import UNITS, course_root, find_unit

LESSON = """# %% [markdown] name="title"
# # A lesson

# %% name="sum" tags=["nbval-check-output"]
print(2 + 3)

# %%
import sys

sys.stderr.write("progress 100 %")
x = 7

# %% [markdown]
# ## A part
#
# ### A heading is no marker

# %%
x * 6
"""

SOLUTION = '''# %% [markdown]
# # Exercises

# %% task="01.1"
def table(vocabulary: int, hidden: int) -> int:
    """Number of parameters."""
    if vocabulary:
        ### BEGIN SOLUTION
        result = vocabulary * hidden
        return result
        ### END SOLUTION
    return 0

# %% check="01.1"
### BEGIN HIDDEN TESTS
assert table(3, 4) == 12
### END HIDDEN TESTS
check("01.1", table)

# %% [markdown] tags=["solution-only"]
# One row per word.

# %% name="after"
print("done")
'''


def write(root, lesson=LESSON, solution=SOLUTION):
    for folder, text in (("notebooks", lesson), ("solutions", solution)):
        if text is not None:
            path = root / folder / "_src" / "01_parameters.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def _any_task(monkeypatch):
    def find_task(number):
        if number.endswith(".9"):
            raise ValueError(f"unknown task {number!r}; nearest: 01.1")
        return SimpleNamespace(id=number, points=2)

    monkeypatch.setattr(sources, "find_task", find_task)


@pytest.fixture
def no_kernel(monkeypatch):
    """Stands in for a run: every code cell prints its number; counts the runs."""
    runs = []

    def fake(notebook, *, name, folder, timeout, progress):
        notebook = nbformat.from_dict(notebook)
        for number, cell in enumerate(working_cells(notebook)):
            cell.outputs = [
                nbformat.v4.new_output("stream", name="stdout", text=f"{number}\n"),
                nbformat.v4.new_output("stream", name="stderr", text="noise"),
            ]
        runs.append(name)
        return notebook

    monkeypatch.setattr(builder, "execute_notebook", fake)
    return runs


def read(root, folder):
    return nbformat.read(root / folder / "01_parameters.ipynb", as_version=4)


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.ipynb"))}


def edit(root, folder, change):
    path = root / folder / "01_parameters.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


# --- the table of units


def test_units_are_numbered_and_build_on_earlier_ones():
    assert [unit.number for unit in UNITS] == [f"{n:02d}" for n in range(11)]
    for unit in UNITS:
        assert all(needed < unit.number for needed in unit.prerequisites)
        assert 30 <= unit.minutes <= 180


@pytest.mark.parametrize("name", ["01", 1, "1", "01_parameters", "parameters"])
def test_a_unit_has_several_names(name):
    assert find_unit(name).stem == "01_parameters"


@pytest.mark.parametrize(("name", "near"), [("parameter", "01_parameters"), ("11", "unknown unit '11'"), (-1, "-1")])
def test_an_unknown_unit_is_refused_with_its_nearest_names(name, near):
    with pytest.raises(ValueError, match=near):
        find_unit(name)


def test_course_root_is_this_checkout_or_found_from_the_folder(tmp_path, monkeypatch):
    assert (course_root() / "coursekit").is_dir()
    monkeypatch.setattr("coursekit.course.units.__file__", str(tmp_path / "site" / "coursekit" / "course" / "units.py"))
    (tmp_path / "checkout" / "notebooks" / "_src").mkdir(parents=True)
    (tmp_path / "checkout" / "my-work").mkdir()
    monkeypatch.chdir(tmp_path / "checkout" / "my-work")
    assert course_root() == tmp_path / "checkout"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="only the library is installed"):
        course_root()
    assert not find_unit("01").ready


# --- from source to notebooks


def test_three_notebooks_are_made_and_a_second_build_changes_nothing(tmp_path):
    write(tmp_path)
    result = build(root=tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in result.written]
    assert sorted(names) == [f"{kind}/01_parameters.ipynb" for kind in ("exercises", "notebooks", "solutions")]
    before = files(tmp_path)
    assert build(root=tmp_path).written == []
    assert files(tmp_path) == before
    for path in tmp_path.rglob("*.ipynb"):
        path.unlink()
    build(root=tmp_path)
    assert files(tmp_path) == before


def test_cells_have_fixed_ids_and_little_metadata(tmp_path):
    build(root=write(tmp_path))
    lesson, solution = read(tmp_path, "notebooks"), read(tmp_path, "solutions")
    nbformat.validate(lesson)
    assert [cell.id for cell in lesson.cells] == [
        "title",
        "colab",
        "sum",
        "01-lesson-c02",
        "01-lesson-m02",
        "01-lesson-c03",
    ]
    assert [cell.id for cell in solution.cells] == [
        "01-exercise-m01",
        "colab",
        "task-01-1",
        "check-01-1",
        "01-exercise-m02",
        "after",
    ]
    assert set(lesson.metadata) == {"kernelspec", "language_info"}
    skipped = {"slideshow": {"slide_type": "skip"}}
    assert lesson.cells[2].metadata == {"tags": ["nbval-check-output"], **skipped}
    assert lesson.cells[3].metadata == skipped
    assert solution.cells[-1].metadata == {}


def test_the_exercise_lacks_answers_and_hidden_tests(tmp_path):
    build(root=write(tmp_path))
    cells = {cell.id: cell for cell in read(tmp_path, "exercises").cells}
    assert list(cells) == ["01-exercise-m01", "colab", "task-01-1", "check-01-1", "after"]
    assert cells["task-01-1"].source == (
        "def table(vocabulary: int, hidden: int) -> int:\n"
        '    """Number of parameters."""\n'
        "    if vocabulary:\n"
        "        raise NotImplementedError  # your code here\n"
        "    return 0"
    )
    assert cells["check-01-1"].source == 'check("01.1", table)'
    text = (tmp_path / "exercises" / "01_parameters.ipynb").read_text(encoding="utf-8")
    assert "vocabulary * hidden" not in text and "12" not in text and "One row" not in text


def test_tasks_and_checks_carry_nbgrader_metadata_and_checks_are_compared(tmp_path):
    build(root=write(tmp_path))
    cells = {cell.id: cell for cell in read(tmp_path, "solutions").cells}
    common = {"schema_version": 3, "task": False}
    assert cells["task-01-1"].metadata == {
        "nbgrader": {"grade": False, "solution": True, "locked": False, "grade_id": "01_1", **common}
    }
    grade = {"grade": True, "solution": False, "locked": True, "grade_id": "01_1_check", "points": 2}
    assert cells["check-01-1"].metadata == {"nbgrader": grade | common, "tags": ["nbval-check-output"]}
    assert "nbgrader" not in cells["after"].metadata


def test_nbgrader_makes_the_same_exercise_from_the_solution(tmp_path):
    pytest.importorskip("nbgrader")
    from nbgrader.nbgraderformat import MetadataValidator
    from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions

    build(root=write(tmp_path))
    solution, ours = read(tmp_path, "solutions"), read(tmp_path, "exercises")
    MetadataValidator().validate_nb(solution)
    theirs = ClearHiddenTests().preprocess(ClearSolutions().preprocess(solution, {})[0], {})[0]
    theirs = [cell.source for cell in theirs.cells if "solution-only" not in cell.metadata.get("tags", [])]
    stub = "# YOUR CODE HERE\n        raise NotImplementedError()"
    assert [text.replace(stub, sources.STUB).strip() for text in theirs] == [cell.source for cell in ours.cells]


TASK = '# %% task="01.1"\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n'
CHECK = '# %% check="01.1"\ncheck("01.1", f)\n\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TASK.replace("    ### END SOLUTION\n", "") + CHECK, r"cell 'task-01-1', line 3: .* without its END"),
        (TASK.replace("### END SOLUTION", "### END HIDDEN TESTS") + CHECK, "line 5: .*'### END SOLUTION' was expected"),
        (TASK.replace("### END SOLUTION", "### BEGIN SOLUTION") + CHECK, "line 5: '### BEGIN SOLUTION' where"),
        (TASK.replace("### BEGIN", "### START") + CHECK, "line 3: unknown marker '### START SOLUTION'"),
        (TASK.replace(' task="01.1"', ' name="x"') + CHECK, "cell 'x', line 1: a cell has task= exactly when"),
        ('# %% task="01.1"\nx = 1\n\n' + CHECK, "a cell has task= exactly when"),
        (TASK, "task 01.1 has no check cell"),
        (CHECK + TASK, "no task cell before it"),
        (TASK + TASK + CHECK, "a second cell with the id 'task-01-1'"),
        (TASK + TASK.replace('"01.1"', '"01.1" name="again"') + CHECK, "task 01.1 occurs twice"),
        (TASK.replace("01.1", "02.1") + CHECK, "task='02.1', expected 01.1"),
        (TASK.replace('"01.1"', "1.1") + CHECK, "task=1.1, expected 01.1"),
        (TASK.replace("01.1", "01.9") + CHECK.replace("01.1", "01.9"), "unknown task '01.9'; nearest: 01.1"),
        (TASK + CHECK.replace('("01.1"', '("01.2"'), "a check cell ends with check"),
        (TASK + CHECK.strip() + "\nprint(1)\n", "a check cell ends with check"),
        (TASK.replace("def f():\n    ", "if True:\n    ").replace("return", "y =") + CHECK, "inside a function"),
        (TASK.replace("return 1\n", "x = 1\n    if x:\n").replace("    ### END", "        ### END") + CHECK, "compile"),
        (
            '# %% name="a"\n### BEGIN HIDDEN TESTS\nassert 1\n### END HIDDEN TESTS\nx = 1\n',
            "belong to a cell with check=",
        ),
        ('# %% name="a"\nx = 1\n\n# %% name="a"\ny = 1\n', "line 4: a second cell with the id 'a'"),
        ('# %% name="A b"\nx = 1\n', "the name 'A b' is not"),
        ('# %% nam="a"\nx = 1\n', "unknown key 'nam'"),
        ('# %% tags=["nbval-check-outputs"]\nx = 1\n', "unknown tag 'nbval-check-outputs'"),
        ("# %%\nx = 1\n\n# %%\nx = = 2\n", r"cell '01-exercise-c02', line 5: the cell does not compile"),
        ("# %%\nx = 1\n!pip install x\n", "line 3: magics and shell commands are not used: !pip"),
        ("# %%\n%matplotlib inline\n", "line 2: magics"),
        ("# %%\nplt.show()\n", "coursekit.viz.show"),
        ("# %%\nshow(figure, alt='', caption='c')\n", "needs alt= and caption="),
        ("# %%\nshow(figure, caption='c')\n", "needs alt= and caption="),
        ("# %% [markdown]\n# ![](picture.png)\n", "image without alt text"),
        ("# %% [raw]\n# x\n", "expected markdown or code"),
        ("# %%\nx = 1\n\n# %%\n\n# %%\ny = 1\n", "an empty cell"),
        ("x = 1\n\n# %%\ny = 1\n", "begins with a header"),
    ],
)
def test_a_source_that_cannot_be_built_is_refused_and_nothing_written(tmp_path, text, message):
    write(tmp_path, solution=text)
    with pytest.raises(SourceError, match=message) as caught:
        build(root=tmp_path)
    assert str(caught.value).startswith("solutions/_src/01_parameters.py, ") and "\n" not in str(caught.value)
    assert files(tmp_path) == {}


def test_a_lesson_has_no_markers_and_no_tasks(tmp_path):
    for text, message in ((TASK, "unknown key 'task'"), ("# %%\n### BEGIN SOLUTION\n", "none in a lesson")):
        with pytest.raises(SourceError, match=message):
            build(root=write(tmp_path, lesson=text))


def test_comments_that_look_like_magics_stay_comments(tmp_path):
    build(root=write(tmp_path, lesson="# %%\n# %timeit is not used here\nx = 1\n"))
    assert read(tmp_path, "notebooks").cells[0].source == "# %timeit is not used here\nx = 1"


def test_sources_outside_the_table_and_notebooks_without_source_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "notebooks" / "_src" / "01_parameter.py").write_text("# %%\nx = 1\n")
    with pytest.raises(ValueError, match="_src/01_parameter.py: not a unit"):
        build(root=tmp_path)
    (tmp_path / "notebooks" / "_src" / "01_parameter.py").unlink()
    build(root=tmp_path)
    (tmp_path / "exercises" / "02_sharing.ipynb").write_text("{}")
    assert "exercises/02_sharing.ipynb: made by no source" in build(root=tmp_path, check=True).problems


def test_a_unit_without_sources_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="unit 02_sharing is not written yet: expected notebooks/_src/02_sharing.py"):
        build(["02"], root=tmp_path)
    with pytest.raises(ValueError, match="unknown unit"):
        build(["sharring"], root=tmp_path)


# --- outputs


def test_execute_runs_what_has_changed_and_the_check_is_then_clean(tmp_path, no_kernel, monkeypatch):
    monkeypatch.setattr(builder, "busy", lambda: False)
    write(tmp_path)
    assert len(build(root=tmp_path).stale) == 2
    result = build(root=tmp_path, execute=True)
    assert no_kernel == ["notebooks/01_parameters.ipynb", "solutions/01_parameters.ipynb"]
    assert len(result.executed) == 2 and result.stale == []
    lesson = read(tmp_path, "notebooks")
    codes = working_cells(lesson)
    assert [cell.execution_count for cell in codes] == [1, 2, 3]
    assert [[output.text for output in cell.outputs] for cell in codes] == [["0\n"], ["1\n"], ["2\n"]]
    seconds, cores = (lesson.metadata.coursekit.pop(name) for name in ("seconds", "cores"))
    assert seconds >= 0 and cores >= 1 and lesson.metadata.coursekit == {"code": code_hash(lesson)}
    assert build(root=tmp_path, check=True).problems == []
    before = files(tmp_path)
    assert build(root=tmp_path, execute=True).executed == [] and files(tmp_path) == before


def test_a_time_on_a_busy_machine_is_not_noted(tmp_path, no_kernel, monkeypatch):
    monkeypatch.setattr(builder, "busy", lambda: True)
    build(root=write(tmp_path), execute=True)
    assert set(read(tmp_path, "notebooks").metadata.coursekit) == {"code"}


def test_prose_keeps_outputs_and_code_makes_them_stale(tmp_path, no_kernel):
    build(root=write(tmp_path), execute=True)
    write(tmp_path, lesson="# %% [markdown]\n# New first words\n\n" + LESSON.replace("A lesson", "A better lesson"))
    assert build(root=tmp_path).stale == []
    assert [cell.outputs[0].text for cell in working_cells(read(tmp_path, "notebooks"))] == [
        "0\n",
        "1\n",
        "2\n",
    ]
    assert build(root=tmp_path, check=True).problems == []

    write(tmp_path, lesson=LESSON.replace("x = 7", "x = 8"))
    assert [path.parent.name for path in build(root=tmp_path).stale] == ["notebooks"]
    assert [len(cell.outputs) for cell in working_cells(read(tmp_path, "notebooks"))] == [1, 0, 1]
    assert build(root=tmp_path, check=True).problems == [
        "notebooks/01_parameters.ipynb: outputs are of other code; run `coursekit build 01 --execute`"
    ]
    no_kernel.clear()
    build(root=tmp_path, execute=True)
    assert no_kernel == ["notebooks/01_parameters.ipynb"]
    assert build(root=tmp_path, check=True).problems == []


def test_equal_cells_keep_their_outputs_in_order():
    def notebook(*outputs):
        cells = [nbformat.v4.new_code_cell("same", outputs=[nbformat.v4.new_output("stream", text=t)]) for t in outputs]
        return nbformat.v4.new_notebook(cells=cells)

    target = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("same") for _ in range(3)])
    keep_outputs(target, notebook("first", "second"))
    assert [[o.text for o in cell.outputs] for cell in target.cells] == [["first"], ["second"], []]


def _hand_edit(notebook):
    next(cell for cell in notebook.cells if cell.id == "sum").source = "print(5)"


def _with_output(notebook):
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="x")]


def _with_error(notebook):
    notebook.cells[-1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]


def _without_words(notebook):
    data = {"image/png": "iVBORw0KGgo="}
    image = nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": "Two bars, one higher."}})
    notebook.cells[-1].outputs = [image]


def _saved_by_an_editor(notebook):
    notebook.metadata["language_info"]["version"] = "3.11"


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        ("notebooks", _hand_edit, "notebooks/01_parameters.ipynb: cell 'sum' differs from the source; edited by hand"),
        ("notebooks", lambda n: n.cells.pop(), "cell '01-lesson-c03' is missing"),
        (
            "notebooks",
            lambda n: n.cells.append(nbformat.v4.new_markdown_cell("mine", id="mine")),
            "cell 'mine' is not in",
        ),
        ("notebooks", lambda n: n.cells.reverse(), "the cells are in another order"),
        ("notebooks", lambda n: n.cells[2].metadata.tags.clear(), "cell 'sum' has other tags"),
        ("notebooks", _saved_by_an_editor, "not as the builder writes it"),
        ("notebooks", lambda n: n.cells[2].update(execution_count=None), "outputs are of other code"),
        ("notebooks", _without_words, "cell '01-lesson-c03' has a figure without a sentence under it"),
        ("solutions", _with_error, "cell 'after' stores an error: ValueError: no"),
        ("exercises", _with_output, "exercises/01_parameters.ipynb: cell 'after' has outputs; exercises have none"),
    ],
)
def test_the_check_names_notebook_and_cell(tmp_path, no_kernel, folder, change, message):
    build(root=write(tmp_path), execute=True)
    edit(tmp_path, folder, change)
    before = files(tmp_path)
    problems = build(root=tmp_path, check=True).problems
    assert any(message in problem for problem in problems), problems
    assert all(problem.startswith(f"{folder}/01_parameters.ipynb: ") for problem in problems)
    assert files(tmp_path) == before


def test_the_check_names_missing_and_broken_notebooks(tmp_path, no_kernel):
    build(root=write(tmp_path), execute=True)
    (tmp_path / "notebooks" / "01_parameters.ipynb").unlink()
    (tmp_path / "exercises" / "01_parameters.ipynb").write_text("<<<<<<< merge")
    problems = build(root=tmp_path, check=True).problems
    assert [problem.split(";")[0] for problem in problems] == [
        "notebooks/01_parameters.ipynb: missing",
        "exercises/01_parameters.ipynb: not a notebook",
    ]


def test_widgets_are_not_stored_and_results_are_counted():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Slider"}
    result = nbformat.v4.new_output("execute_result", {"text/plain": "42"}, execution_count=17)
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", view), result])
    metadata = {**sources.METADATA, "widgets": {"state": {}}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("words"), cell], metadata=metadata)
    clean_outputs(notebook)
    assert len(cell.outputs) == 1 and cell.outputs[0].execution_count == 1
    assert set(notebook.metadata) == {"kernelspec", "language_info", "coursekit"}


def test_only_text_counts_as_compared():
    new = nbformat.v4.new_output
    assert comparable(new("stream", text="5\n")) and not comparable(new("stream", text=" \n"))
    assert comparable(new("execute_result", {"text/plain": "5"}, execution_count=1))
    assert not comparable(new("display_data", {"image/png": "aGk=", "text/plain": "<Image>"}))


def test_outputs_with_machine_paths_or_images_without_alt_are_named(tmp_path, monkeypatch):
    home = tmp_path / "home" / "ada"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))

    def faults(kind, **content):
        cell = nbformat.v4.new_code_cell("x", id="here", outputs=[nbformat.v4.new_output(kind, **content)])
        return output_faults(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "checkout")

    assert faults("stream", text=f"saved in {home}/cache\n") == [f"cell 'here' prints a path of this machine: {home}"]
    assert faults("display_data", data={"text/html": f"<b>{tmp_path}/checkout</b>"})
    assert faults("stream", text=f"in {sys.prefix}/lib")
    assert faults("stream", text=f"{home}line and /{home.name} are something else") == []
    assert faults("display_data", data={"image/png": "aGk="}) == [
        "cell 'here' stores an image without alt text; use coursekit.viz.show"
    ]
    assert faults("display_data", data={"image/png": "aGk="}, metadata={"image/png": {"alt": "A bar."}}) == []


def test_a_run_that_prints_machine_paths_leaves_the_stored_notebook_alone(tmp_path, monkeypatch, no_kernel):
    build(root=write(tmp_path), execute=True)
    before = files(tmp_path)
    write(tmp_path, lesson=LESSON.replace("x = 7", "x = 8"))
    fake = builder.execute_notebook

    def leaking(notebook, **kwargs):
        done = fake(notebook, **kwargs)
        working_cells(done)[0].outputs[0].text = str(tmp_path / "secret")
        return done

    monkeypatch.setattr(builder, "execute_notebook", leaking)
    with pytest.raises(NotebookFailed, match="notebooks/01_parameters.ipynb: cell 'sum' prints a path"):
        build(root=tmp_path, execute=True)
    assert files(tmp_path) == before


def test_notebooks_are_stored_as_readable_json(tmp_path):
    build(root=write(tmp_path, lesson="# %% [markdown]\n# Größe ×\n"))
    text = (tmp_path / "notebooks" / "01_parameters.ipynb").read_text(encoding="utf-8")
    assert "Größe ×" in text and text.endswith("}\n") and json.loads(text)["nbformat_minor"] == 5
