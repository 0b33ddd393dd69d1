"""The lessons as a static site: `make book`, or `coursekit book FOLDER`."""

from coursekit.course.book.site import build_book

__all__ = ["build_book"]
