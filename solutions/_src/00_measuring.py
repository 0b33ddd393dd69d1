# %% [markdown] name="title"
# # 00 · Measuring honestly: exercises
#
# **You will** write the rules of the lesson yourself, as eight small functions, and use each on the real encoder right
# after. **About an hour.** It belongs to the lesson [00 · Measuring honestly](../notebooks/00_measuring.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("00.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise,
# and says so. `progress()` in a cell shows how far you are.

# %% name="imports"
import copy
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn

from coursekit.course import check, hint, progress, stand_in  # hint and progress: for cells of your own
from coursekit.data import fetch
from coursekit.measure import count_flops, machine
from coursekit.models import build, from_huggingface
from coursekit.train import load_teacher
from coursekit.viz import show, use_style
from coursekit.viz.measuring import calls_in_order, file_sizes

use_style()

# %% [markdown]
# ## Task 00.1 · Median and interquartile range
# *Difficulty 1 of 5, importance 4 of 5, about 5 minutes.*
#
# A timing is reported as the **median** of many calls, with the **interquartile range** (IQR) as its spread: the third
# quartile minus the first. Nine rules for quartiles are in use, so say which one: in the sorted list of $n$
# times, the quantile $q$ lies at position $q\,(n-1)$, counted from 0; between two entries, in proportion. The times
# `[4, 1, 3, 2]` have their quartiles at positions 0.75, 1.5 and 2.25: 1.75, 2.5 and 3.25.

# %% task="00.1"
def median_and_iqr(times: list[float]) -> tuple[float, float]:
    """Median and interquartile range of n times, in the unit of the times.

    The quantile q of the sorted times lies at position q·(n - 1), counted from 0; between two entries, in proportion.
    """
    ### BEGIN SOLUTION
    first, median, third = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return median, third - first
    ### END SOLUTION


# %% check="00.1"
### BEGIN HIDDEN TESTS
assert median_and_iqr([4, 1, 3, 2]) == (2.5, 1.5)
### END HIDDEN TESTS
check("00.1", median_and_iqr)

# %% [markdown]
# Here are 24 calls of a freshly loaded encoder, in milliseconds, recorded on a machine that had other work to do as
# well. Compare what median and mean make of them.

# %% name="recorded" tags=["nbval-check-output"]
RECORDED = [37.9, 23.8, 25.1, 24.8, 27.7, 26.6, 24.9, 20.6, 24.5, 30.4, 25.2, 25.0]
RECORDED += [29.2, 23.4, 24.3, 28.4, 39.7, 29.7, 25.3, 29.2, 28.6, 20.6, 27.3, 24.6]
median_and_iqr = stand_in("00.1", median_and_iqr)
for name, times in (("all calls", RECORDED), ("without the first", RECORDED[1:])):
    median, iqr = median_and_iqr(times)
    print(f"{name:18} median {median:.2f} ms, IQR {iqr:.2f} ms; mean {np.mean(times):.2f}, std {np.std(times):.2f}")

# %% name="figure-recorded"
show(
    calls_in_order([time / 1e3 for time in RECORDED]),
    alt="24 dots, one per call, between 20 and 31 ms except the first at 38 and the 17th at 40 ms. The dashed line of "
    "the mean lies above the line of the median.",
    caption="Two late calls of 24 pull the mean up; the median hardly notices them.",
)

# %% [markdown]
# ## Task 00.2 · Distinct parameters by component
# *Difficulty 2 of 5, importance 5 of 5, about 7 minutes.*
#
# Count the parameters of each direct child of a model (`model.named_children()`). A tensor that is used in several
# places is stored once, so it counts once, in the component where it is met first. Components that own nothing are
# listed with 0, so that the counts add up to the model's.

# %% task="00.2"
def parameters_by_component(model: nn.Module) -> dict[str, int]:
    """Number of parameters per direct child, each distinct tensor once, where it is met first."""
    ### BEGIN SOLUTION
    seen: set[int] = set()
    counts = {}
    for name, child in model.named_children():
        new = {id(parameter): parameter.numel() for parameter in child.parameters() if id(parameter) not in seen}
        counts[name] = sum(new.values())
        seen |= new.keys()
    return counts
    ### END SOLUTION


# %% check="00.2"
### BEGIN HIDDEN TESTS
_layer = nn.Linear(3, 4)
_model = nn.ModuleDict({"a": _layer, "b": nn.Sequential(_layer, nn.Linear(4, 2)), "c": nn.Sequential(_layer)})
assert parameters_by_component(_model) == {"a": 16, "b": 10, "c": 0}
### END HIDDEN TESTS
check("00.2", parameters_by_component)

# %% [markdown]
# The real encoder, and ALBERT-base, whose twelve layers are one. (`device="meta"` makes shapes without memory: enough
# for counting.)

# %% name="real-encoder"
encoder = from_huggingface(fetch("minilm"))

# %% name="count-real" tags=["nbval-check-output"]
parameters_by_component = stand_in("00.2", parameters_by_component)
for name, model in (("all-MiniLM-L6-v2", encoder), ("ALBERT-base", build("albert-base", device="meta"))):
    counts = parameters_by_component(model)
    named = sum(tensor.numel() for tensor in model.state_dict().values())
    print(f"{name}: {sum(counts.values()):,} distinct, {named:,} in the state_dict\n    {counts}")

# %% [markdown] tags=["solution-only"]
# Without sharing, both sums agree. With it, `state_dict()` names the one stored block twelve times, and a sum over it
# reports a model almost eight times as large as the one that is stored. Identity (`id`) is what decides: two LayerNorms
# that both hold ones are still two tensors.

# %% [markdown]
# ## Task 00.3 · FLOPs of one encoder layer
# *Difficulty 2 of 5, importance 5 of 5, about 7 minutes.*
#
# Count the floating-point operations of the matrix products of one encoder layer: width $H$, FFN width $F$, $B$
# sentences of $T$ tokens. A product of an $(m, k)$ with a $(k, n)$ matrix takes $m\,k\,n$ multiply-accumulates, and
# each of these is **two** operations. Biases, softmax, LayerNorm and activation do not count here.

# %% task="00.3"
def layer_flops(batch: int, tokens: int, hidden: int, intermediate: int) -> int:
    """FLOPs (2 × multiply-accumulates) of the matrix products of one encoder layer on `batch` sentences."""
    ### BEGIN SOLUTION
    projections = 4 * tokens * hidden * hidden  # query, key, value, output
    attention = 2 * tokens * tokens * hidden  # queries · keys, weights · values; the heads' widths add up to H
    ffn = 2 * tokens * hidden * intermediate  # up, down
    return 2 * batch * (projections + attention + ffn)
    ### END SOLUTION


# %% check="00.3"
### BEGIN HIDDEN TESTS
assert layer_flops(1, 128, 312, 1200) * 4 == count_flops(build("tinybert-4", device="meta"), 1, 128) - 2 * 312**2
### END HIDDEN TESTS
check("00.3", layer_flops)

# %% [markdown]
# Six such layers and the pooler, which reads one token per sentence, should be the whole encoder: the embeddings, half
# of its parameters, are looked up and multiply nothing.

# %% name="flops-real" tags=["nbval-check-output"]
layer_flops = stand_in("00.3", layer_flops)
pooler = 2 * 384 * 384
for tokens in (26, 128, 512):
    by_hand = 6 * layer_flops(1, tokens, 384, 1536) + pooler
    print(f"{tokens:3} tokens: {by_hand:>14,} by hand, {count_flops(encoder, 1, tokens):>14,} counted")

# %% name="figure-flops"
lengths = np.arange(8, 2049, 8)
per_token = np.array([layer_flops(1, int(tokens), 384, 1536) / tokens for tokens in lengths])
figure, axis = plt.subplots(figsize=(7.2, 3.2))
axis.plot(lengths, per_token / 1e6, marker="", label="all products")
axis.axhline((8 * 384**2 + 4 * 384 * 1536) / 1e6, color="#666666", ls=":", marker="", label="without tokens × tokens")
axis.set(xlabel="tokens T", ylabel="MFLOP per token and layer", ylim=(0, None), title="Attention grows with T")
axis.legend()
show(
    figure,
    alt="A straight line that rises from 3.6 to 6.7 MFLOP per token as the sentence grows from 8 to 2,048 tokens, "
    "above a horizontal dotted line at 3.5.",
    caption="Per token, a layer costs the same at any length except for attention's own products, which grow with T.",
)

# %% [markdown]
# ## Task 00.4 · Accuracy over batches, and its standard error
# *Difficulty 2 of 5, importance 4 of 5, about 7 minutes.*
#
# Batches arrive as pairs of logits $(B, C)$ and labels $(B,)$, and the last one is shorter. Return the accuracy $p$
# over all $n$ items and its standard error $\sqrt{p\,(1-p)/n}$.

# %% task="00.4"
def accuracy(batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Accuracy over all items of batches of logits (B, C) and labels (B,), in [0, 1], and its standard error."""
    ### BEGIN SOLUTION
    right = sum((logits.argmax(-1) == labels).sum().item() for logits, labels in batches)
    items = sum(len(labels) for _, labels in batches)
    share = right / items
    return share, (share * (1 - share) / items) ** 0.5
    ### END SOLUTION


# %% check="00.4"
### BEGIN HIDDEN TESTS
_sure = torch.tensor([[9.0, 0.0]])
_batches = [(_sure.expand(3, 2), torch.tensor([0, 0, 1])), (_sure, torch.tensor([1]))]
assert accuracy(_batches)[0] == 0.5 and abs(accuracy(_batches)[1] - 0.25) < 1e-6
### END HIDDEN TESTS
check("00.4", accuracy)

# %% [markdown]
# Now with the fine-tuned encoder of the lesson on the validation snippets, in batches of 64, the last one short. (If
# the encoder has not been fine-tuned on this machine yet, the next cell does it once, in about a minute.)

# %% name="real-batches"
accuracy = stand_in("00.4", accuracy)
teacher = load_teacher("quick")
validation = teacher.task.validation
logits, labels = teacher.predict(validation.texts), torch.tensor(validation.labels)
batches = list(zip(logits.split(64), labels.split(64), strict=True))
share, error = accuracy(batches)
means = [accuracy([batch])[0] for batch in batches]
print(f"{len(batches)} batches, the last of {len(batches[-1][1])} items, of which {means[-1]:.0%} are right")
print(f"over items {share:.2%} ± {error:.2%};   mean of batch means {np.mean(means):.2%}")
assert 0.70 < share < 0.88  # fine-tuned on 2,000 snippets, other machines round differently

# %% [markdown]
# ## Task 00.5 · Interleaved timing
# *Difficulty 3 of 5, importance 5 of 5, about 10 minutes.*
#
# Time several functions on a machine whose speed drifts: call each once without timing it (warm-up, in the order of the
# dict), then in each round call every function once, in the same order, and time **each call by itself**. The clock is
# a parameter: a function without arguments that returns seconds. That is how the check can test you with a clock of its
# own, and it is good style.

# %% task="00.5"
def interleave(
    functions: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call, by name: `rounds` rounds of one call of each function, after one untimed call of each."""
    ### BEGIN SOLUTION
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append(clock() - start)
    return times
    ### END SOLUTION


# %% check="00.5"
### BEGIN HIDDEN TESTS
_ticks = iter(range(100))
assert interleave({"a": int, "b": int}, 2, lambda: next(_ticks)) == {"a": [1, 1], "b": [1, 1]}
### END HIDDEN TESTS
check("00.5", interleave)

# %% [markdown]
# On a real clock: the encoder against a copy in which every matrix of its layers is **all zeros**. The ratio is taken
# within each round, where both met the same machine.

# %% name="zeros-timed"
interleave = stand_in("00.5", interleave)
empty = copy.deepcopy(encoder)
with torch.no_grad():
    for weight in empty.layers.parameters():
        if weight.dim() == 2:
            weight.zero_()
sentence = torch.randint(1000, 30000, (1, 26), generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    models = {"original": lambda: encoder(sentence), "all zeros": lambda: empty(sentence)}
    times = interleave(models, 20, time.perf_counter)
median, iqr = median_and_iqr([b / a for a, b in zip(times["original"], times["all zeros"], strict=True)])
print(f"all zeros takes {median:.2f} of the original's time (IQR {iqr:.2f})")
print(machine())

# %% [markdown] tags=["solution-only"]
# A zero is a number like any other to a dense matrix product. Nothing in the model knows that these rows could be
# skipped.

# %% [markdown]
# ## Task 00.6 · When a sparse file is smaller
# *Difficulty 3 of 5, importance 3 of 5, about 8 minutes.*
#
# The compressed sparse row format (CSR) stores, for a matrix of $r$ rows and $c$ columns with $k$ entries that are not
# zero: $k$ values, the column index of each, and $r + 1$ row pointers that say where each row begins and the last one
# ends. Values take `value_bytes` each, indices and pointers `index_bytes`. At which **share of zeros** does it take
# exactly as many bytes as the dense matrix?

# %% task="00.6"
def break_even_sparsity(rows: int, columns: int, value_bytes: int, index_bytes: int) -> float:
    """Share of zeros, in [0, 1], at which CSR and the dense matrix take the same number of bytes."""
    ### BEGIN SOLUTION
    entries = rows * columns
    kept = (entries * value_bytes - (rows + 1) * index_bytes) / (value_bytes + index_bytes)
    return 1 - kept / entries
    ### END SOLUTION


# %% check="00.6"
### BEGIN HIDDEN TESTS
assert abs(break_even_sparsity(1, 4, 1, 1) - 0.75) < 1e-12  # 4 bytes dense; 1 value, 1 column, 2 pointers
### END HIDDEN TESTS
check("00.6", break_even_sparsity)

# %% name="break-even-table" tags=["nbval-check-output"]
break_even_sparsity = stand_in("00.6", break_even_sparsity)
kinds = {"float32": 4, "float16": 2, "int8": 1}
for name, value_bytes in kinds.items():
    points = [f"{break_even_sparsity(1536, 384, value_bytes, index_bytes):.1%}" for index_bytes in (4, 2)]
    print(f"{name:8} CSR is smaller above {points[0]} zeros with 4-byte indices, {points[1]} with 2-byte indices")

# %% name="figure-break-even"
sparsities = np.linspace(0, 1, 11)
kept = (1 - sparsities) * 1536 * 384
sizes = {name: (kept * (value + 4) + 1537 * 4) / (1536 * 384 * value) for name, value in kinds.items()}
figure = file_sizes(sparsities, sizes)
borders = [100 * break_even_sparsity(1536, 384, value, 4) for value in kinds.values()]
figure.axes[0].plot(borders, [1, 1, 1], color="black", marker="x", ls="", markersize=9, markevery=1)
show(
    figure,
    alt="Three falling lines of bytes relative to dense against the share of zeros, with crosses where they pass 1: "
    "float32 at 50 %, float16 at 67 %, int8 at 80 %.",
    caption="The smaller the values, the more zeros it takes before indices pay: quantization and sparsity compete.",
)

# %% [markdown]
# ## Task 00.7 · Paired bootstrap of a difference
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# Two models answered the same $N$ items. `first` and `second` say which answers were right, and each row of `indices`
# names the $N$ items of one resample, drawn with replacement. Take the **same** items for both models, and return the
# difference of accuracies on the items themselves (first minus second) and the ends of its 95 % interval: the 0.025 and
# 0.975 quantiles of the difference over the resamples.

# %% task="00.7"
def paired_bootstrap(first: Tensor, second: Tensor, indices: Tensor) -> tuple[float, float, float]:
    """Difference of accuracies, low end, high end. first, second (N,) bool; indices (R, N) item numbers."""
    ### BEGIN SOLUTION
    gain = first.double() - second.double()  # (N,): 1, 0 or -1 per item; pairing is now built in
    low, high = gain[indices].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return gain.mean().item(), low, high
    ### END SOLUTION


# %% check="00.7"
### BEGIN HIDDEN TESTS
_right = torch.tensor([True, True, False, False])
assert paired_bootstrap(_right, ~_right, torch.arange(4).expand(5, 4)) == (0.0, 0.0, 0.0)
### END HIDDEN TESTS
check("00.7", paired_bootstrap)

# %% [markdown]
# The fine-tuned encoder, which saw 2,000 labelled snippets, against a bag of words that saw the same 2,000, and one
# that saw all of the training split.

# %% name="real-bootstrap"
paired_bootstrap = stand_in("00.7", paired_bootstrap)
right = logits.argmax(-1) == labels
indices = torch.randint(len(labels), (2000, len(labels)), generator=torch.Generator().manual_seed(0))
for train in (teacher.task.train.take(2000), teacher.task.train):
    bag = make_pipeline(TfidfVectorizer(), LogisticRegression(C=3, max_iter=1000)).fit(train.texts, train.labels)
    bag_right = torch.tensor(bag.predict(validation.texts)) == labels
    difference, low, high = paired_bootstrap(right, bag_right, indices)
    print(f"encoder minus bag of words on {len(train):,} snippets: {difference:+.1%} ({low:+.1%} to {high:+.1%})")
    assert low < difference < high

# %% [markdown] tags=["solution-only"]
# Subtracting the two models' own intervals would give a wider one: it forgets that hard snippets are hard for both. And
# a grain of salt: compare with the lesson, which asks the same on the test split. Resampling snippets treats them as
# independent, but those about one film are alike, and validation has only a few dozen films. Such intervals are
# somewhat too narrow; the lesson resamples films as well.

# %% [markdown]
# ## Task 00.8 · Zeros in real weights, weighed
# *Difficulty 3 of 5, importance 4 of 5, about 10 minutes.*
#
# Prune one matrix by magnitude and say what that is worth. Return three things: a copy of the matrix in which exactly
# `round(sparsity · entries)` entries of the smallest magnitude are zero; the bytes of the dense matrix; the bytes of
# its CSR form with 4-byte indices (values in the matrix's own dtype, column indices, row pointers). In half precision
# many entries have the same magnitude, so choose positions, not a threshold.

# %% task="00.8"
def weigh(weight: Tensor, sparsity: float) -> tuple[Tensor, int, int]:
    """Pruned copy of weight (rows, columns), bytes of the dense matrix, bytes of its CSR form."""
    ### BEGIN SOLUTION
    count = round(sparsity * weight.numel())
    pruned = weight.clone()
    pruned.view(-1)[weight.abs().flatten().topk(count, largest=False).indices] = 0
    dense = weight.numel() * weight.element_size()
    kept = weight.numel() - count
    return pruned, dense, kept * (weight.element_size() + 4) + 4 * (len(weight) + 1)
    ### END SOLUTION


# %% check="00.8"
### BEGIN HIDDEN TESTS
_pruned, _dense, _sparse = weigh(torch.tensor([[3.0, -1.0, 2.0], [-4.0, 0.5, 6.0]]), 1 / 3)
assert _pruned.tolist() == [[3, 0, 2], [-4, 0, 6]] and (_dense, _sparse) == (24, 44)
### END HIDDEN TESTS
check("00.8", weigh)

# %% [markdown]
# All matrices of the real encoder, stored as half-precision numbers.

# %% name="weigh-real" tags=["nbval-check-output"]
weigh = stand_in("00.8", weigh)
matrices = [weight.detach().half() for weight in encoder.parameters() if weight.dim() == 2]
for sparsity in (0.5, 0.7, 0.9):
    weighed = [weigh(matrix, sparsity)[1:] for matrix in matrices]
    dense, sparse = (sum(sizes) / 1e6 for sizes in zip(*weighed, strict=True))
    print(f"{sparsity:.0%} zeros: dense {dense:.1f} MB, sparse {sparse:.1f} MB, dense / sparse {dense / sparse:.2f}")

# %% [markdown] tags=["solution-only"]
# Half of the entries gone, and the file has grown; nine tenths gone, and it is about three times smaller, not ten. "90
# % sparse, hence 10× compression" is a nominal number: nobody stored the positions.

# %% [markdown]
# ## What you can do now
#
# You can count what is stored and what is multiplied, time two functions so that the machine's mood cancels, put an
# interval on a difference, and weigh a sparse matrix with its indices. Each of these has a grown-up version in
# `coursekit.measure`; you now know what it does.
#
# **Next:** where the parameters of an encoder are, and what a narrower embedding table costs, in
# [01 · Where the parameters are](../notebooks/01_parameters.ipynb).
