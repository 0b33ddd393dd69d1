"""Published shapes by name. A preset counts what the published model class counts (pooler or not)."""

import torch

from coursekit.errors import unknown_name
from coursekit.models.config import TransformerConfig
from coursekit.models.encoder import Encoder
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


PRESETS = {
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
}


def presets() -> list[str]:
    """Names that `preset` knows."""
    return list(PRESETS)


def preset(name: str) -> TransformerConfig:
    """The config of a published model. Raises ValueError with the nearest names for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def build(config: TransformerConfig | str, *, device: torch.device | str | None = None) -> Encoder:
    """A freshly initialised model from a config or a preset's name; `device="meta"` builds shapes without memory."""
    if isinstance(config, str):
        config = preset(config)
    with torch.device(device or torch.get_default_device()):
        return Encoder(config)
