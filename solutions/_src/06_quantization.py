# %% [markdown] name="title"
# # 06 · Quantization: exercises
#
# **You will** write the arithmetic of quantization: scales and codes, two codes from one byte, a product of integers,
# the gradient through a rounding, SmoothQuant's divisor, a step of GPTQ, and the bytes of a quantized model. **About 55
# minutes.** It belongs to the lesson [06 · Quantization](../notebooks/06_quantization.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("06.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise,
# and says so. `progress()` in a cell shows how far you are.

# %% name="imports"
import torch
from torch import Tensor, nn

from coursekit.compress.quantization import Scheme, input_statistics, pack_int4, quantize_model
from coursekit.course import check, hint, progress, stand_in  # noqa: F401 (hint and progress are for you)
from coursekit.measure import stored_bytes
from coursekit.train import load_teacher, pretrained_encoder, text_batches
from coursekit.viz import show, use_style
from coursekit.viz.quantization import channels, straight_through

use_style()

# %% [markdown]
# ## Task 06.1 · Scale and zero point
# *Difficulty 2 of 5, importance 5 of 5, about 6 minutes.*
#
# Numbers from `low` to `high` are to have codes of `bits` bits, from $-2^{b-1}$ to $2^{b-1}-1$, the least code for the
# low end and the most code for the high one (asymmetric). First stretch the range, if it must be, so that it contains
# 0. Return the scale, a real number, and the zero point: the code that stands for 0, a whole number.
# For `(-1.0, 1.55, 8)` they are 0.01 and -28.


# %% task="06.1"
def scale_and_zero(low: float, high: float, bits: int) -> tuple[float, int]:
    """Scale and zero point of asymmetric codes for numbers from low to high, with 0 among them."""
    ### BEGIN SOLUTION
    low, high = min(low, 0.0), max(high, 0.0)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale = (high - low) / (most - least)
    return scale, round(least - low / scale)
    ### END SOLUTION


# %% check="06.1"
### BEGIN HIDDEN TESTS
_scale, _zero = scale_and_zero(-1.0, 1.55, 8)
assert abs(_scale - 0.01) < 1e-9 and _zero == -28
### END HIDDEN TESTS
check("06.1", scale_and_zero)

# %% [markdown]
# What the stretching is for: numbers from 5 to 6, all positive. Without 0 in the range the zero point would be far
# outside the codes, and padding, whose value is exactly 0, would have no code at all.

# %% name="why-zero" tags=["nbval-check-output"]
scale_and_zero = stand_in("06.1", scale_and_zero)
scale, zero = scale_and_zero(5.0, 6.0, 8)
print(f"scale {scale:.4f}, zero point {zero}; not stretched, it would be {round(-128 - 5.0 * 255)}")

# %% [markdown]
# ## Task 06.2 · Quantize each row
# *Difficulty 2 of 5, importance 5 of 5, about 6 minutes.*
#
# A weight (out, in) gets symmetric codes, one scale for each output row: the row's largest absolute value gets the code
# $2^{b-1}-1$ or its negative, all others are rounded to nearest (`torch.round`). Return codes (out, in) as `torch.int8`
# and scales (out, 1). A row of zeros has scale 1.


# %% task="06.2"
def quantize_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Symmetric int8 codes (out, in) of `bits` bits and one scale (out, 1) per row, so that weight ≈ codes · scale."""
    ### BEGIN SOLUTION
    most = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(1, keepdim=True) / most
    scale = torch.where(scale > 0, scale, 1.0)
    return (weight / scale).round().to(torch.int8), scale
    ### END SOLUTION


# %% check="06.2"
### BEGIN HIDDEN TESTS
_codes, _scales = quantize_rows(torch.tensor([[1.27, -0.5], [0.0, 0.0]]), 8)
assert _codes.tolist() == [[127, -50], [0, 0]] and _scales.shape == (2, 1)
### END HIDDEN TESTS
check("06.2", quantize_rows)

# %% [markdown]
# One matrix of the course's real encoder, by your function, for fewer and fewer bits.

# %% name="real-rows" tags=["nbval-check-output"]
quantize_rows = stand_in("06.2", quantize_rows)
up = pretrained_encoder().layers[1].ffn.up.weight.detach()  # (1536, 384)
for bits in (8, 4, 3, 2):
    codes, scale = quantize_rows(up, bits)
    zeros = (codes == 0).float().mean()
    error = (codes * scale - up).norm() / up.norm()
    ends = f"{int(codes.min()):>4} to {int(codes.max()):>3}"
    print(f"{bits} bits: codes {ends}, {zeros:4.0%} of them 0, error {error:.0%}")

# %% [markdown] tags=["solution-only"]
# With 2 bits the step is as large as the largest weight of the row: nearly everything is rounded to 0. Ternary methods
# therefore choose another scale (the lesson's TWN rule).

# %% [markdown]
# ## Task 06.3 · Two codes from one byte
# *Difficulty 3 of 5, importance 3 of 5, about 8 minutes.*
#
# `packed` (uint8) holds codes of 4 bits, two to a byte: the first in the low half, the second in the high half. A code
# lies from -8 to 7 and is stored in two's complement: 0 to 7 as they are, -8 to -1 as 8 to 15. If `count` is odd, the
# last high half is not used. Return the `count` codes as `torch.int8`.


# %% task="06.3"
def unpack(packed: Tensor, count: int) -> Tensor:
    """The `count` codes (int8) of 4 bits in `packed` (uint8)."""
    ### BEGIN SOLUTION
    halves = torch.stack((packed & 15, packed >> 4), 1).flatten()[:count].to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)
    ### END SOLUTION


# %% check="06.3"
### BEGIN HIDDEN TESTS
assert unpack(torch.tensor([0x81, 0xF7, 0x03], dtype=torch.uint8), 5).tolist() == [1, -8, 7, -1, 3]
### END HIDDEN TESTS
check("06.3", unpack)

# %% name="packed-real" tags=["nbval-check-output"]
unpack = stand_in("06.3", unpack)
codes, scale = quantize_rows(up, 4)
packed = pack_int4(codes)
print(f"{up.numel():,} weights: {4 * up.numel():,} bytes as they are, {packed.numel():,} packed")
print("unpacked, the same codes:", torch.equal(unpack(packed, codes.numel()).view_as(codes), codes))

# %% [markdown]
# ## Task 06.4 · A product of integers
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# Inputs are codes `x` (N, in) int8 that stand for $s_x (x - z)$, weights are codes `w` (out, in) int8 that stand for
# $s_w w$ with a scale for each row, `w_scale` (out, 1). Return the layer's output (N, out) in real numbers, with the
# `bias` (out,) added, by **one product of integers**: do not turn the codes into real numbers before it. Neither a sum
# of products nor $x - z$ fits into 8 bits.


# %% task="06.4"
def integer_linear(x: Tensor, x_scale: float, x_zero: int, w: Tensor, w_scale: Tensor, bias: Tensor) -> Tensor:
    """(N, out) from input codes (N, in), their scale and zero point, weight codes (out, in) and scales (out, 1)."""
    ### BEGIN SOLUTION
    sums = (x.int() - x_zero) @ w.int().T  # (N, out), whole numbers
    return sums * (x_scale * w_scale.T) + bias
    ### END SOLUTION


# %% check="06.4"
### BEGIN HIDDEN TESTS
_x, _w = torch.tensor([[3, -128]], dtype=torch.int8), torch.tensor([[2, 100]], dtype=torch.int8)
assert abs(integer_linear(_x, 0.5, 1, _w, torch.tensor([[0.1]]), torch.zeros(1)).item() + 12896 * 0.5 * 0.1) < 1e-2
### END HIDDEN TESTS
check("06.4", integer_linear)

# %% [markdown]
# On the real matrix, with inputs quantized by your `scale_and_zero`. (In integers of 32 bits PyTorch has no fast
# product for CPUs; the speed of the lesson comes from kernels that multiply 8 bits and sum in 32.)

# %% name="real-product" tags=["nbval-check-output"]
integer_linear = stand_in("06.4", integer_linear)
torch.manual_seed(0)
inputs, bias = torch.randn(5, 384).relu(), torch.zeros(len(up))
scale, zero = scale_and_zero(inputs.min().item(), inputs.max().item(), 8)
x = ((inputs / scale).round() + zero).clamp(-128, 127).to(torch.int8)
output = integer_linear(x, scale, zero, *quantize_rows(up, 8), bias)
exact = inputs @ up.T
print(f"zero point {zero}; error of the output {(output - exact).norm() / exact.norm():.1%}")

# %% [markdown]
# ## Task 06.5 · The straight-through gradient
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# Quantization-aware training rounds in the forward pass: $q = \operatorname{round}(x/s) + z$, clamped to
# $-2^{b-1} \dots 2^{b-1}-1$, and back to $s\,(q - z)$. Its true derivative is 0 almost everywhere. The straight-through
# estimator takes the *rounding* for the identity, and keeps the *clamping*. Given the gradient that comes in for the
# output, return the gradient for `x`.


# %% task="06.5"
def fake_quantize_gradient(x: Tensor, incoming: Tensor, scale: float, zero_point: int, bits: int) -> Tensor:
    """Gradient for x, of x's shape, from the gradient `incoming` of the rounded and clamped x."""
    ### BEGIN SOLUTION
    codes = (x / scale).round() + zero_point
    inside = (codes >= -(2 ** (bits - 1))) & (codes <= 2 ** (bits - 1) - 1)
    return incoming * inside
    ### END SOLUTION


# %% check="06.5"
### BEGIN HIDDEN TESTS
assert fake_quantize_gradient(torch.tensor([0.3, 9.0]), torch.tensor([2.0, 2.0]), 0.1, 0, 4).tolist() == [2.0, 0.0]
### END HIDDEN TESTS
check("06.5", fake_quantize_gradient)

# %% name="figure-gradient"
fake_quantize_gradient = stand_in("06.5", fake_quantize_gradient)
line = torch.linspace(-2, 2, 801)
rounded = ((line / 0.4).round() + 1).clamp(-4, 3).sub(1) * 0.4  # 3 bits, scale 0.4, zero point 1
show(
    straight_through(line, rounded, fake_quantize_gradient(line, torch.ones(801), 0.4, 1, 3)),
    alt="Left, a staircase of eight steps along the diagonal that turns flat above 0.6. Right, the true "
    "slope is a line at 0; the straight-through gradient is 1 from -2 to 1 and 0 above.",
    caption="Where the staircase only jumps the gradient is 1; where it has become flat for good, 0.",
)

# %% [markdown]
# ## Task 06.6 · SmoothQuant's divisor
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# Some input channels are far larger than the others and take the codes away from them. SmoothQuant (Xiao et al. 2023,
# equation 4) divides input channel $j$ by
#
# $$s_j = \frac{\max|X_j|^{\alpha}}{\max|W_j|^{1-\alpha}}$$
#
# and multiplies the weights that read it by as much. `largest` (in,) holds $\max|X_j|$, `weight` is (out, in). A
# channel that was never seen ($\max|X_j| = 0$) or that no weight reads gets 1.


# %% task="06.6"
def smooth_divisor(largest: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """The divisor (in,) of each input channel."""
    ### BEGIN SOLUTION
    read = weight.abs().amax(0)  # (in,): the largest weight that reads each channel
    divisor = largest**alpha / read ** (1 - alpha)
    return torch.where((largest > 0) & (read > 0), divisor, 1.0)
    ### END SOLUTION


# %% check="06.6"
### BEGIN HIDDEN TESTS
_divisor = smooth_divisor(torch.tensor([4.0, 0.0]), torch.tensor([[-1.0, 2.0], [0.25, 1.0]]), 0.5)
assert _divisor.tolist() == [2.0, 1.0]
### END HIDDEN TESTS
check("06.6", smooth_divisor)

# %% [markdown]
# What 64 real reviews send into that matrix, before and after:

# %% name="figure-smooth"
smooth_divisor = stand_in("06.6", smooth_divisor)
teacher = load_teacher("quick")  # the encoder fine-tuned on film reviews; kept since unit 00
model = teacher.model
texts = text_batches(teacher.task.train.take(64), teacher.tokenizer)
largest = input_statistics(model, texts, {"up": model.encoder.layers[1].ffn.up})["up"].largest
smoothed = largest / smooth_divisor(largest, model.encoder.layers[1].ffn.up.weight.detach(), 0.5)
show(
    channels(
        {
            f"Before: largest {largest.max() / largest.median():.0f} × median": largest / largest.median(),
            f"After: {smoothed.max() / smoothed.median():.1f} × median": smoothed / smoothed.median(),
        },
        named=(int(largest.argmax()),),
    ),
    alt="Largest input of each of 384 channels, relative to the median channel. Before, one channel, 99, reaches "
    "17 times the median while the others stay below 5. After, it is about 6 times the median.",
    caption="One channel decides the scale of all others; divided by its square root it does so no longer.",
)
assert largest.max() / largest.median() > 2 * smoothed.max() / smoothed.median()

# %% [markdown]
# ## Task 06.7 · One column of GPTQ
# *Difficulty 4 of 5, importance 4 of 5, about 10 minutes.*
#
# GPTQ (Frantar et al. 2023) rounds one input column after another and lets those that follow make up for the error. Its
# `factor` $U$ (in, in) is upper triangular with $U^\top U = H^{-1}$. For column $c$:
#
# 1. round: $q = s \cdot \operatorname{clamp}(\operatorname{round}(w_c / s))$ to codes from `-most` to `most`, with the
#    scale of each row;
# 2. what is lost, in units of the factor: $e = (w_c - q) / U_{cc}$, a number for each row;
# 3. every later column $k > c$ gives way: $w_k \leftarrow w_k - e\,U_{ck}$.
#
# Return the weight with column $c$ rounded, the later ones changed, the earlier ones as they were.


# %% task="06.7"
def column_step(weight: Tensor, column: int, scale: Tensor, factor: Tensor, most: int) -> Tensor:
    """The weight (out, in) after GPTQ's step for one column; scale (out,), factor (in, in) upper triangular."""
    ### BEGIN SOLUTION
    rounded = (weight[:, column] / scale).round().clamp(-most, most) * scale
    error = (weight[:, column] - rounded) / factor[column, column]
    result = weight.clone()
    result[:, column] = rounded
    result[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :]
    return result
    ### END SOLUTION


# %% check="06.7"
### BEGIN HIDDEN TESTS
_after = column_step(torch.tensor([[0.5, 0.4]]), 0, torch.tensor([1.0]), torch.tensor([[1.0, -1.0], [0.0, 0.1]]), 1)
assert torch.allclose(_after, torch.tensor([[0.0, 0.9]]))
### END HIDDEN TESTS
check("06.7", column_step)

# %% [markdown]
# All columns of a real matrix in turn, with the real inputs of 64 reviews, against rounding to nearest. The damping
# adds 1 % of the mean diagonal, so that $H$ can be inverted.

# %% name="real-gptq"
column_step = stand_in("06.7", column_step)
query = model.encoder.layers[2].attention.query
hessian = input_statistics(model, texts, {"query": query}, hessian=True)["query"].hessian.double()
damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
factor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
weight = query.weight.detach().double()
for bits in (4, 3):
    codes, scale = quantize_rows(weight, bits)
    moving = weight.clone()
    for column in range(weight.shape[1]):
        moving = column_step(moving, column, scale.flatten(), factor, 2 ** (bits - 1) - 1)
    # ‖X(W - Ŵ)ᵀ‖² = Σ (W - Ŵ) H (W - Ŵ)ᵀ, relative to that of W itself
    lost = [((weight - w) @ hessian * (weight - w)).sum() for w in (codes * scale, moving)]
    nearest, better = ((loss / (weight @ hessian * weight).sum()).sqrt() for loss in lost)
    print(f"{bits} bits: error of the output {nearest:.1%} rounded to nearest, {better:.1%} by GPTQ")
    assert better < 0.9 * nearest

# %% [markdown] tags=["solution-only"]
# Every single weight is *farther* from its original than with rounding to nearest, and the output is nearer: GPTQ
# minimises the error of what the layer computes, on inputs like those it has seen.

# %% [markdown]
# ## Task 06.8 · Bytes of a quantized model
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# How many bytes will a classifier take if the weight of every `nn.Linear` except `model.classifier` is kept as packed
# codes of `bits` bits, with a float32 scale for each group of `group_size` inputs of each row (`None`: one for a whole
# row)? Biases, tables and LayerNorms stay as they are, in float32. `stored_bytes(model)` gives the bytes now; layers
# that several depths share are stored once.


# %% task="06.8"
def quantized_bytes(model: nn.Module, bits: int, group_size: int | None) -> int:
    """Bytes of the model once its linear layers, all but `model.classifier`, are codes and scales."""
    ### BEGIN SOLUTION
    total = stored_bytes(model)
    for layer in model.modules():  # lists a shared layer once
        if isinstance(layer, nn.Linear) and layer is not model.classifier:
            rows, width = layer.weight.shape
            groups = width // (group_size or width)
            total += rows * width * bits // 8 + 4 * rows * groups - 4 * rows * width
    return total
    ### END SOLUTION


# %% check="06.8"
check("06.8", quantized_bytes)

# %% [markdown]
# Your formula beside models that are really quantized. The real encoder has 10.8 million weights in linear layers, and
# 11.7 million in its word table, which stay as they are here:

# %% name="real-bytes" tags=["nbval-check-output"]
quantized_bytes = stand_in("06.8", quantized_bytes)
print(f"as it is {stored_bytes(model):>12,}")
for bits, group in ((8, None), (4, None), (4, 64), (4, 32), (3, 64)):
    other = quantize_model(model, Scheme(bits, group))
    print(f"{bits} bits, group {group!s:>4} {quantized_bytes(model, bits, group):>12,}", end="")
    print("  equal" if quantized_bytes(model, bits, group) == stored_bytes(other) else f"  {stored_bytes(other):,}")

# %% [markdown]
# From 8 to 3 bits the model shrinks by a tenth: what is left is its word table. The lesson quantizes that too.
#
# ## What you can do now
# Compute scale and zero point of any range, quantize per row, take packed codes apart, multiply in integers, pass a
# gradient through a rounding, move outliers out of the way, and let later weights make up for earlier errors; and say
# beforehand how many bytes a model will have.
#
# **Next:** [07 · Distillation I](../notebooks/07_distillation.ipynb): a small model learns what a large one answers.
