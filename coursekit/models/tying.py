"""From a trained encoder to one that shares layers: what Subformer and ALBERT build in, done afterwards."""

import copy
from typing import Literal

import torch
from torch import nn

from coursekit.models.encoder import Encoder
from coursekit.models.sharing import SharingPlan


def share_layers(encoder: Encoder, plan: SharingPlan, *, how: Literal["first", "mean"] = "first") -> Encoder:
    """A copy of the encoder whose depths share blocks as the plan says; the original stays as it is.

    Each stored block comes from the depths that will use it: "first" keeps the first one's weights, "mean" takes the
    average over the depths. A plan that shares less than the encoder unties: the depths get copies of their own.
    Raises ValueError for a plan of another length, a decoder's plan, or blocks of different shapes to average.
    """
    if how not in ("first", "mean"):
        raise ValueError(f"how must be 'first' or 'mean', got {how!r}")
    if any(len(norms) != 2 for norms in plan.norm):
        raise ValueError(
            f"an encoder's plan has 2 LayerNorms per depth, got {len(plan.norm[0])} (made with cross=True)"
        )
    shared = copy.deepcopy(encoder)
    shared.config = encoder.config.replace(sharing=plan)
    places: dict[tuple[str, int], list[tuple[int, str]]] = {}  # of each stored block: depths and attributes
    for depth, norms in enumerate(plan.norm):
        places.setdefault(("attention", plan.attention[depth]), []).append((depth, "attention"))
        places.setdefault(("ffn", plan.ffn[depth]), []).append((depth, "ffn"))
        for number, name in zip(norms, ("attention_norm", "ffn_norm"), strict=True):
            places.setdefault(("norm", number), []).append((depth, name))
    for (kind, _), used in places.items():
        blocks = [getattr(encoder.layers[depth], name) for depth, name in used]
        kept = copy.deepcopy(blocks[0]) if how == "first" else _mean(blocks, f"{kind} of depths {[d for d, _ in used]}")
        for depth, name in used:
            setattr(shared.layers[depth], name, kept)
    return shared


def _mean(modules: list[nn.Module], what: str) -> nn.Module:
    """A copy of the first module with the average of all of them for its weights."""
    mean, states = copy.deepcopy(modules[0]), [module.state_dict() for module in modules]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ValueError(f"cannot average the {what}: their weights have different names or shapes")
    mean.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return mean
