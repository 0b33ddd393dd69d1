"""The command line as its users meet it: statuses, one-line errors, clean JSON."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from coursekit import __version__
from coursekit.cli import app
from coursekit.course.check import CheckResult
from coursekit.course.doctor import Finding
from coursekit.course.progress import read_progress, record_check
from coursekit.course.review import Review, review, started_units
from coursekit.course.run import Started, UnitResult
from coursekit.course.studies import STUDIES
from coursekit.course.tasks import Task

PACKAGE = "coursekit.course"


@pytest.fixture(autouse=True)
def own_progress(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSEKIT_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("COURSEKIT_DEBUG", raising=False)


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """Run the installed command."""
    command = [str(Path(sys.executable).with_name("coursekit")), *words]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120)


def call(*words: str):
    """Run a command in this process: no second import of torch."""
    return CliRunner().invoke(app, list(words))


def replace(monkeypatch, module: str, **functions):
    """Give a module of the course other functions for this test."""
    __import__(f"{PACKAGE}.{module}")
    for name, function in functions.items():
        monkeypatch.setattr(sys.modules[f"{PACKAGE}.{module}"], name, function)


def only_error(result) -> str:
    """The one line of a failure: status 1, nothing on stdout, no traceback."""
    out, error = result.stdout, result.stderr
    status = result.exit_code if hasattr(result, "exit_code") else result.returncode
    assert (status, out) == (1, "")
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


# As subprocesses


def test_help_names_every_command_without_torch():
    result = shell("--help")
    assert result.returncode == 0
    for name in ("doctor", "fetch", "lab", "run", "start", "check", "progress", "params", "bench", "study", "build"):
        assert f"\n  {name} " in result.stdout
    script = "import sys, coursekit.cli; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'nbformat')))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_version():
    result = shell("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"coursekit {__version__}\n", "")


def test_params_json_is_clean():
    result = shell("params", "bert-base", "--json")
    assert result.returncode == 0
    (model,) = json.loads(result.stdout)
    assert model["name"] == "bert-base"
    assert model["total"] == 109_482_240
    assert sum(model["by_component"].values()) == 109_482_240
    assert model["published"] == "110M"
    assert "pooler" in model["counts"]


def test_unknown_preset_is_one_line():
    error = only_error(shell("params", "bert-bse"))
    assert error == "error: unknown preset 'bert-bse'; nearest: bert-base, albert-base, distilbert-base\n"


def test_wrong_usage():
    for words in (("frobnicate",), ("start",), ("params", "--frobnicate"), ("run", "--profile")):
        result = call(*words)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


# In this process


def test_plan_of_machines_that_are_not_here():
    words = ("plan", "bert-base", "--tokens", "1e9", "--tflops", "100", "--devices", "4", "--price", "2")
    result = call(*words, "--json")
    assert result.exit_code == 0
    planned = json.loads(result.stdout)
    assert planned["seconds"] == pytest.approx(1e9 * planned["flops_per_token"] / (4 * 0.9 * 100e12))
    assert planned["cost"] == pytest.approx(planned["seconds"] * 4 / 3600 * 2) and planned["check"] is None
    table = call(*words).stdout
    assert "GB on a device, sharded by FSDP" in table and "throughput: as given" in table
    assert only_error(call("plan", "bert-base", "--tokens", "0")) == "error: tokens must be positive, got 0.0\n"


def test_params_table():
    result = call("params", "bert-base", "albert-base")
    assert result.exit_code == 0
    assert "bert-base: 109,482,240 parameters counted here; 110M published in BERT" in result.stdout
    assert "albert-base: 11,683,584 parameters counted here; 12M published" in result.stdout
    assert any(line.split() == ["pooler", "590,592", "0.5%"] for line in result.stdout.splitlines())


def test_params_of_everything():
    result = call("params", "--all", "--json")
    totals = {model["name"]: model["total"] for model in json.loads(result.stdout)}
    assert totals["distilbert-base"] == 66_362_880
    assert totals["tinybert-4"] == 14_350_248


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("params",), "expected names or --all, got neither"),
        (("params", "bert-base", "--all"), "expected names or --all, got both"),
        (("params", "bert-base", "no-such"), "unknown preset 'no-such'"),
        (("run", "77"), "unknown unit '77'"),
        (("run", "--profile", "slow"), "unknown profile 'slow'"),
        (("start", "parametres"), "unknown unit 'parametres'; nearest: "),
        (("check", "77"), "unknown unit '77'"),
        (("build", "77"), "unknown unit '77'"),
        (("fetch", "minlm"), "unknown asset 'minlm'; nearest: minilm"),
        (("study", "shraing"), "unknown study 'shraing'; nearest: sharing"),
        (("bench", "trainig"), "unknown suite 'trainig'; nearest: training"),
        (("bench", "--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_bad_input_is_one_line(words, part):
    assert part in only_error(call(*words))


def test_errors_are_one_line_whatever_they_are(monkeypatch):
    def failing(error):
        def lab(**_):
            raise error

        return lab

    for error, line in (
        (ValueError("rank 9\n  is too large"), "error: rank 9 is too large\n"),
        (PermissionError(13, "Permission denied", "/x"), "error: [Errno 13] Permission denied: '/x'\n"),
        (ValueError(), "error: unexpected ValueError: (COURSEKIT_DEBUG=1 shows where)\n"),
        (KeyError("x"), "error: unexpected KeyError: 'x' (COURSEKIT_DEBUG=1 shows where)\n"),
    ):
        replace(monkeypatch, "lab", lab=failing(error))
        assert only_error(call("lab")) == line
    monkeypatch.setenv("COURSEKIT_DEBUG", "1")
    assert isinstance(call("lab").exception, KeyError)


def test_ctrl_c(monkeypatch):
    def lab(**_):
        signal.raise_signal(signal.SIGINT)

    replace(monkeypatch, "lab", lab=lab)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without one
    try:
        assert call("lab").exit_code == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_lab_passes_on_the_servers_status(monkeypatch):
    asked = []
    replace(monkeypatch, "lab", lab=lambda *, prepare: asked.append(prepare) or (0 if prepare else 3))
    assert call("lab", "--prepare").exit_code == 0
    assert call("lab").exit_code == 3
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("finding", "status"),
    [
        (Finding("disk", True, "9 GB free"), 0),
        (Finding("disk", False, "0 GB free", "free 1 GB"), 1),
        (Finding("CPU", False, "no bf16", "none", needed=False), 0),
    ],
)
def test_doctor(monkeypatch, finding, status):
    replace(monkeypatch, "doctor", examine=lambda: iter([finding]))
    shown, data = call("doctor"), call("doctor", "--json")
    assert shown.exit_code == data.exit_code == status
    assert shown.stdout == f"{finding}\n"
    assert json.loads(data.stdout)[0]["detail"] == finding.detail


def test_run_fails_if_a_notebook_does(monkeypatch):
    results = [UnitResult("00", "lesson", 12.3, True), UnitResult("00", "solution", 1.0, False, "cell 'x': [red] boom")]

    def run(units, *, profile, record, progress):
        assert not record
        progress("notebooks/00_measuring.ipynb", 0, 7)
        record_check("00.1", "right")
        return results[: 1 if profile == "full" else 2]

    replace(monkeypatch, "run", run=run)
    result = call("run", "00")
    assert result.exit_code == 1
    assert "12 s" in result.stdout and "cell 'x': [red] boom" in result.stdout
    assert result.stderr == "notebooks/00_measuring.ipynb: 7 cells\n"
    result = call("run", "--profile", "full", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [{"unit": "00", "kind": "lesson", "seconds": 12.3, "ok": True, "error": ""}]
    assert read_progress() == {}  # solutions are not the learner's


def test_run_says_how_fast_widgets_answer(monkeypatch):
    def run(units, *, profile, record, progress):
        notes = [("width", "1", 0.05), ("width", "40", 0.07), ("bits", "2", 0.3)]
        lines = [dict(zip(("control", "value", "seconds"), note, strict=True), caption="A table.") for note in notes]
        Path(os.environ["COURSEKIT_WIDGETS"]).write_text("\n".join(map(json.dumps, lines)))
        return [UnitResult("01", "lesson", 12.3, True)]

    replace(monkeypatch, "run", run=run)
    result = call("run", "01", "--widgets")
    assert result.exit_code == 0 and "COURSEKIT_WIDGETS" not in os.environ
    said = [line.split() for line in result.stdout.splitlines()]
    assert ["A", "table.", "width", "70", "ms"] in said and ["A", "table.", "bits", "300", "ms", "slow"] in said
    assert result.stdout.endswith("1 of 2 controls answer within 200 ms\n")
    assert [each["seconds"] for each in json.loads(call("run", "01", "--widgets", "--json").stdout)] == [0.07, 0.3]
    assert "expected --record or --widgets, got both" in only_error(call("run", "01", "--widgets", "--record"))


def test_start(monkeypatch):
    path = Path("my-work/00_measuring.ipynb")
    replace(monkeypatch, "run", start=lambda unit, *, fresh: Started(path, kept=not fresh, backup=None))
    assert call("start", "00").stdout == f"{path}: there already, kept\n"
    assert call("start", "00", "--fresh").stdout == f"{path}: ready\n"


def test_check_fails_unless_all_is_right(monkeypatch):
    right, wrong = CheckResult("00.1", "right"), CheckResult("00.2", "wrong", "too large")
    reviews = {"00": Review("00", (right,), ()), "01": Review("01", (right, wrong), ("cell 'x': NameError: y",))}
    replace(monkeypatch, "review", review=lambda unit, *, progress: reviews[unit], started_units=lambda: [])
    assert call("check", "00").exit_code == 0
    result = call("check", "01")
    assert result.exit_code == 1
    assert result.stdout == "00.1 right\n00.2 wrong: too large\n01 cell 'x': NameError: y\n"
    data = json.loads(call("check", "00", "01", "--json").stdout)
    assert data[1]["results"][1] == {"task": "00.2", "status": "wrong", "message": "too large"}
    assert "coursekit start UNIT" in only_error(call("check"))


def test_progress(monkeypatch):
    replace(monkeypatch, "progress", task_units=lambda: ["00"], unit_tasks=lambda unit: _tasks(2))
    record_check("00.1", "right")
    assert call("progress").stdout.splitlines()[1].split() == "00 Measuring honestly 1 1 2 1 2 0".split()
    assert json.loads(call("progress", "--json").stdout)[0]["right"] == 1


def test_studies_are_listed_and_run(monkeypatch, tmp_path):
    listed = call("study").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == list(STUDIES)
    assert [each["name"] for each in json.loads(call("study", "--json").stdout)] == list(STUDIES)
    summary = tmp_path / "sharing.json"
    summary.write_text('{"arms": {}}', encoding="utf-8")
    asked = []
    replace(monkeypatch, "studies", run_study=lambda name, quick: asked.append((name, quick)) or summary)
    assert call("study", "sharing").stdout.strip() == str(summary)
    assert json.loads(call("study", "sharing", "--quick", "--json").stdout) == {"arms": {}}
    assert asked == [("sharing", False), ("sharing", True)]


def test_bench_prints_ratios_beside_bars_and_writes_files(monkeypatch, tmp_path):
    from coursekit.bench import Arm, Bar, Case, suites

    def cases(full):
        arms = {"theirs": Arm(lambda: sum(range(20_000))), "ours": Arm(int), "compiled": Arm(None, "no compiler")}
        held = [Bar(2, "a step", (name,), "theirs", 1.5) for name in ("ours", "compiled")]
        missed = Bar(3, "another", ("theirs",), "ours", 1e6, reason="it cannot be")
        return [Case("toy", "two sums", lambda setting: arms, (*held, missed), rounds=9)]

    monkeypatch.setattr(suites, "SUITES", {"training": cases})
    result = call(
        "bench", "training", "--rounds", "2", "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")
    )
    assert result.exit_code == 0  # a bar that is not met is a finding, not a failure
    assert result.stderr == "case 1 of 1: toy\n"
    rows = [line.split() for line in result.stdout.splitlines()]
    (arm,) = (row for row in rows if row[:1] == ["theirs"])
    assert "1.00" in arm
    assert any("no compiler" in " ".join(row) for row in rows)
    verdicts = [" ".join(row) for row in rows if row[:1] in (["2"], ["3"])]
    assert [line.split("ours ")[-1] for line in verdicts[:1]] == ["met"]
    assert verdicts[1].endswith("not on this machine: no compiler") and verdicts[2].endswith("not met: it cannot be")
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert data["command"] == "coursekit bench training --rounds 2" and data["cases"][0]["rounds"] == 2
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_bench_without_a_gpu_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "no CUDA device is there" in only_error(call("bench", "training", "--device", "cuda"))


def test_build_check_lists_problems(monkeypatch):
    from coursekit.course.build import BuildResult

    asked = {}

    def build(units, **options):
        asked.update(options)
        return BuildResult(
            written=[Path("a.ipynb")], problems=["a.ipynb: cell 'x' differs"] if options["check"] else []
        )

    replace(monkeypatch, "build", build=build)
    assert call("build").stdout == "written: a.ipynb\n"
    result = call("build", "--check")
    assert result.exit_code == 1 and result.stderr == "error: a.ipynb: cell 'x' differs\n"
    assert call("build", "--execute").exit_code == 0 and asked["execute"]


# Running a learner's notebook


def _tasks(count: int) -> tuple[Task, ...]:
    fields = dict(title="t", minutes=1, difficulty=1, importance=1, points=1, hints=("a", "b", "c"))
    return tuple(Task(id=f"00.{number + 1}", check=print, stand_in=print, **fields) for number in range(count))


def _work(root: Path, *cells: str) -> Path:
    path = root / "my-work" / "00_measuring.ipynb"
    path.parent.mkdir(exist_ok=True)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell, id=f"c{n}") for n, cell in enumerate(cells)]
    )
    nbformat.write(notebook, path)
    return path


def test_review_runs_to_the_end(tmp_path, monkeypatch):
    replace(monkeypatch, "review", unit_tasks=lambda unit: _tasks(3))
    record = "from coursekit.course.progress import record_check\n"
    path = _work(
        tmp_path,
        record + 'record_check("00.1", "right")',
        "1 / 0",
        record + 'record_check("00.2", "wrong", "too large")',
    )
    before = path.read_bytes()
    assert [unit.number for unit in started_units(tmp_path)] == ["00"]
    found = review("00", root=tmp_path)
    assert [repr(result) for result in found.results] == ["00.1 right", "00.2 wrong: too large", "00.3 not attempted"]
    assert found.errors == ("cell 'c1': ZeroDivisionError: division by zero",)
    assert not found.right
    assert {task: entry["status"] for task, entry in read_progress().items()} == {"00.1": "right", "00.2": "wrong"}
    assert path.read_bytes() == before


def test_review_of_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"my-work/00_measuring.ipynb is not there; `coursekit start 00`"):
        review("00", root=tmp_path)
    _work(tmp_path).write_text("not a notebook")
    with pytest.raises(ValueError, match="is not a notebook"):
        review("00", root=tmp_path)
