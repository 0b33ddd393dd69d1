"""A WordPiece vocabulary learnt from text."""

import pytest

from coursekit.data import Tokenizer, train_wordpiece

TEXTS = ["The man saw the dog.", "the dogs saw a man"] * 3


def test_frequent_words_are_whole_and_special_tokens_stand_where_bert_has_them(tmp_path):
    tokenizer = train_wordpiece(TEXTS, 60, tmp_path / "tokenizer.json")
    assert tokenizer.tokens(tokenizer.encode(["The dog [MASK]"])[0]) == ["[CLS]", "the", "dog", "[MASK]", "[SEP]"]
    assert tokenizer.special_ids == (0, 1, 2, 3, 4) and tokenizer.vocab_size <= 60
    ids, types = tokenizer.encode_pairs(["the dog"], ["a man"])
    assert types == [[0, 0, 0, 0, 1, 1, 1]] and tokenizer.decode(ids[0]) == "the dog a man"


def test_the_file_gives_it_back_and_the_same_texts_give_the_same_pieces(tmp_path):
    first = train_wordpiece(TEXTS, 60, tmp_path / "first.json")
    train_wordpiece(iter(TEXTS), 60, tmp_path / "again.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    assert Tokenizer(tmp_path / "first.json").encode(TEXTS) == first.encode(TEXTS)


@pytest.mark.parametrize(
    "texts, size, words", [([], 60, "0 texts"), (["abcdefgh"], 8, "vocabulary of 8"), ("the", 60, "list")]
)
def test_bad_input_leaves_no_file(tmp_path, texts, size, words):
    with pytest.raises(ValueError, match=words):
        train_wordpiece(texts, size, tmp_path / "tokenizer.json")
    assert list(tmp_path.iterdir()) == []
