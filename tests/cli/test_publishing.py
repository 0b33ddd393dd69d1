"""`coursekit book`, `coursekit workshop`, `coursekit class handbook`: each calls one function and says what it made."""

from pathlib import Path

from typer.testing import CliRunner

import coursekit.course.book
import coursekit.course.teaching
import coursekit.course.workshop
from coursekit.cli import app


def call(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def test_book(monkeypatch):
    made = []
    monkeypatch.setattr(
        coursekit.course.book, "build_book", lambda folder: made.append(folder) or [folder / "index.html"] * 3
    )
    assert call("book").stdout == "build/book/index.html: 3 pages\n"
    assert call("book", "site").exit_code == 0 and made == [Path("build/book"), Path("site")]


def test_workshop(monkeypatch, tmp_path):
    def fill_folder(folder, *, torch_index):
        (folder / "wheels").mkdir()
        (folder / "wheels" / "a.whl").write_bytes(bytes(3_000_000))
        (folder / "install.py").write_text(torch_index or "")
        return folder / "install.py"

    monkeypatch.setattr(coursekit.course.workshop, "fill_folder", fill_folder)
    result = call("workshop", tmp_path, "--torch-index", "https://example.org/cpu")
    assert result.stdout == f"{tmp_path}: 3 MB; on each machine: python3 {tmp_path}/install.py\n"
    assert (tmp_path / "install.py").read_text() == "https://example.org/cpu"


def test_handbook(monkeypatch, tmp_path):
    monkeypatch.setattr(coursekit.course.teaching, "write_handbook", lambda folder: [folder / "a.md", folder / "b.md"])
    assert call("class", "handbook", tmp_path).stdout == f"{tmp_path}/a.md\n{tmp_path}/b.md\n"


def test_a_bad_folder_is_one_line(tmp_path):
    (tmp_path / "photo.jpg").write_text("")
    for words in (("book", tmp_path), ("class", "handbook", tmp_path / "photo.jpg")):
        result = call(*words)
        assert result.exit_code == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
