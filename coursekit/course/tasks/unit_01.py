"""Checked tasks of unit 01: counting parameters, and narrowing a word table."""

from collections.abc import Callable

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_01_counts as counts
from coursekit.course.tasks import checks_01_tables as tables


def _factorised() -> Callable:
    from coursekit.measure import embedding_parameters

    return lambda vocabulary, hidden, width: embedding_parameters(vocabulary, hidden, width, kind="linear")


TASKS = (
    Task(
        id="01.1",
        title="Count a factorised table",
        minutes=3,
        difficulty=1,
        importance=5,
        points=1,
        signature="factorised(vocabulary, hidden, width)",
        hints=(
            "Count the two factors one after the other.",
            "The table keeps a row per word, but the rows are narrower. The map is one matrix without bias.",
            "One factor is V×E, the other E×H; the answer is the sum of their sizes.",
        ),
        check=counts.check_factorised,
        stand_in=_factorised,
    ),
    Task(
        id="01.2",
        title="The widest table that still pays",
        minutes=5,
        difficulty=2,
        importance=4,
        points=1,
        signature="widest_that_pays(vocabulary, hidden)",
        hints=(
            "The two factors together must hold strictly fewer numbers than the whole table.",
            "Solve V·E + E·H < V·H for E. What if the border is a whole number itself?",
            "The border is V·H / (V + H). Whole-number division of V·H - 1 by V + H steps below it in both cases.",
        ),
        check=counts.check_widest,
        stand_in=lambda: counts.widest_that_pays,
    ),
    Task(
        id="01.3",
        title="Count one encoder layer",
        minutes=5,
        difficulty=2,
        importance=5,
        points=2,
        signature="layer_parameters(hidden, intermediate)",
        hints=(
            "Three parts: attention, the FFN, and what normalises after each of them.",
            "Query, key, value and output are H×H with a bias of H. A LayerNorm has a scale and a shift per dimension.",
            "The FFN goes from H to F and back; the bias of each matrix is as wide as what comes out. Two LayerNorms.",
        ),
        check=counts.check_layer,
        stand_in=lambda: counts.layer_parameters,
    ),
    Task(
        id="01.4",
        title="Count a whole encoder",
        minutes=10,
        difficulty=3,
        importance=5,
        points=3,
        signature="encoder_parameters(sizes)",
        hints=(
            "Four parts: the embeddings, the map if the table is narrow, the layers, the pooler if there is one.",
            "With a width E the words, positions, types and their LayerNorm are all E wide; otherwise all are H wide.",
            "(V + P + S + 2)·E, then E·H + H only if narrow, then one layer or L of them, then H·H + H only if asked.",
        ),
        check=counts.check_whole,
        stand_in=lambda: counts.encoder_parameters,
    ),
    Task(
        id="01.5",
        title="Tie an output layer to the table",
        minutes=5,
        difficulty=2,
        importance=4,
        points=2,
        signature="tied_output(words)",
        hints=(
            "An output layer of V words over width H is a Linear from H to V; its weight has the shape of the table.",
            "To share is to hold the same object: assign the embedding's weight itself, no copy and no new parameter.",
            "Make `nn.Linear(H, V)`, then `layer.weight = words.weight`, then `nn.init.zeros_` on its bias.",
        ),
        check=tables.check_tied,
        stand_in=lambda: tables.tied_output,
    ),
    Task(
        id="01.6",
        title="Factorise a table",
        minutes=8,
        difficulty=3,
        importance=5,
        points=3,
        signature="factorise(table, width)",
        hints=(
            "The nearest table of a given rank comes from the singular value decomposition (Eckart and Young).",
            "`torch.linalg.svd(table, full_matrices=False)` gives (V, H), (H,) and (H, H), largest values first.",
            "Keep E columns of the first, E entries of the second, E rows of the third; the entries scale the columns.",
        ),
        check=tables.check_factors,
        stand_in=lambda: tables.factorise,
    ),
    Task(
        id="01.7",
        title="A width for a share of the energy",
        minutes=4,
        difficulty=2,
        importance=3,
        points=1,
        signature="width_for_energy(singular, share)",
        hints=(
            "The energy of a direction is the square of its singular value.",
            "Add the energies up from the largest on, and divide by their sum: what each width keeps.",
            "Count how many of these running shares are still below the one you want; the width is one more.",
        ),
        check=tables.check_energy,
        stand_in=lambda: tables.width_for_energy,
    ),
    Task(
        id="01.8",
        title="A width for a budget of bytes",
        minutes=8,
        difficulty=3,
        importance=4,
        points=2,
        signature="width_for_bytes(encoder, budget)",
        hints=(
            "What stays, whatever the width? Take the table's bytes from those of the whole encoder.",
            "Each unit of width costs V + H numbers. `tensor.element_size()` says how many bytes a number has.",
            "Divide what is left of the budget by the bytes of one unit of width, whole; keep it between 0 and H.",
        ),
        check=tables.check_budget,
        stand_in=lambda: tables.width_for_bytes,
    ),
)
