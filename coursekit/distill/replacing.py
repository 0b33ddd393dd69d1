"""BERT-of-Theseus: the student's layers take the places of the teacher's one after the other (Xu et al. 2020)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from coursekit.distill.layers import layers_per_layer
from coursekit.distill.recipes import Replacing
from coursekit.distill.states import encoder_of
from coursekit.models import Encoder, MaskedLM, SequenceClassifier
from coursekit.models.heads import HeadOutput


class Theseus(nn.Module):
    """A model in which each of the successor's M layers stands in for N/M layers of the predecessor, or does not.

    In training each is drawn anew for each forward pass (section 3.2); in evaluation mode the model is the successor.
    Of both only the successor's layers train: embeddings and head are the predecessor's, which dropout leaves alone.
    Draws depend on seed, step and number of the pass in that step, so every process and every resumed training makes
    the same ones, and no other random number is disturbed; `at(step)` says where the training stands.

    Raises ValueError if M does not divide N, or if the successor does not have the predecessor's embeddings and head.
    """

    def __init__(
        self,
        predecessor: MaskedLM | SequenceClassifier,
        successor: MaskedLM | SequenceClassifier,
        replacing: Replacing,
        *,
        steps: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        old, new = encoder_of(predecessor), encoder_of(successor)
        self.size = layers_per_layer(len(old.layers), len(new.layers))
        _check_same_surroundings(predecessor, successor)
        self.successor = successor
        self.predecessor = nn.ModuleList(old.layers).eval()
        self.anchor = nn.Parameter(torch.zeros(()))  # a loss needs some weight, even where no layer was replaced
        self.replacing, self.steps, self.seed = replacing, steps, seed
        self.at(0)

    @property
    def encoder(self) -> Encoder:
        """The successor's encoder."""
        return self.successor.encoder

    @property
    def rate(self) -> float:
        """Probability of replacing a layer now."""
        return self.replacing.rate(self.step, self.steps)

    def at(self, step: int) -> None:
        """Say which step comes next, from 0."""
        self.step, self.passes = step, 0

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; the predecessor stays in evaluation mode."""
        super().train(mode)
        self.predecessor.eval()
        return self

    def draw(self) -> list[bool]:
        """Which layers are replaced in the next forward pass, (M,)."""
        state = np.random.SeedSequence((self.seed, self.step, self.passes)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        self.passes += 1
        return (torch.rand(len(self.encoder.layers), generator=generator) < self.rate).tolist()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        capture: None = None,
        **options: Any,
    ) -> HeadOutput:
        """As the successor: a mixture of both models in training, in evaluation mode the successor itself.

        Inner states are not captured: their number changes from pass to pass.
        """
        arguments = (input_ids, attention_mask, token_type_ids)
        if not self.training:
            return self.successor(*arguments, capture, **options)
        with self._mixed(self.draw()):
            output = self.successor(*arguments, **options)
        output.logits = output.logits + 0 * self.anchor
        return output

    @contextmanager
    def _mixed(self, replaced: list[bool]) -> Iterator[None]:
        """The successor with the predecessor's layers wherever its own were not drawn."""
        own, layers = self.encoder.layers, []
        for number, layer in enumerate(own):
            first = number * self.size
            layers += [layer] if replaced[number] else self.predecessor[first : first + self.size]
        self.encoder.layers = nn.ModuleList(layers)
        try:
            yield
        finally:
            self.encoder.layers = own

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block only the successor's layers require gradients; then all is as before."""
        flags = {weight: weight.requires_grad for weight in self.parameters()}
        trained = {id(weight) for weight in self.encoder.layers.parameters()} | {id(self.anchor)}
        for weight, before in flags.items():
            weight.requires_grad_(before and id(weight) in trained)
        try:
            yield
        finally:
            for weight, before in flags.items():
                weight.requires_grad_(before)


def _check_same_surroundings(predecessor: nn.Module, successor: nn.Module) -> None:
    """Raise ValueError unless all weights outside the layers are equal."""
    old, new = (
        {name: tensor for name, tensor in model.state_dict().items() if "encoder.layers." not in name}
        for model in (predecessor, successor)
    )
    for name in old.keys() | new.keys():
        if name not in old or name not in new or old[name].shape != new[name].shape:
            raise ValueError(f"Theseus keeps all but the layers, but {name} differs in shape: use init_from_teacher")
        if not torch.equal(old[name], new[name].to(old[name].device)):
            raise ValueError(f"Theseus keeps all but the layers, but {name} has other values: use init_from_teacher")
