"""Which stored weights each depth uses: weight sharing as a value.

A plan is data, so BERT, ALBERT and Subformer are one model class with three plans:

    none      0 1 2 3 4 5    BERT: every depth has its own block
    all       0 0 0 0 0 0    ALBERT (Lan et al. 2020, section 3.1)
    every 2   0 0 1 1 2 2    ALBERT's groups; Subformer, Table 2
    sandwich  0 1 1 1 1 2    Subformer (Reid et al. 2021, section 2.2): first and last depth private
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

Norms = Literal["shared", "private"]


@dataclass(frozen=True)
class SharingPlan:
    """For each of n depths, the number of the stored block it uses, separately for each kind of block.

    attention, ffn: n block numbers, 0, 1, 2… in order of first use.
    norm: n tuples with the LayerNorms of that depth, (after attention, after FFN), numbered likewise. A decoder's
    depth (cross=True) has three: its cross-attention goes with its attention and has a LayerNorm of its own.
    Raises ValueError when lengths differ or a number is used before a smaller one.
    """

    attention: tuple[int, ...]
    ffn: tuple[int, ...]
    norm: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not len(self.attention) == len(self.ffn) == len(self.norm):
            raise ValueError(
                f"a sharing plan needs one entry per depth in each part, got {len(self.attention)} attention, "
                f"{len(self.ffn)} FFN and {len(self.norm)} LayerNorm entries"
            )
        if not self.attention:
            raise ValueError("a sharing plan needs at least one depth, got 0")
        flat_norm = tuple(number for depth in self.norm for number in depth)
        for part, numbers in (("attention", self.attention), ("ffn", self.ffn), ("norm", flat_norm)):
            if numbers != _number_by_first_use(numbers):
                raise ValueError(
                    f"blocks must be numbered 0, 1, 2… in order of first use, got {part} {numbers}; "
                    f"expected {_number_by_first_use(numbers)}"
                )

    def __len__(self) -> int:
        """Number of depths."""
        return len(self.attention)

    @classmethod
    def from_blocks(cls, attention: Sequence[int], ffn: Sequence[int], norms: Norms, cross: bool = False) -> Self:
        """Plan from block numbers per depth; LayerNorms follow their sublayer ("shared") or stay per depth."""
        if norms not in ("shared", "private"):
            raise ValueError(f"norms must be 'shared' or 'private', got {norms!r}")
        parts = (attention, attention, ffn) if cross else (attention, ffn)
        keys = []
        for depth, blocks in enumerate(zip(*parts, strict=True)):
            keys += [(place, block if norms == "shared" else depth) for place, block in enumerate(blocks)]
        numbers, width = _number_by_first_use(keys), len(parts)
        norm = tuple(numbers[start : start + width] for start in range(0, len(numbers), width))
        return cls(_number_by_first_use(attention), _number_by_first_use(ffn), norm)

    @classmethod
    def none(cls, n: int, *, norms: Norms = "private", cross: bool = False) -> Self:
        """Every depth has its own weights: BERT."""
        return cls._of(range(_depths(n)), norms, cross)

    @classmethod
    def all(cls, n: int, *, norms: Norms = "shared", cross: bool = False) -> Self:
        """One block for all depths, LayerNorms included: ALBERT. Subformer's all-shared row has private norms."""
        return cls._of([0] * _depths(n), norms, cross)

    @classmethod
    def every(cls, n: int, size: int, *, norms: Norms = "private", cross: bool = False) -> Self:
        """Runs of `size` neighbouring depths share; the last run is shorter if `size` does not divide n."""
        if size < 1:
            raise ValueError(f"a run must hold at least 1 depth, got size={size}")
        return cls._of([depth // size for depth in range(_depths(n))], norms, cross)

    @classmethod
    def sandwich(cls, n: int, *, norms: Norms = "private", cross: bool = False) -> Self:
        """First and last depth private, all between them shared; with n ≤ 2 there is nothing between."""
        last = _depths(n) - 1
        return cls._of([0 if depth == 0 else 2 if depth == last else 1 for depth in range(n)], norms, cross)

    @classmethod
    def all_but_last(cls, n: int, *, norms: Norms = "private", cross: bool = False) -> Self:
        """Depths 1…n−1 share one block, the last has its own (Subformer, Table 2)."""
        return cls._of([0] * (_depths(n) - 1) + [1], norms, cross)

    @classmethod
    def attention_only(cls, n: int, *, norms: Norms = "shared", cross: bool = False) -> Self:
        """One attention block (with its LayerNorm) for all depths, private FFNs (ALBERT, Table 4)."""
        return cls.from_blocks([0] * _depths(n), range(n), norms, cross)

    @classmethod
    def ffn_only(cls, n: int, *, norms: Norms = "shared", cross: bool = False) -> Self:
        """One FFN (with its LayerNorm) for all depths, private attention (ALBERT, Table 4)."""
        return cls.from_blocks(range(_depths(n)), [0] * n, norms, cross)

    @classmethod
    def _of(cls, blocks: Sequence[int], norms: Norms, cross: bool) -> Self:
        return cls.from_blocks(blocks, blocks, norms, cross)


def _depths(n: int) -> int:
    if n < 1:
        raise ValueError(f"a sharing plan needs at least one depth, got {n}")
    return n


def _number_by_first_use(keys: Sequence[Hashable]) -> tuple[int, ...]:
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return tuple(order[key] for key in keys)
