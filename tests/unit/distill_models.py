"""Tiny teachers, students and texts for the distillation tests."""

import torch

from coursekit.distill import fresh_student, init_from_teacher
from coursekit.models import Encoder, SequenceClassifier, TransformerConfig
from coursekit.train import TextBatches, TrainConfig

SHAPE = TransformerConfig(
    vocab_size=40, hidden_size=24, num_layers=6, num_heads=4, intermediate_size=36, max_positions=24, dropout=0.0
)
NARROW = SHAPE.replace(num_layers=3, hidden_size=16, intermediate_size=24)
FAST = TrainConfig(steps=6, lr=2e-3, precision="fp32", log_every=1, warmup=0.0)


def model(kind=SequenceClassifier, config=SHAPE, seed=0, scale=8.0, labels=2):
    """A model of random weights, larger than at the start of a training so that its answers differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Encoder(config)
        if kind is not Encoder:
            made = kind(made, labels) if kind is SequenceClassifier else kind(made)
        with torch.no_grad():
            for weight in made.parameters():
                if weight.dim() > 1:
                    weight.mul_(scale)
    return made.eval()


def texts(count=24, seed=0, shuffle=None, batch_size=8, **columns):
    """Texts of 3 to 12 tokens whose label is whether their second token is even."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 13, (count,), generator=generator).tolist()
    sequences = [[2, *torch.randint(5, 40, (n - 2,), generator=generator).tolist(), 3] for n in lengths]
    columns.setdefault("labels", [sequence[1] % 2 for sequence in sequences])
    return TextBatches(sequences, pad_id=0, batch_size=batch_size, seed=shuffle, **columns)


def weights(module):
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def narrow(teacher, seed=0):
    """A student of another width, at random."""
    return fresh_student(teacher, seed=seed, num_layers=3, hidden_size=16, intermediate_size=24)


def start(teacher, recipe, **shape):
    """A student as its recipe begins it."""
    return init_from_teacher(teacher, recipe.start) if recipe.start else fresh_student(teacher, num_layers=3, **shape)
