# %% [markdown] name="title"
# # 04 · Low-rank factorization: exercises
#
# **You will** turn a budget into a rank, put two layers in the place of one and fold them back, make factors that know
# what comes in, write LoRA's forward pass, and factorise the FFNs of a real encoder. **About 45 minutes.** It belongs
# to the lesson [04 · Low-rank factorization](../notebooks/04_low_rank.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("04.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise, and
# says so. `progress()` in a cell shows how far you are.
#
# Throughout, a weight $W$ is stored as `nn.Linear` stores it, (out, in), and a layer computes $y = Wx + b$.

# %% name="imports"
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from coursekit.compress.lowrank import LowRankLinear, factorize, input_moments, low_rank_report, moments_of
from coursekit.course import check, hint, progress, stand_in  # noqa: F401 (hint and progress are for you)
from coursekit.data import Tokenizer, fetch, load_task
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.models import from_huggingface
from coursekit.train import text_batches
from coursekit.viz import show, use_style

use_style()

# %% [markdown]
# ## Task 04.1 · The rank that a budget buys
# *Difficulty 1 of 5, importance 5 of 5, about 4 minutes.*
#
# A matrix with `out_features` × `in_features` numbers is kept as a product of two factors of inner width $r$. Return
# the largest whole $r$ at which both factors together hold **at most** the share `keep` of the matrix's numbers. For a
# 384×384 matrix and a share of 0.5 it is 96, which is a *quarter* of the full rank. It may be 0.


# %% task="04.1"
def rank_for_budget(out_features: int, in_features: int, keep: float) -> int:
    """Largest rank r with r·(out + in) ≤ keep·out·in."""
    ### BEGIN SOLUTION
    return int(keep * out_features * in_features / (out_features + in_features))
    ### END SOLUTION


# %% check="04.1"
### BEGIN HIDDEN TESTS
assert (rank_for_budget(384, 384, 0.5), rank_for_budget(3072, 768, 0.5), rank_for_budget(2, 384, 0.5)) == (96, 307, 0)
### END HIDDEN TESTS
check("04.1", rank_for_budget)

# %% [markdown]
# What half of the numbers buys in some matrices of real models, and what half of the *rank* would cost:

# %% name="budgets" tags=["nbval-check-output"]
rank_for_budget = stand_in("04.1", rank_for_budget)
for m, n in ((384, 384), (1536, 384), (768, 768), (3072, 768)):
    rank, half = rank_for_budget(m, n, 0.5), min(m, n) // 2
    print(f"{m:>4}×{n}: half of the numbers is rank {rank:>3}; rank {half} costs {half * (m + n) / (m * n):.0%}")

# %% [markdown]
# ## Task 04.2 · Two layers for one
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# Return an `nn.Sequential` of two `nn.Linear` whose product of weights is as near to `linear.weight` as that rank
# allows (Frobenius norm). Mind the orientation. The layer that was given has a bias and must stay as it is; the two
# together have that bias once.


# %% task="04.2"
def low_rank_layers(linear: nn.Linear, rank: int) -> nn.Sequential:
    """Two linears, in → rank without bias, then rank → out with the original bias, nearest to `linear`."""
    ### BEGIN SOLUTION
    left, singular, right = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
    down = nn.Linear(linear.in_features, rank, bias=False)
    up = nn.Linear(rank, linear.out_features)
    down.weight.data = right[:rank].clone()
    up.weight.data = left[:, :rank] * singular[:rank]
    up.bias.data = linear.bias.detach().clone()
    return nn.Sequential(down, up)
    ### END SOLUTION


# %% check="04.2"
### BEGIN HIDDEN TESTS
torch.manual_seed(0)
_whole, _x = nn.Linear(6, 9), torch.randn(4, 6)
assert torch.allclose(low_rank_layers(_whole, 6)(_x), _whole(_x), atol=1e-5)
### END HIDDEN TESTS
check("04.2", low_rank_layers)

# %% [markdown] tags=["solution-only"]
# $Wx = U\,(\Sigma V^\top x)$: what meets the inputs first is $V^\top$, and its rows have the length of an input. Where
# $\Sigma$ goes does not matter for the product. For training, equal shares are better: both factors then have gradients
# of similar size.

# %% [markdown]
# A real matrix of MiniLM, at several ranks. Before you run the cell: at rank 192 the factors hold as many numbers as
# the matrix. How much of the output is wrong by then?

# %% name="real-matrix" tags=["nbval-check-output"]
low_rank_layers = stand_in("04.2", low_rank_layers)
encoder = from_huggingface(fetch("minilm")).eval()
query = encoder.layers[2].attention.query
x = torch.randn(64, 384, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    for rank in (384, 192, 96, 48):
        pair = low_rank_layers(query, rank)
        error = (pair(x) - query(x)).norm() / (query(x) - query.bias).norm()
        print(
            f"rank {rank:>3}: {count_parameters(pair).total:>7,} of {count_parameters(query).total:,}, off {error:.0%}"
        )

# %% [markdown]
# ## Task 04.3 · The error at every rank
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# The singular values of a matrix tell, without any factors, how good the best product of each rank is. Return the
# relative errors $\lVert W - W_r \rVert_F \,/\, \lVert W \rVert_F$ for $r = 0, 1, \dots, n$, where $n$ is the number of
# singular values: $n + 1$ numbers, from 1 to 0. The values come largest first.


# %% task="04.3"
def relative_errors(singular: Tensor) -> Tensor:
    """(n + 1,): ‖W − W_r‖ / ‖W‖ of the nearest matrix of rank r = 0 … n, from singular values (n,), descending."""
    ### BEGIN SOLUTION
    energy = singular.square()
    tails = torch.cat((energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)))
    return (tails / tails[0]).sqrt()
    ### END SOLUTION


# %% check="04.3"
### BEGIN HIDDEN TESTS
assert torch.allclose(relative_errors(torch.tensor([4.0, 3.0])), torch.tensor([1.0, 0.6, 0.0]))
### END HIDDEN TESTS
check("04.3", relative_errors)

# %% [markdown]
# All six kinds of matrices in a layer of MiniLM, against a random one:

# %% name="figure-errors"
relative_errors = stand_in("04.3", relative_errors)
layer = encoder.layers[2]
matrices = {name: getattr(layer.attention, name).weight for name in ("query", "key", "value", "output")}
matrices |= {"FFN up": layer.ffn.up.weight, "FFN down": layer.ffn.down.weight}
matrices |= {"random 384×384": torch.randn(384, 384, generator=torch.Generator().manual_seed(0))}
figure, axis = plt.subplots()
for name, matrix in matrices.items():
    axis.plot(range(385), 100 * relative_errors(torch.linalg.svdvals(matrix.detach())), label=name)
axis.set(xlabel="rank", ylabel="relative error, %", ylim=(0, 100))
axis.legend(ncols=2)
show(
    figure,
    alt="Relative error over the rank, from 100 % at 0 to 0 at 384, for six matrices of layer 2 and a random one. All "
    "curves fall steadily: the four of attention lowest, the random one above them, and from about rank 115 on the two "
    "of the FFN highest.",
    caption="No curve drops early; the FFN's matrices, four times as large, lose most from a third of the rank on.",
)

# %% [markdown]
# ## Task 04.4 · Back to one layer
# *Difficulty 2 of 5, importance 3 of 5, about 4 minutes.*
#
# The way back, for whoever wants the approximation in a plain model: one `nn.Linear` that computes what the two layers
# compute, with numbers of its own.


# %% task="04.4"
def merge(layers: nn.Sequential) -> nn.Linear:
    """One linear with the outputs of two: in → rank without bias, then rank → out with bias."""
    ### BEGIN SOLUTION
    down, up = layers
    linear = nn.Linear(down.in_features, up.out_features)
    linear.weight.data = (up.weight @ down.weight).detach()
    linear.bias.data = up.bias.detach().clone()
    return linear
    ### END SOLUTION


# %% check="04.4"
### BEGIN HIDDEN TESTS
_pair = nn.Sequential(nn.Linear(5, 2, bias=False), nn.Linear(2, 3))
_x = torch.randn(4, 5)
assert torch.allclose(merge(_pair)(_x), _pair(_x), atol=1e-6)
### END HIDDEN TESTS
check("04.4", merge)

# %% [markdown]
# ## Task 04.5 · Factors that know their inputs
# *Difficulty 4 of 5, importance 5 of 5, about 8 minutes.*
#
# The inputs of a layer have the covariance $C$ (`covariance`, in × in). Return the factors $P$ (out, rank) and $Q$
# (rank, in) for which the outputs vary least from the original's: $\mathbb{E}\,\lVert (W - PQ)(x - \mu) \rVert^2$ is as
# small as that rank allows. The lesson's sentence is all you need: find the principal directions of what the layer
# says, and keep those.


# %% task="04.5"
def aware(weight: Tensor, covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors (out, rank), (rank, in) of `weight` (out, in) with the least squared error of the outputs."""
    ### BEGIN SOLUTION
    outputs = weight @ covariance @ weight.T
    directions = torch.linalg.eigh(outputs).eigenvectors[:, -rank:]
    return directions, directions.T @ weight
    ### END SOLUTION


# %% check="04.5"
### BEGIN HIDDEN TESTS
_left, _right = aware(torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([0.01, 4.0])), 1)
assert torch.allclose(_left @ _right, torch.tensor([[0.0, 0.0], [0.0, 1.0]]), atol=1e-6)
### END HIDDEN TESTS
check("04.5", aware)

# %% [markdown]
# ## Task 04.6 · A bias that keeps the mean
# *Difficulty 2 of 5, importance 3 of 5, about 4 minutes.*
#
# The factors of the task before look only at how inputs vary about their mean $\mu$. The mean itself is left to the
# bias. `near` is the approximation $PQ$ of `weight`. Return the bias with which the approximation's outputs have the
# same mean as the original's.


# %% task="04.6"
def corrected(weight: Tensor, near: Tensor, bias: Tensor, mean: Tensor) -> Tensor:
    """(out,): the bias for `near` (out, in) that keeps the mean output of `weight` (out, in) with `bias` (out,).

    mean (in,) is the mean of the inputs.
    """
    ### BEGIN SOLUTION
    return bias + (weight - near) @ mean
    ### END SOLUTION


# %% check="04.6"
### BEGIN HIDDEN TESTS
assert corrected(torch.eye(2), torch.zeros(2, 2), torch.ones(2), torch.tensor([2.0, 3.0])).tolist() == [3.0, 4.0]
### END HIDDEN TESTS
check("04.6", corrected)

# %% [markdown]
# Both together on a real layer with real inputs: the FFN's first matrix in layer 2, as 64 film reviews meet it. How
# much of the outputs' variance is lost, on 64 *other* reviews?

# %% name="real-inputs"
aware, corrected = stand_in("04.5", aware), stand_in("04.6", corrected)
tokenizer, task = Tokenizer(fetch("minilm")), load_task("rotten-tomatoes")
up = encoder.layers[2].ffn.up


def inputs_of(texts):
    """Moments of what goes into the layer, for some texts."""
    return input_moments(encoder, text_batches(texts, tokenizer, batch_size=32), {"up": up})["up"]


seen, fresh = inputs_of(task.train.take(64)), inputs_of(task.validation.take(64))
weight = up.weight.detach()
C, mean = seen.covariance.float(), seen.mean.float()
lost = {}
for rank in (288, 144, 72):
    left, right = aware(weight, C + 0.01 * C.diagonal().mean() * torch.eye(384), rank)
    for name, near in (("plain", factorize(up, rank).weight.detach()), ("aware", left @ right)):
        bias = corrected(weight, near, up.bias.detach(), mean) if name == "aware" else up.bias.detach()
        gap, shift = (weight - near).double(), (bias - up.bias.detach()).double()
        error = (gap @ fresh.covariance * gap).sum() + (gap @ fresh.mean - shift).square().sum()
        lost[name, rank] = (error / (weight.double() @ fresh.covariance * weight).sum()).item()
    print(f"rank {rank:>3}: plain SVD loses {lost['plain', rank]:.1%}, aware {lost['aware', rank]:.1%}")
assert all(lost["aware", rank] < lost["plain", rank] for rank in (288, 144, 72))

# %% [markdown]
# ## Task 04.7 · LoRA's outputs
# *Difficulty 2 of 5, importance 4 of 5, about 5 minutes.*
#
# LoRA leaves `weight` and `bias` frozen and adds a low-rank *update* to their output, scaled by $\alpha / r$:
# $y = W x + b + \frac{\alpha}{r} B A x$, where $A$ is `down` (r, in) and $B$ is `up` (out, r).


# %% task="04.7"
def lora(x: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, alpha: float) -> Tensor:
    """Outputs (N, out) for inputs x (N, in) of a frozen layer (out, in) with an update up (out, r) · down (r, in)."""
    ### BEGIN SOLUTION
    update = x @ down.T @ up.T
    return x @ weight.T + bias + alpha / len(down) * update
    ### END SOLUTION


# %% check="04.7"
### BEGIN HIDDEN TESTS
_one = lora(
    torch.ones(1, 2), torch.eye(2), torch.zeros(2), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]]), 4.0
)
assert _one.tolist() == [[13.0, 1.0]]
### END HIDDEN TESTS
check("04.7", lora)

# %% [markdown]
# Two things that LoRA is known for, from your function: with $B = 0$ it starts as the base model, and merged into the
# weight it gives the same outputs.

# %% name="lora-facts" tags=["nbval-check-output"]
lora = stand_in("04.7", lora)
draw = torch.Generator().manual_seed(0)
x, down, up_ = (torch.randn(*shape, generator=draw) for shape in ((5, 384), (8, 384), (384, 8)))
base = query.weight.detach(), query.bias.detach()
plain = x @ base[0].T + base[1]
start, later = lora(x, *base, down, torch.zeros(384, 8), 16.0), lora(x, *base, down, up_, 16.0)
merged = x @ (base[0] + 16 / 8 * up_ @ down).T + base[1]
print(
    "start equals the base:",
    torch.equal(start, plain),
    " merged equals both:",
    torch.allclose(merged, later, atol=1e-2),
)
print(f"numbers that train: {down.numel() + up_.numel():,} of {base[0].numel() + base[1].numel():,}")

# %% [markdown]
# ## Task 04.8 · The FFN of a real encoder
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# Replace `ffn.up` and `ffn.down` of every layer by `factorize(…, rank)`, in place, and return the encoder. In some
# encoders several depths hold the very *same* FFN: it is to be factorised once and stay shared. Everything else stays.


# %% task="04.8"
def factorise_ffn(encoder: nn.Module, rank: int) -> nn.Module:
    """The encoder itself, with a LowRankLinear of that rank for each matrix of its FFNs; shared ones stay shared."""
    ### BEGIN SOLUTION
    for layer in encoder.layers:
        for name in ("up", "down"):
            matrix = getattr(layer.ffn, name)
            if not isinstance(matrix, LowRankLinear):
                setattr(layer.ffn, name, factorize(matrix, rank))
    return encoder
    ### END SOLUTION


# %% check="04.8"
### BEGIN HIDDEN TESTS
from coursekit.models import Encoder, SharingPlan, TransformerConfig

_tiny = Encoder(TransformerConfig(20, 8, 3, 2, 12, max_positions=6, sharing=SharingPlan.all(3)))
assert factorise_ffn(_tiny, 2).layers[0].ffn.up is _tiny.layers[2].ffn.up
### END HIDDEN TESTS
check("04.8", factorise_ffn)

# %% [markdown] tags=["solution-only"]
# `layer.ffn` is a module, and depths that share it refer to the same object: whoever replaces its `up` has replaced it
# in all of them. The only trap is to factorise the factors at the second visit.

# %% [markdown]
# On MiniLM, at the rank that half of the FFN's numbers buys:

# %% name="real-encoder" tags=["nbval-check-output"]
factorise_ffn = stand_in("04.8", factorise_ffn)
rank = rank_for_budget(1536, 384, 0.5)
small = factorise_ffn(from_huggingface(fetch("minilm")), rank)
for name, measure in (("parameters", lambda model: count_parameters(model).total), ("bytes", stored_bytes)):
    print(f"{name:10} {measure(encoder):>12,} -> {measure(small):>12,}")
print(f"FLOP       {count_flops(encoder, 1, 128):>12,} -> {count_flops(small, 1, 128):>12,}")
print([line.what for line in low_rank_report(encoder, small).layers if "layers.0.ffn." in line.path])

# %% [markdown]
# ## What you can do now
# Turn a budget into a rank and back; factorise a layer in the right orientation and fold it back; choose directions by
# what a layer really sees; tell a low-rank weight from a low-rank update; and change a real encoder without breaking
# what it shares. How far a model can be cut without losing its task only measuring says: that is the lesson.
#
# **Next:** [05 · Pruning](../notebooks/05_pruning.ipynb) takes weights out instead of squeezing them together.
