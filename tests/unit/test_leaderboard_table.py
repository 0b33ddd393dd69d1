"""The leaderboard as rows: families, the front, and the table that the command prints."""

import json

import pytest
from typer.testing import CliRunner

from coursekit.cli import app
from coursekit.course.studies import frame
from coursekit.course.studies.leaderboard import ARMS, STUDY
from coursekit.course.studies.leaderboard_table import COLUMNS, FAMILIES, Row, family_of, front, rows_of, table


def row(name, accuracy, size, ratio):
    return Row(name, "baseline", accuracy, 0.01, 2e6, size, 3e8, ratio, ratio, None, 12)


ROWS = [
    row("teacher", 0.8, 90e6, 1.0),
    row("int8", 0.79, 58e6, 0.6),
    row("distil", 0.78, 60e6, 0.5),
    row("bag-of-words", 0.7, 1e6, 0.01),
]


def summary(mean):
    return {"mean": mean, "sd": 0.01, "min": mean, "max": mean}


def summaries(means):
    return {name: summary(value) for name, value in means.items()}


def arm(accuracy, size, **more):
    return summaries({"test_accuracy": accuracy, "parameters": size / 4, "bytes": size, "flops": 5e8} | more)


@pytest.fixture
def study():
    """Two seeds of three models and the clock."""
    times = {"teacher milliseconds_1": 12.0, "teacher milliseconds_32": 120.0}
    for name, ratio in (("bag-of-words", 0.01), ("teacher", 1.0), ("int8", 0.5)):
        times |= {f"{name} ratio_1": ratio, f"{name} ratio_32": ratio / 2}
    return {
        "arms": {
            "bag-of-words": arm(0.71234, 1e6, cpu_seconds=0.4),
            "teacher": arm(0.79, 90.8e6, cpu_seconds=30, peak_bytes=20.4e6),
            "int8": arm(0.801, 58e6, cpu_seconds=41.4, peak_bytes=23e6),
            "clock": summaries(times),
        },
        "runs": [{"arm": "int8", "seed": 0}, {"arm": "int8", "seed": 1}],
        "differences": {
            "int8 − teacher": {
                "test_accuracy": {"low": -0.04, "high": 0.01},
                "validation_accuracy": {"low": -0.02, "high": 0.02},
            }
        },
        "baselines": {"majority": {"validation": 0.6, "test": 0.589}},
        "settings": {"texts": 3200},
    }


def test_every_arm_has_a_family():
    families = {arm: family_of(arm) for arm in ARMS}
    assert set(families.values()) == set(FAMILIES)
    members = {family: [arm for arm in ARMS if families[arm] == family] for family in FAMILIES}
    assert members["teacher"] == ["teacher", "more"]
    assert members["sharing"] == ["shared-2", "sandwich", "shared-all"]
    assert members["low rank"] == ["low-rank", "word-table"]
    assert set(members["pruning"]) == {"words", "masked", "wanda", "movement", "2:4", "heads", "neurons", "layers"}
    codes = {"int8", "int8-static", "int8-static-smooth", "int8-qat", "int8-tables", "int4-tables", "ternary"}
    assert set(members["quantization"]) == codes
    assert all("+" in arm for arm in members["stacked"]) and "distil+prune+int8" in members["stacked"]
    alone = {"alone", "alone-long", "narrow", "sibling-3", "sibling-int8", "probe", "bag-of-words"}
    assert set(members["baseline"]) == alone


def test_rows_of_a_study(study):
    bag, teacher, int8 = rows_of(study)
    assert (int8.parameters, int8.bytes, int8.cpu_seconds, int8.accuracy) == (14.5e6, 58e6, 41.4, 0.801)
    assert (teacher.gap, int8.gap, bag.peak_bytes, int8.peak_bytes) == (None, (-0.04, 0.01), None, 23e6)
    assert rows_of(study, "validation_accuracy")[2].gap == (-0.02, 0.02)


@pytest.mark.parametrize("cost", ["bytes", "ratio_1"])
def test_the_front_by_hand(cost):
    kept = {"bytes": ["bag-of-words", "int8", "teacher"], "ratio_1": ["bag-of-words", "distil", "int8", "teacher"]}
    assert [each.name for each in front(ROWS, cost)] == kept[cost]


def test_twins_do_not_beat_each_other():
    assert len(front([row("a", 0.8, 1e6, 1), row("b", 0.8, 1e6, 1)])) == 2


def test_the_table_is_sorted_and_has_times_and_the_majority(study):
    """The teacher takes 12 ms, so half of it is 6."""
    found = table(study)
    assert all(len(cells) == len(found.columns) == len(COLUMNS) + 3 for cells in found.rows)
    assert [cells[0] for cells in found.rows] == ["int8", "teacher", "bag-of-words", "always the larger class"]
    int8 = dict(zip(found.columns, found.rows[0], strict=True))
    assert int8 == {
        "model": "int8",
        "accuracy": "80.1% ± 1.0%",
        "MB": "58.00",
        "M weights": "14.50",
        "MFLOP": "500",
        "time, 1": "0.50",
        "time, 32": "0.25",
        "peak MB": "23.0",
        "CPU s": "41",
        "ms, 1": "6.00",
        "ms, 32": "30.0",
    }
    bag = dict(zip(found.columns, found.rows[2], strict=True))
    assert bag["peak MB"] == "–" and bag["ms, 1"] == "0.12"
    assert found.rows[3][1] == "58.9%" and set(found.rows[3][2:]) == {"–"}
    assert "2 seeds of 3,200" in found.note and "12.0 and 120 ms" in found.note


@pytest.mark.parametrize("options", [(), ("--stored",)])
def test_the_command_prints_it(study, options, tmp_path, monkeypatch):
    file = tmp_path / "notebooks" / "studies" / "leaderboard.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(study), encoding="utf-8")
    monkeypatch.setattr(frame, "course_root", lambda: tmp_path)
    asked = []
    monkeypatch.setattr("coursekit.course.studies.run_study", lambda name, quick: asked.append(quick) or file)
    result = CliRunner().invoke(app, ["study", "leaderboard", *options])
    assert result.exit_code == 0 and asked == ([] if options else [False])
    first, empty, head, *lines = result.stdout.splitlines()
    assert first == str(file) and empty == ""
    assert head.split()[:2] == ["model", "accuracy"] and head.endswith("ms, 32")
    names = [cells[0] for cells in table(study).rows]
    assert [line.strip().startswith(name) for line, name in zip(lines, names, strict=False)] == [True] * 4
    assert result.stdout.endswith(table(study).note + "\n")
    printed = CliRunner().invoke(app, ["study", "leaderboard", *options, "--json"]).stdout
    assert json.loads(printed) == study


def test_a_quick_study_prints_its_path_alone(tmp_path, monkeypatch):
    file = tmp_path / "leaderboard.json"
    file.write_text("{}", encoding="utf-8")
    monkeypatch.setattr("coursekit.course.studies.run_study", lambda name, quick: file)
    assert CliRunner().invoke(app, ["study", "leaderboard", "--quick"]).stdout == f"{file}\n"


@pytest.mark.parametrize("given", [["--stored"], ["leaderboard", "--stored", "--quick"]])
def test_stored_is_of_one_study(given):
    result = CliRunner().invoke(app, ["study", *given])
    assert result.exit_code == 1 and "needs a NAME, and goes without --quick" in result.stderr


def test_the_study_has_the_table():
    assert STUDY.table is table
