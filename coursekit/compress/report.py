"""What a compression did, layer by layer: common to low rank, pruning and quantization."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LayerReport:
    """One layer: its path, what was done to it or "skipped: why", and its bytes as stored before and after."""

    path: str
    what: str
    bytes_before: int
    bytes_after: int

    @property
    def skipped(self) -> bool:
        """Whether the layer was left as it was."""
        return self.what.startswith("skipped")


@dataclass(frozen=True)
class Report:
    """Every layer touched or skipped, a shared one once; the same Markdown table in a notebook and in a terminal."""

    layers: Sequence[LayerReport]

    @property
    def bytes_before(self) -> int:
        """Bytes of all layers before."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        """Bytes of all layers after, with indices, scales, codes and masks."""
        return sum(layer.bytes_after for layer in self.layers)

    def __str__(self) -> str:
        rows = [(layer.path, layer.what, layer.bytes_before, layer.bytes_after) for layer in self.layers]
        rows.append(("total", "", self.bytes_before, self.bytes_after))
        table = [("layer", "what", "bytes before", "bytes after")]
        table += [(path, what, f"{before:,}", f"{after:,}") for path, what, before, after in rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rule = [":" + "-" * (width - 1) for width in widths[:2]] + ["-" * (width - 1) + ":" for width in widths[2:]]
        lines = []
        for cells in (table[0], rule, *table[1:]):
            padded = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
            padded += [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
            lines.append(f"| {' | '.join(padded)} |")
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return str(self)


def stored_layers(model: nn.Module, whole: tuple[type[nn.Module], ...] = ()) -> dict[str, tuple[nn.Module, int]]:
    """Path → module with stored tensors of its own, and their bytes; a tied tensor counts where it comes first.

    A module of a type in `whole` stands for all that is inside it. Over all paths the bytes are those of the model.
    """
    seen, inside, found = set(), set(), {}
    for path, module in model.named_modules():
        if module in inside:
            continue
        entire = isinstance(module, whole)
        if entire:
            inside.update(module.modules())
        state = module.state_dict(keep_vars=True)
        own = {id(value): value for name, value in state.items() if entire or "." not in name}
        own = {key: value for key, value in own.items() if key not in seen}
        seen.update(own)
        if own:
            found[path] = module, sum(value.numel() * value.element_size() for value in own.values())
    return found
