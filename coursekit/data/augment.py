"""TinyBERT's data augmentation: words replaced by others that would fit (Jiao et al. 2020, algorithm 1)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from coursekit.data.batching import length_batches, pad
from coursekit.data.corpora import Split, Task
from coursekit.data.tokenizer import Tokenizer

_PARTS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]|\s+")
_ASKED_AT_ONCE = 4096  # tokens in a batch of masked sentences

# Words that carry grammar, not meaning: they are never replaced.
STOP_WORDS = frozenset(
    """a an the this that these those such same other another each every either neither both all any some no none few
    many much more most less least several own one i me my mine myself we us our ours ourselves you your yours yourself
    yourselves he him his himself she her hers herself it its itself they them their theirs themselves who whom whose
    which what whatever whoever when where why how while as if unless until because since although though whether than
    then so and or but nor yet not never about above across after again against along among around at before behind
    below beneath beside between beyond by down during for from in inside into near of off on onto out outside over
    past per through throughout to toward towards under up upon with within without am is are was were be been being
    do does did doing done have has had having can cannot could may might must shall should will would ought here there
    now just only also too very even ever once""".split()
)


class Propose(Protocol):
    """What may stand in the place of a word."""

    def __call__(self, words: Sequence[str], position: int, k: int) -> Sequence[str]:
        """Up to k candidates for words[position]; words are the sentence's words and punctuation marks."""


class Rng(Protocol):
    """Anything with `random()`, such as `random.Random(0)` or `numpy.random.default_rng(0)`."""

    def random(self) -> float:
        """A number in [0, 1)."""


def augment(sentence: str, *, propose: Propose, rng: Rng, p: float = 0.4, n: int = 20, k: int = 15) -> list[str]:
    """Up to n different sentences in which words are replaced, without the sentence itself.

    n times, each word that can be replaced is so with probability p, by one of up to k candidates, all equally likely.
    Stop words, punctuation and numbers stay, and so do the spaces. Candidates come from the original sentence, not from
    one that is partly replaced. Raises ValueError for p outside [0, 1], or n or k below 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability in [0, 1], got {p}")
    if n < 1 or k < 1:
        raise ValueError(f"n and k must be at least 1, got n={n}, k={k}")
    parts = _PARTS.findall(sentence)
    words, places = _words(parts)
    candidates = {i: _others(propose(words, i, k), words[i])[:k] for i in range(len(words)) if replaceable(words[i])}
    found: dict[str, None] = {}
    for _ in range(n):
        new = list(parts)
        for i, choices in candidates.items():
            if choices and rng.random() < p:
                new[places[i]] = choices[int(rng.random() * len(choices))]
        found["".join(new)] = None
    found.pop("".join(parts), None)
    return list(found)


def replaceable(word: str) -> bool:
    """Whether a word may be replaced: letters alone, and no stop word."""
    return word.isalpha() and word.lower() not in STOP_WORDS


def augment_texts(
    sentences: Iterable[str], *, propose: Propose, rng: Rng, p: float = 0.4, n: int = 20, k: int = 15
) -> list[list[str]]:
    """`augment` for each sentence. A proposer with `prepare` is first told all of them, so it can work in batches."""
    sentences = list(sentences)
    if hasattr(propose, "prepare"):
        propose.prepare([_words(_PARTS.findall(sentence))[0] for sentence in sentences], k)
    return [augment(sentence, propose=propose, rng=rng, p=p, n=n, k=k) for sentence in sentences]


def augment_task(task: Task, *, propose: Propose, rng: Rng, p: float = 0.4, n: int = 20, k: int = 15) -> Task:
    """The task with each training text followed by its augmentations, which have its label, group and second text.

    Validation and test stay as they are, and no text of theirs comes into training.
    """
    train, kept_out = task.train, {*task.validation.texts, *task.test.texts}
    texts, rows = [], []
    for row, more in enumerate(augment_texts(train.texts, propose=propose, rng=rng, p=p, n=n, k=k)):
        new = [train.texts[row], *(text for text in more if text not in kept_out)]
        texts += new
        rows += [row] * len(new)
    columns = (train.labels, train.groups, train.second)
    others = [None if column is None else [column[row] for row in rows] for column in columns]
    return replace(task, train=Split(texts, *others))


class MaskedLMProposer:
    """Candidates from a masked language model: what it would put in the place of the word.

    model(input_ids, attention_mask, None, positions=…).logits are the scores (N, V) at the N true positions (B, T), as
    of `MaskedLM`. Candidates are whole words of letters alone, best first. Words that the tokenizer splits have none.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.pieces: dict[str, list[int]] = {}
        self.known: dict[tuple[tuple[str, ...], int, int], list[str]] = {}
        names = tokenizer.tokens(range(tokenizer.vocab_size))
        self.words = [name if name.isalpha() else "" for name in names]
        for i in tokenizer.special_ids:
            self.words[i] = ""

    def whole(self, word: str) -> bool:
        """Whether the word is one piece of the vocabulary."""
        (pieces,) = self._ids([word])
        return len(pieces) == 1 and pieces[0] != self.tokenizer.unk_id

    def __call__(self, words: Sequence[str], position: int, k: int) -> list[str]:
        """Up to k candidates; none for a word of several pieces."""
        if not self.whole(words[position]):
            return []
        key = (tuple(words), position, k)
        if key not in self.known:
            self._ask([key])
        return self.known[key]

    def prepare(self, sentences: Sequence[Sequence[str]], k: int) -> None:
        """Find the candidates of all words of these sentences (lists of words) that can be replaced, in batches."""
        self._ids({word for words in sentences for word in words})
        keys = [(tuple(words), position, k) for words in sentences for position in range(len(words))]
        self._ask(
            [
                key
                for key in dict.fromkeys(keys)
                if key not in self.known and replaceable(key[0][key[1]]) and self.whole(key[0][key[1]])
            ]
        )

    def _ask(self, keys: list[tuple[tuple[str, ...], int, int]]) -> None:
        if not keys:
            return
        sequences, places = zip(*(self._masked(words, position) for words, position, _ in keys), strict=True)
        device = next(self.model.parameters()).device
        training, most = self.model.training, max(map(len, sequences))
        self.model.eval()
        for rows in length_batches([len(s) for s in sequences], max_tokens=max(_ASKED_AT_ONCE, most)):
            batch = pad([sequences[row] for row in rows], self.tokenizer.pad_id)
            positions = torch.zeros_like(batch.attention_mask)
            positions[range(len(rows)), [places[row] for row in rows]] = True
            with torch.inference_mode():
                inputs = (batch.input_ids.to(device), batch.attention_mask.to(device), None)
                logits = self.model(*inputs, positions=positions.to(device)).logits
            self._keep([keys[row] for row in rows], logits.float().cpu())
        self.model.train(training)

    def _keep(self, keys: list[tuple[tuple[str, ...], int, int]], logits: Tensor) -> None:
        """Note the k best words for each key, from a few more pieces than k: some are no words."""
        k = max(key[2] for key in keys)
        best = logits.topk(min(4 * k + 20, logits.shape[-1])).indices.tolist()
        for key, pieces in zip(keys, best, strict=True):
            words = [self.words[piece] for piece in pieces if self.words[piece]]
            self.known[key] = _others(words, key[0][key[1]])[: key[2]]

    def _masked(self, words: Sequence[str], position: int) -> tuple[list[int], int]:
        """Ids of the sentence with the word behind [MASK], the middle part of a long one, and where the mask is."""
        tokenizer, pieces = self.tokenizer, self._ids(words)
        ids = [[tokenizer.mask_id] if i == position else piece for i, piece in enumerate(pieces)]
        before, after = (sum(part, []) for part in (ids[:position], ids[position + 1 :]))
        room = tokenizer.max_positions - 3
        start = max(0, len(before) - max(room // 2, room - len(after)))
        before = before[start:]
        middle = [*before, tokenizer.mask_id, *after[: room - len(before)]]
        return [tokenizer.cls_id, *middle, tokenizer.sep_id], 1 + len(before)

    def _ids(self, words: Iterable[str]) -> list[list[int]]:
        """The pieces of each word, each word cut once."""
        words = list(words)
        if new := [word for word in dict.fromkeys(words) if word not in self.pieces]:
            for word, ids in zip(new, self.tokenizer.encode(new), strict=True):
                self.pieces[word] = ids[1:-1]
        return [self.pieces[word] for word in words]


class NeighbourProposer:
    """Candidates whose vectors point where the word's does: rows of a table (V, E) for the tokenizer's pieces.

    A word of several pieces has the mean of their vectors; candidates are whole words of letters alone, nearest first.
    TinyBERT takes GloVe's vectors of whole words; the word table of an encoder needs no other file.
    """

    def __init__(self, table: Tensor, tokenizer: Tokenizer) -> None:
        if len(table) != tokenizer.vocab_size:
            raise ValueError(f"a table of {len(table)} rows does not fit a vocabulary of {tokenizer.vocab_size}")
        self.tokenizer, self.known = tokenizer, {}
        names = tokenizer.tokens(range(tokenizer.vocab_size))
        self.ids = torch.tensor(
            [i for i, name in enumerate(names) if name.isalpha() and i not in tokenizer.special_ids]
        )
        self.names = [names[i] for i in self.ids]
        self.table = table.detach().float().cpu()
        self.unit = nn.functional.normalize(self.table[self.ids], dim=-1)

    def __call__(self, words: Sequence[str], position: int, k: int) -> list[str]:
        """The k nearest words; none for a word with a piece that the vocabulary lacks."""
        word = words[position]
        if (word, k) not in self.known:
            pieces = self.tokenizer.encode([word])[0][1:-1]
            lacking = not pieces or self.tokenizer.unk_id in pieces
            self.known[word, k] = [] if lacking else self._nearest(pieces, word, k)
        return self.known[word, k]

    def _nearest(self, pieces: list[int], word: str, k: int) -> list[str]:
        near = self.unit @ self.table[pieces].mean(0)
        best = near.topk(min(k + 1, len(near))).indices.tolist()
        return _others([self.names[i] for i in best], word)[:k]


class TinyBERTProposer:
    """TinyBERT's rule: a masked language model for words of one piece, neighbours for words of several."""

    def __init__(self, whole: MaskedLMProposer, split: Propose) -> None:
        self.of_whole, self.of_split = whole, split

    def __call__(self, words: Sequence[str], position: int, k: int) -> Sequence[str]:
        """Up to k candidates."""
        of = self.of_whole if self.of_whole.whole(words[position]) else self.of_split
        return of(words, position, k)

    def prepare(self, sentences: Sequence[Sequence[str]], k: int) -> None:
        """Let the language model work in batches."""
        self.of_whole.prepare(sentences, k)


def _words(parts: Sequence[str]) -> tuple[list[str], list[int]]:
    """The parts that are no spaces, and where they stand."""
    places = [place for place, part in enumerate(parts) if not part.isspace()]
    return [parts[place] for place in places], places


def _others(candidates: Iterable[str], word: str) -> list[str]:
    """Different candidates in their order, without the word itself."""
    return [other for other in dict.fromkeys(candidates) if other.lower() != word.lower()]
