"""Tensors of many texts in one flat file each, a piece per text without its padding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from coursekit.distill.losses import TopTargets
from coursekit.distill.states import Asked, State, is_masked_lm, observe
from coursekit.files import sha256

# name: torch's format, and the one of equal size that NumPy can map
FORMATS = {
    "fp32": (torch.float32, np.dtype("<f4")),
    "fp16": (torch.float16, np.dtype("<f2")),
    "bf16": (torch.bfloat16, np.dtype("<i2")),
    "int32": (torch.int32, np.dtype("<i4")),
}
# How the piece of a text of L tokens looks: n, m sizes that are the same for all texts.
ROW, TOKENS, HEADS, PAIRS = "(n)", "(L, n)", "(n, L, m)", "(n, L, L)"
LAYOUTS = {"cls": ROW, "hidden": TOKENS, "scores": PAIRS, "probs": PAIRS} | dict.fromkeys(
    ("values", "queries", "keys"), HEADS
)


def _shape(layout: str, sizes: Sequence[int], length: int) -> tuple[int, ...]:
    n = sizes[0]
    return {ROW: (n,), TOKENS: (length, n), HEADS: (n, length, sizes[-1]), PAIRS: (n, length, length)}[layout]


def _offsets(layout: str, sizes: Sequence[int], lengths: np.ndarray) -> np.ndarray:
    """Where each text's piece begins in the file, and the end of the last: (N + 1,)."""
    counts = np.array([np.prod(_shape(layout, sizes, int(length)), dtype=np.int64) for length in lengths])
    return np.concatenate(([0], np.cumsum(counts)))


class Writer:
    """Writes what a teacher says about batches of texts, in any order, into a folder of flat files."""

    def __init__(self, folder: Path, lengths: np.ndarray, stored: str) -> None:
        self.folder, self.lengths, self.stored = folder, lengths, stored
        self.files: dict[str, np.memmap] = {}
        self.offsets: dict[str, np.ndarray] = {}
        self.about: dict[str, dict[str, Any]] = {}

    def write(
        self,
        teacher: nn.Module,
        batch: dict[str, Tensor],
        rows: list[int],
        asked: Sequence[Asked],
        device: torch.device,
    ) -> None:
        """Ask the teacher about a batch and write its answers to the places of these rows."""
        batch = send_to_device(batch, device)
        positions = batch["attention_mask"].bool() if is_masked_lm(teacher) else None
        for ask, state in observe(teacher, batch, asked, positions).items():
            layout = LAYOUTS.get(ask.state, ROW if positions is None else TOKENS)
            if isinstance(state, TopTargets):
                log_probs, classes = (_unpacked(part, positions) for part in state)
                self._put(f"{ask} log-probs", layout, log_probs, rows, self.stored)
                self._put(f"{ask} classes", layout, classes, rows, "int32")
            else:
                self._put(str(ask), layout, state, rows, self.stored)

    def close(self) -> dict[str, dict[str, Any]]:
        """Finish the files and return what is known of each."""
        for name, about in self.about.items():
            self.files[name].flush()
            about["sha256"] = sha256(self.folder / about["file"])
            about["error"] = about["error"] / about["largest"] if about["largest"] else 0.0
        return self.about

    def _put(self, name: str, layout: str, state: Tensor, rows: list[int], stored: str) -> None:
        state = state.float().cpu() if stored != "int32" else state.cpu()
        if name not in self.files:
            self._open(name, layout, state, stored)
        kind, _ = FORMATS[stored]
        about, offsets = self.about[name], self.offsets[name]
        for row, full in zip(rows, state, strict=True):
            piece = full[_real(layout, int(self.lengths[row]))].contiguous()
            kept = piece.to(kind)
            if not kept.isfinite().all():
                raise ValueError(f"{name} reaches {piece.abs().max():.3g}, too large for {stored}; store it as bf16")
            about["largest"] = max(about["largest"], float(piece.abs().max()))
            about["error"] = max(about["error"], float((kept.to(piece.dtype) - piece).abs().max()))
            bits = kept.view(torch.int16) if kind is torch.bfloat16 else kept
            self.files[name][offsets[row] : offsets[row + 1]] = bits.flatten().numpy()

    def _open(self, name: str, layout: str, state: Tensor, stored: str) -> None:
        sizes = [state.shape[-1]] if layout in (ROW, TOKENS) else [state.shape[1], state.shape[-1]]
        self.offsets[name] = _offsets(layout, sizes, self.lengths)
        file = name.replace(" ", "-") + ".bin"
        shape = (int(self.offsets[name][-1]),)
        self.files[name] = np.memmap(self.folder / file, FORMATS[stored][1], "w+", shape=shape)
        self.about[name] = {
            "file": file, "layout": layout, "sizes": sizes, "stored": stored, "largest": 0.0, "error": 0.0
        }  # fmt: skip


class Shelf:
    """One file of a cache, opened. Raises ValueError if its size is not what it should be."""

    def __init__(self, folder: Path, about: dict[str, Any], lengths: np.ndarray) -> None:
        self.layout, self.sizes, self.lengths = about["layout"], about["sizes"], lengths
        self.kind, dtype = FORMATS[about["stored"]]
        self.offsets = _offsets(self.layout, self.sizes, lengths)
        file = folder / about["file"]
        if file.stat().st_size != self.offsets[-1] * dtype.itemsize:
            raise ValueError(f"{file.name} has {file.stat().st_size} bytes, not {self.offsets[-1] * dtype.itemsize}")
        self.flat = np.asarray(np.memmap(file, dtype, "r"))

    def read(self, rows: Sequence[int], width: int) -> Tensor:
        """The pieces of some texts as they are stored, padded with 0 to `width` tokens."""
        out = np.zeros((len(rows), *_shape(self.layout, self.sizes, width)), self.flat.dtype)
        for place, row in enumerate(rows):
            length = int(self.lengths[row])
            piece = self.flat[self.offsets[row] : self.offsets[row + 1]]
            out[place][_real(self.layout, length)] = piece.reshape(_shape(self.layout, self.sizes, length))
        tensor = torch.from_numpy(out)
        return tensor.view(torch.bfloat16) if self.kind is torch.bfloat16 else tensor


def state_name(file_name: str) -> str:
    """The state that a stored tensor is, or is a part of."""
    return file_name.removesuffix(" log-probs").removesuffix(" classes")


def joined_states(tensors: dict[str, Tensor]) -> dict[str, State]:
    """Stored tensors as states by name."""
    states: dict[str, State] = {}
    for name, tensor in tensors.items():
        base = state_name(name)
        states[base] = tensor if base == name else TopTargets(tensors[f"{base} log-probs"], tensors[f"{base} classes"])
    return states


def _real(layout: str, length: int) -> tuple[slice, ...]:
    """The part of a padded piece that belongs to real tokens."""
    whole, real = slice(None), slice(length)
    return {ROW: (whole,), TOKENS: (real,), HEADS: (whole, real), PAIRS: (whole, real, real)}[layout]


def _unpacked(x: Tensor, positions: Tensor | None) -> Tensor:
    """Rows (N, k) of the true positions (B, T) back as (B, T, k)."""
    if positions is None:
        return x
    out = x.new_zeros(*positions.shape, x.shape[-1])
    out[positions] = x
    return out
