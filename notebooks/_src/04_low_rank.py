# %% [markdown] name="title"
# # 04 · Low-rank factorization
#
# **You will be able to** cut a matrix to any rank by hand and in code, say at which rank that begins to pay on paper
# and on your machine, factorise a real encoder so that it keeps its accuracy as long as possible, and tell a weight of
# low rank from an update of low rank (LoRA).
#
# **About 45 minutes, and as much for the exercises.** Needs [01 · Where the parameters are](01_parameters.ipynb). The
# notebook runs in about three minutes on two cores.

# %% name="imports"
import copy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from coursekit.compress.lowrank import (
    add_lora,
    aware_factors,
    break_even_rank,
    compress,
    factorizable,
    factorize,
    factorize_embeddings,
    input_moments,
    low_rank_report,
    merge_lora,
    moments_of,
    rank_for_budget,
    spectrum,
    svd_factors,
)
from coursekit.compress.quantization import quantize_model
from coursekit.course import by_profile
from coursekit.course.studies import load_study
from coursekit.measure import (
    bootstrap_interval,
    compare,
    count_flops,
    count_parameters,
    machine,
    paired_bootstrap,
    stored_bytes,
)
from coursekit.models import MaskedLM, SequenceClassifier
from coursekit.train import TrainConfig, classification_loss, load_teacher, pretrained_encoder, text_batches, train
from coursekit.viz import explore, show, use_style
from coursekit.viz.comparison import Candidate, one_page
from coursekit.viz.low_rank import (
    break_even_times,
    direction_sweep,
    energy_panels,
    layer_maps,
    part_effects,
    rank_card,
    recovery,
    trade_offs,
)

use_style()

# %% [markdown]
# ## The question
#
# Surveys give low-rank factorization one sentence: keep a matrix as a product of smaller ones. That sentence hides two
# questions. Is a trained matrix *near* such a product? And near in which sense: near in its numbers, or near in what it
# does?
#
# Here is what is at stake: MiniLM, fine-tuned on 2,000 snippets of film reviews. Unit 01 dealt with its word table. The
# other half of its weights multiplies, and so costs time as well as bytes.

# %% name="teacher" tags=["nbval-check-output"]
teacher = load_teacher("quick")  # made on first use, then kept
tokenizer, task = teacher.tokenizer, teacher.task
layers = factorizable(teacher.model)  # path -> nn.Linear, without the embeddings and the classifier
weights = sum(layer.weight.numel() for layer in layers.values())
print(f"{len(layers)} matrices with {weights:,} numbers, of {count_parameters(teacher.model).total:,} parameters")

# %% [markdown]
# ## The idea in one picture
#
# A linear layer with weight $W$ ($m$ outputs, $n$ inputs) computes $y = Wx + b$. Put two thin matrices in its place:
#
# $$W \approx \underbrace{P}_{m \times r}\,\underbrace{Q}_{r \times n}, \qquad y = P\,(Q x) + b, \qquad
# m n \;\longrightarrow\; r\,(m + n).$$
#
# The inputs are squeezed through $r$ numbers and widened again. Both are saved, the numbers *and* the multiplications,
# if $r$ is small enough:
#
# $$r < \frac{m n}{m + n}.$$

# %% name="break-even" tags=["nbval-check-output"]
for m, n in ((384, 384), (1536, 384), (768, 768), (3072, 768)):
    edge, half = break_even_rank(m, n), rank_for_budget(m, n, 0.5)
    print(f"{m:>4}×{n}: break-even at rank {edge:.1f} of {min(m, n)}; half of the numbers buys rank {half}")

# %% [markdown]
# Read the first row twice. A square matrix breaks even at *half* its rank, and "keep half of the parameters" means a
# *quarter* of the rank. The rectangular FFN is more patient: four fifths, and two fifths.

# %% [markdown]
# ## By hand
#
# $$W = \begin{pmatrix} 3 & 0 \\ 4 & 5 \end{pmatrix}, \qquad
# W^\top W = \begin{pmatrix} 25 & 20 \\ 20 & 25 \end{pmatrix}.$$
#
# $W^\top W$ has the eigenvectors $(1, 1)/\sqrt2$ and $(1, -1)/\sqrt2$ with eigenvalues $45$ and $5$. Their roots are
# the **singular values** of $W$: $\sigma_1 = 3\sqrt5$, $\sigma_2 = \sqrt5$. Along $v_1 = (1,1)/\sqrt2$ the matrix
# stretches most. To cut $W$ to rank 1, keep what it does to that direction, and forget the other:
#
# $$\hat W = W v_1 v_1^\top = \begin{pmatrix} 1.5 & 1.5 \\ 4.5 & 4.5 \end{pmatrix}, \qquad
# W - \hat W = \begin{pmatrix} 1.5 & -1.5 \\ -0.5 & 0.5 \end{pmatrix}, \qquad
# \lVert W - \hat W \rVert_F^2 = 5 = \sigma_2^2 .$$

# %% name="toy-svd" tags=["nbval-check-output"]
W = torch.tensor([[3.0, 0.0], [4.0, 5.0]])
P, Q = svd_factors(W, 1)
print("singular values squared", [round(s, 4) for s in spectrum(W).square().tolist()])
print("rank 1", [[round(number, 4) for number in row] for row in (P @ Q).tolist()])
print("squared error", round((W - P @ Q).square().sum().item(), 4))

# %% [markdown]
# Could another direction do better? Turn $v$ through all angles and take $W v v^\top$ each time:

# %% name="figure-directions"
show(
    direction_sweep(W),
    alt="The error over the angle of the kept direction: a smooth wave between 6.7 at 135 degrees and 2.236 at 45 "
    "degrees, where it touches the dashed line of the dropped singular value and nowhere falls below it.",
    caption="No direction beats 45 degrees, and there the error is exactly the singular value that was dropped.",
)

# %% [markdown]
# That is the theorem of Eckart and Young (1936), for any size and rank: with $W = U \Sigma V^\top$ no matrix of rank
# $r$ is nearer to $W$ than $U_r \Sigma_r V_r^\top$, and its squared error is $\sigma_{r+1}^2 + \sigma_{r+2}^2 + \dots$
#
# ## In code
#
# `nn.Linear` stores its weight as (out, in). So $Q$ becomes the *first* layer, in → $r$, without bias; $P$ the second,
# $r$ → out, and it takes the bias over, once. Each factor gets $\sqrt{\Sigma}$, so that both are of the same size.

# %% name="factorize" tags=["nbval-check-output"]
torch.manual_seed(0)
linear = nn.Linear(384, 1536)
low = factorize(linear, 100)
print(low)
print(f"{count_parameters(linear).total:,} -> {count_parameters(low).total:,} = 100·(384 + 1536) + 1536")
x = torch.randn(8, 384)
assert torch.allclose(low.merge()(x), low(x), atol=1e-5)  # and back: one plain linear with the product as its weight
assert torch.allclose(factorize(linear, 384)(x), linear(x), atol=1e-5)  # at full rank nothing is lost
print(f"FLOP a row: {count_flops(linear, inputs=x) // 8:,} -> {count_flops(low, inputs=x) // 8:,}")

# %% [markdown]
# ## Break-even, measured
#
# On paper the time falls as the products do. But two small products are not one large one cut in half: each has its own
# start, and thin matrices keep a processor less busy. So measure, with inputs of 128 rows (one text of 128 tokens),
# arms interleaved, as ratios to the dense layer.

# %% name="measure-break-even"
EDGE = break_even_rank(3072, 768)
RANKS = (32, 64, 128, 192, 256, 320, 384, 448, 512, 576, 614, 704)
times = {}
for rows in (128, 8):
    x, arms = torch.randn(rows, 768), {"dense": nn.Linear(768, 3072)}
    for rank in RANKS:  # values do not matter for time, so these factors are random
        arms[str(rank)] = nn.Sequential(nn.Linear(768, rank, bias=False), nn.Linear(rank, 3072))
    found = compare({name: partial(layer, x) for name, layer in arms.items()}, repeats=by_profile(quick=40, full=100))
    times[f"{rows} rows"] = [(found[str(rank)].ratio, found[str(rank)].ratio_iqr) for rank in RANKS]
print(machine())

# %% name="figure-break-even"
show(
    break_even_times(RANKS, times, EDGE),
    alt="Time of a factorised 3072×768 layer relative to the dense one, over ranks 32 to 704, for 128 rows and for 8, "
    "with interquartile ranges. The points of 128 rows rise along the dashed line of the products, on it or a little "
    "above, and reach 1 near the dotted line of the break-even, 614; those of 8 rows scatter about the same line.",
    caption="Time follows the products closely; what lies above the dashed line is what two thin products cost extra.",
)

# %% name="measured-crossing"
for name, rows in times.items():
    ratios = np.array([ratio for ratio, _ in rows])
    slower = np.flatnonzero(ratios >= 1)
    crossing = "beyond 704" if not len(slower) else f"near rank {RANKS[slower[0]]}"
    ideal = np.array(RANKS) / EDGE
    print(f"{name:>8}: slower than dense {crossing}; share of the ideal gain at rank 320: {ideal[5] / ratios[5]:.0%}")

# %% [markdown]
# With 128 rows the crossing comes near the break-even on paper or a little before it, and most of the ideal gain is
# there; the lines above have it for this machine, and the ranks tried are 32 to 64 apart. With few rows the time is that
# of fetching the weights from memory, and fewer weights are fetched sooner.

# %% [markdown]
# ## Are trained matrices of low rank?
#
# Compare the singular values of the fine-tuned encoder with those of random matrices of the same size and variance.
# Random matrices are the honest zero: they have no structure, yet their singular values are not all equal either.

# %% name="spectra"
KINDS = {"query": "attention.query", "key": "attention.key", "value": "attention.value", "output": "attention.output"}
KINDS |= {"FFN up": "ffn.up", "FFN down": "ffn.down"}


def path(layer, kind):
    """Where a matrix is."""
    return f"encoder.layers.{layer}.{KINDS[kind]}"


noise = torch.Generator().manual_seed(0)
plain, random = {}, {}
for name, layer in layers.items():
    plain[name] = spectrum(layer.weight)
    random[name] = spectrum(torch.randn(layer.weight.shape, generator=noise) * layer.weight.std())


def kept(singular, share):
    """Share of the energy in the ranks that keep `share` of the numbers of a matrix."""
    return lambda m, n: (singular[: rank_for_budget(m, n, share)].square().sum() / singular.square().sum()).item()


for kind in KINDS:
    m, n = layers[path(0, kind)].weight.shape
    both = [np.mean([kept(of[path(i, kind)], 0.5)(m, n) for i in range(6)]) for of in (plain, random)]
    print(f"{kind:8} half of the numbers keeps {both[0]:.0%} of the energy, of a random matrix {both[1]:.0%}")

# %% name="figure-spectra"
show(
    energy_panels(
        {
            "384×384, layer 2": (
                {
                    "query": plain[path(2, "query")],
                    "value": plain[path(2, "value")],
                    "random": random[path(2, "value")],
                },
                break_even_rank(384, 384),
            ),
            "1536×384, layer 2": (
                {"FFN up": plain[path(2, "FFN up")], "random": random[path(2, "FFN up")]},
                break_even_rank(1536, 384),
            ),
        }
    ),
    alt="Energy kept over the rank, for matrices of layer 2. Left, 384×384: query and value run together, up to about "
    "fifteen points above a random matrix; at break-even, rank 192, they hold 95 %. Right, FFN up: as much above random; "
    "break-even at 307.",
    caption="All kinds lie above the random matrix, by about as much, and no curve has a corner to cut at.",
)

# %% [markdown]
# So the answer to the first question is *not very*. There is structure, in all kinds about equally much. But half of
# the numbers leave out a quarter of the energy, and nowhere is there a corner after which little would be missing. This
# is what plain SVD then does to the classifier. Nothing is trained here.

# %% name="right-answers"
labels = np.array(task.validation.labels)
majority = max(labels.mean(), 1 - labels.mean())


def right_answers(model, split=task.validation):
    """(N,) booleans."""
    return replace(teacher, model=model).predict(split.texts).argmax(-1).numpy() == np.array(split.labels)


def point(model, **costs):
    """Accuracy on validation with its 95 % interval, beside the model's costs."""
    right = right_answers(model)
    low, high = bootstrap_interval(right, seed=0)
    return {"accuracy": right.mean(), "low": low, "high": high, "mb": stored_bytes(model) / 1e6, **costs}


dense = point(teacher.model, keep=100, ratio=1.0)
print(f"dense {dense['accuracy']:.1%}, always the larger class {majority:.1%}")

# %% name="plain-keeps"
KEEPS = by_profile(quick=(0.9, 0.7, 0.5, 0.3, 0.15), full=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1))
PLAIN, AWARE = "plain SVD", "activation-aware"
models, points = {}, {PLAIN: [], AWARE: []}


def try_keeps(name, calibration=None):
    """Factorise at every share, and print what is left."""
    for keep in KEEPS:
        model = models[name, keep] = compress(teacher.model, keep, calibration)
        points[name].append(point(model, keep=100 * keep))
        print(f"{name}, keep {keep:.0%}: accuracy {points[name][-1]['accuracy']:.1%}")


try_keeps(PLAIN)

# %% [markdown]
# ## Near in which sense?
#
# Back to a toy. A layer with two inputs and two outputs, each output its own input, one amplified:
#
# $$W = \begin{pmatrix} 2 & 0 \\ 0 & 1 \end{pmatrix}, \qquad x_1 = \pm 0.1, \qquad x_2 = \pm 2 .$$
#
# SVD keeps the first direction, for $2 > 1$. But what do the outputs lose? The first has variance $4 \cdot 0.01 =
# 0.04$, the second $1 \cdot 4 = 4$. **Plain SVD throws away a hundred times what it keeps**, because it does not know
# what comes in.

# %% name="toy-aware" tags=["nbval-check-output"]
torch.manual_seed(0)
toy = nn.Linear(2, 2, bias=False)
toy.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
inputs = torch.tensor([[0.1, 2.0], [-0.1, 2.0], [0.1, -2.0], [-0.1, -2.0]])  # covariance diag(0.01, 4)
for name, moments in (("plain", None), ("aware", moments_of(inputs))):
    cut = factorize(toy, 1, moments)
    error = (toy(inputs) - cut(inputs)).square().sum(1).mean().item()
    print(f"{name}: keeps {[[round(each, 3) + 0.0 for each in row] for row in cut.weight.tolist()]}, error {error:.2f}")

# %% [markdown]
# So minimise the error of the *outputs* over inputs as they really occur:
#
# $$\min_{\operatorname{rank} \hat W = r} \; \mathbb{E}\,\lVert W x - \hat W x \rVert^2
# = \lVert (W - \hat W)\, S \rVert_F^2, \qquad S S^\top = C = \mathbb{E}[x x^\top].$$
#
# This is Eckart and Young again, for $W S$ instead of $W$: the best $\hat W S$ is $W S$ cut at rank $r$. If $U_r$ are
# the first $r$ left singular vectors of $W S$, that cut is $U_r U_r^\top W S$, and so
#
# $$\hat W = U_r\, (U_r^\top W), \qquad P = U_r, \quad Q = U_r^\top W .$$
#
# $U_r U_r^\top$ projects, and $W C W^\top$, whose eigenvectors $U_r$ are, is the covariance of the outputs. In words:
# **find the $r$ principal directions of what the layer says, and keep those.**
#
# And one more thing, for free. The layer has a bias, so the *mean* of the lost outputs need not be lost: use the
# covariance about the mean $\mu$, and set $\hat b = b + (W - \hat W)\mu$.
#
# `coursekit`'s version, `aware_factors`, is these lines and the checks of its inputs. Does it agree with the formula?

# %% name="aware-by-hand" tags=["nbval-check-output"]
x = torch.randn(500, 24, dtype=torch.double) * 0.7 ** torch.arange(24) + 1
W = torch.randn(16, 24, dtype=torch.double)
C = torch.cov(x.T, correction=0)
U = torch.linalg.eigh(W @ C @ W.T).eigenvectors.flip(1)[:, :4]  # largest first
P, Q = aware_factors(W, 4, moments_of(x), damping=1e-9)
print("same product:", torch.allclose(U @ (U.T @ W), P @ Q, atol=1e-6))
lost = ((x - x.mean(0)) @ (W - P @ Q).T).square().sum(1).mean()
print("error = dropped values:", torch.allclose(lost, spectrum(W, moments_of(x))[4:].square().sum()))

# %% [markdown]
# ## With real inputs
#
# What comes into each of the 37 matrices is measured once, on 256 training texts, padding left out: a mean and a
# covariance each. No label is used.

# %% name="calibrate"
calibration = text_batches(task.train.take(256), tokenizer, batch_size=32)
moments = input_moments(teacher.model, calibration, layers)
aware = {name: spectrum(layer.weight, moments[name]) for name, layer in layers.items()}
print(f"{moments[path(0, 'query')].count:,} tokens")

# %% [markdown]
# First the second question, layer by layer: a quarter of the numbers is kept. How much of the output's variance is
# lost, by the plain cut and by the aware one, *at the same rank*?


# %% name="layer-losses"
def output_loss(name, keep, calibrated):
    """Share of the output's variance that the cut loses on the calibration texts."""
    weight, C = layers[name].weight.detach().double(), moments[name].covariance
    rank = rank_for_budget(*weight.shape, keep)
    P, Q = aware_factors(weight, rank, moments[name]) if calibrated else svd_factors(weight, rank)
    lost = weight - P @ Q
    return ((lost @ C * lost).sum() / (weight @ C * weight).sum()).item()


losses = {
    name: [[output_loss(path(i, kind), 0.25, name == AWARE) for kind in KINDS] for i in range(6)]
    for name in (PLAIN, AWARE)
}
assert np.all(np.array(losses[AWARE]) <= np.array(losses[PLAIN]) + 1e-3)  # it is the minimum of just this
by_depth = np.mean(losses[AWARE], axis=1) / np.mean(losses[PLAIN], axis=1)
print("aware / plain, mean loss of each layer:", by_depth.round(2).tolist())
assert by_depth[:3].max() < 0.7 and by_depth[4:].max() < 0.5  # seen: 0.53 at most, and 0.33

# %% name="figure-layers"
show(
    layer_maps({f"{name}, keep 25 %": values for name, values in losses.items()}, list(KINDS)),
    alt="Two heat maps of 6 layers by 6 kinds of matrix with the per cent of output variance lost. Plain SVD loses "
    "23 to 56 % except in FFN down, 1 to 18 %; activation-aware factors lose 5 to 29 %, in FFN down 1 to 7 %, and in no "
    "cell more than plain SVD.",
    caption="The right loses about half as much, in the last layers a third: the same number of numbers, chosen for what "
    "comes in.",
)

# %% [markdown]
# Choose a matrix and a rank. Left, what is stored; right, what is lost, of the weight by the plain cut and of the
# output by the aware one.


# %% name="rank-explorer"
def lost_by_rank(singular):
    """Share of the energy not in the first r directions, for r = 0, 1, …"""
    energy = singular.square().numpy()
    return np.concatenate(([1.0], 1 - energy.cumsum() / energy.sum()))


CURVES = {  # computed once, so that a slider answers at once
    name: {"weight, plain SVD": lost_by_rank(plain[name]), "output, activation-aware": lost_by_rank(aware[name])}
    for name in plain
}


def card(kind, layer, percent):
    """One matrix with `percent` of its numbers kept."""
    name = path(layer, kind)
    m, n = layers[name].weight.shape
    return rank_card(m, n, rank_for_budget(m, n, percent / 100), CURVES[name])


explore(
    card,
    kind=list(KINDS),
    layer=(0, 5, 1),
    percent=(5, 100, 5),
    static={"kind": "FFN up", "layer": 2, "percent": 50},
    alt="Left, to scale: a tall 1536×384 matrix beside a 1536×153 and a 153×384 one, half the numbers. Right: shares "
    "lost by rank, the weight's falling slowly to zero, the output's much faster.",
    caption="Left what is stored, right what is lost: the outputs need fewer directions than the weight has.",
)

# %% [markdown]
# ## Accuracy against rank, bytes and time
#
# Now the whole model, every matrix with the same share of its numbers; still nothing is trained.

# %% name="aware-keeps"
try_keeps(AWARE, moments)

# %% name="report" tags=["nbval-check-output"]
report = low_rank_report(teacher.model, models[AWARE, 0.5], 0.5)
for line in report.layers:
    if ".layers.0" in line.path or not line.path.startswith("encoder.layers"):
        print(f"{line.path:32} {line.bytes_before:>11,} -> {line.bytes_after:>11,}  {line.what}")
print(f"{'total':32} {report.bytes_before:>11,} -> {report.bytes_after:>11,}")

# %% [markdown]
# Half of each matrix is not half of the model: the word table stays. Both methods store the same number of numbers and
# multiply the same, so they share the horizontal axes below. Times are of one text of 128 tokens, interleaved.

# %% name="times"
ids = torch.randint(1000, 20_000, (1, 128), generator=torch.Generator().manual_seed(0))
timed = {"dense": teacher.model} | {str(keep): models[AWARE, keep] for keep in KEEPS}
found = compare(
    {name: partial(model.eval(), ids) for name, model in timed.items()}, repeats=by_profile(quick=20, full=60)
)
whole_flops = count_flops(teacher.model, 1, 128)
print("keep   MB stored   FLOP   time   (time: ratio to dense, interquartile range)")
for number, keep in enumerate(KEEPS):
    now = found[str(keep)]
    for name in points:
        points[name][number]["ratio"] = now.ratio
    flops = count_flops(models[AWARE, keep], 1, 128) / whole_flops
    print(f"{keep:>4.0%} {points[AWARE][number]['mb']:>11.1f} {flops:>6.2f} {now.ratio:>6.2f}   ({now.ratio_iqr:.2f})")

# %% name="figure-trade-offs"
COSTS = {"keep": "numbers kept per matrix, %", "mb": "MB stored", "ratio": "time, ratio to dense"}
show(
    trade_offs(points, dense=dense, majority=majority, columns=COSTS),
    alt="Validation accuracy against three costs, for plain SVD and activation-aware factors, with 95 % intervals. "
    "Plain SVD falls from the first share on and is at the larger class's level at 30 %; activation-aware factors "
    "lose a few points down to 30 %, and fall afterwards.",
    caption="Equal bytes, equal time, equal rank: what separates the curves is only which directions were kept.",
)

# %% name="assert-trade-offs"
at = {keep: number for number, keep in enumerate(KEEPS)}
gap = {keep: points[AWARE][at[keep]]["accuracy"] - points[PLAIN][at[keep]]["accuracy"] for keep in (0.5, 0.3)}
assert gap[0.3] > 0.08 and gap[0.5] > 0  # seen: 19 points and 5; the teacher differs a little between machines
assert points[AWARE][at[0.5]]["accuracy"] > dense["accuracy"] - 0.06  # seen: 2 points
assert points[PLAIN][at[0.15]]["accuracy"] < majority + 0.1

# %% [markdown]
# ## Which part is sensitive?
#
# One part at a time: only the matrices of one kind, or of one layer, keep a quarter of their numbers
# (activation-aware). Accuracy is too coarse a ruler for that, so this one is finer: how far the classifier's log-odds
# move, on average over 256 validation snippets, in units of their spread.

# %% name="sensitivity"
part = task.validation.take(256)
odds = replace(teacher).predict(part.texts).diff(dim=1).squeeze(1)


def moved(chosen):
    """Mean change of the log-odds, in standard deviations, if only the chosen matrices are factorised."""
    ranks = {name: rank_for_budget(*layers[name].weight.shape, 0.25) for name in chosen}
    model = compress(teacher.model, ranks, moments)
    now = replace(teacher, model=model).predict(part.texts).diff(dim=1).squeeze(1)
    return ((now - odds).abs().mean() / odds.std()).item()


by_kind = {kind: moved([path(i, kind) for i in range(6)]) for kind in KINDS}
by_layer = {f"layer {i}": moved([path(i, kind) for kind in KINDS]) for i in range(6)}

# %% name="figure-sensitivity"
show(
    part_effects({"One kind of matrix": by_kind, "One layer": by_layer}, "change of the log-odds, standard deviations"),
    alt="Bars of how far answers move if one part alone keeps a quarter of its numbers. By kind: FFN up moves them "
    "most, 0.27 standard deviations, the others 0.10 to 0.14. By layer: 0.18 for the first two, falling to 0.03 and 0.04 "
    "for the last two.",
    caption="The first layers and the FFN's first matrix need their ranks; the last layers could give up more.",
)

# %% name="assert-sensitivity"
assert max(by_kind, key=by_kind.get) == "FFN up"
assert min(by_layer["layer 0"], by_layer["layer 1"]) > max(by_layer["layer 4"], by_layer["layer 5"])

# %% [markdown]
# The heat map would not have told. There FFN up loses less of its output than value does, and the last layers more than
# half of what the first lose; here FFN up moves the answers about twice as much as any other kind, and the last layers a
# fifth of what the first do. What a layer gets wrong passes through all layers after it, and FFN up stands before a
# nonlinearity. An equal share for every matrix is simple, not best; `compress` takes a rank for each path instead of a
# share.

# %% [markdown]
# ## A short training afterwards
#
# Factors are two plain layers, so they train like any other. One epoch on the very texts the teacher was fine-tuned on,
# so no label is new; here on the plain cut at 30 %, which said little more than the larger class.

# %% name="recover"
RECOVER = by_profile(quick=1000, full=2000)


def recovered(model, seed=0):
    """A copy, trained for one epoch on texts that the teacher has seen; words stay frozen, as in its fine-tuning."""
    model = copy.deepcopy(model)
    model.encoder.embeddings.word.requires_grad_(False)
    texts = text_batches(task.train.take(2000).take(RECOVER), tokenizer, batch_size=32, seed=seed)
    train(model, texts, classification_loss, TrainConfig(epochs=1, lr=2e-4, seed=seed), title="recovery")
    return model


plain_recovered = recovered(models[PLAIN, 0.3])
back = point(plain_recovered)
print(f"plain SVD, keep 30 %: {points[PLAIN][at[0.3]]['accuracy']:.1%} -> {back['accuracy']:.1%} after one epoch")
print(
    f"activation-aware, keep 30 %, untrained: {points[AWARE][at[0.3]]['accuracy']:.1%}; dense {dense['accuracy']:.1%}"
)

# %% [markdown]
# One training, one seed. The study behind this unit ran every arm with three seeds, on the test set once, and two
# rivals with the same recovery: the dense model, which more training may help too, and three of the six layers, the
# other way to halve them. (`coursekit study low_rank` makes it; its learning rate was chosen on validation.)
#
# What its intervals do **not** cover: all arms start from **one** fine-tuned model. The seeds choose the calibration
# texts and the order of the training texts, so the intervals say how it goes with other texts and orders for this model,
# not for another fine-tuning. (The studies of units 05 and 06 fine-tune a model per seed.)

# %% name="figure-study"
study = load_study("low_rank")
summary = {arm: numbers["test_accuracy"] for arm, numbers in study["arms"].items()}
SHARES = {"0.5": 0.5, "0.3": 0.3, "0.15": 0.15}
arms = {
    f"{label}{', recovered' if extra else ''}": [summary[f"{name}-{share}{extra}"] for share in SHARES]
    for extra in ("", "+train")
    for name, label in (("svd", PLAIN), ("aware", AWARE))
}
levels = {"dense": summary["dense"]["mean"], "dense, trained on": summary["dense+train"]["mean"]}
levels |= {"3 of 6 layers, recovered": summary["layers-3+train"]["mean"]}
levels |= {"larger class": study["baselines"]["majority_test"]}
show(
    recovery(list(SHARES.values()), arms, levels),
    alt="Test accuracy by share kept for plain SVD and activation-aware factors, untrained (hollow) and recovered "
    "(filled), mean and range over three seeds. Plain SVD: 72.2 at half, and the larger class's level, 58.9, at 30 and 15 "
    "%; recovered 74.4, 72.0 and 66.9. Aware: 75.1, 73.6 and 70.8; recovered 76.1, 73.7 and 71.7. Lines: dense 77.2, "
    "dense trained on 78.4, three of six layers recovered 76.0.",
    caption="Untrained, only the aware factors work with less than half; recovery narrows the gap, and at 30 % what is "
    "left of it cannot be told from none.",
)

# %% name="study-differences" tags=["nbval-check-output"]
print(f"{study['command']}, seeds {sorted({run['seed'] for run in study['runs']})}, {study['date'][:10]}\n")
print(f"{'arm':16}   MB stored   GFLOP   test accuracy, % (standard deviation over seeds)")
for arm, found in study["arms"].items():
    costs = f"{found['bytes']['mean'] / 1e6:>9.1f} {found['flops']['mean'] / 1e9:>9.2f}"
    print(f"{arm:16} {costs} {100 * summary[arm]['mean']:>9.1f} ({100 * summary[arm]['sd']:.1f})")
print("\ndifferences in points, with 95 % intervals over snippets and seeds")
for pair, found in study["differences"].items():
    d = {name: 100 * value for name, value in found["test_accuracy"].items()}
    print(f"{pair:36} {d['difference']:+5.1f}   {d['low']:+5.1f} to {d['high']:+5.1f}")

# %% name="assert-study"
change = {pair: found["test_accuracy"] for pair, found in study["differences"].items()}
for share in SHARES:
    assert change[f"aware-{share} − svd-{share}"]["low"] > 0  # knowing the inputs helps at every share
    assert change[f"svd-{share}+train − svd-{share}"]["low"] > 0  # training helps the plain cut
    assert change[f"aware-{share}+train − aware-{share}"]["low"] < 0  # of the aware one it cannot be said
both = {share: change[f"aware-{share}+train − svd-{share}+train"]["low"] for share in SHARES}
assert both["0.5"] > 0 > both["0.3"] and both["0.15"] > 0  # after the training the gap is told from none but at 30 %
assert abs(change["aware-0.5+train − layers-3+train"]["difference"]) < 0.01

# %% [markdown]
# Read the differences in this order, and each as one about this fine-tuned model.
#
# - **Knowing the inputs** is worth 3, 14 and 12 points at 50, 30 and 15 %, and no interval reaches zero.
# - **Recovery** repairs the plain cut, by 2, 13 and 8 points. To the aware factors it adds about a point at most, and
#   all three intervals contain zero. After it the aware factors are still ahead, by 1.7 points at half (0.4 to 3.1) and
#   4.8 at 15 % (2.5 to 7.0); the 1.7 at 30 % may be none (-0.2 to 3.6).
# - **Half is not free.** The fair rival of a recovered model is the dense model *trained on*, for that has had the same
#   training: at 50 % the aware factors end 2.2 points below it (1.0 to 3.4).
# - **Half of every layer, or half of the layers?** At equal bytes (69.3 and 69.6 MB) and equal training there is no
#   difference that could be seen, 0.1 points within ±1.6; and to leave layers out is simpler.

# %% [markdown]
# ## LoRA: a low-rank update is another thing
#
# LoRA (Hu et al., 2021) has the same two thin matrices and another purpose. It leaves $W$ as it is and *adds* a
# product:
#
# $$y = W x + b + \frac{\alpha}{r}\, B A x, \qquad A \in \mathbb{R}^{r \times n} \text{ random},\quad
# B \in \mathbb{R}^{m \times r} \text{ zero at the start}.$$
#
# Only $A$ and $B$ train. Is what fine-tuning *changes* of low rank, where weights are not? We have both models, the
# pretrained one and the fine-tuned one, so look at $\Delta W = W_{\text{after}} - W_{\text{before}}$.

# %% name="update-spectra"
before = pretrained_encoder()
updates = {}
for kind in ("query", "value"):
    old = before.get_submodule(path(4, kind).removeprefix("encoder.")).weight
    updates[kind] = spectrum(layers[path(4, kind)].weight - old)
    share = updates[kind][:8].square().sum() / updates[kind].square().sum()
    whole = plain[path(4, kind)][:8].square().sum() / plain[path(4, kind)].square().sum()
    print(f"{kind}, layer 4: the first 8 of 384 directions hold {share:.0%} of the update, {whole:.0%} of the weight")
    assert share > 0.5 > 2 * whole  # seen: 57 and 78 %; 17 and 15 %

# %% name="figure-update"
show(
    energy_panels(
        {
            f"{kind}, layer 4": (
                {"update": updates[kind], "weight": plain[path(4, kind)], "random": random[path(4, kind)]},
                None,
            )
            for kind in updates
        },
        log=True,
    ),
    alt="Energy kept over the rank, logarithmic, for query and value of layer 4. The update's curve is far above "
    "those of the weight and of a random matrix: ten directions hold over 60 and 80 % of it, 20 % of the weight.",
    caption="What fine-tuning changed lies along a few directions; what it changed it in does not.",
)

# %% [markdown]
# That is the bet LoRA makes, and it is a bet on the *change*. Now the method, on the pretrained encoder with a fresh
# classifier: rank 8 on queries and values, as the paper does.

# %% name="lora-counts" tags=["nbval-check-output"]
torch.manual_seed(0)
tuned = SequenceClassifier(before, len(task.labels))
ids = torch.tensor([[101, 2023, 3185, 102]])
with torch.inference_mode():
    start = tuned(ids).logits.clone()
plain_bytes, plain_count = stored_bytes(tuned), count_parameters(tuned)
add_lora(tuned, rank=8, alpha=16, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    print("equal at the start, to the last bit:", torch.equal(tuned(ids).logits, start))
count = count_parameters(tuned)
print(f"trainable {plain_count.trainable:,} -> {count.trainable:,} = 6·2·8·(384 + 384) + 770")
print(f"stored {plain_bytes:,} -> {stored_bytes(tuned):,} bytes")
print(f"FLOP {count_flops(tuned, 1, 128) / whole_flops:.4f} of the dense model's")

# %% [markdown]
# A three-hundredth to train, and *more* to store and compute: until it is merged, $W + \frac{\alpha}{r} BA$, one plain
# matrix again, of full rank. Nothing has become smaller.

# %% name="lora-train"
LORA_TEXTS = by_profile(quick=1000, full=2000)
texts = text_batches(task.train.take(2000).take(LORA_TEXTS), tokenizer, batch_size=32, seed=0)
train(tuned, texts, classification_loss, TrainConfig(epochs=1, lr=5e-3), title="LoRA")
apart = replace(teacher, model=tuned).predict(part.texts)
accuracy = right_answers(tuned).mean()
merge_lora(tuned)
merged = replace(teacher, model=tuned).predict(part.texts)
print(f"LoRA, {LORA_TEXTS:,} texts: accuracy {accuracy:.1%}; all weights, 2,000 texts: {dense['accuracy']:.1%}")
print(f"merged: largest change of a logit {(merged - apart).abs().max():.1e}, {stored_bytes(tuned):,} bytes")
assert torch.allclose(merged, apart, atol=1e-3) and stored_bytes(tuned) == plain_bytes
assert accuracy > majority + 0.08  # seen: 18 points

# %% [markdown]
# Few numbers need large steps: the learning rate here is 5e-3, that of the full fine-tuning was 2e-4. What LoRA saves is elsewhere: gradients and optimizer states (two more numbers per trained weight for Adam),
# and files, when one base serves many tasks and each task adds only its $A$s and $B$s.
#
# | published: Hu et al. 2021, RoBERTa-base on GLUE | trained | MNLI | SST-2 | MRPC | CoLA | QNLI | QQP | RTE | STS-B |
# |---|---|---|---|---|---|---|---|---|---|
# | LoRA | 0.8M of 125M | 87.5 | 95.1 | 89.7 | 63.4 | 93.3 | 90.8 | 86.6 | 91.5 |
#
# The average is 87.2, against 86.4 for fine-tuning all weights (published; as the authors' code repository lists them).
# The model that runs has 125M parameters in either case.

# %% [markdown]
# ## Stacking: low rank, then int8, then a narrow table
#
# The factors are plain linears, so they can be quantized ([unit 06](06_quantization.ipynb)); and the word table, which
# nothing here has touched, can be narrowed by use as in unit 01, to $E = 128$.

# %% name="stack"
tokens = torch.tensor([token for text in tokenizer.encode(task.train.texts) for token in text])
use = torch.bincount(tokens, minlength=tokenizer.vocab_size).double()  # training texts only
half = models[AWARE, 0.5]
stack = {
    "dense": teacher.model,
    "low rank, keep 50 %": half,
    "int8": quantize_model(teacher.model, "int8"),
    "low rank + int8": quantize_model(half, "int8"),
}
stack["low rank + int8 + table"] = last = copy.deepcopy(stack["low rank + int8"])
last.encoder = factorize_embeddings(last.encoder, 128, use)

ids = torch.randint(1000, 20_000, (1, 128), generator=torch.Generator().manual_seed(0))
found = compare(
    {name: partial(model.eval(), ids) for name, model in stack.items()}, repeats=by_profile(quick=20, full=60)
)
placed = {name: point(model) for name, model in stack.items()}
for name, here in placed.items():
    layer_bytes = stored_bytes(stack[name].encoder.layers) / 1e6
    print(
        f"{name:24} {here['mb']:>5.1f} MB (layers {layer_bytes:>4.1f}), accuracy {here['accuracy']:.1%}, "
        f"time {found[name].ratio:.2f} (IQR {found[name].ratio_iqr:.2f})"
    )

# %% name="figure-stack"
cards = [
    Candidate(name, p["mb"], found[name].ratio, found[name].ratio_iqr, p["accuracy"], p["low"], p["high"])
    for name, p in placed.items()
]
show(
    one_page(cards, majority),
    alt="Five models in rows and three panels. Megabytes stored: dense 91, low rank at half 69, int8 59, both 53, both "
    "and a narrow word table 22. Time relative to dense: below 1 for either method alone, and not lower for both "
    "together. Accuracy between 79 and 81 %, with intervals that overlap.",
    caption="Methods multiply on the part they touch; the table that neither touches decides the size of the file.",
)

# %% name="assert-stack"
assert placed["low rank + int8"]["mb"] < placed["int8"]["mb"] < placed["low rank, keep 50 %"]["mb"]
assert (
    abs(placed["low rank + int8"]["accuracy"] - placed["low rank, keep 50 %"]["accuracy"]) < 0.04
)  # 8 bits cost little

# %% [markdown]
# In bytes the two multiply: half of the numbers at a quarter of the bytes each. In time they need not, see the table:
# every int8 product first has to find the scale of its inputs, and a factorised layer does that twice, for thin
# products.
#
# A masked language model has a second use for the table, to score words with it. Factorised, $W \approx AB$, it must
# not become two tables: both sides go through the same $A$ and $B$.

# %% name="tied-table" tags=["nbval-check-output"]
torch.manual_seed(0)
mlm = MaskedLM(copy.deepcopy(teacher.model.encoder)).eval()
before_bytes = stored_bytes(mlm)
mlm.encoder = factorize_embeddings(mlm.encoder, 128, use)
table, hidden = mlm.encoder.embeddings, torch.randn(1, 384)
with torch.inference_mode():
    looked_up = table.word.weight @ table.map.weight.T  # (V, H)
    same = torch.allclose(table.decode(hidden), hidden @ looked_up.T, atol=1e-3)
print(f"{before_bytes:,} -> {stored_bytes(mlm):,} bytes, tied; untied {stored_bytes(mlm) + 4 * looked_up.numel():,}")
print("scores with the very rows that are looked up:", same)

# %% [markdown]
# ## What broke, and why
#
# **Half of the rank instead of half of the numbers.** The commonest slip. At half of its rank a square matrix is as
# large as before, and only an approximation:

# %% name="half-the-rank" tags=["nbval-check-output"]
for kind in ("query", "FFN up"):
    m, n = layers[path(0, kind)].weight.shape
    rank, half_rank = m * n // 2 // (m + n), min(m, n) // 2
    print(f"{kind:6} {m}×{n}: rank {half_rank} stores {half_rank * (m + n) / (m * n):.0%}; half is rank {rank}")

# %% [markdown]
# **Too little calibration?** A covariance of 1,536 inputs from a few dozen tokens knows nothing about most directions.
# The damping (1 % of the mean variance, for every input) keeps the factors finite; how much is lost?

# %% name="few-texts"
scores = {}
for count in (2, 16):
    few = input_moments(teacher.model, text_batches(task.train.take(count), tokenizer, batch_size=16), layers)
    scores[count] = right_answers(compress(teacher.model, 0.3, few)).mean()
    print(f"{count:>3} texts, {few[path(0, 'query')].count:>5,} tokens: accuracy at 30 % {scores[count]:.1%}")
print(f"256 texts, {moments[path(0, 'query')].count:,} tokens: {points[AWARE][at[0.3]]['accuracy']:.1%}")
print(f"  no texts: {points[PLAIN][at[0.3]]['accuracy']:.1%}")

# %% name="assert-few-texts"
assert scores[2] > points[PLAIN][at[0.3]]["accuracy"] + 0.03  # seen: 14 points

# %% [markdown]
# Two texts already bring most of the gain. What protects the model is to know the few directions in which the inputs
# are large, and those are much the same in every text.

# %% [markdown]
# ## Choose, then test once
#
# The rule, fixed before looking: of all untrained candidates above, the one with the fewest bytes whose validation
# accuracy is at most one point below the dense model's. Then the test set, once, for it and the dense model.

# %% name="choose-and-test"
candidates = {f"{name}, keep {keep:.0%}": (points[name][at[keep]], model) for (name, keep), model in models.items()}
candidates |= {name: (placed[name], model) for name, model in stack.items()}
good = [name for name, (p, _) in candidates.items() if p["accuracy"] >= dense["accuracy"] - 0.01]
chosen = min(good, key=lambda name: candidates[name][0]["mb"])
size, model = candidates[chosen][0]["mb"], candidates[chosen][1]
right_dense, right_chosen = (right_answers(each, task.test) for each in (teacher.model, model))
result = paired_bootstrap(right_chosen, right_dense, seed=0)
print(f"chosen on validation: {chosen}, {size:.1f} of {dense['mb']:.1f} MB")
print(f"test: dense {right_dense.mean():.1%}, chosen {right_chosen.mean():.1%}")
print(f"difference {result.difference:+.1%}, 95 % interval {result.low:+.1%} to {result.high:+.1%}")
assert result.difference > -0.05  # the rule allows a point

# %% [markdown]
# The rule does not care by which method. On our machine it chose int8 alone, which on the test set is no worse than
# dense: where only a point may be lost, low rank is not the cheapest way to save *bytes* on this model. It is the one
# of the two that needs no special arithmetic and saves multiplications on any machine, and it stacks.
#
# ## Published beside measured
#
# Two papers factorise BERT. Their rows are **published, not measured here**: what their abstracts state of factorization
# alone; another model, other tasks and another machine, so compare the pattern and not the digits.

# %% name="beside-published"
rows = [
    ("published: Noach and Goldberg 2020, GLUE", "by a factor of 0.4", "1.45", "minimal loss"),
    ("published: DRONE (Chen et al. 2021), MRPC", "not stated", "1.92", "1.5 % lost"),
]
for keep in (0.5, 0.3):
    here = points[AWARE][at[keep]]
    kept_share = f"{count_parameters(models[AWARE, keep]).total / count_parameters(teacher.model).total:.2f} left"
    lost = f"{100 * (dense['accuracy'] - here['accuracy']):.1f} points lost"
    rows.append((f"measured here: aware, keep {keep:.0%}, untrained", kept_share, f"{1 / here['ratio']:.2f}", lost))
print(f"{'':44} {'parameters':20} {'times as fast':14} accuracy")
for name, *cells in rows:
    print(f"{name:44} {cells[0]:20} {cells[1]:14} {cells[2]}")

# %% [markdown]
# Noach and Goldberg cut the matrices and then train the factors to imitate the original's inner states. DRONE makes
# factors from data, as our aware ones are: its abstract begins with this unit's two findings, that BERT's matrices are
# not of low rank and that what passes through them nearly is.

# %% [markdown]
# ## What held, and what did not
#
# The claims of the survey (Xu and McAuley 2022) and of the papers, one by one:
#
# > - *One matrix kept as a product of smaller ones*: the survey's line on one of five families. **As a statement on
# >   weights, not very**: half of the numbers keep three quarters of the energy, of a random matrix 62 %. **On what
# >   they say, nearly**: factors that know the inputs lose about half as much of the output at the same rank.
# > - Surveys name this family and show no numbers. **Ours**: half of every matrix, nothing trained, 69.3 of 90.9 MB and
# >   0.53 of the operations, costs 2.1 points on the test set (75.1 of 77.2 %); 30 %, 3.6 points. One fine-tuned model.
# > - *The nearest matrix of rank $r$ is the one to take* (Eckart and Young 1936). **Nearest in numbers, yes; for the
# >   task, no**: aware factors of the same rank are ahead by 2.8, 14.4 and 11.9 points at 50, 30 and 15 %.
# > - *Fewer products, less time.* **Yes, and less of it than the count promises**: see the table of trade-offs, where a tenth
# >   of the operations saves nothing that could be seen and half of them about a quarter of the time.
# > - *Then train, and the loss is minimal* (Noach and Goldberg 2020). **Not beside a dense model trained on**: 2.2 points
# >   at half (1.0 to 3.4). Their training, on inner states, is another and longer one. And at equal bytes half of the
# >   layers did as well (+0.1 points, -1.5 to +1.6).
# > - *Fine-tuning is an update of low rank* (Hu et al. 2021). **Nearly, in the two matrices we looked at**: 8 of 384
# >   directions hold more than half of it, of the weight about a sixth. It makes a model cheaper to train, not smaller.

# %% [markdown]
# > **What the sources do not tell you**
# >
# > - **Which error.** "The best approximation of rank $r$" is best for the weights. Nobody runs weights; run with
# >   inputs, another approximation is best, and the difference here is many points of accuracy at equal bytes. DRONE
# >   (Chen et al., 2021) says so for BERT; for language models of billions of weights ASVD (Yuan et al., 2023) scales
# >   each input by its size, and SVD-LLM (Wang et al., 2024) uses the whole second moment, as we did. What we add, the
# >   covariance about the mean and the bias, is our own derivation.
# > - **What is 0.4?** "Reduce the number of parameters by a factor of 0.4×" (Noach and Goldberg's abstract) can mean
# >   that 40 % are left, or gone.
# > - **Where it pays.** A rank is quoted as a share of the full rank, and sounds small. The break-even of a square
# >   matrix lies at half.
# > - **Share of what.** "50 % of the parameters" of the factorised layers is 76 % of this model, whose table is
# >   untouched.
# > - **FLOP is not time.** Two thin products do not reach the speed of a wide one, and softmax, LayerNorm and GELU stay
# >   as they are. Compare the columns of the table above: the time falls by less than the FLOP.
# > - **LoRA's 0.8M of 125M** are *trainable* parameters. Its model is not smaller than RoBERTa-base; next to tables of
# >   compressed models that number is easily misread.
# > - **LoRA's paper and code differ** in how $A$ starts: Gaussian in the paper, uniform (Kaiming's rule) in the code.

# %% [markdown]
# ## Summary
#
# | | count | remember |
# |---|---|---|
# | factorised layer | $r(m + n)$ instead of $mn$ | pays for $r < mn/(m+n)$: 192 for 384×384, 307.2 for 1536×384 |
# | keep a share $k$ | $r = \lfloor k\,mn/(m+n) \rfloor$ | not $k \cdot \min(m, n)$ |
# | plain SVD | $\lVert W - \hat W\rVert^2 = \sum_{i>r}\sigma_i^2$ | nearest in numbers |
# | activation-aware | $\hat W = U_r U_r^\top W$, $U_r$ from $W C W^\top$ | nearest in outputs, same bytes and time |
# | LoRA | $r(m + n)$ **more** | fewer to train; merged: none more, none less |

# %% [markdown]
# ## Questions
#
# <details><summary>1. A 1024×1024 matrix is to keep 40 % of its numbers. Which rank?</summary>
#
# Break-even is 512, so $\lfloor 0.4 \cdot 512 \rfloor = 204$: a fifth of the full rank.
# </details>
#
# <details><summary>2. Why has the FFN a later break-even than attention, as a share of its rank?</summary>
#
# $mn/(m+n)$ over $\min(m,n)$ is $\max/(m+n)$: one half for a square, four fifths for $4H \times H$.
# </details>
#
# <details><summary>3. When do plain and activation-aware factors agree?</summary>
#
# When the inputs' covariance is a multiple of the identity: then every direction of the input counts the same, and
# $W C W^\top$ has the same eigenvectors as $W W^\top$.
# </details>
#
# <details><summary>4. Could the FFN's two matrices be multiplied into one of low rank?</summary>
#
# No. Between them stands a nonlinearity. The product of $P$ and $Q$ is possible because nothing stands between those.
# </details>
#
# <details><summary>5. A LoRA of rank 8 is merged. What is the rank of the result? Is the model faster now?</summary>
#
# Full, in general: a full-rank matrix plus a product of rank 8. It is exactly as fast as the base model.
# </details>
#
# <details><summary>6. Why is the learning rate of the recovery not chosen by the test accuracy it gives?</summary>
#
# The test set would then have been used to choose, and the number it gives would be too good. Validation chose it.
# </details>
#
# **Next:** the [exercises of this unit](../exercises/04_low_rank.ipynb); then [05 · Pruning](05_pruning.ipynb), which
# takes weights, heads and neurons out instead of squeezing them together.
