"""Padding by hand, and what must hold for any lengths."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import length_batches, pad

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=80)
PROPERTY = settings(deadline=None, max_examples=80)


def test_pad_by_hand():
    batch = pad([[5, 6, 7], [8]], pad_id=9, token_type_ids=[[0, 1, 1], [1]])
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.attention_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.token_type_ids.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert [t.dtype for t in batch] == [torch.long, torch.bool, torch.long]
    assert tuple(batch) == (batch.input_ids, batch.attention_mask, batch.token_type_ids)


def test_pad_to_a_multiple():
    batch = pad([[1, 2, 3], [4]], 0, multiple_of=8)
    assert batch.input_ids.shape == batch.attention_mask.shape == (2, 8)
    assert batch.attention_mask.sum().item() == 4 and batch.token_type_ids is None
    assert pad([[1] * 8], 0, multiple_of=8).input_ids.shape == (1, 8)


@PROPERTY
@given(
    sequences=st.lists(st.lists(st.integers(1, 60000), min_size=1, max_size=20), min_size=1, max_size=8),
    multiple=st.integers(1, 9),
    dtype=st.sampled_from([list, np.uint16, np.int64]),
)
def test_padding_can_be_undone(sequences, multiple, dtype):
    given_ = sequences if dtype is list else [np.array(s, dtype) for s in sequences]
    ids, mask, _ = pad(given_, 0, multiple_of=multiple)
    assert [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)] == sequences
    assert not ids[~mask].any()
    assert ids.shape[1] % multiple == 0 and 0 <= ids.shape[1] - max(map(len, sequences)) < multiple


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 0), {}, "empty list of sequences"),
        (([[1], []], 0), {}, "sequence 1 is empty"),
        (([[1]], 0), {"multiple_of": 0}, "multiple_of must be at least 1, got 0"),
        (([[1, 2]], 0), {"token_type_ids": [[0]]}, r"lengths \[1\] do not fit sequences of lengths \[2\]"),
        (([[1, 2]], 0), {"token_type_ids": []}, r"lengths \[\] do not fit"),
    ],
)
def test_pad_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        pad(*arguments, **options)


def test_batches_by_hand():
    lengths = [3, 9, 1, 4, 4]
    assert length_batches(lengths, batch_size=2) == [[2, 0], [3, 4], [1]]
    # two of 3 make 6; two of 4 make 8; 9 stands alone: (1, 3) then (4, 4) then (9)
    assert length_batches(lengths, max_tokens=9) == [[2, 0], [3, 4], [1]]
    assert length_batches(lengths, max_tokens=12) == [[2, 0, 3], [4], [1]]
    assert length_batches(lengths, max_tokens=45) == [[2, 0, 3, 4, 1]]


@PROPERTY
@given(lengths=LENGTHS, size=st.integers(1, 90), seed=st.none() | st.integers(0, 99), by_tokens=st.booleans())
def test_every_index_once_and_no_batch_too_large(lengths, size, seed, by_tokens):
    limit = max(size, max(lengths)) if by_tokens else size
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    option = {"max_tokens" if by_tokens else "batch_size": limit}
    batches = length_batches(lengths, **option, generator=generator)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(type(i) is int for batch in batches for i in batch)
    for batch in batches:
        width = max(lengths[i] for i in batch)
        assert 0 < len(batch) * (width if by_tokens else 1) <= limit
    # batches are disjoint ranges of length: sorted by their shortest, none begins below where one ended
    ranges = sorted((min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in batches)
    assert all(one[1] <= other[0] for one, other in zip(ranges, ranges[1:], strict=False))
    if seed is None:
        flat = [i for batch in batches for i in batch]
        assert flat == sorted(range(len(lengths)), key=lengths.__getitem__)  # equal lengths as they came


@PROPERTY
@given(lengths=LENGTHS, size=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_generator_alone_decides_the_order(lengths, size, seed):
    def batches(seed):
        return length_batches(lengths, batch_size=size, generator=torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    assert batches(seed) == batches(seed)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_new_epoch_is_a_new_order():
    generator = torch.Generator().manual_seed(0)
    lengths = [7] * 64
    first, second = (length_batches(lengths, batch_size=8, generator=generator) for _ in range(2))
    assert first != second
    assert {frozenset(b) for b in first} != {frozenset(b) for b in second}  # equal lengths change company


def test_sorting_saves_padding():
    lengths = torch.randint(5, 60, (512,), generator=torch.Generator().manual_seed(1)).tolist()
    batches = length_batches(lengths, batch_size=32)
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    unsorted = sum(32 * max(lengths[i : i + 32]) for i in range(0, 512, 32))
    assert sum(lengths) <= padded < 1.1 * sum(lengths) < 0.7 * unsorted


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1], {}, "give batch_size or max_tokens, not both; got None and None"),
        ([1], {"batch_size": 1, "max_tokens": 1}, "got 1 and 1"),
        ([1], {"batch_size": 0}, "at least 1, got 0"),
        ([1], {"max_tokens": -5}, "at least 1, got -5"),
        ([], {"batch_size": 2}, "no sequences"),
        ([3, 0], {"batch_size": 2}, r"lengths\[1\] is 0"),
        ([3, -2], {"max_tokens": 9}, r"lengths\[1\] is -2"),
        ([3, 12, 4], {"max_tokens": 9}, "sequence 1 has 12 tokens, max_tokens is 9"),
    ],
)
def test_length_batches_refuses(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        length_batches(lengths, **options)
