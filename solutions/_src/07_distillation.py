# %% [markdown] name="title"
# # 07 · Distillation I: exercises
#
# **You will** soften a teacher's answers, write the loss that compares them and its gradient, put DistilBERT's triple
# loss together, begin a student with its teacher's layers, and write a recipe that the engine carries out. **About 50
# minutes.** It belongs to the lesson [07 · Distillation I](../notebooks/07_distillation.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("07.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise, and
# says so. `progress()` in a cell shows how far you are.
#
# Letters are those of the lesson: $z$ are logits, $s$ the student's and $t$ the teacher's, $T$ is the temperature; a
# mask is true on real tokens.

# %% name="imports"
import copy

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.course import check, hint, progress, stand_in
from coursekit.data import IGNORED
from coursekit.distill import (
    Recipe,
    Stage,
    Term,
    cosine_loss,
    distill,
    hard_loss,
    init_from_teacher,
    match_layers,
    soft_target_loss,
)
from coursekit.measure import count_parameters
from coursekit.models import Encoder, SequenceClassifier
from coursekit.train import TrainConfig, load_teacher, text_batches
from coursekit.viz import show, use_style

use_style()

# %% [markdown]
# ## Task 07.1 · Softened answers
# *Difficulty 1 of 5, importance 5 of 5, about 4 minutes.*
#
# Return the probabilities that logits stand for at a temperature:
#
# $$p_i = \frac{e^{z_i / T}}{\sum_j e^{z_j / T}}.$$


# %% task="07.1"
def soften(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities (…, C) of logits (…, C) at a temperature T > 0."""
    ### BEGIN SOLUTION
    return (logits / temperature).softmax(-1)
    ### END SOLUTION


# %% check="07.1"
### BEGIN HIDDEN TESTS
assert torch.allclose(soften(torch.tensor([[2.0, 0.0]]), 2.0), torch.tensor([[1.0, 0.0]]).softmax(-1))
### END HIDDEN TESTS
check("07.1", soften)

# %% [markdown]
# A real teacher's answers to the snippets of the validation split, at three temperatures. (If it has not been fine-tuned
# on this machine yet, the next cell does it once, in about a minute.)

# %% name="teacher"
teacher = load_teacher("quick")
texts = teacher.task.validation.take(200)
logits = teacher.predict(texts.texts)

# %% name="figure-soften"
soften = stand_in("07.1", soften)
figure, axis = plt.subplots(figsize=(7.2, 3.4))
for temperature in (1, 2, 4):
    fresh = soften(logits, temperature)[:, 1].sort().values
    axis.plot(range(len(fresh)), fresh, label=f"T = {temperature}")
axis.set(xlabel="snippets, from rotten to fresh", ylabel="probability of fresh")
axis.legend()
show(
    figure,
    alt="Probability of fresh for 200 snippets in rising order, one curve for each temperature. At T = 1 most are near 0 or "
    "1 with a steep rise between; at T = 2 and T = 4 the curve is flatter, all crossing at one half.",
    caption="A higher temperature moves every answer towards one half and leaves their order as it is.",
)
assert torch.equal(soften(logits, 1.0).argmax(-1), soften(logits, 4.0).argmax(-1))

# %% [markdown]
# ## Task 07.2 · Soft targets, with padding
# *Difficulty 3 of 5, importance 5 of 5, about 10 minutes.*
#
# The heart of distillation. For each token, with $p$ the teacher's and $q$ the student's probabilities **at $T$**,
#
# $$T^2 \cdot \mathrm{KL}(p \,\Vert\, q) = T^2 \sum_i p_i \, (\log p_i - \log q_i),$$
#
# a **sum** over classes, then the **mean** over real tokens: those where the mask is true. Work with logarithms
# (`log_softmax`); the logarithm of a probability that has been rounded to 0 is no use to anyone.


# %% task="07.2"
def soft_loss(s_logits: Tensor, t_logits: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """T²·KL(teacher ‖ student), a scalar, of logits (B, T, C) over the true entries of a mask (B, T)."""
    ### BEGIN SOLUTION
    log_s = (s_logits / temperature).log_softmax(-1)
    log_t = (t_logits / temperature).log_softmax(-1)
    rows = (log_t.exp() * (log_t - log_s)).sum(-1)
    return temperature**2 * rows[mask].mean()
    ### END SOLUTION


# %% check="07.2"
### BEGIN HIDDEN TESTS
_s, _t = torch.zeros(1, 2, 3), torch.tensor([[[4.0, 2.0, 1.0], [9.0, 9.0, 9.0]]]).log() * 2
assert torch.allclose(soft_loss(_s, _t, 2.0, torch.tensor([[True, False]])), torch.tensor(0.5716), atol=1e-3)
### END HIDDEN TESTS
check("07.2", soft_loss)

# %% [markdown]
# What padding would do if it counted: the same two texts, padded further and further.

# %% name="padding" tags=["nbval-check-output"]
soft_loss = stand_in("07.2", soft_loss)
draw = torch.Generator().manual_seed(0)
student_says, teacher_says = (torch.randn(2, 4, 5, generator=draw) for _ in range(2))
for width in (4, 8, 16):
    pad = (0, 0, 0, width - 4)
    both = F.pad(student_says, pad), F.pad(teacher_says, pad)
    real = torch.arange(width) < torch.tensor([[4], [2]])
    masked, careless = soft_loss(*both, 2.0, real), soft_loss(*both, 2.0, torch.ones_like(real))
    print(f"{width:>2} tokens wide: {masked.item():.4f} over real tokens, {careless.item():.4f} over all")

# %% [markdown]
# ## Task 07.3 · Its gradient
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# Return $\partial \mathcal{L} / \partial z_s$ for the loss of task 07.2 without padding, the mean of
# $T^2 \cdot \mathrm{KL}$ over $N$ rows, without autograd. For one row at $T = 1$ it is $q - p$: each logit is pushed down
# by as much as the student says too much. Work out what $T$ adds.


# %% task="07.3"
def soft_gradient(s_logits: Tensor, t_logits: Tensor, temperature: float) -> Tensor:
    """Gradient (N, C) of mean T²·KL(teacher ‖ student) with respect to the student's logits (N, C)."""
    ### BEGIN SOLUTION
    q = (s_logits / temperature).softmax(-1)
    p = (t_logits / temperature).softmax(-1)
    return temperature * (q - p) / len(s_logits)
    ### END SOLUTION


# %% check="07.3"
### BEGIN HIDDEN TESTS
_got = soft_gradient(torch.zeros(1, 3), torch.tensor([[4.0, 2.0, 1.0]]).log() * 2, 2.0)
assert torch.allclose(_got, 2 * torch.tensor([[1 / 3 - 4 / 7, 1 / 3 - 2 / 7, 1 / 3 - 1 / 7]]), atol=1e-6)
### END HIDDEN TESTS
check("07.3", soft_gradient)

# %% [markdown]
# For very high temperatures it approaches the difference of the centred logits, divided by their number: the student is
# then fitting the teacher's *logits* by least squares (Hinton et al., 2015, section 2.1).

# %% name="high-temperature" tags=["nbval-check-output"]
soft_gradient = stand_in("07.3", soft_gradient)
s, t = student_says[0, :1].double(), teacher_says[0, :1].double()
limit = ((s - s.mean()) - (t - t.mean())) / s.shape[-1]
for temperature in (1, 3, 10, 100):
    gap = (soft_gradient(s, t, temperature) - limit).norm() / limit.norm()
    print(f"T = {temperature:>3}: {gap:.4f} away from the difference of the logits, as a share of it")

# %% [markdown]
# ## Task 07.4 · The direction of a state
# *Difficulty 2 of 5, importance 3 of 5, about 5 minutes.*
#
# DistilBERT also compares the last hidden states: $1 - \cos(h_s, h_t)$ for each token, and the mean over real tokens.
# Only where a vector points counts, not how long it is.


# %% task="07.4"
def direction_loss(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    """Mean of 1 − cos(s, t), a scalar, of states (B, T, H) over the true entries of a mask (B, T)."""
    ### BEGIN SOLUTION
    return (1 - F.cosine_similarity(s, t, dim=-1))[mask].mean()
    ### END SOLUTION


# %% check="07.4"
### BEGIN HIDDEN TESTS
_state = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
assert direction_loss(_state, -_state, torch.tensor([[True, False]])).item() == 2
### END HIDDEN TESTS
check("07.4", direction_loss)

# %% [markdown]
# ## Task 07.5 · The triple loss
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# Now the whole loss of DistilBERT, with the weights and the temperature of its released code:
#
# $$\mathcal{L} = 5\, \mathcal{L}_{\text{soft}} + 2\, \mathcal{L}_{\text{mlm}} + 1\, \mathcal{L}_{\text{cos}},
# \qquad T = 2.$$
#
# Soft targets and directions are compared at **all real tokens**. The masked-LM loss looks at the hidden words alone:
# `labels` is $-100$ everywhere else. Use the library's `soft_target_loss`, `hard_loss` and `cosine_loss`.


# %% task="07.5"
def triple_loss(
    s_logits: Tensor, t_logits: Tensor, s_hidden: Tensor, t_hidden: Tensor, labels: Tensor, mask: Tensor
) -> Tensor:
    """DistilBERT's loss, a scalar: logits (B, T, V), last hidden states (B, T, H), labels and mask (B, T)."""
    ### BEGIN SOLUTION
    soft = soft_target_loss(s_logits, t_logits, temperature=2.0, mask=mask)
    hard = hard_loss(s_logits, labels)
    cosine = cosine_loss(s_hidden, t_hidden, mask=mask)
    return 5 * soft + 2 * hard + cosine
    ### END SOLUTION


# %% check="07.5"
### BEGIN HIDDEN TESTS
_zeros, _ones = torch.zeros(1, 1, 4), torch.ones(1, 1, 2)
_seen = torch.ones(1, 1, dtype=torch.bool)
_found = triple_loss(_zeros, _zeros, _ones, _ones, torch.zeros(1, 1, dtype=torch.long), _seen)
assert torch.allclose(_found, 2 * torch.tensor(4.0).log())
### END HIDDEN TESTS
check("07.5", triple_loss)

# %% [markdown]
# ## Task 07.6 · Begin with the teacher's layers
# *Difficulty 3 of 5, importance 4 of 5, about 7 minutes.*
#
# Make a student encoder of some of a trained encoder's layers, in the order given, with the trained embeddings. It is an
# independent **copy**: training it must not touch the teacher. Say in its config how many layers it has:
# `encoder.config.replace(num_layers=…)`.


# %% task="07.6"
def begin_with(encoder: Encoder, layers: list[int]) -> Encoder:
    """A copy of the encoder with only these layers (numbers from 0); the encoder given stays as it is."""
    ### BEGIN SOLUTION
    student = copy.deepcopy(encoder)
    student.layers = nn.ModuleList(student.layers[number] for number in layers)
    student.config = student.config.replace(num_layers=len(layers))
    return student
    ### END SOLUTION


# %% check="07.6"
check("07.6", begin_with)

# %% [markdown]
# Three of the fine-tuned teacher's six layers, three ways, with its classifier on top and no training at all:

# %% name="choose-layers"
begin_with = stand_in("07.6", begin_with)


def accuracy_of(model: nn.Module) -> float:
    """Share of the 200 snippets whose label the model finds."""
    batch = next(iter(text_batches(texts, teacher.tokenizer, batch_size=len(texts)).epoch(0)))
    with torch.inference_mode():
        found = model.eval()(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    return (found == batch["labels"]).float().mean().item()


for layers in ([0, 1, 2, 3, 4, 5], [0, 1, 2], [0, 2, 4], [1, 3, 5]):
    model = copy.deepcopy(teacher.model)
    model.encoder = begin_with(teacher.model.encoder, layers)
    millions = count_parameters(model.encoder.layers).total / 1e6
    print(f"layers {str(layers):20} {millions:5.2f} M in layers, {accuracy_of(model):.1%} right without training")
assert accuracy_of(teacher.model) > 0.7  # near 81 % on the whole split

# %% [markdown] tags=["solution-only"]
# Without training, a student of copied layers may know next to nothing; which layers it has makes a difference that a
# short training then wipes out or does not. That is to be measured, not guessed, and the lesson does.

# %% [markdown]
# ## Task 07.7 · Write a recipe
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# In `coursekit` a distillation method is data. Write one for a task with labels, with a single stage `"distil"` of three
# terms:
#
# - `"soft"`, weight alpha, at the given temperature;
# - `"hard"`, weight 1 − alpha;
# - `"cosine"`, weight 1, of the **last hidden state** of each model.
#
# The student begins with every $(N/M)$-th layer of the teacher: that is `match_layers("uniform", N, M)`. Hidden states
# count from the output of the embeddings, which is 0.


# %% task="07.7"
def task_recipe(teacher_layers: int, student_layers: int, alpha: float, temperature: float) -> Recipe:
    """A recipe for a teacher of N and a student of M layers, M a divisor of N."""
    ### BEGIN SOLUTION
    terms = (
        Term("soft", alpha, temperature=temperature),
        Term("hard", 1 - alpha),
        Term("cosine", layers=((student_layers, teacher_layers),)),
    )
    start = match_layers("uniform", teacher_layers, student_layers)
    return Recipe("task", teacher_layers, student_layers, (Stage("distil", terms),), start)
    ### END SOLUTION


# %% check="07.7"
check("07.7", task_recipe)

# %% [markdown]
# The engine carries it out: a few steps on real snippets, each part of the loss logged by its name.

# %% name="run-recipe"
task_recipe = stand_in("07.7", task_recipe)
recipe = task_recipe(6, 3, 0.5, 2.0)
student = init_from_teacher(teacher.model, recipe.start)
batches = text_batches(teacher.task.train.take(320, seed=1), teacher.tokenizer, batch_size=32, seed=0)
result = distill(student, teacher.model, recipe, batches, TrainConfig(steps=20, lr=2e-4, log_every=5))
for entry in result.stages["distil"].history:
    parts = ", ".join(f"{name} {entry[name]:.3f}" for name in ("soft", "hard", "cosine"))
    print(f"step {entry['step']:>2}: {parts}, in all {entry['loss']:.3f}")
print(f"{accuracy_of(student):.1%} of 200 snippets right")
assert result.stages["distil"].history[-1]["cosine"] < result.stages["distil"].history[0]["cosine"]
assert accuracy_of(student) > 0.6  # the teacher is near 81 %, always "fresh" near 59 %

# %% name="recipe-adds-up" tags=["nbval-check-output"]
entry = result.stages["distil"].history[-1]
total = 0.5 * entry["soft"] + 0.5 * entry["hard"] + 1.0 * entry["cosine"]
print("the parts, by their weights, add up to the loss:", abs(total - entry["loss"]) < 1e-4)

# %% [markdown]
# ## What you can do now
#
# You can say what a temperature does and why $T^2$ stands before the loss, compare answers at real tokens only, work out
# the gradient by hand, put together DistilBERT's loss, begin a student with its teacher's layers, and write down a
# method so that the engine can run it.
#
# **Next:** methods that look inside the teacher, in
# [08 · Distillation II](../notebooks/08_inner_layers.ipynb).
