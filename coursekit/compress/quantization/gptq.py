"""GPTQ: round one input column after another, and let the columns still to come make up for the error."""

import torch
from torch import Tensor

from coursekit.compress.checks import check_positive
from coursekit.compress.quantization.affine import QuantizedTensor, affine_parameters, code_range, quantize
from coursekit.measure.hygiene import require_counts


@torch.no_grad()
def gptq(
    weight: Tensor,
    inputs: Tensor,
    *,
    bits: int = 4,
    group_size: int | None = None,
    symmetric: bool = True,
    damping: float = 0.01,
    block_size: int = 128,
    act_order: bool = False,
    mask: Tensor | None = None,
) -> QuantizedTensor:
    """Codes of weight (out, in) that make ‖XWᵀ − XŴᵀ‖² small for inputs X (N, in), or (B, T, in) with mask (B, T).

    GPTQ (Frantar et al. 2023, algorithm 1): as `quantize` with axis 0, or with groups along the input, but the error of
    each rounded column is spread over those that follow, by the inverse of H = XᵀX; the more alike two inputs are,
    the better one can stand in for the other. mask: true on rows that count; padding must not.

    damping      share of H's mean diagonal added to it, so that it can be inverted
    block_size   columns updated at once; for speed alone
    act_order    columns with large inputs first, while many others can still make up for them; undone afterwards

    Where this differs from the released code: a group's scale is computed from weights that all earlier errors have
    reached (there, groups inside a block see stale ones, so the result depends on block_size); with act_order groups
    are those of the unpermuted input, with scales from the original weights; a column whose inputs are all 0 is
    rounded, not set to 0. Computed in float64.

    Raises ValueError for shapes that do not fit, no rows, numbers that are not finite, damping that is not positive, or
    as `quantize`.
    """
    rows = inputs if mask is None else inputs[mask.bool()]
    if weight.dim() != 2 or rows.dim() != 2 or rows.shape[1] != weight.shape[1]:
        raise ValueError(
            f"weight {tuple(weight.shape)} needs inputs (N, {weight.shape[-1]}), got {tuple(rows.shape)}"
            + ("" if mask is None else " after the mask")
        )
    if not len(rows):
        raise ValueError("GPTQ needs at least one row of inputs, got none")
    rows = rows.double()
    hessian = rows.T @ rows / len(rows)
    return gptq_from_hessian(
        weight,
        hessian,
        bits=bits,
        group_size=group_size,
        symmetric=symmetric,
        damping=damping,
        block_size=block_size,
        act_order=act_order,
    )


@torch.no_grad()
def gptq_from_hessian(
    weight: Tensor,
    hessian: Tensor,
    *,
    bits: int = 4,
    group_size: int | None = None,
    symmetric: bool = True,
    damping: float = 0.01,
    block_size: int = 128,
    act_order: bool = False,
) -> QuantizedTensor:
    """As `gptq` for H = XᵀX (in, in), up to a factor: what is left of the inputs after calibration."""
    start = quantize(weight, bits=bits, symmetric=symmetric, axis=0, group_size=group_size)  # checks, and scales
    if not hessian.isfinite().all():
        raise ValueError("the inputs are NaN or infinite")
    check_positive("damping", damping)
    require_counts(block_size=block_size)
    hessian = hessian.double()
    order = torch.arange(len(hessian), device=hessian.device)
    order = hessian.diagonal().argsort(descending=True) if act_order else order
    factor = _inverse_factor(hessian[order][:, order], damping)
    size = group_size or weight.shape[1]
    # Transposed, so that what belongs to one input lies together: (in, out), and (groups, out).
    moving, codes = weight.double().T[order], torch.zeros_like(start.codes.T)
    scale, zero = start.scale.T.double().contiguous(), start.zero_point.T.contiguous()
    least, most = code_range(bits, symmetric)
    # A block of whole groups: then a group's scale never waits for errors that its own block still holds back.
    step = max(block_size // size, 1) * size if group_size else block_size
    for first in range(0, len(hessian), step):
        last = min(first + step, len(hessian))
        errors = torch.zeros_like(moving[first:last])
        for place, column in zip(range(first, last), order[first:last].tolist(), strict=True):
            group = column // size
            if group_size and not act_order and column % size == 0:
                members = moving[column : column + size].to(start.scale)
                new = affine_parameters(members.amin(0), members.amax(0), bits=bits, symmetric=symmetric)
                scale[group], zero[group] = new[0].double(), new[1]
            code = ((moving[place] / scale[group]).round() + zero[group]).clamp(least, most)
            error = (moving[place] - (code - zero[group]) * scale[group]) / factor[place, place]
            moving[place:last] -= factor[place, place:last, None] * error
            errors[place - first], codes[column] = error, code.to(torch.int8)
        moving[last:] -= factor[first:last, last:].T @ errors
    scale = scale.T.to(start.scale).contiguous()
    return QuantizedTensor(codes.T.contiguous(), scale, zero.T.contiguous())


def _inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """Upper triangular U with UᵀU = H⁻¹: row i holds what column i's error does to the columns after it."""
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    live = diagonal[diagonal > 0]
    mean = live.mean() if len(live) else 1.0
    diagonal[diagonal == 0] = mean  # an input that is always 0: nothing is known, and nothing is passed on
    diagonal += damping * mean
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
