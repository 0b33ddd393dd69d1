# %% [markdown] name="title"
# # 09 · TinyBERT: exercises
#
# **You will** write TinyBERT's layer map, its three losses with padding done right, the replacing of words and the growing
# of a training set without a leak, and the task stages as data, which then teach a small student of a real teacher.
# **About 55 minutes.** It belongs to the lesson [09 · TinyBERT](../notebooks/09_tinybert.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("09.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise, and
# says so. `progress()` in a cell shows how far you are.
#
# Letters are those of the lesson: the teacher has $N$ layers of width $d$, the student $M$ of width $d'$; B texts, T tokens,
# A heads, C classes.

# %% name="imports"
import math
from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.course import by_profile, check, hint, progress, stand_in
from coursekit.data.augment import NeighbourProposer, replaceable
from coursekit.distill import LayerMatch, Recipe, Stage, Term, distill, fresh_student, match_layers
from coursekit.models import Capture
from coursekit.train import TrainConfig, load_teacher, pretrained_encoder, text_batches
from coursekit.viz import show, use_style
from coursekit.viz.recipes import recipe_panel
from coursekit.viz.tinybert import agreement_by_changes, stage_losses
from coursekit.viz.towers import layer_map

use_style()

# %% [markdown]
# ## Task 09.1 · Which layers meet
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# Return TinyBERT's uniform map as two lists of pairs (student, teacher): hidden states, counted from the embeddings' output
# 0, and attention, counted from layer 0. Each student layer stands for $N/M$ teacher layers and meets the last of them;
# the embeddings meet the embeddings. You may assume that $M$ divides $N$. Six and two layers:
# `([(0, 0), (1, 3), (2, 6)], [(0, 2), (1, 5)])`.


# %% task="09.1"
def uniform_map(teacher_layers: int, student_layers: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (student, teacher) of hidden states, then of attention."""
    ### BEGIN SOLUTION
    k = teacher_layers // student_layers
    hidden = [(m, m * k) for m in range(student_layers + 1)]
    attention = [(i, (i + 1) * k - 1) for i in range(student_layers)]
    return hidden, attention
    ### END SOLUTION


# %% check="09.1"
### BEGIN HIDDEN TESTS
assert uniform_map(6, 2) == ([(0, 0), (1, 3), (2, 6)], [(0, 2), (1, 5)])
### END HIDDEN TESTS
check("09.1", uniform_map)

# %% name="figure-map"
uniform_map = stand_in("09.1", uniform_map)
show(
    layer_map(LayerMatch(*map(tuple, uniform_map(12, 4))), 12, 4, title="your map, 12 → 4"),
    alt="Twelve teacher and four student layers; hidden states 0 to 4 meet 0, 3, 6, 9, 12, attention 0 to 3 meets 2, 5, 8, 11.",
    caption="Hidden states at the boxes' upper edges, attention in their middles.",
)

# %% [markdown]
# ## Task 09.2 · Hidden states through a map
# *Difficulty 2 of 5, importance 5 of 5, about 7 minutes.*
#
# Map the student's states to the teacher's width with a linear layer (weight $(d, d')$ as in `nn.Linear`, and a bias), and
# return the mean squared error over the **real** tokens and the teacher's width.


# %% task="09.2"
def mapped_loss(s: Tensor, t: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Scalar; s (B, T, d'), t (B, T, d), weight (d, d'), bias (d,), mask (B, T) true on real tokens."""
    ### BEGIN SOLUTION
    errors = (s @ weight.T + bias - t).square()
    return errors[mask].mean()
    ### END SOLUTION


# %% check="09.2"
### BEGIN HIDDEN TESTS
_state, _target = torch.ones(1, 2, 1), torch.tensor([[[1.0, 3.0], [9.0, 9.0]]])
assert mapped_loss(_state, _target, torch.ones(2, 1), torch.zeros(2), torch.tensor([[True, False]])) == 2
### END HIDDEN TESTS
check("09.2", mapped_loss)

# %% [markdown]
# How well *can* a narrow student look like its teacher? Give it the best states it could have: the teacher's own, squeezed
# through its best $d'$ directions (an SVD, as in unit 04). What is left of the error is a floor that no student of this
# width gets below with one linear map.

# %% name="floor"
mapped_loss = stand_in("09.2", mapped_loss)
teacher = load_teacher("quick")  # fine-tuned once, in about a minute, if it has not been yet
(batch,) = text_batches(teacher.task.validation.take(64), teacher.tokenizer, batch_size=64).epoch(0)
with torch.inference_mode():
    out = teacher.model.encoder(batch["input_ids"], batch["attention_mask"], capture=Capture(hidden="all", scores=(5,)))
real = batch["attention_mask"].bool()
for layer in (0, 3, 6):
    states = out.hidden[layer].clone()
    center = states[real].mean(0)
    directions = torch.linalg.svd(states[real] - center, full_matrices=False).Vh
    for width in (48, 192):
        best = (states - center) @ directions[:width].T
        floor = mapped_loss(best, states, directions[:width].T.clone(), center, real)
        print(
            f"state {layer}, width {width:>3}: {floor / (states[real] - center).square().mean():.1%} of the variance is out of reach"
        )

# %% [markdown] tags=["solution-only"]
# With half the width a student can carry most of what each state holds, but not all; with an eighth it has to choose. (One
# map for all states, as the released code has it, has to choose once for all of them.)

# %% [markdown]
# ## Task 09.3 · Attention scores without padding
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# The squared error of scores **before** the softmax, as a mean over heads and those pairs whose query *and* key are real.
# What stands at padding may be any number and must not matter.


# %% task="09.3"
def score_loss(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    """Scalar; s and t (B, A, T, T), query before key; mask (B, T) true on real tokens."""
    ### BEGIN SOLUTION
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    return (s - t).square().masked_select(pairs.expand_as(s)).mean()
    ### END SOLUTION


# %% check="09.3"
### BEGIN HIDDEN TESTS
_scores = torch.tensor([[[[1.0, 5.0], [5.0, 5.0]]]])
assert score_loss(_scores, torch.zeros(1, 1, 2, 2), torch.tensor([[True, False]])) == 1
### END HIDDEN TESTS
check("09.3", score_loss)

# %% [markdown]
# ## Task 09.4 · The prediction
# *Difficulty 2 of 5, importance 4 of 5, about 5 minutes.*
#
# TinyBERT's last loss: the cross-entropy of the student's answers with the teacher's probabilities as targets,
# $-\sum_c p^T_c \log p^S_c$, a mean over texts.


# %% task="09.4"
def prediction_loss(s: Tensor, t: Tensor) -> Tensor:
    """Scalar; student logits s and teacher logits t (B, C)."""
    ### BEGIN SOLUTION
    return -(t.softmax(-1) * s.log_softmax(-1)).sum(-1).mean()
    ### END SOLUTION


# %% check="09.4"
### BEGIN HIDDEN TESTS
assert torch.isclose(prediction_loss(torch.zeros(3, 4), torch.randn(3, 4)), torch.tensor(math.log(4)))
### END HIDDEN TESTS
check("09.4", prediction_loss)

# %% [markdown]
# All losses of the real teacher and a student of random weights, before any training:

# %% name="all-losses"
score_loss, prediction_loss = stand_in("09.3", score_loss), stand_in("09.4", prediction_loss)
student = fresh_student(teacher.model, seed=0, num_layers=3, hidden_size=192, intermediate_size=768)
with torch.inference_mode():
    own = student.encoder(batch["input_ids"], batch["attention_mask"], capture=Capture(hidden="all", scores=(2,)))
    answers = [model(batch["input_ids"], batch["attention_mask"]).logits for model in (student, teacher.model)]
generator = torch.Generator().manual_seed(0)
weight, bias = 0.02 * torch.randn(384, 192, generator=generator), torch.zeros(384)
for s, t in uniform_map(6, 3)[0]:
    print(f"hidden state {s} with {t}: {mapped_loss(own.hidden[s], out.hidden[t], weight, bias, real):.3f}")
print(f"last attention scores:  {score_loss(own.scores[2], out.scores[5], real):.3f}")
print(f"prediction:             {prediction_loss(*answers):.3f}  (ln 2 is {math.log(2):.3f})")

# %% [markdown] tags=["solution-only"]
# The terms differ in size by far more than their equal weights of 1 suggest: what a weight means depends on what it stands
# before.

# %% [markdown]
# ## Task 09.5 · Replace words
# *Difficulty 2 of 5, importance 4 of 5, about 7 minutes.*
#
# One augmented copy of a text. `candidates` maps places in `words` to lists of words that may stand there (perhaps empty).
# Each word that has candidates is replaced **with probability `p`, by itself**, by one of its candidates, all equally
# likely. Draw with `rng`, a `random.Random`: `rng.random()` is a number in $[0, 1)$, `rng.choice(list)` one of a list.


# %% task="09.5"
def replace_words(words: list[str], candidates: dict[int, list[str]], p: float, rng: Random) -> list[str]:
    """A new list of as many words; the given one stays as it is."""
    ### BEGIN SOLUTION
    new = list(words)
    for place, choices in candidates.items():
        if choices and rng.random() < p:
            new[place] = rng.choice(choices)
    return new
    ### END SOLUTION


# %% check="09.5"
### BEGIN HIDDEN TESTS
assert replace_words(["a", "b"], {1: ["c"]}, 1.0, Random(0)) == ["a", "c"]
### END HIDDEN TESTS
check("09.5", replace_words)

# %% [markdown]
# On a real snippet, with the nearest neighbours of each word in the encoder's own table as candidates (the lesson has a
# masked language model for this):

# %% name="real-words"
replace_words = stand_in("09.5", replace_words)
near = NeighbourProposer(pretrained_encoder().embeddings.word.weight, teacher.tokenizer)
words = "a strange and often very funny film about growing old".split()
candidates = {place: near(words, place, 15) for place, word in enumerate(words) if replaceable(word)}
for place, choices in candidates.items():
    print(f"{words[place]:8}", ", ".join(choices[:8]))
rng = Random(0)
for _ in range(4):
    print("→", " ".join(replace_words(words, candidates, 0.4, rng)))

# %% [markdown]
# ## Task 09.6 · A training set that grows
# *Difficulty 2 of 5, importance 5 of 5, about 7 minutes.*
#
# Return the rows `(text, label)` of the augmented training set: each text, followed by its versions `more(text)` in their
# order, all with the text's label. A version that is one of the `held_out` texts must not come in: it would be tested on.


# %% task="09.6"
def grown(
    texts: list[str], labels: list[int], more: Callable[[str], list[str]], held_out: list[str]
) -> list[tuple[str, int]]:
    """Rows of (text, label)."""
    ### BEGIN SOLUTION
    rows = []
    for text, label in zip(texts, labels, strict=True):
        rows.append((text, label))
        rows += [(new, label) for new in more(text) if new not in held_out]
    return rows
    ### END SOLUTION


# %% check="09.6"
### BEGIN HIDDEN TESTS
assert grown(["a", "b"], [0, 1], lambda text: [text + "!", "x"], ["x"]) == [("a", 0), ("a!", 0), ("b", 1), ("b!", 1)]
### END HIDDEN TESTS
check("09.6", grown)

# %% [markdown]
# Sixty real texts become many. Does the teacher still say what it said?

# %% name="real-grown"
grown = stand_in("09.6", grown)
some, rng = teacher.task.train.take(60, seed=2), Random(1)


def versions(text):
    """Four copies of a text with words replaced, those that differ."""
    words = text.split()
    candidates = {place: near(words, place, 15) for place, word in enumerate(words) if replaceable(word)}
    made = [" ".join(replace_words(words, candidates, 0.4, rng)) for _ in range(4)]
    return [new for new in dict.fromkeys(made) if new != text]


originals = [" ".join(text.split()) for text in some.texts]
rows = grown(originals, some.labels, versions, teacher.task.test.texts)
said = dict(zip(originals, teacher.predict(originals).argmax(-1).tolist(), strict=True))
parent, latest = {}, originals[0]
for text, _ in rows:
    latest = text if text in said else latest
    parent[text] = latest
new = [text for text in parent if text not in said]
same = [
    int(answer == said[parent[text]])
    for text, answer in zip(new, teacher.predict(new).argmax(-1).tolist(), strict=True)
]
changed = [sum(a != b for a, b in zip(text.split(), parent[text].split(), strict=True)) for text in new]
print(
    f"{len(rows)} rows of {len(originals)} texts; the teacher says the same of {sum(same) / len(same):.0%} of the new ones"
)
assert len(rows) > 2 * len(originals) and sum(same) / len(same) > 0.5

# %% name="figure-grown"
show(
    agreement_by_changes({"neighbours": (changed, same)}),
    alt="Share of new texts with the teacher's old answer, by the number of replaced words: it tends to fall as more words are "
    "replaced, with wide intervals.",
    caption="The copied label would be wrong where the teacher changed its mind with reason.",
)

# %% [markdown]
# ## Task 09.7 · The task stage as data
# *Difficulty 3 of 5, importance 5 of 5, about 12 minutes.*
#
# Write TinyBERT's task stages yourself, without calling `tinybert`: a tuple of two `Stage`s for a **narrower** student.
#
# 1. Embeddings, hidden states (`"hidden"`, with `project="one"`) and attention scores (`"attention"`), uniformly, at a
#    constant learning rate (`schedule="constant"`).
# 2. The teacher's answers (`"soft"`) at temperature 1, and nothing else.
#
# All weights are 1, and no labels. Two terms of one kind in a stage need names of their own: `Term(…, name="embedding")`.


# %% task="09.7"
def task_stages(teacher_layers: int, student_layers: int) -> tuple[Stage, ...]:
    """The stage of the inner layers and that of the prediction."""
    ### BEGIN SOLUTION
    match = match_layers("uniform", teacher_layers, student_layers)
    inner = Stage(
        "inner",
        (
            Term("hidden", layers=match.hidden[:1], project="one", name="embedding"),
            Term("hidden", layers=match.hidden[1:], project="one"),
            Term("attention", layers=match.attention),
        ),
        schedule="constant",
    )
    return inner, Stage("prediction", (Term("soft"),))
    ### END SOLUTION


# %% check="09.7"
### BEGIN HIDDEN TESTS
assert [stage.schedule for stage in task_stages(6, 3)] == ["constant", None]
### END HIDDEN TESTS
check("09.7", task_stages)

# %% name="figure-stages-drawn"
task_stages = stand_in("09.7", task_stages)
recipe = Recipe("my TinyBERT", 6, 3, tuple(task_stages(6, 3)))
show(
    recipe_panel(recipe),
    alt="Six teacher and three dashed student layers; hidden states 0, 2, 4, 6 meet 0 to 3, attention of layers 2, 4, 6 meets 1 "
    "to 3, then the answers; two stages are named below.",
    caption="Drawn from your stages.",
)

# %% [markdown]
# And carried out, on texts the teacher knows, for a few steps. It is far too short for a good student; that all four losses
# fall is what to see.

# %% name="own-live"
texts = text_batches(teacher.task.train.take(1000), teacher.tokenizer, seed=0)
config = TrainConfig(steps=by_profile(quick=30, full=300), lr=1e-3, log_every=5)
result = distill(student, teacher.model, recipe, texts, config)
curves = {}
for stage in recipe.stages:
    history = result.stages[stage.name].history
    curves[stage.name] = {
        term.name: ([entry["step"] for entry in history], [entry[term.name] for entry in history])
        for term in stage.terms
    }
    for term, (_, losses) in curves[stage.name].items():
        print(f"{stage.name:10} {term:10} {losses[0]:7.3f} at first, {losses[-1]:7.3f} at the end")
assert all(min(losses) < losses[0] for term, (_, losses) in curves["inner"].items())

# %% name="figure-own-live"
show(
    stage_losses(curves),
    alt="Two panels: in the inner stage the losses of embeddings, hidden states and attention fall from 1; in the prediction "
    "stage its one loss falls a little.",
    caption="Each loss relative to its first value, over the steps of its stage.",
)

# %% [markdown]
# ## What you can do now
#
# You can carry out TinyBERT from its formulas, tell its paper from its code, invent text without inventing labels or leaks,
# and put a method into stages.
#
# **Next:** everything side by side, in [10 · Capstone](../notebooks/10_capstone.ipynb).
