"""Running text as documents of sentences, split so that no document, and no near copy of one, is on two sides."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from coursekit.data import running_text
from coursekit.errors import unknown_name

SHINGLE = 5  # words in a row that two documents may share
NEAR = 0.2  # share of the shorter document's shingles that makes two documents near copies
COMMON = 100  # what more documents than this say is a turn of phrase
VALIDATION, TEST = 0.05, 0.10  # shares of the documents, in expectation

Document = list[str]


@dataclass(frozen=True)
class Documents:
    """Running text; a document is a list of sentences, in their order."""

    name: str
    train: list[Document]
    validation: list[Document]
    test: list[Document]


def load_documents(name: str) -> Documents:
    """The documents `name`, fetched if need be: "news" (articles of 2017) or "bible" (chapters in modern English).

    Empty documents and repeated ones are left out. Which side a document is on depends on its own text alone, except
    that near copies, which share a fifth of their five-word sequences, follow the first of them.

    Raises ValueError for an unknown name, AssetError if the text cannot be had.
    """
    if name not in _SOURCES:
        raise unknown_name("documents", name, _SOURCES)
    return split_documents(name, _SOURCES[name]())


_SOURCES: dict[str, Callable[[], list[str]]] = {"news": running_text.news, "bible": running_text.web_bible}


def split_documents(name: str, texts: Sequence[str]) -> Documents:
    """Texts, one per document, as `Documents`: what `load_documents` does to its sources, for your own text.

    Raises ValueError if a text is not a string or none has a word.
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{index}] must be a string, got {type(text).__name__}")
    by_words: dict[tuple[str, ...], str] = {}
    for text in texts:
        if words := tuple(_words(text)):
            by_words.setdefault(words, text)
    unique = list(by_words.values())
    if not unique:
        raise ValueError(f"{name!r} has no text: none of its {len(texts)} documents holds a word")
    parts: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for text, first in zip(unique, near_copies(unique), strict=True):
        parts[_side(unique[first])].append(split_sentences(text))
    return Documents(name, **parts)


def _side(text: str) -> str:
    """The side of a document: its hash as a number in [0, 1)."""
    number = int.from_bytes(hashlib.sha256(" ".join(text.split()).encode()).digest()[:8]) / 2**64
    return "test" if number < TEST else "validation" if number < TEST + VALIDATION else "train"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


# A sentence ends with . ! or ? and the quotes or brackets that close it, before a space and what can begin the next.
_END = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[A-Z0-9])""")
# No sentence ends after these, nor after initials as in "J. Smith" or "the U.S.", nor after "No." before a number.
_ABBREVIATION = re.compile(
    r"[(\"'\[]*(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|Rev|Hon|Gov|Sen|Sens|Rep|Reps|Gen|Col|Lt|Maj|"
    r"Capt|Cmdr|Sgt|Cpl|Pvt|Adm|Jr|Sr|St|Mt|Ft|vs|etc|Inc|Corp|Ltd|Co|Bros|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|"
    r"Sep|Oct|Nov|Dec|Ala|Ariz|Ark|Calif|Colo|Conn|Del|Fla|Ga|Ill|Ind|Kan|Ky|La|Md|Mass|Mich|Minn|Miss|Mo|Mont|Neb|"
    r"Nev|Okla|Ore|Pa|Tenn|Tex|Va|Vt|Wash|Wis|Wyo)\. .|"
    r"Nos?\. \d"
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, by rules: a mark that ends a sentence, a space, and a capital, digit or opening quote.

    Not after a title, a month or another common abbreviation, nor after an initial; "in the U.S. He" stays whole
    rather than risk half a sentence. White space becomes single spaces; joined by them, the sentences are the text.

    >>> split_sentences('Mr. Li left. "Why?" she asked. No one knew.')
    ['Mr. Li left.', '"Why?" she asked.', 'No one knew.']
    """
    text = " ".join(text.split())
    sentences, start = [], 0
    for end in _END.finditer(text):
        sentence = text[start : end.end()].rstrip()
        last = sentence.rpartition(" ")[2]
        if not _ABBREVIATION.fullmatch(f"{last} {text[end.end()]}"):
            sentences.append(sentence)
            start = end.end()
    return sentences + [text[start:]] if text[start:] else sentences


def near_copies(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first text that it is a near copy of, directly or by way of others; else its own.

    Two texts are near copies if they share at least `NEAR` of the distinct sequences of `SHINGLE` words that the
    shorter one has. Counted exactly, through one sorted table of hashes.
    """
    codes: dict[str, int] = {}
    shingles = [_shingles([_code(word, codes) for word in _words(text)]) for text in texts]
    owners = np.repeat(np.arange(len(texts)), [len(each) for each in shingles])
    hashes = np.concatenate(shingles) if shingles else np.empty(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    begins = np.flatnonzero(np.diff(hashes[order], prepend=np.uint64(0)) != 0) if len(order) else np.empty(0, int)
    sizes = np.diff(begins, append=len(order))
    several = (sizes > 1) & (sizes <= COMMON)
    shared: dict[tuple[int, int], int] = {}
    for begin, size in zip(begins[several].tolist(), sizes[several].tolist(), strict=True):
        for pair in combinations(owners[order[begin : begin + size]].tolist(), 2):
            shared[pair] = shared.get(pair, 0) + 1
    first = list(range(len(texts)))
    for (one, other), count in shared.items():
        if count >= NEAR * min(len(shingles[one]), len(shingles[other])):
            a, b = _root(first, one), _root(first, other)
            first[max(a, b)] = min(a, b)
    return [_root(first, index) for index in range(len(texts))]


def _code(word: str, codes: dict[str, int]) -> int:
    """64 bits of a word's hash, remembered in `codes`."""
    if word not in codes:
        codes[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
    return codes[word]


def _shingles(codes: list[int]) -> np.ndarray:
    """Hashes of the distinct sequences of SHINGLE words, or of all words if there are fewer."""
    words, size = np.array(codes, np.uint64), min(SHINGLE, len(codes))
    total = np.zeros(len(words) - size + 1, np.uint64)
    for place in range(size):  # a polynomial in the words' hashes, modulo 2⁶⁴
        total = total * np.uint64(0x9E3779B97F4A7C15) + words[place : place + len(total)]
    return np.unique(total)


def _root(first: list[int], index: int) -> int:
    while first[index] != index:
        index = first[index]
    return index
