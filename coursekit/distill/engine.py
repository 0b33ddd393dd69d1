"""Carrying out a recipe: each stage is one call of the training loop, whose loss looks at two models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coursekit.distill.cache import CachedBatches
from coursekit.distill.exact import StepBatches
from coursekit.distill.pair import Distillation, distillation_loss, projection_name
from coursekit.distill.recipes import Recipe, Stage
from coursekit.distill.refusals import check_depths, check_labels, check_pair, warn_of_untaught
from coursekit.distill.replacing import Theseus
from coursekit.distill.states import asked_of_teacher, encoder_of
from coursekit.errors import unknown_name
from coursekit.models.layers import initialise
from coursekit.train import Batches, TrainConfig, TrainResult, train
from coursekit.train.pieces import epoch_of
from coursekit.train.runtime import own_random_numbers, start_accelerator

AnyBatches = Batches | Sequence[Any]


@dataclass
class DistillResult:
    """What happened in each stage, by its name."""

    stages: dict[str, TrainResult] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time of all steps."""
        return sum(result.seconds for result in self.stages.values())


def distill(
    student: nn.Module,
    teacher: nn.Module,
    recipe: Recipe,
    batches: AnyBatches | Mapping[str, AnyBatches],
    config: TrainConfig | Mapping[str, TrainConfig],
    *,
    others: Mapping[str, nn.Module] | None = None,
    labels: Sequence[str] | None = None,
    teacher_labels: Sequence[str] | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    keep_best: str | None = None,
    on_step: Callable[[int, nn.Module], None] | None = None,
    folder: Path | str | None = None,
) -> DistillResult:
    """Carry out a recipe, on the device the student is on; the student comes back trained, the teacher as it was.

    batches  texts with labels (−100 where unknown), as `TextBatches`, `MaskedBatches` or a `CachedBatches` of either
             the first; one for all stages, or one for each stage by name
    config   one for all stages, whose schedule a stage may fix, or one for each stage by name
    others   the models that stages name beside teacher and student: "pretrained", "assistant"
    labels, teacher_labels    names of the labels in order, compared if both are given
    evaluate, on_step         as in `train`, called with the student that learns in the stage
    keep_best                 as in `train`, in stages that train the head
    folder   for checkpoints, a folder for each stage; a second call goes on where the first was interrupted

    Raises ValueError, before any training, for models that do not fit the recipe or each other; warns if a classifier
    that teaches was not fine-tuned on the task.
    """
    models = {"teacher": teacher, "student": student, **(others or {})}
    check_labels(labels, teacher_labels)
    plans = [_plan(recipe, stage, models, batches, config) for stage in recipe.stages]
    for stage, stage_batches, _ in plans:
        if stage.replacing or any(term.kind == "soft" for term in stage.terms):
            _warn_of_untaught(models[stage.teacher], stage_batches)
    result = DistillResult()
    projections: dict[str, nn.ModuleDict] = {}
    for number, (stage, stage_batches, stage_config) in enumerate(plans):
        learner = models[stage.student]
        if stage.student not in projections:
            projections[stage.student] = _projections(recipe, stage.student, models, stage_config.seed)
        trains_head = any(not term.layers for term in stage.terms)
        result.stages[stage.name] = _run(
            stage,
            learner,
            models[stage.teacher],
            projections[stage.student],
            stage_batches,
            stage_config,
            evaluate=None if evaluate is None else lambda _, learner=learner: evaluate(learner),
            keep_best=keep_best if trains_head else None,
            on_step=on_step,
            folder=None if folder is None else Path(folder) / f"{number}-{stage.name}",
            title=f"{recipe.name}, {stage.name}",
        )
    return result


def _plan(recipe: Recipe, stage: Stage, models: Mapping[str, nn.Module], batches: Any, config: Any) -> tuple:
    """Stage, batches and config, all checked."""
    for role in (stage.teacher, stage.student):
        if role not in models:
            raise ValueError(f"stage {stage.name!r} of {recipe.name} needs others={{{role!r}: a model}}")
    student, teacher = models[stage.student], models[stage.teacher]
    check_depths(recipe, stage, student, teacher)
    check_pair(stage, student, teacher)
    own_batches, own_config = _of_stage("batches", batches, recipe, stage), _of_stage("config", config, recipe, stage)
    if own_config is config and stage.schedule is not None:
        own_config = replace(config, schedule=stage.schedule)
    if isinstance(own_batches, CachedBatches):
        asked = asked_of_teacher(stage.terms)
        own_batches = own_batches.only(teacher, asked) if asked else own_batches.texts
    return stage, own_batches, own_config


def _of_stage(what: str, value: Any, recipe: Recipe, stage: Stage) -> Any:
    if not isinstance(value, Mapping):
        return value
    for name in value:
        if name not in {other.name for other in recipe.stages}:
            raise unknown_name(f"stage in {what}", name, [other.name for other in recipe.stages])
    if stage.name not in value:
        raise ValueError(f"{what} has nothing for stage {stage.name!r}, only {', '.join(map(repr, value))}")
    return value[stage.name]


def _warn_of_untaught(teacher: nn.Module, batches: AnyBatches) -> None:
    batch = epoch_of(batches, 0)[0]
    if hasattr(teacher, "num_labels") and "labels" in batch and not batch["labels"].is_floating_point():
        warn_of_untaught(teacher, batches)


def _run(
    stage: Stage,
    student: nn.Module,
    teacher: nn.Module,
    projections: nn.ModuleDict,
    batches: AnyBatches,
    config: TrainConfig,
    **options: Any,
) -> TrainResult:
    """One stage."""
    told, on_step = student, options.pop("on_step")
    theseus = None
    if stage.replacing:
        steps = _total_steps(batches, config)
        student = theseus = Theseus(teacher, student, stage.replacing, steps=steps, seed=config.seed)
    asks = asked_of_teacher(stage.terms) and not isinstance(batches, CachedBatches)
    if config.accumulate > 1 or start_accelerator().num_processes > 1:
        batches = StepBatches(batches, config.accumulate)

    def after_step(done: int, model: nn.Module) -> None:
        if theseus is not None:
            theseus.at(done)
        if on_step is not None:
            on_step(done, told)

    with _as_it_was(teacher), nullcontext() if theseus is None else theseus.frozen():
        model = Distillation(student, teacher if asks else None, stage.terms, projections)
        return train(model, batches, distillation_loss, config, on_step=after_step, **options)


def _total_steps(batches: AnyBatches, config: TrainConfig) -> int:
    if config.steps is not None:
        return config.steps
    return sum(ceil(len(epoch_of(batches, number)) / config.accumulate) for number in range(config.epochs))


@contextmanager
def _as_it_was(teacher: nn.Module) -> Iterator[None]:
    """Give a teacher back with its mode, its gradients' flags and its device."""
    training, device = teacher.training, next(teacher.parameters()).device
    flags = [(weight, weight.requires_grad) for weight in teacher.parameters()]
    try:
        yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)
        teacher.to(device).train(training)


def _projections(recipe: Recipe, role: str, models: Mapping[str, nn.Module], seed: int) -> nn.ModuleDict:
    """The maps that the recipe's stages for one student need, from its width to its teacher's, with bias."""
    needed: dict[str, tuple[int, int]] = {}
    for stage in (stage for stage in recipe.stages if stage.student == role):
        widths = tuple(encoder_of(models[name]).config.hidden_size for name in (role, stage.teacher))
        for term in stage.terms:
            for layer, _ in term.layers if term.project else ():
                if needed.setdefault(projection_name(term, layer), widths) != widths:
                    raise ValueError(f"the teachers of {recipe.name} differ in width; project to one of them only")
    with own_random_numbers(seed, torch.device("cpu")):
        return nn.ModuleDict({name: nn.Linear(*widths) for name, widths in needed.items()}).apply(initialise)
