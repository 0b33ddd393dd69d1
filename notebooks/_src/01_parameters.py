# %% [markdown] name="title"
# # 01 · Where the parameters are
#
# **You will be able to** say for any encoder of BERT's family where its parameters are, count each part by hand, decide
# when a factorised word table pays, and test on real weights whether a model needs the full width of its words.
#
# **About 45 minutes, and as much for the exercises.** Needs [00 · Measuring honestly](00_measuring.ipynb). The notebook
# runs in about two minutes; where nothing is trained, your numbers will be
# those below to the digit.

# %% name="imports"
import copy
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from coursekit.compress import factorize_embeddings
from coursekit.course import by_profile
from coursekit.course.params import preset_parameters
from coursekit.data import length_batches, pad
from coursekit.measure import (
    bootstrap_interval,
    break_even_embedding_size,
    count_parameters,
    embedding_parameters,
    paired_bootstrap,
    stored_bytes,
)
from coursekit.models import MaskedLM, SequenceClassifier, SharingPlan, build, preset
from coursekit.train import PROFILES, classification_loss, load_teacher, pretrained_encoder, text_batches, train
from coursekit.viz import explore, show, use_style
from coursekit.viz.embeddings import (
    factorised_table,
    relative_quality,
    safe_picture,
    spectrum,
    stacked_parts,
    widths_against_quality,
)

use_style()

# %% [markdown]
# ## The question
#
# MiniLM-L6 is a small encoder: 6 layers, hidden size 384, 12 heads. It has **22.7 million** parameters.
#
# Before you read on, write down a guess. What share of them is in attention, what share in the feed-forward networks
# (FFN), and what share somewhere else?

# %% name="count-minilm" tags=["nbval-check-output"]
minilm = count_parameters(build("minilm-l6-h384", device="meta"))
print(minilm)

# %% [markdown]
# More than half of the model is `embeddings.word`: a lookup table with one row for each of 30,522 words and word
# pieces. It multiplies nothing. (`device="meta"` builds shapes without memory, enough for counting.)
#
# The same cut through four published models:

# %% name="figure-parts"
NAMES = {"BERT-base": "bert-base", "DistilBERT": "distilbert-base", "MiniLM-L6": "minilm-l6-h384"}
NAMES |= {"ALBERT-base": "albert-base"}
parts = {name: count_parameters(build(model, device="meta")).by_component for name, model in NAMES.items()}
show(
    stacked_parts(parts),
    alt="Stacked bars for four models, left in millions, right as shares. BERT-base has 109.5 million parameters, of "
    "which the word table is 21 %; DistilBERT 66.4 million, 35 %; MiniLM-L6 22.7 million, 52 %; ALBERT-base 11.7 "
    "million, 33 %. The rest is mostly FFN, about twice as much as attention.",
    caption="From BERT-base to MiniLM-L6 the models shrink and the table's share grows; ALBERT narrowed its table too.",
)

# %% [markdown]
# Why does the share grow? A layer has about $12H^2$ parameters (we count them below), the table $V H$. So it outweighs
# all $L$ layers together as soon as $V > 12\,L\,H$, and vocabularies do not shrink when models do:

# %% name="rule-of-thumb" tags=["nbval-check-output"]
for name in ("BERT-base", "DistilBERT", "MiniLM-L6"):
    config = preset(NAMES[name])
    border = 12 * config.num_layers * config.hidden_size
    print(f"{name:12} V = {config.vocab_size:,}   12·L·H = {border:>7,}")

# %% [markdown]
# So this unit looks at the table before any layer: what it costs, and whether it must be as wide as the model.

# %% [markdown]
# ## A narrower table, by hand
#
# Call the number of words $V$, the hidden size $H$ (the survey by Xu and McAuley, 2022, writes $d_m$) and the width of
# a word's row $E$ ($d_v$). A usual table has $E = H$: every word is stored as wide as the layers need it. A
# **factorised** table stores narrow rows and one map that widens them all:
#
# $$W \approx A\,B, \qquad A \in \mathbb{R}^{V \times E},\quad B \in \mathbb{R}^{E \times H}, \qquad
# V H \;\longrightarrow\; V E + E H .$$
#
# With $V = 100$, $H = 10$, $E = 5$: $100 \cdot 10 = 1000$ numbers become $100 \cdot 5 + 5 \cdot 10 = 550$. The same in
# code:

# %% name="toy-count" tags=["nbval-check-output"]
V, H, E = 100, 10, 5
torch.manual_seed(0)
whole = nn.Embedding(V, H)
narrow = nn.Sequential(nn.Embedding(V, E), nn.Linear(E, H, bias=False))
ids = torch.tensor([[3, 14, 15], [92, 65, 35]])  # two sentences of three words

for name, model in (("whole", whole), ("factorised", narrow)):
    print(
        f"{name:10} {count_parameters(model).total:>5,} parameters, ids {tuple(ids.shape)} -> {tuple(model(ids).shape)}"
    )
print("by formula ", V * H, V * E + E * H)

# %% [markdown]
# Both take ids and return vectors of size $H$; nothing after them needs to know. The price: the product $AB$ is a
# $100 \times 10$ table whose rank is at most 5. All hundred words lie in a five-dimensional part of the ten dimensions.

# %% name="toy-rank" tags=["nbval-check-output"]
product = narrow[0].weight @ narrow[1].weight.T  # nn.Linear stores out × in, hence the transpose
print(tuple(product.shape), "rank", torch.linalg.matrix_rank(product).item())

# %% [markdown]
# ### When does it pay?
#
# $V E + E H < V H$ holds exactly for
#
# $$E < \frac{V H}{V + H}.$$
#
# Move the sliders: the map is cheap as long as $H$ is small beside $V$, and the break-even comes close to $H$.

# %% name="slider-width"
explore(
    factorised_table,
    vocabulary=(10, 500, 10),
    hidden=(2, 40, 2),
    width=(1, 40, 1),
    static={"vocabulary": 100, "hidden": 10, "width": 5},
    alt="Left, drawn to scale: a 100×10 table beside its factors, a 100×5 table and a small 5×10 map. Right: the "
    "numbers to store rise in a straight line with the width E, from 110 at 1 to 1,100 at 10; they cross the "
    "whole table's 1,000 at 9.09; the point at E = 5 lies at 550.",
    caption="Half the width is little more than half the numbers; the map adds the rest, and eats the gain above 9.09.",
)

# %% name="break-even" tags=["nbval-check-output"]
for V, H in ((100, 10), (30_522, 384), (30_522, 768), (30_000, 768)):
    print(f"V = {V:>6,}  H = {H:>3}  break-even at E = {break_even_embedding_size(V, H):.2f}")

# %% [markdown]
# With a real vocabulary nearly every narrowing pays: in MiniLM any $E$ up to 379 of 384.
#
# A word on names. The survey introduces the count of 550 with SAFE, the *self-attentive factorised embedding* of
# Subformer (Reid et al., 2021). But 550 is the plain linear factorisation. SAFE puts a small transformer block between
# table and model: attention at width $E$, then an FFN whose second matrix widens to $H$. Its matrices are those of the
# picture, $V E + 4E^2 + E^2 + E H = V E + 5E^2 + E H$, which is the paper's formula (appendix A).

# %% name="figure-safe"
show(
    safe_picture(vocabulary=100, hidden=10, width=5),
    alt="A word's way through SAFE, from left to right. Word table, 100×5, 500 weights; a position is added. Attention, "
    "four 5×5 matrices Q, K, V and O, 100 weights; a residual runs around it, and a LayerNorm follows. First FFN "
    "matrix, 5×5 and ReLU, 25 weights. Second FFN matrix, 5×10, 50 weights, without a residual; a LayerNorm follows. "
    "The vector has 5 numbers up to the last matrix and 10 after it.",
    caption="500 for the words, 100 + 25 for looking around at width 5, and 50 for the way to width 10.",
)

# %% [markdown]
# Like the formula, the picture counts matrices; biases and LayerNorms of a module come on top. Unit 02 builds it.

# %% name="toy-kinds" tags=["nbval-check-output"]
for kind in ("full", "linear", "safe"):
    print(f"{kind:7} {embedding_parameters(100, 10, 5, kind):>5,}")

# %% [markdown]
# ## BERT-base, piece by piece
#
# Now real models, with nothing but multiplication. BERT-base has $V = 30522$ words, $P = 512$ positions, $S = 2$ token
# types (first or second sentence), $H = 768$, $F = 3072$ and $L = 12$ layers.
#
# **Embeddings.** Three tables, then a LayerNorm: a scale and a shift for each dimension, $2H$.

# %% name="bert-embeddings" tags=["nbval-check-output"]
V, P, S, H, F, L = 30_522, 512, 2, 768, 3_072, 12
words, positions, types, norm = V * H, P * H, S * H, 2 * H
embeddings = words + positions + types + norm
print(f"{words:,} + {positions:,} + {types:,} + {norm:,} = {embeddings:,}")

# %% [markdown]
# **One layer.** Attention has four $H \times H$ matrices: query, key, value, output, each with a bias. However many
# heads there are, they only divide $H$ among them. The FFN widens to $F$ and comes back. A LayerNorm follows each.

# %% name="bert-layer" tags=["nbval-check-output"]
attention = 4 * (H * H + H)
ffn = (H * F + F) + (F * H + H)
layer = attention + ffn + 2 * (2 * H)
print(f"attention {attention:,} + FFN {ffn:,} + LayerNorms {2 * 2 * H:,} = {layer:,}")
print(f"{L} layers: {L * layer:,};  12·H² would be {12 * H * H:,} a layer")

# %% [markdown]
# **Pooler.** One more $H \times H$ matrix with bias, on the first token's state; then the sum, against a model that is
# built:

# %% name="bert-total" tags=["nbval-check-output"]
pooler = H * H + H
bert_base = embeddings + L * layer + pooler
assert bert_base == count_parameters(build("bert-base", device="meta")).total
print(f"{embeddings:,} + {L * layer:,} + {pooler:,} = {bert_base:,}")

# %% [markdown]
# **ALBERT-base** changes three things: 30,000 words; $E = 128$, at which words, positions, types and their LayerNorm
# are all stored, with a map to $H$ *with* bias; and one layer, used twelve times, stored once.

# %% name="albert-total" tags=["nbval-check-output"]
V, E = 30_000, 128
albert_embeddings, albert_map = (V + P + S + 2) * E, E * H + H
albert_base = albert_embeddings + albert_map + 1 * layer + pooler
assert albert_base == count_parameters(build("albert-base", device="meta")).total
print(f"{albert_embeddings:,} + {albert_map:,} + {layer:,} + {pooler:,} = {albert_base:,}")

# %% [markdown]
# **MiniLM-L6** is BERT at half the width and half the depth. A layer shrinks with the square of the width, the table
# only in proportion, and that is how it came to be half of the model.

# %% name="minilm-total" tags=["nbval-check-output"]
V, H, F, L = 30_522, 384, 1_536, 6
embeddings = (V + P + S + 2) * H
layer = 4 * (H * H + H) + (H * F + F) + (F * H + H) + 4 * H
pooler = H * H + H
assert embeddings + L * layer + pooler == minilm.total
print(f"{embeddings:,} + {L} · {layer:,} + {pooler:,} = {minilm.total:,}")

# %% [markdown]
# ### Beside what was printed
#
# The course builds every published shape and counts it. A printed figure is rounded, and seldom says what it counts.

# %% name="published-totals" tags=["nbval-check-output"]
ENCODERS = ("bert-base", "bert-large", "albert-base", "albert-large", "albert-xlarge", "albert-xxlarge")
ENCODERS += ("distilbert-base", "tinybert-4", "tinybert-6", "minilm-l12-h384", "minilm-l6-h384")
for model in preset_parameters(ENCODERS):
    print(f"{model.name:16} {model.total:>11,}  printed {model.published:>5}: {model.counts}")

# %% [markdown]
# ALBERT's Table 3 varies exactly what this unit is about: the width $E$ of ALBERT-base, with layers of its own at every
# depth and with one shared layer. The printed millions beside ours, without and with the pooler of 590,592:

# %% name="albert-table-3" tags=["nbval-check-output"]
PRINTED = {64: (87, 10), 128: (89, 12), 256: (93, 16), 768: (108, 31)}
base = preset("albert-base").replace(pooler=False)
print("          own layers                shared layer\n  E  printed without   with   printed without   with")
for E, printed in PRINTED.items():
    embedding = {"embedding": "factorised", "embedding_size": E}
    if E == base.hidden_size:
        embedding = {"embedding": "full", "embedding_size": None}  # no map is needed
    line = f"{E:>3}"
    for plan, millions in zip((SharingPlan.none(12), SharingPlan.all(12)), printed, strict=True):
        total = count_parameters(build(base.replace(sharing=plan, **embedding), device="meta")).total
        line += f"  {millions:>7} {total / 1e6:7.2f} {(total + 590_592) / 1e6:6.2f}"
    print(line)

# %% [markdown]
# > **What the sources do not tell you**
# >
# > - **One model, four sizes.** BERT-base is 110M in its own paper, 109M in TinyBERT's and MiniLM's tables, 108M in
# >   ALBERT's. Exactly: 109,482,240 with pooler, 108,891,648 without.
# > - **Two ways of counting in one table.** In ALBERT's Table 3 the rows with shared layers match with the pooler
# >   (9.68 is printed as 10), those with layers of their own without it (or cut rather than rounded). A difference
# >   between the two halves therefore mixes two things.
# > - **ALBERT-xxlarge** is 235M in Table 1 and 233M in the text of the same paper; its shape gives 222.6M with pooler.
# > - **TinyBERT-4's 14.5M** is the class with both pre-training heads; what is fine-tuned has 14.35M and a classifier.
# > - **DistilBERT's "40 % smaller"** holds against 109.5M: 66.4M is 60.6 % of it. It has neither pooler nor token
# >   types.
# > - **MiniLM's "23.4M embeddings"** (for a width of 768, its Table 4) are the words alone: 30,522 · 768. Positions,
# >   types and LayerNorm come on top.
# >
# > None of this is wrong; it is unsaid. When you compare two sizes, count both yourself.

# %% [markdown]
# ## Must a word be as wide as the model?
#
# The argument for a narrow table: a row of it is the same in every sentence. Whether "bank" is a river's or a savings
# bank is decided in the layers, and it is their states that need room for context (ALBERT, Lan et al. 2020,
# section 3.1). So words could do with less. That is an argument, not evidence. We have real words to ask.
#
# Below is the word table of all-MiniLM-L6-v2, as trained: 30,522 rows of 384 numbers. Its **singular values** say how
# much of it lies along each direction; squared and added up, they give the share of its *energy* $\lVert W \rVert_F^2$
# that the best $E$ directions hold. For comparison, a table of the same size and the same variance without any
# structure.

# %% name="real-table" tags=["nbval-check-output"]
encoder = pretrained_encoder()
table = encoder.embeddings.word.weight.detach().double()
noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double) * table.std()
singular, singular_noise = torch.linalg.svdvals(table), torch.linalg.svdvals(noise)
for E in (64, 128, 256, 384):
    real, flat = ((s[:E].square().sum() / s.square().sum()).item() for s in (singular, singular_noise))
    print(f"E = {E}: {real:.0%} of the energy, random table {flat:.0%}")

# %% name="figure-spectrum"
V, H = table.shape
show(
    spectrum(singular, singular_noise, break_even_embedding_size(V, H)),
    alt="Left: the singular values of the real table fall from 29 to 2, steeply over the first twenty, then slowly; "
    "those of the random table lie flat between 11 and 9. Right: the energy kept by width; the real curve is "
    "above the random one, 66 % against 38 % at width 128, and both need nearly all widths to reach 100 %.",
    caption="The real table has structure, but no sharp corner: there is no small width after which little is left.",
)

# %% [markdown]
# ### Factorising it
#
# The best factors of a given width come from the singular value decomposition $W = U \Sigma R^\top$ (Eckart and Young,
# 1936): no table of rank $E$ is nearer to $W$ than the one that keeps the $E$ largest singular values, and its
# distance is exactly what was dropped, $\lVert W - AB \rVert_F = \sqrt{\sigma_{E+1}^2 + \dots +
# \sigma_H^2}$. With the first $E$ right singular vectors $R_E$ as columns, the narrow table is $A = W
# R_E$ and the map $B = R_E^\top$:

# %% name="eckart-young" tags=["nbval-check-output"]
right = torch.linalg.svd(table, full_matrices=False).Vh
for E in (320, 128, 32):
    A, B = table @ right[:E].T, right[:E]  # (V, E) and (E, H)
    error, tail = (table - A @ B).norm(), singular[E:].square().sum().sqrt()
    assert torch.isclose(error, tail)
    print(f"E = {E:>3}: ‖W - AB‖ = {error:.2f} = √(sum of dropped σ²), {error / table.norm():.0%} of ‖W‖")

# %% [markdown]
# `coursekit.compress.factorize_embeddings` does this inside an encoder: it returns a copy whose table is two factors,
# everything else unchanged. What it saves:

# %% name="stored" tags=["nbval-check-output"]
WIDTHS = (384, 352, 320, 256, 192, 128, 64, 32)
print(f"whole table: {V * H:>12,} numbers, model {stored_bytes(encoder) / 1e6:.1f} MB")
for E in WIDTHS:
    narrow = factorize_embeddings(encoder, E)
    count = embedding_parameters(V, H, E, kind="linear")
    print(f"E = {E:>3}: {count / (V * H):>4.0%} {count:>12,} numbers, model {stored_bytes(narrow) / 1e6:.1f} MB")

# %% [markdown]
# At $E = 384$ the factors are larger than the table; below 379 they save bytes. (Time is not saved: a lookup costs
# nearly nothing, and the map is one product more.)
#
# ### First question: do sentences still mean the same?
#
# all-MiniLM-L6-v2 was trained so that the mean of its last states places similar sentences close together.

# %% name="teacher"
teacher = load_teacher("quick")  # MiniLM fine-tuned on 2,000 snippets of film reviews; made on first use, then kept
tokenizer, task = teacher.tokenizer, teacher.task


# %% name="sentence-vectors" tags=["nbval-check-output"]
def sentence_vectors(encoder, texts):
    """(N, H): the mean of the last states over the real tokens of each text."""
    ids = tokenizer.encode(texts)
    vectors = torch.empty(len(ids), encoder.config.hidden_size)
    with torch.inference_mode():
        for rows in length_batches([len(sequence) for sequence in ids], batch_size=32):
            batch = pad([ids[row] for row in rows], tokenizer.pad_id)
            states, real = encoder(*batch).last_hidden, batch.attention_mask[..., None]
            vectors[rows] = (states * real).sum(1) / real.sum(1)
    return nn.functional.normalize(vectors, dim=-1)


GUITAR = ["A man is playing a guitar.", "Someone is strumming an instrument.", "The stock market fell sharply today."]
man, someone, market = sentence_vectors(encoder, GUITAR)
print(f"guitar and strumming {man @ someone:.3f}, guitar and stock market {man @ market:.3f}")

# %% [markdown]
# Three sentences are an example, not a measurement. So: 300 real review snippets in ten groups of 30; in each group
# the cosines of all 435 pairs, with the whole table and with the narrow one; and Spearman's rank correlation between
# the two. 1 means that every pair keeps its place in the order. The ten groups give the interval.

# %% name="agreement"
snippets = task.validation.take(300).texts
pairs = np.triu_indices(30, 1)


def cosines(encoder, texts):
    """(10, 435): all pairs within each of ten groups of 30 texts."""
    groups = sentence_vectors(encoder, texts).view(10, 30, -1)
    return (groups @ groups.mT).numpy()[:, *pairs]


def agreement(narrow, texts, reference):
    """Mean rank correlation with the whole table's cosines, and the ends of its 95 % interval over the groups."""
    values = [spearmanr(*both).statistic for both in zip(reference, cosines(narrow, texts), strict=True)]
    margin = 2.26 * np.std(values, ddof=1) / np.sqrt(10)  # Student's t with 9 degrees of freedom
    return np.mean(values), np.mean(values) - margin, np.mean(values) + margin


reference = cosines(encoder, snippets)

# %% [markdown]
# ### Second question: does a task still work?
#
# The same for the classifier of film reviews, fine-tuned with the whole table: put the narrow table in, train nothing,
# and count right answers on the 776 validation snippets. No film in them was seen in training.

# %% name="right-answers"
labels = torch.tensor(task.validation.labels)
majority = max(labels.float().mean().item(), 1 - labels.float().mean().item())


def with_table(width, weights=None):
    """The fine-tuned classifier with its word table factorised."""
    model = copy.deepcopy(teacher.model)
    model.encoder = factorize_embeddings(model.encoder, width, weights)
    return model


def right_answers(model, split):
    """(N,) booleans."""
    return replace(teacher, model=model).predict(split.texts).argmax(-1).numpy() == np.array(split.labels)


whole_right = right_answers(teacher.model, task.validation)
print(f"whole table {whole_right.mean():.1%}, always the larger class {majority:.1%}")

# %% name="plain-widths"
similar, accurate, kept = {}, {}, {}
EQUAL, BY_USE = "every word counts the same", "words count by their use"


def try_widths(name, weights=None, widths=WIDTHS):
    """Measure each width in both ways and print a line for it."""
    similar[name], accurate[name] = [], []
    for width in widths:
        r, *ends = agreement(factorize_embeddings(encoder, width, weights), snippets, reference)
        right = kept[name, width] = right_answers(with_table(width, weights), task.validation)
        share, (low, high) = right.mean(), bootstrap_interval(right, seed=0)
        similar[name].append((r, *ends))
        accurate[name].append((share, low, high))
        print(f"E = {width:>3}: agreement {r:.3f}, accuracy {share:.1%} ({low:.1%} to {high:.1%})")


try_widths(EQUAL)

# %% name="figure-plain"
break_even = break_even_embedding_size(V, H)
show(
    widths_against_quality(WIDTHS, similar, accurate, break_even=break_even, majority=majority),
    alt="Two falling curves with intervals, from width 384 down to 32. Left: agreement of similarities falls from 1.0"
    " without a plateau, to about 0.6 at width 128 and 0.4 at 32. Right: accuracy falls from about 80 % to below "
    "70 % at 128, and about as low as always answering the larger class, 59 %, at 64. Break-even, 379, is far to "
    "the right.",
    caption="No free width: agreement falls from where the factors begin to save bytes, and accuracy soon after.",
)

# %% name="assert-plain"
at = {width: number for number, width in enumerate(WIDTHS)}
# Agreement involves no training, other machines hardly differ. The teacher's accuracy varies by a point or two.
assert similar[EQUAL][at[384]][0] > 0.999  # at full width the factors are the table
assert 0.85 < similar[EQUAL][at[320]][0] < 0.97
assert similar[EQUAL][at[128]][0] < 0.75
assert accurate[EQUAL][at[384]][0] - accurate[EQUAL][at[64]][0] > 0.08

# %% [markdown]
# That is a clear no. This trained table is not of low rank in any useful sense: to keep the similarities nearly as they
# were, one has to keep nearly the whole width, and then nothing is saved. (At the narrow end accuracy is not even
# monotone, and can fall below the larger class: fed states it has never seen, the classifier leans to one label, and to
# which one is arbitrary.)
#
# ### Or was it the wrong error?
#
# Look at what was minimised: the distance of *all* rows, each row counting the same. How often does a model meet each?

# %% name="word-use" tags=["nbval-check-output"]
tokens = torch.tensor([token for text in tokenizer.encode(task.train.texts) for token in text])
use = torch.bincount(tokens, minlength=V).double()  # training texts only: validation and test stay unseen
top = use.sort(descending=True).values
print(f"{len(tokens):,} tokens; {(use > 0).sum():,} of {V:,} words occur at all")
print(f"the 1,000 most frequent make up {top[:1000].sum() / use.sum():.0%} of the text")

# %% [markdown]
# More than half of the rows never occur here, and a thirtieth of them makes up most of the text. The decomposition
# spent its directions on keeping rows nobody reads. Weigh each row by its number of uses $n_i$ instead:
#
# $$\min_{\hat W \text{ of rank } E}\; \sum_i n_i \,\lVert W_i - \hat W_i \rVert^2 .$$
#
# The solution is as easy: the rows are scaled by $\sqrt{n_i}$ *to find the directions* $R_E$, and then the unscaled
# table is projected on them, $A = W R_E$. That is the third argument of `factorize_embeddings`. What each choice
# loses, counted over the vocabulary and over the running text:


# %% name="two-errors" tags=["nbval-check-output"]
def lost(width, weights):
    """Share of the energy that a width loses: over the vocabulary, and over the running text."""
    narrow = factorize_embeddings(encoder, width, weights).embeddings
    rows = (table - (narrow.word.weight @ narrow.map.weight.T).detach()).square().sum(1)
    return [((rows * n).sum() / (table.square().sum(1) * n).sum()).item() for n in (torch.ones(V), use)]


print("          equal words          by use\n  E   vocabulary  text   vocabulary  text")
for width in (256, 128, 64):
    shares = [*lost(width, None), *lost(width, use)]
    print(f"{width:>3}  " + " ".join(f"{share:>{size}.0%}" for share, size in zip(shares, (11, 5, 12, 5), strict=True)))

# %% name="use-widths"
try_widths(BY_USE, use)

# %% name="figure-use"
show(
    widths_against_quality(WIDTHS, similar, accurate, break_even=break_even, majority=majority),
    alt="The same two panels with a second curve each, for words weighted by use. Its agreement stays above 0.9 down "
    "to width 128, where the first curve is near 0.6; its accuracy stays within the noise of the whole table's "
    "down to about 64 to 128, where the first curve has lost ten points and more.",
    caption="The same number of bytes, another error: weighted by use, a third of the width is enough for this task.",
)

# %% name="assert-use"
assert similar[BY_USE][at[128]][0] > similar[EQUAL][at[128]][0] + 0.15  # seen: about 0.3; no training involved
assert accurate[BY_USE][at[384]][0] - accurate[BY_USE][at[128]][0] < 0.04  # noise of 776 snippets: 1.4 points
assert accurate[BY_USE][at[64]][0] - accurate[EQUAL][at[64]][0] > 0.05

# %% [markdown]
# ### Where does the gain come from?
#
# Two suspects. The words of film reviews; and `[CLS]` and `[SEP]`, two rows of 30,522 that stand in *every* text. So a
# third weighting: all words equal, but those two as often as they are used. And a third judge, to see who pays:
# similarities of 300 words that never occur in the training texts, each alone between `[CLS]` and `[SEP]`.

# %% name="special-widths"
SPECIAL = "only [CLS] and [SEP] count more"
special = torch.ones(V).double()
special[[tokenizer.cls_id, tokenizer.sep_id]] = use[[tokenizer.cls_id, tokenizer.sep_id]]
try_widths(SPECIAL, special, (128, 64))

# %% name="unused-words"
names = tokenizer.tokens(range(V))
unused = [word for word, n in zip(names, use, strict=True) if n == 0 and word.isascii() and word.isalpha()]
words = np.random.default_rng(0).choice(unused, 300, replace=False).tolist()
words_reference = cosines(encoder, words)

WEIGHTS = {EQUAL: None, SPECIAL: special, BY_USE: use}
print("unused words, for example:", *words[:8])
unseen = {}
for name, weights in WEIGHTS.items():
    for width in (128, 64):
        unseen[name, width], *_ = agreement(factorize_embeddings(encoder, width, weights), words, words_reference)
    print(f"{name:32} agreement {unseen[name, 128]:.3f} at E = 128, {unseen[name, 64]:.3f} at E = 64")

# %% name="assert-who-pays"
of_snippets = similar[EQUAL][at[128]][0], similar[SPECIAL][0][0], similar[BY_USE][at[128]][0]
assert of_snippets[0] + 0.03 < of_snippets[1] < of_snippets[2] - 0.1  # two rows help, the other frequent ones more
assert unseen[SPECIAL, 128] > unseen[BY_USE, 128] + 0.03  # words that are not in use pay

# %% [markdown]
# Two rows alone repair a good part: as long as they are wrong, every state of every text is. The other frequent words
# do the rest for these snippets, and the unused words pay: at $E = 128$ they are kept clearly better by the middle
# weighting. A table narrowed for film reviews is a table for film reviews.
#
# Weighing by what a model really sees returns in unit 04, for every matrix of a model. Leaving unread rows out
# altogether is pruning, unit 05.
#
# ### Can training repair it?
#
# So far nothing was trained after the cut. Now take the plain factorisation at $E = 64$, the one that lost most, and
# fine-tune the encoder *after* factorising, with exactly the recipe of the whole one: the same 2,000 texts, order,
# steps and seed. (In both the word rows stay frozen; here the map, 64 × 384, learns.)

# %% name="factorise-then-train"
recipe = PROFILES["quick"]
RETRAINED = by_profile(quick=(64,), full=(32, 64, 128, 256))
texts = text_batches(task.train.take(recipe.limit), tokenizer, batch_size=recipe.batch_size, seed=recipe.config.seed)
gains = {}
for width in RETRAINED:
    torch.manual_seed(recipe.config.seed)
    model = SequenceClassifier(factorize_embeddings(encoder, width), len(task.labels))
    model.encoder.embeddings.word.requires_grad_(False)
    train(model, texts, classification_loss, recipe.config, title=f"E = {width}")
    before, after = kept[EQUAL, width], right_answers(model, task.validation)
    gain = gains[width] = paired_bootstrap(after, before, seed=0)
    print(f"E = {width}: cut after fine-tuning {before.mean():.1%}, cut before it {after.mean():.1%}")
    print(f"gain {gain.difference:+.1%}, 95 % interval {gain.low:+.1%} to {gain.high:+.1%}")
    print(f"for comparison, cut by use after fine-tuning: {kept[BY_USE, width].mean():.1%}")

# %% name="assert-trained"
assert gains[64].difference > 0.02  # seen: 18 points at E = 64; the layers adapt to what they are given

# %% [markdown]
# The layers adapt and win back much of what was lost: fine-tuning after a factorisation, not before it, costs nothing
# more. Compare the last line: the better error, without any training. (One training, one seed: the interval is over
# texts; how much the result varies between seeds is not measured here.)
#
# ### What ALBERT reported
#
# ALBERT did not cut a trained table: it *trained* narrow from the start. Its Table 3 (published; average over five
# tasks):

# %% name="figure-albert"
ALBERT_E = np.array([64, 128, 256, 768]) / 768
ours = np.array(WIDTHS) / H
accuracies = {name: [share for share, *_ in rows] for name, rows in accurate.items()}
show(
    relative_quality(
        {
            "MiniLM cut, equal words (measured)": (ours, accuracies[EQUAL]),
            "MiniLM cut, by use (measured)": (ours, accuracies[BY_USE]),
            "trained narrow, layers shared (published)": (ALBERT_E, [79.0, 80.1, 79.6, 79.8]),
            "trained narrow, own layers (published)": (ALBERT_E, [81.3, 81.7, 81.8, 82.3]),
        }
    ),
    alt="Quality in per cent of that at full width, against the width in per cent of the hidden size. The two "
    "published curves of models trained narrow stay between 98.8 and 100.4 % from 8 % of the width on. The MiniLM"
    " table cut with equal words falls to about 70 %; cut by use it stays near 100 % down to a third of the width"
    " or less.",
    caption="Trained narrow, a model hardly notices; cut afterwards, it depends on which words the cut protects.",
)

# %% [markdown]
# The four curves come from different models and tasks, so compare shapes, not heights. With layers of its own ALBERT
# loses 1.0 point of its average from $E = 768$ to $64$; with shared layers $E = 128$ is even the best, and became the
# default.
#
# > **What holds**
# >
# > - *Word embeddings carry no context yet, so they can be narrower than the hidden state.* **For a model trained that
# >   way, yes** (published), at a sixth of the width and less. A table trained wide uses its width; that it *could*
# >   have been narrow does not make it so.
# > - *Factorised embeddings do not cost accuracy.* **They cost a little, depending on the width.** Published: 0.6
# >   points of ALBERT's average at $E = 128$ with layers of its own (82.3 to 81.7); 1.7 BLEU in Subformer's Table 1
# >   for a linear $E = 128$ (27.7 to 26.0), 0.6 for $E = 256$. Measured here: much for a plain cut; for one by use
# >   nothing that 776 snippets can show down to about a third of the width, on one task.
#
# ### Choose, then test once
#
# A width has to be chosen without the test set. The rule, fixed before looking: of all untrained candidates above, the
# one with the fewest bytes whose validation accuracy is at most one point below the whole table's. Then the test set is
# used for the first and only time, for the chosen one and the original, on the same snippets.

# %% name="choose-and-test"
good = [key for key, right in kept.items() if right.mean() >= whole_right.mean() - 0.01]
name, width = min(good, key=lambda key: key[1])
chosen = with_table(width, WEIGHTS[name])
print(f"chosen on validation: {name}, E = {width}")
print(f"{stored_bytes(teacher.model) / 1e6:.1f} MB become {stored_bytes(chosen) / 1e6:.1f} MB")

right_whole, right_chosen = (right_answers(model, task.test) for model in (teacher.model, chosen))
result = paired_bootstrap(right_chosen, right_whole, seed=0)
print(f"test: whole {right_whole.mean():.1%}, chosen {right_chosen.mean():.1%}")
print(f"difference {result.difference:+.1%}, 95 % interval {result.low:+.1%} to {result.high:+.1%}")
assert result.difference > -0.05 and stored_bytes(chosen) < 0.9 * stored_bytes(teacher.model)  # the rule allows a point

# %% [markdown]
# Read the interval, not the difference alone: it says which losses these 2,180 snippets cannot exclude. Choosing the
# smallest candidate that passes a noisy bar makes it likely that the chosen one was a little lucky on validation.

# %% [markdown]
# ## The table's second job
#
# A masked language model ends by scoring every word of the vocabulary: a product with a $V \times H$ matrix. BERT and
# its kin use the word table for it, *tied*: one tensor in two places, so it counts once and trains once.

# %% name="masked-lm" tags=["nbval-check-output"]
body = build(preset("bert-base").replace(pooler=False), device="meta")  # the pooler has no part in it
mlm = MaskedLM(body)
for name, count in count_parameters(mlm.head).by_component.items():
    print(f"{name:6} {count:>8,}")
body_total, head_total, total = (count_parameters(part).total for part in (body, mlm.head, mlm))
print(f"body {body_total:,} + head {head_total:,} = {total:,}")
print(f"untied, there would be {30_522 * 768:,} more")

# %% [markdown]
# The head owns a dense layer, a LayerNorm and one bias per word, and no table. 109,514,298 is what others print for
# BERT-base with this head; a sum over a state dict that lists the tied tensor twice gives 23 million more.
#
# Factorise the table of such a model, and input and output shrink together: $H \to E$ by $B^\top$, then $E \to V$ by
# $A^\top$.

# %% name="masked-lm-narrow" tags=["nbval-check-output"]
torch.manual_seed(0)
mlm = MaskedLM(build("minilm-l6-h384")).eval()
ids = torch.randint(1000, 2000, (1, 6))
with torch.inference_mode():
    logits = mlm(ids).logits
    mlm.encoder = factorize_embeddings(mlm.encoder, 384)
    same = torch.allclose(mlm(ids).logits, logits, atol=1e-4)
    mlm.encoder = factorize_embeddings(build("minilm-l6-h384"), 128)
    shape = tuple(mlm(ids).logits.shape)
print(f"same logits at E = 384: {same}; at E = 128: logits {shape}, {count_parameters(mlm).total:,} parameters")

# %% [markdown]
# ## Summary
#
# | | count | remember |
# |---|---|---|
# | word table | $V H$ | over half of MiniLM-L6, a fifth of BERT-base |
# | factorised | $V E + E H$ | pays for $E < VH/(V+H)$; 1000 → 550 for 100, 10, 5 |
# | SAFE | $V E + 5E^2 + E H$ | 675 there: not the same thing |
# | encoder layer | $4(H^2 + H) + 2HF + F + H + 4H$ | about $12H^2$ for $F = 4H$ |
# | BERT-base, ALBERT-base, MiniLM-L6 | 109,482,240, 11,683,584, 22,713,216 | with pooler; say so |
# | tied masked-LM head | $H^2 + H + 2H + V$ | the table counts once |
#
# A trained table cut by plain SVD loses quality at once. Weighted by use it keeps this task with a third of its width.
# Training narrow from the start costs least (published).

# %% [markdown]
# ## Questions
#
# <details><summary>1. MiniLM-L6 at width 768 instead of 384: does the share of its word table rise or fall?</summary>
#
# It falls. The table doubles, the layers grow fourfold: 23.4 of 67.0 million are 35 %, DistilBERT's share.
# </details>
#
# <details><summary>2. Why is the break-even of a real vocabulary so close to H?</summary>
#
# $VH/(V+H) = H / (1 + H/V)$. The map costs $H$ numbers per unit of width, the table $V$; with $V = 30522$ and
# $H = 384$ the map adds 1.3 %.
# </details>
#
# <details><summary>3. At E = 128 the factors are a third of the table. Is the model a third as large, or three times as
# fast?</summary>
#
# Neither. Half of the model is not the table, so 90.9 MB become 59.8 MB; and a lookup costs next to no time, so
# nothing is gained in speed: the map even adds a product.
# </details>
#
# <details><summary>4. At width 384 the factorisation changed nothing. Why is that worth checking?</summary>
#
# It separates two kinds of error: a mistake in the code would show there, while any loss at smaller widths is the
# approximation's own.
# </details>
#
# <details><summary>5. Why must the words be counted on the training texts only?</summary>
#
# The counts decide the table. With counts of validation or test texts, the table would be fitted to the very texts
# that judge it.
# </details>
#
# <details><summary>6. Someone reports "BERT-base, 133M parameters with its masked-LM head". What happened?</summary>
#
# The tied table was counted twice: 109.5 + 23.4 = 133.0 million.
# </details>
#
# **Next:** the [exercises of this unit](../exercises/01_parameters.ipynb), where you write these counts and the
# factorisation yourself; then [02 · Sharing layers](02_sharing.ipynb).
