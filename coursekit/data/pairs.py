"""Two segments and one question: do they belong together (NSP), or are they in order (SOP)?"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class SentencePair:
    """Two segments, each one or more sentences joined by a space; the label; the numbers of their documents."""

    first: str
    second: str
    label: int
    first_doc: int
    second_doc: int


@dataclass(frozen=True)
class _Consecutive:
    """Two segments that follow each other, and the number of their document."""

    first: str
    second: str
    doc: int


def nsp_pairs(
    documents: Sequence[Sequence[str]], *, seed: int, sentences: int = 1, max_words: int | None = None
) -> list[SentencePair]:
    """Next-sentence prediction (BERT, section 3.1): label 0 if second follows first, 1 if it is from elsewhere.

    For label 1 the second segment is that of a consecutive pair of another document, every such pair equally likely:
    second segments of both labels then come from the same places in documents, and only what they say can tell. The
    rest is as in `sop_pairs`. Raises ValueError also if fewer than two documents have enough sentences.
    """
    found = _consecutive(documents, sentences)
    sizes = Counter(pair.doc for pair in found)  # in the order of the documents, as are the pairs
    if len(sizes) < 2:
        raise ValueError(
            f"next-sentence prediction needs two documents of at least {2 * sentences} sentences, to take random ones "
            f"from another; of the {len(documents)} given, {len(sizes)} is so long"
        )
    begins = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    draw, pairs = random.Random(seed), []
    for pair, label in zip(found, _balanced(len(found), draw), strict=True):
        second = pair
        if label:  # a number among the pairs of the other documents: step over those of this one
            number = draw.randrange(len(found) - sizes[pair.doc])
            second = found[number + (sizes[pair.doc] if number >= begins[pair.doc] else 0)]
        first, last = _trim(pair.first, second.second, max_words)
        pairs.append(SentencePair(first, last, label, pair.doc, second.doc))
    return pairs


def sop_pairs(
    documents: Sequence[Sequence[str]], *, seed: int, sentences: int = 1, max_words: int | None = None
) -> list[SentencePair]:
    """Sentence-order prediction (ALBERT, section 3.1): label 0 for two segments in their order, 1 for them swapped.

    Every place where `sentences` sentences follow `sentences` others in one document makes a pair; documents too short
    for one are passed over. Half of the labels are 1, to one pair; which, `seed` decides. Tokenise after this, so
    that segment ids and [SEP] say nothing of the order.

    max_words: the most words (as separated by spaces) of both segments together. The longer one loses words from its
    outer end, the start of the earlier and the end of the later, so that what meets in the text still meets. Raises
    ValueError if no document makes a pair, or for sentences < 1 or max_words < 2.
    """
    found = _consecutive(documents, sentences)
    pairs = []
    for pair, label in zip(found, _balanced(len(found), random.Random(seed)), strict=True):
        earlier, later = _trim(pair.first, pair.second, max_words)
        first, second = (later, earlier) if label else (earlier, later)
        pairs.append(SentencePair(first, second, label, pair.doc, pair.doc))
    return pairs


def _consecutive(documents: Sequence[Sequence[str]], sentences: int) -> list[_Consecutive]:
    if sentences < 1:
        raise ValueError(f"sentences must be at least 1, got {sentences}")
    found = []
    for number, document in enumerate(documents):
        if isinstance(document, str) or not all(isinstance(sentence, str) for sentence in document):
            raise ValueError(f"documents[{number}] must be a list of sentences (strings)")
        for middle in range(sentences, len(document) - sentences + 1):
            first, second = document[middle - sentences : middle], document[middle : middle + sentences]
            found.append(_Consecutive(" ".join(first), " ".join(second), number))
    if not found:
        raise ValueError(f"none of the {len(documents)} documents has the {2 * sentences} sentences that a pair needs")
    return found


def _balanced(count: int, draw: random.Random) -> list[int]:
    """`count` labels in random order, as many 1 as 0; an odd one is either."""
    labels = [0, 1] * (count // 2) + [draw.randrange(2)] * (count % 2)
    draw.shuffle(labels)
    return labels


def _trim(earlier: str, later: str, max_words: int | None) -> tuple[str, str]:
    """Both segments with at most `max_words` words together, each keeping at least one."""
    if max_words is None:
        return earlier, later
    if max_words < 2:
        raise ValueError(f"max_words must be at least 2, one for each segment, got {max_words}")
    one, two = earlier.split(), later.split()
    if len(one) + len(two) <= max_words:
        return earlier, later
    while len(one) + len(two) > max_words:
        if len(one) > len(two):
            del one[0]
        else:
            del two[-1]
    return " ".join(one), " ".join(two)
