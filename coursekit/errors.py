"""One way to say that a name is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, given: object, known: Iterable[str]) -> ValueError:
    """Error for a name outside `known`, with the nearest names first, or all of them if few match.

    >>> str(unknown_name("preset", "bert-bse", ["bert-base", "albert-base"]))
    "unknown preset 'bert-bse'; nearest: bert-base, albert-base"
    """
    names = sorted(known)
    near = get_close_matches(str(given), names, n=3)
    tail = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(names)}"
    return ValueError(f"unknown {kind} {given!r}; {tail}")
