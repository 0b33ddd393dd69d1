"""Commands that carry the course elsewhere: a site to read, a folder for a room without internet."""

from pathlib import Path
from typing import Annotated

import typer


def book(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Made again if it is a book.")] = Path(
        "build/book"
    ),
) -> None:
    """Make a static site of the lessons."""
    from coursekit.course.book import build_book

    pages = build_book(folder)
    print(f"{pages[0]}: {len(pages)} pages")


def workshop(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="On a USB stick or a share.")],
    torch_index: Annotated[
        str | None, typer.Option(metavar="URL", help="Take torch from this index, such as that of CPU builds.")
    ] = None,
) -> None:
    """Fill a folder that sets up machines without internet."""
    from coursekit.course.workshop import fill_folder

    script = fill_folder(folder, torch_index=torch_index)
    size = sum(path.stat().st_size for path in script.parent.rglob("*") if path.is_file())
    print(f"{script.parent}: {size / 1e6:,.0f} MB; on each machine: python3 {script}")
