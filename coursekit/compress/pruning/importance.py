"""Which heads and neurons matter: how much the loss would move if their gate did.

A gate ξ = 1 is put on each unit's output, and a unit counts as E_x |∂L(x)/∂ξ| (Michel et al. 2019, equation 2), the
first-order change of the loss if it were removed. The absolute value is taken per text x, so the result does not depend
on how texts are batched. The released code takes it per batch: there, effects of texts cancel before they are summed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from coursekit.compress.pruning.masks import count_zeros, keep_largest, keep_largest_together
from coursekit.compress.pruning.structured import encoder_of
from coursekit.measure.flops import device_of
from coursekit.measure.hygiene import evaluating
from coursekit.train.pieces import Batches, LossFunction, epoch_of

Importance = dict[int, Tensor]


def head_importance(
    model: nn.Module, batches: Batches | Sequence[Any], loss: LossFunction, *, normalise: bool = True
) -> Importance:
    """Layer → importance (heads,) of its attention heads; attention shared by depths stands under the first of them.

    batches and loss(model, batch) as for `coursekit.train.train`: dicts of tensors with a text per row, and a mean
    over items. normalise: divide each layer by its L2 norm, without which lower layers with larger gradients win every
    global ranking (Michel et al., section 4.1). A text that is all padding in "attention_mask" does not count. No
    gradient is left behind. Raises ValueError for no batches, nothing but padding, or a loss that is not finite.
    """
    layers = encoder_of(model).layers
    places = {depth: (layer.attention.output, layer.attention.num_heads) for depth, layer in enumerate(layers)}
    return _importance(model, batches, loss, places, normalise)


def neuron_importance(
    model: nn.Module, batches: Batches | Sequence[Any], loss: LossFunction, *, normalise: bool = True
) -> Importance:
    """Layer → importance (neurons,) of its feed-forward block; otherwise as `head_importance`."""
    layers = encoder_of(model).layers
    places = {depth: (layer.ffn.down, layer.ffn.intermediate_size) for depth, layer in enumerate(layers)}
    return _importance(model, batches, loss, places, normalise)


def least_heads(importance: Mapping[int, Tensor], share: float) -> dict[int, list[int]]:
    """Layer → the least important heads, round(share·heads) of all layers together, for `prune_heads`.

    The best head of each layer stays, whatever its rank: a layer without heads cannot be. Raises ValueError for a
    share outside [0, 1] or one that would need such a head.
    """
    total = sum(len(scores) for scores in importance.values())
    most = total - len(importance)
    if (count := count_zeros(share, total, "share")) > most:
        raise ValueError(f"at most {most} of {total} heads can go, one stays in each layer; got {count}")
    guarded = {layer: scores.clone() for layer, scores in importance.items()}
    for scores in guarded.values():
        scores[scores.argmax()] = torch.inf
    kept = keep_largest_together(guarded, share)
    return {layer: (~mask).nonzero().flatten().tolist() for layer, mask in kept.items() if not mask.all()}


def best_neurons(importance: Mapping[int, Tensor], sparsity: float) -> dict[int, list[int]]:
    """Layer → the neurons to keep, all but round(sparsity·neurons) in every layer, for `prune_ffn`.

    Equal widths keep every layer's product large enough to be fast; rank globally with `global_magnitude_masks`.
    """
    return {layer: keep_largest(scores, sparsity).nonzero().flatten().tolist() for layer, scores in importance.items()}


def _importance(
    model: nn.Module,
    batches: Batches | Sequence[Any],
    loss: LossFunction,
    places: dict[int, tuple[nn.Module, int]],
    normalise: bool,
) -> Importance:
    first: dict[int, int] = {}  # a shared block has one gate, for it is removed everywhere or nowhere
    for depth, (module, _) in places.items():
        first.setdefault(id(module), depth)
    distinct = {depth: places[depth] for depth in first.values()}
    sums = {depth: torch.zeros(units, dtype=torch.float64) for depth, (_, units) in distinct.items()}
    items = 0.0
    device = device_of(model)
    with evaluating(model), torch.enable_grad():
        for batch in map(_without_padding_rows, epoch_of(batches, 0)):
            if batch is None:
                continue
            found, slopes = _slopes(model, send_to_device(batch, device), loss, distinct)
            items += found
            for depth, slope in slopes.items():
                sums[depth] += slope
    if not items:
        raise ValueError("importance needs at least one real token that the loss counts; the batches have none")
    return {depth: _scaled(total / items, normalise) for depth, total in sums.items()}


def _without_padding_rows(batch: Any) -> Any:
    """The batch without texts that are all padding, None if no other is in it: no word of theirs is read."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    real = None if mask is None else mask.bool().any(1)
    if real is None or real.all():
        return batch
    return {name: values[real] for name, values in batch.items()} if real.any() else None


def _slopes(
    model: nn.Module, batch: Any, loss: LossFunction, places: dict[int, tuple[nn.Module, int]]
) -> tuple[float, dict[int, Tensor]]:
    """Number of items, and per place Σ over rows of |∂(sum of the row's loss)/∂gate| (units,)."""
    gates: dict[int, Tensor] = {}

    def gate(depth: int, units: int) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x, *others = args  # (B, T, units·size), what the output projection is about to mix
            if depth not in gates:
                gates[depth] = torch.ones(len(x), units, 1, device=x.device, requires_grad=True)
            return (x.unflatten(-1, (units, -1)) * gates[depth][:, None]).flatten(-2), *others

        return hook

    handles = [module.register_forward_pre_hook(gate(depth, units)) for depth, (module, units) in places.items()]
    try:
        found = loss(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if not found.count:
        return 0.0, {}
    if not found.mean.isfinite():
        raise ValueError(f"the loss is {found.mean.item()}: importance needs finite weights and inputs")
    gradients = torch.autograd.grad(found.mean * found.count, list(gates.values()))
    rows = [gradient.flatten(1).abs().sum(0).double().cpu() for gradient in gradients]
    return float(found.count), dict(zip(gates, rows, strict=True))


def _scaled(scores: Tensor, normalise: bool) -> Tensor:
    norm = scores.norm()
    return (scores / norm if normalise and norm > 0 else scores).float()
