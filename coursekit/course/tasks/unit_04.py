"""Checked tasks of unit 04: ranks and factors, factors that know the inputs, LoRA, a real FFN."""

from collections.abc import Callable

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_04_factors as factors
from coursekit.course.tasks import checks_04_methods as methods


def _rank_for_budget() -> Callable:
    from coursekit.compress.lowrank import rank_for_budget

    return rank_for_budget


TASKS = (
    Task(
        id="04.1",
        title="The rank that a budget buys",
        minutes=4,
        difficulty=1,
        importance=5,
        points=2,
        signature="rank_for_budget(out_features, in_features, keep)",
        hints=(
            "Count the numbers in both factors at rank r, and those of the whole matrix.",
            "r·(out + in) must be at most keep·out·in. Solve for r, and round so that the budget holds.",
            "Divide keep·out·in by out + in and round down; return a whole number.",
        ),
        check=factors.check_budget,
        stand_in=_rank_for_budget,
    ),
    Task(
        id="04.2",
        title="Two layers for one",
        minutes=8,
        difficulty=3,
        importance=5,
        points=3,
        signature="low_rank_layers(linear, rank)",
        hints=(
            "`linear.weight` is (out, in). Which singular vectors have the length of the inputs?",
            "torch.linalg.svd(weight, full_matrices=False) gives U, the singular values, and V already transposed. The"
            " first layer goes in → rank without bias, the second rank → out.",
            "First layer: the first rows of Vᵀ. Second: the first columns of U times singular values, and the bias.",
        ),
        check=factors.check_layers,
        stand_in=lambda: factors.low_rank_layers,
    ),
    Task(
        id="04.3",
        title="The error at every rank",
        minutes=6,
        difficulty=2,
        importance=4,
        points=2,
        signature="relative_errors(singular)",
        hints=(
            "Eckart and Young: the squared error at rank r is the sum of the squares beyond the r-th.",
            "A sum from the end is a cumulative sum of the flipped values, flipped back. At the full rank it is 0.",
            "Tails of the squares with a 0 behind them, divided by the first tail, under a root.",
        ),
        check=factors.check_errors,
        stand_in=lambda: factors.relative_errors,
    ),
    Task(
        id="04.4",
        title="Back to one layer",
        minutes=4,
        difficulty=2,
        importance=3,
        points=1,
        signature="merge(layers)",
        hints=(
            "One matrix that does to x what the two do one after the other.",
            "The layer computes W₂(W₁x) + b. Which product of the stored weights has shape (out, in)?",
            "weight = second.weight @ first.weight, and the second layer's bias, in a new nn.Linear.",
        ),
        check=factors.check_merge,
        stand_in=lambda: factors.merge,
    ),
    Task(
        id="04.5",
        title="Factors that know their inputs",
        minutes=8,
        difficulty=4,
        importance=5,
        points=3,
        signature="aware(weight, covariance, rank)",
        hints=(
            "The best r directions are the principal directions of the outputs.",
            "Outputs y = Wx have the covariance W C Wᵀ. torch.linalg.eigh gives eigenvectors as columns, eigenvalues "
            "rising.",
            "With U the last `rank` eigenvectors the factors are U and Uᵀ W.",
        ),
        check=methods.check_aware,
        stand_in=lambda: methods.aware,
    ),
    Task(
        id="04.6",
        title="A bias that keeps the mean",
        minutes=4,
        difficulty=2,
        importance=3,
        points=1,
        signature="corrected(weight, near, bias, mean)",
        hints=(
            "What is the mean output of the whole layer, and what that of the approximation?",
            "Both are linear, so the mean of the outputs is the output of the mean.",
            "Add to the bias what the approximation misses at the mean: the difference of the matrices times the mean.",
        ),
        check=methods.check_bias,
        stand_in=lambda: methods.corrected,
    ),
    Task(
        id="04.7",
        title="LoRA's outputs",
        minutes=5,
        difficulty=2,
        importance=4,
        points=2,
        signature="lora(x, weight, bias, down, up, alpha)",
        hints=(
            "Two answers are added: the frozen layer's, and the small product's.",
            "x has one row per input: a weight (out, in) acts as x @ weight.T. The rank is the number of rows of down.",
            "x @ weight.T + bias, plus alpha / rank times x through down and then through up.",
        ),
        check=methods.check_lora,
        stand_in=lambda: methods.lora,
    ),
    Task(
        id="04.8",
        title="The FFN of a real encoder",
        minutes=8,
        difficulty=3,
        importance=4,
        points=3,
        signature="factorise_ffn(encoder, rank)",
        hints=(
            "Go through encoder.layers; each has `ffn.up` and `ffn.down`, and assignment replaces them.",
            "Two depths may hold the very same FFN. When you come to the second, its matrices are factorised already.",
            "Skip what is a LowRankLinear by now; everything else becomes factorize(it, rank). Return the encoder.",
        ),
        check=methods.check_ffn,
        stand_in=lambda: methods.factorise_ffn,
    ),
)
