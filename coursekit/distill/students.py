"""How a student begins: with layers of its teacher, or with random weights."""

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from coursekit.distill.layers import LayerMatch
from coursekit.distill.states import encoder_of
from coursekit.models import Encoder, MaskedLM, SequenceClassifier
from coursekit.train.runtime import own_random_numbers

Model = TypeVar("Model", Encoder, MaskedLM, SequenceClassifier)


def init_from_teacher(teacher: Model, match: LayerMatch, *, bare: bool = False) -> Model:
    """A student with copies of the teacher's layers match.attention, of its embeddings and of its head.

    Copies share nothing with the teacher, nor with each other where the teacher's layers are shared. bare: without
    pooler and token types, as DistilBERT; the vector of type 0, which single texts get everywhere, is added to the
    positions (the released code drops it). Raises ValueError unless the match names a teacher layer for each student
    layer 0, 1, 2… once.
    """
    layers, encoder = encoder_of(teacher).layers, encoder_of(teacher)
    kept = dict(match.attention)
    if not kept or sorted(kept) != list(range(len(match.attention))):
        raise ValueError(f"to begin with the teacher's layers each student layer needs one, got {match.attention}")
    if (deepest := max(kept.values())) >= len(layers):
        raise ValueError(f"the match takes layer {deepest}, the teacher has layers 0 to {len(layers) - 1}")
    config = encoder.config.replace(num_layers=len(kept), sharing=None)
    student = _copy_without_layers(teacher)
    inner = encoder_of(student)
    inner.layers = nn.ModuleList(copy.deepcopy(layers[kept[number]]) for number in range(len(kept)))
    if bare:
        config = config.replace(token_types=0, pooler=False)
        _make_bare(student)
    inner.config = inner.embeddings.config = config
    return student.requires_grad_(True)


def fresh_student(teacher: Model, *, seed: int = 0, **shape: Any) -> Model:
    """A student of the teacher's kind, vocabulary and labels with random weights.

    shape: fields of `TransformerConfig` in which it differs, such as num_layers, hidden_size, num_heads and
    intermediate_size.
    """
    config = encoder_of(teacher).config.replace(**shape)
    with own_random_numbers(seed, torch.device("cpu")):
        encoder = Encoder(config)
        if isinstance(teacher, SequenceClassifier):
            return SequenceClassifier(encoder, teacher.num_labels).eval()
        return (MaskedLM(encoder) if isinstance(teacher, MaskedLM) else encoder).eval()


def _copy_without_layers(teacher: Model) -> Model:
    """A deep copy that does not copy the layers first."""
    layers = encoder_of(teacher).layers
    return copy.deepcopy(teacher, {id(layers): nn.ModuleList()})


def _make_bare(student: nn.Module) -> None:
    encoder = encoder_of(student)
    embeddings = encoder.embeddings
    if embeddings.token_type is not None and embeddings.position is not None:
        with torch.no_grad():
            embeddings.position.weight += embeddings.token_type.weight[0]
    embeddings.token_type = None
    if isinstance(student, SequenceClassifier) and student.dense is None:
        student.dense = encoder.pooler
    encoder.pooler = None
