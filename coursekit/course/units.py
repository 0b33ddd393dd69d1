"""The eleven units of the course and where their files are."""

from dataclasses import dataclass
from pathlib import Path

from coursekit.errors import unknown_name

FOLDERS = {"lesson": "notebooks", "exercise": "exercises", "solution": "solutions"}


@dataclass(frozen=True)
class Unit:
    """One unit: a lesson, an exercise made from its solution, and the solution.

    `minutes` is the time for lesson and exercise together; `prerequisites` are unit numbers.
    """

    number: str
    slug: str
    title: str
    summary: str
    minutes: int
    prerequisites: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """File name without its ending, as `01_parameters`."""
        return f"{self.number}_{self.slug}"

    @property
    def ready(self) -> bool:
        """Whether lesson and solution are written; false too where only the library is installed."""
        try:
            return self.ready_in(course_root())
        except FileNotFoundError:
            return False

    def ready_in(self, root: Path) -> bool:
        """Whether the checkout at `root` has the sources of this unit's lesson and solution."""
        return all(self.source(kind, root).is_file() for kind in ("lesson", "solution"))

    def open_in(self, root: Path) -> bool:
        """Whether the unit is ready and its lesson has been built: a draft is not open."""
        return self.ready_in(root) and self.notebook("lesson", root).is_file()

    def notebook(self, kind: str, root: Path) -> Path:
        """Path of the built notebook; `kind` is a key of FOLDERS."""
        return root / FOLDERS[kind] / f"{self.stem}.ipynb"

    def source(self, kind: str, root: Path) -> Path:
        """Path of the py:percent source; exercise and solution have one source."""
        folder = FOLDERS["lesson" if kind == "lesson" else "solution"]
        return root / folder / "_src" / f"{self.stem}.py"


UNITS = (
    Unit(
        "00",
        "measuring",
        "Measuring honestly",
        "One real encoder measured five ways, and why 90 % zeros give the same file and the same speed.",
        100,
    ),
    Unit(
        "01",
        "parameters",
        "Where the parameters are",
        "Embedding tables by hand and in code, BERT-base piece by piece, a real table factorised.",
        90,
        ("00",),
    ),
    Unit(
        "02",
        "sharing",
        "Sharing layers",
        "ALBERT's plans and Subformer's sandwich; every published count recomputed; memory saved, time not.",
        90,
        ("01",),
    ),
    Unit(
        "03",
        "nsp_sop",
        "Next sentence or sentence order",
        "Both tasks on the same news, two models, each tested on both, against a topic baseline.",
        75,
        ("00",),
    ),
    Unit(
        "04",
        "low_rank",
        "Low-rank factorization",
        "SVD, rank budgets and break-even, factors that know the activations, accuracy against rank.",
        90,
        ("01",),
    ),
    Unit(
        "05",
        "pruning",
        "Pruning",
        "Magnitude, movement, Wanda and N:M; heads, neurons and layers that are really gone and really faster.",
        105,
        ("01",),
    ),
    Unit(
        "06",
        "quantization",
        "Quantization",
        "Affine arithmetic by hand, int8 three ways, int4 in groups, GPTQ, and the speed one really gets.",
        105,
        ("01",),
    ),
    Unit(
        "07",
        "distillation",
        "Distillation I: what the teacher answers",
        "Soft and hard losses, temperature, DistilBERT's triple loss, its start and its ablation.",
        105,
        ("02",),
    ),
    Unit(
        "08",
        "inner_layers",
        "Distillation II: what the teacher computes",
        "Inner layers: PKD-Last and PKD-Skip, BERT-of-Theseus, MiniLM.",
        105,
        ("07",),
    ),
    Unit(
        "09",
        "tinybert",
        "TinyBERT",
        "General distillation, then for the task, with augmentation; ablations by stage and by loss.",
        105,
        ("08",),
    ),
    Unit(
        "10",
        "capstone",
        "Capstone: one leaderboard",
        "Every method on one task: size, speed and accuracy, methods stacked, export.",
        120,
        ("04", "05", "06", "09"),
    ),
)

FAMILIES = {
    "weight sharing": ("02",),
    "low-rank factorization": ("01", "04"),
    "pruning": ("05",),
    "quantization": ("06",),
    "knowledge distillation": ("07", "08", "09"),
}
"""The units of each family; the others are about measuring (00), training tasks (03) and all together (10)."""


def find_unit(name: str | int) -> Unit:
    """The unit called `"01"`, `1`, `"1"`, `"01_parameters"` or `"parameters"`.

    Raises ValueError with the nearest names for anything else.
    """
    text = str(name).strip()
    number = text.zfill(2) if text.isdigit() else text
    for unit in UNITS:
        if number in (unit.number, unit.slug, unit.stem):
            return unit
    raise unknown_name("unit", name, [unit.stem for unit in UNITS])


def course_root() -> Path:
    """The checkout of the course: around this package, or the current folder or one above it.

    Raises FileNotFoundError where only the library is installed.
    """
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[2], here, *here.parents):
        if (folder / "notebooks" / "_src").is_dir():
            return folder
    raise FileNotFoundError(
        f"the course is not at {here} or above it, only the library is installed; "
        "go to a checkout of the course (the folder that holds notebooks/_src)"
    )
