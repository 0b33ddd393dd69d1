# %% [markdown] name="title"
# # 02 · Sharing layers: exercises
#
# **You will** write sharing plans, count what is stored under them, work out the gradient of a shared weight, build a
# stack that really shares, weigh a state dict, and share the middle of a trained encoder. **About 45 minutes.** It
# belongs to the lesson [02 · Sharing layers](../notebooks/02_sharing.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("02.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise, and
# says so. `progress()` in a cell shows how far you are.
#
# Letters are those of the lesson: hidden size $H$, FFN width $F$; depths are numbered from 0 in code.

# %% name="imports"
import copy
from collections.abc import Callable
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from coursekit.course import check, hint, progress, stand_in
from coursekit.data import fetch
from coursekit.measure import count_parameters
from coursekit.models import Encoder, SharingPlan, build, from_huggingface, preset
from coursekit.train import load_teacher
from coursekit.viz import show, use_style
from coursekit.viz.sharing import plan_grids

use_style()

# %% [markdown]
# ## Task 02.1 · The blocks of a sandwich
# *Difficulty 1 of 5, importance 4 of 5, about 4 minutes.*
#
# Return the number of the stored block that each depth uses: the first and the last depth have one of their own, all
# between share one. Blocks are numbered 0, 1, 2 in the order in which they are first used, from the bottom. Five
# depths: `[0, 1, 1, 1, 2]`. A stack may also have one or two depths; then nothing lies between.


# %% task="02.1"
def sandwich_blocks(depths: int) -> list[int]:
    """Block number of each depth, first depth first; depths ≥ 1."""
    ### BEGIN SOLUTION
    if depths < 3:
        return list(range(depths))
    return [0, *[1] * (depths - 2), 2]
    ### END SOLUTION


# %% check="02.1"
### BEGIN HIDDEN TESTS
assert (sandwich_blocks(5), sandwich_blocks(2)) == ([0, 1, 1, 1, 2], [0, 1])
### END HIDDEN TESTS
check("02.1", sandwich_blocks)

# %% [markdown]
# ## Task 02.2 · ALBERT's groups
# *Difficulty 2 of 5, importance 3 of 5, about 5 minutes.*
#
# ALBERT's config can also cut the depths into a number of *groups*, runs of neighbouring depths that share one block.
# When the number of groups does not divide the depths, runs differ in length by at most one: depth $i$ of $n$ is in
# group $\lfloor i \cdot g / n \rfloor$. Five depths in two groups: `[0, 0, 0, 1, 1]`. Beware of floats: both released
# implementations compute this with them, and for some sizes a quotient falls just below a whole number.


# %% task="02.2"
def group_blocks(depths: int, groups: int) -> list[int]:
    """Group number of each depth, first depth first; 1 ≤ groups ≤ depths."""
    ### BEGIN SOLUTION
    return [depth * groups // depths for depth in range(depths)]
    ### END SOLUTION


# %% check="02.2"
### BEGIN HIDDEN TESTS
assert group_blocks(5, 2) == [0, 0, 0, 1, 1]
### END HIDDEN TESTS
check("02.2", group_blocks)

# %% [markdown]
# Your block numbers make a plan of the library: the same ones for attention and FFN, LayerNorms private.

# %% name="figure-plans"
sandwich_blocks, group_blocks = stand_in("02.1", sandwich_blocks), stand_in("02.2", group_blocks)
numbers = {"sandwich": sandwich_blocks(12)}
numbers |= {f"groups: {groups}": group_blocks(12, groups) for groups in (1, 2, 3, 5, 12)}
plans = {name: SharingPlan.from_blocks(blocks, blocks, "private") for name, blocks in numbers.items()}
show(
    plan_grids(plans),
    alt="Six grids of twelve depths. Sandwich: ten depths share block B between A and C. One group: all A. Two "
    "groups: six A, six B. Three: four each. Five groups: runs of 3, 2, 3, 2, 2. Twelve groups: every depth "
    "its own letter.",
    caption="From one group to twelve: ALBERT and BERT are the two ends of one scale, and five groups do not divide "
    "twelve.",
)

# %% [markdown]
# ## Task 02.3 · Parameters under a plan
# *Difficulty 2 of 5, importance 5 of 5, about 7 minutes.*
#
# Count the parameters in the layers of an encoder from its plan. `plan.attention` and `plan.ffn` hold one block number
# per depth, `plan.norm` a tuple of two LayerNorm numbers per depth. Attention has four $H \times H$ matrices with
# biases, an FFN goes from $H$ to $F$ and back, with biases, a LayerNorm has a scale and a shift.


# %% task="02.3"
def plan_parameters(plan: SharingPlan, hidden: int, intermediate: int) -> int:
    """Distinct parameters of all layers of hidden size H and FFN width F under a sharing plan."""
    ### BEGIN SOLUTION
    attention = 4 * (hidden * hidden + hidden)
    ffn = (hidden * intermediate + intermediate) + (intermediate * hidden + hidden)
    norms = {number for depth in plan.norm for number in depth}
    return len(set(plan.attention)) * attention + len(set(plan.ffn)) * ffn + len(norms) * 2 * hidden
    ### END SOLUTION


# %% check="02.3"
### BEGIN HIDDEN TESTS
assert plan_parameters(SharingPlan.all(12), 768, 3072) == 7_087_872
### END HIDDEN TESTS
check("02.3", plan_parameters)

# %% [markdown]
# BERT-base under the plans of the figure, against models that are built:

# %% name="count-plans" tags=["nbval-check-output"]
plan_parameters = stand_in("02.3", plan_parameters)
bert = preset("bert-base")
for name, plan in plans.items():
    built = count_parameters(build(bert.replace(sharing=plan), device="meta").layers).total
    print(f"{name:10} {plan_parameters(plan, 768, 3072):>11,} by your count, {built:>11,} built")

# %% [markdown] tags=["solution-only"]
# With one group and private LayerNorms the layers hold 7,121,664 numbers, 33,792 more than ALBERT's 7,087,872: eleven
# pairs of LayerNorms. Three blocks cost three times one; how many depths use them does not matter.

# %% [markdown]
# ## Task 02.4 · The gradient of a shared weight
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# One matrix $W$ is applied $n$ times, $h_0 = x$, $h_{i} = W h_{i-1}$, and from above comes the gradient
# $g_n = \partial \mathcal{L} / \partial h_n$. Return $\partial \mathcal{L} / \partial W$, without autograd. Each use
# contributes the outer product of what comes from above with what came in from below, and hands $W^\top g$ further
# down:
#
# $$\frac{\partial \mathcal{L}}{\partial W} = \sum_{i=1}^{n} g_i\, h_{i-1}^\top, \qquad g_{i-1} = W^\top g_i .$$


# %% task="02.4"
def shared_gradient(weight: Tensor, x: Tensor, upstream: Tensor, depths: int) -> Tensor:
    """∂L/∂W (H, H) for W applied `depths` times to x (H,), with ∂L/∂h_n = upstream (H,)."""
    ### BEGIN SOLUTION
    states = [x]
    for _ in range(depths):
        states.append(weight @ states[-1])
    total = torch.zeros_like(weight)
    for state in reversed(states[:-1]):
        total += torch.outer(upstream, state)
        upstream = weight.T @ upstream
    return total
    ### END SOLUTION


# %% check="02.4"
### BEGIN HIDDEN TESTS
_weight, _x = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([1.0, 1.0])
assert shared_gradient(_weight, _x, torch.tensor([5.0, 1.0]), 2).tolist() == [[20, 10], [14, 12]]
### END HIDDEN TESTS
check("02.4", shared_gradient)

# %% [markdown]
# How long is the gradient of a shared weight, beside that of a single use? For a random matrix that neither lengthens
# nor shortens a vector much:

# %% name="figure-gradient"
shared_gradient = stand_in("02.4", shared_gradient)
generator = torch.Generator().manual_seed(0)
turn = torch.linalg.qr(torch.randn(32, 32, generator=generator))[0]
x, upstream = torch.randn(32, generator=generator), torch.randn(32, generator=generator)
counts = [1, 2, 4, 8, 12, 16, 24]
matrices = {"a rotation": turn, "near the identity": torch.linalg.matrix_exp(0.01 * (turn - turn.T))}
figure, axis = plt.subplots(figsize=(7.2, 3.4))
for name, matrix in matrices.items():
    lengths = [shared_gradient(matrix, x, upstream, count).norm() for count in counts]
    axis.plot(counts, [length / lengths[0] for length in lengths], markevery=1, label=name)
axis.set(xlabel="uses of the matrix", ylabel="length, in lengths of one use's", ylim=(0, None))
axis.legend()
show(
    figure,
    alt="Length of the shared gradient against the number of uses, 1 to 24. Near the identity it grows in "
    "proportion, to about 24 times that of one use; for a rotation it grows with about the root, to about 6.",
    caption="Uses that pull the same way add up in full, unrelated ones only by their root: the first kind wants a "
    "smaller step.",
)

# %% [markdown]
# ## Task 02.5 · A stack that shares
# *Difficulty 2 of 5, importance 5 of 5, about 6 minutes.*
#
# Build the stack itself. `blocks` holds a block number per depth, `make()` returns a new block. Return an
# `nn.ModuleList` in which two depths are **the same object** exactly if their numbers are equal. A number may come back
# after others. Call `make` once per block.


# %% task="02.5"
def build_stack(blocks: list[int], make: Callable[[], nn.Module]) -> nn.ModuleList:
    """One module per depth; equal numbers, one module."""
    ### BEGIN SOLUTION
    made = {}
    for block in blocks:
        if block not in made:
            made[block] = make()
    return nn.ModuleList(made[block] for block in blocks)
    ### END SOLUTION


# %% check="02.5"
### BEGIN HIDDEN TESTS
_stack = build_stack([0, 1, 1, 0], lambda: nn.Linear(2, 2))
assert _stack[0] is _stack[3] and _stack[1] is _stack[2] and _stack[0] is not _stack[1]
### END HIDDEN TESTS
check("02.5", build_stack)

# %% [markdown]
# Six depths as a sandwich, beside six equal copies; then 20 steps of training on the same numbers. Depths 1 and 4 of
# the stack begin equal in both.

# %% name="train-stack" tags=["nbval-check-output"]
build_stack = stand_in("02.5", build_stack)
torch.manual_seed(0)
sandwich = build_stack(sandwich_blocks(6), lambda: nn.Linear(8, 8))
copies = nn.ModuleList(copy.deepcopy(layer) for layer in sandwich)
inputs, targets = torch.randn(64, 8), torch.randn(64, 8)
for name, stack in (("shared", sandwich), ("copies", copies)):
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    for _ in range(20):
        state = inputs
        for layer in stack:
            state = state + layer(state).tanh()
        optimizer.zero_grad()
        (state - targets).square().mean().backward()
        optimizer.step()
    same = torch.equal(stack[1].weight, stack[4].weight)
    print(f"{name}: {count_parameters(stack).total} parameters, depths 1 and 4 still equal: {same}")

# %% [markdown]
# ## Task 02.6 · Bytes of a state dict
# *Difficulty 3 of 5, importance 4 of 5, about 6 minutes.*
#
# A state dict has a name for every use of a tensor. Return how many bytes it stores: each tensor once, each number with
# as many bytes as its dtype has. Tensors are the same if they lie in the same memory; a state dict makes a new Python
# object for each name, and equal values prove nothing.


# %% task="02.6"
def distinct_bytes(state: dict[str, Tensor]) -> int:
    """Bytes of the distinct tensors in a state dict."""
    ### BEGIN SOLUTION
    sizes = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in state.values()}
    return sum(sizes.values())
    ### END SOLUTION


# %% check="02.6"
### BEGIN HIDDEN TESTS
_one = torch.ones(3)
assert distinct_bytes({"a": _one, "b": _one.detach(), "c": torch.ones(3).half()}) == 18
### END HIDDEN TESTS
check("02.6", distinct_bytes)

# %% [markdown]
# The real ALBERT of the lesson, pretrained on chemical reactions:

# %% name="bytes-real" tags=["nbval-check-output"]
distinct_bytes = stand_in("02.6", distinct_bytes)
albert = from_huggingface(fetch("albert-reactions"))
state = albert.state_dict()
named = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
print(f"{len(state)} names, {named / 1e6:.2f} MB if each is written; {distinct_bytes(state) / 1e6:.2f} MB are stored")

# %% [markdown]
# ## Task 02.7 · SAFE as it is built
# *Difficulty 2 of 5, importance 3 of 5, about 5 minutes.*
#
# The paper counts $V d_e + 5 d_e^2 + d_e d_m$ for SAFE. Count the module: the word table; attention with four matrices
# and biases at $d_e$ and a LayerNorm; an FFN $d_e \to d_e \to d_m$ with biases, and a LayerNorm at $d_m$. Positions
# have no weights here.


# %% task="02.7"
def safe_parameters(vocabulary: int, narrow: int, hidden: int) -> int:
    """Parameters of a SAFE embedding: V words, d_e = `narrow`, d_m = `hidden`, biases and LayerNorms included."""
    ### BEGIN SOLUTION
    attention = 4 * (narrow * narrow + narrow) + 2 * narrow
    ffn = (narrow * narrow + narrow) + (narrow * hidden + hidden) + 2 * hidden
    return vocabulary * narrow + attention + ffn
    ### END SOLUTION


# %% check="02.7"
### BEGIN HIDDEN TESTS
assert safe_parameters(100, 5, 10) == 675 + 65
### END HIDDEN TESTS
check("02.7", safe_parameters)

# %% [markdown]
# With Subformer-base's sizes the vectors hardly matter, and neither does the small block beside the table:

# %% name="safe-real" tags=["nbval-check-output"]
safe_parameters = stand_in("02.7", safe_parameters)
V, d_e, d_m = 32_768, 320, 512
formula = V * d_e + 5 * d_e**2 + d_e * d_m
print(f"whole table {V * d_m:,}; SAFE by the formula {formula:,}, as built {safe_parameters(V, d_e, d_m):,}")

# %% [markdown]
# ## Task 02.8 · Share the middle of a trained encoder
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# Turn a trained encoder into a sandwich: in a **copy** of it, attention and FFN of the second depth replace those of
# all depths up to the last but one, as the same objects. The first and the last depth and all LayerNorms stay. Say so
# in the copy's config too: `encoder.config.replace(sharing=SharingPlan.sandwich(n))`, so that it can be saved and built
# again.


# %% task="02.8"
def share_middle(encoder: Encoder) -> Encoder:
    """A copy whose middle depths share the second depth's attention and FFN; the encoder given stays as it is."""
    ### BEGIN SOLUTION
    shared = copy.deepcopy(encoder)
    second = shared.layers[1]
    for layer in shared.layers[2:-1]:
        layer.attention, layer.ffn = second.attention, second.ffn
    shared.config = shared.config.replace(sharing=SharingPlan.sandwich(len(shared.layers)))
    return shared
    ### END SOLUTION


# %% check="02.8"
### BEGIN HIDDEN TESTS
_small = Encoder(preset("tinybert-4").replace(vocab_size=20, hidden_size=24, intermediate_size=30))
assert share_middle(_small).layers[2].ffn is not _small.layers[1].ffn
### END HIDDEN TESTS
check("02.8", share_middle)

# %% [markdown]
# The real one: MiniLM, fine-tuned on film reviews, six layers. (If it has not been fine-tuned on this machine yet, the
# next cell does it once, in about a minute.)

# %% name="share-real"
share_middle = stand_in("02.8", share_middle)
teacher = load_teacher("quick")
sandwich_model = copy.deepcopy(teacher.model)
sandwich_model.encoder = share_middle(teacher.model.encoder)
validation = teacher.task.validation
for name, model in (("original", teacher.model), ("sandwich", sandwich_model)):
    found = replace(teacher, model=model).predict(validation.texts).argmax(-1)
    share = (found == torch.tensor(validation.labels)).float().mean().item()
    layers = count_parameters(model.encoder.layers).total
    print(f"{name}: {layers:>10,} parameters in layers, {share:.1%} of {len(validation)} snippets right")
assert 0.5 < share < 0.79  # no training after the conversion; the original is near 81 %

# %% [markdown] tags=["solution-only"]
# Half of the layers' weights are gone, and many right answers with them, though every depth still computes. The second
# depth was trained to stand second. Brief training wins most of it back (see the lesson), and so it does for three
# layers alone.

# %% [markdown]
# ## What you can do now
#
# You can say which block a depth uses, what a plan stores and what it does not save, work out what a shared weight
# learns from each of its uses, and tell sharing from equal copies in a model, in an optimizer and in a file.
#
# **Next:** what a model learns from pairs of sentences, in
# [03 · Next sentence or sentence order](../notebooks/03_nsp_sop.ipynb).
