"""Your own tables and GLUE's files as tasks; names of the Hub where it cannot be reached."""

import csv
import shutil
import zipfile

import pytest
from huggingface_hub import constants

from coursekit.data import GLUE, AssetError, Tokenizer, csv_task, fetch, glue, glue_task, load_task
from coursekit.models import from_huggingface
from coursekit.train import text_batches


def write(file, header, rows, delimiter=","):
    file.parent.mkdir(exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return file


def reviews(count=200):
    return [(f"text {number}, with a comma", ("good", "bad")[number % 2]) for number in range(count)]


def test_a_csv_is_a_task(tmp_path):
    task = load_task(write(tmp_path / "reviews.csv", ("text", "label"), reviews()))
    assert (task.name, task.labels) == ("reviews", ("bad", "good"))
    splits = (task.train, task.validation, task.test)
    assert [len(split) for split in splits] == [160, 20, 20]
    texts = [text for split in splits for text in split.texts]
    assert sorted(texts) == sorted(text for text, _ in reviews())
    for split in splits:
        for text, label in zip(split.texts, split.labels, strict=True):
            assert label == 1 - int(text.split(",")[0].split()[1]) % 2
    assert load_task(str(tmp_path / "reviews.csv")) == task  # the same rows each time
    other = load_task(tmp_path / "reviews.csv", labels=("good", "bad"))
    assert other.labels == ("good", "bad") and other.test.labels == [1 - label for label in task.test.labels]


def test_numbers_groups_and_pairs(tmp_path):
    """Ten, as 10, comes after 9; no group and no pair is in two splits; a text that comes twice is."""
    rows = [(f"a {n}", f"b {n % 40}", n % 11, f"film {n % 30}") for n in range(330)]
    task = load_task(write(tmp_path / "pairs.tsv", ("text", "second", "label", "group"), rows, "\t"))
    assert task.labels == tuple(map(str, range(11)))
    groups = [set(split.groups) for split in (task.train, task.validation, task.test)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 30
    for text, second, label in zip(task.test.texts, task.test.second, task.test.labels, strict=True):
        number = int(text.split()[1])
        assert (second, label) == (f"b {number % 40}", number % 11)
    again = [(f"{text.upper()} ", label) for text, label in reviews()]
    splits = load_task(write(tmp_path / "twice.csv", ("text", "label"), [*reviews(), *again]))
    seen = [{text.strip().lower() for text in split.texts} for split in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, seen)) == len(set.union(*seen))


WRONG = {
    "columns": (("text", "class"), reviews(), r"has the columns text, class; expected text and label"),
    "empty": (("text", "label"), [], "has no rows below its header"),
    "cell": (("text", "label"), [*reviews(), (" ", "good")], "row 201 has no text"),
    "one label": (("text", "label"), [(str(n), "good") for n in range(50)], "has only the label 'good'"),
    "gap": (
        ("text", "label"),
        [(str(n), 1 + n % 2) for n in range(50)],
        "has the labels 1, 2; numbers must be 0, 1, 2…",
    ),
    "few": (("text", "label"), reviews(3), "too few rows or groups for three splits"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables(name, tmp_path):
    header, rows, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        csv_task(write(tmp_path / "table.csv", header, rows))


def test_wrong_names(tmp_path):
    file = write(tmp_path / "table.csv", ("text", "label"), reviews())
    with pytest.raises(ValueError, match="has the label 'good'; expected bad, fine"):
        load_task(file, labels=("bad", "fine"))
    with pytest.raises(ValueError, match="labels are for a CSV file; rotten-tomatoes has its own"):
        load_task("rotten-tomatoes", labels=("bad", "fine"))
    with pytest.raises(FileNotFoundError, match=r"no file .*missing.csv; expected a CSV"):
        load_task(tmp_path / "missing.csv")
    with pytest.raises(ValueError, match="unknown task 'sst3'; nearest: sst2"):
        load_task("sst3")


def glue_files(home, name, train, dev):
    """A folder as GLUE has it: tab-separated, nothing quoted."""
    task = GLUE[name]
    home = home / task.folder
    home.mkdir()
    for file, rows in (("train.tsv", train), (task.test, dev)):
        (home / file).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return home


def test_a_folder_of_single_sentences(tmp_path):
    train = [("sentence", "label"), *((f'a "quoted word {n}', str(n % 2)) for n in range(100))]
    task = load_task(glue_files(tmp_path, "sst2", train, [("sentence", "label"), ("dull", "0"), ('"fine', "1")]))
    assert (task.name, task.labels) == ("sst2", ("negative", "positive"))
    assert (task.test.texts, task.test.labels) == (["dull", '"fine'], [0, 1])
    assert len(task.validation) == 5 and len(task.train) == 95  # a twentieth
    assert all(text.startswith('a "quoted') for text in task.train.texts) and task.train.second is None


def test_a_folder_without_header_and_one_of_pairs(tmp_path):
    rows = [("x", str(n % 2), "", f"sentence {n}") for n in range(40)]
    cola = glue_task(glue_files(tmp_path, "cola", rows, rows[:3]))
    assert cola.test.texts == ["sentence 0", "sentence 1", "sentence 2"] and cola.test.labels == [0, 1, 0]
    header = ("index", "sentence1", "sentence2", "gold_label")
    labels = ("contradiction", "entailment", "neutral", "-")
    rows = [(str(n), "the same premise", f"hypothesis {n}", labels[n % 4]) for n in range(40)]
    mnli = glue_task(glue_files(tmp_path, "mnli", [header, *rows, ("41", "torn")], [header, *rows[:4]]))
    assert mnli.labels == ("entailment", "neutral", "contradiction")
    assert len(mnli.train) + len(mnli.validation) == 30  # undecided and torn rows have no label
    assert mnli.test.second == ["hypothesis 0", "hypothesis 1", "hypothesis 2"] and mnli.test.labels == [2, 0, 1]
    batch = text_batches(mnli.test, Tokenizer(fetch("minilm")), batch_size=3).epoch(0)[0]
    assert batch["token_type_ids"].sum(1).tolist() == [3, 3, 3]  # hypothesis, its number, [SEP]


def test_wrong_folders(tmp_path):
    (tmp_path / "Films").mkdir()
    with pytest.raises(ValueError, match="unknown GLUE folder 'Films'"):
        load_task(tmp_path / "Films")
    home = glue_files(tmp_path, "rte", [("index", "sentence1", "label")], [("x",)])
    with pytest.raises(ValueError, match="has no column 'sentence2'; expected sentence1, sentence2, label"):
        glue_task(home)
    (home / "train.tsv").unlink()
    with pytest.raises(FileNotFoundError, match="expected the files that GLUE gives out"):
        glue_task(home)


def test_an_archive_is_unpacked_by_name_and_kept(tmp_path, monkeypatch):
    """From a local address; the site itself is out of the tests' reach."""
    (tmp_path / "site").mkdir()
    with zipfile.ZipFile(tmp_path / "site" / "SST-2.zip", "w") as archive:
        rows = "sentence\tlabel\n" + "".join(f"text {n}\t{n % 2}\n" for n in range(40))
        for name in ("SST-2/train.tsv", "SST-2/dev.tsv", "SST-2/../../evil"):
            archive.writestr(name, rows)
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(glue, "SITE", f"{(tmp_path / 'site').as_uri()}/")
    assert len(load_task("sst2").test) == 40
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*")) == ["SST-2", "dev.tsv", "glue", "train.tsv"]
    monkeypatch.setattr(glue, "SITE", "file:///nowhere/")
    assert len(load_task("sst2").test) == 40  # from the cache
    with pytest.raises(AssetError, match=r"RTE.zip cannot be fetched .*load_task\('…/RTE'\)$") as failed:
        load_task("rte")
    assert "\n" not in str(failed.value) and not list(tmp_path.rglob("*RTE*"))


def site(tmp_path, monkeypatch):
    """A local folder in the place of both sites, and an empty cache."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "cache"))
    for name in ("SITE", "MRPC_SITE"):
        monkeypatch.setattr(glue, name, f"{(tmp_path / 'site').as_uri()}/")
    return tmp_path / "site"


def test_mrpc_is_two_files_of_microsofts(tmp_path, monkeypatch):
    home = site(tmp_path, monkeypatch)
    names = ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt")
    for name, count in zip(names, (60, 12), strict=True):
        rows = [f'{n % 2}\t1\t2\tHe said "{name} {n}\tSaid {n}' for n in range(count)]
        lines = ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", *rows]
        (home / name).write_bytes("".join(line + "\r\n" for line in lines).encode())
    task = load_task("mrpc")
    assert (len(task.train), len(task.validation), len(task.test)) == (57, 3, 12)
    assert task.labels == ("not_equivalent", "equivalent") and task.test.labels == [0, 1] * 6
    assert (task.test.texts[1], task.test.second[1]) == ('He said "msr_paraphrase_test.txt 1', "Said 1")
    cache = tmp_path / "cache" / "glue" / "MRPC"
    assert sorted(path.name for path in cache.iterdir()) == sorted(names)
    assert load_task(cache) == task  # such a folder of one's own
    shutil.rmtree(cache)
    (home / names[1]).unlink()
    with pytest.raises(
        AssetError, match=rf"with Microsoft's {names[0]} and {names[1]} will do: load_task\('…/MRPC'\)$"
    ):
        load_task("mrpc")
    assert not list((tmp_path / "cache" / "glue").iterdir())


def test_mrpc_as_glues_own_script_lays_it_out(tmp_path):
    (tmp_path / "MRPC").mkdir()
    for name, count in (("train.tsv", 40), ("dev.tsv", 4)):
        rows = "".join(f"{n % 2}\t1\t2\tone {n}\tother {n}\n" for n in range(count))
        (tmp_path / "MRPC" / name).write_text(f"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n{rows}")
    assert load_task(tmp_path / "MRPC").test.texts == ["one 0", "one 1", "one 2", "one 3"]


def test_mnli_has_two_tests_and_one_archive(tmp_path, monkeypatch):
    home = site(tmp_path, monkeypatch)
    with zipfile.ZipFile(home / "MNLI.zip", "w") as archive:
        for file in ("train", "dev_matched", "dev_mismatched"):
            rows = "".join(f"{file} {n}\tand {n}\tneutral\n" for n in range(40))
            archive.writestr(f"MNLI/{file}.tsv", f"sentence1\tsentence2\tgold_label\n{rows}")
    matched = load_task("mnli")
    (home / "MNLI.zip").unlink()
    mismatched = load_task("mnli-mm")
    assert (matched.test.texts[0], mismatched.test.texts[0]) == ("dev_matched 0", "dev_mismatched 0")
    assert matched.train == mismatched.train and mismatched.name == "mnli-mm"
    folder = tmp_path / "cache" / "glue" / "MNLI"
    assert load_task(folder) == matched and glue_task(folder, "mnli-mm") == mismatched
    with pytest.raises(ValueError, match="unknown GLUE task 'mnli-xx'; nearest: mnli, mnli-mm"):
        glue_task(folder, "mnli-xx")


def test_stsb_has_scores(tmp_path):
    header = ("index", "sentence1", "sentence2", "score")
    rows = [(str(n), f"one {n}", f"other {n}", f"{n / 8:.3f}") for n in range(40)]
    task = load_task(glue_files(tmp_path, "stsb", [header, *rows, ("41", "torn")], [header, *rows[:3]]))
    assert (task.name, task.labels) == ("stsb", ("similarity",))
    assert task.test.labels == [0.0, 0.125, 0.25] and len(task.train) == 38 and len(task.train.take(9)) == 9
    batch = text_batches(task.test, Tokenizer(fetch("minilm")), batch_size=3).epoch(0)[0]
    assert batch["labels"].is_floating_point() and sorted(batch["labels"].tolist()) == [0.0, 0.125, 0.25]
    for wrong in ("high", "nan"):
        (tmp_path / wrong).mkdir()
        with pytest.raises(ValueError, match=f"has the label '{wrong}'; expected a number"):
            glue_task(glue_files(tmp_path / wrong, "stsb", [header, ("0", "a", "b", wrong)], [header, rows[0]]))


@pytest.mark.parametrize("load", [from_huggingface, Tokenizer])
def test_names_of_the_hub_when_offline(load, monkeypatch, tmp_path):
    """One line, with what was given and what to do; a folder is never taken for a name."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OSError, match="no folder bert-base-uncased, and no such checkpoint could be fetched") as failed:
        load("bert-base-uncased")
    assert "\n" not in str(failed.value) and "offline, give a folder with config.json" in str(failed.value)
    with pytest.raises((ValueError, FileNotFoundError), match="no config.json|no tokenizer"):
        load(tmp_path / "missing")
