# %% [markdown] name="title"
# # 03 · Next sentence or sentence order: exercises
#
# **You will** build both pair tasks from a document, write segment ids that do not give the answer away, hide tokens as
# BERT does, answer NSP by topic alone, score hidden tokens without wasting work, and draw up the table of who was
# tested on what. **About 50 minutes.** It belongs to the lesson
# [03 · Next sentence or sentence order](../notebooks/03_nsp_sop.ipynb).
#
# **How to work.** Run the cells from the top with Shift+Enter. Where a cell says `# your code here`, replace the
# `raise` line, run the cell, then run the check below it. A check has three answers:
#
# - **not attempted**: the function is still empty;
# - **wrong**, and which mistake it looks like;
# - **right**. The inputs are new each time, so a constant that happens to fit does not pass.
#
# Stuck? In a new cell, `hint("03.1")` gives a hint, three in all, and then the answer. And nobody has to be finished to
# go on: where a later cell needs your function, `stand_in` takes yours if it is right and the library's otherwise, and
# says so. `progress()` in a cell shows how far you are.
#
# Letters: B rows in a batch, T tokens, H hidden size, V vocabulary.

# %% name="imports"
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.course import check, hint, progress, stand_in
from coursekit.data import SentencePair, Tokenizer, fetch, load_documents, nsp_pairs, sop_pairs
from coursekit.train.bag_of_words import WordsAlone
from coursekit.viz import show, use_style
from coursekit.viz.sentence_pairs import masking_strip
from coursekit.viz.sentence_results import cross_tables

use_style()

# %% [markdown]
# ## Task 03.1 · Sentence order
# *Difficulty 1 of 5, importance 5 of 5, about 5 minutes.*
#
# A document is a list of sentences. Every two neighbours make a pair `(first, second, label)`, in the order of the
# document. `swapped` has a truth value for each pair: where it is true, the two change places and the label is 1,
# otherwise 0.


# %% task="03.1"
def order_pairs(document: list[str], swapped: list[bool]) -> list[tuple[str, str, int]]:
    """SOP pairs of one document; swapped has len(document) − 1 entries."""
    ### BEGIN SOLUTION
    pairs = []
    for earlier, later, flag in zip(document, document[1:], swapped, strict=False):
        first, second = (later, earlier) if flag else (earlier, later)
        pairs.append((first, second, int(flag)))
    return pairs
    ### END SOLUTION


# %% check="03.1"
### BEGIN HIDDEN TESTS
assert order_pairs(["a", "b", "c"], [False, True]) == [("a", "b", 0), ("c", "b", 1)]
### END HIDDEN TESTS
check("03.1", order_pairs)

# %% [markdown]
# ## Task 03.2 · Half of them, exactly
# *Difficulty 1 of 5, importance 3 of 5, about 4 minutes.*
#
# Which pairs are swapped? Make `count` labels, `count` even: exactly half of them 1, in random order. All chance comes
# from `draw`, a `random.Random`, so that the same seed makes the same data.


# %% task="03.2"
def balanced_labels(count: int, draw: random.Random) -> list[int]:
    """count labels, half of them 0 and half 1, shuffled by draw; count is even."""
    ### BEGIN SOLUTION
    labels = [0, 1] * (count // 2)
    draw.shuffle(labels)
    return labels
    ### END SOLUTION


# %% check="03.2"
### BEGIN HIDDEN TESTS
assert sorted(balanced_labels(4, random.Random(0))) == [0, 0, 1, 1]
### END HIDDEN TESTS
check("03.2", balanced_labels)

# %% [markdown]
# Your two functions on a real article (the library's `sop_pairs` does the same for all articles at once):

# %% name="real-article"
order_pairs, balanced_labels = stand_in("03.1", order_pairs), stand_in("03.2", balanced_labels)
news = load_documents("news")
article = next(text for text in news.train if len(text) == 9)
flags = [bool(label) for label in balanced_labels(len(article) - 1, random.Random(0))]
for first, second, label in order_pairs(article, flags):
    print(f"{label}  {first[:55]:55} | {second[:55]}")

# %% [markdown]
# Look at the first line: this agency opens every article with a dateline, which the splitter takes for a sentence. Who
# sees it knows the order without reading on.
#
# ## Task 03.3 · Seconds from elsewhere
# *Difficulty 2 of 5, importance 5 of 5, about 5 minutes.*
#
# For NSP a pair is torn: its second sentence is replaced by one from elsewhere. Return all sentences that may stand
# there for a pair of document number `own`, in the order of the documents. Not those of the document itself, which might
# really follow. And not the *first* sentence of any document: a true second never is one, and a model would only have
# to know an opening when it sees one.


# %% task="03.3"
def random_seconds(documents: list[list[str]], own: int) -> list[str]:
    """Sentences of the other documents that could be the second of a pair there."""
    ### BEGIN SOLUTION
    return [sentence for number, document in enumerate(documents) if number != own for sentence in document[1:]]
    ### END SOLUTION


# %% check="03.3"
### BEGIN HIDDEN TESTS
assert random_seconds([["a", "b"], ["c", "d", "e"], ["f"]], own=0) == ["d", "e"]
### END HIDDEN TESTS
check("03.3", random_seconds)

# %% [markdown]
# ## Task 03.4 · Segment ids after the swap
# *Difficulty 2 of 5, importance 5 of 5, about 6 minutes.*
#
# Two tokenised segments that follow each other in the text, and whether the pair is swapped. Return the ids of
# `[CLS] first [SEP] second [SEP]`, and as many segment ids: 0 up to the first `[SEP]`, this included, then 1. Whatever
# comes first is segment 0.


# %% task="03.4"
def pair_inputs(
    earlier: list[int], later: list[int], swapped: bool, cls_id: int, sep_id: int
) -> tuple[list[int], list[int]]:
    """Token ids and segment ids of a pair."""
    ### BEGIN SOLUTION
    first, second = (later, earlier) if swapped else (earlier, later)
    ids = [cls_id, *first, sep_id, *second, sep_id]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)
    ### END SOLUTION


# %% check="03.4"
### BEGIN HIDDEN TESTS
assert pair_inputs([7, 8], [9], True, 1, 2) == ([1, 9, 2, 7, 8, 2], [0, 0, 0, 1, 1, 1])
### END HIDDEN TESTS
check("03.4", pair_inputs)

# %% [markdown]
# On the real tokenizer, against the library's `encode_pairs`:

# %% name="real-inputs"
pair_inputs = stand_in("03.4", pair_inputs)
tokenizer = Tokenizer(fetch("minilm"))
earlier, later = (ids[1:-1] for ids in tokenizer.encode(article[:2]))
ids, segments = pair_inputs(earlier, later, True, tokenizer.cls_id, tokenizer.sep_id)
library = tokenizer.encode_pairs([article[1]], [article[0]])
print(tokenizer.decode(ids, skip_special=False)[:100], "…")
print("as the library makes them:", (ids, segments) == (library[0][0], library[1][0]))

# %% [markdown]
# ## Task 03.5 · Hide tokens, 80/10/10
# *Difficulty 3 of 5, importance 5 of 5, about 9 minutes.*
#
# A token is **chosen** if it is not special and its `chance` is below `probability`. What becomes of a chosen token, its
# `lot` decides: below 0.8 it becomes `mask_id`; from 0.8 to below 0.9 the token in `random_ids`; else it stays. The
# label of a chosen token is the id it had, all other labels are −100. The draws are given, so your function itself has
# no chance in it; padding counts as special. Return new tensors.


# %% task="03.5"
def hide(
    input_ids: Tensor,
    special: Tensor,
    chance: Tensor,
    lot: Tensor,
    random_ids: Tensor,
    mask_id: int,
    probability: float,
) -> tuple[Tensor, Tensor]:
    """Ids as the model sees them and labels, (B, T) each; all tensors are (B, T)."""
    ### BEGIN SOLUTION
    chosen = (chance < probability) & ~special
    shown = torch.where(chosen & (lot < 0.8), mask_id, input_ids)
    shown = torch.where(chosen & (lot >= 0.8) & (lot < 0.9), random_ids, shown)
    return shown, torch.where(chosen, input_ids, -100)
    ### END SOLUTION


# %% check="03.5"
### BEGIN HIDDEN TESTS
_ids = torch.tensor([[2, 50, 60, 70, 80, 3]])
_shown, _labels = hide(
    _ids,
    torch.tensor([[True, False, False, False, False, True]]),
    torch.tensor([[0.0, 0.1, 0.1, 0.1, 0.9, 0.0]]),
    torch.tensor([[0.0, 0.5, 0.85, 0.95, 0.0, 0.0]]),
    torch.full((1, 6), 99),
    4,
    0.15,
)
assert _shown.tolist() == [[2, 4, 99, 70, 80, 3]] and _labels.tolist() == [[-100, 50, 60, 70, -100, -100]]
### END HIDDEN TESTS
check("03.5", hide)

# %% [markdown]
# Your masking on a sentence, at 40 % so that there is something to see:

# %% name="figure-hide"
hide = stand_in("03.5", hide)
generator = torch.Generator().manual_seed(3)
sentence = torch.tensor(
    tokenizer.encode(["The referee waved away every protest, and the striker put the ball in the net."])
)
special = torch.isin(sentence, torch.tensor(tokenizer.special_ids))
chance, lot = (torch.rand(sentence.shape, generator=generator) for _ in range(2))
others = torch.randint(2000, 10000, sentence.shape, generator=generator)
shown, labels = hide(sentence, special, chance, lot, others, tokenizer.mask_id, 0.4)
show(
    masking_strip(tokenizer.tokens(sentence[0]), tokenizer.tokens(shown[0]), (labels[0] != -100).tolist()),
    alt="A sentence as a strip of boxes, one per token. Most boxes are white; hatched blue ones show [MASK], others a "
    "random token or the token as it was; what is asked for stands below.",
    caption="[CLS], [SEP] and every white token have the label −100: the loss never looks at them.",
)

# %% [markdown]
# ## Task 03.6 · Topic by cosine
# *Difficulty 2 of 5, importance 4 of 5, about 6 minutes.*
#
# The reader that knows only topics. A text is a vector of word weights; two texts are alike if the cosine of their
# vectors is high. Answer 0 (neighbours) where the cosine is at least `threshold`, else 1. A text without any known word
# is a row of zeros; it is like nothing.


# %% task="03.6"
def topic_answers(first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """(N,) long, 0 or 1; first and second are (N, V)."""
    ### BEGIN SOLUTION
    return (F.cosine_similarity(first, second) < threshold).long()
    ### END SOLUTION


# %% check="03.6"
### BEGIN HIDDEN TESTS
assert topic_answers(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.tensor([[5.0, 5.0], [0.0, 1.0]]), 0.5).tolist() == [
    0,
    1,
]
### END HIDDEN TESTS
check("03.6", topic_answers)

# %% [markdown]
# ## Task 03.7 · Project only what is asked for
# *Difficulty 3 of 5, importance 5 of 5, about 8 minutes.*
#
# The masked-LM loss: the state of each hidden token times the word table, plus a bias, then cross-entropy; the mean over
# the **hidden tokens**, and a tensor 0 where there are none. Take the states of these tokens *before* the product: with
# 15 % hidden, the largest product of a small model becomes seven times smaller. The check counts what you multiply.


# %% task="03.7"
def masked_loss(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Scalar; hidden (B, T, H), table (V, H), bias (V,), labels (B, T) with −100 where nothing is asked."""
    ### BEGIN SOLUTION
    asked = labels != -100
    logits = hidden[asked] @ table.T + bias  # (N, V)
    return F.cross_entropy(logits, labels[asked], reduction="sum") / asked.sum().clamp_min(1)
    ### END SOLUTION


# %% check="03.7"
### BEGIN HIDDEN TESTS
_loss = masked_loss(torch.zeros(1, 3, 2), torch.zeros(4, 2), torch.zeros(4), torch.tensor([[-100, 1, 3]]))
assert torch.isclose(_loss, torch.tensor(4.0).log())
### END HIDDEN TESTS
check("03.7", masked_loss)

# %% [markdown]
# ## Task 03.8 · Everyone on everything
# *Difficulty 2 of 5, importance 4 of 5, about 5 minutes.*
#
# `models` has a name for each model, which is a function from a list of pairs to a list of answers; `tests` has a name
# for each list of pairs. Return the accuracy, between 0 and 1, of every model on every test, under the key
# `(model, test)`. A pair carries its answer in `.label`.


# %% task="03.8"
def cross_table(
    models: dict[str, Callable[[list[SentencePair]], list[int]]], tests: dict[str, list[SentencePair]]
) -> dict[tuple[str, str], float]:
    """Accuracy of every model on every test."""
    ### BEGIN SOLUTION
    table = {}
    for model, answer in models.items():
        for test, pairs in tests.items():
            right = sum(int(a) == pair.label for a, pair in zip(answer(pairs), pairs, strict=True))
            table[model, test] = right / len(pairs)
    return table
    ### END SOLUTION


# %% check="03.8"
### BEGIN HIDDEN TESTS
_pairs = [SentencePair("a", "b", 0, 0, 0), SentencePair("a", "c", 1, 0, 1), SentencePair("d", "e", 1, 2, 3)]
_table = cross_table({"always 1": lambda pairs: [1] * len(pairs)}, {"all": _pairs, "first": _pairs[:1]})
assert _table == {("always 1", "all"): 2 / 3, ("always 1", "first"): 0.0}
### END HIDDEN TESTS
check("03.8", cross_table)

# %% [markdown]
# Your table on the real thing: readers of words alone, trained on the opening sentences of news articles. (In the lesson
# the readers are encoders; these need no minute of training.)

# %% name="real-cross"
cross_table = stand_in("03.8", cross_table)
openings = {side: [article[:2] for article in getattr(news, side)] for side in ("train", "test")}
readers, tests = {}, {}
for task, make in (("NSP", nsp_pairs), ("SOP", sop_pairs)):
    words, tests[task] = WordsAlone(make(openings["train"], seed=0)), make(openings["test"], seed=1)
    how = {"NSP": "cosine", "SOP": "difference"}[task]
    readers[task] = lambda pairs, words=words, how=how: words.predict(pairs, how).tolist()
table = cross_table(readers, tests)
for (trained, tested), accuracy in table.items():
    print(f"{trained} reader on {tested}: {accuracy:.1%}")
assert table["NSP", "NSP"] > 0.7 and table["SOP", "SOP"] > 0.7  # no encoder, no order of words
assert abs(table["NSP", "SOP"] - 0.5) < 0.1 and abs(table["SOP", "NSP"] - 0.5) < 0.1

# %% name="figure-cross"
show(
    cross_tables({"words alone, on openings": table}),
    alt="Four squares: trained on NSP or SOP, tested on NSP or SOP; about 80 on the diagonal, about 50 off it.",
    caption="The pattern that the lesson's encoders show, from bags of words: each task has its own short cut.",
)

# %% [markdown] tags=["solution-only"]
# The upper left square is topic, the lower right one knows opening sentences. Neither has read a sentence from left to
# right. Whatever a trained encoder scores here, it must be judged against this table, not against 50 %.

# %% [markdown]
# ## What you can do now
#
# You can make both pair tasks without leaking their answers, hide tokens by the book, compute the loss of a masked LM
# at a seventh of the work, and ask of any model that "solves" a pair task what a bag of words would say.
#
# **Next:** matrices as products of thinner ones, in [04 · Low-rank factorization](../notebooks/04_low_rank.ipynb).
