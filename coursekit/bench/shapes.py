"""The encoders that benchmarks are taken of, from tiny to BERT-base, and what they read."""

import torch
from torch import Tensor, nn

from coursekit.data import Tokenizer, fetch, load_task
from coursekit.models import Encoder, TransformerConfig, from_huggingface
from coursekit.train import has_bf16

TINY, MINILM, BASE = "tiny 4 × 256", "MiniLM 6 × 384", "BERT-base 12 × 768"
MODELS = {
    TINY: TransformerConfig(30522, 256, 4, 4, 1024),
    MINILM: TransformerConfig(30522, 384, 6, 12, 1536),
    BASE: TransformerConfig(30522, 768, 12, 12, 3072),
}


def config_of(model: str | TransformerConfig) -> TransformerConfig:
    """The config of a model by its name here, or as given."""
    return MODELS[model] if isinstance(model, str) else model


def named(model: str | TransformerConfig) -> str:
    """A model in words: its name here, or its layers and width."""
    return model if isinstance(model, str) else f"{model.num_layers} × {model.hidden_size}"


def make_encoder(config: TransformerConfig) -> Encoder:
    """The real MiniLM encoder for its own shape, else random weights, whose values cost and save nothing.

    Errors are another matter: those of random weights show that a method works, not what it does to a trained model.
    """
    if config == MODELS[MINILM]:
        return from_huggingface(fetch("minilm"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(config).eval()


def make_inputs(config: TransformerConfig, batch: int, length: int, device: str) -> tuple[Tensor, ...]:
    """Ids (batch, length), full rows: real sentences in a row for MiniLM, else random ids."""
    if config == MODELS[MINILM]:
        texts = Tokenizer(fetch("minilm")).encode(load_task("rotten-tomatoes").test.texts)
        tokens = torch.tensor([token for text in texts for token in text][: batch * length])
        return (tokens.view(batch, length).to(device),)
    return random_inputs(config, batch, length, device)


def random_inputs(config: TransformerConfig, batch: int, length: int, device: str) -> tuple[Tensor, ...]:
    """Random ids (batch, length), as many as asked for: time does not depend on what they say."""
    generator = torch.Generator().manual_seed(1)
    return (torch.randint(1, config.vocab_size, (batch, length), generator=generator).to(device),)


def states(model: nn.Module, *inputs: Tensor) -> Tensor:
    """The last hidden states (B, T, H)."""
    return model(*inputs).last_hidden


def half_precision(device: str) -> torch.dtype:
    """The 16-bit numbers that a device multiplies fast; fp32 on a CPU that has none."""
    if has_bf16(device):
        return torch.bfloat16
    return torch.float32 if device == "cpu" else torch.float16
