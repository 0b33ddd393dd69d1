"""How large the inputs of linear layers are on real texts, padding left out."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from coursekit.compress.calibration import watch_inputs
from coursekit.compress.pruning.masked import is_linear, prunable
from coursekit.errors import unknown_name
from coursekit.train import Batches


def calibrate(
    model: nn.Module, batches: Batches | Sequence[Mapping[str, Tensor]], names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Path → L2 norm (in,) of each input of a linear layer, over all real tokens of all batches.

    batches: `TextBatches`, or dicts with input_ids and attention_mask (B, T); padding does not count, else its
    constant states would drown the words. names: the layers, by default all prunable ones. A layer shared by depths
    sums over all its uses. All norms are of the model as it is; Wanda's released code measures each block behind
    blocks already pruned. Evaluation mode meanwhile. Raises ValueError for an unknown or other layer, no batches, no
    real token, a layer that was not used, or inputs that are NaN or infinite.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names = list(prunable(model)) if names is None else list(names)
    for name in names:
        if name not in modules:
            raise unknown_name("layer", name, modules)
        if not is_linear(modules[name]):
            raise ValueError(f"{name} is a {type(modules[name]).__name__}; norms are for linear layers")
    squares: dict[str, Tensor] = {}

    def see(name: str, rows: Tensor) -> None:
        squares[name] = squares.get(name, 0) + rows.double().square().sum(0)

    watch_inputs(model, batches, {name: modules[name] for name in names}, see)
    return {name: squares[name].sqrt().float() for name in names}
