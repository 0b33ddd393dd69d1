"""What pays on a GPU and says little about a CPU: attention back-ends, batch sizes, 2:4 weights, int8 products.

Cases can be made, compared and timed on a CPU too, at shapes that suit it; what it lacks, an arm says.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from coursekit.bench.arithmetic import trained_model
from coursekit.bench.frame import Arm, Arms, Case, Setting, attempt, near, require_close
from coursekit.bench.linears import int8_case, sparse_case
from coursekit.bench.peers import quiet
from coursekit.bench.shapes import BASE, MINILM, config_of, half_precision, make_encoder, named, random_inputs
from coursekit.bench.training import LR, masked_batch, our_stepper, shape_case
from coursekit.models import TransformerConfig
from coursekit.train import has_bf16
from coursekit.train.step import Stepper

BACKENDS = {
    "math": [SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "memory-efficient": [SDPBackend.EFFICIENT_ATTENTION],
    "cuDNN": [SDPBackend.CUDNN_ATTENTION],
}
CHOICE = {"torch's own choice": [backend for (backend,) in BACKENDS.values()]}
LAYERS, HEADS, HEAD_SIZE = 12, 12, 64  # of BERT-base, whose attention is timed
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LINEARS = ((384, 1536), (768, 3072), (3072, 768))  # inputs and outputs
ROWS = (128, 4096)
MORE_ROWS = (16, 32768)


def gpu_inference_cases(full: bool = False) -> list[Case]:
    """The inference suite's: attention, batch scaling, 2:4 and int8 layers. `full`: from very few rows to very many."""
    rows = sorted((*ROWS, *MORE_ROWS)) if full else ROWS
    return [
        *(attention_case(*shape) for shape in ((32, 128), (8, 512))),
        attention_case(8, 512, padded=True),
        *(scaling_case(model) for model in (MINILM, BASE)),
        *(make(count, *linear) for make in (sparse_case, int8_case) for count in rows for linear in LINEARS),
    ]


def gpu_training_cases(full: bool = False) -> list[Case]:
    """The training suite's: attention with its gradient, BERT-base's step in one batch and in parts, and against HF's.

    `full`: attention of long texts too.
    """
    step = shape_case(layers=LAYERS, hidden=HEADS * HEAD_SIZE, batch=32, length=128)
    return [
        *(attention_case(*shape, grad=True) for shape in ((32, 128), (8, 512), *([(2, 2048)] if full else []))),
        parts_case(BASE, 64, 128, parts=(1, 4, 16)),
        replace(step, name="step of BERT-base, 32 × 128 tokens", rounds=5, gpu=True),
    ]


# ---- attention ----


def attention_case(
    batch: int, length: int, *, padded: bool = False, grad: bool = False, heads: int = HEADS, rounds: int = 9
) -> Case:
    """softmax(QKᵀ/√d)V by each of PyTorch's back-ends; with a mask where texts are padded, and with its gradient."""
    traits = [f"{batch} × {length}", *["padded"] * padded, *["with gradient"] * grad]
    about = f"{LAYERS} calls of scaled_dot_product_attention, {heads} heads × {HEAD_SIZE}"
    make = partial(_attention_arms, (batch, heads, length, HEAD_SIZE), padded, grad)
    return Case(f"attention back-ends, {', '.join(traits)}", about, make, rounds=rounds, grad=grad, gpu=True)


def _attention_arms(shape: tuple[int, ...], padded: bool, grad: bool, setting: Setting) -> Arms:
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(shape, generator=generator).to(setting.device) for _ in range(3)]
    mask = None
    if padded:  # from a whole row to half a row of real tokens
        lengths = torch.linspace(shape[2], shape[2] // 2, shape[0]).int()
        mask = (torch.arange(shape[2]) < lengths[:, None])[:, None, None].to(setting.device)
    expected = _attend(exact, mask, grad, BACKENDS["math"])
    rounded = [x.to(half_precision(setting.device)) for x in exact]

    def make(backends: list[SDPBackend]) -> Arm:
        with quiet():  # it warns of every reason why a kernel is not there
            return near(partial(_attend, rounded, mask, grad, backends), expected, "attention", within=0.05)

    return {name: attempt(partial(make, found), name) for name, found in (BACKENDS | CHOICE).items()}


def _attend(states: Sequence[Tensor], mask: Tensor | None, grad: bool, backends: list[SDPBackend]) -> Tensor:
    """What the last call found; with `grad`, the gradient of half its sum of squares by the queries."""
    query, key, value = (x.detach().requires_grad_(grad) for x in states)
    with sdpa_kernel(backends):
        for _ in range(LAYERS):
            found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            if grad:
                (found, *_) = torch.autograd.grad(found, (query, key, value), found.detach())
    return found


# ---- batches ----


def scaling_case(
    model: str | TransformerConfig,
    texts: int = 512,
    length: int = 128,
    batches: Sequence[int] = BATCHES,
    rounds: int = 3,
) -> Case:
    """The same texts through an encoder, one by one and in ever larger batches, each arm doing all of the texts."""

    def make(setting: Setting) -> Arms:
        config = config_of(model)
        encoder = make_encoder(config).to(setting.device, half_precision(setting.device))
        (ids,) = random_inputs(config, texts, length, setting.device)

        def encode(batch: int) -> Tensor:
            return torch.cat([encoder(part).last_hidden[:, 0] for part in ids.split(batch)])

        with torch.inference_mode():
            expected = encode(batches[0])
            arms = {
                f"batches of {batch}": near(partial(encode, batch), expected, "a text's state", within=0.05)
                for batch in batches
            }
        return {name: replace(arm, texts=texts) for name, arm in arms.items()}

    about = f"{texts} texts of {length} tokens, {named(model)}, in half precision where the device has it"
    return Case(f"batch scaling, {named(model)}", about, make, rounds=rounds, memory=True, gpu=True)


def parts_case(model: str | TransformerConfig, batch: int, length: int, parts: Sequence[int], rounds: int = 5) -> Case:
    """One training step on the same rows, at once and as a sum over parts: what memory costs in time."""

    def make(setting: Setting) -> Arms:
        config = config_of(model).replace(dropout=0.0)
        precision = "bf16" if has_bf16(setting.device) else "fp32"
        trained = trained_model(config, setting.device).train()
        rows = masked_batch(config.vocab_size, batch, length, setting.device)
        arms, first = {}, None
        for count in parts:
            chunks = {name: x.chunk(count) for name, x in rows.items()}
            pieces = [{name: each[number] for name, each in chunks.items()} for number in range(count)]
            step = partial(_step, our_stepper(trained, precision), pieces)
            loss, norm = step(lr=0.0)  # nothing moves, so all are asked the same
            first = first or (loss, norm)
            require_close(f"the loss over {count} parts", loss, first[0], within=0.01 * first[0])
            require_close(f"the gradient norm over {count} parts", norm, first[1], within=0.03 * first[1])
            arms[f"{count} × {batch // count} rows"] = Arm(step, texts=batch)
        return arms

    about = f"masked-LM step on {batch} × {length} tokens, gradients summed over parts of the batch"
    name = f"batch scaling, training {named(model)}"
    return Case(name, about, make, rounds=rounds, grad=True, memory=True, gpu=True)


def _step(stepper: Stepper, pieces: list[dict[str, Tensor]], lr: float = LR) -> tuple[float, float]:
    sums, norm = stepper.step(pieces, lr)
    return sums["loss"] / sums["items"], norm
