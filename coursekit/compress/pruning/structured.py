"""Heads, neurons and layers taken out of an encoder: what is left is a smaller dense model, faster everywhere.

All change the encoder in place and return what they were given: an `Encoder`, or a model with a head around one. They
check everything first, so after an error nothing has changed; NaN or infinite weights anywhere in the model are one.
Inside a `Seq2Seq`, whose config is another, only heads and neurons can go.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from coursekit.compress.checks import check_finite
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan, TransformerConfig

Model = TypeVar("Model", Encoder, MaskedLM, SequenceClassifier)


def prune_heads(encoder: Model, heads: Mapping[int, Iterable[int]]) -> Model:
    """Remove attention heads: rows of query, key and value with their biases, columns of the output projection.

    heads: layer → numbers of the heads to go, counted as they are now. The same outputs as with those columns set to
    zero (Michel et al. 2019, section 2.1); head size and scale 1/√d stay. Attention shared by several depths loses
    the head in all of them; depths that share it must not ask for different heads. The config still says what was
    built, the layers describe themselves. Raises ValueError for a layer or head that does not exist, all heads of a
    layer, or projections that are not plain linear layers.
    """

    def check(where: str, attention: nn.Module, numbers: list[int]) -> None:
        if len(numbers) == attention.num_heads:
            raise ValueError(f"{where} would lose all its {len(numbers)} heads; drop_layers removes a whole layer")

    blocks = _chosen(encoder, heads, "attention", "head", lambda block: block.num_heads, check)
    for attention, numbers in blocks:
        left = [head for head in range(attention.num_heads) if head not in numbers]
        size = attention.head_size
        kept = [row for head in left for row in range(head * size, (head + 1) * size)]
        for linear in (attention.query, attention.key, attention.value):
            _keep_outputs(linear, kept)
        _keep_inputs(attention.output, kept)
        attention.num_heads = len(left)
    return encoder


def prune_ffn(encoder: Model, keep: Mapping[int, Iterable[int]]) -> Model:
    """Keep only some neurons of feed-forward blocks: rows of `up` with their biases, columns of `down`.

    keep: layer → numbers of the neurons to keep, counted as they are now; other layers stay. The same outputs as with
    the other columns of `down` set to zero. (Zeroing rows of `up` alone would leave act(bias) flowing.) Sharing as in
    `prune_heads`. Raises ValueError for a layer or neuron that does not exist, none to keep, or projections that are
    not plain linear layers.
    """

    def check(where: str, ffn: nn.Module, numbers: list[int]) -> None:
        if not numbers:
            raise ValueError(f"{where} must keep at least one of its {ffn.intermediate_size} neurons")

    blocks = _chosen(encoder, keep, "ffn", "neuron", lambda block: block.intermediate_size, check)
    for ffn, numbers in blocks:
        _keep_outputs(ffn.up, numbers)
        _keep_inputs(ffn.down, numbers)
        ffn.intermediate_size = len(numbers)
    return encoder


def drop_layers(encoder: Model, keep: Iterable[int]) -> Model:
    """Keep only some depths, in their order; config and sharing plan follow.

    What kept depths share they go on sharing. Raises ValueError for none, a layer that does not exist, numbers that
    do not rise, or, where the middle has a width of its own, a first, second or last layer that is missing.
    """
    target, kept = encoder_of(encoder), _numbers("layer", keep)
    config, depths = target.config, len(target.layers)
    for number in kept:
        if not 0 <= number < depths:
            raise ValueError(f"there is no layer {number}; the encoder has layers 0 to {depths - 1}")
    if not kept or any(after <= before for before, after in pairwise(kept)):
        raise ValueError(f"keep must be rising numbers of at least one layer, got {kept}")
    if config.inner_size is not None and not {0, 1, depths - 1} <= set(kept):
        raise ValueError(f"the width changes at layers 1 and {depths - 1}: keep 0, 1 and {depths - 1}; got {kept}")
    check_finite(encoder)
    sharing = None if config.sharing is None else _select(config.sharing, kept)
    changed = config.replace(num_layers=len(kept), sharing=sharing)
    target.layers = nn.ModuleList(target.layers[number] for number in kept)
    set_config(target, changed)
    return encoder


def encoder_of(model: nn.Module) -> Encoder:
    """The encoder itself or inside a masked LM or classifier. Raises ValueError for anything else."""
    encoder = model.encoder if isinstance(model, MaskedLM | SequenceClassifier) else model
    if not isinstance(encoder, Encoder):
        raise ValueError(f"expected an Encoder, MaskedLM or SequenceClassifier, got {type(model).__name__}")
    return encoder


def set_config(encoder: Encoder, config: TransformerConfig) -> None:
    """Give the encoder and its embeddings another config."""
    encoder.config = encoder.embeddings.config = config


def rows_of(parameter: nn.Parameter, kept: list[int], axis: int = 0) -> nn.Parameter:
    """A new parameter with these rows of another, or columns (axis 1); it trains if that did."""
    part = parameter.detach().index_select(axis, torch.tensor(kept, device=parameter.device))
    return nn.Parameter(part.contiguous(), requires_grad=parameter.requires_grad)


def _keep_outputs(linear: nn.Linear, kept: list[int]) -> None:
    linear.weight, linear.out_features = rows_of(linear.weight, kept), len(kept)
    if linear.bias is not None:
        linear.bias = rows_of(linear.bias, kept)


def _keep_inputs(linear: nn.Linear, kept: list[int]) -> None:
    linear.weight, linear.in_features = rows_of(linear.weight, kept, 1), len(kept)


def _chosen(
    model: nn.Module,
    wanted: Mapping[int, Iterable[int]],
    part: str,
    unit: str,
    size: Callable[[nn.Module], int],
    check: Callable[[str, nn.Module, list[int]], None],
) -> list[tuple[nn.Module, list[int]]]:
    """The distinct blocks behind the layers, each with its sorted unit numbers; all is checked."""
    encoder, found = encoder_of(model), {}
    for layer, units in wanted.items():
        if not isinstance(layer, int) or not 0 <= layer < len(encoder.layers):
            raise ValueError(f"there is no layer {layer!r}; the encoder has layers 0 to {len(encoder.layers) - 1}")
        block, where = getattr(encoder.layers[layer], part), f"layer {layer}"
        for name, child in block.named_children():
            if type(child) is not nn.Linear:
                raise ValueError(
                    f"{where}: {part}.{name} is a {type(child).__name__}; prune first, or make it a plain linear again"
                )
        numbers = sorted(_numbers(f"{where}: {unit}", units))
        for number in numbers:
            if not 0 <= number < size(block):
                raise ValueError(f"{where} has no {unit} {number}; it has {unit}s 0 to {size(block) - 1}")
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"{where}: a {unit} is named twice in {numbers}")
        check(where, block, numbers)
        first, _, other = found.setdefault(id(block), (layer, block, numbers))
        if numbers != other:
            raise ValueError(f"layers {first} and {layer} share their {part} but name different {unit}s")
    check_finite(model)
    return [(block, numbers) for _, block, numbers in found.values()]


def _numbers(what: str, values: Iterable[int]) -> list[int]:
    """Plain integers from any iterable or integer tensor. Raises ValueError for anything else, booleans too."""
    listed = values.tolist() if isinstance(values, Tensor) else values
    if not isinstance(listed, Iterable) or isinstance(listed, str | bytes):
        raise ValueError(f"{what} numbers must be a list of integers, got {values!r}")
    listed = list(listed)
    for value in listed:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{what} numbers must be integers, got {value!r}")
    return [value.__index__() for value in listed]


def _select(plan: SharingPlan, kept: list[int]) -> SharingPlan:
    """The plan of some of its depths, blocks numbered anew in order of first use."""

    def renumbered(numbers: list[int]) -> list[int]:
        order = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
        return [order[number] for number in numbers]

    norms = renumbered([number for depth in kept for number in plan.norm[depth]])
    width = len(plan.norm[0])
    return replace(
        plan,
        attention=tuple(renumbered([plan.attention[depth] for depth in kept])),
        ffn=tuple(renumbered([plan.ffn[depth] for depth in kept])),
        norm=tuple(tuple(norms[start : start + width]) for start in range(0, len(norms), width)),
    )
