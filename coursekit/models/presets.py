"""Published shapes by name. A preset counts what the published model class counts (pooler or not)."""

from collections.abc import Callable

import torch

from coursekit.errors import unknown_name
from coursekit.models.config import TransformerConfig
from coursekit.models.encoder import Encoder
from coursekit.models.seq2seq import Seq2Seq, Seq2SeqConfig
from coursekit.models.sharing import SharingPlan


def _bert(layers: int, hidden: int, heads: int, intermediate: int, **others: object) -> TransformerConfig:
    return TransformerConfig(30522, hidden, layers, heads, intermediate, **others)


def _albert(layers: int, hidden: int, heads: int) -> TransformerConfig:
    return TransformerConfig(
        vocab_size=30000,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=4 * hidden,
        embedding_size=128,
        embedding="factorised",
        sharing=SharingPlan.all(layers),
        dropout=0.0,  # as the released v2 models
        activation="gelu_tanh",
    )


def _heads(size: int) -> int:
    """Subformer's released rule: heads of 64 (80 at 640, 128 above 1024), or ten where 64 does not divide."""
    if size == 640:
        return 8
    head_size = 128 if size > 1024 else 64
    return size // head_size if size % head_size == 0 else 10


def subformer(
    hidden: int,
    intermediate: int,
    layers: int = 6,
    plan: Callable[..., SharingPlan] = SharingPlan.none,
    *,
    embedding: str = "full",
    embedding_size: int | None = None,
    inner: int | None = None,
    inner_intermediate: int | None = None,
) -> Seq2SeqConfig:
    """A row of Subformer's Tables 1 to 3: `layers` depths a side and the joint vocabulary of 32,768 pieces.

    plan makes the sharing of each side from its depth and keeps every LayerNorm, as the released code does.
    """
    return Seq2SeqConfig(
        TransformerConfig(
            vocab_size=32768,
            hidden_size=hidden,
            num_layers=layers,
            num_heads=_heads(hidden),
            intermediate_size=intermediate,
            embedding=embedding,
            embedding_size=embedding_size,
            embedding_heads=_heads(embedding_size) if embedding == "safe" else None,
            sharing=plan(layers, norms="private"),
            activation="relu",
            layer_norm_eps=1e-5,
            max_positions=1024,
            token_types=0,
            pooler=False,
            positions="sinusoidal",
            inner_size=inner,
            inner_heads=_heads(inner) if inner else None,
            inner_intermediate_size=inner_intermediate,
        ),
        decoder_layers=layers,
        decoder_sharing=plan(layers, norms="private", cross=True),
    )


_SANDWICH = SharingPlan.sandwich
PRESETS: dict[str, TransformerConfig | Seq2SeqConfig] = {
    "bert-base": _bert(12, 768, 12, 3072),
    "bert-large": _bert(24, 1024, 16, 4096),
    "albert-base": _albert(12, 768, 12),
    "albert-large": _albert(24, 1024, 16),
    "albert-xlarge": _albert(24, 2048, 32),
    "albert-xxlarge": _albert(12, 4096, 64),
    "distilbert-base": _bert(6, 768, 12, 3072, token_types=0, pooler=False),
    "tinybert-4": _bert(4, 312, 12, 1200),
    "tinybert-6": _bert(6, 768, 12, 3072),
    "minilm-l12-h384": _bert(12, 384, 12, 1536),
    "minilm-l6-h384": _bert(6, 384, 12, 1536),
    # FFN widths and small's inner one are those that give the published counts; the paper does not state them all.
    "subformer-small": subformer(
        512, 2048, 8, _SANDWICH, embedding="safe", embedding_size=256, inner=768, inner_intermediate=2048
    ),
    "subformer-base": subformer(
        512, 2048, 6, _SANDWICH, embedding="safe", embedding_size=320, inner=1024, inner_intermediate=3072
    ),
    "subformer-mid": subformer(
        768, 3072, 6, _SANDWICH, embedding="safe", embedding_size=350, inner=768, inner_intermediate=3072
    ),
    "subformer-large": subformer(
        1024, 4096, 6, _SANDWICH, embedding="safe", embedding_size=512, inner=2048, inner_intermediate=8192
    ),
    "transformer-base": subformer(512, 2048),
    "transformer-big": subformer(1024, 4096),
}


def presets() -> list[str]:
    """Names that `preset` knows."""
    return list(PRESETS)


def preset(name: str) -> TransformerConfig | Seq2SeqConfig:
    """The config of a published model. Raises ValueError with the nearest names for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def build(
    config: TransformerConfig | Seq2SeqConfig | str, *, device: torch.device | str | None = None
) -> Encoder | Seq2Seq:
    """A freshly initialised model from a config or a preset's name; `device="meta"` builds shapes without memory."""
    if isinstance(config, str):
        config = preset(config)
    with torch.device(device or torch.get_default_device()):
        return Seq2Seq(config) if isinstance(config, Seq2SeqConfig) else Encoder(config)
