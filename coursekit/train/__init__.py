"""One training loop on Accelerate, its checkpoints, evaluation, pretraining, and the course's fine-tuned teacher."""

from coursekit.train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from coursekit.train.config import TrainConfig, learning_rate, make_optimizer
from coursekit.train.evaluation import evaluate, predict, regression_metrics
from coursekit.train.loop import train
from coursekit.train.pieces import Batches, DivergedError, Frozen, Loss, LossFunction, TrainResult
from coursekit.train.pretrain import MaskedBatches, masked_lm_loss, masked_lm_metrics, rows_of_tokens
from coursekit.train.runtime import has_bf16
from coursekit.train.seq2seq import PairBatches, pair_batches, score_pairs, translate, translation_loss
from coursekit.train.teacher import (
    PROFILES,
    Profile,
    Teacher,
    accuracy,
    finetune,
    load_teacher,
    pretrained_encoder,
    text_batches,
)
from coursekit.train.text import TextBatches, classification_loss, inputs, regression_loss

__all__ = [
    "Batches",
    "CheckpointError",
    "DivergedError",
    "Frozen",
    "Loss",
    "LossFunction",
    "MaskedBatches",
    "PairBatches",
    "PROFILES",
    "Profile",
    "Teacher",
    "TextBatches",
    "TrainConfig",
    "TrainResult",
    "accuracy",
    "classification_loss",
    "evaluate",
    "finetune",
    "has_bf16",
    "inputs",
    "learning_rate",
    "load_checkpoint",
    "load_teacher",
    "make_optimizer",
    "masked_lm_loss",
    "masked_lm_metrics",
    "pair_batches",
    "predict",
    "pretrained_encoder",
    "regression_loss",
    "regression_metrics",
    "rows_of_tokens",
    "save_checkpoint",
    "score_pairs",
    "text_batches",
    "train",
    "translate",
    "translation_loss",
]
