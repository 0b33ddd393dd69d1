"""Tokenise once, map the file: token sequences on disk, read without loading them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from coursekit.files import atomic_folder, write_json

_FORMAT = "coursekit token store 1"
_OFFSET = np.dtype("<i8")


class TokenStore:
    """Sequences of token ids in a folder, memory-mapped: `store[i]` touches only the pages it needs.

    `tokens.bin` holds all ids in a row (2 bytes each if the vocabulary fits, else 4), `offsets.bin` where
    each sequence begins, and `store.json` what sizes to expect. Opening raises FileNotFoundError if the
    folder is no store, ValueError if it is damaged or cut short.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        header = _read_header(self.folder)
        self.vocab_size: int = header["vocab_size"]
        self.total_tokens: int = header["tokens"]
        self._tokens = _mapped(self.folder / "tokens.bin", _dtype(self.vocab_size), self.total_tokens)
        self._offsets = _mapped(self.folder / "offsets.bin", _OFFSET, header["sequences"] + 1)
        if self._offsets[0] != 0 or self._offsets[-1] != self.total_tokens:
            raise ValueError(f"token store {self.folder} is damaged: its offsets do not span its tokens")

    @staticmethod
    def write(folder: Path | str, sequences: Iterable[Sequence[int]], vocab_size: int) -> "TokenStore":
        """Write `sequences` one at a time and open the result; the folder appears whole or not at all.

        An earlier store there is replaced. Raises ValueError for no sequences, an empty one, or an id outside
        0 … vocab_size − 1; FileExistsError if the folder holds something else.
        """
        dtype, total = _dtype(vocab_size), 0
        folder = Path(folder)
        if folder.exists() and not (folder / "store.json").is_file():
            raise FileExistsError(f"{folder} exists and is not a token store; give another folder")
        with atomic_folder(folder) as part:
            with open(part / "tokens.bin", "wb") as tokens, open(part / "offsets.bin", "wb") as offsets:
                count = 0
                offsets.write(_OFFSET.type(0).tobytes())
                for count, sequence in enumerate(sequences, start=1):
                    ids = np.asarray(sequence)
                    _check(ids, count - 1, vocab_size)
                    tokens.write(ids.astype(dtype).tobytes())
                    total += len(ids)
                    offsets.write(np.array(total, _OFFSET).tobytes())
            if count == 0:
                raise ValueError("a token store needs at least one sequence, got none")
            header = {"format": _FORMAT, "vocab_size": vocab_size, "sequences": count, "tokens": total}
            write_json(part / "store.json", header)
        return TokenStore(folder)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Sequence `index` as a read-only view, uint16 or uint32 (T,). Raises IndexError beyond the last."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sequence {index} of a token store of {len(self)}")
        index %= len(self)
        return self._tokens[self._offsets[index] : self._offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each sequence, int64 (len(store),): what `length_batches` takes."""
        return np.diff(self._offsets)

    def __reduce__(self):
        return TokenStore, (self.folder,)  # a copy in another process maps the file again


def _dtype(vocab_size: int) -> np.dtype:
    if not 1 <= vocab_size <= 2**32:
        raise ValueError(f"vocab_size must be 1 to 2**32, got {vocab_size}")
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def _check(ids: np.ndarray, index: int, vocab_size: int) -> None:
    if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ValueError(f"sequence {index} must be a non-empty list of token ids")
    low, high = ids.min(), ids.max()
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise ValueError(f"sequence {index} has id {wrong}, outside the vocabulary of {vocab_size}")


def _read_header(folder: Path) -> dict:
    file = folder / "store.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a token store: it has no store.json")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        known = header["format"] == _FORMAT and all(
            isinstance(header[key], int) and header[key] > 0 for key in ("vocab_size", "sequences", "tokens")
        )
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(f"{file} does not describe a {_FORMAT}")
    return header


def _mapped(file: Path, dtype: np.dtype, count: int) -> np.ndarray:
    """`count` numbers of `file`, mapped read-only. Raises ValueError if the file has another size."""
    size = file.stat().st_size if file.is_file() else 0
    if size != count * dtype.itemsize:
        raise ValueError(f"{file} is damaged: {size} bytes, expected {count * dtype.itemsize}")
    return np.asarray(np.memmap(file, dtype=dtype, mode="r"))
