"""BERT-of-Theseus: what is drawn, what is frozen, what comes out."""

import pytest
import torch
import torch.nn.functional as F
from distill_models import SHAPE, model, texts, weights

from coursekit.distill import Replacing, Theseus, distill, fresh_student, init_from_teacher, match_layers, theseus
from coursekit.models import MaskedLM, load, save
from coursekit.train import TrainConfig, inputs

pytestmark = pytest.mark.filterwarnings("ignore:the teacher finds the label")
FAST = TrainConfig(steps=8, lr=2e-3, precision="fp32", log_every=1, warmup=0.0)


def pair(kind=None, dropout=0.0, base=0.5, reach=None, steps=8, seed=0):
    config = SHAPE.replace(dropout=dropout)
    teacher = model(config=config) if kind is None else model(kind, config)
    student = init_from_teacher(teacher, match_layers("bottom", 6, 3))
    with torch.no_grad():
        for weight in student.encoder.layers.parameters():
            weight.mul_(0.9)
    return teacher, student, Theseus(teacher, student, Replacing(base, reach), steps=steps, seed=seed)


def by_hand(teacher, student, replaced, batch):
    layers = []
    for number, own in enumerate(replaced):
        layers += [student.encoder.layers[number]] if own else teacher.encoder.layers[2 * number : 2 * number + 2]
    mixed = init_from_teacher(teacher, match_layers("bottom", 6, 6))
    mixed.encoder.layers = torch.nn.ModuleList(layers)
    return mixed.eval()(*inputs(batch)).logits


@pytest.mark.parametrize("kind", [None, MaskedLM])
def test_a_pass_uses_two_old_layers_or_one_new_for_each_module(kind):
    teacher, student, mixture = pair(kind)
    mixture.train()
    batch, patterns = texts().epoch(0)[0], set()
    for step in range(12):
        mixture.at(step % 8)
        mixture.passes = step
        replaced = mixture.draw()
        mixture.passes = step
        patterns.add(tuple(replaced))
        assert torch.allclose(mixture(*inputs(batch)).logits, by_hand(teacher, student, replaced, batch), atol=1e-5)
    assert len(patterns) > 3 and len(student.encoder.layers) == 3


def test_evaluation_uses_the_successor_alone_and_replaces_nothing():
    teacher, student, mixture = pair()
    batch = texts().epoch(0)[0]
    mixture.eval()
    assert torch.equal(mixture(*inputs(batch)).logits, student(*inputs(batch)).logits)
    mixture.replacing, student = Replacing(1.0, None), student
    mixture.train()
    assert torch.equal(mixture(*inputs(batch)).logits, student.eval()(*inputs(batch)).logits)


def test_draws_are_independent_per_module_and_pass_with_the_rate_of_the_step():
    *_, mixture = pair(base=0.3, reach=0.5, steps=400)
    drawn = []
    for step in range(200):
        mixture.at(step)
        drawn.append([mixture.draw() for _ in range(5)])
    drawn = torch.tensor(drawn).float()
    assert drawn[:40].mean().item() == pytest.approx(0.37, abs=0.06)
    assert drawn[160:].mean().item() == pytest.approx(0.93, abs=0.05)
    early = drawn[:100].reshape(-1, 3)
    assert abs(torch.corrcoef(early.T)[0, 1]) < 0.2 and abs(torch.corrcoef(early.T)[1, 2]) < 0.2
    mixture.at(399)
    assert mixture.rate == 1.0 and all(mixture.draw())


def test_draws_depend_on_seed_and_step_and_disturb_no_generator():
    *_, one = pair(seed=4)
    *_, again = pair(seed=4)
    *_, other = pair(seed=5)
    state = torch.get_rng_state()
    sequences = []
    for mixture in (one, again, other):
        mixture.at(3)
        sequences.append([mixture.draw() for _ in range(10)])
    assert sequences[0] == sequences[1] != sequences[2]
    assert torch.equal(torch.get_rng_state(), state)
    one.at(3)
    assert [one.draw() for _ in range(10)] == sequences[0]


def test_gradients_reach_replaced_layers_through_the_predecessor_and_no_other():
    teacher, student, mixture = pair()
    mixture.train()
    assert not any(module.training for module in teacher.encoder.layers.modules())
    mixture.passes = next(n for n in range(99) if _drawn(mixture, n) == [True, False, False])
    batch = texts().epoch(0)[0]
    with mixture.frozen():
        F.cross_entropy(mixture(*inputs(batch)).logits, batch["labels"]).backward()
    trained = [name for name, weight in student.named_parameters() if weight.grad is not None]
    assert trained and all(name.startswith("encoder.layers.0.") for name in trained)
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.requires_grad for weight in (*student.parameters(), *teacher.parameters()))


def _drawn(mixture, passes):
    mixture.passes = passes
    drawn = mixture.draw()
    mixture.passes = passes
    return drawn


def test_a_pass_that_replaces_nothing_still_has_a_gradient_path():
    *_, mixture = pair(base=0.01)
    mixture.train()
    batch = texts().epoch(0)[0]
    mixture.passes = next(n for n in range(99) if not any(_drawn(mixture, n)))
    with mixture.frozen():
        mixture(*inputs(batch)).logits.sum().backward()
    assert mixture.anchor.grad.item() == 0


def test_only_the_successors_layers_train_while_replacing_and_all_afterwards():
    teacher = model()
    student = init_from_teacher(teacher, theseus(6, 3).start)
    at_start, told = {n: w.clone() for n, w in student.state_dict().items()}, []

    def look(done, learner):
        assert learner is student
        told.append({n: w.clone() for n, w in student.state_dict().items()})

    before = weights(teacher)
    distill(student, teacher, theseus(6, 3), texts(), FAST, on_step=look)
    replaced, end = told[8], told[-1]
    assert len(told) == 18
    for name, tensor in at_start.items():
        moved = not torch.equal(tensor, replaced[name])
        # what no logit depends on has no gradient and does not move
        assert moved == name.startswith("encoder.layers."), name
        if not name.endswith(("token_type.weight", "position.weight", "word.weight")):
            assert not torch.equal(replaced[name], end[name]), name
    assert torch.equal(weights(teacher), before)
    assert all(weight.requires_grad for weight in (*student.parameters(), *teacher.parameters()))


def test_the_successor_comes_out_as_a_plain_small_model(tmp_path):
    teacher = model()
    student = init_from_teacher(teacher, theseus(6, 3).start)
    distill(student, teacher, theseus(6, 3), texts(), FAST)
    small = model(config=SHAPE.replace(num_layers=3))
    assert student.state_dict().keys() == small.state_dict().keys()
    assert sum(w.numel() for w in student.parameters()) == sum(w.numel() for w in small.parameters())
    again, batch = load(save(student, tmp_path / "model")), texts().epoch(0)[0]
    assert torch.equal(again(*inputs(batch)).logits, student(*inputs(batch)).logits)


def test_an_interrupted_replacing_goes_on_to_the_same_successor(tmp_path):
    from dataclasses import replace

    config = replace(FAST, checkpoint_every=3)
    teacher, students = model(config=SHAPE.replace(dropout=0.1)), []

    def stop(done, learner):
        if done == 5 and students == []:
            raise InterruptedError

    for folder, on_step in ((tmp_path / "broken", stop), (tmp_path / "broken", None), (tmp_path / "whole", None)):
        student = init_from_teacher(teacher, theseus(6, 3).start)
        try:
            distill(student, teacher, theseus(6, 3), texts(shuffle=1), config, on_step=on_step, folder=folder)
            students.append(student)
        except InterruptedError:
            continue
    assert len(students) == 2 and torch.equal(weights(students[0]), weights(students[1]))


def test_a_successor_of_other_surroundings_is_refused():
    teacher = model()
    with pytest.raises(ValueError, match="other values.*init_from_teacher"):
        Theseus(teacher, model(config=SHAPE.replace(num_layers=3), seed=1), Replacing(), steps=1)
    with pytest.raises(ValueError, match="differs in shape.*init_from_teacher"):
        narrow = fresh_student(teacher, num_layers=3, hidden_size=16, intermediate_size=24)
        distill(narrow, teacher, theseus(6, 3), texts(), FAST)
    with pytest.raises(ValueError, match="4 student layers do not divide the 6"):
        Theseus(teacher, init_from_teacher(teacher, match_layers("bottom", 6, 4)), Replacing(), steps=1)
