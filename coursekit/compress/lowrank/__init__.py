"""Low rank: one matrix kept as a product of two smaller ones; and LoRA, one update kept so."""

from coursekit.compress.lowrank.embeddings import factorize_embeddings
from coursekit.compress.lowrank.factors import (
    aware_factors,
    break_even_rank,
    corrected_bias,
    rank_for_budget,
    spectrum,
    svd_factors,
)
from coursekit.compress.lowrank.layers import LowRankLinear, factorize
from coursekit.compress.lowrank.lora import LoRALinear, add_lora, merge_lora
from coursekit.compress.lowrank.model import compress, factorizable, low_rank_report, plan_ranks
from coursekit.compress.lowrank.moments import InputMoments, input_moments, moments_of

__all__ = [
    "InputMoments",
    "LoRALinear",
    "LowRankLinear",
    "add_lora",
    "aware_factors",
    "break_even_rank",
    "compress",
    "corrected_bias",
    "factorizable",
    "factorize",
    "factorize_embeddings",
    "input_moments",
    "low_rank_report",
    "merge_lora",
    "moments_of",
    "plan_ranks",
    "rank_for_budget",
    "spectrum",
    "svd_factors",
]
