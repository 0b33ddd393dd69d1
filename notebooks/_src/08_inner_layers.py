# %% [markdown] name="title"
# # 08 · Distillation II: what the teacher computes
#
# **You will be able to** read and draw a distillation method as a recipe, say which layers of a student meet which of
# its teacher and in which numbering, work out PKD's, Theseus's and MiniLM's losses by hand, compare methods at equal
# compute, write a recipe of your own, and correct a sentence that many surveys repeat.
#
# **About 50 minutes, and as much for the exercises.** Needs [07 · Distillation I](07_distillation.ipynb). The notebook
# runs in about three minutes.

# %% name="imports"
import copy
import inspect
from dataclasses import replace
from itertools import product

import torch

from coursekit.course import by_profile
from coursekit.course.studies import load_study
from coursekit.course.studies.layers import METHODS, settings, step_cost, steps
from coursekit.course.studies.layers import distances as distances_to
from coursekit.course.studies.layers import recipe as study_recipe
from coursekit.distill import (
    KINDS,
    Recipe,
    Replacing,
    Stage,
    Term,
    Theseus,
    attention_kl,
    distilbert,
    distill,
    init_from_teacher,
    match_layers,
    minilm,
    needs_assistant,
    patient_loss,
    pkd,
    relation_kl,
    theseus,
    tinybert,
    value_relation_kl,
)
from coursekit.measure import bootstrap_interval, machine, paired_bootstrap
from coursekit.models import Capture
from coursekit.train import TrainConfig, load_teacher, text_batches
from coursekit.viz import explore, show, use_style
from coursekit.viz.comparison import differences
from coursekit.viz.inner_layers import (
    distance_table,
    intervals,
    mixtures,
    published,
    relation_maps,
    replacing,
    state_distances,
    study_panels,
)
from coursekit.viz.recipes import recipe_panel, recipe_panels
from coursekit.viz.towers import layer_map

use_style()

# %% [markdown]
# ## The question
#
# In unit 07 the student learned from what the teacher *answers*: two numbers per film review. To find them our teacher
# computes seven hidden states and 72 attention maps. Should a student be shown these too? Then there are choices to
# make, and each method of this unit is one set of them:
#
# - **Which layers meet?** The teacher has more of them than the student.
# - **What is compared there?** Hidden states, attention, relations between values, or nothing at all.
# - **With which loss**, and what if the student is narrower or has fewer heads?
# - **In what order**, and how does the student begin?
#
# In `coursekit` a method is no class with a training loop of its own. It is a `Recipe`, plain data that answers exactly
# these questions, and one engine (`distill`) carries out all of them. Here is one, whole:

# %% name="recipe" tags=["nbval-check-output"]
one = pkd(teacher_layers=6, student_layers=3, which="skip")
print("begins with the teacher's layers", one.start.attention)
for stage in one.stages:
    for term in stage.terms:
        print(f"stage {stage.name!r}: {term.weight} × {term.kind:8} layers {term.layers}  T = {term.temperature:g}")

# %% [markdown]
# ## Six methods in one picture
#
# The survey behind this course (Xu & McAuley, 2022) sums up distillation in a figure of six panels. We draw them anew,
# not by copying but *from the recipes*: a function looks at what a recipe says and draws it. If a recipe changes, so
# does its panel.

# %% name="figure-six-panels"
SIX = {
    "(a) DistilBERT": distilbert(6, 3),
    "(b) BERT-of-Theseus": theseus(6, 3),
    "(c) PKD-Last": pkd(6, 3, which="last"),
    "(d) PKD-Skip": pkd(6, 3, which="skip"),
    "(e) TinyBERT": tinybert(6, 3),
    "(f) MiniLM": minilm(6, 3),
}
show(
    recipe_panels(SIX),
    alt="Six panels, each with six teacher layers on the left and three taller student layers on the right. DistilBERT: "
    "a thick line between the answers, labels at the student, a cosine between the last hidden states. Theseus: three "
    "dashed frames of two teacher layers with double arrows to a student layer each, and labels only. PKD-Last: answers, "
    "labels, and [CLS] states 4 and 5 of the teacher with 1 and 2 of the student. PKD-Skip: the same with 2 and 4. "
    "TinyBERT: hidden states 0, 2, 4, 6 with 0 to 3, attention of layers 2, 4, 6 with 1 to 3, then answers; no labels. "
    "MiniLM: attention and value relations of the last layers only, no answers and no labels.",
    caption="Read a panel from below: where the student begins (a dashed box begins at random), which states are compared, "
    "whether the answers are, and whether it sees labels.",
)

# %% [markdown]
# Student layers are drawn as high as the teacher layers they stand for. Hidden states are joined at the upper edges of
# the boxes, where they come out; attention at the middles, where it is computed.
#
# ### A sentence to correct
#
# The article that this course grew from says of this figure: DistilBERT passes on the last output, and **the other five
# models also pass on inner layers**. The recipes can be asked:


# %% name="claim" tags=["nbval-check-output"]
def looks_at(recipe):
    """Kinds of terms that compare inner layers → the student's layers they look at, numbered as in the recipe."""
    terms = [term for stage in recipe.stages for term in stage.terms if KINDS[term.kind].layers]
    return {
        kind: sorted({s for t in terms if t.kind == kind for s, _ in t.layers}) for kind in {t.kind: 0 for t in terms}
    }


for title, recipe in SIX.items():
    found = "; ".join(f"{kind} {layers}" for kind, layers in looks_at(recipe).items())
    print(f"{title:20} {found or 'nothing inside'}")

# %% [markdown]
# So the sentence is right for three of five, and wrong at both ends:
#
# - **BERT-of-Theseus compares nothing inside** (Xu et al., 2020, section 3). Its only loss is that of the labels. Teacher
#   layers are *used*, not imitated.
# - **MiniLM looks at one layer**, the last one, and there not at hidden states but at attention and value relations
#   (Wang et al., 2020, section 3).
# - **DistilBERT does look inside**: its third loss aligns the last hidden state (Sanh et al., 2019, section 2). The
#   survey's panel leaves that line out.
# - **Panels (c) and (d) are one paper** (Sun et al., 2019), two settings of its layer map. The figure has five methods.
#
# Two more things that a picture of lines cannot show. TinyBERT is drawn with all its lines at once, but they belong to
# two stages, one after the other. And all of (b), (c), (d) *begin* with the teacher's layers, which is itself a way to
# pass on what is inside, perhaps the strongest one.

# %% [markdown]
# ## Which layers meet
#
# With $N$ teacher and $M$ student layers, every strategy is a formula. Hidden states are counted from the output of the
# embeddings, $0 \dots N$; attention from the first layer, $0 \dots N - 1$. With $k = N/M$:
#
# | strategy | hidden states $(m, \cdot)$ | attention $(i, \cdot)$ | used by |
# |---|---|---|---|
# | `uniform` | $m k$, for $m = 0 \dots M$ | $(i + 1) k - 1$ | TinyBERT |
# | `pkd-skip` | $m k$, for $m = 1 \dots M - 1$ | – | PKD |
# | `pkd-last` | $N - M + m$, for $m = 1 \dots M - 1$ | – | PKD |
# | `top`, `bottom` | the last or first $M$, embeddings with embeddings | the same | TinyBERT's Table 4 |
# | `minilm` | – | $(M - 1, N - 1)$ | MiniLM |
#
# Why $(i + 1) k - 1$? Layer $i$ of the student stands for $k$ layers of the teacher, and its *last* one is the one whose
# output meets. In the two numberings that is the same place. By hand for 12 and 4: hidden state 1 meets 3, and
# attention 0 meets $1 \cdot 3 - 1 = 2$, the layer out of which hidden state 3 comes.

# %% name="maps" tags=["nbval-check-output"]
for strategy, N, M in (
    ("uniform", 12, 4),
    ("pkd-skip", 12, 6),
    ("pkd-last", 12, 6),
    ("pkd-last", 12, 3),
    ("minilm", 12, 6),
):
    match = match_layers(strategy, N, M)
    print(f"{strategy:9} {N} → {M}   hidden {match.hidden}\n{'':18}attention {match.attention}")

# %% [markdown]
# PKD leaves the last layer out on both sides: its output is what the answer is made of, and answers are compared anyway.
# For students of three layers the released script has only `Last`, teacher layers 10 and 11.
#
# Choose a strategy and two depths. Some do not fit, and say so.


# %% name="map-chooser"
def draw_map(strategy, teacher, student):
    """The layers that meet."""
    return layer_map(
        match_layers(strategy, teacher, student), teacher, student, title=f"{strategy}, {teacher} → {student}"
    )


explore(
    draw_map,
    strategy=["uniform", "pkd-skip", "pkd-last", "top", "bottom", "minilm", "distilbert-init"],
    teacher=(2, 12, 1),
    student=(1, 6, 1),
    static={"strategy": "uniform", "teacher": 12, "student": 4},
    alt="Twelve teacher layers beside four student layers, each three times as high. Hidden states 0, 1, 2, 3, 4 of the "
    "student meet 0, 3, 6, 9, 12 of the teacher, drawn level; attention 0, 1, 2, 3 meets 2, 5, 8, 11, drawn slanting up.",
    caption="Uniform lines are level: each student layer should do the work of three. Try top and bottom.",
)

# %% [markdown]
# ## PKD: patience
#
# *Patient knowledge distillation* adds to soft and hard loss a third part. Take the state of the first token, `[CLS]`,
# from which the answer is made; give it length 1, in the student and in the teacher; and add up the squared distance:
#
# $$\mathcal{L} = (1 - \alpha)\,\mathcal{L}_\text{hard} + \alpha\,\mathcal{L}_\text{soft} + \beta\,\mathcal{L}_\text{PT},
# \qquad \mathcal{L}_\text{PT} = \operatorname*{mean}_{\text{texts},\,m}\;
# \Bigl\lVert \frac{s_m}{\lVert s_m\rVert} - \frac{t_{g(m)}}{\lVert t_{g(m)}\rVert} \Bigr\rVert^2 .$$
#
# By hand: $s = (3, 4)$ has length 5, so it becomes $(0.6, 0.8)$; $t = (0, 2)$ becomes $(0, 1)$. The squared distance is
# $0.6^2 + 0.2^2 = 0.4$. For vectors of length 1 it is also $2 - 2\cos(s, t) = 2 - 2 \cdot 0.8$.

# %% name="patient-by-hand" tags=["nbval-check-output"]
s, t = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
by_hand = ((s / s.norm() - t / t.norm()) ** 2).sum()
print(f"by hand {by_hand:.2f}, from the cosine {2 - 2 * torch.cosine_similarity(s, t, dim=0):.2f}")
print(f"patient_loss {patient_loss(s.view(1, 1, 2), t.view(1, 1, 2)):.2f}, with t ten times as long ", end="")
print(f"{patient_loss(s.view(1, 1, 2), 10 * t.view(1, 1, 2)):.2f}")
print(
    f"mean over the H = 2 numbers instead of their sum: {torch.nn.functional.mse_loss(s / s.norm(), t / t.norm()):.2f}"
)

# %% [markdown]
# Length does not count, only direction. And mind the last line. The released code takes the **mean over the $H$ numbers**
# where the formula has a sum, so its $\beta$ is $H$ times ours: the 500 of its example is $500/768 = 0.65$ here. Copy a
# $\beta$ from one to the other and the patient loss all but vanishes, or drowns the rest.
#
# ### What does it ask of our student?
#
# Our teacher is the real encoder of six layers, fine-tuned on 2,000 film reviews. The student begins as its first three
# layers. How far is each of its states from each of the teacher's, in just this distance?

# %% name="distances"
teacher = load_teacher("quick")  # made on first use, then kept
validation = teacher.task.validation
few = text_batches(validation.take(by_profile(quick=128, full=776)), teacher.tokenizer)
with torch.inference_mode():
    outputs = [
        teacher.model.encoder(b["input_ids"], b["attention_mask"], capture=Capture(hidden="all")) for b in few.epoch(0)
    ]
cls = torch.stack([torch.cat([out.hidden[layer][:, 0] for out in outputs]) for layer in range(7)])  # (7, texts, H)
unit = torch.nn.functional.normalize(cls, dim=-1)
apart = (unit[:4, None] - unit[None, :]).square().sum(-1).mean(-1)  # (4, 7): the student's states are the first four
assert apart.diagonal().abs().max() < 1e-6

# %% name="figure-distances"
skip, last = (match_layers(f"pkd-{which}", 6, 3).hidden for which in ("skip", "last"))
show(
    state_distances(
        apart,
        {"begins here": [(m, m) for m in range(4)], "PKD-Skip": skip, "PKD-Last": last},
        "Squared distance of [CLS] states",
    ),
    alt="A grid of distances, student states 0 to 3 by teacher states 0 to 6. The diagonal, where the student begins, is "
    "0. States 1 to 4 of the teacher are all within 0.03 of each other, state 5 within about 0.1; the last, 6, is more than "
    "1 from all others. PKD-Skip marks (1, 2) and (2, 4), PKD-Last marks (1, 4) and (2, 5).",
    caption="The student begins on the diagonal, in full agreement; both strategies pull it to the right, Last further.",
)

# %% name="assert-distances"
assert max(apart[s, t] for s, t in skip) < 0.1 < 0.8 < apart[:, 6].min()  # seen: 0.02, and 1.2
assert sum(apart[s, t] for s, t in skip) < sum(apart[s, t] for s, t in last)

# %% [markdown]
# So the patient loss of this student is not about *becoming like* the teacher, which it is already: it is about being
# **early**. After one layer it should be where the teacher is after two (Skip) or after four (Last).
#
# And in this teacher that is nearly nothing. Its `[CLS]` hardly turns for five layers; all of the way to the answer is
# gone in the sixth, which PKD leaves out. The paper's teachers have twelve layers that were trained on `[CLS]` from the
# start (BERT's sentence-pair task); ours comes from an encoder that was pretrained to use all tokens, and needed `[CLS]`
# only when it was fine-tuned. Before you borrow a method, look whether there is something to borrow.

# %% [markdown]
# ## BERT-of-Theseus: replace, do not imitate
#
# The ship of Theseus had its planks exchanged one by one. Here the six teacher layers (the *predecessor*) form three
# modules of two, and each may be replaced by one layer of the *successor*. In every step a coin is tossed for each
# module,
#
# $$y_{i+1} = r_i\,\text{scc}_i(y_i) + (1 - r_i)\,\text{prd}_i(y_i), \qquad r_i \sim \text{Bernoulli}(p),$$
#
# and the loss is that of the labels alone. The predecessor is frozen, and so are embeddings and head, which both use. So
# a successor layer must *work* between predecessor layers: it gets what its neighbour expects, and must hand on what
# the next one expects. Nobody has to say how far apart two states are.
#
# By hand, with modules that are plain functions, $x = 1$:

# %% name="theseus-by-hand" tags=["nbval-check-output"]
predecessor = [lambda y: 2 * y, lambda y: y + 3]
successor = [lambda y: 2 * y + 1, lambda y: y + 2]
p, mean = 0.3, 0.0
for replaced in product((False, True), repeat=2):
    y, chance = 1, 1.0
    for module, new in enumerate(replaced):
        y = (successor if new else predecessor)[module](y)
        chance *= p if new else 1 - p
    mean += chance * y
    print(f"replaced {str(replaced):15} output {y}, probability {chance:.2f}")
print(f"on average {mean:.2f}; in evaluation always the last one")

# %% [markdown]
# There is no average model, only four different ones; the successor alone is just one of them, and with $p = 0.3$ a rare
# one. Therefore $p$ rises: $p_t = \min(1, b + k t)$ after $t$ steps. With $b = 0.3$, and 1 reached after half of 100
# steps, $k = 0.7/50 = 0.014$:

# %% name="schedule-by-hand" tags=["nbval-check-output"]
plan = Replacing(base=0.3, reach=0.5)
for step in (0, 10, 25, 50, 75):
    print(
        f"step {step:>2}: min(1, 0.3 + 0.014 · {step:>2}) = {min(1, 0.3 + 0.014 * step):.2f}, Replacing says {plan.rate(step, 100):.2f}"
    )

# %% [markdown]
# Here is the whole method as the library has it, and then what it draws in 120 steps:

# %% name="theseus-source"
print(inspect.getsource(theseus))

# %% name="draws"
start = match_layers("bottom", 6, 3)
ship = Theseus(teacher.model, init_from_teacher(teacher.model, start), plan, steps=120, seed=0)
rates, drawn = [], []
for step in range(120):
    ship.at(step)  # draws depend on seed and step alone, so that an interrupted training goes on with the same ones
    rates.append(ship.rate)
    drawn.append(ship.draw())
ship.train()
with ship.frozen():
    learning = sum(weight.numel() for weight in ship.parameters() if weight.requires_grad)
ship.eval()

# %% name="figure-replacing"
show(
    replacing(rates, drawn),
    alt="Above, the probability of replacing rises in a line from 0.3 to 1 at step 60 of 120 and stays; dots show the share "
    "of modules replaced in each step, 0, 1/3, 2/3 or 1. Below, a strip per module: a mix of grey and blue that turns all "
    "blue from step 60 on.",
    caption="At first mostly the old ship with one new plank; from the middle on only new planks.",
)

# %% name="theseus-facts" tags=["nbval-check-output"]
ids = torch.tensor(teacher.tokenizer.encode(validation.texts[:1]))
with torch.inference_mode():
    same = torch.equal(ship(ids).logits, ship.successor(ids).logits)
print(f"in evaluation the mixture is the successor: {same}")
print(
    f"weights that learn while replacing: {learning:,}; that is {len(ship.successor.encoder.layers)} layers and nothing else"
)
print(f"a rate that rises is also a learning rate that rises: a layer is trained in {rates[0]:.0%} of the first steps")

# %% [markdown]
# (One number more than three layers have: a zero that lets the loss have a gradient when no module was replaced.)
#
# What do mixtures of our teacher and the untrained successor score? There are eight.


# %% name="right-answers"
def right_answers(model, texts=validation):
    """(N,) booleans."""
    return (replace(teacher, model=model).predict(texts.texts).argmax(-1) == torch.tensor(texts.labels)).numpy()


share = sum(validation.labels) / len(validation)
larger = max(share, 1 - share)
print(f"the teacher {right_answers(teacher.model).mean():.1%}, always the larger class {larger:.1%}")


# %% name="mixtures"
def mixture(successor, replaced):
    """The teacher with the successor's layer for every module that is replaced."""
    model, old, layers = copy.deepcopy(teacher.model), teacher.model.encoder.layers, []
    for module, new in enumerate(successor.encoder.layers):
        layers += [new] if replaced[module] else old[2 * module : 2 * module + 2]
    model.encoder.layers = torch.nn.ModuleList(layers)
    return model


sample = validation.take(by_profile(quick=256, full=776))
PATTERNS = list(product((False, True), repeat=3))
fresh = init_from_teacher(teacher.model, start)
before = {pattern: right_answers(mixture(fresh, pattern), sample).mean() for pattern in PATTERNS}
for pattern, accuracy in before.items():
    print("".join("■" if new else "□" for new in pattern), f"{accuracy:.1%}")
assert before[False, False, False] > before[True, True, True]

# %% [markdown]
# (■ is a replaced module, the first one on the left.) Untrained, every plank that is exchanged costs something, and the
# last one everything: it has never made an answer. We will draw this again after training.

# %% [markdown]
# ## MiniLM: relations
#
# MiniLM asks for two things, in the **last layer only**: whom does each token attend to, and how are the *values* of the
# tokens related?
#
# $$\mathcal{L} = \mathcal{L}_\text{AT} + \mathcal{L}_\text{VR},\qquad
# \text{VR} = \operatorname{softmax}\!\Bigl(\frac{V V^\top}{\sqrt{d}}\Bigr)\quad\text{for each head},$$
#
# both as $\text{KL}(\text{teacher} \,\|\, \text{student})$, a mean over heads and real tokens. Attention by hand: a token
# of the teacher attends to two tokens with $(0.5, 0.5)$, in the student with $(0.8, 0.2)$:
# $0.5 \ln\frac{0.5}{0.8} + 0.5 \ln\frac{0.5}{0.2}$ $= -0.235 + 0.458 = 0.223$.

# %% name="attention-by-hand" tags=["nbval-check-output"]
teacher_row, student_row = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])
print(f"by hand      {(teacher_row * (teacher_row / student_row).log()).sum():.4f}")
maps = [torch.stack([row, row]).view(1, 1, 2, 2) for row in (student_row, teacher_row)]  # (B, A, T, T), student first
print(f"attention_kl {attention_kl(*maps, mask=None):.4f}")
print(f"the other direction would be {attention_kl(*maps[::-1], mask=None):.4f}")

# %% [markdown]
# Now the values. Three tokens; the teacher's values have two numbers, the student's only one:

# %% name="values-by-hand" tags=["nbval-check-output"]
teacher_values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # (T, d)
student_values = torch.tensor([[1.0], [0.0], [1.0]])
relations = {}
for name, V in (("teacher", teacher_values), ("student", student_values)):
    scores = V @ V.T / V.shape[1] ** 0.5
    relations[name] = scores.softmax(-1)
    print(f"{name}: V Vᵀ / √{V.shape[1]} =", [[round(x, 2) for x in row] for row in scores.tolist()])
    print(f"{'':9}relations  ", [[round(x, 2) for x in row] for row in relations[name].tolist()])
divergence = relations["teacher"] * (relations["teacher"] / relations["student"]).log()
print(f"mean KL by hand {divergence.sum(-1).mean():.4f}, ", end="")
print(f"value_relation_kl {value_relation_kl(student_values[None, None], teacher_values[None, None], mask=None):.4f}")

# %% [markdown]
# A relation is tokens × tokens, whatever $d$ is. So the student may be as narrow as it likes, with no map between the
# widths to be learned and thrown away, and as shallow as it likes, since only the last layers meet. One thing must
# agree: the **number of heads**, for it is head by head.

# %% name="head-counts" tags=["nbval-check-output"]
wide, narrow = torch.zeros(1, 12, 5, 32), torch.zeros(1, 4, 5, 24)  # (B, A, T, d): 12 heads of 32, 4 heads of 24
try:
    value_relation_kl(narrow, wide, mask=None)
except ValueError as error:
    print(error)
for heads in (1, 4, 12, 24):
    print(f"{heads:>2} relation heads: {384 // heads:>3} numbers each in the teacher, {96 // heads:>2} in the student")
    assert relation_kl(narrow, wide, mask=None, heads=heads) == 0

# %% [markdown]
# That is version 2 (Wang et al., 2021): join all heads, and split anew into so many *relation heads* as divide both
# widths. It also drops attention between queries and keys in favour of three relations of one kind:

# %% name="figure-v2"
show(
    recipe_panels(
        {
            "MiniLM": minilm(12, 6),
            "with an assistant": minilm(12, 6, assistant=True),
            "MiniLM v2": minilm(12, 6, relation_heads=48),
        }
    ),
    alt="Three panels of twelve teacher and six student layers. MiniLM: attention and value relations of the last layers. "
    "With an assistant: the same lines, but the words below name two stages, first an assistant of twelve layers, then "
    "the student taught by it. Version 2: three lines, relations of queries, keys and values in 48 heads.",
    caption="Only the last layers meet, in all three; an assistant and relation heads are words in the recipe.",
)

# %% [markdown]
# The **assistant** is the answer to a student that is both much shallower and much narrower: first teach a model as deep
# as the teacher and as narrow as the student, then let that one teach. The rule of section 3.4, and what it brought
# (published, Table 3, mean of SQuAD 2, MNLI and SST-2, students of width 384 of a teacher of 768):

# %% name="assistant" tags=["nbval-check-output"]
PUBLISHED = {(12, 384): None, (6, 768): None, (6, 384): (81.9, 82.1), (4, 384): None, (3, 384): None}
for (layers, width), found in PUBLISHED.items():
    needs = needs_assistant(12, 768, layers, width)
    words = f"   published: {found[0]} without, {found[1]} with" if found else ""
    print(f"student {layers:>2} × {width}: {'an assistant' if needs else 'directly'}{words}")

# %% [markdown]
# (The encoder that this course has used since unit 00 was made this way: `all-MiniLM-L6-v2` goes back to a MiniLM
# student of 12 layers of width 384, every second of which was kept.)

# %% [markdown]
# ## Live: equal compute
#
# Which is best? The question is empty until it says *at what price*. A teacher that is asked in every step costs a forward
# pass of six layers; replacing runs teacher layers too. So we give every method the same number of **operations**, counted
# in forward passes of the student: a layer costs one pass forward, one for the gradient of its input, one for that of its
# weights if they learn.

# %% name="step-costs" tags=["nbval-check-output"]
LIVE = settings(quick=False)
COMPUTE = 3 * by_profile(quick=100, full=250)  # as many steps of a student that learns alone
for method in METHODS:
    plan = study_recipe(method, LIVE)
    costs = {stage.name: step_cost(stage) for stage in plan.stages}
    print(f"{method:9}", "; ".join(f"{stage}: a step costs {cost:.2f}" for stage, cost in costs.items()))

# %% [markdown]
# `alone` is the baseline without which nothing can be said: the same student, the labels, no teacher. `soft` is
# the teacher's answers and no labels, as unit 07's study chose it. All students begin as the teacher's first three layers (also
# MiniLM's, whose paper begins at random), all see the teacher's own 2,000 labelled texts, at one learning rate.

# %% name="live"
texts = text_batches(teacher.task.train.take(2000), teacher.tokenizer, seed=0)
students, took = {"at the start": fresh}, {}
for method in METHODS:
    plan = study_recipe(method, LIVE)
    counts = steps(plan, COMPUTE)
    student = init_from_teacher(teacher.model, start)
    student.encoder.embeddings.word.requires_grad_(False)  # as in the fine-tuning
    configs = {name: TrainConfig(steps=count, lr=LIVE["lr"]) for name, count in counts.items()}
    took[method] = distill(student, teacher.model, plan, texts, configs).seconds
    students[method] = student
    print(f"{method:9} {' + '.join(map(str, counts.values())):>7} steps in {took[method]:5.1f} s")
print(machine())

# %% name="figure-live"
found = {name: right_answers(student) for name, student in students.items()}
show(
    intervals(
        {name: (right.mean(), *bootstrap_interval(right, seed=0)) for name, right in found.items()},
        {"the teacher": right_answers(teacher.model).mean(), "always the larger class": larger},
        "validation accuracy, %",
    ),
    alt="Seven rows with intervals between the larger class, 59 %, and the teacher, 81 %. At the start the student is at the "
    "larger class. The six trained ones are at 76 to 79 %, within each other's intervals of three points either way.",
    caption="One seed: all six have come most of the way, and their intervals overlap.",
)

# %% name="live-differences"
for method in METHODS[1:]:
    gain = paired_bootstrap(found[method], found["alone"], seed=0)
    print(f"{method:9} minus alone: {gain.difference:+.1%}, 95 % interval {gain.low:+.1%} to {gain.high:+.1%}")

# %% name="assert-live"
accuracy = {name: right.mean() for name, right in found.items()}
assert all(accuracy[method] > 0.68 for method in METHODS)  # seen: 0.76 to 0.79

# %% [markdown]
# A student that begins as half a teacher, with a head made for other states, first has to find its way back. All six
# have. Soft targets are the furthest behind the student alone, by an interval that ends at zero: with two threads it just
# includes it, with one it just excludes it, because sums in another order round differently. They have three fifths of
# the steps, and a teacher of the same labels. With 60 % of these steps (try it: `COMPUTE = 180`) those
# that ask a teacher take only 36, and stand still at the larger class: how soon a student finds its way is most of what a
# short comparison shows. So the study below takes more steps, more seeds, and a case where the teacher knows more.

# %% [markdown]
# Do the methods at least do what they ask for? Each student's distance from the teacher, in the terms of each method, on
# texts neither has learnt from:

# %% name="figure-asked"
COLUMNS = {
    "soft_distance": "soft targets",
    "skip_distance": "PKD-Skip's\nstates",
    "last_distance": "PKD-Last's\nstates",
}
COLUMNS |= {"attention_distance": "last\nattention", "value_distance": "last value\nrelations"}
asked = {name: distances_to(student, teacher.model, validation.take(128), LIVE) for name, student in students.items()}
show(
    distance_table(
        [[row[column] for column in COLUMNS] for row in asked.values()], list(asked), list(COLUMNS.values())
    ),
    alt="A table of seven students by five distances, each column shaded by size. Each method has the smallest value in its "
    "own column: PKD's states for each of the two PKDs, attention and value relations for MiniLM; in soft targets the three "
    "that compare them, soft and the two PKDs, are equally near.",
    caption="Read down a column: each method gets nearer in what it asks for, and not in what the others ask for.",
)

# %% name="assert-asked"
for method, column in (("pkd-skip", "skip_distance"), ("pkd-last", "last_distance"), ("minilm", "value_distance")):
    assert asked[method][column] < asked["alone"][column], (method, column)

# %% [markdown]
# Being nearer to the teacher inside is one thing, being right another. Look at one sentence: the last layer's attention
# and value relations, a mean over heads.


# %% name="last-layers"
def last_layer(model, ids):
    """Attention and value relations (T, T) of the last layer, means over heads."""
    last = len(model.encoder.layers) - 1
    with torch.inference_mode():
        out = model.encoder(ids, capture=Capture(probs=(last,), values=(last,)))
    V = out.values[last][0]  # (A, T, d)
    return out.probs[last][0].mean(0), (V @ V.transpose(1, 2) / V.shape[-1] ** 0.5).softmax(-1).mean(0)


short = next(ids for ids in teacher.tokenizer.encode(validation.texts) if len(ids) == 11)
pictures = {"attention": {}, "values": {}}
for name in ("teacher", "at the start", "alone", "minilm"):
    maps = last_layer(students.get(name, teacher.model), torch.tensor([short]))
    pictures["attention"][name], pictures["values"][name] = maps

# %% name="figure-relations"
show(
    relation_maps(pictures, teacher.tokenizer.tokens(short)),
    alt="Two rows of four grids over the tokens of one review snippet. Upper row attention, lower row value relations, of the "
    "teacher's last layer, of the student at the start, trained alone, and after MiniLM. At the start nearly all attention goes "
    "to the first token; after training, with and without a teacher, it is spread as the teacher's is.",
    caption="Query down, key across; darker is more. The table above as a picture: MiniLM's student is nearest.",
)

# %% [markdown]
# And the ship of Theseus after the voyage:

# %% name="figure-mixtures"
after = {pattern: right_answers(mixture(students["theseus"], pattern), sample).mean() for pattern in PATTERNS}
alone = {pattern: right_answers(mixture(students["alone"], pattern), sample).mean() for pattern in PATTERNS}
show(
    mixtures({"before": before, "after Theseus": after, "after training alone": alone}, larger),
    alt="Accuracy of the eight mixtures of teacher modules and student layers, ordered by how many are replaced, three "
    "curves. Before training every mixture with the last module replaced is at the larger class. After Theseus, and after "
    "training alone, the pure student is far above it, and so is every mixture but two: where the last module is the student's "
    "and the second the teacher's, all texts still get one answer.",
    caption="After training the pure student works (right), but its last plank only behind its own second.",
)

# %% name="assert-mixtures"
assert after[True, True, True] > before[True, True, True] + 0.05  # seen: 0.76 against 0.59
assert after[True, True, True] > after[False, False, True]  # seen: 0.76 against 0.59

# %% [markdown]
# The idea says that Theseus's layers fit between the teacher's. After a few dozen steps they do so no better than those
# of a student that never met a teacher layer, and the last one does not fit behind the teacher's second at all. The paper
# replaces for many epochs; what we can say is that the student gets there without having become a set of spare parts.

# %% [markdown]
# ## The study
#
# One seed shows no order. The stored study has the same methods with several seeds and the test set, asked once, at equal
# compute again, in two regimes: 3,000 texts *with* all their labels, and the same texts of which only **200 show their
# label**. There a teacher, taught with 3,000 other labels, answers for the others, and methods that need no label may use all
# texts. Theseus cannot: its only loss is that of labels. One arm is no paper's: `soft-skip` has PKD-Skip's states, but the
# weight and temperature of `soft`, no labels. It tells what the inner layers do from what the weights do.

# %% name="study" tags=["nbval-check-output"]
study = load_study("layers")
print(f"{study['command']}, seeds {sorted({run['seed'] for run in study['runs']})}, {study['date'][:10]}\n")
print("arm                  validation   test accuracy, seeds")
for arm, numbers in study["arms"].items():
    test, seeds = numbers["test_accuracy"], [r["numbers"]["test_accuracy"] for r in study["runs"] if r["arm"] == arm]
    print(
        f"{arm:20} {numbers['validation_accuracy']['mean']:.1%}        {test['mean']:.1%}  ({', '.join(f'{s:.1%}' for s in seeds)})"
    )

# %% name="figure-study"
NAMES = dict(zip(METHODS, ("alone", "soft targets", "PKD-Skip", "PKD-Last", "Theseus", "MiniLM"), strict=True))
NAMES["soft-skip"] = "soft, Skip's states"
panels = {f"{n} labels": {words: f"{method}-{n}" for method, words in NAMES.items()} for n in ("200", "3000")}
panels["3000 labels"]["MiniLM, random start"] = "minilm-random-3000"
show(
    study_panels(study, panels, {"always the larger class": study["baselines"]["majority"]}, "test accuracy, %"),
    alt="Two panels. With 200 labels: alone 71, MiniLM, Theseus and PKD-Last 72, PKD-Skip 73, soft targets 76 %, and as much "
    "with Skip's states added. With 3,000 labels: alone 77, all others 76 to 77, MiniLM from a random start 67. The larger "
    "class is at 59.",
    caption="Few labels: the teacher's answers count. All labels: nobody beats the student alone. Bars: lowest to highest seed.",
)

# %% name="figure-study-differences"
show(
    differences(
        {pair: found["test_accuracy"] for pair, found in study["differences"].items()}, "Test accuracy, difference"
    ),
    alt="An interval for each comparison. Clear of zero: with 200 labels soft targets, +5.2, and PKD-Skip, +2.0, against the "
    "student alone; the four other methods against soft targets, −3.3 to −4.3; Skip's states with the weights of soft targets "
    "against PKD-Skip, +3.5. With 3,000 labels soft targets against alone, −1.2, and the random start, 9.7.",
    caption="Paired over test texts and seeds, 95 %: a blue interval that crosses zero is no difference we could detect.",
)

# %% [markdown]
# - **200 labels.** Soft targets are clear of the student alone, by 5.2 points (2.0 to 8.9), PKD-Skip by 2.0 (0.3 to 3.6).
#   Theseus and MiniLM are not: both end with the labels, and there are 200 of them.
# - **Why is PKD behind soft targets?** Not for its inner layers: with the same weights, Skip's states change nothing
#   (`soft-skip` against `soft`: +0.3, −0.5 to 1.1). It is the *other half* of its loss: half the weight on 200 labels, which
#   it learns by heart, as unit 07 saw when it chose nine tenths. Without that half PKD gains 3.5 points (1.1 to 6.6).
# - **3,000 labels**, the teacher's own. Nobody gains; the five lie 0.8 to 1.2 points *below* the student alone, and soft
#   targets do so for certain (−2.4 to −0.0). Equal compute: 90 steps with a teacher, 150 without.
# - **Skip or Last**: +0.9 (−2.5 to 4.2) and +0.3 (−0.8 to 1.1). Not decided.
# - **The start.** MiniLM's student from random weights is 9.7 points lower (7.9 to 11.5). What one begins with is worth more
#   than all that is compared, here as in unit 07.

# %% name="assert-study"
level = {arm: numbers["test_accuracy"]["mean"] for arm, numbers in study["arms"].items()}
assert level["minilm-random-3000"] < level["minilm-3000"] - 0.05  # where the student begins matters most
assert max(level, key=lambda arm: level[arm] if arm.endswith("-200") else 0) in ("soft-200", "soft-skip-200")
assert level["alone-3000"] == max(level.values())

# %% [markdown]
# ## What the papers report
#
# Two tables whose rows were made by one group on one footing, students of the same shape in each (published, not measured
# here). Left Theseus's Table 2: six layers of width 768, means over eight GLUE tasks, development sets. Right MiniLM's
# Table 3 and its ablations: six layers of width 384, means of SQuAD 2, MNLI and SST-2.

# %% name="figure-published"
THESEUS_TABLE = {"BERT-base, 12 layers": 82.5, "Theseus": 81.2, "PKD": 79.2, "LayerDrop": 78.8, "soft + hard": 78.5}
THESEUS_TABLE |= {"fine-tuned alone": 77.2, "DistilBERT": 76.5}
MINILM = {
    "soft targets of masked words": (67.9, 79.6, 89.8),
    "TinyBERT's losses": (71.6, 81.4, 90.2),
    "MiniLM": (72.4, 82.2, 91.0),
}
MINILM |= {"with an assistant": (72.7, 82.4, 91.2), "without value relations": (71.0, 80.9, 89.9)}
MINILM |= {"values by squared error": (71.4, 82.0, 90.8), "every layer, not the last": (71.6, 81.8, 90.6)}
means = {name: sum(scores) / 3 for name, scores in MINILM.items()}
show(
    published({"Theseus, Table 2": THESEUS_TABLE, "MiniLM, Table 3 and ablations": means}, "mean score (published)"),
    alt="Left: DistilBERT 76.5, fine-tuned alone 77.2, soft and hard 78.5, LayerDrop 78.8, PKD 79.2, Theseus 81.2, the teacher "
    "82.5. Right: soft targets of masked words 79.1, without value relations 80.6, TinyBERT's losses 81.1, every layer 81.3, "
    "values by squared error 81.4, MiniLM 81.9, with an assistant 82.1.",
    caption="Published: PKD is 0.7 and Theseus 2.7 points above soft + hard; within MiniLM the value relations bring 1.3.",
)

# %% [markdown]
# Read them with care. Theseus beats PKD by two points with the same task data; DistilBERT and MiniLM spend days on
# Wikipedia and books instead, so a row that says "MiniLM beats PKD" compares methods *and* data *and* compute. In
# MiniLM's ablation, matching **every layer** is worse than matching the last: more of the teacher is not always better.
#
# ## What the sources do not tell you
#
# > - **The survey's figure** leaves out DistilBERT's cosine loss and TinyBERT's order of stages, and counts PKD twice.
# > - **PKD's sum is a mean.** The released code averages the patient loss over the hidden width and its soft loss over the
# >   classes, so weights from its scripts cannot be put into the paper's formula.
# > - **PKD's three-layer students** are trained with `Last` (teacher layers 10 and 11) in the released script; for `Skip`
# >   at that depth it has nothing.
# > - **Theseus freezes by leaving out.** The released code keeps the predecessor's weights out of the optimizer but in the
# >   gradient clipping: their gradients shrink the successor's steps. Here they have none.
# > - **Two DistilBERTs.** Theseus and MiniLM quote DistilBERT's third version (76.5 on average); its fourth has much better
# >   numbers (77.0 over *nine* tasks). Averages over other tasks cannot be compared.
# > - **MiniLM's best student** (12 × 384, 83.1) has another, unnamed teacher than the six-layer ones.
#
# ## What held, and what did not
#
# > - *The other five models of the figure also pass on inner layers.* **Three of five.** Theseus compares nothing, MiniLM
# >   one layer's relations, two panels are one paper, and DistilBERT looks inside too.
# > - *Inner layers help beyond the answers.* **Published: yes**, PKD by 0.7 and
# >   Theseus by 2.7 points over soft + hard. **Here: no.** With equal weights Skip's states add 0.3 points (−0.5 to 1.1) and
# >   −0.4 (−1.2 to 0.4); Theseus cannot be told from training alone.
# > - *Each method makes the student like the teacher in what it compares.* **Yes**, within a few dozen steps, as the table
# >   of distances shows. That this makes it better is another claim.
# > - *Theseus needs no distance at all.* **Yes**, it learns from labels alone; that its layers then fit between the
# >   teacher's could not be seen in so few steps.

# %% [markdown]
# ## A recipe of your own
#
# A new method is a few lines. Suppose you like MiniLM's relations and PKD's patience, one after the other:

# %% name="own-recipe"
mine = Recipe(
    "relations, then patience",
    teacher_layers=6,
    student_layers=3,
    stages=(
        Stage("relations", minilm(6, 3).stages[0].terms),
        Stage("patience", (Term("soft", temperature=2.0), Term("patient", weight=0.5, layers=((1, 2), (2, 4))))),
    ),
    start=match_layers("distilbert-init", 6, 3),
)
show(
    recipe_panel(mine),
    alt="A panel with two stages: relations of attention and values between the last layers, then soft targets at "
    "temperature 2 with half the weight on [CLS] states 1 and 2; the student begins as layers 1, 3 and 5.",
    caption="`distill(student, teacher, mine, texts, config)` would carry it out; in the exercise you write yours.",
)

# %% [markdown]
# ## Questions
#
# <details><summary>1. A student layer's hidden state 2 meets the teacher's 6 (12 → 4, uniform). Which attention maps meet there?</summary>
#
# The student's attention 1 and the teacher's attention 5, counted from 0: the layers out of which hidden states 2 and 6
# come.
# </details>
#
# <details><summary>2. Why does PKD not compare the last layer?</summary>
#
# The answer is made of it, and the soft targets compare answers already. What is left is the way there.
# </details>
#
# <details><summary>3. Your PKD run does nothing with β = 500 taken from the released script. Or it ruins everything. Which, and why?</summary>
#
# With the sum of the formula 500 is 768 times too much at width 768: it drowns the other losses. Conversely, a β of 0.65
# in the released code is next to nothing.
# </details>
#
# <details><summary>4. Theseus: why not simply train with p = 1 from the start?</summary>
#
# Then no predecessor layer ever takes part: it is fine-tuning the first layers on labels. The mixture is what teaches a
# layer to fit; p must only end at 1, because the mixture is not what is used.
# </details>
#
# <details><summary>5. The teacher has 12 heads, your student 8. Which of the six methods can be used as they are?</summary>
#
# DistilBERT, PKD and Theseus as far as heads go (they need equal widths for other reasons). TinyBERT and MiniLM compare
# head by head and refuse; MiniLM v2 splits anew.
# </details>
#
# <details><summary>6. A paper's method wins over PKD by a point. What do you look for first?</summary>
#
# The same start, the same texts, the same compute; the student trained alone; and the spread over seeds.
# </details>
#
# **Next:** the [exercises of this unit](../exercises/08_inner_layers.ipynb); then the method that uses nearly everything at
# once, in [09 · TinyBERT](09_tinybert.ipynb).
