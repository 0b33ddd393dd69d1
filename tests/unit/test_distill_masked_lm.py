"""Students of a masked language model: DistilBERT's triple loss, and which words are hidden."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from distill_models import FAST, model, start, texts

from coursekit.distill import (
    Distillation,
    distilbert,
    distill,
    distillation_loss,
    init_from_teacher,
    losses,
    minilm,
    smoothed_mask,
    tinybert,
)
from coursekit.models import MaskedLM
from coursekit.train import inputs
from coursekit.train.pretrain import masked_lm_loss

pytestmark = pytest.mark.filterwarnings("ignore:the teacher finds the label")


def masked_texts(width=10, rows=6):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 40, (rows, width), generator=generator)
    mask = torch.arange(width) < torch.tensor([10, 7, 4, 10, 3, 8])[:rows, None]
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[3, 5], labels[5, 1] = ids[0, 2], ids[3, 5], ids[5, 1]
    return {"input_ids": ids.where(mask, 0), "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("masked_only", [False, True])
def test_the_triple_loss_of_a_masked_lm(masked_only):
    """Soft targets at all real tokens or the hidden ones, the hard loss at the hidden, the cosine at all."""
    teacher, batch = model(MaskedLM), masked_texts()
    recipe = distilbert(6, 3, masked_only=masked_only)
    student = init_from_teacher(teacher, recipe.start)
    loss = distillation_loss(Distillation(student, teacher, recipe.stages[0].terms).eval(), batch)
    s, t = student(*inputs(batch)), teacher(*inputs(batch))
    hidden, real = batch["labels"] != -100, batch["attention_mask"]
    where = hidden if masked_only else real
    soft = losses.soft_target_loss(s.logits[where], t.logits[where], temperature=2.0)
    hard = masked_lm_loss(student, batch).mean
    cosine = (1 - F.cosine_similarity(s.last_hidden[real], t.last_hidden[real], dim=-1)).mean()
    assert loss.parts["soft"].item() == pytest.approx(soft.item(), rel=1e-4)
    assert loss.parts["hard"].item() == pytest.approx(hard.item(), rel=1e-4)
    assert loss.parts["cosine"].item() == pytest.approx(cosine.item(), rel=1e-4)
    assert loss.mean.item() == pytest.approx((5 * soft + 2 * hard + cosine).item(), rel=1e-4)


def test_a_masked_lm_learns_from_the_likeliest_words_and_without_logits():
    teacher, data = model(MaskedLM), [masked_texts()]
    for recipe in (distilbert(6, 3, top_k=8), distilbert(6, 3, masked_only=True), minilm(6, 3), tinybert(6, 3)):
        student = start(teacher, recipe)
        for stage in distill(student, teacher, recipe, data, replace(FAST, steps=30)).stages.values():
            assert stage.history[-1]["loss"] < stage.history[0]["loss"]


def test_smoothed_masking_hides_a_share_of_the_batch_and_prefers_rare_words():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 15, (40, 20), generator=generator)
    mask = torch.arange(20) < torch.randint(3, 21, (40, 1), generator=generator)
    ids[:, 0], ids = 2, ids.where(mask, 0)
    counts = torch.full((15,), 1.0)
    counts[5:10] = 1000.0
    arguments = {"counts": counts, "special_ids": range(5), "mask_id": 4, "generator": generator}
    hidden, labels = smoothed_mask(ids, mask, **arguments)
    chosen = labels != -100
    assert int(chosen.sum()) == -(-15 * int(mask.sum()) // 100)
    assert (labels[chosen] == ids[chosen]).all() and (hidden[~chosen] == ids[~chosen]).all()
    assert not (chosen & (ids < 5)).any() and not (hidden[chosen] < 4).any()
    rare, total = (labels[chosen] >= 10).float().mean(), (ids[mask] >= 10).float().mean()
    assert total < 0.6 < 0.9 < rare
    even = smoothed_mask(ids, mask, **arguments, smoothing=0.0)[1]
    assert abs((even[even != -100] >= 10).float().mean() - total) < 0.2
    nothing = smoothed_mask(torch.full((2, 3), 2), torch.ones(2, 3), **arguments)
    assert (nothing[1] == -100).all()


def test_smoothing_is_the_power_of_the_count():
    """Ten times as many words sixteen times as frequent: weights 1 and 16^-0.7."""
    generator = torch.Generator().manual_seed(0)
    ids, counts = torch.randint(5, 15, (1000, 50), generator=generator), torch.where(torch.arange(15) < 10, 16.0, 1.0)
    arguments = {"counts": counts, "special_ids": range(5), "mask_id": 4, "probability": 0.02, "generator": generator}
    labels = smoothed_mask(ids, torch.ones_like(ids), **arguments)[1]
    rare = (labels[labels != -100] >= 10).float().mean()
    assert rare.item() == pytest.approx(1 / (1 + 16**-0.7), abs=0.03)
    assert (labels == -100).all(1).any()  # a text may lose nothing


def test_top_k_of_all_words_is_the_full_soft_loss_at_its_temperature():
    teacher, found = model(MaskedLM), []
    for top_k in (None, 40):
        recipe = distilbert(6, 3, temperature=3.0, top_k=top_k)
        pair = Distillation(init_from_teacher(teacher, recipe.start), teacher, recipe.stages[0].terms).eval()
        found.append(distillation_loss(pair, masked_texts()).parts["soft"].item())
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_what_the_caller_froze_stays():
    """As the positions in DistilBERT's released recipe."""
    teacher, recipe = model(), distilbert(6, 3)
    student = init_from_teacher(teacher, recipe.start)
    position = student.encoder.embeddings.position.requires_grad_(False).weight
    before = position.clone()
    distill(student, teacher, recipe, texts(), FAST)
    assert torch.equal(position, before) and not position.requires_grad
