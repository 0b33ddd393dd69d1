"""Studies: runs kept one by one, summaries, and the arms of `sharing`."""

import json
import statistics

import pytest
from filelock import FileLock

from coursekit.course import studies
from coursekit.course.studies import frame, load_study, run_study
from coursekit.course.studies import sharing as module
from coursekit.course.studies.frame import Study, summarise
from coursekit.data import fetch
from coursekit.measure import count_parameters
from coursekit.models import build


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("kjv-bible", "web-bible"):
        monkeypatch.setenv("COURSEKIT_ASSETS", str(fetch(name).parent))
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSEKIT_QUIET", "1")
    return tmp_path / "cache" / "studies"


class Toy:
    """A study of sums; what it ran is written down, and it can be made to break."""

    def __init__(self):
        self.ran, self.breaks_at = [], None

    def run(self, arm, seed, settings):
        if (arm, seed) == self.breaks_at:
            raise KeyboardInterrupt
        self.ran.append((arm, seed))
        score = {"low": 1, "high": 10}[arm] + seed + settings["offset"]
        return {"score": score, "curve": [[1, score]], "text": "x"}, [score]

    def study(self, offset=0.5):
        return Study(
            name="toy",
            title="A toy",
            minutes=1,
            arms=("low", "high"),
            seeds=(0, 1, 2),
            settings=lambda quick: {"offset": offset, "quick": quick},
            run=self.run,
            baselines=lambda settings: {"nothing": settings["offset"]},
            compare=lambda details, settings: {
                "high − low": statistics.fmean(x[0] for x in details["high"])
                - statistics.fmean(x[0] for x in details["low"])
            },
        )


def test_summary_holds_every_run_and_how_it_was_made(cache, tmp_path, capsys):
    file = frame.run(Toy().study(), False, tmp_path / "out")
    assert file == tmp_path / "out" / "toy.json"
    summary = json.loads(file.read_text(encoding="utf-8"))
    assert summary["command"] == "coursekit study toy" and summary["settings"] == {"offset": 0.5, "quick": False}
    assert summary["arms"]["low"]["score"] == {"mean": 2.5, "sd": 1.0, "min": 1.5, "max": 3.5}
    assert summary["arms"]["high"].keys() == {"score"}  # curves and texts have no mean
    assert summary["baselines"] == {"nothing": 0.5} and summary["differences"] == {"high − low": 9.0}
    assert [(run["arm"], run["seed"]) for run in summary["runs"]] == [
        (arm, seed) for seed in (0, 1, 2) for arm in ("low", "high")
    ]
    assert summary["runs"][1]["numbers"] == {"score": 10.5, "curve": [[1, 10.5]], "text": "x"}
    assert "details" not in summary["runs"][0]
    assert summary["versions"].keys() == {"python", "coursekit", "torch", "tokenizers", "sacrebleu"}
    assert len(summary["machine"]) == 1 and "threads" in summary["machine"][0] or "thread" in summary["machine"][0]
    assert summary["date"].endswith("+00:00")
    assert capsys.readouterr().err.splitlines()[5] == "toy: run 6 of 6, high, seed 2"


def test_an_interrupted_study_goes_on_where_it_stopped(cache, tmp_path):
    toy = Toy()
    toy.breaks_at = ("high", 1)
    with pytest.raises(KeyboardInterrupt):
        frame.run(toy.study(), False, tmp_path)
    assert not (tmp_path / "toy.json").exists()
    assert toy.ran == [("low", 0), ("high", 0), ("low", 1)]
    toy.breaks_at, toy.ran = None, []
    frame.run(toy.study(), False, tmp_path)
    assert toy.ran == [("high", 1), ("low", 2), ("high", 2)]
    whole = json.loads((tmp_path / "toy.json").read_text(encoding="utf-8"))
    assert whole["arms"]["low"]["score"]["mean"] == 2.5 and whole["differences"] == {"high − low": 9.0}
    toy.ran = []
    frame.run(toy.study(), False, tmp_path)
    assert toy.ran == []


def test_other_settings_or_versions_are_another_study(cache, tmp_path, monkeypatch):
    toy = Toy()
    frame.run(toy.study(), False, tmp_path)
    frame.run(toy.study(offset=0.75), False, tmp_path)
    assert len(toy.ran) == 12
    monkeypatch.setattr(frame, "version", lambda package: "99")
    frame.run(toy.study(), False, tmp_path)
    assert len(toy.ran) == 18


def test_quick_is_one_seed_and_stays_in_the_cache(cache):
    toy = Toy()
    file = frame.run(toy.study(), True, None)
    assert toy.ran == [("low", 0), ("high", 0)] and cache in file.parents
    summary = json.loads(file.read_text(encoding="utf-8"))
    assert summary["command"] == "coursekit study toy --quick"
    assert summary["arms"]["low"]["score"] == {"mean": 1.5, "sd": None, "min": 1.5, "max": 1.5}


def test_two_processes_do_not_run_the_same_study(cache, tmp_path):
    frame.run(Toy().study(), False, tmp_path)
    folder = next((cache / "toy").iterdir())
    with FileLock(folder / "lock"), pytest.raises(ValueError, match="another process is running the study 'toy'"):
        frame.run(Toy().study(), False, tmp_path)


def test_summarise_by_hand():
    found = summarise([{"a": 1, "yes": True, "s": "x"}, {"a": 4, "yes": True, "s": "y"}])
    assert found == {"a": {"mean": 2.5, "sd": pytest.approx(4.5**0.5), "min": 1, "max": 4}}


@pytest.mark.parametrize("function", [run_study, load_study])
def test_unknown_names(function):
    with pytest.raises(ValueError, match="unknown study 'shraing'; nearest: sharing"):
        function("shraing")


def test_loading_what_was_never_run_says_how(tmp_path, monkeypatch):
    monkeypatch.setattr(frame, "course_root", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"`coursekit study sharing` makes it in about \d+ minutes"):
        load_study("sharing")
    (tmp_path / "notebooks" / "studies").mkdir(parents=True)
    (tmp_path / "notebooks" / "studies" / "sharing.json").write_text('{"arms": {}}')
    assert load_study("sharing") == {"arms": {}}


def test_every_registered_study_is_one():
    for name in studies.STUDIES:
        study = frame.find_study(name)
        assert study.name == name and len(study.seeds) >= 3
        json.dumps([study.settings(False), study.settings(True)])


def test_arms_of_sharing_differ_in_nothing_but_what_they_name():
    settings = module.settings(False)
    total = {
        arm: count_parameters(build(module.model_config(arm, settings, 4000), device="meta")).total
        for arm in module.ARMS
    }
    assert total["none"] > total["sandwich"] == total["every-2"] > total["all-but-last"] > total["all-shared"]
    assert abs(total["none-narrow"] / total["sandwich"] - 1) < 0.03
    assert total["embedding-linear"] < total["none"] and total["embedding-safe"] < total["none"]
    plain = module.model_config("none", settings, 4000)
    for arm in module.PLANS:
        config = module.model_config(arm, settings, 4000)
        assert config.encoder.replace(sharing=None) == plain.encoder.replace(sharing=None)
        assert all(len(set(norms)) == len(norms) for norms in zip(*config.plan.norm, strict=True))  # all private
    assert {arm for pair in module.COMPARED for arm in pair} <= set(module.ARMS)


def test_sharing_runs_from_end_to_end(cache):
    summary = json.loads(run_study("sharing", quick=True).read_text(encoding="utf-8"))
    assert summary["arms"].keys() == set(module.ARMS) and len(summary["runs"]) == len(module.ARMS)
    for run in summary["runs"]:
        numbers = run["numbers"]
        assert [step for step, _ in numbers["curve"]] == [4, 8]
        assert numbers["curve"][-1][1] == pytest.approx(numbers["dev_cross_entropy"], abs=0.02)
        assert 3 < numbers["test_cross_entropy"] < 7 and 0 <= numbers["test_bleu"] < 20
    baselines = summary["baselines"]
    assert baselines["copy_without_brackets_bleu"] > baselines["copy_bleu"] > 30
    assert "tok:13a" in baselines["bleu_signature"]
    difference = summary["differences"]["sandwich − none-narrow"]["test_cross_entropy"]
    runs = {run["arm"]: run["numbers"]["test_cross_entropy"] for run in summary["runs"]}
    assert difference["difference"] == pytest.approx(runs["sandwich"] - runs["none-narrow"], abs=2e-4)
    assert difference["low"] <= difference["difference"] <= difference["high"]


def test_the_same_seed_gives_the_same_run(cache):
    settings = module.settings(True)
    first, again = (module.run("sandwich", 1, settings) for _ in range(2))
    assert first[0] | {"seconds": 0} == again[0] | {"seconds": 0} and first[1] == again[1]
    assert module.run("sandwich", 2, settings)[0]["dev_cross_entropy"] != first[0]["dev_cross_entropy"]


def test_differences_by_hand():
    """Right on 3 and on 2 of 4 texts by both seeds; what the first arm has no answers to is left out."""
    details = {"a": [{"right": [1, 1, 0, 1]}] * 2, "b": [{"right": [0, 1, 0, 1], "more": [1]}] * 2}
    measures = {"test": ("right", frame.accuracy_difference), "other": ("more", frame.accuracy_difference)}
    found = frame.differences(details, [("a", "b")], measures)
    assert found.keys() == {"a − b"} and found["a − b"].keys() == {"test"}
    assert found["a − b"]["test"]["difference"] == 0.25 and found["a − b"]["test"]["low"] == 0
