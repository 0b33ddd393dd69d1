"""Checked tasks of unit 05: choosing what goes, and taking it out."""

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_05_masks as masks
from coursekit.course.tasks import checks_05_structure as structure


def _cubic() -> object:
    from coursekit.compress.pruning import cubic_sparsity

    return cubic_sparsity


TASKS = (
    Task(
        id="05.1",
        title="A magnitude mask with an exact count",
        minutes=8,
        difficulty=2,
        importance=5,
        points=2,
        signature="magnitude(weight, sparsity)",
        hints=(
            "A threshold cannot count: equal weights fall on the same side of it. Choose positions instead.",
            "Flatten the magnitudes; `topk` or `argsort` gives the positions of the smallest, as many as asked.",
            "Start from `torch.ones_like(weight, dtype=torch.bool)`, and set `mask.view(-1)[positions] = False`.",
        ),
        check=masks.check_magnitude,
        stand_in=lambda: masks.magnitude,
    ),
    Task(
        id="05.2",
        title="The cubic schedule",
        minutes=5,
        difficulty=1,
        importance=3,
        points=1,
        signature="cubic(step, *, start, end, initial, final)",
        hints=(
            "First find which part of the schedule is over: 0 at the start, 1 at the end.",
            "Clip that part to [0, 1], and the sparsity will stand still before and after by itself.",
            "What is left to prune falls as (1 - part) cubed, from all of (final - initial) to nothing.",
        ),
        check=masks.check_cubic,
        stand_in=_cubic,
    ),
    Task(
        id="05.3",
        title="N of every M",
        minutes=8,
        difficulty=3,
        importance=3,
        points=2,
        signature="n_m(weight, n, m)",
        hints=(
            "Reshape first: (outputs, inputs) becomes (outputs, groups, m), and each group is ranked by itself.",
            "`unflatten(1, (-1, m))` makes the groups and `flatten(1)` undoes it; check the division before.",
            "The rank of each entry is `argsort(-1).argsort(-1)` of its magnitude; keep ranks of at least m - n.",
        ),
        check=masks.check_n_m,
        stand_in=lambda: masks.n_m,
    ),
    Task(
        id="05.4",
        title="Wanda: what comes in counts",
        minutes=10,
        difficulty=3,
        importance=4,
        points=3,
        signature="wanda(weight, inputs, real, sparsity)",
        hints=(
            "Two steps: a norm for each of the inputs, then a ranking inside each row of the weight.",
            "`inputs[real]` is (tokens, in) without padding; the norm runs over its tokens.",
            "Score = |weight| times the norms; in each row the round(sparsity times in) smallest scores go.",
        ),
        check=masks.check_wanda,
        stand_in=lambda: masks.wanda,
    ),
    Task(
        id="05.5",
        title="Movement pruning's two gradients",
        minutes=10,
        difficulty=3,
        importance=4,
        points=3,
        signature="movement_gradients(weight, mask, x, upstream)",
        hints=(
            "Let V = W ∘ M be what multiplies x. What is the gradient with respect to V, a matrix (out, in)?",
            "For y = x Vᵀ that is upstreamᵀ x. The product rule hands it on to both factors of W ∘ M.",
            "The weight gets it times the mask. The score stands for the mask, and gets it times the weight.",
        ),
        check=structure.check_movement,
        stand_in=lambda: structure.movement_gradients,
    ),
    Task(
        id="05.6",
        title="Take a head out",
        minutes=12,
        difficulty=3,
        importance=5,
        points=3,
        signature="without_head(state, head, heads)",
        hints=(
            "Which rows of query, key and value make head number `head`? And where do its results enter `output`?",
            "The head is the band of rows from head·size to (head + 1)·size, with size = rows // heads.",
            "Make a list of the rows that stay. Index rows and biases of the three by it, and columns of output.",
        ),
        check=structure.check_head,
        stand_in=lambda: structure.without_head,
    ),
    Task(
        id="05.7",
        title="Keep some neurons",
        minutes=6,
        difficulty=2,
        importance=4,
        points=2,
        signature="keep_neurons(up_weight, up_bias, down_weight, down_bias, keep)",
        hints=(
            "A neuron is a row of `up`, an entry of its bias, and a column of `down`.",
            "Three of the four tensors get smaller; the last one belongs to the model's width.",
            "`up_weight[keep]` takes rows, `down_weight[:, keep]` columns.",
        ),
        check=structure.check_neurons,
        stand_in=lambda: structure.keep_neurons,
    ),
    Task(
        id="05.8",
        title="What zeros are worth on disk",
        minutes=8,
        difficulty=2,
        importance=4,
        points=2,
        signature="three_sizes(weight, index_bytes)",
        hints=(
            "Count the entries that are not zero; `weight.element_size()` says how many bytes a value has.",
            "CSR: a value and a column number for each of them, and rows + 1 numbers that say where rows begin.",
            "Bits: the values that are not zero, and one bit per entry of the whole matrix, rounded up to bytes.",
        ),
        check=structure.check_bytes,
        stand_in=lambda: structure.three_sizes,
    ),
)
