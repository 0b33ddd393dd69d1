# %% [markdown] name="title"
# # 05 · Pruning: exercises
#
# Eight tasks, about 70 minutes. You write the parts of the [lesson](../notebooks/05_pruning.ipynb) yourself: four ways
# to choose what goes, movement pruning's gradients, and two ways to take something out for good.
#
# Run the cells from top to bottom. In a task, replace the line `raise NotImplementedError` by your code, run the cell
# and then the check below it. A check has three answers: *not attempted*, *wrong* with the mistake it looks like, and
# *right*. Its inputs are new each time.
#
# Stuck? `hint("05.1")` gives the first of three hints, called again the next, and at last the answer. You can also go
# on: where a later cell needs your function, `stand_in` takes the library's if yours is not right yet, and says so.

# %% name="imports"
import copy

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from coursekit.compress.pruning import magnitude_mask, prunable
from coursekit.course import check, hint, progress, stand_in  # noqa: F401 (hint and progress are for you)
from coursekit.data import Tokenizer, fetch, load_task
from coursekit.measure import count_flops, count_parameters
from coursekit.models import from_huggingface
from coursekit.train import text_batches
from coursekit.viz import show, use_style

use_style()

# %% [markdown]
# ## Task 05.1 · A magnitude mask with an exact count
# *Difficulty 2 of 5, importance 5 of 5, about 8 minutes.*
#
# Return a boolean mask of the shape of `weight`, true where a weight **stays**. Exactly `round(sparsity · size)`
# entries are false: those of smallest magnitude in the whole matrix. Where weights are equal, which of them go is up to
# you, but not how many. A sparsity of 0 keeps everything, 1 nothing.


# %% task="05.1"
def magnitude(weight: Tensor, sparsity: float) -> Tensor:
    """Boolean mask (out, in) of `weight` (out, in): False at exactly round(sparsity·size) of the smallest |weight|."""
    ### BEGIN SOLUTION
    count = round(sparsity * weight.numel())
    positions = weight.abs().flatten().topk(count, largest=False).indices
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[positions] = False
    return mask.view(weight.shape)
    ### END SOLUTION


# %% check="05.1"
### BEGIN HIDDEN TESTS
assert magnitude(torch.tensor([[3.0, -1.0, 0.5], [-4.0, 0.0, 2.0]]), 0.5).int().tolist() == [[1, 0, 0], [1, 0, 1]]
assert int((~magnitude(torch.ones(3, 4), 0.25)).sum()) == 3
### END HIDDEN TESTS
check("05.1", magnitude)

# %% [markdown] tags=["solution-only"]
# `topk` returns positions, so equal weights cannot fall together. The mask is built flat and given its shape at the
# end: writing into `mask.flatten()` of a transposed tensor would write into a copy.

# %% [markdown]
# On a real matrix: the smallest half of the weights holds how much of the matrix's energy (the sum of squares)?

# %% name="energy-real" tags=["nbval-check-output"]
magnitude = stand_in("05.1", magnitude)
encoder = from_huggingface(fetch("minilm"))
weight = encoder.layers[2].ffn.up.weight.detach()
for sparsity in (0.3, 0.5, 0.7, 0.9):
    mask = magnitude(weight, sparsity)
    lost = weight[~mask].square().sum() / weight.square().sum()
    print(f"{sparsity:.0%} zeros: {int((~mask).sum()):,} of {weight.numel():,} weights, {lost:.1%} of the energy")

# %% [markdown]
# ## Task 05.2 · The cubic schedule
# *Difficulty 1 of 5, importance 3 of 5, about 5 minutes.*
#
# Pruning in steps while a model trains hurts less than all at once. Zhu and Gupta (2018) prune fast at first, while much
# is redundant, and slowly at the end:
#
# $$s(t) = s_f + (s_i - s_f)\left(1 - \frac{t - t_0}{t_1 - t_0}\right)^3,\qquad t_0 \le t \le t_1,$$
#
# from the initial sparsity $s_i$ to the final one $s_f$; before `start` it is $s_i$, after `end` it is $s_f$.


# %% task="05.2"
def cubic(step: float, *, start: float, end: float, initial: float, final: float) -> float:
    """Sparsity at `step`: `initial` up to `start`, then the cubic rise to `final` at `end`, and constant after it."""
    ### BEGIN SOLUTION
    part = min(max((step - start) / (end - start), 0.0), 1.0)
    return final + (initial - final) * (1 - part) ** 3
    ### END SOLUTION


# %% check="05.2"
### BEGIN HIDDEN TESTS
assert [round(cubic(t, start=0, end=100, initial=0.0, final=0.9), 4) for t in (25, 50, 75)] == [0.5203, 0.7875, 0.8859]
### END HIDDEN TESTS
check("05.2", cubic)

# %% name="figure-schedule"
cubic = stand_in("05.2", cubic)
figure, axis = plt.subplots(figsize=(7.2, 3))
steps = range(0, 121)
axis.plot(steps, [100 * cubic(t, start=10, end=100, initial=0.0, final=0.9) for t in steps], label="cubic")
axis.plot(steps, [100 * 0.9 * min(max((t - 10) / 90, 0), 1) for t in steps], label="straight line")
axis.set(xlabel="step", ylabel="zeros, %")
axis.legend()
show(
    figure,
    alt="Zeros in per cent over 120 steps. Both curves leave 0 at step 10 and reach 90 at step 100. The cubic one is at "
    "79 % half way, the straight line at 45 %.",
    caption="The cubic schedule does most of its cutting early, and leaves the model time to adapt at the end.",
)

# %% [markdown]
# ## Task 05.3 · N of every M
# *Difficulty 3 of 5, importance 3 of 5, about 8 minutes.*
#
# Keep the `n` weights of largest magnitude among every `m` **consecutive inputs** of a row; `weight` is (out, in). Some
# GPUs multiply matrices with 2 of 4 in half the time. Raise a `ValueError` if `m` does not divide the number of inputs.


# %% task="05.3"
def n_m(weight: Tensor, n: int, m: int) -> Tensor:
    """Boolean mask (out, in): True at the n largest |weight| of every m consecutive inputs. ValueError: in % m ≠ 0."""
    ### BEGIN SOLUTION
    if weight.shape[1] % m:
        raise ValueError(f"{weight.shape[1]} inputs are no multiple of {m}")
    groups = weight.abs().unflatten(1, (-1, m))  # (out, groups, m)
    rank = groups.argsort(-1).argsort(-1)  # 0 for the smallest of its group
    return (rank >= m - n).flatten(1)
    ### END SOLUTION


# %% check="05.3"
### BEGIN HIDDEN TESTS
assert n_m(torch.tensor([[1.0, -4, 2, 3, 9, 8, 7, 6]]), 1, 4).int().tolist() == [[0, 1, 0, 0, 1, 0, 0, 0]]
### END HIDDEN TESTS
check("05.3", n_m)

# %% [markdown]
# What the pattern costs: with the same number of zeros, a free choice keeps more of the matrix's energy.

# %% name="n-m-real" tags=["nbval-check-output"]
n_m = stand_in("05.3", n_m)
for name, mask in (("50 %, free", magnitude(weight, 0.5)), ("4:8", n_m(weight, 4, 8)), ("2:4", n_m(weight, 2, 4))):
    print(
        f"{name:10} {mask.float().mean():.1%} stay, {weight[mask].square().sum() / weight.square().sum():.2%} of energy"
    )

# %% [markdown]
# ## Task 05.4 · Wanda: what comes in counts
# *Difficulty 3 of 5, importance 4 of 5, about 10 minutes.*
#
# A small weight on a large input may matter more than a large weight on a small one. Wanda (Sun et al. 2024) scores
# each weight by $|W_{ij}| \cdot \lVert X_j \rVert_2$, where $X_j$ is everything that comes in at input $j$ in some
# real texts, and drops the smallest scores **of each row**: `round(sparsity · in)` of them.
#
# `inputs` is (B, T, in). `real` (B, T) is true on real tokens: padding must not count. Return the mask, true where a
# weight stays.


# %% task="05.4"
def wanda(weight: Tensor, inputs: Tensor, real: Tensor, sparsity: float) -> Tensor:
    """Boolean mask (out, in): False at the round(sparsity·in) smallest |W|·‖x‖₂ of each row, over real tokens."""
    ### BEGIN SOLUTION
    norms = inputs[real].norm(dim=0)  # (tokens, in) → (in,)
    rank = (weight.abs() * norms).argsort(1).argsort(1)
    return rank >= round(sparsity * weight.shape[1])
    ### END SOLUTION


# %% check="05.4"
### BEGIN HIDDEN TESTS
_mask = wanda(torch.tensor([[1.0, -2, 3], [10, 4, -30]]), torch.tensor([[[1.0, 10, 1]]]), torch.tensor([[True]]), 2 / 3)
assert _mask.int().tolist() == [[0, 1, 0], [0, 1, 0]]
### END HIDDEN TESTS
check("05.4", wanda)

# %% [markdown]
# Your mask on the real encoder and real film reviews: `down` of each layer, half its weights gone. How far do its
# outputs move, relative to their size, on texts that were **not** used to choose?

# %% name="wanda-real"
wanda = stand_in("05.4", wanda)
task = load_task("rotten-tomatoes")
batches = text_batches(task.train.take(64), Tokenizer(fetch("minilm")), batch_size=32).epoch(0)


def inputs_of(linear: nn.Linear, batch: dict) -> Tensor:
    """What reaches a linear layer of the encoder from a batch of texts: (B, T, in)."""
    seen = []
    handle = linear.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.inference_mode():
        encoder(batch["input_ids"], batch["attention_mask"])
    handle.remove()
    return seen[0].clone()


for depth in (0, 2, 5):
    linear, first, other = encoder.layers[depth].ffn.down, batches[0], batches[1]
    weight, x = linear.weight.detach(), inputs_of(linear, first)
    unseen = inputs_of(linear, other)[other["attention_mask"]]
    moved = {}
    for name, mask in (
        ("magnitude", magnitude(weight, 0.5)),
        ("wanda", wanda(weight, x, first["attention_mask"], 0.5)),
    ):
        moved[name] = float((unseen @ (weight * ~mask).T).norm() / (unseen @ weight.T).norm())
    print(f"layer {depth}: outputs move by {moved['magnitude']:.0%} (magnitude), {moved['wanda']:.0%} (Wanda)")
    assert moved["wanda"] < moved["magnitude"]  # nothing is trained here; seen: 5 % against 6 to 7 %

# %% [markdown]
# ## Task 05.5 · Movement pruning's two gradients
# *Difficulty 3 of 5, importance 4 of 5, about 10 minutes.*
#
# In movement pruning (Sanh et al. 2020) a layer computes $y = x\,(W \circ M)^\top$, and the mask $M$ comes from scores
# $S$: the largest scores keep their weights. "Largest" has no gradient. The trick is to act as if $M$ *were* $S$
# (straight through). Given `upstream` $= \partial L / \partial y$, return the gradients $\partial L / \partial W$ and
# $\partial L / \partial S$, both (out, in).


# %% task="05.5"
def movement_gradients(weight: Tensor, mask: Tensor, x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """∂L/∂W and ∂L/∂S, both (out, in), from W (out, in), boolean M (out, in), x (N, in) and ∂L/∂y (N, out)."""
    ### BEGIN SOLUTION
    product = upstream.T @ x  # ∂L/∂(W∘M)
    return product * mask, product * weight
    ### END SOLUTION


# %% check="05.5"
### BEGIN HIDDEN TESTS
_w, _s = movement_gradients(
    torch.tensor([[2.0, 3.0]]), torch.tensor([[True, False]]), torch.ones(1, 2), torch.ones(1, 1)
)
assert (_w.tolist(), _s.tolist()) == ([[1.0, 0.0]], [[2.0, 3.0]])
### END HIDDEN TESTS
check("05.5", movement_gradients)

# %% [markdown] tags=["solution-only"]
# The score's gradient is not masked: a pruned weight still hears whether it would help, and its score can bring it
# back. The optimizer subtracts: a score *rises* where $\partial L / \partial W$ and $W$ have opposite signs, that is,
# where training pushes the weight away from zero.

# %% [markdown]
# A layer with four weights is trained towards a target. Two large weights are too large, two small ones too small.
# Scores by your gradients, masks by magnitude: which two does each keep?

# %% name="movement-toy" tags=["nbval-check-output"]
movement_gradients = stand_in("05.5", movement_gradients)
weight, target = torch.tensor([[5.0, 0.1, -5.0, -0.1]]), torch.tensor([[1.0, 3.0, -1.0, -3.0]])
scores, everything, x = torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool), torch.eye(4)
for _ in range(3):
    upstream = 2 * (x @ weight.T - target.T)
    for_weight, for_scores = movement_gradients(weight, everything, x, upstream)
    weight, scores = weight - 0.1 * for_weight, scores - 0.1 * for_scores
print("scores           ", [round(score, 2) for score in scores[0].tolist()])
print("movement keeps   ", magnitude_mask(scores - scores.min(), 0.5)[0].tolist())
print("magnitude at first", magnitude_mask(torch.tensor([[5.0, 0.1, -5.0, -0.1]]), 0.5)[0].tolist())

# %% [markdown]
# ## Task 05.6 · Take a head out
# *Difficulty 3 of 5, importance 5 of 5, about 12 minutes.*
#
# `state` is the state of an attention block: `query.weight`, `query.bias`, the same for `key`, `value` and `output`.
# Weights are (out, in). Head number `head` (from 0) of `heads` is a band of neighbouring **rows** of query, key and
# value; the projection `output` reads its results through the same band of **columns**. Return a new dictionary with
# the same keys in which the head is gone.


# %% task="05.6"
def without_head(state: dict[str, Tensor], head: int, heads: int) -> dict[str, Tensor]:
    """The attention block's tensors without one head; same keys, smaller tensors, `state` unchanged."""
    ### BEGIN SOLUTION
    size = len(state["query.weight"]) // heads
    kept = [row for row in range(heads * size) if row // size != head]
    result = dict(state)
    for name in ("query", "key", "value"):
        result[f"{name}.weight"] = state[f"{name}.weight"][kept]
        result[f"{name}.bias"] = state[f"{name}.bias"][kept]
    result["output.weight"] = state["output.weight"][:, kept]
    return result
    ### END SOLUTION


# %% check="05.6"
### BEGIN HIDDEN TESTS
_state = {
    f"{n}.{k}": torch.ones(4, 4) if k == "weight" else torch.ones(4)
    for n in ("query", "key", "value", "output")
    for k in ("weight", "bias")
}
assert {tuple(t.shape) for t in without_head(_state, 0, 2).values()} == {(2, 4), (2,), (4, 2), (4,)}
### END HIDDEN TESTS
check("05.6", without_head)

# %% [markdown]
# On the real encoder: head 7 of layer 3 is taken out of one copy, and silenced in another by setting its columns of
# `output` to zero. The outputs must agree; only one of the two copies is smaller.

# %% name="head-real" tags=["nbval-check-output"]
without_head = stand_in("05.6", without_head)
smaller, silenced = copy.deepcopy(encoder), copy.deepcopy(encoder)
attention = smaller.layers[3].attention
state = without_head(attention.state_dict(), 7, attention.num_heads)
for name in ("query", "key", "value", "output"):
    linear = nn.Linear(*state[f"{name}.weight"].shape[::-1])
    linear.load_state_dict({kind: state[f"{name}.{kind}"] for kind in ("weight", "bias")})
    setattr(attention, name, linear)
attention.num_heads -= 1
with torch.inference_mode():
    silenced.layers[3].attention.output.weight[:, 7 * 32 : 8 * 32] = 0
    inputs = batches[0]["input_ids"], batches[0]["attention_mask"]
    outputs = {name: model(*inputs).last_hidden for name, model in (("out", smaller), ("silent", silenced))}
same = torch.allclose(outputs["out"], outputs["silent"], atol=1e-5)
print("same outputs:", same)
for name, model in (("as published", encoder), ("silenced", silenced), ("taken out", smaller)):
    print(f"{name:13} {count_parameters(model).total:,} parameters, {count_flops(model, 1, 26):,} FLOPs")

# %% [markdown]
# ## Task 05.7 · Keep some neurons
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# A feed-forward block computes `down(gelu(up(x)))`. Return its four tensors with only the neurons `keep`, in that
# order. Weights are (out, in), so `up_weight` has a row per neuron.


# %% task="05.7"
def keep_neurons(
    up_weight: Tensor, up_bias: Tensor, down_weight: Tensor, down_bias: Tensor, keep: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """up (F, H) and (F,), down (H, F) and (H,), reduced to the neurons `keep` (k,) among F."""
    ### BEGIN SOLUTION
    return up_weight[keep], up_bias[keep], down_weight[:, keep], down_bias
    ### END SOLUTION


# %% check="05.7"
### BEGIN HIDDEN TESTS
_parts = keep_neurons(torch.zeros(5, 2), torch.arange(5.0), torch.zeros(2, 5), torch.zeros(2), torch.tensor([1, 4]))
assert [tuple(part.shape) for part in _parts] == [(2, 2), (2,), (2, 2), (2,)] and _parts[1].tolist() == [1, 4]
### END HIDDEN TESTS
check("05.7", keep_neurons)

# %% [markdown]
# A trap that you have just avoided: zeroing the rows of `up` alone does not silence a neuron. Its bias goes on through
# the activation. On the real block, 512 of 1,536 neurons, with inputs of the size the block gets:

# %% name="neurons-real" tags=["nbval-check-output"]
keep_neurons = stand_in("05.7", keep_neurons)
block = encoder.layers[1].ffn
keep = block.up.weight.detach().norm(dim=1).topk(512).indices.sort().values
x = torch.randn(16, 384, generator=torch.Generator().manual_seed(0))
chosen = torch.zeros(1536, 1).index_fill(0, keep, 1.0)


def feed_forward(up_weight: Tensor, up_bias: Tensor, down_weight: Tensor, down_bias: Tensor) -> Tensor:
    """(N, H) → (N, H)."""
    inside = nn.functional.gelu(nn.functional.linear(x, up_weight, up_bias))
    return nn.functional.linear(inside, down_weight, down_bias)


with torch.inference_mode():
    parts = block.up.weight, block.up.bias, block.down.weight, block.down.bias
    taken_out = feed_forward(*keep_neurons(*parts, keep))
    columns = feed_forward(*parts[:2], parts[2] * chosen.T, parts[3])
    rows = feed_forward(parts[0] * chosen, *parts[1:])
for name, other in (("columns of down set to zero", columns), ("rows of up set to zero", rows)):
    print(f"{name:28} same outputs as taken out: {torch.allclose(taken_out, other, atol=1e-4)}")

# %% [markdown]
# ## Task 05.8 · What zeros are worth on disk
# *Difficulty 2 of 5, importance 4 of 5, about 8 minutes.*
#
# Return a dictionary with the bytes of a matrix in three forms:
#
# | key | form |
# |---|---|
# | `"dense"` | every value, zeros too |
# | `"csr"` | compressed sparse rows: each value that is not zero with its column number, and for `rows + 1` borders where in that list a row begins; column numbers and borders take `index_bytes` each |
# | `"bits"` | each value that is not zero, and one bit for every entry; the bits fill whole bytes |


# %% task="05.8"
def three_sizes(weight: Tensor, index_bytes: int) -> dict[str, int]:
    """Bytes of `weight` (rows, columns) under the keys "dense", "csr" and "bits"."""
    ### BEGIN SOLUTION
    kept, value = int(weight.count_nonzero()), weight.element_size()
    return {
        "dense": weight.numel() * value,
        "csr": kept * (value + index_bytes) + (len(weight) + 1) * index_bytes,
        "bits": kept * value + (weight.numel() + 7) // 8,
    }
    ### END SOLUTION


# %% check="05.8"
### BEGIN HIDDEN TESTS
assert three_sizes(torch.eye(10), 4) == {"dense": 400, "csr": 124, "bits": 53}
### END HIDDEN TESTS
check("05.8", three_sizes)

# %% [markdown]
# The layers of the real encoder, all their matrices together, at several sparsities. "90 % zeros" is not "ten times
# smaller" in any of the forms:

# %% name="bytes-real" tags=["nbval-check-output"]
three_sizes = stand_in("05.8", three_sizes)
for sparsity in (0.0, 0.5, 0.7, 0.9):
    total = {"dense": 0, "csr": 0, "bits": 0}
    for linear in prunable(encoder).values():
        weight = linear.weight.detach()
        sizes = three_sizes(weight * magnitude(weight, sparsity), 4)
        total = {form: total[form] + sizes[form] for form in total}
    print(f"{sparsity:.0%} zeros: " + ", ".join(f"{form} {size / 1e6:.1f} MB" for form, size in total.items()))

# %% [markdown]
# ## What you can do now
# Choose weights exactly, by their size or by what comes in; prune on a schedule; say why a score can bring a weight
# back; take heads and neurons out of a real model so that it is smaller, computes less and gives the outputs it should;
# and say what zeros are worth, in bytes.
#
# **Next:** [06 · Quantization](../notebooks/06_quantization.ipynb) keeps every weight and makes each one smaller.
