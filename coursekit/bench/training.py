"""Benchmarks of training: our masked-LM step against Hugging Face's, and the parts around it."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from coursekit.bench.encoding import encoding_case
from coursekit.bench.frame import Arm, Arms, Case, Missing, Setting, require_close
from coursekit.bench.peers import no_bf16, transformers
from coursekit.bench.results import Bar
from coursekit.data import Tokenizer, TokenStore, fetch, load_task, mask_tokens
from coursekit.models import Encoder, MaskedLM, TransformerConfig, from_huggingface
from coursekit.train import TrainConfig, has_bf16, masked_lm_loss
from coursekit.train.runtime import start_accelerator
from coursekit.train.step import Stepper

SPECIAL = range(5)  # ids that are never hidden: as in BERT's vocabulary, but in a row
LR = 1e-5
CLIP = 1.0
VOCAB = 30522
SHAPES = (
    {"layers": 2, "hidden": 128, "batch": 16, "length": 128},
    {"layers": 6, "hidden": 384, "batch": 8, "length": 128},
    {"layers": 12, "hidden": 768, "batch": 4, "length": 128},
)
STATE = 16  # bytes of a weight that is trained: itself, its gradient, two moments


def training_cases(full: bool = False) -> list[Case]:
    """The suite: masked-LM steps (bar 2), short sentences (bar 1), optimizer, tokens.

    `full`: more texts and rounds, and masked-LM steps of models from tiny to BERT-base.
    """
    shape = {"layers": 4, "hidden": 256, "batch": 16, "length": 128}
    bars = {8192: (1.5, 2.2), 30522: (2.7, 4.0)}
    cases = [masked_lm_case(vocab, *bars[vocab], **shape, rounds=9 if full else 5) for vocab in bars]
    if full:
        cases += [shape_case(**shape) for shape in SHAPES]
    return [*cases, encoding_case(512 if full else 96, rounds=5), optimizer_case(), tokens_case(8000 if full else 2000)]


def masked_lm_case(
    vocab: int, least: float, least_bf16: float, *, layers: int, hidden: int, batch: int, length: int, rounds: int = 5
) -> Case:
    """One training step (forward, backward, clipping, AdamW) on the same weights and the same batch."""
    name = f"masked-LM step, V {vocab:,}"
    about = f"{layers} layers × {hidden}, {batch} × {length} tokens, 15 % masked, no dropout, fused AdamW, clipped at 1"
    make = partial(masked_lm_arms, vocab, layers, hidden, batch, length)
    reason = "how much of a step is the vocabulary product depends on the machine's kernels"
    held = partial(Bar, 2, against="Hugging Face, fp32", reason=reason)
    bars = (
        held(f"{name}, fp32", ("ours, fp32",), least=least),
        held(f"{name}, bf16", ("ours, bf16",), least=least_bf16),
    )
    return Case(name, about, make, bars, rounds=rounds, grad=True)


def shape_case(*, layers: int, hidden: int, batch: int, length: int, vocab: int = VOCAB) -> Case:
    """The same step at another shape, with the memory it takes, and held to no bar."""
    about = f"V {vocab:,}, 15 % masked, no dropout, fused AdamW, clipped at 1"
    make = partial(masked_lm_arms, vocab, layers, hidden, batch, length)
    name = f"masked-LM step, {layers} × {hidden}, {batch} × {length} tokens"
    return Case(name, about, make, rounds=3, grad=True, memory=True)


def masked_lm_arms(vocab: int, layers: int, hidden: int, rows: int, length: int, setting: Setting) -> Arms:
    """Their step and ours, in fp32 and bf16, on the same weights: four models, compared before they are timed.

    Raises Missing if the memory that is free does not hold them.
    """
    _require_memory(4 * STATE * (vocab * hidden + 12 * layers * hidden**2), setting.device)
    batch = masked_batch(vocab, rows, length, setting.device)
    ours, theirs = {}, {}
    for precision in ("fp32", "bf16"):
        theirs[precision] = _their_model(vocab, layers, hidden, length).to(setting.device)
        ours[precision] = from_huggingface(theirs[precision]).to(setting.device).train()
    steps = {name: _their_step(model, batch, name) for name, model in theirs.items()}
    own = {name: _our_step(model, batch, name) for name, model in ours.items()}
    # The first step of each is taken for comparison: what it returns is the loss before it moved anything.
    (loss, norm), (their_loss, their_norm) = own["fp32"](), steps["fp32"]()
    difference = require_close("the loss", loss, their_loss, within=1e-4)
    require_close("the gradient norm", norm, their_norm, within=1e-3 * max(1.0, float(their_norm)))
    require_close("the loss in bf16", own["bf16"]()[0], their_loss, within=0.03)
    slow = "" if has_bf16(setting.device) else no_bf16(setting.device)
    return {
        "Hugging Face, fp32": Arm(steps["fp32"]),
        "ours, fp32": Arm(own["fp32"], error=difference),
        "Hugging Face, bf16": Arm(None if slow else steps["bf16"], slow),
        "ours, bf16": Arm(None if slow else own["bf16"], slow),
    }


def _require_memory(needed: int, device: str) -> None:
    free = psutil.virtual_memory().available if device == "cpu" else needed  # a GPU says itself what it cannot hold
    if needed > free:
        raise Missing(f"its models need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")


def masked_batch(vocab: int, rows: int, length: int, device: str) -> dict[str, Tensor]:
    """Full rows (rows, length) of random ids, 15 % of them hidden: time does not depend on what they say."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(SPECIAL), vocab, (rows, length), generator=generator)
    hidden, labels = mask_tokens(ids, special_ids=SPECIAL, mask_id=4, vocab_size=vocab, generator=generator)
    batch = {"input_ids": hidden, "attention_mask": torch.ones_like(ids, dtype=torch.bool), "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _their_model(vocab: int, layers: int, hidden: int, length: int) -> nn.Module:
    library = transformers()
    config = library.BertConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,  # without chance, losses can be compared, and nobody pays for random numbers
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return library.BertForMaskedLM(config).train()


def _their_step(model: nn.Module, batch: dict[str, Tensor], precision: str) -> Callable[[], tuple[Tensor, Tensor]]:
    """A step as their Trainer takes it: fused AdamW, gradients clipped, autocast for bf16."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    inputs = batch | {"attention_mask": batch["attention_mask"].long()}
    device = batch["input_ids"].device.type

    def step() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.detach(), norm

    return step


def _our_step(model: MaskedLM, batch: dict[str, Tensor], precision: str) -> Callable[[], tuple[float, float]]:
    """A step of the training loop itself."""
    stepper = our_stepper(model, precision)

    def step() -> tuple[float, float]:
        sums, norm = stepper.step([batch], LR)
        return sums["loss"] / sums["items"], norm

    return step


def our_stepper(model: MaskedLM, precision: str) -> Stepper:
    """What takes the steps of the training loop, for a masked LM where it is."""
    config = TrainConfig(steps=1, lr=LR, clip=CLIP, precision=precision)
    return Stepper(model, masked_lm_loss, config, start_accelerator(), next(model.parameters()).device)


def optimizer_case(config: TransformerConfig | None = None) -> Case:
    """AdamW alone, on the weights of an encoder: one kernel for all against a loop over tensors."""
    config = config or TransformerConfig(30522, 384, 6, 12, 1536)

    def make(setting: Setting) -> Arms:
        calls, weights = {}, []
        for name, options in {"loop": {"foreach": False}, "fused": {"fused": True}}.items():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = Encoder(config).to(setting.device)
            for number, weight in enumerate(model.parameters()):
                weight.grad = torch.full_like(weight, 1e-3 * (number % 7 - 3))
            calls[name] = torch.optim.AdamW(model.parameters(), lr=1e-4, **options).step
            weights.append(list(model.parameters()))
        for call in calls.values():
            call()
        for one, other in zip(*weights, strict=True):
            require_close("a weight after a step", one, other, within=1e-6)
        return {name: Arm(call) for name, call in calls.items()}

    size = f"{config.num_layers} layers × {config.hidden_size}, V {config.vocab_size:,}"
    return Case("optimizer step", f"AdamW on {size}", make, rounds=11, grad=True)


def tokens_case(count: int) -> Case:
    """Where the tokens of an epoch come from: cut each time, or cut once and read memory-mapped."""

    def make(setting: Setting) -> Arms:
        tokenizer = Tokenizer(fetch("minilm"))
        texts = load_task("rotten-tomatoes").train.texts[:count]
        folder = tempfile.TemporaryDirectory()  # goes when the arms do
        store = TokenStore.write(Path(folder.name) / "tokens", tokenizer.encode(texts), tokenizer.vocab_size)
        if [row.tolist() for row in _read(store, folder)] != tokenizer.encode(texts):
            raise AssertionError("the store does not hold what was written")
        calls = {"tokenise": partial(tokenizer.encode, texts), "read memory-mapped": partial(_read, store, folder)}
        return {name: Arm(call) for name, call in calls.items()}

    return Case("tokens of an epoch", f"{count:,} real sentences", make, rounds=11)


def _read(store: TokenStore, folder: Any) -> list[Tensor]:
    """Every row as a tensor would take it; `folder` stays alive as long as it is read from."""
    return [store[number].astype("int64") for number in range(len(store))]
