"""Checkpoints by name, as the Hub hands them out: only the download is replaced, by folders made here."""

import json
import shutil
from fnmatch import fnmatch

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Tokens
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from coursekit.data import Tokenizer
from coursekit.export import to_huggingface
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, TransformerConfig, from_huggingface

transformers = pytest.importorskip("transformers")

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "A",
    "a",
    "fine",
    "##ly",
    "film",
    "Caf",
    "##é",
    "caf",
    "##e",
    ".",
]
SIZES = dict(
    vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, num_labels=2
)
TEXTS = ["A finely fine film.", "a Café", ""]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Names → folders of the Hub. What is asked for is copied, what is not stays there."""
    published = {}

    def snapshot_download(name, allow_patterns):
        if name not in published:
            raise FileNotFoundError(f"404: {name}")
        cache = tmp_path / "cache" / name.replace("/", "--")
        cache.mkdir(parents=True, exist_ok=True)
        for file in published[name].iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, cache)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return published


def large(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def same_answers(ours, theirs, tokenizer, vocabulary=60):
    ids = torch.tensor([ids + [0] * (12 - len(ids)) for ids in tokenizer.encode(TEXTS)])
    assert ids.max() < vocabulary
    with torch.no_grad():
        torch.testing.assert_close(
            ours(ids, ids > 0).logits, theirs(ids, attention_mask=(ids > 0).long()).logits, atol=2e-5, rtol=1e-5
        )


def write_vocabulary(folder, **about):
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    if about:
        (folder / "tokenizer_config.json").write_text(json.dumps(about))


def test_a_checkpoint_of_today(hub, tmp_path):
    """As `save_pretrained` and `push_to_hub` write one; nothing else of its repository is fetched."""
    home = tmp_path / "published"
    theirs = large(transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)))
    theirs.save_pretrained(home)
    write_vocabulary(home)
    transformers.AutoTokenizer.from_pretrained(home).save_pretrained(home)
    (home / "vocab.txt").unlink(missing_ok=True)
    (home / "training_args.bin").write_bytes(b"large")
    hub["someone/fine-films"] = home
    ours, tokenizer = from_huggingface("someone/fine-films"), Tokenizer("someone/fine-films")
    assert isinstance(ours, SequenceClassifier) and ours.num_labels == 2
    assert tokenizer.encode(TEXTS) == transformers.AutoTokenizer.from_pretrained(home)(TEXTS)["input_ids"]
    same_answers(ours, theirs, tokenizer)
    fetched = {file.name for file in (tmp_path / "cache" / "someone--fine-films").iterdir()}
    assert fetched == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    with pytest.raises(OSError, match="no folder someone/other, .*404: someone/other"):
        Tokenizer("someone/other")


@pytest.mark.parametrize("lower", [True, False])
def test_a_checkpoint_of_2018(lower, hub, tmp_path):
    """vocab.txt and a pickle of tensors; a config that says little, TensorFlow's names, a head for sentence pairs."""
    home = tmp_path / "published"
    theirs = large(transformers.BertForPreTraining(transformers.BertConfig(**SIZES)))
    theirs.save_pretrained(home)
    config = json.loads((home / "config.json").read_text())
    kept = [*SIZES, "hidden_act", "hidden_dropout_prob", "max_position_embeddings", "type_vocab_size"]
    (home / "config.json").write_text(json.dumps({name: config[name] for name in kept if name in config}))
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert "cls.seq_relationship.weight" in tensors and "bert.embeddings.LayerNorm.gamma" in tensors
    torch.save(tensors, home / "pytorch_model.bin")
    (home / "model.safetensors").unlink()
    write_vocabulary(home, do_lower_case=lower)
    hub["old-bert"] = home
    ours, tokenizer = from_huggingface("old-bert"), Tokenizer("old-bert")
    assert isinstance(ours, MaskedLM)
    same_answers(ours, lambda *given, **more: _scores(theirs(*given, **more)), tokenizer)
    said = [tokenizer.tokens(ids[1:-1]) for ids in tokenizer.encode(TEXTS)]
    first, cafe = (["a"], ["caf", "##e"]) if lower else (["A"], ["Caf", "##é"])
    assert said == [[*first, "fine", "##ly", "fine", "film", "."], ["a", *cafe], []]
    reference = transformers.BertTokenizer.from_pretrained(home, do_lower_case=lower)
    assert tokenizer.encode(TEXTS) == reference(TEXTS)["input_ids"]
    ids, types = tokenizer.encode_pairs(["a film"], ["fine"])
    assert (ids, types) == ([[2, 6, 9, 3, 7, 3]], [[0, 0, 0, 0, 1, 1]])
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)


def _scores(output):
    """Of a pretraining model: the words', as `logits`."""
    output.logits = output.prediction_logits
    return output


def test_a_vocabulary_alone_is_lower_cased_and_a_damaged_one_is_named(tmp_path):
    write_vocabulary(tmp_path)
    assert Tokenizer(tmp_path).encode(["A CAFÉ"]) == Tokenizer(tmp_path / "vocab.txt").encode(["a cafe"])
    (tmp_path / "vocab.txt").write_text("film\nfine\n")
    with pytest.raises(ValueError, match="vocab.txt"):
        Tokenizer(tmp_path)


def albert_tokens(file):
    """A tokenizer of ALBERT's kind: SentencePiece's unigrams, and its own names for padding and unknown."""
    tokens = Tokens(models.Unigram())
    tokens.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokens.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )  # as few texts, so few pieces
    tokens.train_from_iterator([text for text in TEXTS if text] * 20, trainer)
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokens.save(str(file))
    return tokens


def test_an_albert_and_its_own_special_pieces(hub, tmp_path):
    home = tmp_path / "published"
    config = transformers.AlbertConfig(**SIZES, embedding_size=8)
    theirs = large(transformers.AlbertForSequenceClassification(config))
    theirs.save_pretrained(home)
    tokens = albert_tokens(home / "tokenizer.json")
    hub["albert/small"] = home
    ours, tokenizer = from_huggingface("albert/small"), Tokenizer("albert/small")
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert tokenizer.special_ids == (0, 1, 2, 3, 4) and tokenizer.encode(TEXTS)[2] == [2, 3]
    assert tokenizer.encode(["Ω film"])[0][1:3].count(1) == 1  # unknown
    assert tokenizer.encode(TEXTS) == [tokens.encode(text).ids for text in TEXTS]
    same_answers(ours, theirs, tokenizer)

    written = to_huggingface(ours, tmp_path / "written", tokenizer)
    again = transformers.AutoTokenizer.from_pretrained(written)
    named = (again.pad_token, again.unk_token, again.cls_token, again.sep_token, again.mask_token)
    assert named == ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    padded = again(TEXTS, padding=True)["input_ids"]
    longest = max(map(len, padded))
    assert padded == [ids + [0] * (longest - len(ids)) for ids in tokenizer.encode(TEXTS)]
    assert Tokenizer(written).encode(TEXTS) == tokenizer.encode(TEXTS)


def test_what_only_a_pretraining_needs_is_left_behind(tmp_path):
    """The head for sentence order of an ALBERT, and the maps in TinyBERT's published checkpoints."""
    theirs = large(transformers.AlbertForPreTraining(transformers.AlbertConfig(**SIZES, embedding_size=8)))
    ours, ids = from_huggingface(theirs), torch.randint(1, 60, (2, 7))
    with torch.no_grad():
        expected = theirs(ids).prediction_logits
        torch.testing.assert_close(ours(ids).logits, expected, atol=2e-5, rtol=1e-5)
    folder = to_huggingface(large(Encoder(TransformerConfig(60, 32, 2, 4, 48))), tmp_path / "tiny")
    tensors = load_file(folder / "model.safetensors")
    for extra, kept in (("fit_dense.weight", True), ("fit_denses.1.bias", True), ("adapter.weight", False)):
        save_file(tensors | {extra: torch.ones(3, 3)}, folder / "model.safetensors")
        if kept:
            assert isinstance(from_huggingface(folder), Encoder)
        else:
            with pytest.raises(ValueError, match="no place in our models for the weight 'adapter.weight'"):
                from_huggingface(folder)
