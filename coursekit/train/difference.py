"""A trained masked language model as a small file: what changed against the encoder that training began with."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from coursekit.files import atomic_file
from coursekit.models import Encoder, MaskedLM

_CODES, _SCALES = ".codes", ".scales"


def write_difference(file: Path | str, model: MaskedLM, start: Encoder) -> None:
    """Write model − start, one tensor for each weight that changed; the head whole.

    Matrices as 8-bit codes with one scale per row: a change is much smaller than the weight, and so is its rounding
    error. Vectors as they are. Raises ValueError if the encoders differ in their weights' names or shapes.
    """
    before, after, tensors = _weights(_with_head(start)), _weights(model), {}
    _check_same(after, before)
    for name, weight in after.items():
        change = weight if name.startswith("head.") else weight - before[name]
        if not change.any() and not name.startswith("head."):
            continue
        if change.dim() < 2:
            tensors[name] = change.contiguous()
            continue
        scales = change.abs().amax(1, keepdim=True) / 127
        codes = (change / scales.clamp_min(torch.finfo(scales.dtype).tiny)).round().to(torch.int8)
        tensors |= {name + _CODES: codes, name + _SCALES: scales}
    with atomic_file(Path(file)) as part:
        save_file(tensors, part)


def read_difference(file: Path | str, start: Encoder) -> MaskedLM:
    """The model of `write_difference`, in evaluation mode; start becomes its encoder.

    Raises ValueError if the file cannot be read or does not fit the encoder.
    """
    model = _with_head(start)
    weights = _weights(model)
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} holds no weights: {error}") from error
    changes = {n: t for n, t in stored.items() if not n.endswith((_CODES, _SCALES))}
    for name in (n.removesuffix(_CODES) for n in stored if n.endswith(_CODES)):
        changes[name] = stored[name + _CODES] * stored[name + _SCALES]
    heads = {name: weight for name, weight in weights.items() if name.startswith("head.")}
    _check_same(changes | {n: w for n, w in weights.items() if n not in changes and n not in heads}, weights)
    with torch.no_grad():
        for name, change in changes.items():
            weights[name].copy_(change if name in heads else weights[name] + change)
    return model.eval()


def _with_head(encoder: Encoder) -> MaskedLM:
    """A masked language model whose head is about to be overwritten: its random start must not be felt elsewhere."""
    with torch.random.fork_rng([]):
        return MaskedLM(encoder)


def _weights(model: MaskedLM) -> dict[str, Tensor]:
    """Each weight once, by name."""
    return {name: weight.detach() for name, weight in model.named_parameters()}


def _check_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if names := sorted(found.keys() ^ expected.keys()):
        raise ValueError(f"the difference and the encoder disagree about {', '.join(names[:3])}")
    for name, weight in expected.items():
        if found[name].shape != weight.shape:
            raise ValueError(f"{name} has shape {tuple(found[name].shape)}; the encoder's is {tuple(weight.shape)}")
