"""One transformer, described by data: configs, sharing plans, the encoder, its heads, and its files."""

from coursekit.models.attention import FeedForward, SelfAttention
from coursekit.models.config import TransformerConfig
from coursekit.models.convert import from_huggingface
from coursekit.models.embeddings import Embeddings
from coursekit.models.encoder import Capture, Encoder, EncoderOutput, Layer, LayerStates
from coursekit.models.heads import HeadOutput, MaskedLM, SequenceClassifier
from coursekit.models.presets import build, preset, presets
from coursekit.models.sharing import SharingPlan
from coursekit.models.storage import load, replace_module, save

__all__ = [
    "Capture",
    "Embeddings",
    "Encoder",
    "EncoderOutput",
    "FeedForward",
    "HeadOutput",
    "Layer",
    "LayerStates",
    "MaskedLM",
    "SelfAttention",
    "SequenceClassifier",
    "SharingPlan",
    "TransformerConfig",
    "build",
    "from_huggingface",
    "load",
    "preset",
    "presets",
    "replace_module",
    "save",
]
