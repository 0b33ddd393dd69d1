"""Making a trained model smaller: low rank, pruning, quantization, and the report common to them.

Each family has its own names: `from coursekit.compress.pruning import prune_heads`.
"""

from coursekit.compress import lowrank, pruning, quantization
from coursekit.compress.calibration import watch_inputs
from coursekit.compress.lowrank import factorize_embeddings
from coursekit.compress.report import LayerReport, Report

__all__ = ["LayerReport", "Report", "factorize_embeddings", "lowrank", "pruning", "quantization", "watch_inputs"]
