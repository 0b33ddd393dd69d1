import json
import math

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as Fast
from tokenizers import models, pre_tokenizers, processors
from tokenizers.decoders import WordPiece as Decoder

from coursekit.data import IGNORED, Documents, Tokenizer, TokenStore, assets_folder, fetch
from coursekit.models import Encoder, MaskedLM, TransformerConfig
from coursekit.train import TrainConfig, train
from coursekit.train.difference import read_difference, write_difference
from coursekit.train.mlm_teacher import (
    Pretraining,
    held_out,
    load_mlm_teacher,
    make_mlm_teacher,
    scores,
    untrained,
)
from coursekit.train.pretrain import ROUND, MaskedBatches, masked_lm_loss, masked_lm_metrics, rows_of_tokens

WORDS = "the a cat dog bird sat ran flew on in mat tree sky happily big small old new red blue".split()
SENTENCES = [
    "the cat sat on the mat",
    "a dog ran in the big tree",
    "the old bird flew in the blue sky",
    "a small red cat ran happily",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    fast = Fast(models.WordPiece({word: i for i, word in enumerate(special + WORDS)}, unk_token="[UNK]"))
    fast.add_special_tokens(special)
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Whitespace(), Decoder()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    fast.save(str(file))
    return Tokenizer(file)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return MaskedLM(Encoder(TransformerConfig(tokenizer.vocab_size, 32, 2, 2, 64, dropout=0.0, pooler=False)))


def rows(tokenizer, count=40):
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(2, 20, (count,), generator=generator).tolist()
    return [[2, *torch.randint(5, tokenizer.vocab_size, (n,), generator=generator).tolist(), 3] for n in lengths]


def test_rows_are_whole_sentences_of_one_document(tokenizer):
    documents = [["the cat sat", "a dog ran in", "on mat"], [], ["sky"], ["the " * 9 + "cat"]]
    found = [tokenizer.decode(row, skip_special=False) for row in rows_of_tokens(documents, tokenizer, length=9)]
    assert found == [
        "[CLS] the cat sat a dog ran in [SEP]",
        "[CLS] on mat [SEP]",
        "[CLS] sky [SEP]",
        "[CLS] the the the the the the the [SEP]",
        "[CLS] the the cat [SEP]",
    ]
    with pytest.raises(ValueError, match="length must be at least 3"):
        list(rows_of_tokens(documents, tokenizer, length=2))


def test_every_row_is_in_each_epoch_once(tokenizer):
    given = rows(tokenizer)
    batches = MaskedBatches(given, tokenizer, max_tokens=64, seed=3)
    for epoch in (0, 1):
        seen = []
        for batch in batches.epoch(epoch):
            restored = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
            seen += [row[real].tolist() for row, real in zip(restored, batch["attention_mask"], strict=True)]
        assert sorted(seen) == sorted(given)


def test_masks_are_new_each_epoch_and_the_same_for_the_same_seed(tokenizer):
    given = rows(tokenizer)

    def labels(seed, epoch):
        batches = MaskedBatches(given, tokenizer, batch_size=len(given), seed=seed).epoch(epoch)
        (batch,) = batches
        order = sorted(range(len(given)), key=lambda i: batch["attention_mask"][i].sum().item())
        assert len(order) == len(given)
        return {
            tuple(torch.where(b == IGNORED, a, b).tolist()): b.tolist()
            for a, b in zip(batch["input_ids"], batch["labels"], strict=True)
        }

    assert labels(0, 0) == labels(0, 0)
    assert labels(0, 0).keys() == labels(0, 1).keys() == labels(1, 0).keys()
    assert labels(0, 0) != labels(0, 1)
    assert labels(0, 0) != labels(1, 0)


def test_a_batch_does_not_depend_on_those_before_it(tokenizer):
    batches = MaskedBatches(rows(tokenizer), tokenizer, batch_size=8, seed=5)
    in_order = list(batches.epoch(2))
    alone = batches.epoch(2)[3]
    assert all(torch.equal(alone[name], in_order[3][name]) for name in ("input_ids", "attention_mask", "labels"))
    assert not torch.equal(in_order[0]["labels"], in_order[1]["labels"])


def test_evaluation_hides_every_token_that_is_scored(tokenizer):
    for batch in MaskedBatches(rows(tokenizer), tokenizer, batch_size=8, hide_all=True, probability=0.5).epoch(0):
        asked = batch["labels"] != IGNORED
        assert asked.any()
        assert (batch["input_ids"][asked] == tokenizer.mask_id).all()
        assert (batch["input_ids"][~asked] != tokenizer.mask_id).all()


def test_rows_may_be_a_memory_mapped_store(tokenizer, tmp_path):
    given = rows(tokenizer)
    store = TokenStore.write(tmp_path / "rows", given, tokenizer.vocab_size)
    for one, other in zip(
        MaskedBatches(store, tokenizer, batch_size=8).epoch(1),
        MaskedBatches(given, tokenizer, batch_size=8).epoch(1),
        strict=True,
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)


def _full_loss(model, batch):
    """The loss by hand: all tokens projected, those without a label ignored."""
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)


@pytest.mark.parametrize("probability", [0.02, 0.15, 0.9])
def test_projecting_only_what_is_asked_gives_the_full_loss(model, tokenizer, probability):
    batch = MaskedBatches(rows(tokenizer), tokenizer, batch_size=40, probability=probability).epoch(0)[0]
    found = masked_lm_loss(model, batch)
    assert found.count == (batch["labels"] != IGNORED).sum() > 0
    torch.testing.assert_close(found.mean, _full_loss(model, batch))
    found.mean.backward()
    some = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    _full_loss(model, batch).backward()
    for name, gradient in some.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, atol=1e-6, rtol=1e-4)


def test_the_number_of_projected_tokens_is_rounded_up(model, tokenizer, monkeypatch):
    seen = []
    forward = model.head.forward
    monkeypatch.setattr(model.head, "forward", lambda hidden, table: seen.append(len(hidden)) or forward(hidden, table))
    for batch in MaskedBatches(rows(tokenizer), tokenizer, batch_size=10).epoch(0):
        masked_lm_loss(model, batch)
    assert all(count == ROUND for count in seen) and seen


def test_accuracy_counts_only_what_is_asked(model, tokenizer):
    batch = MaskedBatches(rows(tokenizer), tokenizer, batch_size=40).epoch(0)[0]
    asked = batch["labels"] != IGNORED
    guessed = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    expected = (guessed[asked] == batch["labels"][asked]).float().mean()
    assert masked_lm_loss(model, batch).parts["accuracy"] == pytest.approx(float(expected))


def test_nothing_masked_is_a_loss_of_zero_with_a_gradient_of_zero(model, tokenizer):
    batch = MaskedBatches(rows(tokenizer), tokenizer, batch_size=8, probability=0.0).epoch(0)[0]
    found = masked_lm_loss(model, batch)
    assert (found.mean, found.count, found.parts["accuracy"]) == (0, 0, 0)
    found.mean.backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())
    with pytest.raises(ValueError, match="nothing to evaluate"):
        masked_lm_metrics(model, [batch])


def test_batches_count_by_their_masked_tokens(model, tokenizer):
    batches = [
        MaskedBatches(rows(tokenizer), tokenizer, batch_size=40, probability=p).epoch(0)[0] for p in (0.05, 0.6, 0.0)
    ]
    losses = [_full_loss(model, batch).item() for batch in batches[:2]]
    counts = [int((batch["labels"] != IGNORED).sum()) for batch in batches[:2]]
    assert counts[1] > 5 * counts[0]
    together = (losses[0] * counts[0] + losses[1] * counts[1]) / sum(counts)
    found = masked_lm_metrics(model, batches)
    assert found["loss"] == pytest.approx(together, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(together), rel=1e-5)


def test_accumulated_batches_train_as_one(tokenizer):
    whole = MaskedBatches(rows(tokenizer), tokenizer, batch_size=40).epoch(0)[0]
    parts = [{name: t[i::4] for name, t in whole.items()} for i in range(4)]
    weights = []
    for batches, accumulate in (([whole], 1), (parts, 4)):
        torch.manual_seed(0)
        model = MaskedLM(Encoder(TransformerConfig(tokenizer.vocab_size, 32, 1, 2, 64, dropout=0.0, pooler=False)))
        config = TrainConfig(steps=3, lr=1e-3, accumulate=accumulate, precision="fp32")
        train(model, batches, masked_lm_loss, config)
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=2e-5, rtol=0)


def test_a_model_learns_sentences_by_heart(model, tokenizer):
    given = list(rows_of_tokens([[sentence] for sentence in SENTENCES], tokenizer)) * 8
    held = MaskedBatches(given, tokenizer, batch_size=32, seed=9, hide_all=True)
    before = masked_lm_metrics(model, held)
    config = TrainConfig(steps=120, lr=5e-3, precision="fp32")
    result = train(model, MaskedBatches(given, tokenizer, batch_size=32), masked_lm_loss, config)
    after = masked_lm_metrics(model, held)
    assert before["accuracy"] < 0.2 and before["perplexity"] > 15
    assert after["accuracy"] > 0.85 and after["perplexity"] < 2.5
    assert result.history[-1]["accuracy"] > 0.85


class Killed(Exception):
    pass


def test_a_killed_pretraining_resumes_to_the_same_weights(tokenizer, tmp_path):
    config = TrainConfig(steps=9, lr=1e-3, precision="fp32", checkpoint_every=2)
    batches = MaskedBatches(rows(tokenizer, 24), tokenizer, batch_size=8)  # three batches an epoch

    def fresh():
        torch.manual_seed(0)
        return MaskedLM(Encoder(TransformerConfig(tokenizer.vocab_size, 16, 1, 2, 32, dropout=0.1, pooler=False)))

    def killer(step, _):
        if step == 5:
            raise Killed

    unbroken, broken, resumed = fresh(), fresh(), fresh()
    train(unbroken, batches, masked_lm_loss, config)
    with pytest.raises(Killed):
        train(broken, batches, masked_lm_loss, config, folder=tmp_path, on_step=killer)
    seen = []
    train(resumed, batches, masked_lm_loss, config, folder=tmp_path, on_step=lambda step, _: seen.append(step))
    assert seen == [4, 5, 6, 7, 8, 9]
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_difference_restores_the_model_to_its_rounding(tokenizer, tmp_path):
    config = TransformerConfig(tokenizer.vocab_size, 32, 2, 2, 64, dropout=0.0)

    def start():
        torch.manual_seed(1)
        return Encoder(config).eval()

    torch.manual_seed(2)
    model = MaskedLM(start())
    given = rows(tokenizer)
    train(
        model,
        MaskedBatches(given, tokenizer, batch_size=8),
        masked_lm_loss,
        TrainConfig(steps=20, lr=1e-3, precision="fp32"),
    )
    write_difference(tmp_path / "weights.safetensors", model, start())
    state = torch.get_rng_state()
    read = read_difference(tmp_path / "weights.safetensors", start())
    assert torch.equal(torch.get_rng_state(), state)
    first = dict(MaskedLM(start()).named_parameters())
    assert not read.training
    for (name, one), other in zip(model.named_parameters(), read.parameters(), strict=True):
        change = one if name.startswith("head.") else one - first[name]
        limit = change.abs().amax(-1, keepdim=True) / 127 / 2 if change.dim() > 1 else torch.zeros(())
        assert ((one - other).abs() <= limit + 1e-7).all(), name
    names = {name.rpartition(".codes")[0] or name for name in _tensor_names(tmp_path / "weights.safetensors")}
    assert "encoder.pooler.weight" not in names  # nothing trains it
    assert "encoder.embeddings.word.weight" in names and "head.bias" in names


def _tensor_names(file):
    size = int.from_bytes(file.read_bytes()[:8], "little")
    return [name for name in json.loads(file.read_bytes()[8 : 8 + size]) if not name.endswith(".scales")]


def test_a_difference_to_another_encoder_is_refused(tokenizer, tmp_path):
    one = MaskedLM(Encoder(TransformerConfig(tokenizer.vocab_size, 16, 1, 2, 32, pooler=False)))
    deeper = Encoder(TransformerConfig(tokenizer.vocab_size, 16, 2, 2, 32, pooler=False))
    wider = Encoder(TransformerConfig(tokenizer.vocab_size, 32, 1, 2, 32, pooler=False))
    file = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match="disagree about encoder.layers.1"):
        write_difference(file, one, deeper)
    with pytest.raises(ValueError, match=r"has shape \(.*16\); the encoder's is \(.*32\)"):
        write_difference(file, one, wider)
    write_difference(file, one, Encoder(one.config))
    with pytest.raises(ValueError, match="has shape"):
        read_difference(file, wider)
    file.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="holds no weights"):
        read_difference(file, Encoder(one.config))


def test_documents_without_any_text_have_no_rows(tokenizer):
    assert list(rows_of_tokens(Documents("none", [[]], [], []).train, tokenizer)) == []
    with pytest.raises(ValueError, match="no sequences"):
        MaskedBatches([], tokenizer, batch_size=8).epoch(0)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEKIT_ASSETS", str(assets_folder()))
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_teacher_is_made_kept_and_read_back(own_cache, tmp_path, monkeypatch):
    text = Documents("plain", [[s] for s in SENTENCES], [SENTENCES * 3], [SENTENCES[::-1] * 3])
    settings = Pretraining(TrainConfig(steps=2, lr=1e-3, precision="fp32", checkpoint_every=2), max_tokens=128)
    with monkeypatch.context() as broken:  # killed after its last step, before anything is kept
        broken.setattr("coursekit.train.mlm_teacher.write_difference", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            make_mlm_teacher(tmp_path / "teacher", settings, [text])
    assert not (tmp_path / "teacher").exists()
    made = make_mlm_teacher(tmp_path / "teacher", settings, [text])
    assert not list((own_cache / "mlm-teacher").iterdir())  # nothing is left behind
    assert sorted(file.name for file in (tmp_path / "teacher").iterdir()) == ["teacher.json", "weights.safetensors"]
    about = made.about
    assert about["result"]["steps"] == 2 and about["settings"]["config"]["lr"] == 1e-3
    assert about["weights"]["bytes"] < 25e6
    assert [*about["result"]["evaluations"][-1]] == ["step", "epoch", "plain accuracy", "plain perplexity"]
    trained, stored = about["test"]["trained"], about["test"]["stored"]
    assert stored["plain perplexity"] == pytest.approx(trained["plain perplexity"], rel=0.02)
    batches = held_out(text.test, made.tokenizer)
    assert scores(made.model, {"plain": batches}) == pytest.approx(stored, rel=1e-5)

    damaged = tmp_path / "teacher" / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match="missing or damaged; make it again with: python -m coursekit"):
        load_mlm_teacher(tmp_path / "teacher")
    with pytest.raises(FileNotFoundError, match="no masked-LM teacher in .*; make it with: python -m coursekit"):
        load_mlm_teacher(tmp_path / "nothing")


def test_the_head_begins_with_the_share_of_each_token(tmp_path):
    wide = Tokenizer(fetch("minilm"))
    store = TokenStore.write(tmp_path / "rows", wide.encode(["the cat", "the dog the"]), wide.vocab_size)
    bias = untrained(store, wide).head.bias
    the, cat = wide.encode(["the cat"])[0][1:3]
    total = 0.5 * wide.vocab_size + 5  # three "the", "cat", "dog"; [CLS] and [SEP] do not count
    assert bias[the].item() == pytest.approx(math.log(3.5 / total))
    assert bias[cat].item() == pytest.approx(math.log(1.5 / total))
    assert bias[wide.cls_id].item() == pytest.approx(math.log(0.5 / total))
