# %% [markdown] name="title"
# # 02 · Sharing layers
#
# **You will be able to** turn BERT into ALBERT or a Sandwich by one word of a config, say beforehand what that does to
# parameters, bytes, operations and time, recompute the published counts of ALBERT and Subformer, share the layers of a
# model that is already trained, and judge a claim that sharing "costs nothing".
#
# **About 45 minutes, and as much for the exercises.** Needs [01 · Where the parameters are](01_parameters.ipynb). The
# notebook runs in about three minutes; all counts below will be yours to the digit, times and trained numbers nearly.

# %% name="imports"
import copy
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from IPython.display import display
from safetensors.torch import save_file
from torch import nn

from coursekit.compress.pruning import drop_layers
from coursekit.course import by_profile
from coursekit.course.studies import load_study
from coursekit.course.studies.sharing import model_config, settings
from coursekit.course.studies.sharing import run as train_arm
from coursekit.data import fetch
from coursekit.data.reactions import REACTIONS, ReactionTokenizer, mask_each
from coursekit.measure import (
    bootstrap_interval,
    compare,
    count_flops,
    count_parameters,
    machine,
    paired_bootstrap,
    report,
    stored_bytes,
)
from coursekit.models import (
    Capture,
    Encoder,
    MaskedLM,
    SharingPlan,
    TransformerConfig,
    build,
    from_huggingface,
    preset,
    save,
    share_layers,
)
from coursekit.models.presets import subformer
from coursekit.train import (
    TrainConfig,
    classification_loss,
    load_teacher,
    pretrained_encoder,
    text_batches,
    train,
)
from coursekit.viz import explore, show, use_style
from coursekit.viz.embeddings import safe_picture
from coursekit.viz.sharing import plan_card, plan_grids, sandwich_pictures
from coursekit.viz.sharing_results import (
    albert_scores,
    conversions,
    costs,
    depths,
    learning_curves,
    size_and_quality,
    time_by_tokens,
)

use_style()

# %% [markdown]
# ## The question
#
# BERT-base has twelve layers of the same shape, each with 7.1 million weights of its own: 85 of its 109 million. Must
# they be twelve *different* sets of weights? Two papers say no. **ALBERT** (Lan et al., 2020) keeps one set and runs it
# twelve times. **Subformer** (Reid et al., 2021) keeps three: the first layer, the last, and one for all between, a
# *sandwich*.
#
# In `coursekit` this is not another model class but one value in the config: a `SharingPlan` says which stored block
# each depth uses.

# %% name="plan" tags=["nbval-check-output"]
plan = SharingPlan.sandwich(6)
print("attention ", plan.attention)
print("FFN       ", plan.ffn)
print("LayerNorms", plan.norm)

# %% [markdown]
# Six depths, three attention blocks (0, 1, 2), three FFNs, and twelve LayerNorms, two a depth. Now change one word of
# BERT's config and count:


# %% name="one-word" tags=["nbval-check-output"]
def parameters(config):
    """Distinct parameters of an encoder; device="meta" makes shapes without memory."""
    return count_parameters(build(config, device="meta")).total


bert = preset("bert-base")
print(f"BERT          {parameters(bert.replace(sharing=SharingPlan.none(12))):>11,}")
print(f"ALBERT's plan {parameters(bert.replace(sharing=SharingPlan.all(12))):>11,}")
print(f"Sandwich      {parameters(bert.replace(sharing=SharingPlan.sandwich(12))):>11,}")

# %% [markdown]
# Besides these three there are ALBERT's two halves, attention only and FFN only, and Subformer's rivals of the sandwich:

# %% name="figure-plans"
PLANS = {
    "none": SharingPlan.none(12),
    "all": SharingPlan.all(12),
    "every 2": SharingPlan.every(12, 2),
    "sandwich": SharingPlan.sandwich(12),
    "all but last": SharingPlan.all_but_last(12),
    "attention only": SharingPlan.attention_only(12),
    "FFN only": SharingPlan.ffn_only(12),
}
TITLES = {"none": "none\nBERT", "all": "all\nALBERT", "sandwich": "sandwich\nSubformer"}
show(
    plan_grids({TITLES.get(name, name): plan for name, plan in PLANS.items()}),
    alt="Seven grids of 12 depths with columns attention, LayerNorm, FFN, LayerNorm. None: every cell its own "
    "letter, grey. All: one letter per column. Every 2: pairs of depths share attention and FFN, six "
    "letters. Sandwich: the first and last depth are grey, the ten between share one block B. All but last: "
    "eleven share block A. Attention only and FFN only: one column and its LayerNorm share, the other is "
    "private.",
    caption="Depth 1 is at the bottom; equal letter and colour: one stored block; grey: used once.",
)

# %% [markdown]
# Look at the LayerNorm columns. ALBERT shares them too; Subformer's released code leaves each depth its own, and so do
# the plans here that are Subformer's. They are 0.04 % of BERT-base's layers, but they let a shared block work at a
# different scale in every depth. `SharingPlan.all(12, norms="private")` would be the other combination.
#
# ### What does a plan cost?
#
# Choose a plan. Parameters and bytes are those of BERT-base with it; the operations (GFLOP) are for one sentence of 128
# tokens.


# %% name="plan-chooser"
def cost(plan):
    """Million parameters, MB stored and GFLOP of BERT-base with a plan."""
    model = build(bert.replace(sharing=plan), device="meta")
    return count_parameters(model).total / 1e6, stored_bytes(model) / 1e6, count_flops(model, 1, 128) / 1e9


COSTS = {name: cost(plan) for name, plan in PLANS.items()}  # computed once, so that choosing answers at once
UNITS = ("million parameters", "MB stored", "GFLOP")


def card(plan):
    """The plan called `plan`, and its costs beside those of "none"."""
    return plan_card(plan, PLANS[plan], dict(zip(UNITS, zip(COSTS[plan], COSTS["none"], strict=True), strict=True)))


explore(
    card,
    plan=list(PLANS),
    static={"plan": "sandwich"},
    alt="Left the grid of the sandwich. Right three bars relative to no sharing: 45.7 million parameters, 42 %; "
    "182.9 MB stored, 42 %; 22.3 GFLOP, 100 %.",
    caption="Whatever the plan, the third bar stays at 100 %: every depth is computed, whoever owns its weights.",
)

# %% [markdown]
# Keep this picture; the rest of the unit fills it in. First what sharing *is*, to the last digit.

# %% [markdown]
# ## By hand: one matrix used twice
#
# Take one matrix $W$ that is applied twice, and half the squared length of the result as the loss:
#
# $$h = W x, \qquad y = W h, \qquad \mathcal{L} = \tfrac{1}{2} \lVert y \rVert^2, \qquad
# W = \begin{pmatrix} 1 & 2 \\ 0 & 1 \end{pmatrix},\quad x = \begin{pmatrix} 1 \\ 1 \end{pmatrix}.$$
#
# So $h = (3, 1)$ and $y = (5, 1)$. Four numbers are stored and eight multiplications done: stored once, multiplied
# twice.
#
# The gradient. Pretend for a moment that the two uses were two matrices, $y = W_2 W_1 x$. Each has its own gradient,
# what comes back from above times what came in from below:
#
# $$\frac{\partial \mathcal{L}}{\partial W_2} = y\,h^\top = \begin{pmatrix} 15 & 5 \\ 3 & 1 \end{pmatrix}, \qquad
# \frac{\partial \mathcal{L}}{\partial W_1} = (W^\top y)\,x^\top = \begin{pmatrix} 5 & 5 \\ 11 & 11 \end{pmatrix}.$$
#
# They are one matrix, and by the chain rule the gradient of a shared weight is the **sum over its uses**. Autograd
# agrees:

# %% name="toy-gradient" tags=["nbval-check-output"]
W = torch.tensor([[1.0, 2.0], [0.0, 1.0]], requires_grad=True)
x = torch.tensor([1.0, 1.0])
h = W @ x
y = W @ h
(0.5 * y.square().sum()).backward()

first_use = torch.outer(W.T @ y, x).detach()
second_use = torch.outer(y, h).detach()
print("autograd     ", W.grad.tolist())
print("sum over uses", (first_use + second_use).tolist())

# %% [markdown]
# The same on a real encoder: four depths on one block, beside a model with four *equal copies* of it. Equal copies
# compute the same loss; add up their four gradients and you have the shared one.

# %% name="encoder-gradient" tags=["nbval-check-output"]
torch.manual_seed(0)
shape = TransformerConfig(
    vocab_size=1000, hidden_size=64, num_layers=4, num_heads=4, intermediate_size=256, dropout=0.0
)
shared = Encoder(shape.replace(sharing=SharingPlan.all(4)))
copies = Encoder(shape)
copies.load_state_dict(shared.state_dict())  # a state dict names the shared block once per depth

ids, target = torch.randint(1000, (8, 16)), torch.randn(8, 16, 64)
for model in (shared, copies):
    (model(ids).last_hidden - target).square().mean().backward()

own = shared.layers[0].attention.query.weight.grad
four = torch.stack([layer.attention.query.weight.grad for layer in copies.layers])
assert torch.allclose(own, four.sum(0), rtol=1e-3, atol=1e-8)
longest = max(each.norm() for each in four)
print(
    f"shared gradient = sum over the four copies, to rounding; it is {own.norm() / longest:.1f} times the longest of them"
)

# %% [markdown]
# At the start of training the four uses pull nearly the same way, and the shared gradient is several times as long as
# any one of them: one step moves all depths at once. Later they will want different things of the block, and it takes
# the compromise.
#
# ### Equal is not shared
#
# Shared means **the same object**, not the same values. Three tests. First: take one step with an optimizer.

# %% name="drift" tags=["nbval-check-output"]
for name, model in (("shared", shared), ("copies", copies)):
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    blocks = [layer.attention.query for layer in model.layers]
    spread = max((block.weight - blocks[0].weight).abs().max().item() for block in blocks)
    same = all(block is blocks[0] for block in blocks)
    print(f"{name}: one object {same}; depths differ after one step: {spread > 0}")

# %% [markdown]
# Second: count. A `state_dict` has a name for every *use*, so its sum counts the block four times.

# %% name="count-once" tags=["nbval-check-output"]
for name, model in (("shared", shared), ("copies", copies)):
    named = sum(tensor.numel() for tensor in model.state_dict().values())
    print(f"{name}: {count_parameters(model).total:>9,} parameters, {named:>9,} numbers under names in the state dict")

# %% [markdown]
# Third: write it down. The `safetensors` format refuses two names for one tensor; `coursekit`'s `save` writes each
# stored tensor once and the plan beside it, so `load` can put the object back in all its places.

# %% name="save-once" tags=["nbval-check-output"]
with tempfile.TemporaryDirectory() as folder:
    try:
        save_file(shared.state_dict(), Path(folder) / "refused.safetensors")
    except RuntimeError as error:
        print("safetensors:", str(error).strip().split(",")[0])
    for name, model in (("shared", shared), ("copies", copies)):
        file = save(model, Path(folder) / name) / "model.safetensors"
        kilobytes = file.stat().st_size / 1e3
        print(f"{name}: {kilobytes:,.0f} kB on disk, {stored_bytes(model) / 1e3:,.0f} kB of weights")

# %% [markdown]
# ## The published counts, recomputed
#
# A sharing paper's first claim is a number of parameters. We rebuild every row and count.
#
# ### ALBERT
#
# ALBERT is three changes to BERT: one block for all layers, a factorised word table of width $E = 128$
# ([unit 01](01_parameters.ipynb)), and another pretraining task (unit 03). Its Table 1:


# %% name="albert-table-1" tags=["nbval-check-output"]
def count_row(name, printed, config):
    """Print an encoder's count without and with its pooler, and which of them rounds to the printed millions."""
    total = {kind: parameters(config.replace(pooler=kind == "with")) for kind in ("without", "with")}
    fits = [kind for kind, count in total.items() if round(count / 1e6) == printed]
    print(f"{name:23} {printed:>5}M {total['without']:>12,} {total['with']:>12,}   {' and '.join(fits)}")
    return fits


print("                        printed    without  with pooler   rounds to the printed figure")
bert_30k = {name: preset(name).replace(vocab_size=30_000) for name in ("bert-base", "bert-large")}
for name, printed in {"bert-base": 108, "bert-large": 334, "albert-base": 12, "albert-large": 18}.items():
    assert count_row(name, printed, bert_30k.get(name, preset(name)))

# %% [markdown]
# (The BERTs of that table have ALBERT's vocabulary of 30,000.) Tables 3 and 4 vary the width $E$ and what is shared, on
# ALBERT-base. One row of the paper is one config:

# %% name="albert-tables-3-4" tags=["nbval-check-output"]
ROWS = {  # what is shared → width E → millions, as printed in Table 3, then Table 4
    "none": {64: 87, 128: 89, 256: 93, 768: 108},
    "all": {64: 10, 128: 12, 256: 16, 768: 31},
    "attention only": {128: 64, 768: 83},
    "FFN only": {128: 38, 768: 57},
}
base = preset("albert-base")
print("                        printed    without  with pooler   rounds to the printed figure")
for shared_part, printed in ROWS.items():
    for E, millions in printed.items():
        whole = {"embedding": "full", "embedding_size": None}
        width = whole if E == 768 else {"embedding": "factorised", "embedding_size": E}
        assert count_row(f"{shared_part}, E = {E}", millions, base.replace(sharing=PLANS[shared_part], **width))

# %% [markdown]
# Every row comes out, but two ways of counting stand in one table: rows that share match *with* the pooler, those of
# plain BERT *without*. (At $E = 768 = H$ there is no map; with one, the row would have 0.6 million more.) Two figures of
# Table 1 are left, and no shape that the paper describes gives them:

# %% name="albert-left" tags=["nbval-check-output"]
for name, printed in (("albert-xlarge", "60M"), ("albert-xxlarge", "235M, in the text 233M")):
    model = build(name, device="meta")
    total, head = count_parameters(model).total, count_parameters(MaskedLM(model).head).total
    print(f"{name:15} {total:>11,} with pooler, {total + head:>11,} with the masked-LM head too; printed {printed}")

# %% [markdown]
# ### Subformer
#
# Subformer is an encoder–decoder for translation. Both stacks follow the plan; in the decoder, cross-attention goes
# with attention. Source, target and output share one table of 32,768 pieces. Here is one line of code per row of its
# Tables 1, 2 and 3:


# %% name="subformer-rows" tags=["nbval-check-output"]
def every_2(n, **options):
    """Subformer's "every 2 layers shared"."""
    return SharingPlan.every(n, 2, **options)


P = SharingPlan
SUBFORMER = {  # row → (millions as printed, BLEU as printed, config)
    "all-shared": (24, 14.3, subformer(512, 2048, plan=P.all)),
    "all-shared, d_m = 768": (41, 22.0, subformer(768, 3072, plan=P.all)),
    "all-shared (except last)": (31, 23.2, subformer(512, 2048, plan=P.all_but_last)),
    "every 2 layers shared": (38, 27.2, subformer(512, 2048, plan=every_2)),
    "sandwich": (38, 27.3, subformer(512, 2048, plan=P.sandwich)),
    "sandwich, L = 8": (38, 27.7, subformer(512, 2048, 8, P.sandwich)),
    "sandwich-big": (122, 28.6, subformer(1024, 4096, plan=P.sandwich)),
    "linear embeddings, d_e = 128": (48, 26.0, subformer(512, 2048, embedding="linear", embedding_size=128)),
    "linear embeddings, d_e = 256": (53, 27.1, subformer(512, 2048, embedding="linear", embedding_size=256)),
    "SAFE, d_e = 128": (48, 26.6, subformer(512, 2048, embedding="safe", embedding_size=128)),
    "SAFE, d_e = 256": (54, 27.7, subformer(512, 2048, embedding="safe", embedding_size=256)),
    "Transformer-base": (61, 27.7, preset("transformer-base")),
    "Transformer-big": (210, 28.6, preset("transformer-big")),
    "Subformer-small": (38, 27.7, preset("subformer-small")),
    "Subformer-base": (52, 28.1, preset("subformer-base")),
    "Subformer-mid": (63, 28.5, preset("subformer-mid")),
    "Subformer-large": (197, 29.3, preset("subformer-large")),
}
for row, (printed, _, config) in SUBFORMER.items():
    total = count_parameters(build(config, device="meta")).total
    fits = [how for how, value in (("rounded", round(total / 1e6)), ("cut", total // 10**6)) if value == printed]
    assert fits  # no row is off by more than rounding
    print(f"{row:30} printed {printed:>3}M  counted {total:>11,}  {' or '.join(fits)}")

# %% [markdown]
# All rows but one. "All-Shared (Independent FFN)" is printed with 27M, and by the paper's words the FFNs of layers 2 to
# $L$ are each layer's own:

# %% name="independent-ffn" tags=["nbval-check-output"]
own_ffns = count_parameters(build(subformer(512, 2048, plan=P.attention_only), device="meta")).total
all_shared = count_parameters(build(subformer(512, 2048, plan=P.all), device="meta")).total
extra = 12 * (512 * 512 + 512)  # one d×d matrix with bias in each of 6 + 6 layers
print(f"own FFNs in every layer       {own_ffns:>11,}")
print(f"all-shared                    {all_shared:>11,}")
print(f"all-shared + 12 d×d matrices  {all_shared + extra:>11,}   printed: 27M")

# %% [markdown]
# The figure only comes out as all-shared plus one extra $d \times d$ matrix per layer, which is what the released code
# has under `--add-independent-layer`. The row is a fair experiment; it is not the one the words describe.

# %% [markdown]
# ### SAFE: an embedding that looks around
#
# Subformer's table is narrow too, of width $d_e$, but what widens it is not one matrix. **SAFE**, the self-attentive
# factorised embedding, is a small transformer block: attention at width $d_e$, then an FFN that goes from $d_e$ to
# $d_e$ to the model's $d_m$. Input and output of that FFN differ in size, so it has no residual around it.

# %% name="figure-safe"
show(
    safe_picture(vocabulary=32_768, hidden=512, width=320),
    alt="A word's way through Subformer-base's SAFE. Word table, 32,768×320, 10,485,760 weights; a position is added. "
    "Attention, four 320×320 matrices, 409,600 weights; a residual runs around it, and a LayerNorm follows. First FFN "
    "matrix, 320×320 and ReLU, 102,400 weights. Second FFN matrix, 320×512, 163,840 weights, without a residual; a "
    "LayerNorm follows. In all 11,161,600.",
    caption="Subformer-base: a word leaves the table with 320 numbers, sees its neighbours at that width, and enters the "
    "model with 512; the block is small beside the table.",
)

# %% [markdown]
# A whole table would have $32768 \cdot 512 = 16.8$ million. The paper's count is $V d_e + 5 d_e^2 + d_e d_m$ (appendix
# A), and for the toy of unit 01 that is $500 + 125 + 50 = 675$, against 550 for a linear map. Our module agrees once its
# biases and LayerNorms are taken off; they are vectors, the formula counts matrices:

# %% name="safe-count" tags=["nbval-check-output"]
toy = TransformerConfig(100, 10, 1, 2, 40, positions="sinusoidal", token_types=0, pooler=False)
safe = build(toy.replace(embedding="safe", embedding_size=5, embedding_heads=1)).embeddings
matrices = sum(weight.numel() for weight in safe.parameters() if weight.dim() == 2)
vectors = sum(weight.numel() for weight in safe.parameters() if weight.dim() == 1)
print(f"V·d_e + 5·d_e² + d_e·d_m = {100 * 5 + 5 * 5**2 + 5 * 10}; matrices {matrices}, biases and LayerNorms {vectors}")

# %% [markdown]
# What the extra weights buy: with a table or a linear map, the same word enters the model the same way in every
# sentence. With SAFE it already depends on its neighbours. Change the first word and see which of the others notice:

# %% name="safe-context" tags=["nbval-check-output"]
for kind, options in (("linear", {}), ("safe", {"embedding_heads": 1})):
    torch.manual_seed(0)
    embeddings = build(toy.replace(embedding=kind, embedding_size=5, **options)).embeddings.eval()
    before, after = embeddings(torch.tensor([[7, 42, 3, 99]])), embeddings(torch.tensor([[8, 42, 3, 99]]))
    print(f"{kind:6} words that change:", (before != after).any(-1)[0].tolist())

# %% [markdown]
# In a decoder the small attention must be causal: a word may not see the one to be predicted.
#
# ### A sandwich that is wider inside
#
# With one block instead of four in the middle, Subformer spends some of what it saved on width: the shared block works
# at $d_s$, with a projection (a linear map and a LayerNorm) where the stack enters and leaves it.

# %% name="figure-inner"
sizes = {}
for name in ("subformer-small", "subformer-base", "subformer-mid", "subformer-large"):
    shape_of = preset(name).encoder
    sizes[name] = (shape_of.num_layers, shape_of.hidden_size, shape_of.inner_size)
show(
    sandwich_pictures(sizes),
    alt="Four stacks of slabs, widths to one scale. Small: 8 depths, 512 outside, 768 inside. Base: 6 depths, "
    "512 and 1,024. Mid: 6 depths, 768 throughout, no projections. Large: 6 depths, 1,024 and 2,048. Hatched "
    "funnels where the width changes.",
    caption="Grey: private layers A and C; orange: the one shared block B; hatched: projections between the two "
    "widths.",
)

# %% [markdown]
# Wider inside means more work, though not more weights. Per sentence of 32 pieces:

# %% name="inner-flops" tags=["nbval-check-output"]
rows = {"Transformer-base": preset("transformer-base"), "sandwich": SUBFORMER["sandwich"][2]}
rows |= {"Subformer-base": preset("subformer-base")}
for name, config in rows.items():
    model = build(config, device="meta")
    print(f"{name:17} {count_parameters(model).total:>11,} parameters, {count_flops(model, 1, 32) / 1e9:.2f} GFLOP")

# %% [markdown]
# Subformer-base stores 15 % less than the Transformer and multiplies twice as much.
#
# > **What the sources do not tell you**
# >
# > - **Which pooler?** ALBERT's Tables 3 and 4 fit with the pooler where layers share and without it where they do not.
# > - **ALBERT-xxlarge** is 235M in Table 1 and 233M in the text; its shape gives 222.6M. What else was counted, there
# >   and in xlarge's 60M, the paper does not say.
# > - **One model, two results.** ALBERT-base has 81.6 on MNLI in Tables 2 and 3 and 82.0 in Tables 4 and 5. BERT's
# >   layers with $E = 128$ have 83.7 (average 81.7) in Table 3 and 83.2 (81.6) in Table 4. So half a point between two
# >   of its rows is no finding.
# > - **Rounded here, cut there.** Subformer's sandwich of 38.86 million is printed as 38M, its Transformer of 60.92 as
# >   61M.
# > - **"Independent FFN"** is a $d \times d$ matrix per layer in the code, and only so the count is 27M.
# > - **LayerNorms** are shared in ALBERT and private in Subformer's code; both are "all layers shared" in a table.
# > - **FFN widths.** Subformer's text does not give all of them; ours are those with which the printed counts come out
# >   (for small, 2,048 inside; with 3,072 it would have 41.8M).
# > - **Two Transformer-bases.** Subformer's tables have Vaswani's with 65M and 27.3 BLEU, and their own with 61M and 27.7.
# >   Against the first the sandwich loses nothing, against the second 0.4.

# %% [markdown]
# ## Memory, not time
#
# Everything so far was counted. Now measured: MiniLM-L12's shape (12 layers, $H = 384$), with its own layers, as a
# sandwich, and all shared, on 8 sentences of 64 tokens. The calls are interleaved and times are ratios within a round
# (unit 00).

# %% name="measure-costs"
minilm = preset("minilm-l12-h384")
models = {name: build(minilm.replace(sharing=PLANS[name])).eval() for name in ("none", "sandwich", "all")}
costs_report = report(models, 8, 64, repeats=6, warmup=1)
display(costs_report)

# %% name="figure-costs"
show(
    costs(costs_report),
    alt="Five panels with a row each for sandwich and all, relative to no sharing. Parameters 0.52 and 0.41; "
    "bytes stored the same; FLOPs 1.00 and 1.00; activations at peak 1.00 and 1.00; time close to 1 for "
    "both, with its spread.",
    caption="Half the file, the same operations, the same activations, about the same time: sharing saves storage.",
)

# %% name="assert-costs"
shares = [row.parameters / costs_report.rows[0].parameters for row in costs_report.rows]
assert shares[1] < 0.55 and shares[2] < 0.45  # exact counts
assert len({row.flops for row in costs_report.rows}) == 1  # exactly equal: every depth multiplies

# %% [markdown]
# In training there is more to save, because each *stored* weight brings along its gradient and the two averages that
# Adam keeps. Activations are needed per *depth*, so those stay.

# %% name="training-memory" tags=["nbval-check-output"]
for name, model in models.items():
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    print(f"{name:9} weights {weights / 1e6:6.1f} MB, with gradients and Adam's averages {4 * weights / 1e6:6.1f} MB")

# %% [markdown]
# ### The one exception: few tokens
#
# Before a processor can multiply with a weight it must fetch it, 4 bytes from memory, unless a nearer *cache* still
# holds it. Fetched once, it serves all $T$ tokens of the batch: $2T$ operations. With many tokens the multiplying takes
# longer than the fetching, and it does not matter whose weights they are. With few, the processor waits for weights:
# and a block that has just been used by the depth below may still be in the cache.

# %% name="operations-per-byte" tags=["nbval-check-output"]
TOKENS = (1, 8, 32, 128)
apart, one = (sum(w.numel() for w in models[name].layers.parameters()) * 4 / 1e6 for name in ("none", "all"))
print(f"weights to fetch: {apart:.1f} MB of twelve blocks, {one:.1f} MB of one")
for tokens in TOKENS:
    print(f"{tokens:>3} tokens: {2 * tokens / 4:>4g} operations per byte")

# %% [markdown]
# Where a core can do more operations than that in the time in which one byte arrives, it waits. Last-level caches hold a
# few to a few dozen megabytes: one block fits nearly everywhere, twelve nearly nowhere.

# %% name="measure-tokens"
times = {"sandwich": [], "all": []}
for tokens in TOKENS:
    batch = torch.randint(1000, 2000, (1, tokens), generator=torch.Generator().manual_seed(tokens))
    calls = {name: lambda model=model, batch=batch: model(batch) for name, model in models.items()}
    measured = compare(calls, repeats=16)
    for name, latencies in times.items():
        latencies.append(measured[name])
    ratios = {name: measured[name].ratio for name in times}
    milliseconds = 1000 * measured["none"].median
    print(f"{tokens:>3} tokens: {milliseconds:5.1f} ms without sharing; times", end=" ")
    print(f"{ratios['sandwich']:.2f} for the sandwich, {ratios['all']:.2f} for all shared")
print(machine())

# %% name="figure-tokens"
show(
    time_by_tokens(TOKENS, times),
    alt="Time relative to no sharing against tokens in the batch, 1 to 128, with spreads, for sandwich and all. "
    "On the machine of the stored outputs both curves start well below 1 for a few tokens and reach about 1 "
    "by 32 to 128.",
    caption="With a handful of tokens a shared block is still in the cache and time is saved; with a real batch it "
    "is not.",
)

# %% [markdown]
# How large the effect is, and where it ends, depends on caches and memory, so your curve may differ. It is the regime of
# one short request at a time, such as a search query; it is not what "smaller" promises in general. The same caution for
# a published figure: Subformer's Table 8 gives its sandwich 1.26 times the speed of the Transformer on a GPU, with exactly
# the operations counted above, and Subformer-base 0.75 times.
#
# ### ALBERT's own numbers
#
# Its Table 2 (published) has size, score and speed for six models; speed is *training* throughput, BERT-large being 1.

# %% name="figure-albert"
ALBERT_TABLE_2 = {  # million parameters, average score, speed
    "BERT base": (108, 82.3, 4.7),
    "BERT large": (334, 85.2, 1.0),
    "ALBERT base": (12, 80.1, 5.6),
    "ALBERT large": (18, 82.4, 1.7),
    "ALBERT xlarge": (60, 85.5, 0.6),
    "ALBERT xxlarge": (235, 88.7, 0.3),
}
show(
    albert_scores(ALBERT_TABLE_2),
    alt="Left, score against parameters: ALBERT's line lies far to the left of BERT's; ALBERT large has BERT "
    "base's 82.3 with 18 instead of 108 million. Right, score against training speed: ALBERT's line lies "
    "below and to the left of BERT's; at BERT large's score it trains at 0.6 of the speed, and xxlarge, the "
    "best, at 0.3.",
    caption="Published: for the same score ALBERT needs a sixth of the parameters and more time, not less.",
)

# %% [markdown]
# Where are ALBERT-base's 2.2 points below BERT-base lost (82.3 to 80.1)? By its Table 3, 0.6 with the narrow word table
# and 1.6 with sharing. And by its Table 4 (published, averages at $E$ = 128) nearly all of that with the FFN:
#
# | shared | nothing | attention | FFN | all |
# |---|---|---|---|---|
# | parameters | 89M | 64M | 38M | 12M |
# | average | 81.6 | 81.7 | 80.2 | 80.1 |
#
# One attention for all twelve layers costs nothing; but it is the FFN that has two thirds of the weights. What wins the
# points back is a *larger* model, whose size is paid in operations:

# %% name="albert-flops" tags=["nbval-check-output"]
for name in ("bert-base", "bert-large", "albert-base", "albert-xxlarge"):
    model = build(name, device="meta")
    print(
        f"{name:15} {count_parameters(model).total / 1e6:6.1f} M parameters, {count_flops(model, 1, 128) / 1e9:6.1f} GFLOP"
    )

# %% [markdown]
# ALBERT-xxlarge has two thirds of BERT-large's parameters and eight times its operations: each of its twelve rounds is
# 4,096 wide.

# %% [markdown]
# ## A real ALBERT
#
# How can one block be twelve layers? Ask one. Inside the package `rxnmapper` (Schwaller et al., 2021) is a genuine
# pretrained ALBERT. Its language is chemistry: reactions written as text, `CCO` for ethanol, `>>` between what reacts
# and what comes out. Its weights go into the encoder of this course unchanged (the tests compare every number with what
# the `transformers` library computes from the same file).

# %% name="load-albert" tags=["nbval-check-output"]
folder = fetch("albert-reactions")
albert, reactions = from_huggingface(folder), ReactionTokenizer(folder)
counted = count_parameters(albert)
print("block of each depth:", albert.config.plan.attention)
print(f"{counted.total - counted.by_component['pooler']:,} parameters with its masked-LM head, without the pooler")
print(f"{len({id(layer.ffn) for layer in albert.encoder.layers})} FFN in {len(albert.encoder.layers)} layers")

# %% [markdown]
# We hide each token of some textbook reactions in turn and let the model fill it in (guessing would find one in 591).
# And because all depths are one
# block, we can run it for *any* number of depths without a single new weight. One pass through 24 holds the answers of
# all shorter models:

# %% name="albert-depths"
DEPTHS, TRAINED = 24, 12
tall = MaskedLM(Encoder(albert.config.replace(num_layers=DEPTHS, sharing=SharingPlan.all(DEPTHS)))).eval()
tall.encoder.layers = nn.ModuleList([albert.encoder.layers[0]] * DEPTHS)
tall.encoder.embeddings, tall.head = albert.encoder.embeddings, albert.head


def movement(states):
    """How far each depth moves the states (…, H), as a share of their length; a mean, one number per depth."""
    return torch.stack([((b - a).norm(dim=-1) / b.norm(dim=-1)).mean() for a, b in pairwise(states)])


found, moved = [], []
with torch.inference_mode():
    for ids in reactions.encode(list(REACTIONS.values())[: by_profile(quick=10, full=20)]):
        input_ids, hidden_one, labels = mask_each(ids, reactions.mask_id)  # (T - 2, T), one hidden token a row
        states = tall.encoder(input_ids, capture=Capture(hidden="all")).hidden
        answers = [tall.head(state[hidden_one], tall.encoder.embeddings).argmax(-1) for state in states]
        found.append(torch.stack(answers) == labels)
        moved.append(movement(states[: TRAINED + 1]))
found = torch.cat(found, 1)  # (25, hidden tokens): before the first depth, after 1, 2, …
for depth in (0, 1, 2, 4, 8, 12, 16, 24):
    print(f"after {depth:>2} depths {found[depth].float().mean():.1%} of {found.shape[1]} hidden tokens are found")

# %% [markdown]
# For comparison, how far each depth of an ordinary encoder moves its states: MiniLM with six blocks of its own, on
# fifty review snippets.

# %% name="figure-depths"
teacher = load_teacher("quick")  # MiniLM fine-tuned on 2,000 film reviews; made on first use, then kept
ordinary = pretrained_encoder()
with torch.inference_mode():
    snippets = [torch.tensor([ids]) for ids in teacher.tokenizer.encode(teacher.task.validation.texts[:50])]
    six = torch.stack([movement(ordinary(ids, capture=Capture(hidden="all")).hidden) for ids in snippets]).mean(0)
show(
    depths(
        {"ALBERT, one block": torch.stack(moved).mean(0), "MiniLM, six blocks": six},
        found.float().mean(1),
        TRAINED,
    ),
    alt="Left: the movement per depth, relative to the state's length. ALBERT's falls smoothly from 1.0 at depth "
    "1 to 0.24 at depth 12; MiniLM's stays near 0.5 for four depths and rises to 1.4 at its sixth. Right: "
    "hidden tokens found against how often the block is applied: 14 % before it, 70 % after one, about 99 % "
    "from 6 to 12, then a slow decline to 89 % at 24.",
    caption="One block takes ever smaller steps; half of them would do, and beyond the twelve of its training it "
    "loses again.",
)

# %% name="assert-depths"
share = found.float().mean(1)
assert share[TRAINED] > 0.92 > share[1] > 0.5  # fixed weights: other machines differ by a token or two
assert share[TRAINED] - share[DEPTHS] > 0.05  # further on it decays: no fixed point
assert (torch.stack(moved).mean(0).diff() < 0).all()

# %% [markdown]
# So the depths of a shared model are not twelve different layers but twelve rounds of one refinement, each smaller than
# the one before. The first round does most of the work and the last few nearly none; unlike an ordinary encoder, this
# one could be stopped early. But it is no iteration that may run forever: beyond the depth it was trained for, it
# slowly walks away from the answer. ALBERT's authors saw the same in their models (section 3.1, Figure 1): smaller and
# smoother transitions than BERT's, which yet do not go to zero.

# %% [markdown]
# ## Sharing what is already trained
#
# A tempting short cut: take a *trained* model and let its layers share. `share_layers(encoder, plan, how=…)` does it: a
# shared block gets the weights of the first depth that uses it, or the mean over its depths. Our model is MiniLM
# fine-tuned on film reviews, judged on the validation snippets; the larger class makes up 58.6 % of them.


# %% name="convert"
def right_answers(model):
    """(N,) booleans over the validation snippets."""
    labels = torch.tensor(teacher.task.validation.labels)
    return (replace(teacher, model=model).predict(teacher.task.validation.texts).argmax(-1) == labels).numpy()


def interval(right):
    """Accuracy and the ends of its 95 % interval."""
    return right.mean(), *bootstrap_interval(right, seed=0)


def with_plan(plan, how="first"):
    """The fine-tuned classifier with its layers shared."""
    model = copy.deepcopy(teacher.model)
    model.encoder = share_layers(model.encoder, plan, how=how)
    return model


SIX = {"every 2": P.every(6, 2), "sandwich": P.sandwich(6), "all but last": P.all_but_last(6)}
SIX |= {"all": P.all(6, norms="private")}
original, converted = right_answers(teacher.model), {}
print(f"original: {original.mean():.1%}, {count_parameters(teacher.model.encoder.layers).total / 1e6:.1f} M in layers")
for name, plan in SIX.items():
    for how in ("first", "mean"):
        converted[name, how] = right_answers(with_plan(plan, how))
    first, mean = (converted[name, how].mean() for how in ("first", "mean"))
    stored = count_parameters(with_plan(plan).encoder.layers).total
    print(f"{name:12} {stored / 1e6:.1f} M in layers: {first:.1%} keeping the first, {mean:.1%} averaging")

# %% [markdown]
# It collapses; with several plans to the level of always guessing one class. Trained layers are not interchangeable:
# what depth 3 hands on is not what depth 2 expects. And neither rule for choosing the weights is the better one
# throughout.
#
# Can a little training repair it? Three converted models (keeping the first) get one pass over 1,000 of the training
# snippets, same texts, order and steps. Two rivals get the same: the **original**, so that we do not blame sharing for
# what more training does; and an honest one, the original's layers 1, 3 and 6 **alone**. It stores as many layers as the
# sandwich, shares nothing, and runs three depths instead of six.

# %% name="recover"
rivals = {name: with_plan(SIX[name]) for name in ("every 2", "sandwich", "all")}
rivals |= {"three layers of six": copy.deepcopy(teacher.model), "original": copy.deepcopy(teacher.model)}
drop_layers(rivals["three layers of six"], keep=[0, 2, 5])

some = teacher.task.train.take(by_profile(quick=1000, full=4000), seed=1)
texts = text_batches(some, teacher.tokenizer, seed=0)
before = {name: converted[name, "first"] for name in rivals if name in SIX} | {"original": original}
before["three layers of six"] = right_answers(rivals["three layers of six"])
after = {}
for name, model in rivals.items():
    model.encoder.embeddings.word.requires_grad_(False)  # as in the fine-tuning
    train(model, texts, classification_loss, TrainConfig(epochs=1, lr=2e-4), title=name)
    after[name] = right_answers(model)
    stored = count_parameters(model.encoder.layers).total
    print(f"{name:20} {stored / 1e6:4.1f} M in layers  {before[name].mean():.1%} -> {after[name].mean():.1%}")

# %% name="figure-recovered"
fresh = sum(teacher.task.validation.labels) / len(original)
show(
    conversions(
        {name: [interval(before[name]), interval(after[name])] for name in rivals},
        interval(original),
        max(fresh, 1 - fresh),
    ),
    alt="Five rows with two intervals each, before and after recovery. Right after the conversion all three shared "
    "models lie to the left of the original's 81 %, all and every 2 at the majority's 59 %; so do the three layers alone. "
    "After it every 2, sandwich and the three layers alone lie close together between 75 and 80 %, as does the "
    "original; all is still at the majority.",
    caption="A short training brings back most of it, and three layers used once do as well as three used six times.",
)

# %% name="lost"
for name in ("every 2", "sandwich", "all"):
    for what, other in (("as it was", original), ("trained alike", after["original"])):
        loss = paired_bootstrap(after[name], other, seed=0)
        print(f"{name:8} minus the original {what:13}: {loss.difference:+6.1%}", end="")
        print(f", 95 % interval {loss.low:+.1%} to {loss.high:+.1%}")
gain = paired_bootstrap(after["sandwich"], after["three layers of six"], seed=0)
print(f"sandwich minus three layers alone: {gain.difference:+.1%}, interval {gain.low:+.1%} to {gain.high:+.1%}")
work = {name: count_flops(rivals[name], 1, 32) for name in ("sandwich", "three layers of six")}
print(f"operations per snippet: {work['sandwich'] / work['three layers of six']:.2f} times as many for the sandwich")

# %% name="assert-lost"
assert after["original"].mean() > 0.74  # the teacher itself is at 0.81 with a standard error of 0.014
assert before["sandwich"].mean() < original.mean() - 0.03 and before["all"].mean() < 0.65
assert after["sandwich"].mean() > 0.70 and after["three layers of six"].mean() > 0.68  # seen: 0.78 each
assert after["all"].mean() < after["sandwich"].mean() - 0.05

# %% [markdown]
# Read the lines with their intervals. With half of the layers' weights the model lost a few points against what it was,
# and part of that is the further training itself, for the original lost some by it too. With a sixth, everything is lost.
# And at equal storage, running three layers twice over shows no advantage here that 776 snippets could detect, while it
# costs twice the time. (One seed, one task, a thousand texts. That `all` stays where it was does not prove that it could
# not be trained: a thousand texts are not enough to turn one layer into six.) Sharing is something to *train with*, not
# to apply afterwards, which is what both papers do.

# %% [markdown]
# ## Trained with sharing from the beginning
#
# Now Subformer's own question at a size two cores can train: encoder–decoders of 6 + 6 layers, from the King James to
# the World English Bible. Same data, tokenizer, batches and number of steps for every plan; and the rival that a fair
# comparison needs, `none-narrow`: an **unshared model made narrower** until it has as few parameters as the sandwich.
#
# First live and very small: width 64, verses of at most 12 words, 160 steps. It shows how the comparison runs, not yet
# what the models can do.

# %% name="live"
SHARED_ARMS = ["none", "every-2", "sandwich", "all-but-last", "all-shared", "none-narrow"]
LIVE = settings(quick=False) | {"max_words": 12, "vocab_size": 2000, "hidden_size": 64, "intermediate_size": 256}
LIVE |= {"narrow_hidden_size": 48, "narrow_intermediate_size": 184, "max_tokens": 400, "precision": "fp32"}
LIVE |= {"steps": by_profile(quick=160, full=1000), "lr": 4e-3, "curve_every": 40, "test_pairs": 8}

live = {"runs": []}
for arm in SHARED_ARMS:
    trained, _ = train_arm(arm, 0, LIVE)
    live["runs"].append({"arm": arm, "seed": 0, "numbers": trained})
    print(f"{arm:13} {trained['parameters'] / 1e6:.2f} M   cross-entropy {trained['dev_cross_entropy']:.2f}")

# %% name="figure-live"
show(
    learning_curves(live, SHARED_ARMS),
    alt="Validation cross-entropy against training steps for six models, all falling from about 6.0 to 5.4 to 5.8. "
    "All-shared ends highest, all-but-last next; no sharing, every-2, sandwich and the narrow model end close together.",
    caption="So few steps and one seed: with one block for six depths learning is slowest, with two it is next; the other "
    "four cannot be told apart yet.",
)

# %% name="assert-live"
size = {run["arm"]: run["numbers"]["parameters"] for run in live["runs"]}
entropy = {run["arm"]: run["numbers"]["dev_cross_entropy"] for run in live["runs"]}
assert size["every-2"] == size["sandwich"] and abs(size["none-narrow"] / size["sandwich"] - 1) < 0.03
assert entropy["all-shared"] > entropy["none"] + 0.1 and all(3 < value < 6 for value in entropy.values())  # seen: 0.3

# %% [markdown]
# Equal steps are not equal work:

# %% name="work" tags=["nbval-check-output"]
for arm in SHARED_ARMS:
    model = build(model_config(arm, LIVE, vocab_size=2000), device="meta")
    print(f"{arm:13} {count_flops(model, 32, 16) / 1e9:.2f} GFLOP forward for 32 pairs of 16 pieces")

# %% [markdown]
# Whoever shares computes every depth all the same, forward and backward; the narrow rival is as small *and* does less
# work. So "equal steps" favours the models that share.
#
# ### The study
#
# Models that translate at all take minutes each, so the real comparison is stored: width 128, 4,000 pieces, all verses
# up to 24 words, several seeds, and three arms more about embeddings. It was chosen on validation, for `none` alone, and
# tested once. Everything below is read from its file.
#
# Before any BLEU, the trivial translation: leave the source as it is, without the brackets that King James's printers
# put around added words.

# %% name="study" tags=["nbval-check-output"]
study = load_study("sharing")
seeds = sorted({run["seed"] for run in study["runs"]})
baseline, numbers, translated = study["baselines"], study["arms"], study["baselines"]["translated_test_pairs"]
print(f"{study['command']}: {study['settings']['steps']} steps, seeds {seeds}, {study['date'][:10]}")
print(f"{baseline['pairs']['train']:,} training pairs, {translated:,} test pairs; {baseline['bleu_signature']}")
copied = baseline["copy_bleu"], baseline["copy_without_brackets_bleu"]
print(f"the source, copied: BLEU {copied[0]:.1f}; without its brackets {copied[1]:.1f}\n")


def with_spread(found, digits):
    """Mean and, over several seeds, standard deviation."""
    spread = "" if found["sd"] is None else f" ± {found['sd']:.{digits}f}"
    return f"{found['mean']:.{digits}f}{spread}"


print("arm                  parameters  cross-entropy, validation  BLEU, test")
for arm, found in numbers.items():
    size = f"{found['parameters']['mean'] / 1e6:.2f} M"
    print(f"{arm:20} {size:>10}  {with_spread(found['dev_cross_entropy'], 3):<25}  {with_spread(found['test_bleu'], 1)}")

# %% name="study-example" tags=["nbval-check-output"]
said = {run["arm"]: run["numbers"]["examples"][1] for run in study["runs"] if run["seed"] == 0}
source, target = baseline["examples"][1]
for name, text in {"source": source, "wanted": target, **{arm: said[arm] for arm in SHARED_ARMS}}.items():
    print(f"{name:13} {text}")

# %% name="figure-study"
PAPER = {"none": "Transformer-base", "every-2": "every 2 layers shared", "sandwich": "sandwich"}
PAPER |= {"all-but-last": "all-shared (except last)", "all-shared": "all-shared"}
show(
    size_and_quality(study, SHARED_ARMS, copied[1], {arm: SUBFORMER[row][:2] for arm, row in PAPER.items()}),
    alt="Three panels over millions of parameters with a mark per plan. Left our validation cross-entropy, in the middle "
    "our test BLEU, both with means and seeds: no sharing is best, every-2, sandwich and the narrow model follow close "
    "together at three fifths of the size, all-but-last and all-shared lie far behind; all are below the dashed line of "
    "the copied source. Right Subformer's published BLEU: 14.3 for all-shared at 24 million, 23.2 for all but last at "
    "31, 27.2 and 27.3 for every 2 and sandwich at 38, 27.7 for no sharing at 61.",
    caption="Ours, left and middle, is small and briefly trained; the published points, right, are Subformer's Table 2.",
)

# %% name="figure-curves"
show(
    learning_curves(study, SHARED_ARMS),
    alt="Validation cross-entropy falling with training steps, one line per plan, with a band over seeds. No sharing is "
    "lowest, every-2 next; sandwich and the narrow model run together; all-but-last and all-shared fall behind from step "
    "300 on. None has levelled out.",
    caption="How the plans learn, at equal steps; the band reaches from the lowest to the highest seed.",
)

# %% [markdown]
# Points in a figure are not a comparison. These are, with 95 % intervals over test verses and seeds (both models
# translated the same verses, so they are resampled in pairs). Cross-entropy is on the test set here, lower is better.

# %% name="differences" tags=["nbval-check-output"]
print(f"{'':44}BLEU                     cross-entropy")
for pair, found in study["differences"].items():
    bleu, loss = found["test_bleu"], found["test_cross_entropy"]
    points = f"{bleu['difference']:+5.1f} ({bleu['low']:+5.1f} to {bleu['high']:+5.1f})"
    nats = f"{loss['difference']:+.3f} ({loss['low']:+.3f} to {loss['high']:+.3f})"
    print(f"{pair:42} {points}    {nats}")

# %% [markdown]
# - **No plan reaches the copied source.** A few hundred steps on 14,000 verses are little; BLEU here says how far a model
#   has got in learning to copy and to change a few words. Cross-entropy tells the models apart more finely.
# - **The published order comes out**: no sharing, then the two plans that keep three blocks of six, then all but last,
#   then all shared. The steps differ: ours loses most from three blocks to two, the paper from two to one.
# - **"Little loss" does not come out, at this scale.** The sandwich loses several BLEU against no sharing, the paper's
#   0.4. Ours are compared at few and equal steps, where slower learning counts as loss; the paper trains for up to
#   250,000 steps.
# - **Which layers share**: every-2, of the same size, is ahead of the sandwich here, and the interval excludes zero. The
#   paper has them 0.1 BLEU apart.
# - **Sharing against simply being smaller**: at equal parameters the sandwich and the unshared narrow model cannot be
#   told apart, and seeds disagree about which is ahead; but the narrow one does less work.

# %% name="assert-study"
entropy = {arm: found["dev_cross_entropy"]["mean"] for arm, found in numbers.items()}
assert entropy["none"] < min(entropy[arm] for arm in SHARED_ARMS[1:])
assert max(entropy["every-2"], entropy["sandwich"]) + 0.1 < entropy["all-but-last"] < entropy["all-shared"]
assert all(numbers[arm]["test_bleu"]["mean"] < copied[1] for arm in SHARED_ARMS)

# %% [markdown]
# ### Whole, linear or SAFE
#
# The last three rows are about embeddings: these arms keep every layer and narrow the word table to a quarter of the
# width. *Linear* maps words to the model's width and adds positions there. *Factorised*, ALBERT's order, adds positions
# first, while narrow, and then maps the sum. *SAFE* does the same with its small block as the map. Subformer's Table 1 has
# the same quarter, $d_e$ = 128 of 512.

# %% name="figure-embeddings"
TABLES = ["none", "embedding-linear", "embedding-factorised", "embedding-safe"]
PAPER = {"none": "Transformer-base", "embedding-linear": "linear embeddings, d_e = 128"}
PAPER |= {"embedding-safe": "SAFE, d_e = 128"}
show(
    size_and_quality(study, TABLES, copied[1], {arm: SUBFORMER[row][:2] for arm, row in PAPER.items()}),
    alt="The same three panels for the whole word table and three narrow ones. Ours: the linear map is close to the whole "
    "table in cross-entropy and above it in BLEU; factorised is clearly worse in both, SAFE far worse still. Published, "
    "right: 27.7 BLEU at 61 million for the whole table, 26.0 for linear and 26.6 for SAFE, both at 48 million.",
    caption="A word table of a quarter of the width: published, SAFE wins back 0.6 of the 1.7 BLEU that the linear map "
    "loses; ours does not get that far.",
)

# %% name="assert-embeddings"
loss = [numbers[arm]["dev_cross_entropy"]["mean"] for arm in TABLES]
assert loss == sorted(loss) and loss[2] > loss[1] + 0.4 and loss[3] > loss[2] + 0.4  # seen: 2.54, 2.64, 3.33, 4.11
assert numbers["embedding-linear"]["test_bleu"]["mean"] > numbers["none"]["test_bleu"]["mean"]

# %% [markdown]
# Ours tell another story, in three steps.
#
# - **Linear** is a little worse than the whole table in cross-entropy, as published, yet better in BLEU: the two do not
#   measure the same, for BLEU looks only at the word that was chosen.
# - **Factorised** differs from it in where positions are added (and the LayerNorm stands), before the map instead of
#   after it, and loses much. This task begins with copying, that is with finding the word at the same place, and 32
#   numbers must hold word and place together.
# - **SAFE** adds to that a ReLU of 32 units through which every word must pass, already mixed with its neighbours, with no
#   residual around it, and loses as much again. It learns, but much more slowly.
#
# So about half of SAFE's distance from the linear map is not SAFE's own but that of narrow positions. With a width of 32
# and 800 steps our study says nothing about SAFE at 128 or 256 after 250,000, except that it does not come for free.

# %% [markdown]
# ## What held, and what did not
#
# The claims of the survey and of the two papers, one by one:
#
# > - *Factorised embeddings do not cost accuracy.* **A little, by width and kind.** Published: 0.6 points for ALBERT's
# >   $E$ = 128, up to 1.7 BLEU for Subformer's linear map, nothing for SAFE at half the width. Ours, at a quarter: little
# >   for the linear map, much where positions are narrow too, very much for SAFE in so few steps.
# > - *Sandwich: share all layers but the first and the last; far fewer parameters, little loss.* **Fewer, yes**:
# >   BERT-base's layers go from 85 to 21 million. **Little loss**: published, 27.7 to 27.3 BLEU; not in our few steps.
# >   And sharing every 2 layers has the same size and 27.2 there, so the paper does not show that first and last are the
# >   ones to spare; neither do we.
# > - *ALBERT is factorised embeddings, cross-layer sharing and sentence-order prediction.* **Yes**, and LayerNorms are
# >   shared too. The first two make the size, the third is the training task of unit 03.
# > - *ALBERT against BERT: fewer parameters, then accuracy and speed.* **Smaller, yes; cheaper, no.** At the same shape it
# >   is weaker by 2.2 points (published), and the ALBERT that beats BERT-large does eight times its operations.
# > - *Sharing makes a model faster.* **No**, except for a few tokens at a time, where weights that stay in the cache
# >   need not be fetched again.
# > - *A trained model can be shared afterwards.* **Only with retraining**, and here three layers alone were as good for
# >   half the work.
# > - **The counts hold.** Every row of ALBERT's Tables 3 and 4 and of Subformer's Tables 1 to 3 comes out of a config,
# >   one of them only with the layer that its text does not mention; of ALBERT's Table 1, all but xlarge and xxlarge.

# %% [markdown]
# ## Questions
#
# <details><summary>1. A checkpoint's state dict sums to 85 million numbers in layers, the model card says 7 million. Who is right?</summary>
#
# Perhaps both. A state dict names a shared tensor once per use; twelve names for one block of 7.1 million make 85.
# Count distinct tensors, and look at the file.
# </details>
#
# <details><summary>2. You share all layers of a 12-layer model. What happens to the FLOPs, and to a phone's battery?</summary>
#
# Nothing: all twelve depths are computed. The download and the memory shrink; the work per sentence does not.
# </details>
#
# <details><summary>3. Why can a shared layer need a smaller learning rate than the same layer unshared?</summary>
#
# Its gradient is the sum over its uses. Where the uses agree it is several times as long, and one step moves all depths
# at once.
# </details>
#
# <details><summary>4. Copying the weights of layer 1 into all layers and then fine-tuning: is that ALBERT?</summary>
#
# Only before the first step. Equal copies have gradients of their own and drift apart. Sharing is one object in several
# places.
# </details>
#
# <details><summary>5. In which situation is a shared model really faster at the same shape, and why?</summary>
#
# With few tokens at once, when the time goes into fetching weights: a block used by the depth below may still be in the
# cache.
# </details>
#
# <details><summary>6. A paper compares its shared model with BERT-base at equal depth and width, and wins on parameters. What is missing?</summary>
#
# The unshared model with as few parameters (narrower, or of fewer layers) trained alike, and the time of each.
# </details>
#
# **Next:** the [exercises of this unit](../exercises/02_sharing.ipynb), where you write plans, counts and a tied stack
# yourself; then [03 · Next sentence or sentence order](03_nsp_sop.ipynb).
