"""Files are written whole or not at all."""

import pytest

from coursekit.errors import unknown_name
from coursekit.files import atomic_file, atomic_folder, sha256, write_json


def test_an_exception_leaves_the_old_file(tmp_path) -> None:
    """Neither a new file nor a temporary one stays behind."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as part:
        part.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with atomic_file(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


def test_an_exception_leaves_the_old_folder(tmp_path) -> None:
    """The same for a folder with files in it."""
    folder = tmp_path / "f"
    with atomic_folder(folder) as part:
        (part / "one").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(folder) as part:
        (part / "two").write_text("2")
        raise RuntimeError
    assert [p.name for p in folder.iterdir()] == ["one"]
    with atomic_folder(folder) as part:
        (part / "three").write_text("3")
    assert [p.name for p in folder.iterdir()] == ["three"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_json_and_hash(tmp_path) -> None:
    """JSON is readable text; the hash is SHA-256's test vector for "abc"."""
    write_json(tmp_path / "deep" / "x.json", {"größe": 1})
    assert "größe" in (tmp_path / "deep" / "x.json").read_text(encoding="utf-8")
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def test_unknown_names() -> None:
    """Near names where there are any, otherwise all."""
    assert str(unknown_name("unit", "1", ["01", "02"])) == "unknown unit '1'; nearest: 01"
    assert str(unknown_name("unit", "xyz", ["02", "01"])) == "unknown unit 'xyz'; known: 01, 02"
