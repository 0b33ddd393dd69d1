"""A smaller vocabulary: the same texts, cut the same way, give the same outputs."""

import json

import pytest
import torch
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from coursekit.compress.pruning import prune_tokenizer, prune_vocabulary, task_vocabulary
from coursekit.data import Tokenizer, pad
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, TransformerConfig, load, save

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["film", "good", "bad", "plain", "a", "##ly", "##s", "un", "g", "##o", "##d"]
TEXTS = ["a good film", "badly good films"]


@pytest.fixture
def source(tmp_path):
    """A WordPiece tokenizer whose special tokens lie in the middle of its ids."""
    vocabulary = {piece: number for number, piece in enumerate([*PIECES[:4], *SPECIAL, *PIECES[4:]])}
    raw = RawTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.add_special_tokens(SPECIAL)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 600}))
    return tmp_path


@pytest.fixture
def config(source) -> TransformerConfig:
    size = Tokenizer(source).vocab_size
    return TransformerConfig(size, 12, 2, 3, 16, max_positions=12, pad_id=4)


@pytest.mark.parametrize("embedding", ["full", "linear", "factorised"])
@torch.no_grad()
def test_same_texts_same_outputs(source, config, tmp_path, embedding) -> None:
    tokenizer = Tokenizer(source)
    if embedding != "full":
        config = config.replace(embedding=embedding, embedding_size=5)
    model = MaskedLM(Encoder(config)).eval()
    model.head.bias.normal_()
    old_ids = tokenizer.encode(TEXTS)
    keep = task_vocabulary(tokenizer, old_ids)
    assert keep == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]  # "plain", "un" and the single letters are not used
    before = model(*pad(old_ids, tokenizer.pad_id))
    id_map = prune_vocabulary(model, tokenizer, keep)
    smaller = prune_tokenizer(source, id_map, tmp_path / "small" / "tokenizer.json")
    new_ids = smaller.encode(TEXTS)
    assert new_ids == [id_map[ids].tolist() for ids in map(torch.tensor, old_ids)]
    after = model(*pad(new_ids, smaller.pad_id))
    assert torch.equal(after.last_hidden, before.last_hidden)
    torch.testing.assert_close(after.logits, before.logits[..., keep])
    assert model.config.vocab_size == model.encoder.embeddings.word.num_embeddings == smaller.vocab_size == 11
    assert model.config.pad_id == smaller.pad_id == model.encoder.embeddings.config.pad_id
    again = load(save(model, tmp_path / "model"))
    assert torch.equal(again(*pad(new_ids, smaller.pad_id)).logits, after.logits)


def test_the_tokenizer_left(source, config, tmp_path) -> None:
    """Special tokens keep their part, pairs their types, other words are cut into kept pieces or become [UNK]."""
    tokenizer = Tokenizer(source)
    id_map = prune_vocabulary(Encoder(config), tokenizer, [0, 9, 10])  # film, a, ##ly
    smaller = prune_tokenizer(source / "tokenizer.json", id_map, tmp_path / "t.json")
    assert smaller.vocab_size == 8
    assert [smaller.tokens([i])[0] for i in smaller.special_ids] == SPECIAL
    assert smaller.max_positions == tokenizer.max_positions == 600
    assert smaller.tokens(smaller.encode(["a filmly good"])[0]) == ["[CLS]", "a", "film", "##ly", "[UNK]", "[SEP]"]
    ids, types = smaller.encode_pairs(["a"], ["film"])
    assert smaller.tokens(ids[0]) == ["[CLS]", "a", "[SEP]", "film", "[SEP]"]
    assert types == [[0, 0, 0, 1, 1]]
    assert smaller.decode(ids[0]) == "a film"
    assert id_map.tolist() == [0, -1, -1, -1, 1, 2, 3, 4, 5, 6, 7] + [-1] * 5


def test_only_the_table_gets_smaller(source, config) -> None:
    model = SequenceClassifier(Encoder(config), 2)
    model.encoder.embeddings.word.weight.requires_grad_(False)
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    prune_vocabulary(model, Tokenizer(source), [0])
    after = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name for name in before if before[name] != after[name]} == {"encoder.embeddings.word.weight"}
    assert after["encoder.embeddings.word.weight"] == (6, 12)
    assert not model.encoder.embeddings.word.weight.requires_grad


def test_other_ways_to_put_special_tokens_around(source, tmp_path) -> None:
    content = json.loads((source / "tokenizer.json").read_text())
    old = Tokenizer(source)
    bert = {"type": "BertProcessing", "sep": ["[SEP]", old.sep_id], "cls": ["[CLS]", old.cls_id]}
    id_map = torch.tensor([-1, 0, -1, -1, 1, 2, 3, 4, 5] + [-1] * 7)
    for number, processor in enumerate((bert, {"type": "Sequence", "processors": [bert]}, None)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(content | {"post_processor": processor}))
        smaller = prune_tokenizer(path, id_map, tmp_path / "small.json")
        expected = ["[CLS]", "good", "[SEP]"] if processor else ["good"]
        assert smaller.tokens(smaller.encode(["good"])[0]) == expected


def test_bad_vocabularies(source, config, tmp_path) -> None:
    tokenizer = Tokenizer(source)
    model = Encoder(config)
    for bad in (-1, 16):
        with pytest.raises(ValueError, match=f"id {bad} is outside the vocabulary of 16"):
            prune_vocabulary(model, tokenizer, [0, bad])
    with pytest.raises(ValueError, match="the tokenizer has 16 pieces, the word table 9 rows"):
        prune_vocabulary(Encoder(config.replace(vocab_size=9)), tokenizer, [0])
    broken = MaskedLM(Encoder(config))
    broken.encoder.embeddings.word.weight.data[15] = torch.nan  # a row that would go is one too
    with pytest.raises(ValueError, match=r"^encoder\.embeddings\.word\.weight has 12 NaN or infinite entries"):
        prune_vocabulary(broken, tokenizer, [0])
    assert (len(broken.encoder.embeddings.word.weight), len(broken.head.bias)) == (16, 16)
    assert model.embeddings.word.weight.shape == (16, 12)
    with pytest.raises(ValueError, match=r"drops special tokens \['\[MASK\]'\]"):
        prune_tokenizer(source, torch.tensor([0] * 8 + [-1] * 8), tmp_path / "x" / "t.json")
    with pytest.raises(ValueError, match="the id map has 3 entries, the tokenizer 16 pieces"):
        prune_tokenizer(source, torch.tensor([0, 1, 2]), tmp_path / "x" / "t.json")
    content = json.loads((source / "tokenizer.json").read_text())
    vocabulary = {piece: number for piece, number in content["model"]["vocab"].items()}
    (tmp_path / "bpe.json").write_text(
        json.dumps(content | {"model": {"type": "BPE", "vocab": vocabulary, "merges": []}})
    )
    with pytest.raises(ValueError, match="only a WordPiece tokenizer can lose pieces, .*bpe.json is BPE"):
        prune_tokenizer(tmp_path / "bpe.json", torch.arange(16), tmp_path / "x" / "t.json")
    assert not (tmp_path / "x").exists()
    model.embeddings.word = torch.nn.EmbeddingBag(16, 12)
    with pytest.raises(ValueError, match="word table is a EmbeddingBag"):
        prune_vocabulary(model, tokenizer, [0])
