"""Carrying out recipes on tiny models: what trains, what does not, what is refused, and that means stay exact."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from distill_models import FAST, NARROW, SHAPE, model, narrow, start, texts, weights
from torch import nn

from coursekit.distill import (
    Distillation,
    Stage,
    Term,
    distilbert,
    distill,
    distillation_loss,
    fresh_student,
    init_from_teacher,
    losses,
    match_layers,
    minilm,
    pkd,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.distill.exact import StepBatches
from coursekit.distill.recipes import Recipe
from coursekit.distill.states import Asked, observe
from coursekit.models import Capture, Encoder, MaskedLM
from coursekit.train import TrainConfig, classification_loss, evaluate, inputs, train

pytestmark = pytest.mark.filterwarnings("ignore:the teacher finds the label")


RECIPES = {
    "soft + hard": soft_and_hard(6, 3),
    "DistilBERT": distilbert(6, 3),
    "PKD-Skip": pkd(6, 3),
    "PKD-Last": pkd(6, 3, which="last"),
    "Theseus": theseus(6, 3),
    "MiniLM": minilm(6, 3, fine_tune=True),
    "MiniLM v2": minilm(6, 3, relation_heads=8, fine_tune=True),
    "TinyBERT": tinybert(6, 3),
    "TinyBERT, a projection each": tinybert(6, 3, project="each"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_runs_and_leaves_the_teacher_as_it_was(name):
    recipe, teacher = RECIPES[name], model(config=SHAPE.replace(dropout=0.1)).train()
    teacher.encoder.embeddings.word.requires_grad_(False)
    before, flags = weights(teacher), [weight.requires_grad for weight in teacher.parameters()]
    student = start(teacher, recipe)
    keys, count = list(student.state_dict()), sum(weight.numel() for weight in student.parameters())
    first = weights(student)
    result = distill(student, teacher, recipe, texts(shuffle=0), FAST)
    assert torch.equal(weights(teacher), before) and teacher.training
    assert [weight.requires_grad for weight in teacher.parameters()] == flags
    assert list(result.stages) == [stage.name for stage in recipe.stages]
    assert list(student.state_dict()) == keys and not student.training  # no projection, no teacher in what is exported
    assert sum(weight.numel() for weight in student.parameters()) == count
    assert weights(student).isfinite().all() and not torch.equal(weights(student), first)
    for stage, done in zip(recipe.stages, result.stages.values(), strict=True):
        assert done.steps == 6
        for entry in done.history:  # the parts are logged before their weights
            total = sum(term.weight * entry[term.name] for term in stage.terms)
            assert entry["loss"] == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("name", ["DistilBERT", "PKD-Skip", "TinyBERT", "MiniLM"])
def test_the_loss_falls(name):
    recipe, teacher = RECIPES[name], model()
    config = replace(FAST, steps=60, lr=5e-3)
    for result in distill(start(teacher, recipe), teacher, recipe, texts(), config).stages.values():
        ends = [sum(entry["loss"] for entry in part) / len(part) for part in (result.history[:6], result.history[-6:])]
        assert ends[1] < 0.98 * ends[0]


def test_the_same_call_gives_the_same_student_and_disturbs_no_random_number():
    teacher, students, state = model(), [], torch.get_rng_state()
    for _ in range(2):
        students.append(narrow(teacher))
        distill(students[-1], teacher, tinybert(6, 3), texts(), FAST)
    assert torch.equal(weights(students[0]), weights(students[1]))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_teacher_stays_in_evaluation_mode_without_gradients():
    teacher, student = model(config=SHAPE.replace(dropout=0.5)), narrow(model())
    pair = Distillation(student, teacher, tinybert(6, 3).stages[1].terms).train()
    assert student.training and not any(module.training for module in teacher.modules())
    batch = texts().epoch(0)[0]
    answers = [pair.answers(batch, None)[Asked("logits")] for _ in range(2)]
    assert torch.equal(*answers) and not answers[0].requires_grad
    distillation_loss(pair, batch).mean.backward()
    assert all(weight.grad is None for weight in teacher.parameters())


def test_only_what_is_asked_is_captured():
    pair = Distillation(narrow(model()), model(), pkd(6, 3).stages[0].terms)
    seen = []
    pair.teacher.module.register_forward_pre_hook(lambda *call: seen.append(call[-1]["capture"]), with_kwargs=True)
    pair.answers(texts().epoch(0)[0], None)
    assert seen == [Capture(hidden=(2, 4))]
    pair = Distillation(narrow(model()), pair.teacher.module, (Term("soft"),))
    pair.answers(texts().epoch(0)[0], None)
    assert seen[1] is None


def test_hidden_states_count_from_the_embeddings():
    teacher, batch = model(), texts().epoch(0)[0]
    found = observe(teacher, batch, [Asked("hidden", 0), Asked("hidden", 6), Asked("cls", 6)])
    output = teacher.encoder(*inputs(batch))
    assert torch.equal(found[Asked("hidden", 6)], output.last_hidden)
    assert torch.equal(found[Asked("cls", 6)], output.last_hidden[:, 0])
    assert torch.allclose(found[Asked("hidden", 0)], teacher.encoder.embeddings(batch["input_ids"]))


@pytest.mark.parametrize("norm_first", [False, True])
def test_queries_and_keys_are_those_of_the_scores(norm_first):
    teacher, batch = model(config=SHAPE.replace(norm_first=norm_first)), texts().epoch(0)[0]
    asked = [Asked("queries", 2), Asked("keys", 2), Asked("scores", 2)]
    queries, keys, scores = observe(teacher, batch, asked).values()
    assert torch.allclose(queries @ keys.transpose(-1, -2) / 6**0.5, scores, atol=1e-4)


def test_tinyberts_loss_is_the_sum_of_its_parts_by_hand():
    teacher, batch = model(), texts().epoch(0)[0]
    student = narrow(teacher)
    stage = tinybert(6, 3).stages[0]
    projection = nn.Linear(16, 24)
    pair = Distillation(student, teacher, stage.terms, nn.ModuleDict({"all layers": projection})).eval()
    mask = batch["attention_mask"]
    s, t = (m.encoder(*inputs(batch), capture=Capture.all()) for m in (student, teacher))
    hidden = [(projection(s.hidden[m])[mask] - t.hidden[2 * m][mask]).square().mean() for m in range(4)]
    pairs = (mask[:, None, :, None] & mask[:, None, None]).expand(-1, 4, -1, -1)
    attention = [F.mse_loss(s.scores[i][pairs], t.scores[2 * i + 1][pairs]) for i in range(3)]
    loss = distillation_loss(pair, batch)
    assert loss.mean.item() == pytest.approx(sum(hidden + attention).item(), rel=1e-5)
    assert loss.parts["embedding"].item() == pytest.approx(hidden[0].item(), rel=1e-5)
    assert loss.parts["attention"].item() == pytest.approx(sum(attention).item(), rel=1e-5)


def test_projections_go_from_the_students_width_to_the_teachers_and_train(monkeypatch):
    seen = []
    from coursekit.distill import engine

    def spy(pair, *arguments, **options):
        before = weights(pair.projections)
        result = train(pair, *arguments, **options)
        seen.append((pair, before))
        return result

    monkeypatch.setattr(engine, "train", spy)
    for project, names in (("one", ["all layers"]), ("each", [f"layer {m}" for m in range(4)])):
        seen.clear()
        teacher = model()
        distill(narrow(teacher), teacher, tinybert(6, 3, project=project), texts(), FAST)
        pair, before = seen[0]
        assert sorted(pair.projections) == names
        shapes = {tuple(part.weight.shape) + tuple(part.bias.shape) for part in pair.projections.values()}
        assert shapes == {(24, 16, 24)}
        assert not torch.equal(weights(pair.projections), before)
        assert torch.equal(seen[1][1], weights(seen[0][0].projections))  # the next stage goes on with them


def test_equal_widths_are_projected_as_well_and_none_needs_equal_widths():
    teacher = model()
    recipe = tinybert(6, 3, project=None)
    distill(fresh_student(teacher, num_layers=3), teacher, recipe, texts(), FAST)
    with pytest.raises(ValueError, match="24 of the teacher and 16.*project"):
        distill(narrow(teacher), teacher, recipe, texts(), FAST)


def test_padding_and_batch_mates_change_no_loss():
    """Rows one by one, pooled by what each term counts, are the batch."""
    teacher, student = model(), narrow(model())
    for stage in (*tinybert(6, 3).stages, *minilm(6, 3).stages):
        modules = nn.ModuleDict({"all layers": nn.Linear(16, 24)})
        pair = Distillation(student, teacher, stage.terms, modules).eval()
        whole = texts(8).epoch(0)[0]
        parts = {name: 0.0 for name in distillation_loss(pair, whole).parts}
        counts = dict.fromkeys(parts, 0.0)
        for row in range(8):
            length = int(whole["attention_mask"][row].sum())
            one = {k: v[row : row + 1, :length] if v.dim() > 1 else v[row : row + 1] for k, v in whole.items()}
            for name, part in distillation_loss(pair, one).parts.items():
                count = {"attention": length**2, "prediction": 1}.get(name, length)
                parts[name] += count * part.item()
                counts[name] += count
        for name, part in distillation_loss(pair, whole).parts.items():
            assert part.item() == pytest.approx(parts[name] / counts[name], rel=1e-4)


def test_a_text_of_padding_alone_and_a_batch_without_labels_are_finite():
    teacher = model()
    batch = texts(4, batch_size=4, labels=[-100] * 4).epoch(0)[0]
    batch["attention_mask"][0] = False
    for recipe in RECIPES.values():
        for stage in recipe.stages:
            modules = nn.ModuleDict({n: nn.Linear(16, 24) for n in ("all layers", *map("layer {}".format, range(4)))})
            student = start(teacher, recipe, hidden_size=16, intermediate_size=24)
            pair = Distillation(student, teacher, stage.terms, modules).train()
            loss = distillation_loss(pair, batch)
            loss.mean.backward()
            assert loss.mean.isfinite()
            assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())
            if stage.terms[0].kind == "hard":
                assert loss.mean.item() == 0


def test_unlabelled_texts_are_taught_by_the_teacher_alone():
    teacher, student = model(), narrow(model())
    labels = torch.tensor(texts(8).columns["labels"].tolist())
    half = labels.clone()
    half[::2] = -100
    pair = Distillation(student, teacher, soft_and_hard(6, 3).stages[0].terms)
    batch = texts(8, labels=half).epoch(0)[0]
    parts = distillation_loss(pair, batch).parts
    known = batch["labels"] != -100
    logits = student(*inputs(batch)).logits
    assert parts["hard"].item() == pytest.approx(F.cross_entropy(logits[known], batch["labels"][known]).item())
    everything = losses.soft_target_loss(logits, teacher(*inputs(batch)).logits, temperature=2.0)
    assert parts["soft"].item() == pytest.approx(everything.item(), rel=1e-5)


def test_accumulated_batches_of_other_sizes_are_one_batch():
    """Terms that count tokens, pairs and labels are no means of means."""
    recipe = Recipe("all", 6, 3, (Stage("both", (*tinybert(6, 3).stages[0].terms, Term("hard"), Term("soft"))),))
    whole = texts(24, batch_size=24).epoch(0)[0]
    whole["labels"][:15] = -100  # the first two batches have none
    cuts = (0, 3, 12, 24)
    parts = [{k: v[a:b] for k, v in whole.items()} for a, b in zip(cuts, cuts[1:], strict=False)]
    for part in parts:  # each with no more padding than it needs
        width = int(part["attention_mask"].sum(1).max())
        part.update({k: part[k][:, :width] for k in ("input_ids", "attention_mask")})
    results = []
    for batches, accumulate in (([whole], 1), (parts, 3)):
        teacher = model()
        student = narrow(teacher)
        config = replace(FAST, accumulate=accumulate, clip=0.5)
        results.append((distill(student, teacher, recipe, batches, config).stages["both"], weights(student)))
    assert torch.allclose(results[0][1], results[1][1], atol=2e-5)
    for one, other in zip(results[0][0].history, results[1][0].history, strict=True):
        assert one == pytest.approx({**other, "epoch": one["epoch"]}, rel=2e-4, abs=1e-5)


def test_step_batches_build_each_batch_once_a_step():
    built = []

    class Counting(list):
        def __getitem__(self, number):
            built.append(number)
            return super().__getitem__(number)

    plan = StepBatches(Counting(texts(24).epoch(0)), 2).epoch(0)
    assert [len(plan[number]["input_ids"]) for number in range(3)] == [8, 8, 8]
    assert built == [0, 1, 2]


@pytest.mark.parametrize("after", [4, 12])  # in the stage that has a projection, and in the other
def test_an_interrupted_distillation_goes_on_to_the_same_student(tmp_path, after):
    recipe, config = tinybert(6, 3), replace(FAST, checkpoint_every=2)
    teacher = model(config=SHAPE.replace(dropout=0.1))
    whole, broken = narrow(teacher), narrow(teacher)
    distill(whole, teacher, recipe, texts(shuffle=3), config)
    calls = []

    def stop(done, student):
        calls.append(done)
        if len(calls) == after:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        distill(broken, teacher, recipe, texts(shuffle=3), config, on_step=stop, folder=tmp_path)
    broken = narrow(teacher)
    result = distill(broken, teacher, recipe, texts(shuffle=3), config, folder=tmp_path)
    assert torch.equal(weights(whole), weights(broken))
    assert [len(stage.history) for stage in result.stages.values()] == [6, 6]


def test_stages_take_their_own_batches_and_settings():
    recipe, teacher = tinybert(6, 3, general=True), model()
    configs = {name: replace(FAST, steps=steps) for name, steps in (("general", 2), ("inner", 3), ("prediction", 4))}
    batches = {"general": texts(16, seed=5), "inner": texts(), "prediction": texts()}
    others = {"pretrained": model(Encoder, seed=9)}
    result = distill(narrow(teacher), teacher, recipe, batches, configs, others=others)
    assert [stage.steps for stage in result.stages.values()] == [2, 3, 4]
    alone = distill(narrow(teacher), teacher, tinybert(6, 3), texts(), FAST)
    assert {entry["lr"] for entry in alone.stages["inner"].history} == {FAST.lr}  # constant
    assert alone.stages["prediction"].history[-1]["lr"] < FAST.lr
    with pytest.raises(ValueError, match="unknown stage in config 'iner'"):
        distill(narrow(teacher), teacher, tinybert(6, 3), texts(), {"iner": FAST})
    with pytest.raises(ValueError, match="batches has nothing for stage 'prediction'"):
        distill(narrow(teacher), teacher, tinybert(6, 3), {"inner": texts()}, FAST)
    with pytest.raises(ValueError, match="'pretrained'"):
        distill(narrow(teacher), teacher, recipe, texts(), FAST)


def test_an_assistant_is_taught_first_and_then_teaches():
    recipe, teacher = minilm(6, 3, assistant=True), model()
    assistant, student = fresh_student(teacher, hidden_size=16, intermediate_size=24), narrow(teacher)
    before = weights(assistant)
    result = distill(student, teacher, recipe, texts(), FAST, others={"assistant": assistant})
    assert list(result.stages) == ["assistant", "student"] and not torch.equal(weights(assistant), before)
    with pytest.raises(ValueError, match="the assistant needs 6, got 3"):
        distill(student, teacher, recipe, texts(), FAST, others={"assistant": narrow(teacher)})


def test_the_last_incomplete_batch_trains_and_evaluation_comes_once_an_epoch():
    """Neither drops rows nor evaluates within a step, as a script of TinyBERT's does."""
    evaluated, teacher = [], model()

    def score(student):
        evaluated.append(student)
        return {"accuracy": -float(len(evaluated))}

    config = TrainConfig(epochs=2, accumulate=2, lr=1e-3, precision="fp32")
    student = narrow(teacher)
    first = weights(student)
    data = texts(20, batch_size=8)
    result = distill(student, teacher, tinybert(6, 3), data, config, evaluate=score, keep_best="accuracy")
    for stage in result.stages.values():
        assert stage.steps == 4 and len(stage.evaluations) == 2
        assert stage.tokens == 2 * sum(data.lengths)
    assert all(seen is student for seen in evaluated) and len(evaluated) == 4
    assert result.stages["inner"].best is None  # a stage that does not train the head keeps no "best" by its answers
    assert result.stages["prediction"].best["step"] == 2 and not torch.equal(weights(student), first)


def other(**changes):
    return model(config=NARROW.replace(**changes))


REFUSED = {
    "vocabulary": (lambda: other(vocab_size=41), tinybert(6, 3), "vocabularies: 40 and 41"),
    "labels": (lambda: model(config=NARROW, labels=3), tinybert(6, 3), "2 labels apart, the student 3"),
    "heads": (lambda: other(num_heads=2), tinybert(6, 3), "has 4, the student's layer 0 2"),
    "heads of values": (lambda: other(num_heads=2), minilm(6, 3), "'attention-kl' compares head with head"),
    "relation heads": (lambda: other(), minilm(6, 3, relation_heads=3), "3 relation heads do not divide.*width 16"),
    "teacher's relation heads": (
        lambda: other(),
        minilm(6, 3, relation_heads=16),
        "16 relation heads.*teacher's width 24",
    ),
    "width": (lambda: other(), pkd(6, 3), "'patient' needs equal widths, got 24.*16"),
    "depth": (lambda: other(num_layers=2), tinybert(6, 3), "the student needs 3, got 2"),
    "teacher's depth": (lambda: other(), tinybert(12, 3), "the teacher needs 12, got 6"),
    "no head": (lambda: model(Encoder, NARROW), tinybert(6, 3), "needs a student with a head"),
    "another head": (lambda: model(MaskedLM, NARROW), tinybert(6, 3), "logits of one kind"),
    "top_k": (lambda: model(config=NARROW.replace(hidden_size=24)), distilbert(6, 3, top_k=3), "top_k must be 1 to 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_do_not_fit_are_refused_before_training(name):
    student, recipe, says = REFUSED[name]
    student = student()
    before = weights(student)
    with pytest.raises(ValueError, match=says):
        distill(student, model(), recipe, texts(), FAST)
    assert torch.equal(weights(student), before)


def test_label_orders_shared_weights_and_single_labels_are_refused():
    teacher = model()
    with pytest.raises(ValueError, match="'rotten', 'fresh'.*'fresh', 'rotten'.*order counts"):
        distill(narrow(teacher), teacher, tinybert(6, 3), texts(), FAST, labels=("fresh", "rotten"),
                teacher_labels=("rotten", "fresh"))  # fmt: skip
    student = init_from_teacher(teacher, match_layers("bottom", 6, 3))
    student.encoder.layers[0] = teacher.encoder.layers[0]
    with pytest.raises(ValueError, match="share weights"):
        distill(student, teacher, soft_and_hard(6, 3), texts(), FAST)
    one = model(labels=1)
    with pytest.raises(ValueError, match="regression"):
        distill(narrow(one), one, tinybert(6, 3), texts(), FAST)


def test_a_regression_learns_the_teachers_score():
    teacher = model(labels=1)
    student = narrow(teacher)
    recipe = tinybert(6, 3, regression=True)
    labels = torch.zeros(24)
    result = distill(student, teacher, recipe, texts(labels=labels), replace(FAST, steps=80, lr=5e-3))
    batch = texts().epoch(0)[0]
    wanted = F.mse_loss(student(*inputs(batch)).logits, teacher(*inputs(batch)).logits).item()
    first, last = result.stages["prediction"].history[0]["loss"], result.stages["prediction"].history[-1]["loss"]
    assert last < first and wanted < 1.5 * first


def test_a_teacher_that_knows_nothing_of_the_task_is_warned_of():
    teacher, data = model(), texts(80)
    with pytest.warns(UserWarning, match=r"finds the label of \d+\.\d% of 80 training texts"):
        distill(narrow(teacher), teacher, soft_and_hard(6, 3), data, FAST)
    train(teacher, data, classification_loss, TrainConfig(steps=200, lr=2e-3, precision="fp32"))
    assert evaluate(teacher, data, classification_loss)["accuracy"] > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distill(narrow(teacher), teacher, soft_and_hard(6, 3), data, FAST)


def test_bf16_distils_to_nearly_the_same_losses():
    losses_of = []
    for precision in ("fp32", "bf16"):
        teacher = model(scale=4.0)
        config = replace(FAST, precision=precision)
        result = distill(narrow(teacher), teacher, tinybert(6, 3), texts(), config)
        losses_of.append([entry["loss"] for entry in result.stages["inner"].history])
    assert losses_of[0] == pytest.approx(losses_of[1], rel=0.05)


def test_other_modules_are_refused():
    with pytest.raises(ValueError, match="Encoder, MaskedLM and SequenceClassifier, got Linear"):
        distill(nn.Linear(2, 2), model(), tinybert(6, 3), texts(), FAST)
