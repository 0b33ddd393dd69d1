"""The integer product behind an int8 layer, and which of several kernels computes it.

Times measured on two cores with AMX, one thread, 128 rows, 768×768, fp32 = 1: oneDNN with a prepacked weight 0.12,
`torch._int_mm` 0.16 with the scaling, an fp32 product of the codes above 1. They compute the same integers.
"""

from typing import Any, Self

import torch
from torch import Tensor

from coursekit.measure import cpu_features

# Without one of these, pairs of int8 products are summed in 16 bits and saturate: 127·127·2 > 32,767. The result is
# not slow but wrong (seen with oneDNN limited to AVX2).
FEATURES = {"avx512_vnni", "avx_vnni", "amx_int8"}.intersection(cpu_features()["int8"])
SHIFT = 128


class Prepacked:
    """A weight in oneDNN's own layout, made when first needed.

    It can neither be copied nor saved, so it is no buffer: a copy starts empty, and it is made anew when the codes
    change. It costs one more byte per weight of memory, none on disk.
    """

    def __init__(self) -> None:
        self._key: tuple[Tensor, int | None] | None = None
        self._weight: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()

    def get(self, codes: Tensor) -> Tensor:
        """The packed form of codes (out, in)."""
        version = None if codes.is_inference() else codes._version
        if self._key is None or self._key[0] is not codes or self._key[1] != version:
            self._key, self._weight = (codes, version), torch.ops.onednn.qlinear_prepack(codes, None)
        return self._weight


def int8_product(rows: Tensor, codes: Tensor, scale: Tensor, prepacked: Prepacked) -> Tensor:
    """(rows · codesᵀ) ∘ scaleᵀ: int8 rows (N, in) and codes (out, in), scale (out, 1); fp32 (N, out), a new tensor.

    CPU with VNNI or AMX: oneDNN, which multiplies with the scale as it writes; `torch._int_mm` under torch.compile,
    which fuses what stands around it. CUDA: `torch._int_mm` for the shapes it takes. Anything else (older CPUs, ARM,
    MPS): an fp32 product of the codes, equal up to fp32 rounding and no faster than fp32. `rows` may be overwritten.
    """
    kernel = _kernel(rows, codes)
    if kernel == "onednn":
        # Signed rows have no fast kernel without AMX (a reference loop, 6,000 times slower): u8 = s8 + 128 do.
        shifted = rows.view(torch.uint8).bitwise_xor_(SHIFT)
        zero = torch.zeros(len(codes), dtype=torch.int32)
        return torch.ops.onednn.qlinear_pointwise(
            shifted,
            1.0,
            SHIFT,
            prepacked.get(codes),
            scale.flatten(),
            zero,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
    if kernel == "int_mm":
        return torch._int_mm(rows, codes.t()) * scale.t()
    with torch.autocast(rows.device.type, enabled=False):
        return (rows.to(scale.dtype) @ codes.to(scale.dtype).t()) * scale.t()


def _kernel(rows: Tensor, codes: Tensor) -> str:
    device = rows.device.type
    if device == "cuda":
        fits = len(rows) > 16 and not codes.shape[0] % 8 and not codes.shape[1] % 8
        return "int_mm" if fits else "dequantize"
    if device != "cpu" or not len(rows):
        return "dequantize"
    if torch.compiler.is_compiling():  # oneDNN's packed weight is opaque to the compiler
        return "int_mm" if "avx512_vnni" in FEATURES else "dequantize"
    if FEATURES and torch.backends.mkldnn.is_available():
        return "onednn"
    return "dequantize"
