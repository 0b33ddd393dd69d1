"""Every check of unit 00 knows the right answer, and names the mistakes."""

import statistics
import time

import numpy as np
import pytest
import torch
from proving import prove

from coursekit.course.check import run_check

# ---- 00.1 ----


def mean_and_iqr(times):
    first, _, third = np.quantile(times, [0.25, 0.5, 0.75])
    return float(np.mean(times)), float(third - first)


def unsorted(times):
    def at(q):
        place = q * (len(times) - 1)
        below = int(place)
        return times[below] + (place - below) * (times[below + 1] - times[below])

    return at(0.5), at(0.75) - at(0.25)


def upper_middle(times):
    ordered = sorted(times)
    first, third = np.quantile(times, [0.25, 0.75])
    return ordered[len(ordered) // 2], float(third - first)


def torch_median(times):
    first, third = np.quantile(times, [0.25, 0.75])
    return torch.tensor(times, dtype=torch.double).median().item(), float(third - first)


def exclusive_quartiles(times):
    first, median, third = statistics.quantiles(times, n=4)
    return median, third - first


def in_n_steps(times):
    ordered = sorted(times)

    def at(q):
        place = q * len(ordered)
        below = int(place)
        return ordered[below] + (place - below) * (ordered[min(below + 1, len(ordered) - 1)] - ordered[below])

    return at(0.5), at(0.75) - at(0.25)


def whole_range(times):
    return statistics.median(times), max(times) - min(times)


def deviation(times):
    return statistics.median(times), statistics.pstdev(times)


def half_range(times):
    first, median, third = statistics.quantiles(times, n=4, method="inclusive")
    return median, (third - first) / 2


# ---- 00.2 ----


def in_both(model):
    return {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}


def once_per_use(model):
    counts = {name: 0 for name, _ in model.named_children()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        counts[name.split(".")[0]] += parameter.numel()
    return counts


def from_state_dict(model):
    counts = {name: 0 for name, _ in model.named_children()}
    for name, tensor in model.state_dict().items():
        counts[name.split(".")[0]] += tensor.numel()
    return counts


def only_trained(model):
    counts = {name: 0 for name, _ in model.named_children()}
    for name, parameter in model.named_parameters():
        counts[name.split(".")[0]] += parameter.numel() if parameter.requires_grad else 0
    return counts


def without_empty(model):
    counts = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _by(key, size):
    def count(model):
        seen, counts = [], {}
        for name, child in model.named_children():
            counts[name] = 0
            for parameter in child.parameters():
                if key(parameter) not in seen:
                    seen.append(key(parameter))
                    counts[name] += size(parameter)
        return counts

    return count


# ---- 00.3 ----


def flops(per=2, projections=4, products=2, ffn=2):
    def count(batch, tokens, hidden, intermediate):
        one = projections * tokens * hidden**2 + products * tokens**2 * hidden + ffn * tokens * hidden * intermediate
        return per * batch * one

    return count


# ---- 00.4 ----


def _shares(batches):
    return [(logits.argmax(-1) == labels).float().mean().item() for logits, labels in batches]


def _right(batches):
    return torch.cat([logits.argmax(-1) == labels for logits, labels in batches]).double()


def mean_of_means(batches):
    share, items = statistics.mean(_shares(batches)), len(_right(batches))
    return share, (share * (1 - share) / items) ** 0.5


def all_as_long(batches):
    items = len(batches) * len(batches[0][1])
    share = _right(batches).sum().item() / items
    return share, (share * (1 - share) / items) ** 0.5


def with_error(error):
    def accuracy(batches):
        right = _right(batches)
        share = right.mean().item()
        return share, error(share, len(right), len(batches))

    return accuracy


def dropping_last(batches):
    right = _right(batches[:-1])
    share = right.mean().item()
    return share, (share * (1 - share) / len(right)) ** 0.5


def counting(batches):
    share, error = with_error(lambda p, n, b: (p * (1 - p) / n) ** 0.5)(batches)
    return _right(batches).sum().item(), error


# ---- 00.5 ----


def in_blocks(functions, rounds, clock):
    for function in functions.values():
        function()
    times = {}
    for name, function in functions.items():
        times[name] = []
        for _ in range(rounds):
            start = clock()
            function()
            times[name].append(clock() - start)
    return times


def rounds_of(warm=1, running=False):
    def interleave(functions, rounds, clock):
        for _ in range(warm):
            for function in functions.values():
                function()
        times = {name: [] for name in functions}
        for _ in range(rounds):
            start = clock()
            for name, function in functions.items():
                start = start if running else clock()
                function()
                times[name].append(clock() - start)
        return times

    return interleave


def own_clock(functions, rounds, clock):
    return rounds_of()(functions, rounds, time.perf_counter)


def totals(functions, rounds, clock):
    return {name: sum(times) for name, times in rounds_of()(functions, rounds, clock).items()}


# ---- 00.6 ----


def border(pointers=lambda rows: rows + 1, indices=1):
    def share(rows, columns, value_bytes, index_bytes):
        left = rows * columns * value_bytes - pointers(rows) * index_bytes
        return 1 - left / (value_bytes + indices * index_bytes) / (rows * columns)

    return share


# ---- 00.7 ----


def _ends(values, cut=0.025):
    return tuple(np.quantile(values.numpy(), [cut, 1 - cut]).tolist())


def second_minus_first(first, second, indices):
    gain = second.double() - first.double()
    return (gain.mean().item(), *_ends(gain[indices].mean(1)))


def own_intervals(first, second, indices):
    low, high = _ends(first.double()[indices].mean(1))
    other_low, other_high = _ends(second.double()[indices].mean(1))
    return first.double().mean().item() - second.double().mean().item(), low - other_high, high - other_low


def ninety(first, second, indices):
    gain = first.double() - second.double()
    return (gain.mean().item(), *_ends(gain[indices].mean(1), 0.05))


def ever_narrower(first, second, indices):
    gain = first.double() - second.double()
    half = 1.96 * gain[indices].mean(1).std().item() / len(indices) ** 0.5
    return gain.mean().item(), gain.mean().item() - half, gain.mean().item() + half


def first_only(first, second, indices):
    gain = first.double() - second.double()
    return (gain.mean().item(), *_ends(first.double()[indices].mean(1)))


def mean_of_resamples(first, second, indices):
    means = (first.double() - second.double())[indices].mean(1)
    return (means.mean().item(), *_ends(means))


# ---- 00.8 ----


def weighing(size=torch.abs, largest=False, share=lambda s: s, dense=None, sparse=None):
    def weigh(weight, sparsity):
        count = round(share(sparsity) * weight.numel())
        pruned = weight.clone()
        order = size(weight.float()).flatten().sort(descending=largest).indices
        pruned.view(-1)[order[:count]] = 0
        kept, width, rows = weight.numel() - count, weight.element_size(), len(weight)
        dense_bytes = dense(weight, kept) if dense else weight.numel() * width
        sparse_bytes = sparse(kept, width, rows) if sparse else kept * (width + 4) + 4 * (rows + 1)
        return pruned, dense_bytes, sparse_bytes

    return weigh


def by_threshold(weight, sparsity):
    count = round(sparsity * weight.numel())
    threshold = weight.abs().flatten().sort().values[count - 1]
    pruned, dense, sparse = weighing()(weight, sparsity)
    return torch.where(weight.abs() > threshold, weight, 0), dense, sparse


def in_place(weight, sparsity):
    pruned, dense, sparse = weighing()(weight, sparsity)
    weight.copy_(pruned)
    return weight, dense, sparse


WRONG = {
    "00.1": {
        "is the mean": mean_and_iqr,
        "not sorted": unsorted,
        "one of the two in the middle, not": upper_middle,
        "as torch.median": torch_median,
        "counted in n, not": in_n_steps,
        "another rule": exclusive_quartiles,
        "whole range": whole_range,
        "standard deviation": deviation,
        "half of the interquartile": half_range,
    },
    "00.2": {
        "counted in both": in_both,
        "once per use, and holds": from_state_dict,
        "is counted once per use": once_per_use,
        "frozen parameters": only_trained,
        "equal values": _by(lambda p: p.flatten().tolist(), lambda p: p.numel()),
        "equal shape": _by(lambda p: p.shape, lambda p: p.numel()),
        "counts tensors": _by(id, lambda p: 1),
        "list it with 0": without_empty,
    },
    "00.3": {
        "these are multiply-accumulates": flops(per=1),
        "the two products inside attention": flops(products=0),
        "one is missing": flops(products=1),
        "four projections": flops(projections=3),
        "two matrices, up and down": flops(ffn=1),
        "batch size is not used": lambda b, t, h, f: flops()(1, t, h, f),
        "the batch is not squared": lambda b, t, h, f: flops()(1, b * t, h, f),
        "these are parameters": lambda b, t, h, f: 4 * h * h + 2 * h * f,
        "whole number": lambda b, t, h, f: float(flops()(b, t, h, f)),
    },
    "00.4": {
        "mean of the batches' means": mean_of_means,
        "short batch is dropped": dropping_last,
        "as long as the first": all_as_long,
        "as there are batches": with_error(lambda p, n, b: (p * (1 - p) / b) ** 0.5),
        "is a variance": with_error(lambda p, n, b: p * (1 - p) / n),
        "spread of one answer": with_error(lambda p, n, b: (p * (1 - p)) ** 0.5),
        "not a share": counting,
        "expected a tuple": lambda batches: _right(batches).mean().item(),
    },
    "00.5": {
        "all calls of one function": in_blocks,
        "cold call": rounds_of(warm=0),
        "warmed up more than once": rounds_of(warm=2),
        "read once per round": rounds_of(running=True),
        "do not come from the clock": own_clock,
        "these are totals": totals,
        "items": lambda functions, rounds, clock: rounds_of()(functions, rounds + 1, clock),
    },
    "00.6": {
        "row pointers are missing": border(lambda rows: 0),
        "one row pointer is missing": border(lambda rows: rows),
        "share of entries that are kept": lambda *sizes: 1 - border()(*sizes),
        "one index, its column": border(indices=2),
        "of the same size": lambda r, c, value, index: border()(r, c, value, value),
        "number of entries": lambda r, c, value, index: r * c * border()(r, c, value, index),
    },
    "00.7": {
        "the other way round": second_minus_first,
        "own intervals": own_intervals,
        "90 % interval": ninety,
        "root of the number of resamples": ever_narrower,
        "first model's accuracy": first_only,
        "mean over resamples": mean_of_resamples,
    },
    "00.8": {
        "large negative weights": weighing(size=lambda w: w),
        "largest magnitudes are pruned": weighing(largest=True),
        "share that is kept": weighing(share=lambda s: 1 - s),
        "as large as the threshold": by_threshold,
        "changes the matrix": in_place,
        "4 bytes; ask": weighing(dense=lambda weight, kept: weight.numel() * 4),
        "stores its zeros too": weighing(dense=lambda weight, kept: kept * 2),
        "has no indices": weighing(sparse=lambda kept, width, rows: kept * width),
        "row pointers are missing": weighing(sparse=lambda kept, width, rows: kept * (width + 4)),
        "one row pointer": weighing(sparse=lambda kept, width, rows: kept * (width + 4) + 4 * rows),
        "one index, its column": weighing(sparse=lambda kept, width, rows: kept * (width + 8)),
        "8 bytes": weighing(sparse=lambda kept, width, rows: kept * (width + 8) + 8 * (rows + 1)),
        "as small as the values": weighing(sparse=lambda kept, width, rows: kept * 2 * width + width * (rows + 1)),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("00.1", lambda times: np.median(times), "expected a tuple, got"),
        ("00.1", lambda times: (times.sort(), (0.0, 0.0))[1], "changes its input"),
        ("00.2", lambda model: sum(p.numel() for p in model.parameters()), "expected a dict, got an int"),
        ("00.4", lambda batches: _right(batches[:, :]).mean(), "raises TypeError"),
        ("00.5", lambda functions, rounds: {}, "it should be called as interleave(functions, rounds, clock)"),
        ("00.5", lambda functions, rounds, clock: print(clock()), "returns None"),
        ("00.7", lambda a, b, i: (a[i].mean(1), 0, 0), "raises RuntimeError"),
        ("00.8", lambda weight, sparsity: weight.clone(), "expected a tuple, got a Tensor"),
        ("00.8", lambda weight, sparsity: (weight.flatten(), 0, 0), "expected shape"),
    ],
)
def test_odd_answers(task, answer, words):
    result = run_check(task, answer, seed=5)
    assert result.status == "wrong" and words in result.message, result


def from_the_end(weight, sparsity):
    """Takes the last of equal magnitudes where a stable sort takes the first."""
    pruned, dense, sparse = weighing()(weight.flip(1), sparsity)
    return pruned.flip(1), dense, sparse


def test_ties_in_real_weights_may_fall_either_way():
    assert [run_check("00.8", answer, seed=7).status for answer in (weighing(), from_the_end)] == ["right", "right"]


def test_the_clock_of_the_machine_is_not_the_wall(monkeypatch):
    """00.5 never looks at real time, so a slow test machine changes nothing."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    assert run_check("00.5", rounds_of(), seed=1).status == "right"
