"""Checked tasks of unit 08: layers that meet, PKD, BERT-of-Theseus, MiniLM, and a recipe of one's own."""

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_08_layers as layers
from coursekit.course.tasks import checks_08_models as models
from coursekit.distill import patient_loss

TASKS = (
    Task(
        id="08.1",
        title="Which layers are patient",
        minutes=6,
        difficulty=2,
        importance=4,
        points=2,
        signature="patient_layers(which, teacher_layers, student_layers)",
        hints=(
            "Student states 1 to M − 1: neither the embeddings nor the last layer. One pair for each.",
            "Skip: state m meets state m·N/M. Last: the teacher's states end one before its last, as the student's do.",
            "`[(m, m * N // M) for m in range(1, M)]` for skip; for last the second number is `N - M + m`.",
        ),
        check=layers.check_patient_layers,
        stand_in=lambda: layers.patient_layers,
    ),
    Task(
        id="08.2",
        title="The patient loss",
        minutes=6,
        difficulty=2,
        importance=5,
        points=2,
        signature="patience(s, t)",
        hints=(
            "First give every state length 1, along its last dimension, in the student and in the teacher.",
            "Then the squared difference: add it up over the width, and take the mean over texts and layers.",
            "`F.normalize(s, dim=-1)`; and `(a - b).square().sum(-1).mean()`.",
        ),
        check=layers.check_patience,
        stand_in=lambda: patient_loss,
    ),
    Task(
        id="08.3",
        title="How often a module is replaced",
        minutes=5,
        difficulty=1,
        importance=3,
        points=1,
        signature="replacing_rate(step, total, base, reach)",
        hints=(
            "A line that begins at `base` in step 0 and is at 1 after `reach * total` steps. What is its slope?",
            "It rises by 1 − base over reach·total steps, and it never goes above 1.",
            "`min(1.0, base + (1 - base) * step / (reach * total))`.",
        ),
        check=layers.check_rate,
        stand_in=lambda: layers.replacing_rate,
    ),
    Task(
        id="08.4",
        title="One pass of the ship",
        minutes=8,
        difficulty=3,
        importance=5,
        points=3,
        signature="sail(x, predecessor, successor, replaced)",
        hints=(
            "How many predecessor layers belong to one module? Go through the modules from the first to the last.",
            "A replaced module is one layer, `successor[m]`. A kept one is `predecessor[m * size : (m + 1) * size]`.",
            "For each module: take its list of layers, and put the state through them, `x = layer(x)`.",
        ),
        check=models.check_sail,
        stand_in=lambda: models.sail,
    ),
    Task(
        id="08.5",
        title="Relations of values",
        minutes=8,
        difficulty=3,
        importance=5,
        points=3,
        signature="value_relations(values, mask)",
        hints=(
            "It is attention with the values in both places: products of all pairs, scaled, softmax over keys.",
            "Padding must get no weight *before* the softmax; the rows of padded queries are set to 0 after it.",
            "`scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(-1)`, then zero the rows with "
            "`mask[:, None, :, None]`.",
        ),
        check=models.check_relations,
        stand_in=lambda: models.value_relations,
    ),
    Task(
        id="08.6",
        title="Heads split anew",
        minutes=6,
        difficulty=3,
        importance=3,
        points=2,
        signature="split_heads(x, heads)",
        hints=(
            "Follow one token: its numbers lie in all heads. They must lie side by side before they can be split anew.",
            "(B, A, T, d) → (B, T, A, d) → (B, T, A·d) → (B, T, heads, A·d/heads) → (B, heads, T, A·d/heads).",
            "`x.transpose(1, 2).flatten(2)`, then `.unflatten(-1, (heads, -1))`, then `.transpose(1, 2)`.",
        ),
        check=models.check_split,
        stand_in=lambda: models.split_heads,
    ),
    Task(
        id="08.7",
        title="A recipe of your own",
        minutes=15,
        difficulty=4,
        importance=5,
        points=4,
        signature="own_recipe(teacher_layers, student_layers)",
        hints=(
            "A narrower student with as many heads: which kinds of terms compare as they are, and which need a map?",
            "Attention, values, and hidden states with `project=` work. Pairs come from `match_layers`, or from you.",
            'Stage one: `Term("attention-kl", layers=match.attention)`. Stage two: `Term("soft", temperature=2.0)` and '
            '`Term("hard")`. Then `Recipe(name, teacher_layers, student_layers, (one, two))`.',
        ),
        check=layers.check_recipe,
        stand_in=lambda: layers.own_recipe,
    ),
)
