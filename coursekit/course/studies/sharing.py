"""Which layers may share: Subformer's plans on real pairs, equal in data, tokenizer, batches and steps.

King James to World English Bible, 6 + 6 layers of width 128 (Reid et al. 2021, Table 2, at a hundredth of the size).
`none-narrow` is the honest rival of the sandwich: no sharing, a smaller width, as many parameters. The last three arms
keep every layer and narrow the word table instead; "linear" adds positions after its map, the other two before. Chosen
on validation, for `none` alone: learning rate, initial weights, and LayerNorm before the parts. After the sums, as the
paper has it, copying emerges too late for few steps.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from coursekit.course.studies.frame import Numbers, Settings, Study, differences
from coursekit.data import (
    Pairs,
    SubwordTokenizer,
    Translation,
    load_translation,
    train_tokenizer,
    without_brackets,
)
from coursekit.files import cache_folder
from coursekit.measure import bleu, bleu_difference, chrf, count_parameters, mean_difference
from coursekit.models import Seq2Seq, Seq2SeqConfig, SharingPlan, TransformerConfig
from coursekit.train import TrainConfig, evaluate, train
from coursekit.train.runtime import own_random_numbers
from coursekit.train.seq2seq import pair_batches, score_pairs, translate, translation_loss

PLANS: dict[str, Callable[..., SharingPlan]] = {
    "none": SharingPlan.none,
    "every-2": partial(SharingPlan.every, size=2),
    "sandwich": SharingPlan.sandwich,
    "all-but-last": SharingPlan.all_but_last,
    "all-shared": SharingPlan.all,
}
NARROW = "none-narrow"
EMBEDDINGS = {"embedding-linear": "linear", "embedding-factorised": "factorised", "embedding-safe": "safe"}
ARMS = (*PLANS, NARROW, *EMBEDDINGS)
COMPARED = (
    ("sandwich", "none"),
    ("sandwich", "none-narrow"),
    ("sandwich", "every-2"),
    ("sandwich", "all-but-last"),
    ("sandwich", "all-shared"),
    ("embedding-linear", "none"),
    ("embedding-safe", "none"),
    ("embedding-factorised", "embedding-linear"),
    ("embedding-safe", "embedding-factorised"),
)


def settings(quick: bool) -> Settings:
    """Sizes and recipe; test_pairs None means all."""
    full = {
        "task": "kjv-web",
        "max_words": 24,
        "vocab_size": 4000,
        "hidden_size": 128,
        "intermediate_size": 512,
        "heads": 4,
        "layers": 6,
        "narrow_hidden_size": 96,
        "narrow_intermediate_size": 368,
        "embedding_size": 32,
        "norm_first": True,
        "steps": 800,
        "lr": 2e-3,
        "warmup": 0.08,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "dropout": 0.0,
        "max_tokens": 1000,
        "precision": "auto",
        "curve_every": 100,
        "beams": 1,
        "max_length": 96,
        "test_pairs": None,
    }
    small = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "layers": 3,
        "narrow_hidden_size": 24,
        "narrow_intermediate_size": 56,
        "embedding_size": 8,
        "steps": 8,
        "max_words": 8,
        "curve_every": 4,
        "max_length": 24,
        "test_pairs": 16,
    }
    return full | small if quick else full


def model_config(arm: str, settings: Settings, vocab_size: int) -> Seq2SeqConfig:
    """The shape of an arm. Every plan keeps private LayerNorms, as Subformer's code does."""
    plan, layers = PLANS.get(arm, SharingPlan.none), settings["layers"]
    size = "narrow_" if arm == NARROW else ""
    narrow = {}
    if kind := EMBEDDINGS.get(arm):
        narrow = {"embedding": kind, "embedding_size": settings["embedding_size"]}
        narrow |= {"embedding_heads": settings["heads"]} if kind == "safe" else {}
    encoder = TransformerConfig(
        vocab_size=vocab_size,
        hidden_size=settings[size + "hidden_size"],
        num_layers=layers,
        num_heads=settings["heads"],
        intermediate_size=settings[size + "intermediate_size"],
        sharing=plan(layers, norms="private"),
        dropout=settings["dropout"],
        activation="relu",
        layer_norm_eps=1e-5,
        max_positions=128,
        token_types=0,
        pooler=False,
        norm_first=settings["norm_first"],
        **narrow,
    )
    return Seq2SeqConfig(encoder, layers, plan(layers, norms="private", cross=True))


@lru_cache(maxsize=1)
def _data(task: str, max_words: int, vocab_size: int) -> tuple[Translation, SubwordTokenizer]:
    """The task, and a tokenizer that has seen its training text alone."""
    pairs = load_translation(task, max_words=max_words)
    file = cache_folder() / "studies" / "sharing" / f"tokenizer-{task}-{max_words}-{vocab_size}.json"
    return pairs, train_tokenizer([*pairs.train.sources, *pairs.train.targets], vocab_size, file)


def _prepared(settings: Settings) -> tuple[Translation, SubwordTokenizer, Pairs]:
    """The task, the tokenizer, and the part of the test that is translated."""
    task, tokenizer = _data(settings["task"], settings["max_words"], settings["vocab_size"])
    test, limit = task.test, settings["test_pairs"]
    return task, tokenizer, Pairs(test.sources[:limit], test.targets[:limit], test.groups[:limit])


def _initialised(model: Seq2Seq) -> Seq2Seq:
    """Weights as Subformer's code draws them: matrices by Glorot's rule, tables from N(0, 1/width).

    BERT's N(0, 0.02²) is made for a width of 768; here it delays copying by hundreds of steps.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
    return model


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Train one model and test it once. Cross-entropies are nats per target token, without smoothing.

    curve holds [step, cross-entropy on validation]; seconds are those of the training steps.
    """
    task, tokenizer, test = _prepared(settings)
    with own_random_numbers(seed, torch.device("cpu")):
        model = _initialised(Seq2Seq(model_config(arm, settings, tokenizer.vocab_size)))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    validation, exact = pair_batches(task.validation, tokenizer), translation_loss()
    curve: list[list[float]] = []

    def follow(done: int, model: nn.Module) -> None:
        if done and done % settings["curve_every"] == 0:
            found = evaluate(model, validation, exact, precision=settings["precision"])
            curve.append([done, round(found["loss"], 4)])

    result = train(
        model,
        pair_batches(task.train, tokenizer, max_tokens=settings["max_tokens"], seed=seed),
        translation_loss(settings["label_smoothing"]),
        TrainConfig(
            seed=seed, **{name: settings[name] for name in ("steps", "lr", "warmup", "weight_decay", "precision")}
        ),
        on_step=follow,
        title=f"{arm}, seed {seed}",
    )
    said = translate(model, tokenizer, test.sources, beams=settings["beams"], max_length=settings["max_length"])
    nats, tokens = score_pairs(model, pair_batches(task.test, tokenizer))
    numbers = {
        "parameters": count_parameters(model).total,
        "dev_cross_entropy": round(evaluate(model, validation, exact)["loss"], 4),
        "test_cross_entropy": round(float(nats.sum() / tokens.sum()), 4),
        "test_bleu": round(bleu(said, test.targets).score, 2),
        "test_chrf": round(chrf(said, test.targets).score, 2),
        "seconds": round(result.seconds, 1),
        "curve": curve,
        "examples": said[:5],
    }
    return numbers, {"nats": [round(value, 3) for value in nats.tolist()], "tokens": tokens.tolist(), "said": said}


def baselines(settings: Settings) -> dict[str, Any]:
    """Translating by leaving the source as it is, with and without its brackets; and how BLEU was computed."""
    task, tokenizer, test = _prepared(settings)
    copied = bleu(test.sources, test.targets)
    bare = [without_brackets(source) for source in test.sources]
    return {
        "copy_bleu": round(copied.score, 2),
        "copy_without_brackets_bleu": round(bleu(bare, test.targets).score, 2),
        "copy_chrf": round(chrf(test.sources, test.targets).score, 2),
        "copy_without_brackets_chrf": round(chrf(bare, test.targets).score, 2),
        "bleu_signature": copied.signature,
        "chrf_signature": chrf(test.sources, test.targets).signature,
        "pairs": {split: len(getattr(task, split)) for split in ("train", "validation", "test")},
        "translated_test_pairs": len(test),
        "vocabulary": tokenizer.vocab_size,
        "examples": [list(pair) for pair in zip(test.sources[:5], test.targets[:5], strict=True)],
    }


def compare(details: Mapping[str, list[dict[str, Any]]], settings: Settings) -> dict[str, Any]:
    """Test BLEU and cross-entropy of one arm minus another's, with 95 % intervals over verses and seeds."""
    *_, test = _prepared(settings)
    tokens = details["none"][0]["tokens"]  # the same for every arm
    measures = {
        "test_bleu": ("said", partial(bleu_difference, references=test.targets, seed=0)),
        "test_cross_entropy": ("nats", partial(mean_difference, weights=tokens, seed=0)),
    }
    return differences(details, COMPARED, measures)


STUDY = Study(
    name="sharing",
    title="Sharing plans at equal steps: King James to World English Bible",
    minutes=105,
    arms=ARMS,
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=compare,
)
