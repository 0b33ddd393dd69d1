# %% [markdown] name="title"
# # 01 · Where the parameters are: exercises
#
# **You will** count tables, layers and whole encoders by formula, tie an output layer, factorise a real word table and
# choose its width. **About 45 minutes.** It belongs to the lesson
# [01 · Where the parameters are](../notebooks/01_parameters.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("01.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise,
# and says so. `progress()` in a cell shows how far you are.
#
# Letters are those of the lesson: vocabulary $V$, hidden size $H$, width of the word table $E$, FFN width $F$.

# %% name="imports"
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from coursekit.compress import factorize_embeddings
from coursekit.course import check, hint, progress, stand_in  # noqa: F401 (hint and progress are for you)
from coursekit.data import fetch
from coursekit.measure import break_even_embedding_size, count_parameters, stored_bytes
from coursekit.models import build, from_huggingface, preset
from coursekit.viz import show, use_style

use_style()

# %% [markdown]
# ## Task 01.1 · Count a factorised table
# *Difficulty 1 of 5, importance 5 of 5, about 3 minutes.*
#
# A table of $V$ words at hidden size $H$ is replaced by two factors: a narrow table with $E$ numbers per word, and a
# linear map without bias from $E$ to $H$. How many numbers are stored? For $V = 100$, $H = 10$, $E = 5$ it is 550.


# %% task="01.1"
def factorised(vocabulary: int, hidden: int, width: int) -> int:
    """Numbers in a V×H word table that is stored as two factors of inner width E = `width`."""
    ### BEGIN SOLUTION
    return vocabulary * width + width * hidden
    ### END SOLUTION


# %% check="01.1"
### BEGIN HIDDEN TESTS
assert factorised(100, 10, 5) == 550
### END HIDDEN TESTS
check("01.1", factorised)

# %% [markdown]
# With the sizes of BERT-base, and ALBERT's width of 128:

# %% name="count-bert" tags=["nbval-check-output"]
factorised = stand_in("01.1", factorised)
bert = preset("bert-base")
whole, narrow = bert.vocab_size * bert.hidden_size, factorised(bert.vocab_size, bert.hidden_size, 128)
print(f"whole table {whole:,}, factorised {narrow:,}: {narrow / whole:.1%}")

# %% [markdown]
# ## Task 01.2 · The widest table that still pays
# *Difficulty 2 of 5, importance 4 of 5, about 5 minutes.*
#
# Return the largest whole width $E$ at which the two factors hold **fewer** numbers than the whole table; not as many.
# For $V = 100$ and $H = 10$ it is 9.


# %% task="01.2"
def widest_that_pays(vocabulary: int, hidden: int) -> int:
    """Largest whole E with V·E + E·H < V·H."""
    ### BEGIN SOLUTION
    return (vocabulary * hidden - 1) // (vocabulary + hidden)
    ### END SOLUTION


# %% check="01.2"
### BEGIN HIDDEN TESTS
assert (widest_that_pays(100, 10), widest_that_pays(30, 20)) == (9, 11)
### END HIDDEN TESTS
check("01.2", widest_that_pays)

# %% [markdown] tags=["solution-only"]
# The border is $E^* = VH/(V+H)$ and only widths strictly below it pay. For $V = 30$, $H = 20$ the border is exactly 12:
# there both hold 600 numbers. Subtracting 1 before the whole-number division steps below the border in either case,
# without a detour through floating point.

# %% [markdown]
# How much of the hidden size may be kept? With few words there is little room; with a real vocabulary nearly all of it.

# %% name="figure-widest"
widest_that_pays = stand_in("01.2", widest_that_pays)
vocabularies = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_522]
figure, axis = plt.subplots(figsize=(7.2, 3.4))
for hidden in (64, 384, 768):
    shares = [100 * widest_that_pays(vocabulary, hidden) / hidden for vocabulary in vocabularies]
    axis.plot(vocabularies, shares, markevery=1, label=f"H = {hidden}")
axis.set(xscale="log", xlabel="vocabulary V", ylabel="widest E that pays, % of H", ylim=(0, 100))
axis.legend()
show(
    figure,
    alt="Three rising curves over vocabularies from 50 to 30,522. For H = 64 the widest width that pays is 44 % of H "
    "at 50 words and over 98 % at 30,522; for H = 768 it is 6 % and 98 %.",
    caption="The larger the vocabulary beside H, the wider a factorised table may be and still save something.",
)

# %% [markdown]
# ## Task 01.3 · Count one encoder layer
# *Difficulty 2 of 5, importance 5 of 5, about 5 minutes.*
#
# A layer of BERT: attention with four $H \times H$ matrices (query, key, value, output), an FFN from $H$ to $F$ and
# back to $H$, and a LayerNorm after each of the two. Every matrix has a bias; a LayerNorm has a scale and a shift per
# dimension. The number of heads does not matter: they divide $H$ among them.


# %% task="01.3"
def layer_parameters(hidden: int, intermediate: int) -> int:
    """Parameters of one encoder layer of hidden size H and FFN width F, biases and LayerNorms included."""
    ### BEGIN SOLUTION
    attention = 4 * (hidden * hidden + hidden)
    ffn = (hidden * intermediate + intermediate) + (intermediate * hidden + hidden)
    norms = 2 * 2 * hidden
    return attention + ffn + norms
    ### END SOLUTION


# %% check="01.3"
### BEGIN HIDDEN TESTS
assert layer_parameters(768, 3072) == 7_087_872
### END HIDDEN TESTS
check("01.3", layer_parameters)

# %% [markdown]
# ## Task 01.4 · Count a whole encoder
# *Difficulty 3 of 5, importance 5 of 5, about 10 minutes.*
#
# `sizes` is a dictionary:
#
# | key | meaning |
# |---|---|
# | `vocabulary`, `positions`, `types` | rows of the three embedding tables, $V$, $P$ and $S$ |
# | `hidden`, `intermediate`, `layers` | $H$, $F$ and the number of layers $L$ |
# | `width` | `None`: all three tables are $H$ wide. A number $E$: see below |
# | `shared` | `True`: all layers are one and the same layer |
# | `pooler` | `True`: there is a pooler, one $H \times H$ matrix with bias |
#
# The embeddings have one LayerNorm. With a width $E$ it is as in ALBERT: all three tables **and that LayerNorm** are
# $E$ wide, and a map from $E$ to $H$ **with bias** follows. Your `layer_parameters` may be used; if it is not right
# yet, the next cell replaces it.

# %% name="stand-in-layer"
layer_parameters = stand_in("01.3", layer_parameters)


# %% task="01.4"
def encoder_parameters(sizes: dict) -> int:
    """Parameters of the encoder that `sizes` describes, each stored weight once."""
    ### BEGIN SOLUTION
    hidden, width = sizes["hidden"], sizes["width"]
    rows = sizes["vocabulary"] + sizes["positions"] + sizes["types"] + 2  # the last two: scale and shift of the norm
    embeddings = rows * (width or hidden)
    to_hidden = width * hidden + hidden if width else 0
    stored_layers = 1 if sizes["shared"] else sizes["layers"]
    pooler = hidden * hidden + hidden if sizes["pooler"] else 0
    return embeddings + to_hidden + stored_layers * layer_parameters(hidden, sizes["intermediate"]) + pooler
    ### END SOLUTION


# %% check="01.4"
### BEGIN HIDDEN TESTS
_albert = {"vocabulary": 30_000, "positions": 512, "types": 2, "hidden": 768, "intermediate": 3072, "layers": 12}
assert encoder_parameters(_albert | {"width": 128, "shared": True, "pooler": True}) == 11_683_584
### END HIDDEN TESTS
check("01.4", encoder_parameters)

# %% [markdown]
# Your formula, on the published shapes, beside models that are really built (on the `meta` device: shapes without
# memory).

# %% name="count-presets" tags=["nbval-check-output"]
encoder_parameters = stand_in("01.4", encoder_parameters)
for name in ("bert-base", "bert-large", "albert-base", "distilbert-base", "tinybert-4", "minilm-l6-h384"):
    config = preset(name)
    sizes = {
        "vocabulary": config.vocab_size,
        "positions": config.max_positions,
        "types": config.token_types,
        "hidden": config.hidden_size,
        "intermediate": config.intermediate_size,
        "layers": config.num_layers,
        "width": config.embedding_size,
        "shared": config.sharing is not None,
        "pooler": config.pooler,
    }
    built = count_parameters(build(name, device="meta")).total
    print(f"{name:16} {encoder_parameters(sizes):>12,}  {'equal' if encoder_parameters(sizes) == built else built}")

# %% [markdown]
# ## Task 01.5 · Tie an output layer to the table
# *Difficulty 2 of 5, importance 4 of 5, about 5 minutes.*
#
# A masked language model scores every word of the vocabulary with the word table itself. Make such an output layer: a
# linear layer from $H$ to $V$ whose weight **is** the table of `words`, the same object and not an equal one, with a
# bias of its own per word that starts at zero.


# %% task="01.5"
def tied_output(words: nn.Embedding) -> nn.Linear:
    """A linear layer (…, H) → (…, V) that shares its weight with the V×H table of `words`; zero bias."""
    ### BEGIN SOLUTION
    layer = nn.Linear(words.embedding_dim, words.num_embeddings)
    layer.weight = words.weight
    nn.init.zeros_(layer.bias)
    return layer
    ### END SOLUTION


# %% check="01.5"
### BEGIN HIDDEN TESTS
_words = nn.Embedding(5, 3)
assert tied_output(_words).weight is _words.weight
### END HIDDEN TESTS
check("01.5", tied_output)

# %% [markdown]
# The tie saves a whole table, and it holds: one training step moves both, because there is only one.

# %% name="count-tied" tags=["nbval-check-output"]
tied_output = stand_in("01.5", tied_output)
torch.manual_seed(0)
words = nn.Embedding(1000, 64)
for name, output in (("untied", nn.Linear(64, 1000)), ("tied", tied_output(words))):
    model = nn.ModuleDict({"words": words, "output": output})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.cross_entropy(output(words(torch.tensor([3, 7]))), torch.tensor([7, 3])).backward()
    optimizer.step()
    same = torch.equal(output.weight, words.weight)
    print(f"{name:7} {count_parameters(model).total:>8,} parameters; one table after a step: {same}")

# %% [markdown]
# ## Task 01.6 · Factorise a table
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# Split a table $W$ ($V \times H$) into a narrow table $A$ ($V \times E$) and a map $B$ ($E \times H$) so that
# $\lVert W - AB \rVert_F$ is as small as possible. By the theorem of Eckart and Young, the singular value
# decomposition $W = U \Sigma R^\top$ gives the answer: keep the $E$ largest singular values. How you divide $\Sigma$
# between the factors is up to you.


# %% task="01.6"
def factorise(table: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The factors (V, E) and (E, H) whose product is nearest to `table` (V, H), with E = `width`."""
    ### BEGIN SOLUTION
    left, singular, right = torch.linalg.svd(table, full_matrices=False)
    return left[:, :width] * singular[:width], right[:width]
    ### END SOLUTION


# %% check="01.6"
### BEGIN HIDDEN TESTS
_narrow, _map = factorise(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), 1)
assert torch.allclose(_narrow @ _map, torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), atol=1e-6)
### END HIDDEN TESTS
check("01.6", factorise)

# %% [markdown]
# Now the real thing: 3,000 rows of MiniLM's word table. Before you run the cell: with a quarter of the width, how much
# of the table, measured as the Frobenius norm, will be missing?

# %% name="factorise-real" tags=["nbval-check-output"]
factorise = stand_in("01.6", factorise)
encoder = from_huggingface(fetch("minilm"))
slice_ = encoder.embeddings.word.weight.detach()[2000:5000]
for width in (384, 288, 192, 96):
    narrow, to_hidden = factorise(slice_, width)
    missing = (slice_ - narrow @ to_hidden).norm() / slice_.norm()
    print(f"width {width:>3}: {narrow.numel() + to_hidden.numel():>9,} numbers, {missing:.0%} of the norm missing")

# %% [markdown] tags=["solution-only"]
# Nothing is missing at the full width, and then it goes quickly: half the width loses over a third of the norm. A
# trained word table uses all of its dimensions. What that does to a model is what the lesson measures.

# %% [markdown]
# ## Task 01.7 · A width for a share of the energy
# *Difficulty 2 of 5, importance 3 of 5, about 4 minutes.*
#
# The energy of a direction is its singular value squared; the sum of all energies is $\lVert W \rVert_F^2$. Return the
# smallest width whose directions hold at least `share` of the sum. The singular values come largest first.


# %% task="01.7"
def width_for_energy(singular: Tensor, share: float) -> int:
    """Smallest E whose first E singular values (H,), descending, hold at least `share` of the energy."""
    ### BEGIN SOLUTION
    energy = singular.double().square()
    kept = energy.cumsum(0) / energy.sum()
    return int((kept < share).sum()) + 1
    ### END SOLUTION


# %% check="01.7"
### BEGIN HIDDEN TESTS
assert width_for_energy(torch.tensor([2.0, 1.0, 1.0]), 0.7) == 2
### END HIDDEN TESTS
check("01.7", width_for_energy)

# %% [markdown]
# All 30,522 words of MiniLM, and a table of random numbers of the same size:

# %% name="energy-real" tags=["nbval-check-output"]
width_for_energy = stand_in("01.7", width_for_energy)
table = encoder.embeddings.word.weight.detach()
noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
for name, matrix in (("MiniLM", table), ("random", noise)):
    singular = torch.linalg.svdvals(matrix)
    print(name, {share: width_for_energy(singular, share) for share in (0.5, 0.75, 0.9, 0.99)})

# %% [markdown]
# ## Task 01.8 · A width for a budget of bytes
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# You may store at most `budget` bytes for the whole encoder. Its word table is to be factorised as
# `factorize_embeddings(encoder, width)` does: the table goes, a $V \times E$ table and an $E \times H$ map come,
# everything else stays. Return the largest width from 1 to $H$ that fits, or 0 if none does. `stored_bytes(encoder)`
# gives the bytes of the encoder as it is; its numbers may have 4 bytes, or 2.


# %% task="01.8"
def width_for_bytes(encoder: nn.Module, budget: int) -> int:
    """Largest width in 1 … H at which the factorised encoder takes at most `budget` bytes; 0 if none does.

    The table is `encoder.embeddings.word.weight` (V, H).
    """
    ### BEGIN SOLUTION
    table = encoder.embeddings.word.weight
    rest = stored_bytes(encoder) - table.numel() * table.element_size()
    per_width = sum(table.shape) * table.element_size()  # V numbers in the table, H in the map
    return max(0, min(table.shape[1], (budget - rest) // per_width))
    ### END SOLUTION


# %% check="01.8"
### BEGIN HIDDEN TESTS
_encoder = build("tinybert-4", device="meta")
assert width_for_bytes(_encoder, 30_000_000) == 86
### END HIDDEN TESTS
check("01.8", width_for_bytes)

# %% [markdown]
# MiniLM takes 91 MB. To bring it under 60 MB by its word table alone, this is the width; and the model, made, fits.

# %% name="budget-real" tags=["nbval-check-output"]
width_for_bytes = stand_in("01.8", width_for_bytes)
width = width_for_bytes(encoder, 60_000_000)
small = factorize_embeddings(encoder, width)
border = break_even_embedding_size(encoder.config.vocab_size, encoder.config.hidden_size)
print(f"whole {stored_bytes(encoder):,} bytes; width {width} (break-even {border:.0f}): {stored_bytes(small):,} bytes")

# %% [markdown]
# ## What you can do now
# Count any encoder of this family from its config; say below which width a factorised table pays; tie weights so that
# they stay tied; factorise a real table, and choose its width by energy or by bytes. Neither of the two says whether
# the model still works at that width: only measuring does, as the lesson showed.
#
# **Next:** [02 · Sharing layers](../notebooks/02_sharing.ipynb) does to the layers what this unit did to the table.
