"""Next sentence or sentence order: the real encoder trained on one, tested on both (Lan et al. 2020, Table 5).

Pairs are two sentences of news articles: the first two ("leads"), or two neighbours from any place ("any"). No pair is
cut short to fit: a sentence that lacks its end, or its beginning, would tell which of the two it is. Long pairs are
left out. Beside the models stand readers of words alone. `random-nsp` tests on pairs whose negatives are a lead and a
sentence from any place of another article, so that where the second comes from differs between the labels.

Leads learn at the learning rate of the course's fine-tuned classifier. At that rate every model of pairs from any place
and their order ended by giving one answer to all, after 32,000 pairs too; at a quarter of it they learn, as their
validation curves showed, so all arms of pairs from any place have that. Nothing was chosen on the test.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_difference, differences
from coursekit.data import Documents, SentencePair, Tokenizer, fetch, load_documents, nsp_pairs, sop_pairs
from coursekit.models import SequenceClassifier
from coursekit.train import (
    TrainConfig,
    classification_loss,
    evaluate,
    masked_lm_metrics,
    predict,
    pretrained_encoder,
    train,
)
from coursekit.train.bag_of_words import READERS, WordsAlone
from coursekit.train.mlm_teacher import untrained
from coursekit.train.runtime import own_random_numbers
from coursekit.train.sentence_pairs import (
    MaskedPairBatches,
    PretrainingModel,
    joint_loss,
    sentence_batches,
    short_pairs,
)

ARMS = {  # arm → (the pairs it learns from, and the setting that says how many)
    "leads-nsp": ("leads-nsp", None),
    "leads-sop": ("leads-sop", None),
    "any-nsp": ("any-nsp", "any_pairs"),
    "any-sop": ("any-sop", "any_pairs"),
    "any-joint": ("any-sop", "any_pairs"),
    "any-sop-long": ("any-sop", "long_pairs"),
}
TESTS = ("leads-nsp", "leads-sop", "any-nsp", "any-sop", "random-nsp")
COMPARED = (  # test, arm, other arm
    ("leads-nsp", "leads-nsp", "leads-sop"),
    ("leads-sop", "leads-sop", "leads-nsp"),
    ("random-nsp", "leads-nsp", "leads-sop"),
    ("any-nsp", "any-nsp", "any-sop"),
    ("any-nsp", "any-nsp", "any-sop-long"),
    ("any-sop", "any-sop", "any-nsp"),
    ("any-sop", "any-sop-long", "any-sop"),
    ("any-sop", "any-joint", "any-sop"),
)
PLACES = (0, 1, 5, 15)  # groups of places in an article: its first sentence, 1 to 4, 5 to 14, later
CUES = {"he", "she", "it", "they", "his", "her", "their", "its", "this", "that", "these", "but", "also", "however"}


def settings(quick: bool) -> Settings:
    """Sizes and recipe. Words are counted over both sentences; test_pairs, of each test, None means all."""
    full = {
        "documents": None,
        "lead_words": 70,
        "any_words": 48,
        "lead_epochs": 2,
        "any_pairs": 8000,
        "long_pairs": 32000,
        "test_pairs": 1000,
        "batch_size": 32,
        "lead_lr": 2e-4,
        "any_lr": 5e-5,
        "precision": "auto",
        "curve_pairs": 500,
        "curve_points": 4,
    }
    small = {"documents": 60, "any_pairs": 32, "long_pairs": 64, "test_pairs": 24, "curve_pairs": 16, "lead_epochs": 1}
    return full | small if quick else full


@lru_cache(maxsize=1)
def news() -> Documents:
    """The articles, loaded once."""
    return load_documents("news")


Sets = dict[str, dict[str, list[SentencePair]]]


@lru_cache(maxsize=1)
def _sets(documents: int | None, lead_words: int, any_words: int) -> Sets:
    """Pairs of each kind on each side. Which pairs are swapped or torn apart is the same for all seeds."""
    sets: Sets = {}
    for number, side in enumerate(("train", "validation", "test")):
        texts = getattr(news(), side)[:documents]
        leads = [text[:2] for text in texts]
        limits = {"leads": lead_words, "any": any_words}
        found = {
            f"{place}-{task.__name__[:3]}": short_pairs(task(source, seed=number), limits[place])
            for place, source in (("leads", leads), ("any", texts))
            for task in (nsp_pairs, sop_pairs)
        }
        found["random-nsp"] = _with_random_seconds(found["leads-nsp"], found["any-nsp"], lead_words, seed=number)
        sets[side] = found
    return sets


def _with_random_seconds(
    leads: Sequence[SentencePair], anywhere: Sequence[SentencePair], max_words: int, seed: int
) -> list[SentencePair]:
    """NSP pairs of leads whose random second sentences come from any place of another article."""
    draw, pairs = random.Random(seed), []
    for pair in leads:
        while pair.label and (other := draw.choice(anywhere)):
            if other.second_doc != pair.first_doc:
                pair = replace(pair, second=other.second, second_doc=other.second_doc)
                break
        pairs.append(pair)
    return short_pairs(pairs, max_words)


def _limited(pairs: Sequence[SentencePair], count: int | None, seed: int) -> list[SentencePair]:
    """`count` of the pairs, chosen by a seed, or all where there are not more."""
    chosen = range(len(pairs)) if count is None else random.Random(seed).sample(range(len(pairs)), len(pairs))[:count]
    return [pairs[number] for number in sorted(chosen)]


def prepared(settings: Settings) -> Sets:
    """Pairs of each kind for each side: sets["train"]["any-sop"]."""
    return _sets(settings["documents"], settings["lead_words"], settings["any_words"])


def _tests(settings: Settings) -> dict[str, list[SentencePair]]:
    sets = prepared(settings)
    return {name: _limited(sets["test"][name], settings["test_pairs"], seed=0) for name in TESTS}


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Train on one task, test on all. Accuracies lie in [0, 1]; curve holds [step, accuracy on its own validation]."""
    kind, limit = ARMS[arm]
    sets, tokenizer = prepared(settings), _tokenizer()
    pairs = _limited(sets["train"][kind], settings[limit] if limit else None, seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = -(-len(pairs) // settings["batch_size"]) * (1 if limit else settings["lead_epochs"])
    lr = settings["any_lr" if limit else "lead_lr"]
    config = TrainConfig(steps=steps, seed=seed, lr=lr, precision=settings["precision"])
    validation = sentence_batches(
        _limited(sets["validation"][kind], settings["curve_pairs"], seed=0), tokenizer, batch_size=64
    )
    curve: list[list[float]] = []
    joint = arm == "any-joint"
    made, batches, loss = (_joint if joint else _plain)(pairs, tokenizer, seed, settings)
    model = made.to(device)
    classifier = model.sentence if joint else model
    every = max(1, steps // settings["curve_points"])

    def follow(done: int, _model: torch.nn.Module) -> None:
        if done and (done % every == 0 or done == steps):
            found = evaluate(classifier, validation, classification_loss, precision=settings["precision"])
            curve.append([done, round(found["accuracy"], 4)])

    result = train(model, batches, loss, config, on_step=follow, title=f"{arm}, seed {seed}")
    right = {}
    for name, test in _tests(settings).items():
        logits = predict(classifier, sentence_batches(test, tokenizer, batch_size=64), precision=settings["precision"])
        labels = np.array([pair.label for pair in test])
        right[name] = (logits.argmax(-1).numpy() == labels).astype(int).tolist()
    numbers = {f"{name} accuracy": round(float(np.mean(found)), 4) for name, found in right.items()}
    numbers |= {
        "pairs": len(pairs),
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
    }
    if joint:
        numbers |= _masked_lm(model, sets["test"]["any-sop"], tokenizer, settings)
    return numbers | {"curve": curve}, right


def _plain(pairs: Sequence[SentencePair], tokenizer: Tokenizer, seed: int, settings: Settings) -> tuple:
    with own_random_numbers(seed, torch.device("cpu")):
        model = SequenceClassifier(pretrained_encoder(), 2)
    model.encoder.embeddings.word.requires_grad_(False)  # a tenth faster
    batches = sentence_batches(pairs, tokenizer, batch_size=settings["batch_size"], seed=seed)
    return model, batches, classification_loss


def _joint(pairs: Sequence[SentencePair], tokenizer: Tokenizer, seed: int, settings: Settings) -> tuple:
    batches = MaskedPairBatches(pairs, tokenizer, batch_size=settings["batch_size"], seed=seed)
    with own_random_numbers(seed, torch.device("cpu")):
        model = PretrainingModel(untrained([np.array(row) for row in batches.rows], tokenizer, seed))
    model.masked_lm.encoder.embeddings.word.requires_grad_(False)
    return model, batches, joint_loss(batches.hidden_per_row)


def _masked_lm(
    model: PretrainingModel, pairs: Sequence[SentencePair], tokenizer: Tokenizer, settings: Settings
) -> Numbers:
    """What the joint arm knows about hidden words of pairs it has not seen."""
    held_out = MaskedPairBatches(
        _limited(pairs, settings["test_pairs"], seed=0), tokenizer, batch_size=64, seed=1, hide_all=True
    )
    found = masked_lm_metrics(model.masked_lm, held_out, precision=settings["precision"])
    return {f"masked_lm {name}": round(found[name], 4) for name in ("accuracy", "loss")}


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    return Tokenizer(fetch("minilm"))


def baselines(settings: Settings) -> dict[str, Any]:
    """Readers of words alone, trained on all pairs of each kind and tested on all; sizes; and what the tests hold.

    features: strings with a digit for each test pair: its label; its third by topic similarity (0 the least similar);
    whether one of its sentences points back; and where in its article it stands, a number of PLACES.
    """
    sets, tests = prepared(settings), _tests(settings)
    labels = {name: np.array([pair.label for pair in test]) for name, test in tests.items()}
    articles = news().test
    readers, features = {}, {}
    for kind in TESTS[:4]:
        words = WordsAlone(sets["train"][kind])
        readers[kind] = {
            reader: {
                name: round(float((words.predict(test, reader) == labels[name]).mean()), 4)
                for name, test in tests.items()
            }
            for reader in READERS
        }
        similar = words.similarity(tests[kind])
        features[kind] = {
            "label": _digits(labels[kind]),
            "third": _digits(np.searchsorted(np.quantile(similar, (1 / 3, 2 / 3)), similar)),
            "points_back": _digits([points_back(pair) for pair in tests[kind]]),
            "place": _digits([_place(pair, articles[pair.first_doc]) for pair in tests[kind]]),
        }
    return {
        "words_alone": readers,
        "train_pairs": {kind: len(sets["train"][kind]) for kind in TESTS},
        "test_pairs": {kind: len(tests[kind]) for kind in TESTS},
        "majority": {kind: round(float(max(found.mean(), 1 - found.mean())), 4) for kind, found in labels.items()},
        "features": features,
    }


def _digits(values: Any) -> str:
    return "".join(str(int(value)) for value in values)


def _place(pair: SentencePair, article: Sequence[str]) -> int:
    """Number, in PLACES, of the first of its sentences in the article of the first segment."""
    found = min(article.index(text) for text in (pair.first, pair.second) if text in article)
    return sum(found >= begin for begin in PLACES) - 1


def points_back(pair: SentencePair) -> bool:
    """Whether exactly one sentence of the pair begins with a word that points back, so that it is likely the later."""
    begins = [text.split()[0].strip("\"'“‘(,").lower() in CUES for text in (pair.first, pair.second)]
    return begins[0] != begins[1]


def compare(details: Mapping[str, list[dict[str, list[int]]]], settings: Settings) -> dict[str, Any]:
    """Accuracy of one arm minus another's on a test, 95 % intervals over pairs and seeds; and right answers in groups.

    right: for each test and arm a string with a digit for each test pair, the number of seeds that are right.
    """
    accuracy = {
        f"{pair}, tested on {test}": found[test]
        for test, *arms in COMPARED
        for pair, found in differences(details, [arms], {test: (test, accuracy_difference)}).items()
    }
    right = {
        test: {arm: _digits(np.sum([run[test] for run in details[arm]], axis=0)) for arm in ARMS} for test in TESTS[:4]
    }
    return {"accuracy": accuracy, "right": right}


STUDY = Study(
    name="sentence_order",
    title="Next sentence or sentence order: trained on one, tested on both",
    minutes=50,
    arms=tuple(ARMS),
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=compare,
)
