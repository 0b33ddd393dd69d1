# %% [markdown] name="title"
# # 06 · Quantization
#
# **You will be able to** turn real numbers into small integers and back and say how large the error can be; choose
# between one scale for all, one for each row and one for each group; pack codes into bytes; quantize a fine-tuned
# encoder in several ways, say what each saves in bytes **and in time**, and find out where it breaks and why.
#
# **About 50 minutes, and as much for the exercises.** Needs [01 · Where the parameters are](01_parameters.ipynb). The
# notebook runs in about three minutes; what is not timed or trained comes out the same for you.

# %% name="imports"
import copy
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.compress.calibration import watch_inputs
from coursekit.compress.pruning import best_neurons, neuron_importance, prune_ffn
from coursekit.compress.quantization import (
    Int8Linear,
    Scheme,
    convert_qat,
    fake_quantize,
    gptq,
    input_statistics,
    pack_int4,
    prepare_qat,
    quantizable,
    quantization_report,
    quantize,
    quantize_model,
    ternarize,
)
from coursekit.course import by_profile
from coursekit.course.studies import load_study
from coursekit.measure import bootstrap_interval, compare, machine, paired_bootstrap, stored_bytes
from coursekit.models import Encoder, MaskedLM, load, preset, save
from coursekit.train import (
    TrainConfig,
    classification_loss,
    load_teacher,
    pretrained_encoder,
    text_batches,
    train,
)
from coursekit.viz import explore, show, use_style
from coursekit.viz.comparison import Candidate, differences, one_page
from coursekit.viz.quantization import (
    bits_and_groups,
    channels,
    codes_on_a_line,
    errors_by_bits,
    packed_bytes,
    straight_through,
)
from coursekit.viz.quantization_results import (
    beside_published,
    layer_errors,
    sensitivity,
    study_arms,
)

use_style()

# %% [markdown]
# ## The question
#
# Every weight so far took 32 bits: about seven decimal digits. Does a weight need seven digits? Here is the encoder
# that the earlier units fine-tuned on film reviews, and one
# matrix of it as it was published.

# %% name="teacher"
teacher = load_teacher("quick")  # MiniLM fine-tuned on 2,000 snippets; made on first use, then kept
tokenizer, task, model = teacher.tokenizer, teacher.task, teacher.model
up = pretrained_encoder().layers[1].ffn.up.weight.detach()  # (1536, 384), as published: the same on every machine

# %% name="how-large" tags=["nbval-check-output"]
linears = quantizable(model)
inside = sum(linear.weight.numel() for linear in linears.values())
tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
print(f"{len(linears)} linear layers with {inside:,} weights; tables with {tables:,}; {stored_bytes(model):,} bytes")
print(f"one matrix {tuple(up.shape)}: half of it within ±{up.abs().median():.3f}, all within ±{up.abs().max():.2f}")

# %% [markdown]
# The survey names quantization as one of five families and defines it in a line: fewer bits for each weight. This unit
# builds it. Write down two guesses first: with 8 bits a weight instead of 32, how many times smaller is the file? And
# how many times faster the model?

# %% [markdown]
# ## The idea, in one picture
#
# A **code** is a small integer. A **scale** says how far apart neighbouring codes lie. A number is stored as the
# nearest code:
#
# $$q = \operatorname{clamp}\!\left(\operatorname{round}(x / s) + z\right), \qquad \hat x = s\,(q - z) .$$
#
# **Symmetric**: the zero point $z$ is 0, and the codes run from $-m$ to $m$ with $m = 2^{b-1} - 1$. **Asymmetric**: the
# codes $-m-1 \dots m$ are spread over the range from the smallest to the largest number, and $z$ is the code that means
# 0.

# %% name="figure-line"
TOY = torch.tensor([-0.62, -0.28, 0.05, 0.41, 0.93, 1.2])
both = quantize(TOY, bits=3), quantize(TOY, bits=3, symmetric=False)
show(
    codes_on_a_line(
        TOY,
        {
            "Symmetric, 3 bits: codes -3 to 3": (both[0].scale.item(), 0, -3, 3),
            "Asymmetric, 3 bits: codes -4 to 3": (both[1].scale.item(), both[1].zero_point.item(), -4, 3),
        },
    ),
    alt="Six numbers between -0.62 and 1.2 above two lines of codes, with an arrow from each to the nearest code. The "
    "symmetric line has seven codes 0.4 apart from -1.2 to 1.2, of which the lowest is not used. The asymmetric line "
    "has eight codes 0.26 apart that begin near -0.5.",
    caption="Each number moves to the nearest code; spread over the range that is used, the codes lie closer.",
)

# %% [markdown]
# ## By hand
#
# Six numbers, 3 bits, symmetric. The largest absolute value gets the largest code, 3:

# %% name="symmetric-by-hand" tags=["nbval-check-output"]
scale = TOY.abs().max() / 3
codes = (TOY / scale).round()
print(f"scale 1.2 / 3 = {scale:.2f}")
for x, q in zip(TOY.tolist(), codes.tolist(), strict=True):
    print(f"{x:6.2f} / {scale:.2f} = {x / scale:6.3f} -> code {q:+.0f} -> {q * scale:5.2f}, error {x - q * scale:+.2f}")
assert torch.equal(quantize(TOY, bits=3).codes, codes.to(torch.int8))

# %% [markdown]
# No error is larger than **half a step**, $s/2 = 0.2$: nothing was clamped, and rounding goes to the nearest. That
# bound is all that the arithmetic promises. It says that one large number makes the error of *all* numbers larger, for
# it sets the step.
#
# Asymmetric: eight codes over a range of $1.2 + 0.62$ have $2^3 - 1$ steps between them.

# %% name="asymmetric-by-hand" tags=["nbval-check-output"]
low, high = TOY.min(), TOY.max()
scale = (high - low) / 7
zero = (-4 - low / scale).round()
print(f"scale {scale:.2f}, zero point round(-4 + 0.62 / 0.26) = {zero:.0f}, so 0 has the code {zero:.0f}")
codes = ((TOY / scale).round() + zero).clamp(-4, 3)
print("codes", [int(q) for q in codes], "stand for", [round(float(x), 2) for x in scale * (codes - zero)])
assert torch.equal(quantize(TOY, bits=3, symmetric=False).codes, codes.to(torch.int8))

# %% [markdown]
# The first number shows a fine point. The zero point is a whole number, so that 0 itself has a code (padding and ReLU
# make exact zeros). To get there it was rounded, and this moves both ends of the range by up to half a step: -0.62
# would be code -4.4 and becomes -4.
#
# ### Four ways to get this wrong

# %% name="traps" tags=["nbval-check-output"]
print("torch.round goes to the even neighbour:", torch.tensor([0.5, 1.5, 2.5]).round().tolist())
cast = torch.tensor([1.9, -1.9, 200.0]).to(torch.int32).to(torch.int8)
print("a cast cuts off towards zero, and wraps:", cast.tolist())
print("0/0 for a row of zeros:", (torch.zeros(2) / torch.zeros(2).abs().max()).tolist(), "; quantize:", end=" ")
print(quantize(torch.zeros(2)).dequantize().tolist())
print("5 to 6 without 0 in the range: zero point", round(-128 - 5 * 255), "; with it:", end=" ")
print(int(quantize(torch.tensor([5.0, 6.0]), symmetric=False).zero_point))

# %% [markdown]
# ## One scale for whom?
#
# One scale for a whole matrix is decided by its largest weight. It is cheap to have more: one for each output row, or
# one for each **group** of neighbours in a row. Four rows, each ten times smaller than the one before:

# %% name="granularity-toy" tags=["nbval-check-output"]
torch.manual_seed(0)
rows = torch.randn(4, 64) * torch.tensor([1.0, 0.1, 0.01, 0.001])[:, None]
WHOSE = {"one for all": {}, "each column": {"axis": 1}, "each row": {"axis": 0}, "groups of 16": {"group_size": 16}}
for name, options in WHOSE.items():
    q = quantize(rows, **options)
    errors = (q.dequantize() - rows).norm(dim=1) / rows.norm(dim=1)
    print(f"{name:13} {q.scale.numel():>3} scales; error of each row", " ".join(f"{error:7.2%}" for error in errors))

# %% [markdown]
# With one scale the smallest row is rounded to zeros, all of it. One scale for each *column* hardly helps: each column
# still holds a large weight. The axis that counts is the output row, axis 0 of `nn.Linear.weight`: all products that
# are summed for one output then share a scale, which can be taken out of the sum. The real matrix, with 4 bits:

# %% name="granularity-real" tags=["nbval-check-output"]
for name, options in WHOSE.items():
    q = quantize(up, bits=4, **options)
    bits = 4 + 32 * q.scale.numel() / up.numel()
    print(f"{name:13} {bits:5.2f} bits a weight with scales, error {(q.dequantize() - up).norm() / up.norm():.1%}")

# %% [markdown]
# Scales are numbers of 32 bits too: groups of 16 cost two bits more for each weight. Move the sliders and look for the
# cheapest way to an error of 10 %.

# %% name="precompute" tags=["nbval-check-output"]
table = {}
for bits in range(2, 9):
    for group in (384, 128, 64, 32, 16):
        q = quantize(up, bits=bits, group_size=group)
        error = float((q.dequantize() - up).norm() / up.norm())
        table[bits, group] = error, bits + 32 / group
print(f"{len(table)} combinations; 3 bits in groups of 16: {table[3, 16][1]:.1f} bits, error {table[3, 16][0]:.0%}")
print(f"5 bits in groups of 384: {table[5, 384][1]:.2f} bits, error {table[5, 384][0]:.0%}")

# %% name="slider-bits"
explore(
    partial(bits_and_groups, up[5], table),
    bits=(2, 8, 1),
    group=[384, 128, 64, 32, 16],
    static={"bits": 3, "group": 32},
    alt="Left, 64 weights of a row in two groups of 32, each with its seven levels, and a short line from each weight "
    "to its level. Right, error of the matrix against bits for each weight, a falling line for each group size; the "
    "lines for groups of 384, 128 and 64 lie on each other, those for 32 and 16 to the right of them. The chosen "
    "point, 3 bits in groups of 32, is at 4 bits and 23 per cent.",
    caption="A bit more halves the error; scales for small groups cost as much as a bit and buy less.",
)

# %% [markdown]
# ## Less than a byte
#
# A code of 4 bits has half a byte. Nothing in a computer is half a byte long, so two codes are put into one: the first
# in the low half, the second in the high one. Negative codes are in two's complement: $-1$ is all ones.

# %% name="figure-packed"
CODES = [1, -8, 7, -1, 3]
show(
    packed_bytes(CODES),
    alt="Three bytes of eight bits. Byte 0 holds -8 as 1000 in its high half and 1 as 0001 in its low half: 0x81. Byte "
    "1 holds -1 and 7: 0xF7. Byte 2 holds 3 in its low half, its high half is empty: 0x03.",
    caption="Two codes to a byte, the first in the low half; an odd last code leaves half a byte over.",
)

# %% name="pack" tags=["nbval-check-output"]
packed = pack_int4(torch.tensor(CODES, dtype=torch.int8))
print(packed.tolist(), [f"{byte:08b}" for byte in packed.tolist()])
first, second = CODES[0] & 15, CODES[1] & 15
print(f"by hand: {first:04b} and {second:04b} -> {first | second << 4:08b} = {first | second << 4}")

# %% [markdown]
# The same for 3 bits, eight codes in three bytes, and for **ternary** weights, $-\alpha, 0, \alpha$, of which a byte
# holds four. Ternary codes do not come from rounding: with 2 bits the step would be as large as the largest weight, and
# almost everything 0. Ternary Weight Networks (Li et al. 2016, equations 5 and 6) set to zero what is below
# $\Delta = 0.7\,\operatorname{mean}|w|$, and $\alpha$ is the mean of the rest:

# %% name="ternary-by-hand" tags=["nbval-check-output"]
weights = torch.tensor([0.1, -1.0, 0.7, 2.2, 0.0, -2.0, 1.4, 0.6])
delta = 0.7 * weights.abs().mean()
kept = weights.abs() > delta
alpha = weights[kept].abs().mean()
print(f"threshold {delta:.2f}, α = mean of", [round(w, 1) for w in weights[kept].abs().tolist()], f"= {alpha:.2f}")
print("codes", ternarize(weights).codes.tolist())
for name, q in (("2 bits, rounded", quantize(up, bits=2, axis=0)), ("ternary", ternarize(up))):
    error = (q.dequantize() - up).norm() / up.norm()
    print(f"real matrix, {name:15} {(q.codes == 0).float().mean():.0%} zeros, error {error:.0%}")

# %% [markdown]
# ## Eight bits on the real encoder
#
# ### A product of integers
#
# Weights in 8 bits save bytes. To save *time*, the products must be of integers, and so the inputs need codes as well:
#
# $$y_i = \sum_j x_j W_{ij} \approx s_x\, s_{w,i} \sum_j q_{x,j}\, q_{w,ij}.$$
#
# The sum is one of whole numbers (kept in 32 bits; $127 \cdot 127$ already needs 15); both scales come after it. By
# hand:

# %% name="int8-by-hand" tags=["nbval-check-output"]
x, w = torch.tensor([[1.0, -0.5]]), torch.tensor([[2.0, -1.0], [0.3, 0.1]])
q_x, q_w = quantize(x, axis=0), quantize(w, axis=0)
sums = q_x.codes.int() @ q_w.codes.int().T
print("codes of x", q_x.codes.tolist(), "of W", q_w.codes.tolist(), "sums", sums.tolist())
y = sums * q_x.scale * q_w.scale.T
print("y =", [round(v, 4) for v in y[0].tolist()], "exact", [round(v, 4) for v in (x @ w.T)[0].tolist()])

linear = nn.Linear(2, 2, bias=False)
linear.weight = nn.Parameter(w)
layer = Int8Linear.from_linear(linear, q_w)
assert torch.allclose(layer(x), y)

# %% [markdown]
# Here the scale of the inputs was made from the inputs, row by row: **dynamic** quantization. Each token has its own
# scale, so what else is in the batch changes nothing. Weights are never made again: codes and scales are what is
# stored.
#
# ### What it does to a model
#
# `quantize_model` returns a copy. The judges: accuracy on the 776 validation snippets, and **agreement**, the share of
# snippets with the same answer as before. Agreement needs no labels and sees more: two models can be equally accurate
# and differ in many answers.

# %% name="judge"
labels = torch.tensor(task.validation.labels)
majority = max(labels.float().mean().item(), 1 - labels.float().mean().item())
models, said, right, same, drift = {}, {}, {}, {}, {}


def judge(name, other):
    """Accuracy, agreement with full precision, and error of the logits, on validation; kept and printed."""
    models[name] = other
    logits = said[name] = replace(teacher, model=other).predict(task.validation.texts)
    reference = said["full precision"]
    right[name] = (logits.argmax(-1) == labels).numpy()
    same[name] = (logits.argmax(-1) == reference.argmax(-1)).numpy()
    drift[name] = float((logits - reference).norm() / reference.norm())
    print(f"{name:28} {stored_bytes(other) / 1e6:5.1f} MB   accuracy {right[name].mean():.1%}", end="   ")
    print(f"agreement {same[name].mean():6.1%}   logits off by {drift[name]:.1%}")


judge("full precision", model)
judge("int8", quantize_model(model, "int8"))

# %% name="assert-int8"
assert same["int8"].mean() > 0.96 and drift["int8"] < 0.08  # seen: 98.7 % and 3 %; nothing is trained here

# %% [markdown]
# Accuracy is as before, within the noise of 776 snippets (1.4 points). And the size? You guessed 4; it is this:

# %% name="not-four" tags=["nbval-check-output"]
with tempfile.TemporaryDirectory() as place:
    file = save(models["int8"], Path(place) / "model") / "model.safetensors"
    on_disk = file.stat().st_size
    again = load(file.parent)
before, after = stored_bytes(model), stored_bytes(models["int8"])
print(f"{before:,} -> {after:,} bytes: {before / after:.2f} times smaller")
print(f"the file has {on_disk:,}: {on_disk / after - 1:.2%} more, its header")
ids = torch.tensor([tokenizer.encode(["not bad at all"])[0]])
with torch.inference_mode():
    print("reloaded, the same logits:", torch.equal(again(ids).logits, models["int8"](ids).logits))

# %% [markdown]
# The word table was skipped. A report says of every layer what was done to it, or why it was skipped; an excerpt:

# %% name="report" tags=["nbval-check-output"]
report = str(quantization_report(model, models["int8"])).splitlines()
print("\n".join(line for line in report if "layers" not in line or "layers.0" in line))

# %% [markdown]
# ### The table, without breaking the tie
#
# A table is quantized row by row, each word with its scale; a lookup turns the few rows it needs back into numbers.

# %% name="embeddings"
judge("int8, tables too", quantize_model(model, "int8", embeddings=True))
assert same["int8, tables too"].mean() > 0.96  # seen: 99 %

# %% [markdown]
# In a masked language model the table has a second use: it scores the words on the output side, *tied*. Whoever
# quantizes only the output layer has then two tables, one in each precision, and a model that has **grown**:

# %% name="tied" tags=["nbval-check-output"]
torch.manual_seed(0)
mlm = MaskedLM(copy.deepcopy(model.encoder)).eval()
V, H = mlm.encoder.embeddings.word.weight.shape
layers_only = quantize_model(mlm, "int8")
print(f"full precision                    {stored_bytes(mlm):>11,} bytes")
print(f"layers                            {stored_bytes(layers_only):>11,}")
print(f"layers, and the output side alone {stored_bytes(layers_only) + V * H + 4 * V:>11,}")
tied = quantize_model(mlm, "int8", embeddings=True)
print(f"layers, and the one tied table    {stored_bytes(tied):>11,}")
word = tied.encoder.embeddings.word
hidden = torch.randn(1, H)
with torch.inference_mode():
    scores, from_codes = tied.encoder.embeddings.decode(hidden), hidden @ word(torch.arange(V)).T
print("the output scores with the very rows that are looked up:", torch.allclose(scores, from_codes, atol=1e-4))

# %% [markdown]
# ## Static: scales from calibration
#
# Dynamic quantization looks for the largest input of every token while it runs. **Static** quantization fixes scale and
# zero point beforehand, from **calibration** texts; one asymmetric scale for all tokens and channels of a layer. It
# needs some texts (no labels), in evaluation mode and without padding, and it clamps whatever they did not show.

# %% name="static"
calibration = text_batches(task.train.take(128), tokenizer)
judge("int8, weights alone", quantize_model(model, "int8-weight-only"))
judge("int8 static", quantize_model(model, "int8-static", calibration=calibration))
assert drift["int8, weights alone"] < drift["int8"] < drift["int8 static"]

# %% [markdown]
# Compare "weights alone", dynamic and static. With a scale for each token the inputs cost about as much as the weights;
# with one for all tokens, several times as much. Which layers lose it? Here is each layer alone: its real inputs from
# validation texts, its own output in full precision, and the error of its quantized successor on these very inputs.

# %% name="layer-errors"
few = text_batches(task.validation.take(96), tokenizer)


def errors_of(quantized):
    """Path → relative error of that layer's output, on its real inputs."""
    lost, total = {}, {}

    def see(path, rows):
        exact = F.linear(rows, linears[path].weight, linears[path].bias)
        error = quantized.get_submodule(path)(rows) - exact
        lost[path] = lost.get(path, 0) + float(error.square().sum())
        total[path] = total.get(path, 0) + float(exact.square().sum())

    watch_inputs(model, few, linears, see)
    return {path: (lost[path] / total[path]) ** 0.5 for path in linears}


errors = {name: errors_of(models[name]) for name in ("int8", "int8 static")}
worst = max(errors["int8 static"], key=errors["int8 static"].get)
print(f"worst layer: {worst}, {errors['int8 static'][worst]:.1%}")

# %% name="figure-layers"
show(
    layer_errors(errors, "Each layer alone"),
    alt="Error of the output of 37 linear layers for dynamic and static int8. Dynamic lies between 0.6 and 2.5 per cent; "
    "static above it everywhere, with peaks of four to five per cent, mostly at the ffn.up of a layer.",
    caption="One scale for all tokens costs most where some inputs are far larger than the rest.",
)

# %% [markdown]
# ### The outliers
#
# What goes into the first matrix of a feed-forward network is the output of a LayerNorm, 384 channels. Each channel's
# largest value over the calibration texts:

# %% name="figure-outliers"
statistics = input_statistics(model, calibration, linears)
UP = "encoder.layers.1.ffn.up"
inputs = statistics[UP]
largest, later = inputs.largest, statistics[UP.replace("1", "4")].largest
outlier = int(largest.argmax())
show(
    channels({"Layer 1, input of ffn.up": largest, "Layer 4, the same": later}, (outlier,)),
    alt="Largest absolute input of 384 channels in two layers. In layer 1 channel 99 reaches about 30 while the median "
    "channel reaches 2; in layer 4 it is again the largest, at about 20.",
    caption="One channel of the real encoder is over ten times as large as the median one, the same in both layers.",
)
ratio = float(largest.max() / largest.median())
step = float(inputs.high.max() - inputs.low.min()) / 255
print(f"channel {outlier}: {ratio:.0f} times the median channel; the step is {step:.2f}", end=", ")
print(f"without that channel it would be {2 * float(largest.sort().values[-2]) / 255:.2f} at most")
assert outlier == 99 and ratio > 5  # the weights of the published encoder bring it along

# %% [markdown]
# That channel alone sets the step for all of them. Clipping it is no way out: the model uses it.
#
# ### SmoothQuant's answer
#
# Weights are easy to quantize, one scale for each row, and have no such outliers. So move the difficulty: divide input
# channel $j$ by $s_j$ and multiply the weights that read it by $s_j$. The product is the same,
# $(X / s)(W s)^\top = X W^\top$, and with
#
# $$s_j = \frac{\max|X_j|^{\alpha}}{\max|W_j|^{1-\alpha}}$$
#
# the channels of $X/s$ are more alike (Xiao et al. 2023, equation 4). $\alpha$ says how much of the difficulty moves:
# at 1, all of it. In a pre-norm model the division costs nothing, it goes into the LayerNorm before; in BERT's
# post-norm block that output is also the residual, so the division stays at the layer's input.

# %% name="smooth"
static = {"scheme": "int8-static", "calibration": calibration}
judge("int8 static, smoothed", quantize_model(model, **static, smooth=0.5))
errors["smoothed, α = 0.5"] = errors_of(models["int8 static, smoothed"])
assert errors["smoothed, α = 0.5"][UP] < 0.8 * errors["int8 static"][UP]  # seen: half

# %% [markdown]
# The layer we looked at has half the error, and the *model* is worse than before. Look at each layer alone again:

# %% name="figure-smooth"
show(
    layer_errors({name: errors[name] for name in ("int8 static", "smoothed, α = 0.5")}, "Static, each layer alone"),
    alt="Error of each layer's output, static, before and after smoothing. Smoothing brings nearly all layers, above "
    "all the ffn.up ones, down to one or two per cent, but raises ffn.down of layers 0 to 3 to between four and seven, "
    "and that of layer 4 to three.",
    caption="Smoothing heals the layers that read a LayerNorm and breaks four of those that read the neurons.",
)

# %% [markdown]
# ### What broke, and why
#
# In those four a *neuron* is large on both sides: its activation, and the weights that read it. At $\alpha = 0.5$ a
# channel of $X/s$ becomes $\sqrt{\max|X_j| \cdot \max|W_j|}$, which moves difficulty in whichever direction evens
# things out. Here the weights had more of it:

# %% name="both-sides"
print("            input, and weights, of the largest neuron / median neuron; after smoothing")
for depth in range(6):
    path = f"encoder.layers.{depth}.ffn.down"
    x, w = statistics[path].largest, linears[path].weight.detach().abs().amax(0)
    after = (x * w).sqrt()
    neuron = int(after.argmax())
    print(f"layer {depth}, {neuron:>4}: {x[neuron] / x.median():5.1f}  {w[neuron] / w.median():5.1f}", end="  ")
    print(f"->  {after.max() / after.median():5.1f}")

# %% [markdown]
# In layer 0 an input of 16 times the median becomes one of 30. Two ways out: a larger $\alpha$, which leaves more of the
# difficulty to the weights, whose scales are per row; or what the released code of SmoothQuant does without saying so
# in equation 4, smoothing only the layers that read a LayerNorm.

# %% name="smooth-better"
judge("int8 static, α = 0.75", quantize_model(model, **static, smooth=0.75))
AFTER_NORM_ONLY = ("classifier", "pooler", "output", "down")
half = quantize_model(model, **static, smooth=0.5, exclude=AFTER_NORM_ONLY)
judge("int8 static, norms smoothed", quantize_model(half, **static))  # the second call takes what the first one left
judge("int8, smoothed", quantize_model(model, "int8", calibration=calibration, smooth=0.5))
assert drift["int8 static, α = 0.75"] < drift["int8 static"] < drift["int8 static, smoothed"]

# %% [markdown]
# So here a larger $\alpha$ is the best way out. **One fine-tuned model says so**, on validation texts. The study below has three models but only $\alpha = 0.5$, and there smoothing does not
# help: static with all layers smoothed agrees less with full precision than without (97.5 % of the answers against
# 98.3), with the norms alone smoothed (98.5 %) and with dynamic scales (99.5 % both) it makes no difference that could
# be told from none. Whether 0.75 helps other models we have not measured.

# %% [markdown]
# ## GPTQ: let the later weights make up for it
#
# Rounding to nearest treats each weight alone. But a layer *sums*: what one weight loses in rounding another can gain,
# if their inputs are alike. Two inputs almost equal, weights 0.5 and 0.4, codes of 2 bits with scale 1. To nearest,
# both become 0 and the output loses 0.9. GPTQ (Frantar et al. 2023) rounds one column after another and lets those that
# follow take on the error:

# %% name="gptq-by-hand" tags=["nbval-check-output"]
torch.manual_seed(0)
inputs = torch.ones(200, 1) + 0.01 * torch.randn(200, 2)  # two inputs, nearly the same
inputs = torch.cat((inputs, torch.randn(200, 1)), 1)  # and one of another kind
W = torch.tensor([[0.5, 0.4, 1.0]])
print("to nearest:", quantize(W, bits=2, axis=0).codes.tolist())

H = (inputs.T @ inputs / len(inputs)).double()
H += 1e-4 * H.diagonal().mean() * torch.eye(3)  # damping
U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)  # UᵀU = H⁻¹
moving = W[0].double().clone()
for column in range(3):
    code = moving[column].round().clamp(-1, 1)
    error = (moving[column] - code) / U[column, column]
    moving[column + 1 :] -= error * U[column, column + 1 :]
    moving[column] = code
    print(f"column {column} becomes {code:+.0f}; now", [round(v, 2) + 0.0 for v in moving.tolist()])
print("coursekit: ", gptq(W, inputs, bits=2, damping=1e-4).codes.tolist())

# %% [markdown]
# $H = X^\top X$ says how alike the inputs are; a row of $U$ is what one column's error does to those after it. The
# second weight took over the half that the first had lost: the sum is 1 in place of 0.9.
#
# On a real matrix with its real inputs, for 2 to 8 bits:

# %% name="gptq-real"
matrix = linears[UP].weight.detach()


def inputs_of(batches):
    """All real rows (N, 384) that go into the matrix."""
    rows = []
    watch_inputs(model, batches, {UP: linears[UP]}, lambda path, x: rows.append(x))
    return torch.cat(rows)


calibrated, unseen = inputs_of(calibration), inputs_of(few)  # texts of training, texts of validation


def output_error(quantized):
    """‖XWᵀ - XŴᵀ‖ / ‖XWᵀ‖ on inputs that calibration did not have."""
    return float((unseen @ (matrix - quantized.dequantize()).T).norm() / (unseen @ matrix.T).norm())


BITS = (2, 3, 4, 6, 8)
nearest = [output_error(quantize(matrix, bits=bits, axis=0)) for bits in BITS]
better = [output_error(gptq(matrix, calibrated, bits=bits)) for bits in BITS]
assert all(a < 0.9 * b for a, b in zip(better, nearest, strict=True))

# %% name="figure-gptq"
show(
    errors_by_bits(BITS, {"rounded to nearest": nearest, "GPTQ": better}, "One matrix, inputs of unseen texts"),
    alt="Error of the output against bits, logarithmic. Both lines fall from tens of per cent at 2 bits to half a per "
    "cent and less at 8; the one of GPTQ lies under the other everywhere, at about two thirds of its height.",
    caption="At every number of bits GPTQ loses less, on texts that calibration did not have.",
)

# %% [markdown]
# GPTQ works through blocks of columns, for speed alone, so the size of a block must not change the result. In the
# released code it does once there are groups: scales of groups inside a block are taken from weights that earlier
# errors have not reached yet. Here they have:

# %% name="gptq-blocks" tags=["nbval-check-output"]
part = calibrated[:500]
for group in (None, 32):
    found = [gptq(matrix[:64], part, bits=3, group_size=group, block_size=block) for block in (1, 48, 128, 384)]
    equal = all(torch.equal(q.codes, found[0].codes) and torch.equal(q.scale, found[0].scale) for q in found)
    print(f"groups {group!s:>4}: the same codes and scales for blocks of 1, 48, 128 and 384: {equal}")

# %% [markdown]
# ### Below eight bits, the whole model
#
# Now all layers, weights alone. "Per row": one scale for each output row.

# %% name="few-bits"
judge("4 bits per row", quantize_model(model, Scheme(4)))
judge("4 bits, groups of 64", quantize_model(model, "int4"))
judge("3 bits per row", quantize_model(model, Scheme(3)))
judge("3 bits per row, GPTQ", quantize_model(model, Scheme(3, gptq=True), calibration=calibration))
judge("ternary", quantize_model(model, "ternary"))
assert same["4 bits, groups of 64"].mean() > 0.94 > same["3 bits per row"].mean() > same["ternary"].mean()
assert same["3 bits per row, GPTQ"].mean() > same["3 bits per row"].mean() + 0.03  # seen: 0.10

# %% [markdown]
# Four bits hardly show. Three bits per row do, and GPTQ takes back a good part of it. Ternary weights, put in after
# training, leave this model near to always answering the larger class. (Others keep more: see the study below.)
#
# ## Train through the rounding
#
# If rounding breaks the model, train it *with* the rounding. In the forward pass the weights are rounded (**fake
# quantization**: real numbers that only take the values codes can stand for); the weights that learn stay real. But
# rounding is a staircase, its slope is 0 wherever it exists, and nothing would learn. The **straight-through
# estimator** (Bengio et al. 2013) takes rounding for the identity in the backward pass; clamping stays what it is.

# %% name="figure-straight-through"
line = torch.linspace(-1.6, 1.6, 641, requires_grad=True)
stairs = fake_quantize(line, bits=3, scale=torch.tensor(0.4))
stairs.sum().backward()
show(
    straight_through(line.detach(), stairs.detach(), line.grad),
    alt="Left, a staircase of seven steps of 0.4 along the diagonal, flat below -1.2 and above 1.2. Right, the true "
    "slope is a line at 0, the straight-through gradient is 1 between -1.4 and 1.4 and 0 outside.",
    caption="The gradient looks through the steps of the staircase, but not through its ends.",
)

# %% name="gradient-by-hand" tags=["nbval-check-output"]
x = torch.tensor([-2.0, -0.3, 0.5, 1.3], requires_grad=True)
y = fake_quantize(x, bits=3, scale=torch.tensor(0.4))
(y**2).sum().backward()
print("forward ", [round(v, 1) for v in y.tolist()])
print("gradient", [round(v, 1) + 0.0 for v in x.grad.tolist()], "= 2y where x is in the range, 0 where it was clamped")
assert torch.allclose(x.grad, 2 * y.detach() * torch.tensor([0.0, 1, 1, 1]))

# %% [markdown]
# `prepare_qat` puts such layers in, any training loop trains them, `convert_qat` makes codes of them. We take the worst
# case, ternary weights, and train on for a few steps on texts that the encoder already knows. (Q8BERT, Zafrir et al.
# 2019, trained through 8 bits while fine-tuning.)

# %% name="qat"
texts = text_batches(task.train.take(by_profile(quick=640, full=4000)), tokenizer, batch_size=16, seed=0)
recipe = TrainConfig(epochs=1, lr=3e-4)
student = prepare_qat(model, "ternary")
student.encoder.embeddings.word.requires_grad_(False)
train(student, texts, classification_loss, recipe, title="ternary")
judge("ternary, trained through it", convert_qat(student))
gain = paired_bootstrap(right["ternary, trained through it"], right["ternary"], seed=0)
print(f"gain {gain.difference:+.1%}, 95 % interval {gain.low:+.1%} to {gain.high:+.1%}")
assert gain.difference > 0.02  # seen: 13 points

# %% [markdown]
# A short training brings back a working model, with one of three values for each weight. Is it the rounding that
# was learned, or only more training? The study below has the control: the same steps without rounding.
#
# ## What is really faster
#
# Fewer bits are fewer bytes. Time is another matter: it needs a processor that multiplies small integers, and a kernel
# that uses it. What this machine has:

# %% name="machine"
print(machine())

# %% name="times"
ids = torch.randint(1000, 30000, (1, 128), generator=torch.Generator().manual_seed(0))
timed = {
    "full precision": model,
    "int8": models["int8"],
    "int8, tables too": models["int8, tables too"],
    "int8 static": models["int8 static"],
    "4 bits, groups of 64": models["4 bits, groups of 64"],
    "ternary, trained through it": models["ternary, trained through it"],
}
times = compare({name: partial(other, ids) for name, other in timed.items()}, repeats=12, threads=1)
for name, found in times.items():
    print(f"{name:28} {found}")

# %% [markdown]
# Ratios on 128 tokens, one thread: with integer products an encoder of width 384 takes well under full precision's
# time. The packed layers do not: their weights are unpacked and multiplied as real numbers, so they save bytes and
# *cost* time. (Kernels that multiply 4-bit weights directly exist, for one to eight rows at a time, where reading the
# weights is what takes long: generating text, not encoding it.)
#
# The wider the matrices, the more a product outweighs what is around it. Two layers of BERT-base:

# %% name="times-wide"
torch.manual_seed(0)
wide = Encoder(preset("bert-base").replace(num_layers=2, vocab_size=1000, pooler=False)).eval()
wide_ids = torch.randint(1000, (1, 128))
pair = {"full precision": wide, "int8": quantize_model(wide, "int8")}
wide_times = compare({name: partial(other, wide_ids) for name, other in pair.items()}, repeats=12, threads=1)
for name, found in wide_times.items():
    print(f"{name:15} {found}, {1 / found.ratio:.1f} times as fast")
with torch.inference_mode():
    exact, near = wide(wide_ids).last_hidden, pair["int8"](wide_ids).last_hidden
print(f"error of the output {(near - exact).norm() / exact.norm():.1%}")
assert (near - exact).norm() < 0.03 * exact.norm()

# %% [markdown]
# `coursekit bench inference` does this for more shapes and for other engines too, ONNX Runtime and torchao among them,
# and prints each ratio beside what the course promises.
#
# ## Where it hurts
#
# Not every layer is equally sensitive. Quantize **one** layer to 3 bits per row, leave all others, and see how far the
# logits of 32 snippets move:

# %% name="sensitivity"
probes = list(text_batches(task.validation.take(32), tokenizer).epoch(0))
KINDS = {"query": "attention.query", "key": "attention.key", "value": "attention.value"}
KINDS |= {"output": "attention.output", "up": "ffn.up", "down": "ffn.down"}


def logits_of(other):
    """Logits of the 32 texts, (32, 2)."""
    with torch.inference_mode():
        return torch.cat([other(batch["input_ids"], batch["attention_mask"]).logits for batch in probes])


whole = logits_of(model)
moved = np.empty((6, len(KINDS)))
probe = copy.deepcopy(model)
for depth in range(6):
    for number, path in enumerate(KINDS.values()):
        layer = probe.encoder.layers[depth].get_submodule(path)
        kept = layer.weight.data
        layer.weight.data = quantize(kept, bits=3, axis=0).dequantize()
        moved[depth, number] = 100 * (logits_of(probe) - whole).norm() / whole.norm()
        layer.weight.data = kept

# %% name="figure-sensitivity"
show(
    sensitivity(moved, [f"layer {depth}" for depth in range(6)], list(KINDS), "One matrix in 3 bits: logits off by, %"),
    alt="A grid of six layers by six matrices. The numbers range from 1 to 23; the matrices of the feed-forward networks "
    "have the largest, above all in layers 0 and 2, and in layers 4 and 5 all are below 5.",
    caption="The same rounding hurts some matrices more than ten times as much as others.",
)
print("sum over layers:", {name: round(float(column.sum()), 0) for name, column in zip(KINDS, moved.T, strict=True)})

# %% [markdown]
# So spend bits where it hurts. Keep the most sensitive kind of matrix in 8 bits, the others in 3; a second call of
# `quantize_model` takes care of what the first one left:

# %% name="mixed"
sensitive = max(KINDS, key=lambda name: moved[:, list(KINDS).index(name)].sum())
mixed = quantize_model(model, Scheme(3), exclude=("classifier", sensitive))
judge(f"3 bits, {sensitive} in 8", quantize_model(mixed, "int8-weight-only"))
assert same[f"3 bits, {sensitive} in 8"].mean() > same["3 bits per row"].mean()

# %% [markdown]
# ## Two methods on top of each other
#
# Methods that save different things multiply. Pruning (unit 05) takes neurons out of the feed-forward networks, so
# there is less to multiply; 8 bits make what is left cheaper. Three quarters of the neurons go, those whose removal
# should matter least on training texts; nothing is retrained.

# %% name="stack"
importance = neuron_importance(model, text_batches(task.train.take(256), tokenizer), classification_loss)
pruned = prune_ffn(copy.deepcopy(model), best_neurons(importance, 0.75))
judge("pruned", pruned)
judge("pruned, then int8", quantize_model(pruned, "int8", embeddings=True))
step = drift["pruned, then int8"] - drift["pruned"]
alone = drift["int8, tables too"]
print(f"int8 adds {step:+.1%} to the logits' error of {drift['pruned']:.1%}; alone it has {alone:.1%}")

# %% [markdown]
# ## Everything on one page

# %% name="candidates"
FINAL = ["full precision", "int8", "int8 static", "int8, tables too", "4 bits and tables"]
FINAL += ["ternary, trained through it", "pruned, then int8"]
judge("4 bits and tables", quantize_model(model, "int4", embeddings=True))
times = compare({name: partial(models[name], ids) for name in FINAL}, repeats=12, threads=1)
cards = [
    Candidate(
        name,
        stored_bytes(models[name]) / 1e6,
        times[name].ratio,
        times[name].ratio_iqr,
        right[name].mean(),
        *bootstrap_interval(right[name], seed=0),
    )
    for name in FINAL
]

# %% name="figure-together"
show(
    one_page(cards, majority),
    alt="Seven models in rows, three panels: megabytes from 91 down to 13, time relative to full precision, accuracy "
    "with intervals. Those with int8 layers are faster than full precision, the packed ones are not; the intervals of "
    "accuracy overlap that of full precision, but for ternary's.",
    caption="Smaller and faster are two lists with two orders: look at all three numbers before choosing.",
)

# %% [markdown]
# ### Choose, then test once
#
# The rule, set before looking: of all models on that page the one with the fewest bytes whose validation accuracy is at
# most one point below full precision's. Then the test set, once.

# %% name="choose-and-test"
good = [card for card in cards if card.accuracy >= right["full precision"].mean() - 0.01]
chosen = min(good, key=lambda card: card.megabytes)
answers = torch.tensor(task.test.labels)
on_test = [
    (replace(teacher, model=models[name]).predict(task.test.texts).argmax(-1) == answers).numpy()
    for name in (chosen.name, "full precision")
]
result = paired_bootstrap(*on_test, seed=0)
print(f"chosen on validation: {chosen.name}, {chosen.megabytes:.1f} of {stored_bytes(model) / 1e6:.1f} MB")
print(f"test: full precision {on_test[1].mean():.1%}, chosen {on_test[0].mean():.1%}")
print(f"difference {result.difference:+.1%}, 95 % interval {result.low:+.1%} to {result.high:+.1%}")
assert result.difference > -0.05 and chosen.megabytes < 60  # the rule allows a point, and the noise is as large

# %% [markdown]
# On our machine that is four bits with tables: a seventh of the bytes, and on the test set no difference that could be
# told from none. But look at its time on the page above. The rule counts bytes; who counts milliseconds too takes
# eight bits with tables.
#
# ## The study
#
# One fine-tuning and one model are an anecdote. So: three fine-tunings of the encoder (5,000 snippets, three seeds,
# each with its own calibration texts), and every scheme on each of them; nothing tuned, the test set used once.
# "Agreement" is with the same seed's model in full precision.

# %% name="study" tags=["nbval-check-output"]
study = load_study("quantization")
arms, baseline = study["arms"], study["baselines"]
print(f"{study['command']}, seeds {sorted({run['seed'] for run in study['runs']})}, {study['date'][:10]}")
print(f"{baseline['test_texts']:,} test snippets; always the larger class {baseline['majority_test_accuracy']:.1%}\n")


def spread(found, digits=1):
    """Mean and, over seeds, standard deviation, in per cent."""
    more = "" if found["sd"] is None else f" ± {100 * found['sd']:.{digits}f}"
    return f"{100 * found['mean']:.{digits}f}{more}"


print("arm                           MB   accuracy, %   agreement, %")
for arm, found in arms.items():
    size = found["stored_bytes"]["mean"] / 1e6
    print(f"{arm:26} {size:5.1f}   {spread(found['test_accuracy']):<12}  {spread(found['test_agreement'])}")

# %% name="figure-study"
FAMILIES = {
    "int8": ["int8-embeddings", "int8"],
    "rounded, per row": ["ternary", "int3-row", "int4-row"],
    "GPTQ, per row": ["int3-row-gptq", "int4-row-gptq"],
    "trained through it": ["ternary-qat", "int3-row-qat"],
    "4 bits, groups; with tables": ["int4-g64-embeddings", "int4-g64", "int4-g32"],
}
show(
    study_arms(study, FAMILIES),
    alt="Two panels against megabytes, with the range over seeds: agreement with full precision and accuracy on the "
    "test set. The models with quantized tables lie far to the left, at 13 and 23 MB, as high as the same layers "
    "without; the others between 50 and 59 MB, where both fall steeply from four bits to three and to ternary, GPTQ's "
    "and the trained ones least.",
    caption="The tables decide the size, the layers' bits decide the accuracy.",
)

# %% name="figure-study-differences"
PAIRS = ("int8 − fp32", "int8-static − fp32", "int8-embeddings − fp32", "int4-g64-embeddings − fp32", "int3-row − fp32")
PAIRS += ("int3-row-gptq − int3-row", "int3-row-qat − int3-row-gptq", "int3-row-qat − fp32-more")
PAIRS += ("ternary-qat − ternary", "ternary-qat − fp32-more", "fp32-more − fp32")
show(
    differences({pair: study["differences"][pair]["test_accuracy"] for pair in PAIRS}, "Test accuracy", "points"),
    alt="Differences of accuracy with 95 % intervals for eleven pairs of arms, about a line at zero. Four do not touch "
    "it and have square markers: 3 bits against full precision, -7.0; GPTQ against rounding at 3 bits, +5.5; 3 bits and "
    "ternary trained through it against the same training without rounding, -1.9 and -3.3.",
    caption="Differences between arms, over snippets and seeds: only squares are told apart from no difference.",
)

# %% name="study-differences" tags=["nbval-check-output"]
print(f"{'points, 95 % interval over snippets and seeds':48}{'accuracy':>15}{'agreement':>21}")
PAIRS += ("int8-smooth − int8", "int8-static-smooth − int8-static", "int8-static-smooth-norms − int8-static")
for pair in (*PAIRS, "int4-row-gptq − int4-row"):
    cells = (
        f"{100 * d['difference']:+6.1f} ({100 * d['low']:+5.1f} to {100 * d['high']:+5.1f})"
        for d in study["differences"][pair].values()
    )
    print(f"{pair:40}", *cells)

# %% name="assert-study"
accuracy = {arm: found["test_accuracy"]["mean"] for arm, found in arms.items()}
agreement = {arm: found["test_agreement"]["mean"] for arm, found in arms.items()}
change = {pair: found["test_accuracy"] for pair, found in study["differences"].items()}
assert abs(accuracy["int8"] - accuracy["fp32"]) < 0.02 and agreement["int8"] > 0.96
assert agreement["int4-g64"] > agreement["int3-row"] > agreement["ternary"]
assert change["int3-row-gptq − int3-row"]["low"] > 0 > change["int3-row-gptq − fp32"]["high"]
assert change["ternary-qat − ternary"]["low"] < 0 < change["ternary-qat − ternary"]["difference"]
assert change["int3-row-qat − fp32-more"]["high"] < 0 and change["fp32-more − fp32"]["low"] < 0
assert change["int4-row-gptq − int4-row"]["low"] < 0 < change["int4-row-gptq − int4-row"]["high"]
agreed = {pair: found["test_agreement"] for pair, found in study["differences"].items()}
assert agreed["int8-static-smooth − int8-static"]["high"] < 0  # smoothing all layers at α = 0.5 moves further away
for pair in ("int8-static-smooth-norms − int8-static", "int8-smooth − int8"):
    assert agreed[pair]["low"] < 0 < agreed[pair]["high"]

# %% [markdown]
# What three seeds say (the test set is one of 2,211 snippets; intervals over snippets and seeds):
#
# - **Eight bits** cannot be told from full precision in accuracy, tables or not: the differences are about 0.1 points
#   and their intervals at most 0.6 wide to either side. One answer in 200 changes, with static scales one in 60.
# - **Four bits, tables too**, lose half a point, an interval that contains zero, and take 13 of 91 MB.
# - **Three bits per row** lose 7.0 points. GPTQ brings back 5.5 of them, from 256 texts, with no labels and no training.
# - **Training through the rounding** has a control, `fp32-more`: the same steps without rounding. They gained nothing (a
#   point *less*, its interval contains zero), so what 3-bit training brings back it owes to having met the rounding. It
#   still ends 1.9 points below the control, and no better than GPTQ (1.2 points less, an interval that just contains
#   zero).
# - **Ternary** without training is a lottery: 67 to 76 %, by the seed of the fine-tuning. Trained through it ends at 75
#   to 77 % each time. The gain is 3.5 points in the mean, and because of that spread its interval contains zero: three
#   seeds are too few to call it a gain.

# %% [markdown]
# ## What the papers report
#
# All published, not measured here:
#
# - **Q8BERT** (Zafrir et al. 2019): BERT-base, 8 bits for all linear layers and embeddings, trained through the
#   rounding; scores as its authors' code repository lists them.
# - **TernaryBERT** (Zhang et al. 2020): BERT-base with ternary weights and embeddings and 8-bit activations, distilled:
#   28 MB in place of 418 MB, "14.9 times smaller". Its scores are from a transcription of the paper's tables.
#
# Their scores in per cent of their own full precision, beside ours from the study:

# %% name="figure-published"
Q8BERT = {
    "MRPC": (90.0, 89.56),
    "QNLI": (90.3, 90.62),
    "QQP": (87.84, 87.96),
    "RTE": (69.7, 68.78),
    "SST-2": (92.36, 92.24),
    "STS-B": (89.62, 89.04),
    "SQuAD 1.1": (88.46, 87.74),
}
TERNARY_BERT = {"MNLI (ternary)": (84.5, 83.3), "SQuAD 1.1 (ternary)": (88.7, 87.4)}
OURS = {"int8-embeddings": "int8 and tables, not trained", "ternary-qat": "ternary, trained", "ternary": "ternary"}
show(
    beside_published(
        {"Q8BERT": Q8BERT, "TernaryBERT": TERNARY_BERT},
        {label: (accuracy["fp32"], accuracy[arm]) for arm, label in OURS.items()},
    ),
    alt="Score kept in per cent of full precision. Q8BERT's seven tasks lie between 98.7 and 100.4; TernaryBERT's two "
    "at 98.6 and 98.5. Measured here: int8 with tables at 100.0, ternary trained at 94.8, ternary untrained at 90.4.",
    caption="Eight bits keep the score, published and here; three values need training, and more than ours.",
)

# %% [markdown]
# Different models, tasks and metrics: compare distances from 100, no more. TernaryBERT learns from a teacher on far
# more data; unit 07 is about that.
#
# GPTQ's own numbers are perplexities of language models (published; WikiText2, lower is better; "RTN" is rounding to
# nearest). The pattern is our study's: the fewer the bits, the further GPTQ is ahead (in accuracy by nothing at 4
# bits, by 5.5 points at 3).
#
# | model | 16 bits | RTN 4 | GPTQ 4 | RTN 3 | GPTQ 3 |
# |---|---|---|---|---|---|
# | OPT-175B | 8.34 | 10.54 | 8.37 | 7,300 | 8.68 |
# | BLOOM-176B | 8.11 | 8.37 | 8.21 | 571 | 8.64 |
# | OPT-125M | 27.65 | 37.28 | 31.12 | | |
#
# > **What the sources do not tell you**
# >
# > - **There is no nominal 4×.** Eight bits in the linear layers of BERT-base leave 23.8 million embedding parameters
# >   in 32 bits: 438 MB become 181, a factor of 2.4. MiniLM, half of which is its word table, comes to 1.55. Four times
# >   needs the tables too; and no number of bits says anything about time.
# > - **One bit more or less than stated.** A group of 64 with a 32-bit scale is 4.5 bits, not 4; a ternary value needs
# >   $\log_2 3 = 1.58$ bits and is stored in 2.
# > - **Which range is symmetric?** Here $-127 \dots 127$ with scale $\max|x|/127$, as Q8BERT. torchao's symmetric
# >   mapping spreads $\max|x|$ over 127.5 steps, so the largest value, code 127.5, is clipped by half a step.
# > - **SmoothQuant's equation 4 has no word on which layers.** Its code smooths those after a LayerNorm. Smoothing all
# >   layers at $\alpha = 0.5$ moved our static model further from full precision, in the study too (97.5 % of the
# >   answers agree, 98.3 without).
# > - **GPTQ's released code, with groups, depends on its block size**: scales inside a block are taken from weights
# >   that earlier errors have not reached. Later implementations changed this.
# > - **Parameter counts lie after quantization.** PyTorch's dynamically quantized modules expose no parameters at all,
# >   torchao's tensors the size of the numbers they stand for. Weigh the file.
# > - **The survey's line**, fewer bits for each weight, leaves out the activations. Without codes for them nothing is
# >   faster, and with one scale for all tokens they cost more than the weights do.
#
# ## What held, and what did not
#
# The claims of the survey (Xu and McAuley 2022) and of the papers, one by one:
#
# > - *Quantization, one of five families, keeps fewer bits for each weight.* **And most bits are not missed.** Surveys
# >   name it and show no numbers; ours, of three fine-tuned models: eight bits, tables too, take 23.0 of 90.9 MB and
# >   cost nothing that could be seen (+0.0 points, -0.3 to +0.3); four bits, 12.9 MB and half a point (-1.1 to +0.1).
# > - *Eight bits make a file four times smaller.* **Only with the tables**: 3.95 times; the layers alone, 1.55.
# > - *Fewer bits are faster.* **Not by themselves.** Integer products are faster than full precision on this machine;
# >   packed 4-bit and ternary weights are slower, though smaller: see the figure of time above.
# > - *Eight bits need training through the rounding* (Q8BERT trains so). **Not here**: nothing was trained.
# > - *SmoothQuant evens out outliers at no cost.* **Where they are in the inputs alone.** Where weights are large too it
# >   made static models worse; a larger $\alpha$ helped the one model we tried it on.
# > - *GPTQ beats rounding to nearest.* **At 3 bits, clearly** (+5.5 points, 4.1 to 7.0); at 4, not in accuracy (-0.7
# >   to +0.7) but in agreement (+1.8 points, 0.9 to 2.6).
# > - *Ternary keeps 98 to 99 % of the score* (TernaryBERT, distilled). **Not in our short training**: 94.8 %.

# %% [markdown]
# ## Summary
#
# | | how | remember |
# |---|---|---|
# | symmetric | $s = \max\lvert x\rvert / (2^{b-1}-1)$ | error at most $s/2$; one large number sets $s$ for all |
# | asymmetric | $s = (\max - \min)/(2^b - 1)$ | stretched so that 0 has a code |
# | per row | one scale for each output | leaves the sum before the scales: integer products |
# | groups of $g$ | $b + 32/g$ bits | small groups cost as much as a bit |
# | dynamic, static | scales from each token, from calibration | static clamps, and one outlier sets its step |
# | SmoothQuant | $(X/s)(Ws)^\top$ | moves difficulty to the weights, if they have less of it |
# | GPTQ | error of one column to the next ones | nearer outputs, farther weights; no training |
# | QAT | rounds forward, not backward | for very few bits; has a control |
#
# Eight bits: take them, with the tables, and gain bytes and (with integer kernels) time. Four bits in groups: bytes
# alone, almost free. Below that it takes GPTQ, or training.

# %% [markdown]
# ## Questions
#
# <details><summary>1. A matrix of standard normal numbers gets one outlier of 100. What happens to the others at 8
# bits, one scale for all?</summary>
#
# The step becomes 100/127 = 0.79 in place of about 0.03. Most numbers are rounded to -1, 0 or 1 steps: to multiples of
# 0.79.
# </details>
#
# <details><summary>2. Why must 0 have a code of its own?</summary>
#
# Padding, ReLU and pruned weights are exact zeros, many of them. If 0 came back as 0.003, every one would add the same
# small error, and sums of many equal errors do not cancel.
# </details>
#
# <details><summary>3. Why one scale for each output row, and not for each input column?</summary>
#
# An output is a sum over inputs. With one scale for its row, the sum is one of integers, scaled once at the end. With a
# scale for each column every product would need its own scale before it can be added.
# </details>
#
# <details><summary>4. Someone stores BERT-base with 4 bits for each weight, groups of 32, and expects an eighth of the
# size. How many bits does a weight take?</summary>
#
# 4 + 32/32 = 5 bits with scales of 32 bits (4.5 with 16): between a sixth and a seventh, and only of what was
# quantized.
# </details>
#
# <details><summary>5. GPTQ changes weights so that each is farther from its original than after rounding. Why is it
# better?</summary>
#
# It minimises the error of the layer's output on real inputs. Errors that cancel in the sum cost nothing.
# </details>
#
# <details><summary>6. After QAT the accuracy is three points higher than with plain rounding. What has to be shown
# before the rounding in training gets the credit?</summary>
#
# The same training without the rounding: the model may just have learned more from the extra steps.
# </details>
#
# **Next:** the [exercises of this unit](../exercises/06_quantization.ipynb), where you write these pieces yourself;
# then [07 · Distillation I](07_distillation.ipynb).
