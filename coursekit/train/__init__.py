"""One training loop on Accelerate, its checkpoints, evaluation, and the fine-tuned teacher of the course."""

from coursekit.train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from coursekit.train.config import TrainConfig, learning_rate, make_optimizer
from coursekit.train.evaluation import evaluate, predict
from coursekit.train.loop import train
from coursekit.train.pieces import Batches, DivergedError, Frozen, Loss, LossFunction, TrainResult
from coursekit.train.runtime import has_bf16
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
from coursekit.train.text import TextBatches, classification_loss, inputs

__all__ = [
    "Batches",
    "CheckpointError",
    "DivergedError",
    "Frozen",
    "Loss",
    "LossFunction",
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
    "predict",
    "pretrained_encoder",
    "save_checkpoint",
    "text_batches",
    "train",
]
