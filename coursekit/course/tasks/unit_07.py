"""Checked tasks of unit 07: softened answers, the parts of DistilBERT's loss, a student's start, a recipe."""

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_07_losses as losses
from coursekit.course.tasks import checks_07_recipes as recipes

TASKS = (
    Task(
        id="07.1",
        title="Softened answers",
        minutes=4,
        difficulty=1,
        importance=5,
        points=1,
        signature="soften(logits, temperature)",
        hints=(
            "The temperature acts on the logits, before they become probabilities.",
            "Divide by T, then softmax over the classes, the last axis.",
            "`(logits / temperature).softmax(-1)`.",
        ),
        check=losses.check_soften,
        stand_in=lambda: losses.soften,
    ),
    Task(
        id="07.2",
        title="Soft targets, with padding",
        minutes=10,
        difficulty=3,
        importance=5,
        points=3,
        signature="soft_loss(s_logits, t_logits, temperature, mask)",
        hints=(
            "First one number for each token: Σ p·(log p − log q) over the classes, p the teacher's answers at T.",
            "Take both logarithms with `log_softmax` of logits/T; p is `exp` of the teacher's. Then keep the rows of "
            "the mask, take their mean, and multiply by T².",
            "With `rows = (log_t.exp() * (log_t - log_s)).sum(-1)`, a (B, T) tensor: "
            "`temperature**2 * rows[mask].mean()`.",
        ),
        check=losses.check_soft,
        stand_in=lambda: losses.soft_loss,
    ),
    Task(
        id="07.3",
        title="Its gradient",
        minutes=6,
        difficulty=2,
        importance=4,
        points=2,
        signature="soft_gradient(s_logits, t_logits, temperature)",
        hints=(
            "At T = 1 the gradient of one row's loss is the student's probabilities minus the teacher's.",
            "Dividing the logits by T brings a factor 1/T; the loss has the factor T²; and it is a mean over rows.",
            "T · (soften(s, T) − soften(t, T)) / number of rows.",
        ),
        check=losses.check_gradient,
        stand_in=lambda: losses.soft_gradient,
    ),
    Task(
        id="07.4",
        title="The direction of a state",
        minutes=5,
        difficulty=2,
        importance=3,
        points=2,
        signature="direction_loss(s, t, mask)",
        hints=(
            "One number for each token: 1 minus the cosine of the angle between the two vectors.",
            "`F.cosine_similarity(s, t, dim=-1)` has the shape (B, T), as the mask.",
            "`(1 - F.cosine_similarity(s, t, dim=-1))[mask].mean()`.",
        ),
        check=losses.check_direction,
        stand_in=lambda: losses.direction_loss,
    ),
    Task(
        id="07.5",
        title="The triple loss",
        minutes=8,
        difficulty=3,
        importance=5,
        points=3,
        signature="triple_loss(s_logits, t_logits, s_hidden, t_hidden, labels, mask)",
        hints=(
            "Three numbers, each with its own mean: answers and directions over real tokens, labels over hidden.",
            "The library has `soft_target_loss(…, temperature=2.0, mask=…)`, `hard_loss(s_logits, labels)`, which "
            "leaves out −100 by itself, and `cosine_loss(…, mask=…)`.",
            "5 · soft + 2 · hard + 1 · cosine.",
        ),
        check=losses.check_triple,
        stand_in=lambda: losses.triple_loss,
    ),
    Task(
        id="07.6",
        title="Begin with the teacher's layers",
        minutes=7,
        difficulty=3,
        importance=4,
        points=2,
        signature="begin_with(encoder, layers)",
        hints=(
            "Start from `copy.deepcopy(encoder)`: its embeddings are already those of the teacher.",
            "Put only the layers asked for, in their order, into a new `nn.ModuleList`, and tell the config how many.",
            "`student.layers = nn.ModuleList(student.layers[n] for n in layers)`, then "
            "`student.config = student.config.replace(num_layers=len(layers))`.",
        ),
        check=recipes.check_begin,
        stand_in=lambda: recipes.begin_with,
    ),
    Task(
        id="07.7",
        title="Write a recipe",
        minutes=8,
        difficulty=3,
        importance=4,
        points=3,
        signature="task_recipe(teacher_layers, student_layers, alpha, temperature)",
        hints=(
            "A recipe has a name, both depths, a tuple of stages and a start; a stage has a name and a tuple of terms.",
            '`Term("soft", weight, temperature=…)`, `Term("hard", weight)`, `Term("cosine", layers=((…, …),))`; the '
            "last hidden state of a model has the number of its layers.",
            'The start is `match_layers("uniform", teacher_layers, student_layers)`; all goes into '
            '`Recipe("task", teacher_layers, student_layers, (Stage("distil", terms),), start)`.',
        ),
        check=recipes.check_recipe,
        stand_in=lambda: recipes.task_recipe,
    ),
)
