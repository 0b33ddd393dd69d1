"""Quantization: numbers as small integers and a scale; what that saves, what it costs, and how to pay less."""

from coursekit.compress.quantization.affine import QuantizedTensor, affine_parameters, fake_quantize, quantize
from coursekit.compress.quantization.embedding import QuantizedEmbedding
from coursekit.compress.quantization.gptq import gptq
from coursekit.compress.quantization.layers import (
    Int3Linear,
    Int4Linear,
    Int8Linear,
    QuantizedLinear,
    TernaryLinear,
)
from coursekit.compress.quantization.model import quantizable, quantization_report, quantize_model
from coursekit.compress.quantization.packing import pack_int4, unpack_int4
from coursekit.compress.quantization.qat import FakeQuantLinear, convert_qat, prepare_qat
from coursekit.compress.quantization.schemes import SCHEMES, Scheme
from coursekit.compress.quantization.smooth import fold_into_norm, smooth_scales
from coursekit.compress.quantization.static import InputStatistics, RangeObserver, input_statistics
from coursekit.compress.quantization.ternary import ternarize

__all__ = [
    "SCHEMES",
    "FakeQuantLinear",
    "InputStatistics",
    "Int3Linear",
    "Int4Linear",
    "Int8Linear",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedTensor",
    "RangeObserver",
    "Scheme",
    "TernaryLinear",
    "affine_parameters",
    "convert_qat",
    "fake_quantize",
    "fold_into_norm",
    "gptq",
    "input_statistics",
    "pack_int4",
    "prepare_qat",
    "quantizable",
    "quantization_report",
    "quantize",
    "quantize_model",
    "smooth_scales",
    "ternarize",
    "unpack_int4",
]
