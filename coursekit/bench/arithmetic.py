"""Operations and bytes of a training step, by arithmetic.

The FLOPs of a training step are three times those of its forward pass: the backward pass multiplies twice, once for the
gradient of the weights and once for that of the inputs (Kaplan et al. 2020, section 2.1, count 6 per weight and token).
"""

import math
from dataclasses import dataclass

import torch

from coursekit.measure import count_flops, count_parameters
from coursekit.models import Encoder, MaskedLM, Seq2Seq, Seq2SeqConfig, TransformerConfig
from coursekit.models.attention import PLAIN_TRAINING_LENGTH
from coursekit.train.runtime import own_random_numbers

HIDDEN_SHARE = 0.15  # of the tokens, which alone are scored against the vocabulary
BYTES = {"weights": 4, "gradients": 4, "optimizer": 8}  # per weight: fp32, and two moments of AdamW
Config = TransformerConfig | Seq2SeqConfig


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the end of a forward pass, when they are most."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def sharded(self, devices: int) -> int:
        """Bytes per device where weights, gradients and optimizer are split over the devices, as FSDP does."""
        return math.ceil((self.weights + self.gradients + self.optimizer) / devices) + self.activations


def tokens_read(config: Config, length: int) -> int:
    """Tokens of one example: of a text, or of a source and a target."""
    return 2 * length if isinstance(config, Seq2SeqConfig) else length


def training_flops(config: Config, length: int) -> float:
    """FLOPs of one example of `length` tokens (source and target each) in a training step: 3 × its forward pass.

    An encoder predicts the hidden 15 % of its tokens, and only these meet the vocabulary.
    """
    model = trained_model(config)
    if isinstance(model, Seq2Seq):
        return 3 * count_flops(model, 1, length)
    encoder = count_flops(model.encoder, 1, length)
    return 3 * (encoder + HIDDEN_SHARE * (count_flops(model, 1, length) - encoder))


def training_memory(config: Config, batch: int, length: int, precision: str = "fp32", device: str = "cpu") -> Memory:
    """Bytes that a step of AdamW needs on one device; weights stay in fp32 in either precision."""
    weights = count_parameters(trained_model(config)).total
    state = {name: size * weights for name, size in BYTES.items()}
    return Memory(**state, activations=activation_bytes(config, batch, length, precision, device))


def activation_bytes(config: Config, batch: int, length: int, precision: str = "fp32", device: str = "cpu") -> int:
    """Bytes that a forward pass keeps for the backward pass; a shared layer keeps them each time it runs.

    Numbers per token and layer: inputs of the products 2H (attention, FFN) + H (context) + I, queries, keys and values
    3H, what the activation sees I, what the two LayerNorms see 2H: 8H + 2I. In bf16 the LayerNorms' 2H stay in fp32,
    and queries, keys and values each keep a cast of their common input: 2H more. Dropout keeps what it drew, 2H.
    Cross-attention adds 6H. Then the scores of the vocabulary: V in the model's precision and V in fp32 for the
    softmax, for each token that is predicted.
    """
    encoder = config.encoder if isinstance(config, Seq2SeqConfig) else config
    small, depths = 2 if precision == "bf16" else 4, encoder.num_layers
    per_token = sum(_layer_bytes(encoder, depth, length, precision, device) for depth in range(depths))
    predicted = HIDDEN_SHARE
    if isinstance(config, Seq2SeqConfig):
        crossed = config.decoder_layers * (small * 5 + 4) * encoder.hidden_size
        per_token += per_token * config.decoder_layers / depths + crossed
        predicted = 1.0
    vocabulary = predicted * (small + 4) * encoder.vocab_size
    return round(batch * length * (per_token + vocabulary))


def _layer_bytes(config: TransformerConfig, depth: int, length: int, precision: str, device: str) -> int:
    """Of one token in one layer."""
    hidden, heads, wide = config.hidden_size, config.num_heads, config.intermediate_size
    if config.inner_size is not None and 0 < depth < config.num_layers - 1:
        hidden, heads, wide = config.inner_size, config.inner_heads, config.inner_intermediate_size
    half = precision == "bf16"
    small = 2 if half else 4
    kept = small * ((8 if half else 6) * hidden + 2 * wide) + 4 * 2 * hidden
    if config.dropout:
        kept += 2 * hidden * (small if device == "cpu" else 1)  # on a GPU what was drawn is a bit in a byte
    if device == "cpu" and length <= PLAIN_TRAINING_LENGTH and (half or config.dropout):
        # Here the course's models form the probabilities, and keep them; with dropout what it drew and made too.
        kept += heads * length * small * (3 if config.dropout else 1)
    return kept


def trained_model(config: Config, device: str = "meta") -> MaskedLM | Seq2Seq:
    """What is pretrained: a Seq2Seq, or an encoder with the head of a masked LM and without a pooler."""
    with torch.device(device), own_random_numbers(0, torch.device(device)):
        if isinstance(config, Seq2SeqConfig):
            return Seq2Seq(config)
        return MaskedLM(Encoder(config.replace(pooler=False)))
