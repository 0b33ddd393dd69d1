"""Pruning: which weights, heads, neurons, layers and words can go, and what is really gained by it."""

from coursekit.compress.pruning.calibration import calibrate
from coursekit.compress.pruning.importance import best_neurons, head_importance, least_heads, neuron_importance
from coursekit.compress.pruning.lottery import LotteryRound, lottery_ticket
from coursekit.compress.pruning.masked import MaskedLinear, apply_masks, finalize, magnitude_masks, prunable
from coursekit.compress.pruning.masks import (
    block_mask,
    cubic_sparsity,
    global_magnitude_masks,
    magnitude_mask,
    n_m_mask,
    wanda_mask,
)
from coursekit.compress.pruning.schedule import by_threshold, gradually, score_penalty, set_sparsity
from coursekit.compress.pruning.storage import SparseBytes, pruning_report, sparse_bytes
from coursekit.compress.pruning.structured import drop_layers, prune_ffn, prune_heads
from coursekit.compress.pruning.vocabulary import prune_tokenizer, prune_vocabulary, task_vocabulary

__all__ = [
    "MaskedLinear",
    "LotteryRound",
    "SparseBytes",
    "apply_masks",
    "best_neurons",
    "block_mask",
    "by_threshold",
    "calibrate",
    "cubic_sparsity",
    "drop_layers",
    "finalize",
    "global_magnitude_masks",
    "gradually",
    "head_importance",
    "least_heads",
    "lottery_ticket",
    "magnitude_mask",
    "magnitude_masks",
    "n_m_mask",
    "neuron_importance",
    "prunable",
    "prune_ffn",
    "prune_heads",
    "prune_tokenizer",
    "prune_vocabulary",
    "pruning_report",
    "score_penalty",
    "set_sparsity",
    "sparse_bytes",
    "task_vocabulary",
    "wanda_mask",
]
