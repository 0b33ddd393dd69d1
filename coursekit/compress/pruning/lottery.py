"""Lottery tickets: whether a sparse network could have been trained sparse from its first weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from coursekit.compress.checks import is_number
from coursekit.compress.pruning.masked import MaskedLinear, Scope
from coursekit.compress.pruning.schedule import set_sparsity


@dataclass(frozen=True)
class LotteryRound:
    """One round: the sparsity the network was trained at, and what its training returned."""

    sparsity: float
    result: Any


def lottery_ticket(
    model: nn.Module,
    train: Callable[[nn.Module], Any],
    *,
    final: float,
    rounds: int,
    scope: Scope = "layer",
) -> Iterator[LotteryRound]:
    """Train, prune the smallest weights, rewind the rest to where they began, and again (Frankle & Carbin 2019, §2).

    `model` has masked layers (`apply_masks`); its weights at the call are θ₀. To rewind to an early step k instead
    (Frankle et al. 2020), train k steps before. Each round prunes the same share 1 − (1 − final)^(1/rounds) of what
    is left. `train(model)` trains in place, with a new optimizer each time. Yields rounds + 1 trainings, the first
    dense, the last at `final`; after each, the model is as trained, and rewinding happens when the next is asked for.
    Raises ValueError for rounds < 1 or final outside (0, 1).
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    if not (is_number(final) and 0 < final < 1):
        raise ValueError(f"final sparsity must lie between 0 and 1, got {final!r}")
    set_sparsity(model, 0.0, scope=scope)  # raises where there are no masks, or masks that prune already
    modules = model.named_modules(remove_duplicate=False)
    masks = {f"{path}.mask" for path, module in modules if isinstance(module, MaskedLinear)}
    start = {name: value.clone() for name, value in model.state_dict().items() if name not in masks}
    return _rounds(model, train, start, [1 - (1 - final) ** (number / rounds) for number in range(rounds + 1)], scope)


def _rounds(
    model: nn.Module,
    train: Callable[[nn.Module], Any],
    start: dict[str, Tensor],
    sparsities: list[float],
    scope: Scope,
) -> Iterator[LotteryRound]:
    for sparsity in sparsities:
        if sparsity:
            set_sparsity(model, sparsity, scope=scope)
            model.load_state_dict(start, strict=False)  # all but the masks
        yield LotteryRound(sparsity, train(model))
