"""The encoder's real tokenizer, against hand-known ids and Hugging Face's own."""

import json

import pytest
import torch

from coursekit.data import Tokenizer, fetch


@pytest.fixture(scope="module")
def folder():
    return fetch("minilm")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer(folder)


def test_known_ids(tokenizer):
    assert tokenizer.vocab_size == 30522 and tokenizer.max_positions == 512
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id) == (0, 100, 101)
    assert (tokenizer.sep_id, tokenizer.mask_id) == (102, 103)
    assert tokenizer.special_ids == (0, 100, 101, 102, 103)
    assert tokenizer.encode(["Hello, world!"]) == [[101, 7592, 1010, 2088, 999, 102]]
    assert tokenizer.tokens([101, 7592, 103]) == ["[CLS]", "hello", "[MASK]"]


def test_equal_to_hugging_face(tokenizer, folder):
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["A mess.", "Touché! naïve café — “quoted”", "", "日本語 text", "word " * 300, "it's [MASK] here"]
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        assert ids == reference(text, padding=False, truncation=False)["input_ids"]
    ids, types = tokenizer.encode_pairs(texts, texts[::-1], max_length=40)
    expected = reference(texts, texts[::-1], padding=False, truncation="longest_first", max_length=40)
    assert ids == expected["input_ids"] and types == expected["token_type_ids"]


def test_the_files_own_padding_and_truncation_are_off(tokenizer, folder):
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert stored["padding"]["strategy"] == {"Fixed": 128} and stored["truncation"]["max_length"] == 128
    short, long = tokenizer.encode(["good", "good " * 300])
    assert len(short) == 3 and len(long) == 302


def test_truncation_only_as_asked(tokenizer):
    text = "good " * 700
    assert [len(ids) for ids in tokenizer.encode([text, "bad"], max_length=10)] == [10, 3]
    assert tokenizer.encode([text], max_length=10)[0][-1] == tokenizer.sep_id
    assert len(tokenizer.encode([text])[0]) == 512
    assert len(tokenizer.encode([text], max_length=None)[0]) == 702
    assert len(tokenizer.encode_pairs([text], [text], max_length=None)[0][0]) == 1403
    for wrong in (513, 2, 0, -1):
        with pytest.raises(ValueError, match=rf"3 to 512 \(the model's positions\), got {wrong}"):
            tokenizer.encode(["good"], max_length=wrong)


def test_positions_come_from_the_models_configuration(folder, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert Tokenizer(tmp_path / "tokenizer.json").max_positions == 512
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    with pytest.raises(ValueError, match="3 to 64"):
        Tokenizer(tmp_path).encode(["good"])


def test_pairs(tokenizer):
    ids, types = tokenizer.encode_pairs(["good", "a"], ["bad film", "b"])
    assert ids[0] == [101, 2204, 102, 2919, 2143, 102]
    assert types == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    # the longer text gives way, the shorter stays whole
    ids, types = tokenizer.encode_pairs(["good " * 9], ["bad film"], max_length=8)
    assert tokenizer.tokens(ids[0]) == ["[CLS]", "good", "good", "good", "[SEP]", "bad", "film", "[SEP]"]
    assert types == [[0] * 5 + [1] * 3]
    with pytest.raises(ValueError, match="got 1 and 2"):
        tokenizer.encode_pairs(["a"], ["b", "c"])


def test_decode(tokenizer):
    (ids,) = tokenizer.encode(["An unforgettable film!"])
    assert tokenizer.decode(ids) == "an unforgettable film!"
    assert tokenizer.decode(torch.tensor(ids)) == "an unforgettable film!"
    assert tokenizer.decode(ids, skip_special=False).startswith("[CLS] an")
    with pytest.raises(ValueError, match="id 30522 is outside the vocabulary of 30522"):
        tokenizer.decode([30522])
    with pytest.raises(ValueError, match="id -1 is outside"):
        tokenizer.tokens([-1])


def test_nothing_and_no_strings(tokenizer):
    assert tokenizer.encode([]) == [] and tokenizer.encode_pairs([], []) == ([], [])
    assert tokenizer.encode([""]) == [[101, 102]]
    assert tokenizer.encode(text for text in ("good", "bad")) == [[101, 2204, 102], [101, 2919, 102]]
    with pytest.raises(ValueError, match=r"texts\[1\] must be a string, got int"):
        tokenizer.encode(["good", 3])
    with pytest.raises(ValueError, match=r"second\[0\] must be a string, got NoneType"):
        tokenizer.encode_pairs(["good"], [None])
    with pytest.raises(ValueError, match=r"list of strings, got one string; write \[text\]"):
        tokenizer.encode("good")


def test_no_file_and_not_a_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer at .*tokenizer.json"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ValueError, match="tokenizer.json is not a tokenizer file"):
        Tokenizer(tmp_path)
    words = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"[PAD]": 0}, "unk_token": "[UNK]"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match=r"has no \[MASK\] \[CLS\] \[SEP\] \[UNK\]"):
        Tokenizer(tmp_path)
