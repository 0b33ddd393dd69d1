"""Our models for other people's programs: ONNX files and transformers folders."""

from coursekit.export.folding import plain
from coursekit.export.huggingface import to_huggingface
from coursekit.export.onnx_file import to_onnx

__all__ = ["plain", "to_huggingface", "to_onnx"]
