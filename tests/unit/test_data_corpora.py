"""The real Rotten Tomatoes split, and the splitting itself on small made-up data."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import Split, load_task
from coursekit.data.corpora import split_by_group


@pytest.fixture(scope="module")
def task():
    return load_task("rotten-tomatoes")


def normalised(split):
    return {" ".join(text.lower().split()) for text in split.texts}


def test_sizes_and_balance_are_those_documented(task):
    assert task.name == "rotten-tomatoes" and task.labels == ("rotten", "fresh")
    found = [
        (len(s), len(set(s.groups)), round(sum(s.labels) / len(s), 3)) for s in (task.train, task.validation, task.test)
    ]
    assert found == [(9784, 394, 0.575), (776, 31, 0.586), (2211, 82, 0.589)]
    for size, films, fresh in found:
        row = [cell.strip() for cell in f"{size:,} | {films} | {fresh}".split("|")]
        assert any(row == [c.strip() for c in line.split("|")[2:5]] for line in load_task.__doc__.splitlines())


def test_no_film_and_no_text_in_two_splits(task):
    splits = (task.train, task.validation, task.test)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            assert not set(one.groups) & set(other.groups)
            assert not normalised(one) & normalised(other)


def test_rows_are_snippets_with_their_own_label(task):
    for split in (task.train, task.validation, task.test):
        assert len(split.texts) == len(split.labels) == len(split.groups)
        assert set(split.labels) == {0, 1} and all(split.texts)
    splits = (task.train, task.validation, task.test)
    label_of = {text: label for s in splits for text, label in zip(s.texts, s.labels, strict=True)}
    assert label_of["A three-hour cinema master class."] == 1
    assert label_of["Coughs and sputters on its own postmodern conceit."] == 0
    words = sorted(len(text.split()) for text in task.train.texts)
    assert words[len(words) // 2] == 18 and words[-1] < 100  # a plot has hundreds


def test_the_split_is_the_same_everywhere(task):
    """Machine, version and hash seed do not matter: the test films are these, for ever."""
    films = "\n".join(sorted(set(task.test.groups)))
    assert hashlib.sha256(films.encode()).hexdigest()[:12] == "168c78ec9bfb"
    again = load_task("rotten-tomatoes")
    assert again == task


def test_unknown_task():
    with pytest.raises(ValueError, match="unknown task 'rotten-tomatos'; nearest: rotten-tomatoes"):
        load_task("rotten-tomatos")


def test_take_two_thousand_for_the_quick_teacher(task):
    part = task.train.take(2000, seed=0)
    assert len(part) == 2000
    assert sum(part.labels) == 1149  # 2,000 × 5,621 / 9,784 = 1,149.02
    row_of = dict(zip(task.train.texts, zip(task.train.labels, task.train.groups, strict=True), strict=True))
    rows = list(zip(part.texts, part.labels, part.groups, strict=True))
    assert all(row_of[text] == (label, group) for text, label, group in rows)
    assert 0.5 < sum(part.labels[:200]) / 200 < 0.65  # labels are mixed, not one after the other
    assert task.train.take(2000, seed=0) == part != task.train.take(2000, seed=1)


@settings(deadline=None, max_examples=60)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=60), data=st.data())
def test_take_keeps_each_label_in_its_share(labels, data):
    split = Split([str(i) for i in range(len(labels))], labels, ["g"] * len(labels))
    n = data.draw(st.integers(1, len(labels)))
    part = split.take(n, data.draw(st.integers(0, 5)))
    assert len(part) == n and len(set(part.texts)) == n
    assert all(labels[int(text)] == label for text, label in zip(part.texts, part.labels, strict=True))
    found = Counter(part.labels)
    for label, count in Counter(labels).items():
        assert abs(found[label] - n * count / len(labels)) < 1


@pytest.mark.parametrize("n", [0, -1, 4])
def test_take_more_than_there_is(n):
    with pytest.raises(ValueError, match=f"cannot take {n} rows of a split of 3"):
        Split(["a", "b", "c"], [0, 1, 0], ["g"] * 3).take(n)


def test_a_text_in_two_groups_stays_where_it_matters_most():
    """Ten films of ten rows with one text in common: test keeps it, the others lose it."""
    texts = [f"film {f} row {r}" if r else " A  Common\nText " + " " * f for f in range(10) for r in range(10)]
    texts = [text.upper() if i >= 50 else text for i, text in enumerate(texts)]
    everything = Split(texts, [0] * 100, [f"film{i // 10}" for i in range(100)])
    train, validation, test = split_by_group(everything, test=0.2, validation=0.1, seed=0)
    assert (len(train), len(validation), len(test)) == (63, 9, 20)
    assert "a common text" in normalised(test) and "a common text" not in normalised(train)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 8), st.sampled_from("abcdefgh")), min_size=1, max_size=60),
    seed=st.integers(0, 9),
)
def test_split_by_group_loses_only_leaks(rows, seed):
    everything = Split([t for _, t in rows], [0] * len(rows), [str(g) for g, _ in rows])
    splits = split_by_group(everything, test=0.2, validation=0.2, seed=seed)
    assert set().union(*(normalised(s) for s in splits)) == normalised(everything)
    kept = [(g, t) for s in splits for g, t in zip(s.groups, s.texts, strict=True)]
    assert not Counter(kept) - Counter((str(g), t) for g, t in rows)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            assert not set(one.groups) & set(other.groups) and not normalised(one) & normalised(other)
