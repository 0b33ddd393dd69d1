import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import IGNORED, mask_tokens, whole_word_mask

SPECIAL, MASK, V = (0, 1, 2, 3, 4), 4, 50
COMMON = {"special_ids": SPECIAL, "mask_id": MASK, "vocab_size": V}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ids(*shape, seed=1, low=5):
    return torch.randint(low, V, shape, generator=seeded(seed))


@given(
    st.lists(st.lists(st.integers(0, V - 1), min_size=6, max_size=6), min_size=1, max_size=8),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=80)
def test_only_ordinary_tokens_are_hidden_and_nothing_else_changes(rows, probability, seed):
    given_ids = torch.tensor(rows)
    before = given_ids.clone()
    hidden, labels = mask_tokens(given_ids, probability=probability, generator=seeded(seed), **COMMON)
    asked = labels != IGNORED
    special = torch.isin(given_ids, torch.tensor(SPECIAL))
    assert torch.equal(given_ids, before)
    assert not (asked & special).any()
    assert torch.equal(labels[asked], given_ids[asked])
    assert torch.equal(hidden[~asked], given_ids[~asked])
    assert not torch.isin(hidden[asked], torch.tensor([i for i in SPECIAL if i != MASK])).any()


def test_probability_0_and_1_are_exact():
    tokens = torch.tensor([[1, 7, 8, 2, 0]])
    hidden, labels = mask_tokens(tokens, probability=0.0, generator=seeded(), **COMMON)
    assert torch.equal(hidden, tokens) and (labels == IGNORED).all()
    _, labels = mask_tokens(tokens, probability=1.0, generator=seeded(), **COMMON)
    assert labels.tolist() == [[IGNORED, 7, 8, IGNORED, IGNORED]]


def test_shares_are_15_percent_and_80_10_10():
    tokens = ids(200, 500)  # 100,000 tokens: a share of p has standard error sqrt(p(1 - p)/n)
    hidden, labels = mask_tokens(tokens, generator=seeded(), **COMMON)
    asked = labels != IGNORED
    count = int(asked.sum())
    assert abs(count / tokens.numel() - 0.15) < 4 * 0.0012
    masked, kept = (hidden[asked] == MASK).float().mean(), (hidden[asked] == labels[asked]).float().mean()
    assert abs(masked - 0.8) < 4 * 0.0033
    assert abs(kept - (0.1 + 0.1 / 45)) < 4 * 0.0025  # a random token is by chance the right one in 1 of 45 cases


def test_random_replacements_are_uniform_over_all_ordinary_ids():
    vocabulary = 12
    tokens = torch.full((400, 300), 5)
    hidden, _ = mask_tokens(
        tokens, special_ids=(0, 3), mask_id=11, vocab_size=vocabulary, probability=1.0, generator=seeded()
    )
    counts = hidden.flatten().bincount(minlength=vocabulary).float()
    counts[5] -= tokens.numel() * 0.1  # those that were kept
    expected = tokens.numel() * 0.1 / 9
    assert counts[0] == counts[3] == 0  # special
    assert abs(counts[11] - 0.8 * tokens.numel()) < 600  # [MASK], which no replacement is
    for ordinary in (1, 2, 4, 6, 7, 8, 9, 10):
        assert abs(counts[ordinary] - expected) < 5 * expected**0.5


def test_the_mask_token_is_special_even_if_not_listed():
    tokens = torch.full((50, 50), MASK)
    hidden, labels = mask_tokens(
        tokens, special_ids=(), mask_id=MASK, vocab_size=V, probability=1.0, generator=seeded()
    )
    assert torch.equal(hidden, tokens) and (labels == IGNORED).all()


def test_same_generator_state_same_mask():
    tokens = ids(4, 30)
    generator = seeded(3)
    first, second = (mask_tokens(tokens, generator=generator, **COMMON) for _ in range(2))
    again = mask_tokens(tokens, generator=seeded(3), **COMMON)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], second[1])


def test_default_generator_is_left_alone():
    state = torch.get_rng_state()
    mask_tokens(ids(4, 30), generator=seeded(), **COMMON)
    whole_word_mask(ids(4, 30), continuation_ids=range(30, 50), generator=seeded(), **COMMON)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", ["tokens", "words"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probability": 1.5}, r"probability must lie in \[0, 1\], got 1.5"),
        ({"probability": -0.1}, "got -0.1"),
        ({"probability": float("nan")}, "got nan"),
        ({"special_ids": range(50)}, "all 50 ids of the vocabulary are special"),
        ({"mask_id": 50}, "id 50 is outside the vocabulary of 50"),
        ({"special_ids": (-1,)}, "id -1 is outside the vocabulary of 50"),
        ({"vocab_size": 40}, "input_ids range from 5 to 49, outside the vocabulary of 40"),
    ],
)
def test_bad_input_is_one_clear_error(function, changed, message):
    arguments = {**COMMON, "generator": seeded(), **changed}
    tokens = torch.tensor([[5, 49]])
    with pytest.raises(ValueError, match=message):
        if function == "tokens":
            mask_tokens(tokens, **arguments)
        else:
            whole_word_mask(tokens, continuation_ids=(30,), **arguments)


def test_wrong_tensors_are_refused():
    with pytest.raises(ValueError, match="must be integers, got torch.float32"):
        mask_tokens(torch.ones(2, 3), generator=seeded(), **COMMON)
    with pytest.raises(ValueError, match=r"must be \(B, T\), got shape \(6,\)"):
        whole_word_mask(ids(6), continuation_ids=(30,), generator=seeded(), **COMMON)


CONTINUES = range(30, 50)  # the "##" pieces of this vocabulary


@given(
    st.lists(st.lists(st.integers(0, V - 1), min_size=9, max_size=9), min_size=1, max_size=5),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=80)
def test_words_are_hidden_whole(rows, probability, seed):
    tokens = torch.tensor(rows)
    hidden, labels = whole_word_mask(
        tokens, continuation_ids=CONTINUES, probability=probability, generator=seeded(seed), **COMMON
    )
    asked = labels != IGNORED
    assert torch.equal(hidden[~asked], tokens[~asked]) and torch.equal(labels[asked], tokens[asked])
    for row, chosen in zip(rows, asked.tolist(), strict=True):
        for place, piece in enumerate(row):
            assert not (chosen[place] and piece in SPECIAL)
            goes_on = place > 0 and piece in CONTINUES and row[place - 1] not in SPECIAL
            assert not goes_on or chosen[place] == chosen[place - 1]


def test_the_budget_is_in_pieces():
    # words of 1 and of 3 pieces; 40 pieces a row, of which a quarter is 10
    row = [5, 6, 30, 31] * 10
    tokens = torch.tensor([row] * 300)
    _, labels = whole_word_mask(tokens, continuation_ids=CONTINUES, probability=0.25, generator=seeded(), **COMMON)
    counts = (labels != IGNORED).sum(1)
    assert counts.max() == 10
    assert counts.float().mean() > 9.9  # only a row whose single words ran out stays below
    _, labels = whole_word_mask(tokens, continuation_ids=CONTINUES, probability=1.0, generator=seeded(), **COMMON)
    assert (labels != IGNORED).all()
    # 1.5 pieces of 3 words: one or two, half of the rows each
    _, labels = whole_word_mask(
        torch.full((4000, 3), 5), continuation_ids=(), probability=0.5, generator=seeded(), **COMMON
    )
    counts = (labels != IGNORED).sum(1)
    assert set(counts.tolist()) == {1, 2}
    assert abs(counts.float().mean() - 1.5) < 4 * 0.5 / 4000**0.5


def test_a_continuation_after_a_special_token_begins_a_word():
    tokens = torch.tensor([[30, 31, 1, 32, 5]] * 200)  # words: (30 31), (32), (5)
    _, labels = whole_word_mask(tokens, continuation_ids=CONTINUES, probability=0.75, generator=seeded(), **COMMON)
    asked = labels != IGNORED
    assert torch.equal(asked[:, 0], asked[:, 1])
    assert (asked[:, 0] != asked[:, 3]).any() and (asked[:, 3] != asked[:, 4]).any()


def test_rows_of_special_tokens_alone_have_nothing_to_hide():
    tokens = torch.tensor([[1, 2, 0], [1, 5, 2]])
    _, labels = whole_word_mask(tokens, continuation_ids=CONTINUES, probability=1.0, generator=seeded(), **COMMON)
    assert labels.tolist() == [[IGNORED] * 3, [IGNORED, 5, IGNORED]]
