# %% [markdown] name="title"
# # 10 · Capstone: exercises
#
# **You will** find the models that nothing beats, divide times fairly, say how much accuracy a small model may have
# lost, count equal compute, and meet a budget of bytes and milliseconds with the real encoder. **About 45 minutes.** It
# belongs to the lesson [10 · Capstone](../notebooks/10_capstone.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("10.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise,
# and says so. `progress()` in a cell shows how far you are.

# %% name="imports"
import copy
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.compress.pruning import drop_layers
from coursekit.compress.quantization import quantize_model
from coursekit.course import check, hint, progress, stand_in  # noqa: F401 (hint and progress are for you)
from coursekit.distill import init_from_teacher, match_layers
from coursekit.measure import paired_bootstrap, stored_bytes
from coursekit.train import load_teacher

# %% [markdown]
# ## Task 10.1 · What nothing beats
# *Difficulty 2 of 5, importance 5 of 5, about 8 minutes.*
#
# Models have a cost (bytes, or time) and an accuracy. One model **beats** another if it costs no more, is at least as
# accurate, and is better in one of the two. Return the numbers of the models that no other beats, in rising order.


# %% task="10.1"
def front(costs: list[float], accuracies: list[float]) -> list[int]:
    """Numbers of the models, from 0, that no other model beats."""
    ### BEGIN SOLUTION
    points = list(zip(costs, accuracies, strict=True))
    kept = []
    for number, (cost, right) in enumerate(points):
        if not any(c <= cost and a >= right and (c, a) != (cost, right) for c, a in points):
            kept.append(number)
    return kept
    ### END SOLUTION


# %% check="10.1"
### BEGIN HIDDEN TESTS
assert front([1.0, 2.0, 3.0], [0.7, 0.6, 0.8]) == [0, 2]
### END HIDDEN TESTS
check("10.1", front)

# %% name="front-by-hand" tags=["nbval-check-output"]
front = stand_in("10.1", front)
MODELS = {"a": (90, 0.81), "b": (70, 0.80), "c": (69, 0.80), "d": (23, 0.80), "e": (16, 0.78), "f": (16, 0.77)}
kept = front([cost for cost, _ in MODELS.values()], [right for _, right in MODELS.values()])
print("not beaten:", *(list(MODELS)[number] for number in kept))

# %% [markdown] tags=["solution-only"]
# Equal points do not beat each other: neither is better in one of the two. So twins stay, both of them.

# %% [markdown]
# ## Task 10.2 · A fair ratio of times
# *Difficulty 1 of 5, importance 4 of 5, about 5 minutes.*
#
# `times` has a row for each round: seconds of the teacher, then seconds of the small model, measured one after the
# other. Return what share of the teacher's time the small model takes: the median over rounds.


# %% task="10.2"
def paired_ratio(times: list[list[float]]) -> float:
    """Median over rounds of model / teacher; each round is [teacher, model] in seconds."""
    ### BEGIN SOLUTION
    return statistics.median(model / teacher for teacher, model in times)
    ### END SOLUTION


# %% check="10.2"
### BEGIN HIDDEN TESTS
assert paired_ratio([[2.0, 1.0], [4.0, 1.0], [8.0, 6.0]]) == 0.5
### END HIDDEN TESTS
check("10.2", paired_ratio)

# %% [markdown]
# Why the rounds: here the machine halves its speed in the middle of a measurement, while the small model happened to be
# timed in the slow half.

# %% name="drift" tags=["nbval-check-output"]
paired_ratio = stand_in("10.2", paired_ratio)
teacher_first = [0.010] * 5  # all rounds of the teacher, then all of the model, which takes half as long
model_later = [0.010] * 5  # on a machine half as fast
print(f"one after the other: {statistics.median(model_later) / statistics.median(teacher_first):.2f}")
rounds = [[0.010, 0.005]] * 3 + [[0.020, 0.010]] * 2
print(f"interleaved:         {paired_ratio(rounds):.2f}")

# %% [markdown]
# ## Task 10.3 · The lower end of a loss
# *Difficulty 3 of 5, importance 5 of 5, about 10 minutes.*
#
# `small` and `teacher` (S, N) say, for S training seeds, which of the same N texts each answered right. `rows` (R, N)
# holds R resamples of the texts: each row is N numbers of texts, drawn with replacement. For each resample take the
# accuracy of the small model minus that of the teacher, over all seeds. Return the lower end of the interval that holds
# the middle 95 % of these R differences (`torch.quantile`). A model is inside a margin of 0.03 if this end is above
# -0.03.


# %% task="10.3"
def lower_end(small: Tensor, teacher: Tensor, rows: Tensor) -> float:
    """Lower end of the 95 % interval of accuracy(small) − accuracy(teacher); (S, N), (S, N) bool and (R, N) long."""
    ### BEGIN SOLUTION
    per_text = (small.float() - teacher.float()).mean(0)  # (N,)
    means = per_text[rows].mean(1)  # (R,)
    return float(means.quantile(0.025))
    ### END SOLUTION


# %% check="10.3"
check("10.3", lower_end)

# %% [markdown]
# Two small models with the same accuracy. One errs on the teacher's texts and some more; the other errs elsewhere.

# %% name="paired" tags=["nbval-check-output"]
lower_end = stand_in("10.3", lower_end)
texts = torch.arange(1000)
teacher = (texts >= 180)[None]  # wrong on the first 180
same, other = (texts >= 200)[None], (texts < 800)[None]  # both wrong on 200
rows = torch.randint(1000, (2000, 1000), generator=torch.Generator().manual_seed(0))
for name, small in (("errs on the same texts", same), ("errs on other texts", other)):
    print(f"{name:<23} accuracy {small.float().mean():.3f}, loss at most {-lower_end(small, teacher, rows):.3f}")
    library = paired_bootstrap(small.int().numpy(), teacher.int().numpy(), seed=0)
    assert abs(library.low - lower_end(small, teacher, rows)) < 0.006  # other random draws

# %% [markdown] tags=["solution-only"]
# Equal accuracies, and yet only the first is known to be nearly as good as its teacher: its errors are the teacher's.
# With a margin of three points the first is inside and the second is not.

# %% [markdown]
# ## Task 10.4 · Equal compute
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# A student with a teacher trains twice. How many steps could the small model take alone for the same compute? Count
# passes through one layer: a step that learns costs 3 for each layer (one forward, two backward), and a step of the
# student also asks the teacher, one pass for each of its layers. Round down.


# %% task="10.4"
def steps_alone(teacher_steps: int, student_steps: int, teacher_layers: int, student_layers: int) -> int:
    """Steps of the small model alone that cost what teacher and student together cost."""
    ### BEGIN SOLUTION
    taught = 3 * teacher_steps * teacher_layers
    learnt = student_steps * (3 * student_layers + teacher_layers)
    return (taught + learnt) // (3 * student_layers)
    ### END SOLUTION


# %% check="10.4"
### BEGIN HIDDEN TESTS
assert steps_alone(100, 100, 6, 3) == 366
### END HIDDEN TESTS
check("10.4", steps_alone)

# %% name="equal" tags=["nbval-check-output"]
steps_alone = stand_in("10.4", steps_alone)
for deep, shallow in ((6, 3), (12, 6), (12, 4), (12, 2)):
    print(f"{deep:>2} to {shallow}: 100 + 100 steps with a teacher are {steps_alone(100, 100, deep, shallow)} alone")

# %% [markdown]
# A student that is taught for 100 steps is a bargain only if it beats the same student alone after *that* many. (If one
# teacher has many students, its training is shared by them, and the sum is another.)

# %% [markdown]
# ## Task 10.5 · Within a budget
# *Difficulty 2 of 5, importance 5 of 5, about 6 minutes.*
#
# `rows` are models with `bytes`, `ratio` (share of the teacher's time) and `accuracy`. Return the number of the most
# accurate model that has at most `most_bytes` bytes and at most `most_ratio` of the time, or -1 if none has.


# %% task="10.5"
def best_that_fits(rows: list[dict[str, float]], most_bytes: float, most_ratio: float) -> int:
    """Number of the most accurate row within both limits; -1 if there is none."""
    ### BEGIN SOLUTION
    fitting = [n for n, row in enumerate(rows) if row["bytes"] <= most_bytes and row["ratio"] <= most_ratio]
    return max(fitting, key=lambda n: rows[n]["accuracy"]) if fitting else -1
    ### END SOLUTION


# %% check="10.5"
check("10.5", best_that_fits)

# %% [markdown]
# ## Task 10.6 · The gentlest recipe that fits
# *Difficulty 3 of 5, importance 4 of 5, about 8 minutes.*
#
# `recipes` are functions that return a smaller copy of a model, from the gentlest to the harshest. Return the number of
# the first whose copy of `model` is stored in at most `most_bytes` bytes, or -1 if there is none.


# %% task="10.6"
def gentlest(model: nn.Module, recipes: list[Callable], most_bytes: int) -> int:
    """Number of the first recipe whose model fits into `most_bytes` as stored; -1 if none does."""
    ### BEGIN SOLUTION
    for number, recipe in enumerate(recipes):
        if stored_bytes(recipe(model)) <= most_bytes:
            return number
    return -1
    ### END SOLUTION


# %% check="10.6"
check("10.6", gentlest)

# %% [markdown]
# Now the real encoder, and budgets in megabytes. Nothing is trained here: this is what fits, not what is good.

# %% name="real-budgets" tags=["nbval-check-output"]
gentlest = stand_in("10.6", gentlest)
model = load_teacher("quick").model
three = init_from_teacher(model, match_layers("distilbert-init", 6, 3))
NAMED = {
    "as it is": copy.deepcopy,
    "int8": lambda given: quantize_model(given, "int8"),
    "int8 with tables": lambda given: quantize_model(given, "int8", embeddings=True),
    "three layers, int8": lambda given: quantize_model(
        drop_layers(copy.deepcopy(given), (0, 2, 4)), "int8", embeddings=True
    ),
    "three layers, int4": lambda given: quantize_model(
        drop_layers(copy.deepcopy(given), (0, 2, 4)), "int4", embeddings=True
    ),
}
assert stored_bytes(drop_layers(copy.deepcopy(model), (0, 2, 4))) == stored_bytes(three)
for megabytes in (100, 60, 30, 20, 10, 5):
    number = gentlest(model, list(NAMED.values()), megabytes * 1_000_000)
    print(f"{megabytes:>3} MB: {'nothing here fits' if number < 0 else list(NAMED)[number]}")

# %% [markdown]
# Below ten megabytes the word table has to shrink: its rows (only the words of the task), its bits, or its width.
#
# ## What you can do now
# Say which models are worth a look and which are beaten; time them fairly; state a loss with its interval; compare
# methods at equal compute; and meet a budget. That was the last unit: take
# [the lesson's last section](../notebooks/10_capstone.ipynb) and compress a model of your own.
