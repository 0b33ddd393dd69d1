"""Where the models of the leaderboard begin: what no teacher taught, and what every training of a seed may use."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from coursekit.course.studies import few_labels
from coursekit.course.studies.frame import Settings
from coursekit.course.studies.leaderboard_siblings import three_layers
from coursekit.data import Split, Tokenizer
from coursekit.distill import fresh_student, init_from_teacher, match_layers
from coursekit.models import Encoder, SequenceClassifier, SharingPlan
from coursekit.train import TextBatches, classification_loss, pretrained_encoder, text_batches, train
from coursekit.train.loop import OnStep

LAYERS = (6, 3)
KEPT = match_layers("distilbert-init", *LAYERS)  # every 3-layer model begins with layers 0, 2 and 4 of what it was


@dataclass(frozen=True)
class Ground:
    """What every step of a seed may use."""

    seed: int
    settings: Settings

    @property
    def texts(self) -> Split:
        """The labelled texts, the same for everything that trains."""
        return few_labels.task(self.settings).train.take(self.settings["texts"], self.seed)

    def batches(self, tokenizer: Tokenizer, seed: int) -> TextBatches:
        """All of them, in an order of the seed."""
        return text_batches(self.texts, tokenizer, batch_size=self.settings["batch_size"], seed=seed)

    def calibration(self, tokenizer: Tokenizer) -> TextBatches:
        """A few of them, for what looks at activations."""
        few = self.texts.take(self.settings["calibration_texts"], self.seed)
        return text_batches(few, tokenizer, batch_size=self.settings["batch_size"])

    def learn(
        self, model: nn.Module, steps: int, order: int = 0, lr: float | None = None, on_step: OnStep | None = None
    ) -> None:
        """Train on the labels; `order` tells trainings of one seed apart."""
        config = few_labels.config(self.settings, self.seed, steps, lr)
        batches = self.batches(few_labels.tokenizer(), self.seed + order)
        title = f"{steps} steps, seed {self.seed}"
        train(model, batches, classification_loss, config, on_step=on_step, title=title)


def trainable(model: nn.Module) -> nn.Module:
    """All weights learn but the word table, as everywhere in the course."""
    model.requires_grad_(True)
    model.encoder.embeddings.word.requires_grad_(False)
    return model


def equal_steps(settings: Settings) -> dict[str, int]:
    """Steps that spend what teacher and student together spend, for six layers that share weights and for three alone.

    Counted in forward passes of six layers over a batch: a step that learns costs 3, of three layers half as much,
    and asking the teacher 1. So S steps of the teacher and S of its student cost 3·S + (1.5 + 1)·S = 5.5·S.
    """
    total = 5.5 * settings["steps"]
    return {"six": round(total / 3), "three": round(total / 1.5)}


def _teacher(ground: Ground) -> nn.Module:
    model = few_labels.classifier(ground.seed)
    ground.learn(model, ground.settings["steps"])
    return model


def _alone(ground: Ground, long: bool = False) -> nn.Module:
    """Three layers of the published encoder, on the labels alone."""
    model = trainable(init_from_teacher(few_labels.classifier(ground.seed), KEPT))
    ground.learn(model, equal_steps(ground.settings)["three"] if long else ground.settings["steps"])
    return model


def _sibling(ground: Ground) -> nn.Module:
    """The public encoder of three layers, which has no pooler, with a new head."""
    model = trainable(SequenceClassifier(three_layers(), 2))
    ground.learn(model, ground.settings["steps"])
    return model


def _shared(ground: Ground, plan: SharingPlan) -> nn.Module:
    """Six depths on fewer stored blocks; a block begins as the published layer at its first depth."""
    published = pretrained_encoder()
    encoder = Encoder(published.config.replace(sharing=plan))
    for part in ("embeddings", "pooler"):
        getattr(encoder, part).load_state_dict(getattr(published, part).state_dict())
    for depth, block in enumerate(plan.attention):
        encoder.layers[depth].load_state_dict(published.layers[plan.attention.index(block)].state_dict())
    model = trainable(SequenceClassifier(encoder, 2))
    ground.learn(model, equal_steps(ground.settings)["six"])
    return model


def _narrow(ground: Ground) -> nn.Module:
    """A small model that begins at random: its words learn too."""
    settings = ground.settings
    model = fresh_student(few_labels.classifier(ground.seed), seed=ground.seed, **settings["narrow"])
    ground.learn(model, settings["narrow_steps"], lr=settings["narrow_lr"])
    return model


STARTS: dict[str, Callable[[Ground], nn.Module]] = {
    "teacher": _teacher,
    "alone": _alone,
    "alone-long": partial(_alone, long=True),
    "sibling": _sibling,
    "shared-2": partial(_shared, plan=SharingPlan.every(6, 2)),
    "sandwich": partial(_shared, plan=SharingPlan.sandwich(6)),
    "shared-all": partial(_shared, plan=SharingPlan.all(6)),
    "narrow": _narrow,
}
