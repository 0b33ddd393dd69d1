# %% [markdown] name="title"
# # 05 · Pruning
#
# **You will be able to** choose which weights, heads, neurons, layers and words of a trained model can go, by four
# criteria whose arithmetic you have done by hand; keep them away while the model trains on; take them out so that the
# model is really smaller and faster; and say what zeros alone are worth, in bytes and in milliseconds.
#
# **About 55 minutes, and as much for the exercises.** Needs [01 · Where the parameters are](01_parameters.ipynb). The
# notebook runs in two to three minutes; what is exact will be yours to the digit, trained numbers and times nearly.

# %% name="imports"
import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.sparse import to_sparse_semi_structured

from coursekit.compress.pruning import (
    apply_masks,
    best_neurons,
    block_mask,
    calibrate,
    cubic_sparsity,
    drop_layers,
    finalize,
    global_magnitude_masks,
    gradually,
    head_importance,
    least_heads,
    lottery_ticket,
    magnitude_mask,
    magnitude_masks,
    n_m_mask,
    neuron_importance,
    prunable,
    prune_ffn,
    prune_heads,
    prune_tokenizer,
    prune_vocabulary,
    pruning_report,
    set_sparsity,
    sparse_bytes,
    task_vocabulary,
    wanda_mask,
)
from coursekit.compress.quantization import quantize_model
from coursekit.course import by_profile
from coursekit.course.studies import load_study
from coursekit.data import fetch, pad
from coursekit.measure import bootstrap_interval, compare, count_flops, count_parameters, paired_bootstrap, stored_bytes
from coursekit.models import Encoder, SharingPlan, TransformerConfig, load, save
from coursekit.train import (
    Loss,
    TrainConfig,
    classification_loss,
    evaluate,
    load_teacher,
    predict,
    pretrained_encoder,
    text_batches,
    train,
)
from coursekit.viz import explore, show, use_style
from coursekit.viz.pruning import bytes_per_weight, grid, moved, patterns, schedules, sparsity_card
from coursekit.viz.pruning_results import Cost, Point, accuracy_curves, costs, study_curves

use_style()

# %% [markdown]
# ## The question
#
# Unit 00 ended with a model of which nine weights in ten were zero. Its file was as large as before, its speed was the
# same, and it answered no better than a coin. Yet papers remove 90 % of BERT's weights and keep nearly all of its
# accuracy, and others remove half of it and are twice as fast. So:
#
# > **What can go? How is it chosen, and when? And what is gained, once it is really gone?**
#
# One matrix of a model, half of it removed, in five ways:

# %% name="figure-patterns"
torch.manual_seed(3)
example = torch.randn(8, 8) * torch.linspace(0.4, 1.6, 8)[:, None]
strongest = example.norm(dim=1).topk(4).indices
rows = torch.zeros(8, 8, dtype=torch.bool).index_fill(0, strongest, True)
show(
    patterns(
        example,
        {
            "single weights": magnitude_mask(example, 0.5),
            "2 of every 4": n_m_mask(example, 2, 4),
            "tiles of 2×2": block_mask(example, 0.5, (2, 2)),
            "rows": rows,
            "everything": torch.zeros_like(rows),
        },
    ),
    alt="The same 8×8 matrix five times, darker cells for larger magnitudes. Single weights: the 32 smallest cells are "
    "gone, scattered. 2 of every 4: in each row two cells of each half are gone. Tiles: eight 2×2 squares are gone. "
    "Rows: four whole rows are gone. Everything: all cells are gone.",
    caption="From left to right the choice gets coarser: it fits the weights less well, and the hardware better.",
)

# %% [markdown]
# | what goes | chosen by | smaller and faster without special software |
# |---|---|---|
# | single weights | magnitude, movement, inputs (Wanda) | no |
# | n of every m | the same, within groups | only on GPUs made for 2:4 |
# | rows and columns: neurons, heads | what the loss says of their gate | **yes** |
# | whole layers | where they stand | **yes** |
# | words | whether the task uses them | **yes**, in bytes |
#
# Five criteria come first, each on numbers that fit on a line; then a real encoder.

# %% [markdown]
# ## Choosing single weights, by hand
#
# ### Magnitude
# The smallest weights change the outputs least, all else being equal. Of six weights, half go:

# %% name="toy-magnitude" tags=["nbval-check-output"]
weight = torch.tensor([[3.0, -1.0, 0.5], [-4.0, 0.0, 2.0]])
print(magnitude_mask(weight, 0.5).int().tolist(), "1: stays")

# %% [markdown]
# This looks like comparing with a threshold, and most code does that. With equal weights, as after rounding, a
# threshold cannot count. Asked for 3 of 6, `<=` prunes 4 and `<` prunes none; `magnitude_mask` ranks positions:

# %% name="toy-ties" tags=["nbval-check-output"]
equal = torch.tensor([1.0, 1, 1, 1, 2, 2])
border = equal.sort().values[2]  # the third smallest
print("<= border prunes", int((equal <= border).sum()), "and < border prunes", int((equal < border).sum()))
print("magnitude_mask prunes", int((~magnitude_mask(equal, 0.5)).sum()))

# %% [markdown]
# One ranking per matrix, or **one for all** ("global")? Globally, a matrix of small weights pays for one of large ones:

# %% name="toy-global" tags=["nbval-check-output"]
two = {"large": torch.tensor([5.0, 6, 7, 9]), "small": torch.tensor([1.0, 2, 3, 8])}
each = {name: magnitude_mask(w, 0.5).int().tolist() for name, w in two.items()}
together = {name: mask.int().tolist() for name, mask in global_magnitude_masks(two, 0.5).items()}
print("each for itself", each)
print("together       ", together)

# %% [markdown]
# And a word on sparsity: it is the share of **all** weights. `torch.nn.utils.prune` applies its amount to what is left,
# so 20 % twice is 36 %:

# %% name="toy-twice" tags=["nbval-check-output"]
torch.manual_seed(0)
layer = nn.Linear(10, 10)
for _ in range(2):
    torch_prune.l1_unstructured(layer, "weight", amount=0.2)
print(f"{(layer.weight == 0).float().mean():.0%} zeros; magnitude_mask at 0.4: ", end="")
print(f"{(~magnitude_mask(layer.weight_orig, 0.4)).float().mean():.0%}")

# %% [markdown]
# ### What comes in: Wanda
# A small weight on a large input can matter more than a large weight on a small one. Wanda (Sun et al. 2024, equation
# 1) multiplies each weight by the L2 norm of its input over some real texts,
#
# $$S_{ij} = |W_{ij}| \cdot \lVert X_j \rVert_2 ,$$
#
# and compares within one **row**, for a row makes one output. With norms 1, 10 and 1 the scores below are (1, 20, 3)
# and (10, 40, 30):

# %% name="toy-wanda" tags=["nbval-check-output"]
weight, norms = torch.tensor([[1.0, -2, 3], [10, 4, -30]]), torch.tensor([1.0, 10, 1])
for name, mask in (("magnitude", magnitude_mask(weight, 1 / 3)), ("wanda", wanda_mask(weight, norms, 1 / 3))):
    print(f"{name:9} {mask.int().tolist()}")

# %% [markdown]
# Magnitude takes two weights from the first row because that row is small. What does each choice do to outputs? For
# inputs of the sizes 0.01 to 10, half the weights gone:

# %% name="toy-wanda-error" tags=["nbval-check-output"]
torch.manual_seed(0)
x = torch.randn(500, 32) * torch.logspace(-2, 1, 32)  # inputs of very different size
weight = torch.randn(16, 32)
for name, mask in (
    ("magnitude", magnitude_mask(weight, 0.5)),
    ("wanda", wanda_mask(weight, x.norm(dim=0), 0.5)),
):
    change = (x @ (weight * ~mask).T).norm() / (x @ weight.T).norm()
    print(f"{name:9} the outputs move by {change:.0%}")

# %% [markdown]
# ### n of every m
# Some GPUs multiply matrices of which 2 in every 4 consecutive inputs are zero in about half the time. The choice is
# made within each group of four; any score can be ranked so, Wanda's too. A CPU has no such product:

# %% name="toy-n-m" tags=["nbval-check-output"]
weight = torch.tensor([[1.0, -4, 2, 3, 9, 8, 7, 6]])
print("2:4", n_m_mask(weight, 2, 4).int().tolist(), " free", magnitude_mask(weight, 0.5).int().tolist())
large = torch.randn(128, 128)
try:
    to_sparse_semi_structured(large * n_m_mask(large, 2, 4))
except RuntimeError as error:
    print("2:4 on this machine's CPU:", type(error).__name__)

# %% [markdown]
# ### Movement
# Magnitude looks at where a weight *is*. Movement pruning (Sanh et al. 2020) looks at where fine-tuning *pushes* it. A
# layer computes $y = x\,(W \circ M)^\top$; the mask $M$ keeps the largest entries of a matrix of **scores** $S$, which
# is trained. "Among the largest" has no gradient, so the mask is treated as if it were the score (*straight through*):
#
# $$\frac{\partial L}{\partial S} := \frac{\partial L}{\partial (W \circ M)} \circ W, \qquad
# \frac{\partial L}{\partial W} = \frac{\partial L}{\partial (W \circ M)} \circ M .$$
#
# By hand: $y = 2 \cdot 1 + 3 \cdot 4$ with the second weight masked, so $y = 2$; let $\partial L/\partial y = 1$. Then
# $\partial L/\partial (W \circ M) = x = (1, 4)$:

# %% name="toy-movement-gradient" tags=["nbval-check-output"]
layer = apply_masks(nn.Sequential(nn.Linear(2, 1, bias=False)), movement=True)[0]
with torch.no_grad():
    layer.weight.copy_(torch.tensor([[2.0, 3.0]]))
    layer.mask.copy_(torch.tensor([[True, False]]))
y = layer(torch.tensor([[1.0, 4.0]]))
y.sum().backward()
print("y", y.item(), "  weight's gradient", layer.weight.grad.tolist(), "  score's", layer.scores.grad.tolist())

# %% [markdown]
# The masked weight gets no gradient, but its score does ($4 \cdot 3 = 12$), so it can come back. The optimizer
# subtracts: a score rises where gradient and weight have opposite signs, that is, where training pushes the weight
# **away from zero**. Four weights, two of which should shrink and two grow:

# %% name="toy-movement" tags=["nbval-check-output"]
model = apply_masks(nn.Sequential(nn.Linear(4, 1, bias=False)), movement=True)
start, target = torch.tensor([[5.0, 0.1, -5.0, -0.1]]), torch.tensor([[1.0, 3.0, -1.0, -3.0]])
with torch.no_grad():
    model[0].weight.copy_(start)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    (model[0].masked_weight() - target).square().sum().backward()
    optimizer.step()
set_sparsity(model, 0.5)
print("movement keeps ", model[0].mask.int().tolist(), " scores", [round(s, 2) for s in model[0].scores[0].tolist()])
print("magnitude keeps", magnitude_mask(start, 0.5).int().tolist(), " weights [[5.0, 0.1, -5.0, -0.1]]")

# %% [markdown]
# ## When, and how to keep it so
#
# ### A schedule
# A model that loses its weights in small steps while it trains can adapt. Zhu and Gupta (2018, equation 1) prune fast
# while much is redundant, and slowly at the end: $s_t = s_f + (s_i - s_f)\left(1 - \frac{t - t_0}{n}\right)^3$.

# %% name="schedule" tags=["nbval-check-output"]
for step in (0, 25, 50, 75, 100, 200):
    print(f"step {step:3}: {cubic_sparsity(step, start=0, end=100, initial=0.0, final=0.9):.4f}")

# %% name="figure-schedule"
steps = np.arange(0, 131)
cubic = [cubic_sparsity(step, start=10, end=100, initial=0.0, final=0.9) for step in steps]
show(
    schedules({"cubic": (steps, cubic), "all at once": (steps, 0.9 * (steps >= 10))}),
    alt="Share of zeros over 130 steps. All at once: 0 up to step 10, then 90 %. Cubic: it leaves 0 at step 10, has "
    "passed 50 % by step 35 and 80 % by step 60, and reaches 90 % at step 100.",
    caption="Half of the zeros come in the first fifth of the schedule; the last eighth takes its second half.",
)

# %% [markdown]
# ### Zeros that stay
# Setting weights to zero once is not enough. An optimizer with momentum remembers where a weight was going. Below,
# half of a layer is zeroed after three steps of AdamW, and three more steps follow: by hand, and by a layer that forms
# $W \circ M$ in every forward pass (`apply_masks`):

# %% name="toy-optimizer" tags=["nbval-check-output"]
torch.manual_seed(0)
data, plain = torch.randn(32, 6), nn.Sequential(nn.Linear(6, 8))
masked = apply_masks(copy.deepcopy(plain))
for name, model in (("zeroed by hand", plain), ("masked", masked)):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(6):
        optimizer.zero_grad()
        model(data).square().mean().backward()
        optimizer.step()
        if step == 2:
            mask = magnitude_mask(model[0].weight, 0.5)
            if model is masked:
                apply_masks(model, {"0": mask})
            else:
                model[0].weight.data *= mask
    weight = model[0].masked_weight() if model is masked else model[0].weight
    print(f"{name:14} {int((weight[~mask] != 0).sum())} of {int((~mask).sum())} zeros are gone again")

# %% [markdown]
# A mask should also survive what one does with models: copying, saving, loading. Torch's own pruning cannot be copied
# once it is applied. The masks here are buffers; they are saved with the model, and `finalize` turns them into plain
# zeros in plain linear layers when training is over.

# %% name="copy-and-save" tags=["nbval-check-output"]
try:
    copy.deepcopy(torch_prune.l1_unstructured(nn.Linear(4, 3), "weight", amount=0.5))
except RuntimeError as error:
    print("torch.nn.utils.prune, copied:", type(error).__name__)

torch.manual_seed(0)
tiny = TransformerConfig(vocab_size=40, hidden_size=24, num_layers=3, num_heads=4, intermediate_size=36)
model = Encoder(tiny).eval()
before = stored_bytes(model)
apply_masks(model, magnitude_masks(model, 0.8))
ids = torch.tensor([[1, 2, 3]])
with tempfile.TemporaryDirectory() as place, torch.inference_mode():
    again = load(save(model, Path(place) / "model"))
    same = [torch.equal(other(ids).last_hidden, model(ids).last_hidden) for other in (copy.deepcopy(model), again)]
print("same outputs, copied and reloaded:", same)
print(f"bytes: dense {before:,}, masked {stored_bytes(model):,}, finalized {stored_bytes(finalize(model)):,}")

# %% [markdown]
# Look at the bytes: a mask *adds* a byte per weight, and after `finalize` the file is what it was. Pruning has not
# saved anything yet.

# %% [markdown]
# ## The real encoder, one matrix entry at a time
#
# Now MiniLM, fine-tuned on film reviews as in the units before. What may go: the weights of its linear layers. What may
# not, by default: embeddings, LayerNorms, biases, and the classifier, which are few or needed whole.

# %% name="teacher"
teacher = load_teacher("quick")
task, tokenizer, dense = teacher.task, teacher.tokenizer, teacher.model

# %% name="prunable" tags=["nbval-check-output"]
layers = prunable(dense)
weights = sum(layer.weight.numel() for layer in layers.values())
print(f"{len(layers)} matrices, {weights:,} weights: {weights / count_parameters(dense).total:.0%} of the model")
print(*list(layers)[:6], "…", sep="\n")

# %% [markdown]
# Judge: right answers on the 776 validation snippets (films not seen in training). Calibration and importance look at
# training texts only. First nothing is trained after the cut ("one-shot").

# %% name="judge"
labels = np.array(task.validation.labels)
validation = text_batches(task.validation, tokenizer, batch_size=64)
majority = np.mean(labels == np.bincount(task.train.labels).argmax())
calibration = text_batches(task.train.take(128), tokenizer, batch_size=32)


def right_answers(model):
    """(N,) booleans on validation; bf16 where the machine has it."""
    return predict(model, validation, precision="auto").argmax(-1).numpy() == labels


def cut(masks):
    """A copy of the dense model with these masks as plain zeros."""
    return finalize(apply_masks(copy.deepcopy(dense), masks))


dense_right = right_answers(dense)
print(f"dense {dense_right.mean():.1%}, always the larger class {majority:.1%}")

# %% name="criteria"
norms = calibrate(dense, calibration)  # path -> L2 norm of each input, padding left out
torch.manual_seed(0)
noise = {path: torch.rand(layer.weight.shape) for path, layer in layers.items()}
CRITERIA = {
    "magnitude": lambda s: magnitude_masks(dense, s),
    "magnitude, global": lambda s: magnitude_masks(dense, s, scope="global"),
    "wanda": lambda s: {path: wanda_mask(layers[path].weight, norm, s) for path, norm in norms.items()},
    "random": lambda s: {path: magnitude_mask(values, s) for path, values in noise.items()},
}

# %% name="one-shot"
SPARSITIES = by_profile(quick=(30, 50, 70), full=(20, 30, 40, 50, 60, 70, 80))
one_shot = {name: {0: dense_right} for name in CRITERIA}
for name, choose in CRITERIA.items():
    for zeros in SPARSITIES:
        one_shot[name][zeros] = right_answers(cut(choose(zeros / 100)))
    print(f"{name:18}", "  ".join(f"{zeros} %: {right.mean():.1%}" for zeros, right in one_shot[name].items()))

# %% name="figure-one-shot"
curves = {
    name: [
        Point(zeros / 100, right.mean(), *bootstrap_interval(right, seed=0, repeats=2000))
        for zeros, right in found.items()
    ]
    for name, found in one_shot.items()
}
show(
    accuracy_curves(curves, dense_right.mean(), majority),
    alt="Validation accuracy with 95 % intervals at 0, 30, 50 and 70 % zeros. All methods start at the dense model's "
    "level near 81 %. Random zeros fall to between 57 and 66 % at once. Magnitude, per matrix and global, holds "
    "at 30 % and has lost several points at 50. Wanda holds to 50 %. At 70 % all have lost ten points or more.",
    caption="Without training, 30 % of the weights can go, with Wanda half; then it breaks, quickly.",
)

# %% name="assert-one-shot"
at = {name: {zeros: right.mean() for zeros, right in found.items()} for name, found in one_shot.items()}
# Nothing is trained after the cut, but the dense model is, on each machine anew: two points of room.
assert at["wanda"][50] > at["magnitude"][50] - 0.01  # seen: 80 % against 75 %
assert at["magnitude"][0] - at["magnitude"][30] < 0.05 < at["magnitude"][0] - at["magnitude"][70]
assert at["random"][30] < at["magnitude"][30] - 0.05

# %% [markdown]
# Three observations. Which weights go matters enormously: the same number of *random* zeros destroys the model. What
# comes in matters too: Wanda costs one pass over 128 texts. And the global ranking, which is free to choose, is at 70 %
# no better than dice. It takes most from the matrices with small weights. Which are those, and what if
# the one that loses most were ranked by itself?

# %% name="global-why"
for zeros in SPARSITIES:
    masks = CRITERIA["magnitude, global"](zeros / 100)
    left = {path: mask.float().mean().item() for path, mask in masks.items()}
    least, most = min(left, key=left.get), max(left, key=left.get)
    masks[least] = CRITERIA["magnitude"](zeros / 100)[least]
    apart = right_answers(cut(masks)).mean()
    print(f"{zeros} %: {least} keeps {left[least]:.2%}, {most} {left[most]:.0%};", end=" ")
    print(f"accuracy {at['magnitude, global'][zeros]:.1%}, with the former ranked by itself {apart:.1%}")
    if zeros == 70:
        assert least == "encoder.pooler" and left[least] < 0.001  # its weights are small as published
        assert apart > at["magnitude, global"][zeros] + 0.03  # seen: 11 points

# %% [markdown]
# The pooler stands right before the classifier, and its weights are the smallest of all. At 50 % a few dozen of its
# 147,456 are left, at 70 % none: then the classifier reads the same state for every text. Small weights are not
# unimportant weights, and one matrix in 37 decides. Ranked per matrix, it keeps its share.
#
# Move the slider: the corner of a real matrix, the accuracy, and, a preview, the bytes.

# %% name="slider-sparsity"
corner = (slice(0, 24), slice(0, 24))
path = "encoder.layers.2.ffn.up"
kept = {
    (name, zeros): (choose(zeros / 100)[path] if zeros else torch.ones_like(layers[path].weight) > 0)[corner]
    for name, choose in CRITERIA.items()
    for zeros in (0, *SPARSITIES)
}


def card(method, zeros):
    """The sparsity card of one method, from values computed above."""
    part = layers[path].weight[corner].detach()
    return sparsity_card(part, kept, at, method=method, zeros=zeros, majority=majority)


explore(
    card,
    method=list(CRITERIA),
    zeros=[0, *SPARSITIES],
    static={"method": "wanda", "zeros": 50},
    alt="Three panels for Wanda at 50 % zeros. A 24×24 corner of a real matrix with half of each row's entries gone, "
    "many of them in the same columns. Accuracy against zeros for four methods, Wanda's point at 50 % ringed. Bytes per "
    "weight: dense 4 throughout; CSR with 8-byte indices starts at 12, with 4-byte ones at 8, bits with values just "
    "above 4, all falling to about 0.",
    caption="What is gone, what it costs, and what it could save: in CSR nothing at 50 %, as bits nearly half.",
)

# %% [markdown]
# ### Why movement has nothing to follow here
# Movement pruning keeps what fine-tuning pushes away from zero. How far *did* our fine-tuning push the weights? The
# published encoder beside the fine-tuned one:

# %% name="moved"
published = pretrained_encoder()
origin = {path: published.get_submodule(path.removeprefix("encoder.")).weight for path in layers}
masks = {"fine-tuned": CRITERIA["magnitude"](0.7), "published": {p: magnitude_mask(w, 0.7) for p, w in origin.items()}}
agree = sum(int((masks["fine-tuned"][p] == masks["published"][p]).sum()) for p in layers) / weights
length = sum(float(w.detach().square().sum()) for w in origin.values()) ** 0.5
way = sum(float((layers[p].weight - origin[p]).detach().square().sum()) for p in layers) ** 0.5
print(f"movement: {way / length:.1%} of the weights' length; the masks at 70 % agree in {agree:.1%} of all entries")
assert way / length < 0.2 and agree > 0.9  # 63 steps at a rate of 2e-4 cannot carry a weight far

# %% name="figure-moved"
some = torch.randperm(layers[path].weight.numel(), generator=torch.Generator().manual_seed(0))[:4000]
was, became = (w.detach().flatten()[some] for w in (origin[path], layers[path].weight))
show(
    moved(was, became, 0.7),
    alt="Left, 4,000 weights before and after fine-tuning lie close to the diagonal; a band holds the 70 % of smallest "
    "magnitude. Right, on a logarithmic scale, the distribution of the weights is wide, that of their movements is a "
    "narrow peak around zero.",
    caption="Few weights cross the edge of the band: the mask was decided before fine-tuning began.",
)

# %% [markdown]
# So in a short fine-tuning magnitude and "first magnitude" choose the same, and scores have little to see. The paper's
# regime is another: thousands of steps, and 3 to 15 % of the weights left. Is there an effect when weights *do* move? A
# network small enough to train in a second: 8×8 images of digits, first trained on 0 to 4 alone, then fine-tuned on all
# ten while it is pruned, by magnitude and by movement, on the same schedule.

# %% name="digits"
pixels, digits = (torch.tensor(values) for values in load_digits(return_X_y=True))
pixels = pixels.float() / 16
order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
seen, unseen = order[:1200], order[1200:]


def network(seed):
    """A fresh network: 64 pixels, two layers of 128, 10 digits."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def fit(model, rows, steps, seed, lr=1e-3, on_step=None):
    """Train on random batches of 64 of these rows; returns the model."""
    draw = torch.Generator().manual_seed(seed)
    chosen = [rows[torch.randint(len(rows), (64,), generator=draw)] for _ in range(steps)]
    config = TrainConfig(steps=steps, lr=lr, schedule="constant", precision="fp32")
    batches = [(pixels[rows], digits[rows]) for rows in chosen]
    train(model, batches, lambda m, b: Loss(F.cross_entropy(m(b[0]), b[1]), len(b[1])), config, on_step=on_step)
    return model


def accuracy_on_digits(model):
    """Share of the unseen images that are named right."""
    with torch.inference_mode():
        return (model(pixels[unseen]).argmax(1) == digits[unseen]).float().mean().item()


# %% name="movement-digits"
found = {}
for seed in range(3):
    first = fit(network(seed), seen[digits[seen] < 5], 1000, seed, lr=3e-3)
    for sparsity in (0.9, 0.97):
        for movement in (False, True):
            hook = gradually(sparsity, start=40, end=280, every=5)
            model = fit(apply_masks(copy.deepcopy(first), movement=movement), seen, 400, seed, on_step=hook)
            found.setdefault((sparsity, movement), []).append(accuracy_on_digits(model))
for (sparsity, movement), values in found.items():
    print(f"{sparsity:.0%} zeros, {'movement' if movement else 'magnitude':9}", " ".join(f"{v:.1%}" for v in values))

# %% name="assert-movement"
means = {key: np.mean(values) for key, values in found.items()}
assert abs(means[0.9, True] - means[0.9, False]) < 0.05  # seen: half a point
assert means[0.97, True] > means[0.97, False] - 0.02  # seen: 7 points, and 2 to 17 in single seeds

# %% [markdown]
# The paper's picture in small: no difference at 90 %, and at 97 %, where only one weight in thirty is left, what the
# new task needs counts more than what the old one made large. The regime matters: when we halved the first training and
# took a third of its rate (a run not shown here, whose weights are less settled), the two were level at 97 % too in the
# mean of three seeds, with either ahead in a single one.
#
# ### Lottery tickets
# Was the sparse network only there after training, or could it have been trained *sparse from the beginning*? Frankle
# and Carbin (2019) train, prune the smallest, **rewind** the rest to its first values, and repeat. If what is left then
# trains as well as the whole, it was a winning ticket. Two controls: the same mask with other first values, and the
# same first values with the zeros of each matrix in random places.

# %% name="lottery"
tickets = {"ticket": [], "other first values": [], "zeros elsewhere": []}
for seed in range(3):
    model = apply_masks(network(seed))
    rounds = lottery_ticket(
        model, lambda m, seed=seed: accuracy_on_digits(fit(m, seen, 300, seed)), final=0.94, rounds=4, scope="global"
    )
    story = list(rounds)
    mask = {path: layer.mask.clone() for path, layer in prunable(model).items()}
    shuffled = {path: m.flatten()[torch.randperm(m.numel())].view_as(m) for path, m in mask.items()}
    others = apply_masks(network(seed + 100), mask), apply_masks(network(seed), shuffled)
    values = (story[-1].result, *(accuracy_on_digits(fit(other, seen, 300, seed)) for other in others))
    for name, value in zip(tickets, values, strict=True):
        tickets[name].append(value)
    print(f"seed {seed}:", ", ".join(f"{r.sparsity:.0%} zeros {r.result:.1%}" for r in story))
for name, values in tickets.items():
    print(f"{name:18} at 94 %:", " ".join(f"{value:.1%}" for value in values))

# %% name="assert-lottery"
means = [np.mean(values) for values in tickets.values()]
assert means[0] > means[1] > means[2]  # seen: 93, 82 and 68 %
assert means[0] > means[2] + 0.1

# %% [markdown]
# Both halves of a ticket count: where the zeros are, and which first values they leave. For a *pretrained* encoder "the
# first values" are the published weights; the study below rewinds to them, in a single round in place of these four.
#
# ### Which matrix is sensitive?
# Prune one matrix at a time, 80 % by magnitude, and watch the loss on 200 validation snippets. (The loss moves more
# smoothly than accuracy.)

# %% name="sensitivity"
KINDS = ("attention.query", "attention.key", "attention.value", "attention.output", "ffn.up", "ffn.down")
few = text_batches(task.validation.take(200), tokenizer, batch_size=64)


def loss_of(model):
    """Cross-entropy on the few snippets."""
    return evaluate(model, few, classification_loss, precision="auto")["loss"]


base = loss_of(dense)
sensitivity = np.zeros((6, len(KINDS)))
for depth in range(6):
    for column, kind in enumerate(KINDS):
        one = f"encoder.layers.{depth}.{kind}"
        sensitivity[depth, column] = loss_of(cut({one: magnitude_mask(layers[one].weight, 0.8)})) - base

# %% name="figure-sensitivity"
show(
    grid(
        sensitivity,
        [f"layer {depth}" for depth in range(6)],
        [kind.split(".")[1] for kind in KINDS],
        label="rise of the loss",
    ),
    alt="A grid of six layers and six kinds of matrix with the rise of the loss when that matrix alone loses 80 % of its "
    "weights. Nearly all are within 0.02 of zero; the largest, 0.05 and 0.04, are the matrices up of layers 1 and 2.",
    caption="Alone, nearly every matrix could lose four fifths of its weights unnoticed; a few in the early FFNs show.",
)

# %% name="all-together"
together = loss_of(cut(CRITERIA["magnitude"](0.8))) - base
print(f"rise of the loss: worst single matrix {sensitivity.max():.2f}, all matrices at once {together:.2f}")
assert together > 2 * sensitivity.max()  # seen: more than five times

# %% [markdown]
# No matrix breaks the model, all together do: what each one changes, the next one is fed. So a table like this does not
# add up to a plan by itself; and a plan made from it would have to be made on other texts than those that judge it.

# %% [markdown]
# ## Taking things out
#
# Single zeros leave the shapes as they are. Rows and columns do not: a head, a neuron, a layer can be **removed**, and
# a smaller dense model is faster everywhere.
#
# ### Which heads matter?
# Put a gate $\xi_h = 1$ on the output of each head. If the loss would hardly move with the gate, the head does hardly
# anything (Michel et al. 2019, equation 2):
#
# $$I_h = \mathbb{E}_x \left| \frac{\partial L(x)}{\partial \xi_h} \right| .$$
#
# One backward pass per batch gives all gates at once, over texts one by one. Each layer is divided by its norm; without
# that, layers with large gradients would win every ranking.

# %% name="heads"
importance = head_importance(dense, calibration, classification_loss)
out = least_heads(importance, 0.25)  # a quarter of all 72, but never the last head of a layer
values = torch.stack([importance[depth] for depth in range(6)])
crossed = torch.zeros(values.shape, dtype=torch.bool)
for depth, numbers in out.items():
    crossed[depth, numbers] = True
stands_out = values.amax(1) / values.median(1).values  # of each layer
print("largest / median of each layer:", [round(ratio, 1) for ratio in stands_out.tolist()])
print("heads to remove in each layer: ", [len(out.get(depth, [])) for depth in range(6)])
assert stands_out[:2].max() < stands_out[2:].max() and crossed[:3].sum() <= crossed[3:].sum()  # seen: 1.6, 4.5; 6, 12

# %% name="figure-heads"
show(
    grid(
        values,
        [f"layer {depth}" for depth in range(6)],
        [str(head) for head in range(12)],
        label="importance",
        crossed=crossed,
    ),
    alt="A grid of six layers and twelve heads with their importance, between about 0.06 and 0.73. In layers 0 and 1 the "
    "heads are much alike, up to 0.41; in layers 2, 3 and 5 one or two have 0.55 or more, three to five times the layer's "
    "median. The 18 least important are crossed out: 1, 2 and 3 in the first three layers, 4 in each later one.",
    caption="The deeper layers have heads that stand out, and more heads that hardly count; × marks the quarter that goes.",
)

# %% [markdown]
# Removing head $h$ means: its band of rows in query, key and value with their biases, and its band of **columns** in the
# output projection. The number of heads changes, their size does not, nor the scale $1/\sqrt{d}$. It must give what
# silencing the head gives, and here is the proof:

# %% name="heads-out" tags=["nbval-check-output"]
silenced, smaller = copy.deepcopy(published), copy.deepcopy(published)
batch = pad(tokenizer.encode(["A film about nothing, and a good one.", "No."]), tokenizer.pad_id)
with torch.inference_mode():
    silenced.layers[3].attention.output.weight[:, 7 * 32 : 8 * 32] = 0
    prune_heads(smaller, {3: [7]})
    difference = (smaller(*batch).last_hidden - silenced(*batch).last_hidden).abs().max()
print(
    "same outputs as silenced:",
    bool(difference < 1e-5),
    " heads:",
    [each.attention.num_heads for each in smaller.layers],
)
for name, model in (("published", published), ("silenced", silenced), ("removed", smaller)):
    print(f"{name:9} {count_parameters(model).total:,} parameters, {count_flops(model, 1, 26):,} FLOPs")

# %% [markdown]
# **Neurons** of the feed-forward blocks go the same way: rows of `up` with their biases, columns of `down`. Zeroing the
# rows of `up` alone would leave $\mathrm{gelu}(b)$ flowing. **Layers** are the simplest: take them off the end, whose
# states the classifier sees last.

# %% name="structures"
neurons = neuron_importance(dense, calibration, classification_loss)
MODELS = {
    "25 % of heads": prune_heads(copy.deepcopy(dense), out),
    "50 % of neurons": prune_ffn(copy.deepcopy(dense), best_neurons(neurons, 0.5)),
    "4 of 6 layers": drop_layers(copy.deepcopy(dense), range(4)),
}
judged = {name: right_answers(model) for name, model in MODELS.items()}
for name, right in judged.items():
    gone = 1 - sum(layer.weight.numel() for layer in prunable(MODELS[name]).values()) / weights
    print(f"{name:16} {gone:.0%} of the matrices gone, accuracy {right.mean():.1%} (dense {dense_right.mean():.1%})")

# %% [markdown]
# A report says what happened to each layer, skipped ones too, and the model reloads in its new shape:

# %% name="report" tags=["nbval-check-output"]
rows = pruning_report(dense, MODELS["25 % of heads"]).layers
bytes_now = pruning_report(dense, MODELS["50 % of neurons"]).bytes_after
print(sum(row.skipped for row in rows), "of", len(rows), "layers skipped, for example:")
print(*sorted({row.what for row in rows if row.skipped}), sep="\n")
print(f"neurons: {stored_bytes(dense):,} bytes become {bytes_now:,}")

# %% name="reload" tags=["nbval-check-output"]
with tempfile.TemporaryDirectory() as place, torch.inference_mode():
    for name, model in MODELS.items():
        again = load(save(model, Path(place) / name.replace(" ", "-").replace("%", "")))
        print(f"{name:16} reloaded, same outputs: {torch.equal(again(*batch).logits, model(*batch).logits)}")

# %% [markdown]
# A layer that is **shared** by several depths (unit 02) is one module: a head taken out of it is gone in all of them,
# and asking two depths of one module for different heads is an error.

# %% name="shared-heads" tags=["nbval-check-output"]
albert = Encoder(tiny.replace(sharing=SharingPlan.every(3, 2)))  # depths 0 and 1 share, 2 is alone
prune_heads(albert, {0: [2]})
print([layer.attention.num_heads for layer in albert.layers], albert.layers[0].attention is albert.layers[1].attention)
with tempfile.TemporaryDirectory() as place:
    again = load(save(albert, Path(place) / "model"))
print(
    "reloaded:",
    [layer.attention.num_heads for layer in again.layers],
    again.layers[0].attention is again.layers[1].attention,
)
try:
    prune_heads(albert, {0: [0], 1: [1]})
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# ### Words
# Half of MiniLM is its word table. Words that the task never uses can go, with no effect on texts made of the others:
# not an approximation, but the same numbers (Abdaoui et al. 2020). The words are chosen on **training** texts.

# %% name="vocabulary" tags=["nbval-check-output"]
used = task_vocabulary(tokenizer, tokenizer.encode(task.train.texts))
fewer_words = copy.deepcopy(dense)
id_map = prune_vocabulary(fewer_words, tokenizer, used)
print(f"{len(id_map):,} pieces become {int((id_map >= 0).sum()):,}: {stored_bytes(dense):,} bytes -> ", end="")
print(f"{stored_bytes(fewer_words):,}")
with tempfile.TemporaryDirectory() as place, torch.inference_mode():
    small_tokenizer = prune_tokenizer(fetch("minilm"), id_map, Path(place) / "tokenizer.json")
sample = task.train.texts[:4]
with torch.inference_mode():
    old, new = (
        m(*pad(t.encode(sample), t.pad_id)).logits for m, t in ((dense, tokenizer), (fewer_words, small_tokenizer))
    )
print("same logits on training texts:", torch.equal(old, new))

# %% [markdown]
# New texts have words that the training texts did not. They are cut into kept pieces, or become `[UNK]`:

# %% name="unseen-words"
old_ids, new_ids = (t.encode(task.validation.texts) for t in (tokenizer, small_tokenizer))
changed = np.mean([len(a) != len(b) or id_map[a].tolist() != b for a, b in zip(old_ids, new_ids, strict=True)])
small_task = text_batches(task.validation, small_tokenizer, batch_size=64)
words_right = predict(fewer_words, small_task, precision="auto").argmax(-1).numpy() == labels
print(f"{changed:.0%} of the validation texts are cut differently; accuracy {words_right.mean():.1%}")
assert abs(words_right.mean() - dense_right.mean()) < 0.03  # seen: within a point

# %% [markdown]
# ## What zeros are worth
#
# ### On disk
# A file of zeros is as large as a file of numbers. To save bytes the zeros must be left out, and then something must
# say where they were: a column number for each value (CSR), or one bit for each entry.

# %% name="figure-bytes"
show(
    bytes_per_weight(),
    alt="Bytes per fp32 weight against the share of zeros. Dense: 4. CSR with 8-byte indices, torch's default: from 12 "
    "down, below 4 from 67 % zeros. CSR with 4-byte indices: from 8 down, below 4 from 50 %. Bits and values: from 4.1 "
    "down, below 4 from 3 %.",
    caption="With torch's CSR a model with half zeros is larger than before; a bit per entry pays from 3 % zeros on.",
)

# %% name="bytes-real" tags=["nbval-check-output"]
matrices = {path: magnitude_mask(origin[path].detach(), 0.9) for path in layers}
for zeros in (0.5, 0.9):
    masks = {path: magnitude_mask(origin[path].detach(), zeros) for path in layers}
    found = [sparse_bytes(mask, value_bytes=4) for mask in masks.values()]
    total = {form: sum(getattr(each, form) for each in found) / 1e6 for form in ("dense", "csr", "bitmask")}
    print(f"{zeros:.0%} zeros:", ", ".join(f"{form} {size:.1f} MB" for form, size in total.items()))
print(f"the rest of the model: {stored_bytes(dense) / 1e6 - total['dense']:.1f} MB")

# %% [markdown]
# At 90 % zeros the matrices shrink to an eighth, and the model, whose other half is word vectors, to little more than
# half. "Ten times smaller" was never on the table.
#
# ### In time
# A dense product multiplies zeros like any number. A sparse product skips them, but jumps through memory. One matrix of
# the encoder, 512 tokens:

# %% name="csr-time"
matrix, tokens = origin[path].detach(), torch.randn(512, 384)
calls = {"dense": lambda: F.linear(tokens, matrix)}
import warnings  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls its CSR support a beta
    for zeros in (0.5, 0.8, 0.9, 0.95):
        sparse = (matrix * magnitude_mask(matrix, zeros)).to_sparse_csr()
        calls[f"CSR, {zeros:.0%} zeros"] = lambda sparse=sparse: sparse @ tokens.T
csr_times = compare(calls, threads=1, repeats=9)
for name, time in csr_times.items():
    print(f"{name:15} {time}")
faster = [name for name, time in csr_times.items() if time.ratio + time.ratio_iqr / 2 < 1]
print("clearly faster than dense:", ", ".join(faster) or "none")

# %% [markdown]
# Where the ratio falls below 1, CSR wins: with half of the entries zero it is slower than the dense product by far, and
# it begins to win at about four zeros in five. Below that, the honest speed of a model with zeros is the dense one.
# And now everything on one figure: accuracy without training, bytes as stored and in the best sparse form, and measured
# time for 8 texts of 32 tokens.

# %% name="all-costs"
zeroed = cut(CRITERIA["wanda"](0.5))
shown = {"dense": (dense, dense_right)}
shown["Wanda 50 %, masks"] = apply_masks(copy.deepcopy(dense), CRITERIA["wanda"](0.5)), one_shot["wanda"][50]
shown["Wanda 50 %, zeros"] = zeroed, one_shot["wanda"][50]
shown |= {name: (model, judged[name]) for name, model in MODELS.items()}
shown["words of the task"] = fewer_words, words_right
ids = torch.randint(5, 2000, (8, 32), generator=torch.Generator().manual_seed(0))
times = compare({name: lambda model=model: model(ids) for name, (model, _) in shown.items()}, threads=1, repeats=9)


def in_sparse_form(model):
    """MB with each matrix in its smallest form; masks become bits."""
    forms = [
        sparse_bytes(layer if hasattr(layer, "mask") else layer.weight.detach()) for layer in prunable(model).values()
    ]
    return (stored_bytes(finalize(copy.deepcopy(model))) + sum(getattr(f, f.smallest) - f.dense for f in forms)) / 1e6


measured = {
    name: Cost(
        (right.mean(), *bootstrap_interval(right, seed=0, repeats=2000)),
        stored_bytes(model) / 1e6,
        in_sparse_form(model),
        times[name].ratio,
        times[name].ratio_iqr,
    )
    for name, (model, right) in shown.items()
}

# %% name="figure-costs"
show(
    costs(measured, majority),
    alt="Seven models in rows. Accuracy: all lie near 80 %, but four of six layers, which without training answer like "
    "the larger class. MB stored: dense 91, with masks 102, with zeros 91 (70 in sparse form), heads 87, neurons 77, "
    "four layers 77, vocabulary 64. Time: the original takes 1; masks take longer, zeros and the smaller vocabulary as "
    "long, a quarter of the heads a little less, neurons and layers clearly less.",
    caption="Zeros save nothing by themselves; heads and neurons taken out save bytes and time, and their intervals of "
    "accuracy overlap the original's.",
)

# %% name="flops-against-time"
for name in MODELS:
    model, ratio = shown[name][0], times[name].ratio
    work = count_flops(model, 8, 32) / count_flops(dense, 8, 32)
    print(f"{name:16} {work:.2f} of the operations, {ratio:.2f} of the time")

# %% [markdown]
# Removal gives nearly the speed that its operations promise; masks give none. Words cost no operations: a lookup takes
# as long in a small table. (A masked layer forms $W \circ M$ at every call: `finalize` before you measure.)

# %% [markdown]
# ## Training after the cut
#
# All of the above was one-shot. A short training lets the rest take over. The study gives every method the same: a
# model fine-tuned on 2,000 texts, the cut, then 48 steps of 32 texts; three seeds, each with a fine-tuned model of its
# own. `dense` trains on without a cut, or its extra training would be taken for a gain.

# %% name="study"
study = load_study("pruning")
LABELS = {
    "magnitude": "magnitude",
    "global": "magnitude, global",
    "wanda": "Wanda",
    "2:4": "2:4",
    "random": "random",
    "gradual": "magnitude, gradual",
    "movement": "movement",
    "rewound": "rewound (ticket)",
    "heads": "heads",
    "neurons": "neurons",
    "layers": "layers",
    "fresh-gradual": "fresh, gradual",
    "fresh-movement": "fresh, movement",
}
arms = {label: [arm for arm in study["arms"] if arm.rsplit("-", 1)[0] == name] for name, label in LABELS.items()}
print(study["command"], study["date"][:10], *study["machine"], sep="; ")
trained = study["arms"]["dense-0"]
print(f"dense, before the {study['settings']['steps']} steps: validation {trained['one_shot']['mean']:.1%}")
print(f"dense, after them: validation {trained['validation']['mean']:.1%}, test {trained['test']['mean']:.1%}")

# %% [markdown]
# On one figure, every method of the study: what accuracy is left, over what is gone, what must be stored, and what must
# be computed. `fresh` arms prune while they fine-tune the published encoder. One method of this unit is not among them:
# removing words leaves the matrices as they are and needs no training, so it would be a point at 0 % gone; its bytes,
# time and accuracy are on the figure above.

# %% name="figure-study"
show(
    study_curves(study, arms),
    alt="Five panels of accuracy, a curve or mark per method. Above left, nothing trained, validation, over the share "
    "that is gone: dense 79.3; magnitude falls from 74.7 at half to 63.5 at four fifths, Wanda from 77.6 to 66.2, with "
    "wide bars; neurons stay within five points of dense; global is at 64.3 at half; layers lie at the larger class. "
    "Above right, after the same 48 steps, test: dense 78.3; magnitude, Wanda, 2:4 and neurons at half lie between 77.1 "
    "and 78.3, Wanda above magnitude at 70 and 80 %; magnitude at 90 %, global at 70 %, and movement, fresh or not, lie "
    "at the larger class. Below, the right panel again over three costs. Bytes as stored: all methods of single weights "
    "stand at 91 MB, heads at 80 to 87, neurons at 65 to 77, layers at 62 to 77. Sparse form: single weights reach 53 "
    "to 71. Operations: single weights at 0.56 GFLOP, heads 0.42 to 0.51, neurons 0.23 to 0.37, layers 0.19 to 0.37.",
    caption="Marks are means of three seeds, bars their range. The dashed line is the dense model by the panel's own "
    "number: before the 48 steps in the first panel, after them in all others. Below: only what is taken out moves to "
    "the left in bytes as stored and in operations.",
)

# %% name="study-differences" tags=["nbval-check-output"]
print("test accuracy, 95 % interval over texts and seeds")
for name, found in study["differences"].items():
    change = found["test"]
    print(f"{name:36} {change['difference']:+6.1%}  ({change['low']:+.1%} to {change['high']:+.1%})")

# %% name="assert-study"
after = {name: found["test"] for name, found in study["differences"].items()}
assert after["magnitude-50 − dense-0"]["low"] < 0 < after["magnitude-50 − dense-0"]["high"]  # not told apart
assert after["wanda-70 − magnitude-70"]["low"] > 0 and after["magnitude-50 − random-50"]["low"] > 0
assert after["layers-50 − magnitude-50"]["high"] < 0 < after["neurons-75 − magnitude-50"]["high"]
assert after["gradual-70 − magnitude-70"]["low"] < 0 and after["wanda-50 − magnitude-50"]["low"] < 0
assert after["rewound-70 − magnitude-70"]["low"] < 0  # not told apart
mean = {arm: numbers["test"]["mean"] for arm, numbers in study["arms"].items()}
assert mean["fresh-gradual-70"] > mean["rewound-70"] > mean["magnitude-70"]
at_once = {arm: numbers["one_shot"] for arm, numbers in study["arms"].items() if "one_shot" in numbers}
assert at_once["global-50"]["mean"] < at_once["magnitude-50"]["mean"] - 0.05
broken = ("movement-50", "movement-70", "fresh-movement-70", "global-70", "magnitude-90")
assert all(abs(study["arms"][arm]["test"]["mean"] - study["baselines"]["majority"]["test"]) < 0.001 for arm in broken)

# %% [markdown]
# Read the intervals, not the differences. They are over texts and seeds, and each seed has a fine-tuned model of its
# own.
#
# - **Half of the single weights** can go: chosen by magnitude, the model is not told apart from the dense one that
#   trained on as long, nor is Wanda's from magnitude's. Half at random costs six points more, after the training too.
# - **Beyond that, inputs help**: at 70 % zeros Wanda is ahead of magnitude, and the interval leaves out 0. A schedule is
#   no better than the cut at once: 48 steps may be too few to adapt in.
# - **One ranking over all matrices** is worse than one each. Before the training it has 64.3 % at half, where one for
#   each matrix has 74.7 (and one of its three models answers the larger class already); at 70 % all three do, before and
#   after. The emptied pooler, above, is why.
# - **Removed neurons** are as good as zeros: three quarters of the neurons out, which is half of the matrices, is level
#   with half of the weights by magnitude, and of the two only this is smaller and faster. **Layers** of the same size
#   cost more.
# - **Rewinding** to the published weights is a point ahead of magnitude, with an interval that contains 0. It is one
#   round of training, pruning and rewinding, not the several of the paper and of our digits. And it is dearer: 63 steps
#   for the mask and 111 for the weights, against 63 + 48, which is 1.6 times as many. `fresh-gradual`, the same 111 steps
#   without a ticket, ends no lower (76.0 % against 75.3): what helps may be the new texts in those steps.
# - **Movement** answers the larger class: at 50 and at 70 %, from the fine-tuned and (`fresh-`) from the published
#   encoder. That is worse than random zeros, and asks for a reason.

# %% [markdown]
# ### What broke, and why
# - **Random zeros, one-shot**: pruning works because magnitudes and inputs say something.
# - **70 % by magnitude, one-shot**: to the pruned model texts look much more alike. The cell below measures it on the
#   state that the classifier sees; what is left of the differences hardly reaches the border between the classes.
# - **Layers, one-shot**: the classifier is fed states that it has never seen. With a third or half of them gone they
#   gain most of all arms from the training. Neurons, chosen by their gates, leave the states in place: far more of them
#   can go.


# %% name="alike"
def likeness(model):
    """Mean cosine between the states of different texts, at the place that the classifier reads."""
    with torch.inference_mode():
        first = next(iter(few.epoch(0)))
        states = F.normalize(model(first["input_ids"], first["attention_mask"]).pooled, dim=1)
    return float((states @ states.T)[~torch.eye(len(states), dtype=torch.bool)].mean())


for zeros in (30, 50, 70):
    model = cut(CRITERIA["magnitude"](zeros / 100))
    print(f"{zeros} % zeros: cosine {likeness(model):.2f}, dense {likeness(dense):.2f}")
assert likeness(cut(CRITERIA["magnitude"](0.7))) > likeness(dense)

# %% [markdown]
# And **movement**? We train its scores once more, on the study's schedule, and look at the mask itself: how many of the
# larger half of the weights it keeps, how much of what is left of a matrix lies in one direction (its first singular
# value, squared, as a share of all), and how far the states of different texts still lie apart.

# %% name="movement-mask"
scored = apply_masks(copy.deepcopy(dense), movement=True)
scored.encoder.embeddings.word.requires_grad_(False)
texts = text_batches(task.train, tokenizer, batch_size=32, seed=1)
schedule = gradually(0.5, start=2, end=34)
train(scored, texts, classification_loss, TrainConfig(steps=36, lr=2e-4), on_step=schedule, title="scores")
large = magnitude_masks(dense, 0.5)
CUTS = {"movement": {path: scored.get_submodule(path).mask for path in layers}}
CUTS |= {name: CRITERIA[name](0.5) for name in ("random", "magnitude")}


def one_direction(weight):
    """The first singular value's share of a matrix's energy."""
    squares = torch.linalg.svdvals(weight.detach()).square()
    return float(squares[0] / squares.sum())


# %% name="movement-why"
print("50 % zeros: large weights kept, energy in one direction, likeness of states")
looks = {}
for name, masks in CUTS.items():
    kept_large = sum(int((masks[p] & large[p]).sum()) for p in layers) / sum(int(large[p].sum()) for p in layers)
    direction = np.mean([one_direction(layers[p].weight * masks[p]) for p in layers])
    looks[name] = kept_large, direction, likeness(cut(masks))
    print(f"{name:10} {looks[name][0]:.0%}  {looks[name][1]:.1%}  {looks[name][2]:.3f}")
assert abs(looks["movement"][0] - 0.5) < 0.05  # as dice would
assert looks["movement"][1] > 2 * looks["random"][1]  # seen: 8 % against 2 %
assert looks["movement"][2] > looks["random"][2] > looks["magnitude"][2]  # seen: 1.000, 0.931, 0.216

# %% [markdown]
# The scores know nothing of size: they keep half of the large weights, as dice would. But they are not dice. A score
# adds up $-W \cdot \partial L / \partial W$, and a gradient of a matrix is a sum of *errors times inputs*, in which a few
# directions dominate. In the first steps all scores have moved equally far, and only signs count: kept is what has the
# sign opposite to that gradient. So what is left leans in one direction, whatever comes in, and after six layers all
# texts look the same. Random zeros leave no such pattern. In thousands of steps, with most weights still there while the
# scores settle, this evens out: it is the paper's regime that is missing here, not an error in the paper.

# %% [markdown]
# ## Stacking
#
# Removal leaves plain dense layers, so other methods go on top. Take out three quarters of the neurons, train 60 steps,
# remove the words that the task does not use, and round what is left to 8 bits (unit 06).

# %% name="stack"
stacked = prune_ffn(copy.deepcopy(dense), best_neurons(neurons, 0.75))
stages = {"dense": (dense, dense_right), "a quarter of the neurons": (copy.deepcopy(stacked), right_answers(stacked))}
stacked.encoder.embeddings.word.requires_grad_(False)
texts = text_batches(task.train, tokenizer, batch_size=32, seed=1)
train(stacked, texts, classification_loss, TrainConfig(steps=by_profile(quick=60, full=300), lr=2e-4), title="recovery")
stages["trained"] = copy.deepcopy(stacked), right_answers(stacked)
prune_vocabulary(stacked, tokenizer, used)


def right_with_few_words(model, split):
    """As `right_answers`, with the small tokenizer, on any split."""
    batches = text_batches(split, small_tokenizer, batch_size=64)
    return predict(model, batches).argmax(-1).numpy() == np.array(split.labels)


stages["fewer words"] = stacked, right_with_few_words(stacked, task.validation)
final = quantize_model(stacked, "int8", embeddings=True)
stages["int8"] = final, right_with_few_words(final, task.validation)
for name, (model, right) in stages.items():
    print(f"{name:26} {stored_bytes(model) / 1e6:5.1f} MB, validation {right.mean():.1%}")

# %% name="assert-stack"
assert stored_bytes(final) < 0.2 * stored_bytes(dense)  # exact: neurons, words and bytes are counted
assert stages["trained"][1].mean() > stages["a quarter of the neurons"][1].mean() - 0.01
assert abs(stages["int8"][1].mean() - stages["fewer words"][1].mean()) < 0.03

# %% [markdown]
# The test set, for the first and only time in this lesson, for the whole stack against the dense model:

# %% name="stack-test"
test = text_batches(task.test, tokenizer, batch_size=64)
whole = predict(dense, test, precision="auto").argmax(-1).numpy() == np.array(task.test.labels)
small = right_with_few_words(final, task.test)
result = paired_bootstrap(small, whole, seed=0)
time = compare({"dense": lambda: dense(ids), "stack": lambda: final(ids)}, threads=1, repeats=9)["stack"]
print(f"test: dense {whole.mean():.1%}, stack {small.mean():.1%}")
print(f"difference {result.difference:+.1%}, 95 % interval {result.low:+.1%} to {result.high:+.1%}")
print(f"{stored_bytes(dense) / stored_bytes(final):.1f} times smaller, {time.ratio:.2f} of the time (8 × 32 tokens)")
assert result.difference > -0.08  # the stack has also trained 60 steps more than the dense model

# %% [markdown]
# ## What the papers report
#
# **Movement pruning** (published: Sanh et al. 2020; BERT-base, MNLI, with distillation; dense 84.5). Their last rows
# are where movement wins; ours, above, are where it does not:
#
# | weights left | magnitude | movement | soft movement |
# |---|---|---|---|
# | 10 % | 78.3 | 80.1 | 81.2 |
# | 3 % | 69.4 | 76.5 | 79.5 |
#
# **Wanda** (published: Sun et al. 2024; WikiText perplexity, lower is better; one-shot):
#
# | | LLaMA-7B | 13B | 30B | 65B |
# |---|---|---|---|---|
# | dense | 5.68 | 5.09 | 4.77 | 3.56 |
# | 50 % magnitude | 17.29 | 20.21 | 7.54 | 5.90 |
# | 50 % SparseGPT | 7.22 | 6.21 | 5.31 | 4.57 |
# | 50 % Wanda | 7.26 | 6.15 | 5.24 | 4.57 |
# | 2:4 magnitude | 42.13 | 18.37 | 9.10 | 7.11 |
# | 2:4 Wanda | 11.53 | 9.58 | 6.90 | 6.25 |
#
# **Heads** (published: Michel et al. 2019, as quoted in code built on the paper): pruning half of them makes inference up
# to 17.5 % faster at large batches. A layer's operations agree: attention's projections are a third of them, so half of
# its heads are a sixth.
#
# The first columns of both tables beside our study, dense and pruned by the same criterion. Models, tasks and even
# measures differ (perplexity is better when lower), so compare along a row and not down a column:

# %% name="beside-published" tags=["nbval-check-output"]
ROWS = [  # dense, magnitude, movement, Wanda
    ("published: Sanh 2020, MNLI, 10 % left", "84.5", "78.3", "80.1", "–"),
    ("published: the same, 3 % left", "84.5", "69.4", "76.5", "–"),
]
for zeros in (50, 70, 80, 90):
    names = ("dense-0", *(f"{method}-{zeros}" for method in ("magnitude", "movement", "wanda")))
    found = (f"{100 * mean[name]:.1f}" if name in mean else "–" for name in names)
    ROWS.append((f"measured: study, test, {100 - zeros} % left", *found))
whole, sizes, inputs, two_four = (
    f"{100 * at_once[arm]['mean']:.1f}" for arm in ("dense-0", "magnitude-50", "wanda-50", "2:4-50")
)
ROWS += [
    ("published: Sun 2024, LLaMA-7B, perplexity, 50 % left", "5.68", "17.29", "–", "7.26"),
    ("published: the same, 2:4", "5.68", "42.13", "–", "11.53"),
    ("measured: study, one-shot, validation, 50 % left", whole, sizes, "–", inputs),
    ("measured: the same, 2:4", whole, two_four, "–", "–"),
]
for row in [("", "dense", "magnitude", "movement", "Wanda"), *ROWS]:
    print("{:52}{:>7}{:>11}{:>10}{:>7}".format(*row))
heads = study["arms"]["heads-50"]
share = heads["flops"]["mean"] / trained["flops"]["mean"]
print(f"half of the heads: published, up to 17.5 % faster; measured, {share:.2f} of the operations,", end=" ")
print(f"test {100 * heads['test']['mean']:.1f} (dense {100 * trained['test']['mean']:.1f})")

# %% [markdown]
# Wanda's order holds on our encoder, whose matrices have 11 million weights: one-shot at half it loses less than
# magnitude, 1.6 points against 4.5. Movement's does not, in the range where we tried it: the paper's rows begin where
# ours end, and its training is many times as long.
#
# ## What held, and what did not
#
# The claims of the survey (Xu and McAuley 2022) and of the papers, one by one:
#
# > - *Pruning, one of five families, cuts connections that do not hurt.* **Up to a point, and it depends on how they are
# >   chosen.** Without training 30 % of the single weights go nearly unnoticed, chosen by magnitude; as many at random
# >   break the model. After 48 steps half of them cannot be told from dense (-0.5 points, -1.8 to +0.9); at 70 %,
# >   74.1 % is left of 78.3; at 90 % it answers the larger class.
# > - *Pruning makes a model small and fast*, which surveys name and do not show. **Only what is taken out.** Zeros leave
# >   bytes and operations where they were; a bit per entry makes 71 MB of 91 at half, and no time. Three quarters of
# >   the neurons taken out make 70 MB and half of the operations, at the same accuracy (+0.0 points, -1.2 to +1.2).
# > - *Inputs tell more than sizes* (Wanda). **Yes, where it is tight**: +2.1 points at 70 % (0.7 to 3.5); at half, after
# >   the training, no difference that could be seen.
# > - *Movement beats magnitude at high sparsity.* **In small, yes**: on digits, at 97 %. **Not in our few steps** on the
# >   encoder, where it answers the larger class; the paper's regime is one that we did not try.
# > - *A winning ticket lies in the first values* (Frankle and Carbin 2019). **On digits, yes**, in each of three seeds.
# >   **On the encoder, not shown**: one round, 1.2 points, an interval that contains 0.
# > - *Half of the heads can go* (after Michel et al. 2019). **Yes**: after the training 78.2 % beside the dense model's
# >   78.3, for 0.83 of the operations.

# %% [markdown]
# > **What the sources do not tell you**
# >
# > - **"Sparsity" of what?** Movement pruning counts the encoder's linear layers; embeddings stay dense. A PruneBERT with
# >   6 % of those weights is reported as 340 MB becoming 11 MB *for the encoder*; the word table comes on top. And 6 % of
# >   85 million fp32 values are 20 MB before any index: more than pruning is in those 11.
# > - **Speed.** None of the unstructured results is a speed-up on ordinary hardware. Wanda's 2:4 rows run 1.24 times as
# >   fast end to end on a GPU made for it (published), not twice.
# > - **n:m, both ways.** Wanda's released code names the number of weights *removed* first; n:m elsewhere counts those
# >   that stay. At 2:4 nobody notices, at 1:4 everybody should.
# > - **Absolute values.** Head importance takes $|\cdot|$ per text in the paper, per batch in the released code: there,
# >   texts whose effects have opposite signs cancel, and the result depends on the batch size.
# > - **Thresholds.** The released code of Wanda's magnitude baseline and of SparseGPT prunes with `<=` a threshold: more
# >   weights than asked wherever some are equal.
# > - **Padding** counts in calibration unless someone leaves it out, and its constant states then drown the words.
# > - **The dense model trained on** is missing from most tables. Without it, a recovery's gain is partly just training.
# > - **No two of these papers** share model, task and training, so none of their numbers can be compared with another's.

# %% [markdown]
# ## Summary
#
# | | remember |
# |---|---|
# | choose | magnitude per matrix is a fair start; inputs (Wanda) help one-shot; movement needs steps, and very high sparsity |
# | count | positions, not thresholds; sparsity of the whole; say what the whole is |
# | keep | a mask in the forward pass; `finalize` at the end |
# | zeros | same bytes, same time; a bit per entry pays from 3 % zeros, CSR in time from about four in five |
# | removal | heads, neurons, layers: nearly the speed that the operations promise; words: bytes for nothing lost |
# | always | train after the cut, beside a dense model that trains on |

# %% [markdown]
# ## Questions
#
# <details><summary>1. A colleague prunes 20 %, looks, prunes "20 %" again and reports 40 %. What is it?</summary>
#
# 36 %, if the second 20 % are of what was left: $1 - 0.8^2$. Say sparsity of the whole weight, and it is what you say.
# </details>
#
# <details><summary>2. Why does Wanda compare within a row, and not in the whole matrix?</summary>
#
# A row makes one output. Removing weights of one output changes that output alone; a row of small weights may be small
# because the next layer multiplies it by much. In the whole matrix such rows would lose everything.
# </details>
#
# <details><summary>3. A masked weight has gradient zero. Why has its score not?</summary>
#
# The weight's gradient passes through the factor $M = 0$. The score stands for the mask itself, whose factor is the
# weight, which is still there. So a score can rise and bring its weight back.
# </details>
#
# <details><summary>4. A model with 60 % zeros is stored in torch's CSR. Is the file smaller?</summary>
#
# No. 40 % of the values with 8-byte column numbers are $0.4 \cdot 12 = 4.8$ bytes per weight, against 4.
# </details>
#
# <details><summary>5. Half of all heads are removed. How much faster can a layer get?</summary>
#
# Attention's four projections are $4H^2$ of a layer's $12H^2$: half of the heads are a sixth of the operations (and
# half of the small products of tokens with tokens). So at most about 1.2 times.
# </details>
#
# <details><summary>6. After pruning and 1,000 steps of training a paper's model is better than the dense one. What do you
# ask for?</summary>
#
# The dense model after the same 1,000 steps.
# </details>
#
# **Next:** the [exercises of this unit](../exercises/05_pruning.ipynb); then [06 · Quantization](06_quantization.ipynb).
