"""Bar 1: short real sentences, as usually encoded (padded to 128) and without their padding."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from coursekit.bench.frame import Arm, Arms, Case, Setting, relative_error, require_close
from coursekit.bench.peers import no_bf16, transformers
from coursekit.bench.results import Bar
from coursekit.compress.quantization import quantize_model
from coursekit.data import Tokenizer, fetch, load_task, pad
from coursekit.models import Encoder, from_huggingface
from coursekit.train import TextBatches, has_bf16, inputs
from coursekit.train.evaluation import inference

BATCH = 32
PADDED = 128
HF = "Hugging Face, padded to 128"


def encoding_case(count: int, *, rounds: int = 5) -> Case:
    """`count` sentences of the course's task through the real MiniLM encoder to one vector each."""
    reason = "the gain is that of the padding left out; fewer or longer sentences leave less"
    held = partial(Bar, 1, against=HF, reason=reason)
    bars = (
        held("short sentences, fp32, outputs within 1e-5", ("ours, fp32",), least=4.0),
        held("short sentences, bf16 or int8", ("ours, bf16", "ours, int8"), least=8.0),
    )
    return Case(
        "encode short sentences",
        f"{count} real sentences, MiniLM 6 × 384, batches of {BATCH}",
        partial(_arms, count),
        bars,
        rounds=rounds,
        grad=True,  # each arm says itself what it needs; autocast keeps converted weights only outside inference mode
    )


def _arms(count: int, setting: Setting) -> Arms:
    library, folder = transformers(), fetch("minilm")
    theirs = library.BertModel.from_pretrained(folder).eval().to(setting.device)
    ours = from_huggingface(folder).to(setting.device)
    tokenizer = Tokenizer(folder)
    sequences = tokenizer.encode(load_task("rotten-tomatoes").test.texts[:count])
    return encoding_arms(theirs, ours, sequences, tokenizer.pad_id, setting)


def encoding_arms(
    theirs: nn.Module, ours: Encoder, sequences: Sequence[Sequence[int]], pad_id: int, setting: Setting
) -> Arms:
    """The arms for two models that should be one: their outputs are compared at every real token first."""
    full = TextBatches(sequences, pad_id=pad_id, batch_size=BATCH)
    within = 1e-5 if setting.device == "cpu" else 1e-4  # a GPU adds in another order for every shape
    require_close("a state of a real token", _states(ours, full), _their_states(theirs, full), within=within)
    their = partial(_encode_theirs, theirs, device=setting.device)
    expected = their(_padded(sequences, pad_id))
    shortest = [inputs(batch)[:2] for batch in full.epoch(0)]
    order = torch.tensor([row for rows in full.plan(0) for row in rows]).argsort()
    our = {
        "ours, fp32": partial(encode, ours, full),
        "ours, bf16": partial(encode, ours, full, precision="bf16"),
        "ours, int8": partial(encode, quantize_model(ours, "int8"), full),
    }
    found = {name: call() for name, call in our.items()}
    require_close("a sentence's vector", found["ours, fp32"], expected, within=within)
    texts = len(sequences)
    arms = {
        HF: Arm(partial(their, _padded(sequences, pad_id)), texts=texts),
        "Hugging Face, sorted by length": Arm(lambda: their(shortest)[order], texts=texts),
        **{name: Arm(call, error=relative_error(found[name], expected), texts=texts) for name, call in our.items()},
    }
    if not has_bf16(setting.device):
        arms["ours, bf16"] = Arm(None, no_bf16(setting.device), texts=texts)
    return arms


def encode(model: Encoder, batches: TextBatches, *, precision: str = "fp32") -> Tensor:
    """One vector (N, H) per text, in the order of the texts, as evaluation computes it: without padding."""
    vectors, rows = [], [row for plan in batches.plan(0) for row in plan]
    with inference(model, precision) as device:
        for batch in batches.epoch(0):
            ids, mask, _ = inputs(batch)
            vectors.append(model(ids.to(device), mask.to(device)).pooled.float().cpu())
    return torch.cat(vectors)[torch.tensor(rows).argsort()]


def _encode_theirs(model: nn.Module, batches: list[tuple[Tensor, Tensor]], *, device: str) -> Tensor:
    with torch.inference_mode():
        found = [model(ids.to(device), mask.long().to(device)).pooler_output.cpu() for ids, mask in batches]
    return torch.cat(found)


def _padded(sequences: Sequence[Sequence[int]], pad_id: int) -> list[tuple[Tensor, Tensor]]:
    """The texts in their own order, every batch padded to 128 (a multiple that no sentence here exceeds)."""
    starts = range(0, len(sequences), BATCH)
    return [pad(sequences[start : start + BATCH], pad_id, multiple_of=PADDED)[:2] for start in starts]


def _states(model: Encoder, batches: TextBatches) -> Tensor:
    """States of all real tokens (N, H)."""
    with inference(model, "fp32") as device:
        found = [model(ids.to(device), mask.to(device)).last_hidden.cpu()[mask] for ids, mask, _ in _inputs(batches)]
    return torch.cat(found)


def _their_states(model: nn.Module, batches: TextBatches) -> Tensor:
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = [
            model(ids.to(device), mask.long().to(device)).last_hidden_state.cpu()[mask]
            for ids, mask, _ in _inputs(batches)
        ]
    return torch.cat(found)


def _inputs(batches: TextBatches) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    return [inputs(batch) for batch in batches.epoch(0)]
