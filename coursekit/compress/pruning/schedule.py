"""When and how far to prune while a model trains."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.compress.checks import check_finite, is_number
from coursekit.compress.pruning.masked import MaskedLinear, Scope, check_mask, check_scope, masked_layers, users
from coursekit.compress.pruning.masks import cubic_sparsity, keep_largest, keep_largest_together

OnStep = Callable[[int, nn.Module], None]


@torch.no_grad()
def set_sparsity(model: nn.Module, sparsity: float, *, scope: Scope = "layer", regrow: bool = False) -> None:
    """Choose the masks of all masked layers anew: exactly round(sparsity·size) zeros, per layer or over all of them.

    Ranked by |W|, or by the scores of movement pruning (its top-v: weights come back there when their scores say so).
    By magnitude a pruned weight stays pruned; with `regrow` it competes with the value it had. Raises ValueError for
    a model without masks, NaN, a sparsity outside [0, 1], or a smaller one than now without `regrow`.
    """
    layers = masked_layers(model)
    scores = {path: _ranking(path, layer, regrow) for path, layer in layers.items()}
    if check_scope(scope) == "global":
        masks = keep_largest_together(scores, sparsity)
    else:
        masks = {path: keep_largest(score, sparsity) for path, score in scores.items()}
    for path, mask in masks.items():
        check_mask(path, layers[path], mask, regrow or layers[path].scores is not None)
    _set_masks(model, layers, masks)


def gradually(
    final: float,
    *,
    start: int,
    end: int,
    initial: float = 0.0,
    every: int = 1,
    scope: Scope = "layer",
    regrow: bool = False,
) -> OnStep:
    """An `on_step` for `coursekit.train.train`: the cubic schedule, new masks every so many steps, the last at `end`.

    Movement pruning needs start ≥ 1 or initial = 0: scores are equal until a step was taken. Masks are buffers, so
    checkpoints hold them and a resumed training goes on. Do not `keep_best` meanwhile: the best epoch would be an
    early, denser one. Raises ValueError for a schedule or an interval that cannot be.
    """
    schedule = {"start": start, "end": end, "initial": initial, "final": final}
    cubic_sparsity(start, **schedule)
    if every < 1:
        raise ValueError(f"every must be at least 1 step, got {every}")

    def on_step(done: int, model: nn.Module) -> None:
        if start <= done <= end and ((done - start) % every == 0 or done == end):
            set_sparsity(model, cubic_sparsity(done, **schedule), scope=scope, regrow=regrow)

    return on_step


def by_threshold(threshold: float, *, rate: float = 1.0, floor: float = 0.005) -> OnStep:
    """An `on_step` for soft movement pruning: after each step, keep where sigmoid(rate·scores) > threshold.

    How many go is left to training, under the pull of `score_penalty` (Sanh et al. 2020, section 4, "soft movement").
    rate: how much faster than weights the scores learn; the paper gives them a learning rate of their own, here
    Adam's step is scaled instead. As in the released code, a layer keeps at least the share `floor`. Raises
    ValueError unless threshold and floor lie in [0, 1].
    """
    for name, value in (("threshold", threshold), ("floor", floor)):
        if not (is_number(value) and 0 <= value <= 1):
            raise ValueError(f"{name} must lie in [0, 1], got {value!r}")

    @torch.no_grad()
    def on_step(done: int, model: nn.Module) -> None:
        layers = _movement_layers(model)
        masks = {}
        for path, layer in layers.items():
            masks[path] = (rate * layer.scores).sigmoid() > threshold
            if masks[path].double().mean() < floor:
                masks[path] = keep_largest(layer.scores, 1 - floor)
        _set_masks(model, layers, masks)

    return on_step


def score_penalty(model: nn.Module, *, rate: float = 1.0) -> Tensor:
    """Mean of sigmoid(rate·scores) over all weights of movement layers, a scalar to add to the loss, times a weight."""
    scores = [layer.scores for layer in _movement_layers(model).values()]
    return sum((rate * score).sigmoid().sum() for score in scores) / sum(score.numel() for score in scores)


def _ranking(path: str, layer: MaskedLinear, regrow: bool) -> Tensor:
    check_finite(layer.weight, f"{path}.weight")
    if layer.scores is not None:
        return layer.scores
    magnitude = layer.weight.abs()
    return magnitude if regrow else magnitude.masked_fill(~layer.mask, -torch.inf)


def _movement_layers(model: nn.Module) -> dict[str, MaskedLinear]:
    layers = {path: layer for path, layer in masked_layers(model).items() if layer.scores is not None}
    if not layers:
        raise ValueError("no masked layer has scores; call apply_masks(model, movement=True) first")
    return layers


def _set_masks(model: nn.Module, layers: dict[str, MaskedLinear], masks: dict[str, Tensor]) -> None:
    for path, layer in layers.items():
        for user in users(model, layer.weight):
            user.mask.copy_(masks[path])
