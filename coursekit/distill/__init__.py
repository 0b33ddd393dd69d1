"""Knowledge distillation: losses, layer maps, recipes, and the engine that carries them out."""

from coursekit.distill.cache import CachedBatches, TeacherCache, cache_teacher
from coursekit.distill.engine import DistillResult, distill
from coursekit.distill.layers import LayerMatch, match_layers
from coursekit.distill.losses import (
    attention_kl,
    attention_mse,
    cosine_loss,
    hard_loss,
    hidden_mse,
    patient_loss,
    relation_kl,
    soft_target_loss,
    top_target_loss,
    top_targets,
    value_relation_kl,
)
from coursekit.distill.pair import Distillation, distillation_loss
from coursekit.distill.recipes import (
    Recipe,
    Replacing,
    Stage,
    distilbert,
    minilm,
    needs_assistant,
    pkd,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.distill.replacing import Theseus
from coursekit.distill.sampling import smoothed_mask
from coursekit.distill.students import fresh_student, init_from_teacher
from coursekit.distill.terms import KINDS, Term

__all__ = [
    "CachedBatches",
    "DistillResult",
    "Distillation",
    "KINDS",
    "LayerMatch",
    "Recipe",
    "Replacing",
    "Stage",
    "TeacherCache",
    "Term",
    "Theseus",
    "attention_kl",
    "attention_mse",
    "cache_teacher",
    "cosine_loss",
    "distilbert",
    "distill",
    "distillation_loss",
    "fresh_student",
    "hard_loss",
    "hidden_mse",
    "init_from_teacher",
    "match_layers",
    "minilm",
    "needs_assistant",
    "patient_loss",
    "pkd",
    "relation_kl",
    "smoothed_mask",
    "soft_and_hard",
    "soft_target_loss",
    "theseus",
    "tinybert",
    "top_target_loss",
    "top_targets",
    "value_relation_kl",
]
