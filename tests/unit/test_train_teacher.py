"""The teacher: the real one is good enough, and the cache holds what it promises."""

import os
import threading
from collections import Counter

import pytest
import torch

from coursekit.data import Split, Task, assets_folder, fetch
from coursekit.files import cache_folder
from coursekit.models import Encoder, TransformerConfig
from coursekit.train import PROFILES, Profile, TrainConfig, accuracy, load_teacher, pretrained_encoder, teacher


def test_the_quick_teacher_is_good_enough():
    quick = load_teacher("quick")
    labels = quick.task.validation.labels
    majority = Counter(labels).most_common(1)[0][1] / len(labels)
    assert 0.76 <= quick.validation_accuracy <= 0.86
    assert quick.validation_accuracy > majority + 0.15
    assert accuracy(quick, quick.task.validation) == pytest.approx(quick.validation_accuracy, abs=0.005)
    logits = quick.predict(["a wonderful , moving film", "a terrible , boring mess"])
    assert logits.shape == (2, 2) and logits.argmax(1).tolist() == [1, 0]
    word = pretrained_encoder().embeddings.word.weight
    assert torch.equal(quick.model.encoder.embeddings.word.weight, word)  # kept as it was


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A cache of its own, an encoder of width 8, a task of a few texts; the list grows with each training."""
    fetch("minilm")
    monkeypatch.setenv("COURSEKIT_ASSETS", str(assets_folder()))
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path))
    shape = TransformerConfig(30522, 8, 1, 2, 16, dropout=0.0)
    monkeypatch.setattr(teacher, "pretrained_encoder", lambda: Encoder(shape))
    texts = [f"{word} film number {number}" for number in range(12) for word in ("good", "bad")]
    split = Split(texts, [1, 0] * 12, texts)
    task = Task("toy", ("bad", "good"), split, split, split)
    monkeypatch.setattr(teacher, "load_task", lambda name: task)
    config = TrainConfig(epochs=1, lr=3e-4, warmup=0.0, checkpoint_every=1)
    monkeypatch.setitem(PROFILES, "quick", Profile(config, limit=20, batch_size=5))
    calls = []
    original = teacher.finetune
    monkeypatch.setattr(teacher, "finetune", lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs))
    return calls


def folders():
    return [path for path in (cache_folder() / "teachers").iterdir() if path.is_dir()]


def test_the_second_time_is_from_the_cache(small):
    first, again = load_teacher(), load_teacher()
    assert len(small) == 1 and len(folders()) == 1  # no checkpoints are left
    assert torch.equal(first.predict(["a film"]), again.predict(["a film"]))
    assert first.result == again.result and again.result.steps == 4
    assert all(weight.requires_grad for weight in again.model.parameters()) and not again.model.training


@pytest.mark.parametrize("change", ["config", "limit", "text"])
def test_other_settings_or_texts_are_another_teacher(small, monkeypatch, change):
    load_teacher()
    config = PROFILES["quick"].config
    if change == "text":
        old = teacher.load_task("toy")
        texts = ["something else", *old.train.texts[1:]]
        task = Task("toy", old.labels, Split(texts, old.train.labels, texts), old.validation, old.test)
        monkeypatch.setattr(teacher, "load_task", lambda name: task)
    else:
        lr, limit = (1e-4, 20) if change == "config" else (config.lr, 22)
        other = TrainConfig(epochs=1, lr=lr, warmup=0.0, checkpoint_every=1)
        monkeypatch.setitem(PROFILES, "quick", Profile(other, limit=limit, batch_size=5))
    load_teacher()
    assert len(small) == 2 and len(folders()) == 2


def cut(folder):
    os.truncate(folder / "model" / "model.safetensors", 1000)


@pytest.mark.parametrize("damage", [cut, lambda folder: (folder / "teacher.json").write_text("{")], ids=["cut", "json"])
def test_a_damaged_teacher_is_trained_again_and_that_is_said(small, capsys, damage):
    first = load_teacher()
    damage(folders()[0])
    second = load_teacher()
    assert "is damaged" in capsys.readouterr().err and len(small) == 2
    assert torch.equal(first.predict(["a film"]), second.predict(["a film"]))


@pytest.mark.parametrize("damaged", [False, True], ids=["intact", "damaged"])
def test_an_interrupted_training_goes_on(small, monkeypatch, capsys, damaged):
    straight = load_teacher().predict(["a film"])
    (home,) = folders()
    home.rename(home.with_name("elsewhere"))
    original, started = teacher.train, []

    def interrupted(*args, **kwargs):
        def stop(done, model):
            started.append(done)
            if done == 3 and len(started) == 4:
                raise KeyboardInterrupt

        return original(*args, on_step=stop, **kwargs)

    monkeypatch.setattr(teacher, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_teacher()
    if damaged:
        (checkpoint,) = (cache_folder() / "teachers").glob("*-training/step-*")
        os.truncate(checkpoint / "state.safetensors", 1000)
    assert torch.equal(load_teacher().predict(["a film"]), straight)
    assert started[4:] == ([0, 1, 2, 3, 4] if damaged else [2, 3, 4])
    assert ("damaged" in capsys.readouterr().err) == damaged


def test_a_second_caller_waits_for_the_first(small):
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_teacher())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2 and len(small) == 1


def test_unknown_profile():
    with pytest.raises(ValueError, match="unknown profile .quik.; nearest: quick"):
        load_teacher("quik")
