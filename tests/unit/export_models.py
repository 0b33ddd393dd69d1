"""Small models of every shape with large weights, for what is exported."""

import torch

from coursekit.models import Encoder, SequenceClassifier, SharingPlan, TransformerConfig

PLAIN = TransformerConfig(60, 32, 4, 4, 48, max_positions=24)
CONFIGS = {
    "bert": PLAIN,
    "albert": PLAIN.replace(
        embedding="factorised", embedding_size=8, sharing=SharingPlan.all(4), activation="gelu_tanh"
    ),
    "distilbert": PLAIN.replace(token_types=0, pooler=False, activation="relu"),
    "sandwich, safe": PLAIN.replace(
        embedding="safe", embedding_size=8, embedding_heads=2, sharing=SharingPlan.sandwich(4), activation="silu"
    ),
    "linear, pre-norm, tanh": PLAIN.replace(embedding="linear", embedding_size=8, norm_first=True, activation="tanh"),
    "sinusoidal, wide middle": PLAIN.replace(
        positions="sinusoidal",
        token_types=0,
        sharing=SharingPlan.sandwich(4),
        inner_size=48,
        inner_heads=6,
        inner_intermediate_size=64,
    ),
}


def large(model):
    """Weights large enough that a swapped or missing one is seen."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def classifier(config=PLAIN):
    return large(SequenceClassifier(Encoder(config), 3))


def batch(rows, length, types):
    """A row is padded, the last one without any real token."""
    generator = torch.Generator().manual_seed(length)
    given = {"input_ids": torch.randint(1, 60, (rows, length), generator=generator)}
    given["attention_mask"] = torch.ones(rows, length, dtype=torch.long)
    given["attention_mask"][0, length // 2 + 1 :] = 0
    if rows > 1:
        given["attention_mask"][-1] = 0
    if types:
        given["token_type_ids"] = torch.randint(0, types, (rows, length), generator=generator)
    return given
