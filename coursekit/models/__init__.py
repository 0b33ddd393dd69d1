"""One transformer, described by data: configs, sharing plans, the encoder, its heads, and its files."""

from coursekit.models.attention import Attention, FeedForward
from coursekit.models.config import TransformerConfig
from coursekit.models.convert import from_huggingface
from coursekit.models.embeddings import Embeddings
from coursekit.models.encoder import Capture, Encoder, EncoderOutput, LayerStates
from coursekit.models.generation import generate
from coursekit.models.heads import HeadOutput, MaskedLM, SequenceClassifier
from coursekit.models.layers import Layer
from coursekit.models.presets import build, preset, presets
from coursekit.models.seq2seq import Seq2Seq, Seq2SeqConfig, Seq2SeqOutput
from coursekit.models.sharing import SharingPlan
from coursekit.models.storage import load, replace_module, save
from coursekit.models.tying import share_layers

__all__ = [
    "Attention",
    "Capture",
    "Embeddings",
    "Encoder",
    "EncoderOutput",
    "FeedForward",
    "HeadOutput",
    "Layer",
    "LayerStates",
    "MaskedLM",
    "Seq2Seq",
    "Seq2SeqConfig",
    "Seq2SeqOutput",
    "SequenceClassifier",
    "SharingPlan",
    "TransformerConfig",
    "build",
    "from_huggingface",
    "generate",
    "load",
    "preset",
    "presets",
    "replace_module",
    "save",
    "share_layers",
]
