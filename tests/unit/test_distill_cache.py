"""The teacher's answers on disk: the same losses, in any order, and never those of another teacher."""

import json
from dataclasses import replace

import pytest
import torch
from distill_models import SHAPE, model, texts, weights

from coursekit.distill import (
    Distillation,
    Stage,
    TeacherCache,
    Term,
    cache_teacher,
    distilbert,
    distill,
    distillation_loss,
    fresh_student,
    init_from_teacher,
    minilm,
    pkd,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.distill.recipes import Recipe
from coursekit.models import MaskedLM
from coursekit.train import TextBatches, TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore:the teacher finds the label")
FAST = TrainConfig(steps=6, lr=2e-3, precision="fp32", log_every=1)
LAST = ((2, 5),)
EVERYTHING = Recipe(
    "everything",
    6,
    3,
    (
        Stage(
            "all",
            (
                *tinybert(6, 3).stages[0].terms,
                Term("attention-kl", layers=LAST),
                *(Term(kind, layers=LAST) for kind in ("values", "queries", "keys")),
                Term("soft"),
            ),
        ),
    ),
)


def narrow(teacher):
    return fresh_student(teacher, num_layers=3, hidden_size=16, intermediate_size=24)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "answers"


def losses(recipe, teacher, student, batches):
    pair = Distillation(student, teacher, recipe.stages[0].terms, torch.nn.ModuleDict()).eval()
    pair.projections["all layers"] = torch.nn.Linear(16, 24)
    torch.nn.init.constant_(pair.projections["all layers"].weight, 0.1)
    torch.nn.init.zeros_(pair.projections["all layers"].bias)
    with torch.no_grad():
        found = [distillation_loss(pair, batch) for batch in batches]
    return [{"loss": loss.mean.item()} | {n: part.item() for n, part in loss.parts.items()} for loss in found]


@pytest.mark.parametrize(("stored", "within"), [("fp32", 1e-5), ("fp16", 5e-3), ("bf16", 4e-2)])
def test_cached_losses_are_those_of_the_teacher(folder, stored, within):
    teacher = model(scale=5.0)
    student, data = narrow(teacher), texts(shuffle=1)
    cached = cache_teacher(teacher, data, EVERYTHING, stored=stored, folder=folder)
    for epoch in range(2):  # other batches, another padding
        asked = losses(EVERYTHING, teacher, student, data.epoch(epoch))
        read = losses(EVERYTHING, None, student, cached.epoch(epoch))
        for one, other in zip(asked, read, strict=True):
            assert other == pytest.approx(one, rel=within, abs=within / 10)
    limit = {"fp32": 0.0, "fp16": 2**-11, "bf16": 2**-8}[stored]
    assert cached.cache.errors.keys() >= {"hidden 0", "scores 5", "values 5", "logits"}
    assert all(error <= limit for error in cached.cache.errors.values())
    assert (stored == "fp32") == (max(cached.cache.errors.values()) == 0)


def test_answers_belong_to_texts_not_to_batches(folder):
    teacher, small, large = model(), texts(batch_size=3, shuffle=1), texts(batch_size=24)
    made = cache_teacher(teacher, small, EVERYTHING, stored="fp32", folder=folder)
    again = cache_teacher(teacher, large, EVERYTHING, stored="fp32", folder=folder)
    everything = again.build(list(range(24)))["teacher"]
    for rows in small.plan(0):
        batch = made.build(rows)
        width = batch["input_ids"].shape[1]
        assert torch.equal(batch["teacher"]["logits"], everything["logits"][rows])
        assert torch.equal(batch["teacher"]["hidden 4"], everything["hidden 4"][rows][:, :width])
        assert torch.equal(batch["teacher"]["scores 5"], everything["scores 5"][rows][..., :width, :width])
        assert not batch["teacher"]["hidden 4"][~batch["attention_mask"]].any()


@pytest.mark.parametrize("recipe", [soft_and_hard(6, 3), pkd(6, 3), tinybert(6, 3), minilm(6, 3, fine_tune=True)])
def test_distilling_from_the_cache_gives_the_same_student(folder, recipe):
    teacher, students, data = model(), [], texts(shuffle=2)
    cached = cache_teacher(teacher, data, recipe, stored="fp32", folder=folder)
    for batches in (data, cached):
        students.append(init_from_teacher(teacher, recipe.start) if recipe.start else narrow(teacher))
        result = distill(students[-1], teacher, recipe, batches, replace(FAST, accumulate=2))
    for stage in result.stages.values():
        assert stage.steps == 6
    assert torch.allclose(weights(students[0]), weights(students[1]), atol=2e-3)


def test_the_teacher_is_asked_once_and_then_no_more(folder, monkeypatch):
    teacher, data = model(), texts()
    calls = []
    teacher.register_forward_hook(lambda *call: calls.append(1))
    cached = cache_teacher(teacher, data, tinybert(6, 3), folder=folder)
    made = len(calls)
    assert made >= 1
    cache_teacher(teacher, data, tinybert(6, 3), folder=folder)
    pair = Distillation(narrow(teacher), None, tinybert(6, 3).stages[0].terms, torch.nn.ModuleDict())
    pair.projections["all layers"] = torch.nn.Linear(16, 24)
    distillation_loss(pair, cached.epoch(0)[0])
    assert len(calls) == made


def test_a_stage_reads_only_what_it_asks(folder):
    teacher, data, recipe = model(), texts(), tinybert(6, 3)
    cached = cache_teacher(teacher, data, recipe, folder=folder)
    assert {"logits", "hidden 0", "hidden 6", "scores 1"} <= cached.build([0])["teacher"].keys()
    from coursekit.distill.states import asked_of_teacher

    part = cached.only(teacher, asked_of_teacher(recipe.stages[1].terms))
    assert part.build([0])["teacher"].keys() == {"logits"}


def test_the_likeliest_words_of_a_masked_lm(folder):
    teacher, recipe = model(MaskedLM), distilbert(6, 3, hard=0, top_k=5)
    data = TextBatches(texts().sequences, pad_id=0, batch_size=5, seed=1)
    cached = cache_teacher(teacher, data, recipe, stored="fp32", folder=folder)
    student = init_from_teacher(teacher, recipe.start)
    asked = losses(recipe, teacher, student, data.epoch(0))
    read = losses(recipe, None, student, cached.epoch(0))
    for one, other in zip(asked, read, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    everything = 4 * sum(data.lengths) * 40
    kept = sum(f.stat().st_size for f in folder.iterdir() if "logits" in f.name)
    assert kept == everything * 5 * 2 // 40
    with pytest.raises(ValueError, match="top_k"):
        cache_teacher(teacher, data, distilbert(6, 3, hard=0), folder=folder)


STALE = {
    "teacher": lambda: (model(seed=1), texts(), tinybert(6, 3), "fp16"),
    "teacher's shape": lambda: (model(config=SHAPE.replace(layer_norm_eps=1e-6)), texts(), tinybert(6, 3), "fp16"),
    "texts": lambda: (model(), texts(seed=1), tinybert(6, 3), "fp16"),
    "texts' types": lambda: (model(), texts(token_type_ids=[[1] * n for n in texts().lengths]), tinybert(6, 3), "fp16"),
    "asked": lambda: (model(), texts(), pkd(6, 3), "fp16"),
    "stored": lambda: (model(), texts(), tinybert(6, 3), "fp32"),
}


@pytest.mark.parametrize("what", STALE)
def test_a_stale_cache_is_noticed_and_made_again(folder, capsys, what):
    cache_teacher(model(), texts(), tinybert(6, 3), folder=folder)
    old = (folder / "cache.json").read_text()
    teacher, data, recipe, stored = STALE[what]()
    cached = cache_teacher(teacher, data, recipe, stored=stored, folder=folder)
    said = capsys.readouterr().err
    assert f"has other {what.split(chr(39))[0]}: making it again" in said
    assert (folder / "cache.json").read_text() != old
    fresh = cache_teacher(teacher, data, recipe, stored=stored, folder=folder.with_name("fresh"))
    for name, state in fresh.build([3, 4])["teacher"].items():
        assert torch.equal(cached.build([3, 4])["teacher"][name], state)


@pytest.mark.parametrize("damage", ["byte", "short", "gone", "header", "lengths"])
def test_a_damaged_cache_is_noticed_and_made_again(folder, capsys, damage):
    cached = cache_teacher(model(), texts(), tinybert(6, 3), folder=folder)
    expected = cached.build([0, 1])["teacher"]["hidden 4"].clone()
    file = folder / {"header": "cache.json", "lengths": "lengths.bin"}.get(damage, "hidden-4.bin")
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content[:-2] if damage == "short" else content[:20] if damage == "header" else content)
    with pytest.raises(ValueError, match="damaged"):
        TeacherCache(folder)
    again = cache_teacher(model(), texts(), tinybert(6, 3), folder=folder)
    assert "damaged" in capsys.readouterr().err
    assert torch.equal(again.build([0, 1])["teacher"]["hidden 4"], expected)


def test_a_cache_is_written_whole_or_not_at_all(folder, monkeypatch):
    teacher = model()

    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("coursekit.distill.stored.Writer.close", fail)
    with pytest.raises(KeyboardInterrupt):
        cache_teacher(teacher, texts(), tinybert(6, 3), folder=folder)
    assert not folder.exists() and list(folder.parent.iterdir()) == []


def test_answers_of_another_teacher_or_other_texts_are_refused(folder):
    teacher = model()
    cached = cache_teacher(teacher, texts(), tinybert(6, 3), folder=folder)
    with pytest.raises(ValueError, match="teacher with other weights"):
        distill(narrow(teacher), model(seed=1), tinybert(6, 3), cached, FAST)
    with pytest.raises(ValueError, match="has no cls 2, only"):
        distill(fresh_student(teacher, num_layers=3), teacher, pkd(6, 3), cached, FAST)
    with pytest.raises(ValueError, match="of other texts"):
        distill(narrow(teacher), teacher, tinybert(6, 3), replace(cached, texts=texts(seed=3)), FAST)


def test_what_cannot_be_cached_is_refused(folder):
    teacher = model()
    with pytest.raises(ValueError, match="only fixed texts.*got list"):
        cache_teacher(teacher, [texts().epoch(0)[0]], tinybert(6, 3), folder=folder)
    with pytest.raises(ValueError, match="nothing to cache"):
        cache_teacher(teacher, texts(), theseus(6, 3), folder=folder)
    with pytest.raises(ValueError, match="unknown number format 'fp8'"):
        cache_teacher(teacher, texts(), tinybert(6, 3), stored="fp8", folder=folder)
    with torch.no_grad():
        teacher.encoder.layers[5].ffn_norm.weight.mul_(1e5)
    with pytest.raises(ValueError, match="too large for fp16"):
        cache_teacher(teacher, texts(), tinybert(6, 3), folder=folder)
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a teacher cache"):
        cache_teacher(teacher, texts(), tinybert(6, 3), stored="bf16", folder=folder)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_without_a_folder_it_lies_in_the_cache_folder_by_its_key(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path))
    made = [cache_teacher(model(seed=seed), texts(), pkd(6, 3)).cache.folder for seed in (0, 1, 0)]
    assert made[0] == made[2] != made[1] and made[0].parent == tmp_path / "teacher-answers"
    about = json.loads((made[0] / "cache.json").read_text())
    assert about["asked"] == ["logits", "cls 2", "cls 4"]
    assert TeacherCache(made[0]).bytes < 40_000
