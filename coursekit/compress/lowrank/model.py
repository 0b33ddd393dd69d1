"""A whole model in factors: which layers, at which rank, and a report of all of them."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.compress.checks import check_finite, no_linear
from coursekit.compress.lowrank.factors import break_even_rank, check_keep, check_rank, rank_for_budget
from coursekit.compress.lowrank.layers import LowRankLinear, factorize
from coursekit.compress.lowrank.moments import InputMoments, input_moments
from coursekit.compress.report import LayerReport, Report, stored_layers
from coursekit.errors import unknown_name
from coursekit.train import Batches

EXCLUDED = ("embeddings", "classifier")
Keep = float | Mapping[str, int]
Calibration = Batches | Sequence[Mapping[str, Tensor]] | Mapping[str, InputMoments]


@torch.no_grad()
def compress(
    model: nn.Module, keep: Keep, calibration: Calibration | None = None, *, exclude: Sequence[str] = EXCLUDED
) -> nn.Module:
    """A copy of the model whose linear layers are products of two smaller ones; the model itself is not changed.

    keep         share of each matrix's numbers to store, in (0, 1]: its rank is `rank_for_budget`. Or path → rank,
                 for the layers named
    calibration  None: truncated SVD. Batches as of `watch_inputs`, or what `input_moments` gave: activation-aware
                 factors (`aware_factors`), all from the model as it is (SVD-LLM's code may update each block behind
                 blocks already compressed)
    exclude      parts of paths that stay as they are, by default the embeddings and the classifier; the word table has
                 `factorize_embeddings`

    Left dense: a layer at whose rank two factors would save nothing, or whose rank would be 0; what is no plain
    `nn.Linear`; and weights that two modules share by tensor and not by module. A layer shared by depths is factorised
    once and stays shared. `low_rank_report` lists all.

    Raises ValueError for a share or rank out of range, an unknown path, empty or useless calibration, NaN or infinite
    weights, and a model without a layer to factorise.
    """
    chosen = factorizable(model, exclude)
    if not chosen:
        raise no_linear(model, "factorise", exclude)
    plan = {
        path: rank
        for path, rank in plan_ranks(model, keep, exclude=exclude).items()
        if _why_dense(chosen, path, rank) is None
    }
    for path in plan:
        check_finite(chosen[path], path)
    moments = _calibrated(model, calibration, {path: chosen[path] for path in plan})
    replaced: dict[int, Any] = {
        id(chosen[path]): factorize(chosen[path], rank, moments.get(path)) for path, rank in plan.items()
    }
    return copy.deepcopy(model, replaced)  # whoever refers to a layer, all depths that share it too, gets its successor


def plan_ranks(model: nn.Module, keep: Keep, *, exclude: Sequence[str] = EXCLUDED) -> dict[str, int]:
    """Path → rank that `keep` means for each layer `compress` may touch; 0 where not even rank 1 fits.

    Raises ValueError for a share outside (0, 1], a path that cannot be factorised, or a rank out of range.
    """
    layers = factorizable(model, exclude)
    if not isinstance(keep, Mapping):
        check_keep(keep)
        return {path: rank_for_budget(*layer.weight.shape, keep) for path, layer in layers.items()}
    for path, rank in keep.items():
        if path not in layers:
            raise unknown_name("layer to factorise", path, layers)
        check_rank(rank, layers[path].weight.shape)
    return dict(keep)


def factorizable(model: nn.Module, exclude: Sequence[str] = EXCLUDED) -> dict[str, nn.Linear]:
    """Path → plain linear layer outside `exclude` whose weight no other module uses; a shared layer once.

    The factors of a layer that is low-rank already are no longer offered.
    """
    users = _users(model)
    inside = {id(part) for layer in model.modules() if isinstance(layer, LowRankLinear) for part in layer.children()}
    return {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Linear
        and id(module) not in inside
        and set(path.split(".")).isdisjoint(exclude)
        and len(users[id(module.weight)]) == 1
    }


def low_rank_report(before: nn.Module, after: nn.Module, keep: Keep | None = None) -> Report:
    """Every layer with weights of its own, in a model before and after `compress`: its rank, or why it was skipped.

    With the `keep` that was asked for, a layer left dense says which rank would have been needed. What other methods
    changed between the two, or `factorize_embeddings`, stands in rows of its own.
    """
    users, plan = _users(before), {} if keep is None else plan_ranks(before, keep, exclude=())
    old, new = (stored_layers(model, whole=(LowRankLinear,)) for model in (before, after))
    rows = []
    for path in dict.fromkeys([*old, *new]):
        (was, size), (now, left) = (layers.get(path, (None, 0)) for layers in (old, new))
        rows.append(LayerReport(path, _what(was, now, path, users, plan), size, left))
    return Report(rows)


def _what(
    old: nn.Module | None, new: nn.Module | None, path: str, users: dict[int, list[str]], plan: dict[str, int]
) -> str:
    if isinstance(new, LowRankLinear) and not isinstance(old, LowRankLinear):
        edge = break_even_rank(new.out_features, new.in_features)
        return f"{new.out_features}×{new.in_features}, rank {new.rank} of {edge:.1f}"
    if new is None:
        return "removed"
    if type(old) is not type(new):
        return f"{type(old).__name__ if old else 'new'} → {type(new).__name__}"
    shapes = ["×".join(map(str, module.weight.shape)) for module in (old, new) if hasattr(module, "weight")]
    if shapes[1:] != shapes[:1]:
        return " → ".join(shapes)
    return f"skipped: {_why(old, path, users, plan)}"


def _why(module: nn.Module, path: str, users: dict[int, list[str]], plan: dict[str, int]) -> str:
    weight = getattr(module, "weight", None)
    if isinstance(weight, nn.Parameter) and len(users[id(weight)]) > 1:
        return f"weight tied to {', '.join(other for other in users[id(weight)] if other != path)}"
    if isinstance(module, nn.Embedding):
        return "embedding table; factorize_embeddings narrows it"
    if type(module) is not nn.Linear:
        return f"{type(module).__name__} has no matrix product"
    return (_why_dense({path: module}, path, plan[path]) if path in plan else None) or "left dense on request"


def _why_dense(layers: Mapping[str, nn.Linear], path: str, rank: int) -> str | None:
    """Why a layer stays dense at that rank, or None."""
    rows, columns = layers[path].weight.shape
    edge = f"{rows}×{columns} breaks even at rank {break_even_rank(rows, columns):.1f}"
    if rank < 1:
        return f"left dense, not even rank 1 fits the budget: {edge}"
    return f"left dense, rank {rank} saves nothing: {edge}" if rank * (rows + columns) >= rows * columns else None


def _calibrated(
    model: nn.Module, calibration: Calibration | None, layers: dict[str, nn.Linear]
) -> Mapping[str, InputMoments]:
    """Moments of each layer; none without calibration."""
    if calibration is None or not layers:
        return {}
    if not isinstance(calibration, Mapping):
        return input_moments(model, calibration, layers)
    for path in layers:
        if path not in calibration:
            raise ValueError(f"the calibration has no moments of {path}; compute them with input_moments")
    return calibration


def _users(model: nn.Module) -> dict[int, list[str]]:
    """Parameter → paths of the distinct modules that hold it."""
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), []).append(path)
    return users
