"""What words alone say of two segments: three readers that never see the order of the words in a segment."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from coursekit.data import SentencePair

READERS = ("cosine", "difference", "concatenation")


class WordsAlone:
    """Answers to a sentence-pair task from TF-IDF vectors of the two segments, learnt from training pairs.

    cosine          how similar the segments are, and one threshold
    difference      logistic regression on vector(second) − vector(first): which words tend to come first
    concatenation   logistic regression on both vectors side by side
    Raises ValueError for pairs of fewer than two labels.
    """

    def __init__(self, train: Sequence[SentencePair]) -> None:
        labels = [pair.label for pair in train]
        if len(set(labels)) < 2:
            raise ValueError(f"{len(train)} pairs with labels {sorted(set(labels))}: 0 and 1 are needed")
        self.words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        self.words.fit([text for pair in train for text in (pair.first, pair.second)])
        models = {"cosine": DecisionTreeClassifier(max_depth=1, random_state=0)}
        models |= {reader: LogisticRegression(max_iter=1000) for reader in READERS[1:]}
        self.models = {reader: model.fit(self._features(train, reader), labels) for reader, model in models.items()}

    def similarity(self, pairs: Sequence[SentencePair]) -> np.ndarray:
        """Cosine of the two TF-IDF vectors, (N,) in [0, 1]; 0 where no known word is shared."""
        first, second = self._vectors(pairs)
        return np.asarray(first.multiply(second).sum(1)).ravel()  # the vectors have length 1

    def predict(self, pairs: Sequence[SentencePair], reader: str) -> np.ndarray:
        """Labels (N,) by one of READERS."""
        return self.models[reader].predict(self._features(pairs, reader))

    def _features(self, pairs: Sequence[SentencePair], reader: str) -> csr_matrix | np.ndarray:
        if reader == "cosine":
            return self.similarity(pairs)[:, None]
        first, second = self._vectors(pairs)
        return second - first if reader == "difference" else hstack([first, second]).tocsr()

    def _vectors(self, pairs: Sequence[SentencePair]) -> tuple[csr_matrix, csr_matrix]:
        first = self.words.transform([pair.first for pair in pairs])
        return first, self.words.transform([pair.second for pair in pairs])
