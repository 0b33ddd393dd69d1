# %% [markdown] name="title"
# # 08 · Distillation II: exercises
#
# **You will** say which layers meet in PKD, compute its patient loss, Theseus's schedule and one pass of its mixed ship,
# MiniLM's relations with padding and with other head counts, and write a distillation method of your own, which then
# trains a student on real reviews. **About 55 minutes.** It belongs to the lesson
# [08 · Distillation II](../notebooks/08_inner_layers.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("08.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise, and
# says so. `progress()` in a cell shows how far you are.
#
# Letters are those of the lesson: the teacher has $N$ layers, the student $M$; B texts, T tokens, A heads of size d.

# %% name="imports"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.course import by_profile, check, hint, progress, stand_in
from coursekit.distill import (
    Recipe,
    Replacing,
    Stage,
    Term,
    Theseus,
    distill,
    fresh_student,
    init_from_teacher,
    match_layers,
    relation_kl,
)
from coursekit.models import Capture
from coursekit.train import TrainConfig, load_teacher, text_batches
from coursekit.viz import show, use_style
from coursekit.viz.inner_layers import distance_table, replacing
from coursekit.viz.recipes import recipe_panel

use_style()

# %% [markdown]
# ## Task 08.1 · Which layers are patient
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# Return the pairs (student, teacher) of hidden states that PKD compares. States are counted from the embeddings' output,
# 0. Only student states $1 \dots M - 1$ take part; the last layer is left to the soft targets.
#
# - `"skip"`: state $m$ meets $m \cdot N/M$; you may assume that $M$ divides $N$;
# - `"last"`: the teacher's states are the last ones before its very last, in order: $M - 1$ of them.
#
# Twelve and six layers, `"skip"`: `[(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]`.


# %% task="08.1"
def patient_layers(which: str, teacher_layers: int, student_layers: int) -> list[tuple[int, int]]:
    """Pairs (student state, teacher state) in the order of the student; which is "skip" or "last"."""
    ### BEGIN SOLUTION
    if which == "skip":
        return [(m, m * teacher_layers // student_layers) for m in range(1, student_layers)]
    return [(m, teacher_layers - student_layers + m) for m in range(1, student_layers)]
    ### END SOLUTION


# %% check="08.1"
### BEGIN HIDDEN TESTS
assert patient_layers("last", 12, 6) == [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]
### END HIDDEN TESTS
check("08.1", patient_layers)

# %% [markdown]
# ## Task 08.2 · The patient loss
# *Difficulty 2 of 5, importance 5 of 5, about 6 minutes.*
#
# `s` and `t` hold the first token's states of the layers that meet, (B, layers, H). Give each state length 1; then the
# squared distance, summed over $H$; then the mean over texts and layers:
#
# $$\mathcal{L}_\text{PT} = \operatorname*{mean}_{\text{texts},\,m}
# \Bigl\lVert \frac{s_m}{\lVert s_m\rVert} - \frac{t_m}{\lVert t_m\rVert} \Bigr\rVert^2$$


# %% task="08.2"
def patience(s: Tensor, t: Tensor) -> Tensor:
    """Scalar; s and t (B, layers, H)."""
    ### BEGIN SOLUTION
    difference = F.normalize(s, dim=-1) - F.normalize(t, dim=-1)
    return difference.square().sum(-1).mean()
    ### END SOLUTION


# %% check="08.2"
### BEGIN HIDDEN TESTS
assert torch.isclose(patience(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.0, 2.0]]])), torch.tensor(0.4))
### END HIDDEN TESTS
check("08.2", patience)

# %% [markdown]
# With your two functions and the real teacher (it is fine-tuned once, in about a minute, if it has not been yet): how
# much patience do the two strategies ask of a student that begins as the teacher's first layers?

# %% name="real-patience"
patient_layers, patience = stand_in("08.1", patient_layers), stand_in("08.2", patience)
teacher = load_teacher("quick")
validation = teacher.task.validation
(batch,) = text_batches(validation.take(64), teacher.tokenizer, batch_size=64).epoch(0)
with torch.inference_mode():
    hidden = teacher.model.encoder(batch["input_ids"], batch["attention_mask"], capture=Capture(hidden="all")).hidden
cls = torch.stack([state[:, 0] for state in hidden], 1)  # (64, 7, 384)
for which in ("skip", "last"):
    pairs = patient_layers(which, 6, 3)
    loss = patience(cls[:, [s for s, _ in pairs]], cls[:, [t for _, t in pairs]])  # the student's are the first ones
    print(f"{which}: {pairs}, at the start {loss:.3f}")

# %% [markdown] tags=["solution-only"]
# Last asks for more: the states it wants lie further from where the student begins. But both are tiny beside 2, the
# distance of two directions that have nothing to do with each other: in this teacher `[CLS]` hardly turns before the last
# layer, which PKD leaves out (see the lesson).

# %% [markdown]
# ## Task 08.3 · How often a module is replaced
# *Difficulty 1 of 5, importance 3 of 5, about 5 minutes.*
#
# Theseus replaces each module with a probability that rises in a line from `base` in step 0 to 1 after a share `reach`
# of all steps, and stays at 1.


# %% task="08.3"
def replacing_rate(step: int, total: int, base: float, reach: float) -> float:
    """Probability in step `step` (0 … total − 1)."""
    ### BEGIN SOLUTION
    return min(1.0, base + (1 - base) * step / (reach * total))
    ### END SOLUTION


# %% check="08.3"
### BEGIN HIDDEN TESTS
assert math.isclose(replacing_rate(25, 100, 0.3, 0.5), 0.65) and replacing_rate(75, 100, 0.3, 0.5) == 1
### END HIDDEN TESTS
check("08.3", replacing_rate)

# %% [markdown]
# ## Task 08.4 · One pass of the ship
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# The predecessor has several layers for each layer of the successor, equally many. Put `x` through the modules from the
# first to the last: where `replaced[m]` is true, through the successor's layer `m`; where it is false, through the
# predecessor's layers of that module. A layer is called like a function.


# %% task="08.4"
def sail(x: Tensor, predecessor: list[nn.Module], successor: list[nn.Module], replaced: list[bool]) -> Tensor:
    """The state after all modules; `replaced` has an entry for each successor layer."""
    ### BEGIN SOLUTION
    size = len(predecessor) // len(successor)
    for module, new in enumerate(replaced):
        layers = [successor[module]] if new else predecessor[module * size : (module + 1) * size]
        for layer in layers:
            x = layer(x)
    return x
    ### END SOLUTION


# %% check="08.4"
### BEGIN HIDDEN TESTS
_double, _add = [lambda y: 2 * y] * 4, [lambda y: y + 1, lambda y: y + 10]
assert sail(torch.tensor(1.0), _double, _add, [False, True]) == 14
### END HIDDEN TESTS
check("08.4", sail)

# %% [markdown]
# The library's ship makes the same pass. Its draws, and your rates beside its own:

# %% name="figure-ship"
replacing_rate, sail = stand_in("08.3", replacing_rate), stand_in("08.4", sail)
fresh = init_from_teacher(teacher.model, match_layers("bottom", 6, 3))
ship = Theseus(teacher.model, fresh, Replacing(base=0.3, reach=0.5), steps=80, seed=1)
rates, drawn = [replacing_rate(step, 80, 0.3, 0.5) for step in range(80)], []
for step in range(80):
    ship.at(step)
    drawn.append(ship.draw())
    assert math.isclose(ship.rate, rates[step])
show(
    replacing(rates, drawn),
    alt="The probability rises from 0.3 to 1 at step 40 of 80; below, a strip per module turns from a mix of grey and blue "
    "to blue only.",
    caption="Your schedule, and what was drawn with it.",
)

# %% name="same-pass" tags=["nbval-check-output"]
states, mask = hidden[0][:2], batch["attention_mask"][:2]
replaced = [False, True, False]
keys = mask[:, None, None, :].bool()
old, own = ([lambda x, layer=layer: layer(x, keys)[0] for layer in m.encoder.layers] for m in (teacher.model, fresh))
with torch.inference_mode():
    plain = sail(states, old, own, [False] * 3)
    mixed = sail(states, old, own, replaced)
real = mask[..., None]
print(
    f"nothing replaced, the teacher's own last state: {torch.allclose(plain * real, hidden[6][:2] * real, atol=1e-4)}"
)
print(f"the second module replaced, another one: {not torch.allclose(mixed * real, hidden[6][:2] * real, atol=1e-4)}")

# %% [markdown]
# ## Task 08.5 · Relations of values
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# MiniLM's value relations: $\operatorname{softmax}(V V^\top / \sqrt{d})$ for each head, over **real** keys. Padding gets
# no weight, and every row of a real query adds up to 1. Set the rows of padded queries to 0; they mean nothing.


# %% task="08.5"
def value_relations(values: Tensor, mask: Tensor) -> Tensor:
    """(B, A, T, T) from values (B, A, T, d); mask (B, T) is true on real tokens."""
    ### BEGIN SOLUTION
    scores = values @ values.transpose(-1, -2) / math.sqrt(values.shape[-1])
    found = scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(-1)
    return found.masked_fill(~mask[:, None, :, None], 0)
    ### END SOLUTION


# %% check="08.5"
### BEGIN HIDDEN TESTS
_row = value_relations(torch.ones(1, 1, 3, 4), torch.tensor([[True, True, False]]))
assert _row[0, 0].tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]]
### END HIDDEN TESTS
check("08.5", value_relations)

# %% [markdown]
# ## Task 08.6 · Heads split anew
# *Difficulty 3 of 5, importance 3 of 5, about 6 minutes.*
#
# MiniLM v2 compares models with other numbers of heads: it joins a token's heads, in their order, and splits the whole
# into `heads` parts of equal size. Heads come before tokens again in the result. You may assume that `heads` divides.


# %% task="08.6"
def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, heads, T, A·d/heads) from x (B, A, T, d)."""
    ### BEGIN SOLUTION
    return x.transpose(1, 2).flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2)
    ### END SOLUTION


# %% check="08.6"
### BEGIN HIDDEN TESTS
_numbers = torch.arange(12).view(1, 2, 2, 3)
assert split_heads(_numbers, 3)[0, :, 0].tolist() == [[0, 1], [2, 6], [7, 8]]
### END HIDDEN TESTS
check("08.6", split_heads)

# %% [markdown]
# Together they are MiniLM's second loss, for a teacher with 12 heads of 32 and a student with 4 of 24. The library agrees:

# %% name="minilm-v2" tags=["nbval-check-output"]
value_relations, split_heads = stand_in("08.5", value_relations), stand_in("08.6", split_heads)
generator = torch.Generator().manual_seed(0)
theirs, ours = torch.randn(2, 12, 6, 32, generator=generator), torch.randn(2, 4, 6, 24, generator=generator)
real = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
t, s = (value_relations(split_heads(values, 8), real) for values in (theirs, ours))
tiny = torch.finfo(t.dtype).tiny
kl = (t * (t.clamp_min(tiny).log() - s.clamp_min(tiny).log())).sum(-1)  # (B, heads, T), 0 for padded queries
mine = kl.sum() / (8 * real.sum())
print(f"yours {mine:.4f}, relation_kl {relation_kl(ours, theirs, mask=real, heads=8):.4f}")

# %% [markdown]
# ## Task 08.7 · A recipe of your own
# *Difficulty 4 of 5, importance 5 of 5, about 15 minutes.*
#
# Invent a method, as a `Recipe` for any two depths where $M$ divides $N$. The student will be **half as wide** as its
# teacher, with as many heads, and begin at random. What it must have:
#
# - a **first stage** that compares inner layers and nothing else, at two different layers of the student or more;
# - in the **last stage** the teacher's answers (`"soft"`, temperature above 1) and the labels (`"hard"`).
#
# Everything else is yours. Kinds of terms and what they take are in `help(Term)`: among them `"attention"` (scores),
# `"attention-kl"`, `"values"`, `"queries"`, `"keys"`, counted from layer 0, and `"hidden"`, counted from the embeddings'
# output. Some compare states of equal width only; think which. `match_layers("uniform", N, M)` has pairs ready in
# `.hidden` and `.attention`; your own are as good. Give it a name, you are its author.


# %% task="08.7"
def own_recipe(teacher_layers: int, student_layers: int) -> Recipe:
    """A method in two stages or more, for a student of half the width."""
    ### BEGIN SOLUTION
    match = match_layers("uniform", teacher_layers, student_layers)
    inner = Stage(
        "inner",
        (
            Term("attention-kl", layers=match.attention),
            Term("values", layers=match.attention[-1:]),
            Term("hidden", weight=0.5, layers=match.hidden[-1:], project="one"),
        ),
    )
    answers = Stage("answers", (Term("soft", weight=0.8, temperature=3.0), Term("hard", weight=0.2)))
    return Recipe("first the paths, then the answers", teacher_layers, student_layers, (inner, answers))
    ### END SOLUTION


# %% check="08.7"
### BEGIN HIDDEN TESTS
assert own_recipe(6, 3).without("answers").stages[0].name == own_recipe(6, 3).stages[0].name
### END HIDDEN TESTS
check("08.7", own_recipe)

# %% [markdown]
# Your method as a seventh panel, drawn from your recipe:

# %% name="figure-own"
own_recipe = stand_in("08.7", own_recipe)
recipe = own_recipe(6, 3)
show(
    recipe_panel(recipe),
    alt="A panel of six teacher and three student layers with the lines and the words of the recipe that was written above.",
    caption="The student's boxes are dashed: it begins at random.",
)

# %% [markdown]
# And carried out: the real teacher, a student of three layers of width 192, some reviews, a few steps of each stage. It is
# far too little to train a student from random weights, and no judgement of your method. What can be seen is that every
# term falls.

# %% name="own-live"
student = fresh_student(teacher.model, num_layers=3, hidden_size=192, intermediate_size=768)
texts = text_batches(teacher.task.train.take(1000), teacher.tokenizer, seed=0)
config = TrainConfig(steps=by_profile(quick=30, full=300), lr=1e-3, log_every=5)
result = distill(student, teacher.model, recipe, texts, config)
rows, terms = [], [(stage.name, term.name) for stage in recipe.stages for term in stage.terms]
for stage, term in terms:
    losses = [entry[term] for entry in result.stages[stage].history]
    rows.append((losses[0], losses[-1]))
    print(f"{stage:10} {term:14} {losses[0]:8.4f} at first, {losses[-1]:8.4f} at the end")
assert all(math.isfinite(loss) for row in rows for loss in row)

# %% name="figure-own-terms"
show(
    distance_table(
        torch.tensor(rows).T / torch.tensor(rows).T[0], ["at first", "at the end"], [term for _, term in terms]
    ),
    alt="Two rows, a column for each term: at first all are 1, at the end they are below 1 or near it.",
    caption="Each term relative to its first value: how far a few steps brought it.",
)

# %% [markdown]
# ## What you can do now
#
# You can read any of the six methods from a picture or from code, say which numbering its layers are in, compute what it
# compares with padding and with other widths and heads, and put together a method that nobody has written down yet.
#
# **Next:** the method that uses embeddings, hidden states, attention and answers, in stages and with invented text:
# [09 · TinyBERT](../notebooks/09_tinybert.ipynb).
