"""What a quantized model is made of, as data, and the layer that a scheme makes of a linear or an embedding."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from coursekit.compress.quantization.affine import QuantizedTensor, quantize
from coursekit.compress.quantization.embedding import QuantizedEmbedding
from coursekit.compress.quantization.gptq import gptq_from_hessian
from coursekit.compress.quantization.layers import (
    Activations,
    Int3Linear,
    Int4Linear,
    Int8Linear,
    PackedLinear,
    QuantizedLinear,
    TernaryLinear,
)
from coursekit.compress.quantization.ternary import ternarize
from coursekit.errors import unknown_name
from coursekit.measure.hygiene import require_counts

LARGEST_GROUP = 64
PACKED: dict[int, type[PackedLinear]] = {4: Int4Linear, 3: Int3Linear, 2: TernaryLinear}


@dataclass(frozen=True)
class Scheme:
    """How weights and activations become codes.

    bits         8: one scale per output row; 4 and 3: groups; 2: ternary, one scale per matrix
    group_size   of 4 and 3 bits alone: neighbours along the input that share a scale; "auto": the largest divisor of a
                 layer's width from 16 to 64, else its whole row; None: the whole row
    activations  of 8 bits alone, see `Int8Linear`; None: real numbers
    gptq         weights rounded by GPTQ, on calibration inputs, not to nearest
    Raises ValueError for combinations without a layer.
    """

    bits: Literal[8, 4, 3, 2] = 8
    group_size: int | Literal["auto"] | None = None
    activations: Activations | None = None
    gptq: bool = False

    def __post_init__(self) -> None:
        if self.bits != 8 and self.bits not in PACKED:
            raise ValueError(f"layers keep weights in 8, 4, 3 or 2 (ternary) bits, got {self.bits!r}")
        if self.activations is not None and self.bits != 8:
            raise ValueError(f"activations are quantized beside 8-bit weights alone, not {self.bits}-bit ones")
        if self.group_size is not None and self.bits not in (4, 3):
            raise ValueError(f"groups are for 4 and 3 bits; got group_size={self.group_size!r} with {self.bits} bits")
        if self.group_size not in ("auto", None):
            require_counts(group_size=self.group_size)
        if self.gptq and self.bits == 2:
            raise ValueError("GPTQ rounds to 8, 4 or 3 bits; ternary weights have their own rule")

    def groups(self, width: int) -> int | None:
        """The group size for a layer of that input width."""
        if self.group_size != "auto":
            return self.group_size
        divisors = [size for size in range(16, LARGEST_GROUP + 1) if width % size == 0]
        return divisors[-1] if divisors else None

    def codes(self, weight: Tensor, hessian: Tensor | None = None) -> QuantizedTensor:
        """The codes of a linear's weight (out, in)."""
        if self.bits == 2:
            return ternarize(weight)
        if self.gptq:
            return gptq_from_hessian(weight, hessian, bits=self.bits, group_size=self.groups(weight.shape[1]))
        return quantize(weight, bits=self.bits, axis=0, group_size=self.groups(weight.shape[1]))

    def linear(
        self,
        linear: nn.Linear,
        *,
        hessian: Tensor | None = None,
        input_range: tuple[Tensor, Tensor] | None = None,
        divisor: Tensor | None = None,
    ) -> QuantizedLinear:
        """The quantized layer for a linear; the linear itself is not changed."""
        weight = linear.weight.detach()
        codes = self.codes(weight if divisor is None else weight * divisor, hessian)
        if self.bits == 8:
            return Int8Linear.from_linear(linear, codes, self.activations, input_range, divisor)
        return PACKED[self.bits].from_linear(linear, codes)

    def embedding(self, embedding: nn.Embedding) -> QuantizedEmbedding:
        """The quantized table: one scale per row, or groups as in a linear."""
        weight = embedding.weight.detach()
        if self.bits == 2:
            return QuantizedEmbedding.from_embedding(embedding, ternarize(weight, axis=0), 2)
        codes = quantize(weight, bits=self.bits, axis=0, group_size=self.groups(weight.shape[1]))
        return QuantizedEmbedding.from_embedding(embedding, codes, self.bits)


SCHEMES = {
    "int8": Scheme(8, activations="dynamic"),
    "int8-static": Scheme(8, activations="static"),
    "int8-weight-only": Scheme(8),
    "int4": Scheme(4, "auto"),
    "int4-gptq": Scheme(4, "auto", gptq=True),
    "ternary": Scheme(2),
}


def as_scheme(scheme: str | Scheme) -> Scheme:
    """The scheme of a name, or itself. Raises ValueError for an unknown name."""
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise unknown_name("scheme", scheme, SCHEMES)
    return SCHEMES[scheme]
