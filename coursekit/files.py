"""Files that are written whole or not at all, and the two folders the course writes to."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import platformdirs

Made = TypeVar("Made")


def cache_folder() -> Path:
    """Folder for what can be made again (assets, trained teachers): COURSEKIT_CACHE or the user's cache."""
    return Path(os.environ.get("COURSEKIT_CACHE") or platformdirs.user_cache_dir("coursekit"))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _beside(path: Path, make: Callable[..., Made]) -> Made:
    """Something temporary beside `path`. OSError names the folder, not a hidden file that nobody asked for."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return make(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        why = f"{error.strerror}; expected a folder that can be written"
        raise OSError(error.errno, why, str(path.parent)) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes that place if the block ends without an exception."""
    path = Path(path)
    handle, name = _beside(path, tempfile.mkstemp)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp makes files private; these are ordinary ones
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` if the block ends without an exception."""
    path = Path(path)
    part = Path(_beside(path, tempfile.mkdtemp))
    old = part.with_name(part.name + ".old")
    try:
        yield part
        part.chmod(0o755)
        if path.exists():
            os.replace(path, old)  # a folder cannot be replaced in one step unless it is empty
        os.replace(part, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
