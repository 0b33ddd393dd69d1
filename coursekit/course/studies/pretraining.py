"""ALBERT's three choices at pretraining: small encoders from random weights on the same text for the same steps.

Width of the word table (Lan et al. 2020, Table 3), sharing (Table 4) and sentence loss (Table 5), each changed alone
from `albert`; `bert` has none of the three. Verses of the Bible and the next ones, with a vocabulary of 4,000 pieces
learnt from the training text. All arms see equally many pairs of the same text, and are asked for the same hidden words
at the end.

Recipe: a first one (news, 30,522 pieces, 15 % hidden, tables from N(0, 1/width), 450 steps) left all models, after
some 200,000 gaps each, where token frequencies alone are. Nearly a million gaps, in a text whose pieces come back more
often, and word tables that begin small (BERT's 0.02) end that. The change was made on validation, with `no-sharing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_difference, differences
from coursekit.data import (
    IGNORED,
    Documents,
    SentencePair,
    Tokenizer,
    load_documents,
    nsp_pairs,
    sop_pairs,
    train_wordpiece,
)
from coursekit.files import cache_folder
from coursekit.measure import count_parameters, mean_difference
from coursekit.models import Encoder, MaskedLM, SharingPlan, TransformerConfig
from coursekit.train import (
    TrainConfig,
    inputs,
    masked_lm_loss,
    masked_lm_metrics,
    predict,
    train,
)
from coursekit.train.bag_of_words import WordsAlone
from coursekit.train.evaluation import inference
from coursekit.train.runtime import own_random_numbers
from coursekit.train.sentence_pairs import (
    MaskedPairBatches,
    PretrainingModel,
    joint_loss,
    sentence_batches,
    short_pairs,
)


@dataclass(frozen=True)
class Arm:
    """What an arm chooses: a narrow word table, one set of layer weights, a sentence loss."""

    factorised: bool = True
    shared: bool = True
    sentence: str | None = "sop"


ARMS = {
    "albert": Arm(),
    "full-table": Arm(factorised=False),
    "no-sharing": Arm(shared=False),
    "nsp": Arm(sentence="nsp"),
    "no-sentence-loss": Arm(sentence=None),
    "bert": Arm(factorised=False, shared=False, sentence="nsp"),
}
COMPARED = tuple((arm, "albert") for arm in ARMS if arm != "albert")
PAIRS = {"nsp": nsp_pairs, "sop": sop_pairs}


def settings(quick: bool) -> Settings:
    """Sizes and recipe. Words are counted over both segments; test_pairs is the size of each test."""
    full = {
        "documents": None,
        "vocab_size": 4000,
        "max_words": 48,
        "hidden_size": 128,
        "layers": 4,
        "heads": 4,
        "intermediate_size": 512,
        "embedding_size": 32,
        "steps": 1500,
        "batch_size": 64,
        "hidden_share": 0.3,
        "lr": 2e-3,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "precision": "auto",
        "curve_every": 100,
        "curve_pairs": 128,
        "test_pairs": 1000,
    }
    small = {
        "documents": 40,
        "vocab_size": 500,
        "hidden_size": 32,
        "intermediate_size": 64,
        "layers": 2,
        "embedding_size": 8,
    }
    small |= {"steps": 8, "batch_size": 8, "curve_every": 4, "curve_pairs": 16, "test_pairs": 24}
    return full | small if quick else full


def model_config(arm: str, settings: Settings, vocab_size: int) -> TransformerConfig:
    """The shape of an arm."""
    chosen, layers = ARMS[arm], settings["layers"]
    narrow = {"embedding": "factorised", "embedding_size": settings["embedding_size"]} if chosen.factorised else {}
    return TransformerConfig(
        vocab_size=vocab_size,
        hidden_size=settings["hidden_size"],
        num_layers=layers,
        num_heads=settings["heads"],
        intermediate_size=settings["intermediate_size"],
        sharing=SharingPlan.all(layers) if chosen.shared else None,
        dropout=0.0,
        max_positions=256,
        norm_first=True,
        **narrow,
    )


@lru_cache(maxsize=1)
def _bible() -> Documents:
    return load_documents("bible")


@lru_cache(maxsize=1)
def _tokenizer(vocab_size: int) -> Tokenizer:
    """Pieces learnt from the training side alone."""
    file = cache_folder() / "studies" / "pretraining" / f"tokenizer-{vocab_size}.json"
    return train_wordpiece([verse for chapter in _bible().train for verse in chapter], vocab_size, file)


@lru_cache(maxsize=1)
def _sets(documents: int | None, max_words: int) -> dict[str, dict[str, list[SentencePair]]]:
    """Pairs of each side under "nsp", "sop" and "plain" (in order), the same pairs in all but the NSP negatives."""
    sets = {}
    for number, side in enumerate(("train", "validation", "test")):
        texts = getattr(_bible(), side)[:documents]
        found = {task: short_pairs(make(texts, seed=number), max_words) for task, make in PAIRS.items()}
        plain = [replace(p, first=p.second, second=p.first, label=0) if p.label else p for p in found["sop"]]
        sets[side] = {**found, "plain": plain}
    return sets


def _chosen(pairs: Sequence[SentencePair], count: int, seed: int) -> list[SentencePair]:
    """`count` of the pairs by a seed; all if there are fewer."""
    order = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[number] for number in order]


def _prepared(settings: Settings) -> dict[str, dict[str, list[SentencePair]]]:
    return _sets(settings["documents"], settings["max_words"])


def _initialised(model: nn.Module, counts: torch.Tensor) -> nn.Module:
    """Matrices by Glorot's rule, tables from N(0, 0.02²) as in BERT; the head starts at the frequencies of tokens."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    with torch.no_grad():
        model.masked_lm.head.bias.copy_((counts / counts.sum()).log())
    return model


def _counts(rows: Sequence[Sequence[int]], tokenizer: Tokenizer) -> torch.Tensor:
    """(V,) how often each id occurs in the rows, plus a half; special ids a half."""
    counts = torch.from_numpy(
        np.bincount(np.concatenate([np.array(row) for row in rows]), minlength=tokenizer.vocab_size)
    )
    counts = counts.double() + 0.5
    counts[list(tokenizer.special_ids)] = 0.5
    return counts


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Pretrain one model and test it once. Losses are nats per hidden token; accuracies lie in [0, 1].

    curve holds [step, masked-LM loss, top-1] on validation. An arm without a sentence loss has no answers to pairs.
    """
    tokenizer, task = _tokenizer(settings["vocab_size"]), ARMS[arm].sentence
    sets, sizes = _prepared(settings), {"batch_size": settings["batch_size"], "max_length": 160}
    pairs = _chosen(sets["train"][task or "plain"], settings["steps"] * settings["batch_size"], seed)
    batches = MaskedPairBatches(pairs, tokenizer, seed=seed, probability=settings["hidden_share"], **sizes)
    with own_random_numbers(seed, torch.device("cpu")):
        model = PretrainingModel(MaskedLM(Encoder(model_config(arm, settings, tokenizer.vocab_size))))
        _initialised(model, _counts(batches.rows, tokenizer))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    validation = _held_out(sets["validation"]["plain"], settings["curve_pairs"], tokenizer)
    curve: list[list[float]] = []

    def follow(done: int, model: PretrainingModel) -> None:
        if done and done % settings["curve_every"] == 0:
            found = masked_lm_metrics(model.masked_lm, validation, precision=settings["precision"])
            curve.append([done, round(found["loss"], 4), round(found["accuracy"], 4)])

    result = train(
        model,
        batches,
        joint_loss(batches.hidden_per_row) if task else _masked_only,
        TrainConfig(
            seed=seed, **{name: settings[name] for name in ("steps", "lr", "warmup", "weight_decay", "precision")}
        ),
        on_step=follow,
        title=f"{arm}, seed {seed}",
    )
    kept = _masked_answers(model.masked_lm, _held_out(sets["test"]["plain"], settings["test_pairs"], tokenizer))
    numbers = {
        "parameters": count_parameters(model.masked_lm.encoder).total,
        "masked_lm loss": round(sum(kept["nats"]) / sum(kept["hidden"]), 4),
        "masked_lm accuracy": round(sum(kept["right"]) / sum(kept["hidden"]), 4),
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
        "curve": curve,
    }
    for name in PAIRS if task else ():
        kept[name] = _pair_answers(model, _chosen(sets["test"][name], settings["test_pairs"], 0), tokenizer)
        numbers[f"{name} accuracy"] = round(float(np.mean(kept[name])), 4)
    return numbers, kept


def _masked_only(model: PretrainingModel, batch: Mapping[str, torch.Tensor]) -> Any:
    return masked_lm_loss(model.masked_lm, batch)


def _held_out(pairs: Sequence[SentencePair], count: int, tokenizer: Tokenizer) -> MaskedPairBatches:
    """Pairs in order with the same tokens hidden for every model, all behind [MASK]."""
    chosen = _chosen(pairs, count, 0)
    return MaskedPairBatches(chosen, tokenizer, batch_size=32, seed=1, hide_all=True, max_length=160)


def _masked_answers(model: MaskedLM, batches: MaskedPairBatches) -> dict[str, list[float]]:
    """Per pair, in the order of the batches: nats and right answers over its hidden tokens, and their number."""
    kept: dict[str, list[float]] = {"nats": [], "right": [], "hidden": []}
    with inference(model, "fp32") as device:
        for batch in batches.epoch(0):
            batch = {name: value.to(device) for name, value in batch.items()}
            asked = batch["labels"] != IGNORED
            wanted, rows = batch["labels"][asked], asked.nonzero()[:, 0]
            logits = model(*inputs(batch), positions=asked).logits
            nats = F.cross_entropy(logits, wanted, reduction="none")
            right = (logits.argmax(-1) == wanted).float()
            some = asked.any(1).cpu()
            for name, values in (("nats", nats), ("right", right), ("hidden", torch.ones_like(nats))):
                sums = torch.zeros(len(asked), device=device).index_add_(0, rows, values).cpu()[some]
                kept[name] += [round(value, 3) for value in sums.tolist()]
    return kept


def _pair_answers(model: PretrainingModel, pairs: Sequence[SentencePair], tokenizer: Tokenizer) -> list[int]:
    """1 where the model's answer about the pair is right."""
    logits = predict(model.sentence, sentence_batches(pairs, tokenizer, batch_size=64, max_length=160))
    return (logits.argmax(-1) == torch.tensor([pair.label for pair in pairs])).int().tolist()


def baselines(settings: Settings) -> dict[str, Any]:
    """The most frequent token for every gap, its loss by frequencies alone, and words alone on the pairs."""
    sets, tokenizer = _prepared(settings), _tokenizer(settings["vocab_size"])
    pairs = _chosen(sets["train"]["plain"], settings["steps"] * settings["batch_size"], 0)
    counts = _counts(MaskedPairBatches(pairs, tokenizer, batch_size=32).rows, tokenizer)
    hidden = torch.cat(
        [
            batch["labels"].flatten()
            for batch in _held_out(sets["test"]["plain"], settings["test_pairs"], tokenizer).epoch(0)
        ]
    )
    hidden = hidden[hidden != IGNORED]
    words = {}
    for task in PAIRS:
        test = _chosen(sets["test"][task], settings["test_pairs"], 0)
        readers = WordsAlone(_chosen(sets["train"][task], settings["steps"] * settings["batch_size"], 0))
        answers = {"nsp": "cosine", "sop": "difference"}[task]
        right = readers.predict(test, answers) == np.array([pair.label for pair in test])
        words[task] = {"reader": answers, "accuracy": round(float(right.mean()), 4)}
    return {
        "unigram": {
            "accuracy": round(float((hidden == counts.argmax()).double().mean()), 4),
            "loss": round(float(-(counts / counts.sum()).log()[hidden].mean()), 4),
        },
        "words_alone": words,
        "pairs": {side: len(found["plain"]) for side, found in sets.items()},
        "hidden_test_tokens": len(hidden),
    }


def compare(details: Mapping[str, list[dict[str, Any]]], settings: Settings) -> dict[str, Any]:
    """Each arm minus `albert`: masked-LM loss and top-1, 95 % intervals over pairs and seeds; and the sentence task."""
    hidden = details["albert"][0]["hidden"]  # the same tokens for every arm
    per_token = partial(mean_difference, weights=hidden, seed=0, repeats=2000)
    measures = {"masked_lm loss": ("nats", per_token), "masked_lm accuracy": ("right", per_token)}
    measures |= {f"{task} accuracy": (task, accuracy_difference) for task in PAIRS}
    return differences(details, COMPARED, measures)


STUDY = Study(
    name="pretraining",
    title="ALBERT's choices at pretraining: word table, sharing, sentence loss",
    minutes=60,
    arms=tuple(ARMS),
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=compare,
)
