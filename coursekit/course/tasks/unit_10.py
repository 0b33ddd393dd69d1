"""Checked tasks of unit 10: fronts, fair times, margins, equal compute, and two budgets met."""

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_10_budget as budget
from coursekit.course.tasks import checks_10_choice as choice

TASKS = (
    Task(
        id="10.1",
        title="What nothing beats",
        minutes=8,
        difficulty=2,
        importance=5,
        points=2,
        signature="front(costs, accuracies)",
        hints=(
            "A model is beaten by one that is at least as good in both and better in one.",
            "Compare every model with every other. Two with equal cost and equal accuracy both stay.",
            "Keep number i unless some (c, a) has c <= costs[i] and a >= accuracies[i] and differs from it.",
        ),
        check=choice.check_front,
        stand_in=lambda: choice.front,
    ),
    Task(
        id="10.2",
        title="A fair ratio of times",
        minutes=5,
        difficulty=1,
        importance=4,
        points=1,
        signature="paired_ratio(times)",
        hints=(
            "What slows a machine slows both calls of a round.",
            "So divide within each round, and only then summarise.",
            "`statistics.median` of model / teacher over the rounds.",
        ),
        check=choice.check_ratio,
        stand_in=lambda: choice.paired_ratio,
    ),
    Task(
        id="10.3",
        title="The lower end of a loss",
        minutes=10,
        difficulty=3,
        importance=5,
        points=3,
        signature="lower_end(small, teacher, rows)",
        hints=(
            "Pair first: for each text, the mean over seeds of small minus teacher, (N,).",
            "That vector indexed by `rows` is (R, N); its mean over the last axis is one difference per resample.",
            "The end of a 95 % interval is the quantile 0.025 of those R numbers.",
        ),
        check=choice.check_lower_end,
        stand_in=lambda: choice.lower_end,
    ),
    Task(
        id="10.4",
        title="Equal compute",
        minutes=8,
        difficulty=3,
        importance=4,
        points=2,
        signature="steps_alone(teacher_steps, student_steps, teacher_layers, student_layers)",
        hints=(
            "Count passes through one layer: a step that learns costs 3 for each layer, asking the teacher 1.",
            "Add up the teacher's training, the student's, and what the student asks of the teacher.",
            "Divide by what a step of the small model alone costs, 3 for each of its layers, and round down.",
        ),
        check=budget.check_steps,
        stand_in=lambda: budget.steps_alone,
    ),
    Task(
        id="10.5",
        title="Within a budget",
        minutes=6,
        difficulty=2,
        importance=5,
        points=2,
        signature="best_that_fits(rows, most_bytes, most_ratio)",
        hints=(
            "First who fits, by both limits; then who of them is the most accurate.",
            "A limit may be reached exactly. Where nobody fits, the answer is -1.",
            "`max` over the numbers of the rows that fit, with `key=` their accuracy.",
        ),
        check=budget.check_best,
        stand_in=lambda: budget.best_that_fits,
    ),
    Task(
        id="10.6",
        title="The gentlest recipe that fits",
        minutes=8,
        difficulty=3,
        importance=4,
        points=3,
        signature="gentlest(model, recipes, most_bytes)",
        hints=(
            "Try the recipes in their order and stop at the first whose model is small enough.",
            "Every recipe gets the model itself. What counts is `stored_bytes` of what it returns.",
            "`for number, recipe in enumerate(recipes): if stored_bytes(recipe(model)) <= most_bytes: return number`.",
        ),
        check=budget.check_gentlest,
        stand_in=lambda: budget.gentlest,
    ),
)
