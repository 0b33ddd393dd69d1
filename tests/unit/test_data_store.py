"""Token stores: what goes in comes out, mapped; damage is noticed."""

import json
import pickle
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import Tokenizer, TokenStore, fetch, length_batches, pad
from coursekit.train import MaskedBatches

SEQUENCES = [[5, 6, 7], [65535], [0, 1]]


@pytest.fixture
def folder(tmp_path):
    TokenStore.write(tmp_path / "store", SEQUENCES, 65536)
    return tmp_path / "store"


@settings(deadline=None, max_examples=40)
@given(data=st.data(), vocab_size=st.sampled_from([1, 50, 65536, 65537, 2**31, 2**32]))
def test_round_trip(data, vocab_size):
    ids = st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=12)
    sequences = data.draw(st.lists(ids, min_size=1, max_size=12))
    with tempfile.TemporaryDirectory() as temporary:
        store = TokenStore.write(Path(temporary) / "store", iter(sequences), vocab_size)
        assert [s.tolist() for s in store] == sequences
        assert len(store) == len(sequences) and store.lengths.tolist() == [len(s) for s in sequences]
        assert store.total_tokens == sum(map(len, sequences)) and store.vocab_size == vocab_size
        assert store[0].dtype == (np.uint16 if vocab_size <= 65536 else np.uint32)
        assert store[-1].tolist() == sequences[-1]
        del store


def test_files_have_the_size_promised(folder):
    assert (folder / "tokens.bin").stat().st_size == 6 * 2
    assert (folder / "offsets.bin").stat().st_size == 4 * 8
    assert np.fromfile(folder / "offsets.bin", "<i8").tolist() == [0, 3, 4, 6]


def test_reading_maps_and_never_writes(folder):
    store = TokenStore(folder)
    base = store[1]
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store[0][0] = 1
    with pytest.raises(IndexError, match="sequence 3 of a token store of 3"):
        store[3]
    with pytest.raises(IndexError, match="sequence -4"):
        store[-4]


def test_a_store_feeds_batches(folder):
    store = TokenStore(folder)
    batches = length_batches(store.lengths, batch_size=2)
    assert batches == [[1, 2], [0]]
    batch = pad([store[i] for i in batches[0]], pad_id=9)
    assert batch.input_ids.tolist() == [[65535, 9], [0, 1]]


def test_a_copy_in_another_process_maps_again(folder):
    data = pickle.dumps(TokenStore(folder))
    assert len(data) < 500 and pickle.loads(data)[0].tolist() == [5, 6, 7]


def test_writing_holds_one_sequence_at_a_time(tmp_path):
    """Each sequence is gone before the next is made."""
    alive = 0

    class Row(list):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def rows():
        nonlocal alive
        for i in range(200):
            alive += 1
            assert alive <= 2
            yield Row([i, i])

    assert len(TokenStore.write(tmp_path / "store", rows(), 200)) == 200


@pytest.mark.parametrize(
    ("sequences", "vocab_size", "message"),
    [
        ([], 10, "at least one sequence"),
        ([[1], []], 10, "sequence 1 must be a non-empty list of token ids"),
        ([[1], [2, 10]], 10, "sequence 1 has id 10, outside the vocabulary of 10"),
        ([[-1]], 10, "sequence 0 has id -1, outside the vocabulary of 10"),
        ([[1.5]], 10, "sequence 0 must be a non-empty list of token ids"),
        ([[[1]]], 10, "sequence 0 must be"),
        ([[1]], 0, "vocab_size must be 1 to 2\\*\\*32, got 0"),
        ([[1]], 2**32 + 1, "got 4294967297"),
    ],
)
def test_bad_input_writes_nothing(sequences, vocab_size, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TokenStore.write(tmp_path / "store", sequences, vocab_size)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_earlier_store(folder):
    def rows():
        yield [1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TokenStore.write(folder, rows(), 10)
    assert TokenStore(folder)[0].tolist() == [5, 6, 7]
    assert [p.name for p in folder.parent.iterdir()] == ["store"]
    TokenStore.write(folder, [[1]], 10)
    assert [s.tolist() for s in TokenStore(folder)] == [[1]]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a token store"):
        TokenStore.write(tmp_path, [[1]], 10)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="is not a token store: it has no store.json"):
        TokenStore(tmp_path)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin"])
@pytest.mark.parametrize("change", ["cut", "longer", "missing"])
def test_a_file_of_another_size(name, change, folder):
    file = folder / name
    content = file.read_bytes()
    file.unlink() if change == "missing" else file.write_bytes(content[:-1] if change == "cut" else content * 2)
    with pytest.raises(ValueError, match=rf"{name} is damaged: \d+ bytes, expected {len(content)}"):
        TokenStore(folder)


def test_offsets_that_do_not_fit(folder):
    np.array([0, 3, 4, 5], "<i8").tofile(folder / "offsets.bin")
    with pytest.raises(ValueError, match="its offsets do not span its tokens"):
        TokenStore(folder)


@pytest.mark.parametrize(
    "content",
    ["not json", "[]", "{}", json.dumps({"format": "other", "vocab_size": 1, "sequences": 1, "tokens": 1})],
)
def test_a_foreign_header(content, folder):
    (folder / "store.json").write_text(content)
    with pytest.raises(ValueError, match="store.json does not describe a coursekit token store 1"):
        TokenStore(folder)


def test_a_file_larger_than_the_memory_used(tmp_path):
    """24 MB of tokens are written and read, and a batch for training is made, in a tenth of that."""
    tokenizer = Tokenizer(fetch("minilm"))
    row = np.arange(1000, 3000)
    tracemalloc.start()
    try:
        store = TokenStore.write(tmp_path / "store", (row for _ in range(6000)), tokenizer.vocab_size)
        size = (tmp_path / "store" / "tokens.bin").stat().st_size
        assert size == 24_000_000
        assert sum(int(tokens[-1]) for tokens in store) == 6000 * 2999
        batch = MaskedBatches(store, tokenizer, batch_size=8).epoch(0)[5]
        assert batch["input_ids"].shape == (8, 2000)
        assert tracemalloc.get_traced_memory()[1] < size / 10
    finally:
        tracemalloc.stop()
