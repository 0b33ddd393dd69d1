"""Benchmarks of distillation: what a step costs with a teacher written down naively, with ours, and with a cached one,
beside the student's own training step."""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from coursekit.bench.frame import Arm, Arms, Case, Setting, require_close
from coursekit.bench.peers import no_bf16
from coursekit.bench.results import Bar
from coursekit.distill import Distillation, Recipe, cache_teacher, distillation_loss, fresh_student, tinybert
from coursekit.models import Capture, Encoder, SequenceClassifier, TransformerConfig
from coursekit.train import Loss, TextBatches, TrainConfig, classification_loss, has_bf16, inputs
from coursekit.train.runtime import start_accelerator
from coursekit.train.step import Stepper

LR, CLIP = 1e-6, 1.0
VOCAB, HEADS = 30522, 8
STUDENT = {"num_layers": 4, "hidden_size": 256, "intermediate_size": 1024}
Step = Callable[[], tuple[float, float]]


def distillation_cases(full: bool = False) -> list[Case]:
    """The suite (bar 4): teachers of 6 layers × 384 and × 768. `full`: more rounds."""
    return [step_case(width, most, rounds=9 if full else 5) for width, most in ((384, 1.3), (768, 1.4))]


def step_case(
    width: int,
    most: float,
    *,
    vocab: int = VOCAB,
    rows: int = 32,
    student: dict[str, int] | None = None,
    rounds: int = 5,
) -> Case:
    """One step of TinyBERT's inner stage: 6 layers of the given width teach a student of 4 × 256, layers from the top.

    rows: texts in the batch, 24 to 32 tokens each, as the loop's length buckets make them of short reviews.
    """
    about = f"6 layers × {width} → 4 × 256, {rows} texts of 24 to 32 tokens, V {vocab:,}, TinyBERT's inner losses"
    make = partial(_arms, width, vocab, rows, student or STUDENT)
    bars = tuple(_bar(width, most, precision) for precision in ("fp32", "bf16"))
    return Case(f"distillation step, teacher 6 × {width}", about, make, bars, rounds=rounds, grad=True)


def _arms(width: int, vocab: int, rows: int, shape: dict[str, int], setting: Setting) -> Arms:
    config = TransformerConfig(vocab, width, 6, HEADS, 4 * width, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = SequenceClassifier(Encoder(config), 2).eval()
    texts = _texts(vocab, rows)
    recipe = tinybert(6, shape["num_layers"], layers="top").without("prediction")
    folder = tempfile.TemporaryDirectory()  # goes when the arms do
    cached = cache_teacher(teacher, texts, recipe, folder=Path(folder.name) / "answers")
    student = fresh_student(teacher, **shape).to(setting.device)
    projection = nn.Linear(student.config.hidden_size, width, device=setting.device)
    teacher.to(setting.device)
    arms, slow = {}, "" if has_bf16(setting.device) else no_bf16(setting.device)
    for precision in ("fp32", "bf16"):
        steps, losses = {}, {}
        for name, (asked, loss, batches) in {
            "naive": (teacher, naive_loss, texts),
            "ours": (teacher, distillation_loss, texts),
            "cached teacher": (None, distillation_loss, cached),
        }.items():
            pair = _pair(copy.deepcopy(student), asked, recipe, copy.deepcopy(projection))
            steps[name] = _step(pair, loss, partial(batches.build, list(range(rows))), precision, folder)
            losses[name] = steps[name]()[0]  # the first step's: nothing has moved yet
        steps["student alone"] = _step(
            copy.deepcopy(student), classification_loss, partial(texts.build, list(range(rows))), precision, folder
        )
        within = (1e-4 if precision == "fp32" else 0.02) * losses["naive"]
        errors = {name: require_close(f"the loss, {name}", loss, losses["naive"], within=within)
                  for name, loss in losses.items()}  # fmt: skip
        why = slow if precision == "bf16" else ""
        arms |= {f"{name}, {precision}": Arm(None if why else steps[name], why, errors.get(name)) for name in steps}
    return arms


def _bar(width: int, most: float, precision: str) -> Bar:
    return Bar(
        4,
        f"step with a cached teacher of 6 × {width}, {precision}",
        (f"cached teacher, {precision}",),
        f"student alone, {precision}",
        most=most,
        kind="time",
        reason="the projections to the teacher's width and the losses themselves remain",
    )


def _pair(student: nn.Module, teacher: nn.Module | None, recipe: Recipe, projection: nn.Module) -> Distillation:
    return Distillation(student, teacher, recipe.stages[0].terms, nn.ModuleDict({"all layers": projection})).train()


def _texts(vocab: int, rows: int) -> TextBatches:
    """Random ids: time does not depend on what they say."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(24, 32, rows).int().tolist()
    sequences = [torch.randint(5, vocab, (length,), generator=generator).tolist() for length in lengths]
    return TextBatches(sequences, pad_id=0, batch_size=rows, labels=[row % 2 for row in range(rows)])


def _step(
    model: nn.Module, loss: Callable, build: Callable, precision: str, folder: tempfile.TemporaryDirectory
) -> Step:
    """A step of the training loop, with the making of its batch; `folder` stays as long as the step does."""
    model.train()
    config = TrainConfig(steps=1, lr=LR, clip=CLIP, precision=precision)
    stepper = Stepper(model, loss, config, start_accelerator(), next(model.parameters()).device)

    def step(kept: tempfile.TemporaryDirectory = folder) -> tuple[float, float]:
        sums, norm = stepper.step([build()], LR)
        return sums["loss"] / sums["items"], norm

    return step


def naive_loss(model: Distillation, batch: dict[str, Tensor]) -> Loss:
    """TinyBERT's inner losses as one writes them down: every state of both models, every layer anew."""
    with torch.no_grad():
        t = model.teacher.module(*inputs(batch), capture=Capture.all())
    s = model.student(*inputs(batch), capture=Capture.all())
    mask, project = batch["attention_mask"], model.projections["all layers"]
    pairs = (mask[:, None, :, None] & mask[:, None, None, :]).expand_as(s.scores[0])
    total = torch.zeros((), device=mask.device)
    for term in model.terms:
        for ours, theirs in term.layers:
            if term.kind == "hidden":
                difference = project(s.hidden[ours]).float() - t.hidden[theirs].float()
                total = total + difference[mask].square().mean()
            else:
                difference = s.scores[ours].float() - t.scores[theirs].float()
                total = total + difference[pairs].square().mean()
    return Loss(total, len(mask))
