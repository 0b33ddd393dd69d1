"""What is wrong with a teacher and a student, said before a long training."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn

from coursekit.data import IGNORED
from coursekit.distill.recipes import Recipe, Stage
from coursekit.distill.states import encoder_of, is_masked_lm
from coursekit.distill.terms import KINDS, Term
from coursekit.models import Encoder
from coursekit.train import Batches, inputs
from coursekit.train.evaluation import inference
from coursekit.train.pieces import epoch_of

ENOUGH = 256  # labelled texts on which a teacher is judged


def check_depths(recipe: Recipe, stage: Stage, student: nn.Module, teacher: nn.Module) -> None:
    """Raise ValueError unless both have the layers that the recipe is for; an assistant is as deep as the teacher."""
    depths = {"student": recipe.student_layers}
    for role, model in ((stage.student, student), (stage.teacher, teacher)):
        wanted, found = depths.get(role, recipe.teacher_layers), len(encoder_of(model).layers)
        if wanted != found:
            raise ValueError(
                f"this recipe of {recipe.name} is for {recipe.teacher_layers} → {recipe.student_layers} layers: "
                f"the {role} needs {wanted}, got {found}"
            )


def check_pair(stage: Stage, student: nn.Module, teacher: nn.Module) -> None:
    """Raise ValueError if the models cannot be compared as the terms of the stage ask."""
    s, t = encoder_of(student), encoder_of(teacher)
    if s.config.vocab_size != t.config.vocab_size:
        raise ValueError(
            f"teacher and student read other vocabularies: {t.config.vocab_size} and {s.config.vocab_size} ids"
        )
    if not stage.replacing and {id(w) for w in student.parameters()} & {id(w) for w in teacher.parameters()}:
        raise ValueError("student and teacher share weights; begin with copies (init_from_teacher)")
    for term in stage.terms:
        if term.layers:
            _check_layers(term, s, t)
        else:
            _check_logits(term, student, teacher)


def _check_layers(term: Term, student: Encoder, teacher: Encoder) -> None:
    kind = KINDS[term.kind]
    widths = teacher.config.hidden_size, student.config.hidden_size
    if kind.width and not term.project and widths[0] != widths[1]:
        other = "; give the term project='one'" if term.kind == "hidden" else ""
        raise ValueError(f"{term.name!r} needs equal widths, got {widths[0]} of the teacher and {widths[1]}{other}")
    if not kind.heads:
        return
    for ours, theirs in term.layers:
        s, t = student.layers[ours].attention, teacher.layers[theirs].attention
        if term.heads is None and s.num_heads != t.num_heads:
            raise ValueError(
                f"{term.name!r} compares head with head: the teacher's layer {theirs} has {t.num_heads}, the "
                f"student's layer {ours} {s.num_heads}"
            )
        for role, attention in (("teacher", t), ("student", s)):
            width = attention.num_heads * attention.head_size
            if term.heads is not None and width % term.heads:
                raise ValueError(f"{term.heads} relation heads do not divide the {role}'s width {width}")


def _check_logits(term: Term, student: nn.Module, teacher: nn.Module) -> None:
    if isinstance(student, Encoder):
        raise ValueError(f"{term.name!r} needs a student with a head, got an Encoder")
    if term.kind in ("hard", "soft") and getattr(student, "num_labels", 2) < 2:
        raise ValueError(f"{term.kind!r} of a single label says nothing; for a regression use a term of kind 'logits'")
    if term.kind == "hard":
        return
    if isinstance(teacher, Encoder) or is_masked_lm(teacher) != is_masked_lm(student):
        raise ValueError(
            f"{term.name!r} compares logits of one kind: the teacher is a {type(teacher).__name__}, the student a "
            f"{type(student).__name__}"
        )
    classes = _classes(teacher), _classes(student)
    if classes[0] != classes[1]:
        raise ValueError(f"the teacher tells {classes[0]} labels apart, the student {classes[1]}")
    if term.top_k is not None and not 0 < term.top_k <= classes[0]:
        raise ValueError(f"top_k must be 1 to {classes[0]}, the number of classes, got {term.top_k}")


def _classes(model: nn.Module) -> int:
    return model.config.vocab_size if is_masked_lm(model) else model.num_labels


def check_labels(student: Sequence[str] | None, teacher: Sequence[str] | None) -> None:
    """Raise ValueError if the labels' names or their order differ, where both are given."""
    if student is not None and teacher is not None and tuple(student) != tuple(teacher):
        raise ValueError(f"the teacher's labels are {tuple(teacher)}, the student's {tuple(student)}: order counts")


def warn_of_untaught(teacher: nn.Module, batches: Batches | Sequence[Any]) -> None:
    """Warn if a classifier is no better on the training texts than always naming the most frequent label."""
    right, labels = _first_answers(teacher, batches)
    count = len(labels)
    if count < 20:  # too few to tell
        return
    accuracy, majority = right.float().mean().item(), labels.bincount().max().item() / count
    if accuracy < majority + 2 * (majority * (1 - majority) / count) ** 0.5:
        warnings.warn(
            f"the teacher finds the label of {accuracy:.1%} of {count} training texts, and always naming the most "
            f"frequent one finds {majority:.1%}: was it fine-tuned on this task?",
            stacklevel=4,
        )


def _first_answers(teacher: nn.Module, batches: Batches | Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the teacher is right on the first labelled texts of epoch 0, and their labels."""
    right, labels = [torch.empty(0, dtype=torch.bool)], [torch.empty(0, dtype=torch.long)]
    with inference(teacher, "auto") as device:
        for batch in epoch_of(batches, 0):
            batch = send_to_device(batch, device)
            known = batch["labels"] != IGNORED
            if known.any():
                kept = {name: batch[name][known] for name in ("input_ids", "attention_mask", "labels")}
                types = batch.get("token_type_ids")
                logits = teacher(*inputs(kept | ({} if types is None else {"token_type_ids": types[known]}))).logits
                right.append((logits.argmax(-1) == kept["labels"]).cpu())
                labels.append(kept["labels"].cpu())
            if sum(map(len, labels)) >= ENOUGH:
                break
    return torch.cat(right), torch.cat(labels)
