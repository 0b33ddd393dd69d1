# %% [markdown] name="title"
# # 00 · Measuring honestly
#
# **You will be able to** say what a compressed model really saves: count its parameters, weigh its file, count its
# operations, time it on a machine that never stands still, and put an interval on its accuracy. You will know why a
# model of which nine weights in ten are zero can be exactly as large and as slow as before.
#
# **40 minutes** to read and run, an hour for the exercise. **You need** Python, the basics of PyTorch, and to know what
# attention is. Nothing about compression.

# %% [markdown]
# ## What this course is
#
# Five families of methods make language models small. Their names come from a survey (Xu and McAuley 2022); the course
# takes them up one by one, on real weights and real text, and puts the claims of the papers to the test, those that do
# not hold included.

# %% name="imports"
from coursekit.viz import explore, show, use_style
from coursekit.viz.measuring import (
    Card,
    blocks_and_turns,
    calls_in_order,
    families,
    file_sizes,
    intervals,
    what_moved,
    zeros,
)

use_style()

# %% name="figure-families"
show(
    families(),
    alt="Five drawings. One matrix with arrows to three layers; a square matrix, and a column times a row instead; a "
    "matrix with single cells missing, or with whole rows missing; a matrix in many shades and the same in three; a "
    "stack of six layers with an arrow to a stack of two.",
    caption="Five ways to be smaller: use one matrix several times, keep two thin ones, leave entries or rows out, "
    "round every entry, or teach a smaller model.",
)

# %% [markdown]
# | family | in one sentence | unit |
# |---|---|---|
# | weight sharing | one stored matrix is used in several places | [02](02_sharing.ipynb) |
# | low-rank factorization | one matrix is kept as the product of thinner ones | [01](01_parameters.ipynb), [04](04_low_rank.ipynb) |
# | pruning | connections that matter little are cut: single weights, or whole rows, heads, layers | [05](05_pruning.ipynb) |
# | quantization | every weight is stored in fewer bits | [06](06_quantization.ipynb) |
# | knowledge distillation | a trained teacher helps a smaller student to learn | [07](07_distillation.ipynb), [08](08_inner_layers.ipynb), [09](09_tinybert.ipynb) |
#
# Unit [03](03_nsp_sop.ipynb) is about what ALBERT and BERT are trained on, and unit [10](10_capstone.ipynb) puts
# everything on one leaderboard.
#
# Each family makes something smaller, but not the same thing. So the first question of the course is:
#
# > *"This model is ten times smaller."* **What exactly became smaller: the number of weights, the file, the work, or
# > the time? And what did it cost?**

# %% [markdown]
# ## A real model
#
# The course works on a real encoder, all-MiniLM-L6-v2: a BERT of 6 layers and width 384. A sentence becomes tokens, the
# encoder gives a vector for each token, and the mean of these vectors stands for the sentence.

# %% name="load-encoder"
import torch
from torch import nn

from coursekit.data import Tokenizer, fetch, pad
from coursekit.models import Encoder, SequenceClassifier, build, from_huggingface, preset, save

folder = fetch("minilm")
tokenizer, encoder = Tokenizer(folder), from_huggingface(folder)

# %% name="tokens" tags=["nbval-check-output"]
sentences = ["A man is playing a guitar.", "Someone is strumming.", "The stock market fell sharply today."]
for ids in tokenizer.encode(sentences):
    print(len(ids), tokenizer.tokens(ids))


# %% name="cosines"
def sentence_vectors(model: Encoder, texts: list[str]) -> torch.Tensor:
    """Mean of the token vectors of each text, padding left out, scaled to length 1: (texts, H)."""
    batch = pad(tokenizer.encode(texts), tokenizer.pad_id)
    real = batch.attention_mask.unsqueeze(-1)  # (B, T, 1)
    with torch.inference_mode():
        hidden = model(*batch).last_hidden
    return nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=-1)


torch.manual_seed(0)
untrained = build(encoder.config).eval()
for name, model in (("real weights", encoder), ("random weights", untrained)):
    guitar, strumming, market = sentence_vectors(model, sentences)
    print(f"{name:15} guitar and strumming {guitar @ strumming:.2f}, guitar and stock market {guitar @ market:.2f}")

# %% [markdown]
# With its real weights the model puts strumming near the guitar, although the two sentences share hardly a word, and
# the stock market far away. The same architecture with random weights sees no difference. The weights are what we want
# to keep; now we measure what they cost.

# %% [markdown]
# ## Number 1: parameters
#
# By hand: a linear layer from 3 to 4 units has $3 \cdot 4$ weights and 4 biases, 16 parameters. Use that one layer in
# three places, and there are still 16 numbers to store.

# %% name="toy-shared" tags=["nbval-check-output"]
layer = nn.Linear(3, 4)
model = nn.ModuleList([layer, layer, layer])
print("parameters, each tensor once:", sum(weight.numel() for weight in model.parameters()))
print("sum over the state_dict:     ", sum(tensor.numel() for tensor in model.state_dict().values()))

# %% [markdown]
# `state_dict()` lists every **name**, and the one tensor has three. ALBERT (Lan et al. 2020) uses one stored layer
# twelve times; a careless sum makes it look like a model nearly eight times its size.

# %% name="albert-twice" tags=["nbval-check-output"]
from coursekit.measure import count_flops, count_parameters, report, stored_bytes

albert = build("albert-base", device="meta")  # shapes without memory: enough for counting
names = sum(tensor.numel() for tensor in albert.state_dict().values())
print(f"ALBERT-base  sum over the state_dict {names:>11,}")
print(f"             count_parameters        {count_parameters(albert).total:>11,}   (published: 12M, ALBERT, Table 1)")

# %% [markdown]
# Now our encoder, by component. Half of it is one table: a row for each word.

# %% name="parameters-real" tags=["nbval-check-output"]
print(count_parameters(encoder))

# %% [markdown]
# ## Number 2: bytes on disk
#
# A file is as large as its numbers times the bytes of each, so the **type** of the numbers counts as much as how many
# there are. Save the model and look.

# %% name="saved"
import copy
import tempfile
from pathlib import Path


def file_bytes(model: nn.Module) -> int:
    """Size of the model's weight file."""
    with tempfile.TemporaryDirectory() as place:
        return (save(model, Path(place) / "model") / "model.safetensors").stat().st_size


half = copy.deepcopy(encoder).half()
on_disk = {"float32": file_bytes(encoder), "float16": file_bytes(half)}
for name, size in on_disk.items():
    print(f"{name}: {size:,} bytes = {size / 1e6:.1f} MB = {size / 2**20:.1f} MiB (what `ls -h` shows)")

# %% name="stored-bytes" tags=["nbval-check-output"]
for name, model in (("float32", encoder), ("float16", half)):
    header = on_disk[name] - stored_bytes(model)
    print(f"{name}: stored_bytes {stored_bytes(model):,}; the file's header has less than 10 kB: {0 < header < 10_000}")

# %% [markdown]
# The same number of parameters, half the bytes. `stored_bytes` counts what the file will hold, without writing it:
# shared tensors once, and later, for quantized layers, the codes **and** their scales. A megabyte is $10^6$ bytes
# throughout this course; a tool that shows mebibytes ($2^{20}$) makes every model 5 % smaller for free.

# %% [markdown]
# ## Number 3: operations
#
# A floating-point operation (FLOP) is one multiplication or one addition. An $(m, k)$ matrix times a $(k, n)$ matrix
# has $m\,n$ results, each the sum of $k$ products: $m\,n\,k$ multiply-accumulates (MACs), so $2\,m\,n\,k$ FLOPs. By
# hand:

# %% name="toy-product" tags=["nbval-check-output"]
left, right = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.ones(3, 4)
result, operations = torch.zeros(2, 4), 0
for i in range(2):
    for j in range(4):
        for k in range(3):
            result[i, j] += left[i, k] * right[k, j]
            operations += 2
assert torch.equal(result, left @ right)
print(operations, "=", 2 * 2 * 4 * 3)

# %% [markdown]
# One encoder layer of width $H$ and FFN width $F$, on $T$ tokens: four projections of $H$ to $H$ (query, key, value,
# output), two products of tokens with tokens in attention, two matrices in the FFN. In MACs:
#
# $$4\,T H^2 + 2\,T^2 H + 2\,T H F$$
#
# Biases, softmax, norms and look-ups are left out: here they are about 1 %. The whole encoder is six such layers and
# the pooler, which reads one token.

# %% name="flops-by-hand" tags=["nbval-check-output"]
H, F, layers = 384, 1536, 6


def flops_by_hand(T: int) -> int:
    """FLOPs of the encoder on one sentence of T tokens."""
    return 2 * (layers * (4 * T * H**2 + 2 * T**2 * H + 2 * T * H * F) + H**2)


for T in (26, 512):
    print(f"{T:3} tokens: by hand {flops_by_hand(T):>14,}, count_flops {count_flops(encoder, 1, T):>14,}")
bert = count_flops(build("bert-base", device="meta"), 1, 128)
print(f"BERT-base on 128 tokens: {bert / 1e9:.2f}G (published: 22.5B, TinyBERT, Table 1)")

# %% [markdown]
# Two traps. The first: authors who say FLOPs may mean MACs, and halve the number. The second is live: PyTorch's own
# counter does not look inside the fused attention that runs on a CPU.

# %% name="flops-trap"
from torch.utils.flop_counter import FlopCounterMode

for T in (26, 512):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.ones(1, T, dtype=torch.long))
    seen = counter.get_total_flops() / count_flops(encoder, 1, T)
    print(f"{T:3} tokens: FlopCounterMode sees {seen:.1%} of the operations")
    assert 0.5 < seen <= 1  # 1 where a later PyTorch, or another device, counts attention

# %% [markdown]
# What is missing is $2\,T^2 H$ per layer: hardly anything for a short sentence, a fifth at 512 tokens.
#
# Operations are not parameters. The word table is half of our encoder and multiplies nothing. And ALBERT's one layer
# works twelve times:

# %% name="flops-sharing" tags=["nbval-check-output"]
unshared = build(preset("albert-base").replace(sharing=None), device="meta")
for name, model in (("shared", albert), ("unshared", unshared)):
    print(f"{name:8} {count_parameters(model).total:>11,} parameters, {count_flops(model, 1, 128):>14,} FLOPs")

# %% [markdown]
# ## Number 4: time
#
# Time is the number that users feel, and the easiest to get wrong. First the machine: a time without it means nothing.

# %% name="machine"
from coursekit.measure import compare, latency, machine

print(machine())

# %% [markdown]
# ### The first call is not like the others
# A freshly loaded encoder, 30 calls on the same sentence of 26 tokens.

# %% name="calls"
import time

import numpy as np


def seconds(call) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


fresh = from_huggingface(folder)
sentence = torch.randint(1000, 30000, (1, 26), generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    recorded = [seconds(lambda: fresh(sentence)) for _ in range(30)]
print(f"first call {recorded[0] * 1e3:.1f} ms; median of the others {np.median(recorded[1:]) * 1e3:.1f} ms")

# %% name="figure-calls"
show(
    calls_in_order(recorded),
    alt="Milliseconds of 30 calls in order. The first, drawn as a diamond, usually lies above the others; a line marks "
    "the median of the later calls, a band their middle half, a dashed line the mean of all.",
    caption="The first call also pays for setting up, and whatever else the machine does can only delay a call: report "
    "the median and the width of the band (the interquartile range), after warm-up.",
)

# %% [markdown]
# ### First A, then B: a comparison that lies
# Below, A and B are **the same function**. To be sure that the machine does not stand still, we start a second job on
# all cores in the middle of each run, as a browser or a backup might. Left: 20 calls of A, then 20 of B. Right: A and B
# in turns.

# %% name="second-job"
import hashlib
import os
import threading


def disturb(stop: threading.Event) -> None:
    """Keep a core busy until told to stop."""
    block = bytes(10_000_000)
    while not stop.is_set():
        hashlib.sha256(block).digest()


def run(order: str, call) -> list[tuple[str, float]]:
    """(name, seconds) of each call in this order; from the middle on a second job runs."""
    stop, calls = threading.Event(), []
    jobs = [threading.Thread(target=disturb, args=(stop,), daemon=True) for _ in range(os.cpu_count())]
    for place, name in enumerate(order):
        if place == len(order) // 2:
            for job in jobs:
                job.start()
        calls.append((name, seconds(call)))
    stop.set()
    for job in jobs:
        job.join()
    return calls


# %% name="blocks-and-turns"
eight = torch.randint(1000, 30000, (8, 26), generator=torch.Generator().manual_seed(1))
with torch.inference_mode():
    encoder(eight)  # warm-up
    blocks = run("A" * 20 + "B" * 20, lambda: encoder(eight))
    turns = run("AB" * 20, lambda: encoder(eight))

# %% name="blocks-ratio"
def times_of(calls, name):
    """Seconds of the calls of one name, in order."""
    return np.array([time for other, time in calls if other == name])


one_after_other = np.median(times_of(blocks, "B")) / np.median(times_of(blocks, "A"))
within_rounds = np.median(times_of(turns, "B") / times_of(turns, "A"))
print(f"first A, then B: B takes {one_after_other:.2f} of A's time; in turns: {within_rounds:.2f}")

# %% name="figure-blocks"
show(
    blocks_and_turns(blocks, turns, disturbed=20),
    alt="Two panels of 40 calls; in the grey second half a second job runs. Left, all A calls lie before it and all B "
    "calls in it, much higher. Right, A and B alternate, and neighbours lie at about the same height.",
    caption="A and B are one function: measured one after the other, B looks slower; measured in turns, both meet the "
    "same machine.",
)

# %% [markdown]
# `compare` works in turns, after warm-up, with the order of each round changed, and takes the ratio **within** rounds.
# For one function against itself it shows the noise floor: a "speed-up" within this spread is none.

# %% name="noise-floor"
floor = compare({"A": lambda: encoder(sentence), "B": lambda: encoder(sentence)}, repeats=30)
for name, measured in floor.items():
    print(name, measured)

# %% [markdown]
# ### Threads, batch and length
# The same model, the same machine, and very different times. More threads help on an idle machine; on a busy one they
# wait for each other, and two can be slower than one.

# %% name="threads"
many = torch.randint(1000, 30000, (32, 26), generator=torch.Generator().manual_seed(2))
for threads in (1, 2):
    print(f"32 × 26 tokens, threads {threads}: {latency(lambda: encoder(many), threads=threads, repeats=5)}")

# %% [markdown]
# A sentence in a batch of 32 is cheaper than alone, because larger products use the processor better: look at the rate.
# A number of milliseconds without batch, length and threads says nothing.

# %% name="batch-and-length"
print("tokens  batch  ms per sentence  GFLOP per second")
for T in (8, 26, 64):
    for B in (1, 32):
        ids = torch.ones(B, T, dtype=torch.long)
        median = latency(lambda: encoder(ids), repeats=3, warmup=1).median
        print(f"{T:6} {B:6} {median / B * 1e3:16.2f} {count_flops(encoder, B, T) / median / 1e9:17.0f}")

# %% [markdown]
# ## Number 5: accuracy
#
# The task: is a snippet of a film review fresh or rotten? The data is split **by film**, so that no film is in two
# splits. The model is our encoder, fine-tuned on 2,000 snippets (once per machine, in about a minute; it is kept).

# %% name="teacher"
from coursekit.train import TextBatches, load_teacher, predict

teacher = load_teacher("quick")
task, classifier = teacher.task, teacher.model

# %% name="task" tags=["nbval-check-output"]
for name in ("train", "validation", "test"):
    split = getattr(task, name)
    print(f"{name:10} {len(split):5} snippets, {len(set(split.groups)):3} films, {np.mean(split.labels):.1%} fresh")

# %% [markdown]
# Before any model, two baselines. **The majority class**: always answer "fresh". **A bag of words**: TF-IDF and
# logistic regression, which knows no word order. Fair means the same data, so it gets the encoder's 2,000 snippets; to
# be generous, a second one gets all of them. The regression's strength `C` is chosen on validation; test is used once.

# %% name="bag-of-words"
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def bag_of_words(train) -> np.ndarray:
    """Which test snippets a bag of words gets right: TF-IDF and logistic regression, C chosen on validation."""
    models = [make_pipeline(TfidfVectorizer(), LogisticRegression(C=C, max_iter=1000)) for C in (1, 3, 10)]
    for model in models:
        model.fit(train.texts, train.labels)
    best = max(models, key=lambda model: model.score(task.validation.texts, task.validation.labels))
    return best.predict(task.test.texts) == np.array(task.test.labels)


# %% name="right-answers"
def correct_on(model: SequenceClassifier, split) -> np.ndarray:
    """Which texts of a split the model gets right."""
    texts = TextBatches(tokenizer.encode(split.texts), pad_id=tokenizer.pad_id, batch_size=64)
    return predict(model, texts).argmax(-1).numpy() == np.array(split.labels)


right = {
    "bag of words, 2,000": bag_of_words(task.train.take(2000)),
    f"bag of words, {len(task.train):,}": bag_of_words(task.train),
    "encoder, 2,000": correct_on(classifier, task.test),
}
usual = np.bincount(task.train.labels).argmax()  # the majority class of the training texts
majority = np.mean(np.array(task.test.labels) == usual)

# %% [markdown]
# ### How sure is an accuracy?
# By hand: 7 of 10 right is $p = 0.7$, with a **standard error** of $\sqrt{p\,(1-p)/n}$. The **bootstrap** asks the same
# without a formula: draw 10 of the 10 items with replacement, again and again, and see how far the accuracy wanders.

# %% name="toy-bootstrap" tags=["nbval-check-output"]
from coursekit.measure import bootstrap_interval, paired_bootstrap, standard_error

toy = np.array([1, 1, 1, 0, 1, 0, 1, 1, 0, 1])
print(f"accuracy {toy.mean():.2f}, standard error {standard_error(toy):.3f}")
rng = np.random.default_rng(0)
resampled = [toy[rng.integers(10, size=10)].mean() for _ in range(10_000)]
print("first resamples:", [float(mean) for mean in resampled[:8]])
print(f"spread of 10,000 of them: {np.std(resampled):.3f}")

# %% name="accuracies"
rows = {name: (correct.mean(), *bootstrap_interval(correct, seed=0)) for name, correct in right.items()}
print(f"{'majority class':22} {majority:.1%}")
for name, (share, low, high) in rows.items():
    error = standard_error(right[name])
    print(f"{name:22} {share:.1%}, standard error {error:.1%}, 95 % interval {low:.1%} to {high:.1%}")
assert 0.72 < rows["encoder, 2,000"][0] < 0.85  # trained on each machine anew; rounding differs

# %% name="figure-accuracies"
show(
    intervals(rows, majority),
    alt="Accuracy with 95 % interval of three models, and a dotted line for the majority class far to the left. The "
    "bag of words on 2,000 snippets is lowest; the bag of words on all snippets and the encoder on 2,000 overlap.",
    caption="The encoder learns from 2,000 snippets about what a bag of words learns from five times as many.",
)

# %% [markdown]
# Do two models differ? Both answered the same snippets, and what is hard is hard for both. So resample the **difference
# per snippet** (paired bootstrap) instead of comparing two intervals.

# %% name="paired"
first, *others = reversed(right)
for other in others:
    found = paired_bootstrap(right[first], right[other], seed=0)
    apart = (rows[first][1] - rows[other][2], rows[first][2] - rows[other][1])
    print(f"{first} minus {other}: {found.difference:+.1%}")
    print(f"    95 % interval {found.low:+.1%} to {found.high:+.1%}", end=", ")
    print(f"without pairing {apart[0]:+.1%} to {apart[1]:+.1%}")
assert paired_bootstrap(right[first], right["bag of words, 2,000"], seed=0).difference > 0  # by five points or so

# %% [markdown]
# Against the bag of words with the same data the encoder is clearly better. Where an interval contains zero, the honest
# sentence is "this test set cannot tell them apart", not "they are equal" and not "one wins".
#
# One assumption is still hidden: that snippets are independent. Those about one film are alike. Resample **films**
# instead, each with all its snippets:

# %% name="resample-films"
films = np.unique(task.test.groups, return_inverse=True)[1]
drawn = np.random.default_rng(0).integers(films.max() + 1, size=(10_000, films.max() + 1))
for other in others:
    gain = np.bincount(films, right[first].astype(int) - right[other])  # per film
    low, high = np.quantile(gain[drawn].sum(1) / np.bincount(films)[drawn].sum(1), (0.025, 0.975))
    print(f"{first} minus {other}: 95 % interval {low:+.1%} to {high:+.1%} over {films.max() + 1} films")

# %% [markdown]
# ### A small trap: the mean of means
# Test runs in batches, and the last one is short. In a mean of the batches' accuracies each of its snippets weighs many
# times as much as any other. How bad is it? Take the batch size between 100 and 300 that leaves the shortest last
# batch.

# %% name="mean-of-means"
correct = torch.tensor(right["encoder, 2,000"]).float()
size = min(range(100, 300), key=lambda size: len(correct.split(size)[-1]))
batches = correct.split(size)
means = [part.mean().item() for part in batches]
print(f"{len(batches)} batches of {size}, the last of {len(batches[-1])}")
print(f"mean over snippets {correct.mean():.1%}, mean of batch means {np.mean(means):.1%}")
extremes = [np.mean([*means[:-1], last]) for last in (1.0, 0.0)]
print(f"mean of batch means, had the last batch been all right {extremes[0]:.1%}, all wrong {extremes[1]:.1%}")

# %% [markdown]
# One snippet, or a few, move the result by points. Count the right answers over all batches and divide once.

# %% [markdown]
# ## The trap: 90 % zeros
#
# **Magnitude pruning** sets the weights of smallest magnitude to zero. On six numbers, half of them:

# %% name="zero-smallest" tags=["nbval-check-output"]
def zero_smallest(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """A copy in which exactly round(sparsity · entries) entries of smallest magnitude are zero."""
    count = round(sparsity * weight.numel())
    result = weight.clone()
    result.view(-1)[weight.abs().flatten().topk(count, largest=False).indices] = 0
    return result


print(zero_smallest(torch.tensor([[3.0, -1.0, 2.0], [-4.0, 0.5, 6.0]]), 0.5))

# %% [markdown]
# Now every matrix of the fine-tuned encoder, word table included. We keep five versions.

# %% name="prune-real" tags=["nbval-check-output"]
def with_zeros(model: SequenceClassifier, sparsity: float) -> SequenceClassifier:
    """A copy of the model with this share of zeros in every matrix of its encoder."""
    pruned = copy.deepcopy(model)
    for weight in pruned.encoder.parameters():
        if weight.dim() == 2:
            weight.data = zero_smallest(weight.data, sparsity)
    return pruned


pruned = {sparsity: with_zeros(classifier, sparsity) for sparsity in (0.0, 0.3, 0.5, 0.7, 0.9)}
for sparsity, model in pruned.items():
    matrices = [weight for weight in model.encoder.parameters() if weight.dim() == 2]
    zero = sum(int((weight == 0).sum()) for weight in matrices) / sum(weight.numel() for weight in matrices)
    print(f"{zero:6.2%} zeros: {stored_bytes(model):,} bytes stored, {count_flops(model, 1, 26):,} FLOPs")

# %% [markdown]
# In the last line a tenth of the entries is left: "10× compression", on paper. The file has not lost a byte, for a zero
# is stored like any other float. The operations are as many as before, for a matrix product multiplies zeros too. What
# does the clock say, and what was paid in accuracy? (On validation: we are still choosing.)

# %% name="cards"
def cards(models: dict, correct: dict) -> list[Card]:
    """The five numbers of each model; time in turns on one sentence, accuracy with its interval."""
    times = compare({name: lambda model=model: model(sentence) for name, model in models.items()}, repeats=20)
    rows = []
    for name, model in models.items():
        counted = count_parameters(model).total, stored_bytes(model), count_flops(model, 1, 26)
        low, high = bootstrap_interval(correct[name], seed=0)
        rows.append(Card(str(name), *counted, times[name], correct[name].mean(), low, high))
    return rows


# %% name="sweep"
on_validation = {sparsity: correct_on(model, task.validation) for sparsity, model in pruned.items()}
steps = dict(zip(pruned, cards(pruned, on_validation), strict=True))

# %% name="sweep-table"
chance = np.mean(np.array(task.validation.labels) == usual)
print("zeros  file     time, ratio to the first  accuracy on validation")
for sparsity, card in steps.items():
    ratio = f"{card.latency.ratio:.2f} (IQR {card.latency.ratio_iqr:.2f})"
    found = f"{card.accuracy:.1%} ({card.low:.1%} to {card.high:.1%})"
    print(f"{sparsity:5.0%}  {card.stored_bytes / 1e6:.1f} MB  {ratio:24}  {found}")
print(f"majority class on validation: {chance:.1%}")
assert abs(steps[0.3].accuracy - steps[0.0].accuracy) < 0.05 and steps[0.9].accuracy < 0.68  # kept; lost

# %% [markdown]
# Move the slider. The first third of the weights is hardly missed; at nine tenths nothing is left but the habit of one
# answer. Through all of it, bytes and operations stand still, and the ratio of times is 1, give or take its spread.

# %% name="explore-zeros"
import ipywidgets

matrix = classifier.encoder.layers[2].ffn.up.weight.detach()  # (1536, 384), one of 40
sample = matrix.flatten()[::40].numpy()
explore(
    lambda sparsity: zeros(steps, sample, chance, sparsity),
    sparsity=ipywidgets.SelectionSlider(options=[(f"{sparsity:.0%}", sparsity) for sparsity in steps], value=0.9),
    alt="Left: a histogram of the weights of one real matrix around 0; at 90 % all but the two tails are hatched, set "
    "to zero. Right, relative to the original: the weights that are not zero fall to 0.10, bytes, FLOPs and time stay "
    "near 1, and of accuracy's lead over the majority class nearly nothing is left.",
    caption="Nine weights in ten are gone on paper; file, operations and time are where they were.",
)

# %% [markdown]
# ### What would make it real?
# **Do not store the zeros.** Compressed sparse rows (CSR) keep the values that are not zero, the column of each, and
# where each row begins. The columns and row pointers cost bytes too.

# %% name="toy-csr" tags=["nbval-check-output"]
def csr(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, column indices and row pointers of a matrix, indices in 4 bytes."""
    kept = matrix != 0
    pointers = torch.cat([torch.zeros(1, dtype=torch.int), kept.sum(1).cumsum(0).int()])
    return matrix[kept], kept.nonzero()[:, 1].int(), pointers


toy = torch.tensor([[5.0, 0, 0, 2], [0, 0, 0, 0], [0, 7, 0, 1]])
for name, part in zip(("values", "columns", "pointers"), csr(toy), strict=True):
    print(f"{name:8} {part.tolist()}, {part.nbytes} bytes")
print(f"dense    {toy.nbytes} bytes, sparse {sum(part.nbytes for part in csr(toy))} bytes")

# %% [markdown]
# Two thirds zeros, and not one byte gained. Now the real matrix of the slider, and, out of curiosity, what gzip makes
# of the dense one.

# %% name="real-sizes"
import gzip

shares = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
sizes = {"CSR, 4-byte indices": [], "dense file, gzipped": []}
for share in shares:
    sparse = zero_smallest(matrix, share)
    sizes["CSR, 4-byte indices"].append(sum(part.nbytes for part in csr(sparse)) / matrix.nbytes)
    sizes["dense file, gzipped"].append(len(gzip.compress(sparse.numpy().tobytes(), 6)) / matrix.nbytes)
for name, relative in sizes.items():
    print(f"{name:20}", "  ".join(f"{share:.0%}: {size:.2f}" for share, size in zip(shares, relative, strict=True)))

# %% name="figure-sizes"
show(
    file_sizes(shares, sizes),
    alt="Bytes relative to dense against the share of zeros. CSR falls in a straight line from 2 through 1 at 50 % to "
    "0.2 at 90 %. The gzipped dense file starts just below 1 and stays below CSR's line all along.",
    caption="With float32 values and 4-byte indices, storing positions pays above half zeros; at 90 % zeros the matrix "
    "is 5 times smaller, not 10.",
)

# %% [markdown]
# gzip finds cheaper ways to say where the zeros are, but only on disk: before computing, the matrix is unpacked to its
# full size. So there are savings to be had from zeros, if somebody **stores them differently** and says so. None comes
# by itself.
#
# Speed is harder still: dense products are so well built that a sparse one has to skip a large majority of entries
# before it wins. **Cutting whole rows, heads or layers** makes the matrices themselves smaller, and then everything
# follows. That is unit [05](05_pruning.ipynb).
#
# **Store fewer bits.** The same weights in half precision: 16 bits, half the file, every weight still there. What the
# rounding does to accuracy, the report card will say.

# %% name="half" tags=["nbval-check-output"]
halved = copy.deepcopy(classifier).half()
restored = copy.deepcopy(halved).float()  # computing in float32, with weights that were rounded to 16 bits
print(f"stored: {stored_bytes(classifier):,} bytes, in half precision {stored_bytes(halved):,}")

# %% [markdown]
# ## The report card
#
# Four versions of one real model, five numbers each. All choices are made, so accuracy is now that on **test**:
#
# - the fine-tuned encoder as it is;
# - with 90 % zeros;
# - stored in half precision, computing in float32;
# - with only the first three of its six layers, not trained again.

# %% name="shallow" tags=["nbval-check-output"]
shallow = SequenceClassifier(Encoder(classifier.config.replace(num_layers=3)), 2).eval()
weights = classifier.state_dict()
shallow.load_state_dict({name: weights[name] for name in shallow.state_dict()})
print(f"{count_parameters(classifier).total:,} parameters, {count_parameters(shallow).total:,} with three layers")

# %% name="report-card"
from dataclasses import replace

versions = {"original": classifier, "90 % zeros": pruned[0.9], "half precision": restored, "3 of 6 layers": shallow}
on_test = {"original": right["encoder, 2,000"]}
on_test |= {name: correct_on(model, task.test) for name, model in versions.items() if name != "original"}
card = cards(versions, on_test)
card[2] = replace(card[2], stored_bytes=stored_bytes(halved))

# %% name="report-card-table"
head = ("", "parameters", "file", "FLOPs", "× 32", "time (IQR)", "ratio (IQR)", "accuracy (95 %)")
print("{:14} {:>10}  {:>7}  {:>6}  {:>6}  {:>14}  {:>11}  {}".format(*head))
for row in card:
    flops = f"{row.flops / 1e9:.2f} G  {count_flops(versions[row.name], 32, 26) / 1e9:4.1f} G"
    spent = f"{row.latency.median * 1e3:.1f} ms ({row.latency.iqr * 1e3:.1f})"
    ratio = f"{row.latency.ratio:.2f} ({row.latency.ratio_iqr:.2f})"
    found = f"{row.accuracy:.1%} ({row.low:.1%} to {row.high:.1%})"
    print(f"{row.name:14} {row.parameters:,}  {row.stored_bytes / 1e6:.1f} MB  {flops}  {spent:>14}  {ratio}  {found}")
print(f"one sentence of 26 tokens (× 32: 32 of them); majority class {majority:.1%}\n{machine()}")

# %% name="card-ranges"
same = np.mean(on_test["original"] == on_test["half precision"])
print(f"original and half precision are right on the same snippets in {same:.1%} of all")
assert same > 0.99  # rounding to 16 bits moves a handful of answers at most
assert card[1].accuracy < majority + 0.05  # nine weights in ten gone
assert card[3].accuracy < card[0].accuracy - 0.05  # half of the layers gone, nothing retrained

# %% name="figure-report-card"
show(
    what_moved(card, majority),
    alt="Five panels, three rows each, relative to the original. 90 % zeros: parameters, bytes, FLOPs and time at 1, "
    "accuracy lead near 0. Half precision: bytes at 0.50, all else near 1. 3 of 6 layers: parameters and bytes at "
    "0.77, FLOPs at 0.50, time near 0.5, accuracy lead near 0.",
    caption="Each version moved other numbers, so no one of the five can stand for the rest (accuracy lead: over the "
    "majority class).",
)

# %% [markdown]
# Read it row by row:
#
# - **Zeros** moved one number only, the one that should have stayed.
# - **Half precision** moved one number only, the file. Computing in 16 bits is another matter: faster on processors
#   that can, slower on others (unit [06](06_quantization.ipynb)).
# - **Fewer layers** moved everything: half the operations, about half the time, but only a quarter of the parameters,
#   because the word table stayed. Its accuracy fell as well; a short training brings nearly all of it back (unit
#   [07](07_distillation.ipynb)).
#
# An accuracy near the majority class is worth nothing, however close to the original it looks as a percentage. So the
# figure shows what is left of the **lead** over it.
#
# `report` makes such a table in one call, with the memory that activations need at their peak. Here with 32 sentences
# at once:

# %% name="report"
report({name: versions[name] for name in ("original", "90 % zeros", "3 of 6 layers")}, 32, 26, repeats=5, warmup=1)

# %% [markdown]
# ## What the sources do not tell you
#
# Published speed-ups are true where they were measured. All numbers in this box are **published, not measured here**.
#
# - **Training or inference?** ALBERT-base has 12M parameters, BERT-base 108M, and the "speedup" of ALBERT's Table 2 is
#   5.6× against 4.7× (of BERT-large). It is the throughput of **training**. ALBERT-xxlarge has fewer parameters than
#   BERT-large (235M, 334M) and 0.3 of its speed (Lan et al. 2020).
# - **Which batch, which machine?** DistilBERT's 1.63× is 668 s against 410 s on one task, batch 1, on a Xeon CPU (Sanh
#   et al. 2019, Table 3). Subformer's 0.75× to 1.26× is a V100 with batches of 384 (Reid et al. 2021, Table 8).
#   MiniLM's 5.3× is a P100 (Wang et al. 2020). These columns cannot be put side by side.
# - **A part or the whole?** Pruning two weights in every four makes linear layers about 1.6× as fast on an A6000, and
#   the whole LLaMA-7B 1.24× (312 ms to 251 ms; Sun et al. 2023, Wanda).
# - **No time at all.** Papers on unstructured pruning report the share of weights that remain: 10 %, 3 % (Sanh et al.
#   2020, movement pruning). As you have seen, that says nothing about milliseconds, nor, without the indices, about
#   bytes.
# - **Which FLOPs?** TinyBERT's 22.5B for BERT-base are two operations per multiply-accumulate, 128 tokens, without the
#   embeddings: that is how our own count came to the same (Jiao et al. 2020, Table 1).
# - **How sure?** Look for the number of trainings behind a number and for the size of the test set. Where neither is
#   given, a difference of a point may be noise: here one standard error is nearly a point.

# %% [markdown]
# ## Measuring honestly: the checklist
#
# 1. **Parameters**: distinct tensors once. Say whether embeddings, pooler and head are counted.
# 2. **Bytes**: what is on disk, indices and scales included. No nominal "4×".
# 3. **FLOPs**: 2 × MACs of what is really multiplied, attention included; give batch and length.
# 4. **Time**: evaluation and inference mode, warm-up, in turns, median and interquartile range, ratio within rounds;
#    print machine, threads, batch and length. Below the noise floor there is no difference.
# 5. **Accuracy**: choose on validation, test once; weigh by items; give an interval, and a paired one for a comparison.
# 6. **Baselines**: the majority class, and a bag of words with the same data.
# 7. **All five together.** One number that improved says nothing about the other four.

# %% [markdown]
# ## Questions
#
# <details><summary>1. Model A has 12 million parameters, model B 108 million. Which is faster?</summary>
#
# It cannot be said. If A uses one stored layer twelve times, as ALBERT does, both multiply the same matrices equally
# often. Parameters say what is stored; operations, and finally a clock, say what it takes.
# </details>
#
# <details><summary>2. Someone timed 100 calls of the old model, then 100 of the new one: "2.1 times as fast". What do
# you ask?</summary>
#
# Whether the machine was the same in both halves: measure in turns. Then: warm-up, threads, batch size, length, median
# or mean, how large the spread was, and how different one model looks from itself when timed the same way.
# </details>
#
# <details><summary>3. A matrix of int8 weights has 75 % zeros. Does CSR with 4-byte column indices make its file
# smaller?</summary>
#
# No. Dense, 1,000 entries take 1,000 bytes. Sparse, the 250 that are left take 1 + 4 bytes each: 1,250, before the row
# pointers. With 2-byte indices it would be 750.
# </details>
#
# <details><summary>4. At 90 % zeros accuracy is 59 %, before it was 77 %. Has the model kept three quarters of
# its accuracy?</summary>
#
# No. Always answering "fresh" gives about as much without a model. Compare with the majority class: of the lead over
# it, nothing is left.
# </details>
#
# <details><summary>5. The interval of "encoder minus bag of words" runs from −1 to +3 points. What may you
# write?</summary>
#
# That this test set cannot tell the two apart, and with which data each was trained. Not that they are equal: a larger
# test set might show a difference.
# </details>
#
# <details><summary>6. You tried eight sparsities and report the test accuracy of the best one. What is wrong?</summary>
#
# The best of eight noisy numbers is too high by luck. Choose on validation; then look at test once, for the chosen one.
# </details>

# %% [markdown]
# ## Now you
#
# The exercise has you write these measurements yourself, from the median to the weighing of a sparse matrix:
# [exercises/00_measuring.ipynb](../exercises/00_measuring.ipynb). To keep your work apart from the course, run
# `coursekit start 00` and open the copy in `my-work/`.
#
# Next lesson: [01 · Where the parameters are](01_parameters.ipynb). You have seen that half of this encoder is one
# table; there it is taken apart.
