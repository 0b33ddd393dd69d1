"""What real texts send into chosen layers, padding left out."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from coursekit.measure.flops import device_of
from coursekit.measure.hygiene import evaluating
from coursekit.train import Batches
from coursekit.train.pieces import epoch_of


@torch.no_grad()
def watch_inputs(
    model: nn.Module,
    batches: Batches | Sequence[Mapping[str, Tensor]],
    layers: Mapping[str, nn.Module],
    see: Callable[[str, Tensor], None],
) -> None:
    """Run the model over the batches and call see(name, rows) with the inputs (N, in) of each layer at each use.

    batches: `TextBatches`, or dicts with input_ids and attention_mask (B, T), true on real tokens (none: all are real).
    Of inputs (B, T, in) only real tokens are rows, of (B, in) all with a real token. Evaluation mode meanwhile, no
    gradient. Raises ValueError for no batches, no real token, a layer never used, or inputs that are not finite.
    """
    real = torch.ones(0, 0, dtype=torch.bool)
    used: set[str] = set()
    tokens = 0

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            if x.shape[:-1] == real.shape:
                rows = x[real]
            elif x.shape[:-1] == real.shape[:1]:
                rows = x[real.any(1)]
            else:
                raise ValueError(f"{name} sees inputs {tuple(x.shape)} for texts {tuple(real.shape)}")
            if not rows.isfinite().all():
                raise ValueError(f"the inputs of {name} are NaN or infinite")
            used.add(name)
            see(name, rows)

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        with evaluating(model):
            for batch in epoch_of(batches, 0):
                batch = {name: value.to(device_of(model)) for name, value in batch.items()}
                ids = batch["input_ids"]
                real = batch.get("attention_mask", torch.ones_like(ids)).bool()
                if real.any():
                    model(ids, real, batch.get("token_type_ids"))
                tokens += int(real.sum())
    finally:
        for handle in handles:
            handle.remove()
    if not tokens:
        raise ValueError("calibration needs at least one real token; the batches have none")
    if unused := [name for name in layers if name not in used]:
        raise ValueError(f"{', '.join(unused[:3])} not used by the calibration texts")
