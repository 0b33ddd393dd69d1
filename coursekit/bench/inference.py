"""Benchmarks of one forward pass: what each compression is worth in time, at several model and input shapes."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from coursekit.bench.csr import to_csr
from coursekit.bench.frame import Arm, Arms, Case, Missing, Setting, attempt, relative_error, require_close
from coursekit.bench.peers import compiled, hugging_face, no_bf16, onnx_sessions, torchao_int8
from coursekit.bench.results import Bar
from coursekit.bench.shapes import MINILM, MODELS, config_of, make_encoder, make_inputs, named, states
from coursekit.compress.lowrank import LowRankLinear, compress, plan_ranks
from coursekit.compress.pruning import apply_masks, drop_layers, finalize, magnitude_masks, prune_ffn, prune_heads
from coursekit.compress.quantization import quantize_model
from coursekit.measure import count_flops, stored_bytes
from coursekit.models import Encoder, SharingPlan, TransformerConfig
from coursekit.train import has_bf16

DENSE = "dense, fp32"
SHAPES = ((1, 8), (1, 128), (8, 64), (32, 32))
ROUNDS = {(1, 8): 25, (1, 128): 11}  # short calls are repeated more often

Make = Callable[[Encoder, tuple[Tensor, ...], Setting], Mapping[str, Arm]]


def inference_cases(full: bool = False) -> list[Case]:
    """The suite: bars 3, 5 and 6, and the shapes at which methods differ most. `full`: every model at every shape."""
    tiny, mini, base = MODELS
    if full:
        cases = [case(model, *shape, METHODS, bars=True) for model in MODELS for shape in SHAPES]
        return [*cases, *(sharing_case(model, *shape) for model in MODELS for shape in SHAPES)]
    ours = [name for name in METHODS if name not in OTHERS]
    return [
        case(tiny, 8, 64, [*ours, "onnx"]),
        case(mini, 1, 8, ours),
        case(mini, 1, 128, METHODS, bars=True),
        case(mini, 8, 64, [*ours, "onnx"]),
        case(mini, 32, 32, [*ours, "onnx"]),
        case(base, 1, 128, METHODS, bars=True),
        sharing_case(mini, 8, 64),
        sharing_case(base, 8, 64, rounds=5),
        sharing_case(base, 1, 8),
    ]


def case(
    model: str | TransformerConfig, batch: int, length: int, methods: Iterable[str], *, bars: bool = False
) -> Case:
    """One model on `batch` texts of `length` tokens: dense, and as each of the methods makes it."""
    config = config_of(model)
    chosen = {name: METHODS[name] for name in methods}

    def make(setting: Setting) -> Arms:
        dense, inputs = make_encoder(config).to(setting.device), make_inputs(config, batch, length, setting.device)
        arms = {DENSE: Arm(partial(states, dense, *inputs), error=0.0, bytes=stored_bytes(dense))}
        for method in chosen.values():
            arms |= method(dense, inputs, setting)
        return arms

    held = tuple(_bars(config, batch, length)) if bars else ()
    rounds = ROUNDS.get((batch, length), 7)
    return Case(
        f"{named(model)}, {batch} × {length}", "one forward pass against the dense one", make, held, rounds=rounds
    )


def _bars(config: TransformerConfig, batch: int, length: int) -> list[Bar]:
    """Bars 3 (at BERT-base's shape) and 5 (at 128 rows or more)."""
    bars = []
    if (batch, length) == (1, 128) and config.hidden_size == 768:
        for arm, least in (("int8, eager", 2.5), ("int8, compiled", 3.0)):
            why = "without AMX or VNNI an int8 product is no faster than one in fp32"
            bars.append(Bar(3, f"{arm}, BERT-base", (arm,), DENSE, least=least, error=0.03, reason=why))
    if batch * length >= 128:
        why = "smaller products run at a smaller share of the peak"
        for arm in ("heads −50 %", "FFN −50 %", "layers −50 %"):
            bars.append(Bar(5, f"{arm}, {length} tokens × {batch}", (arm,), DENSE, 0.9, kind="ideal", reason=why))
        arm = "low rank, half the weights"
        bars.append(Bar(5, f"low rank, {length} tokens × {batch}", (arm,), DENSE, 0.8, kind="ideal", reason=why))
    return bars


def sharing_case(model: str | TransformerConfig, batch: int, length: int, rounds: int | None = None) -> Case:
    """The same computation with one block for all depths: fewer weights, as much work (bar 6)."""
    config = config_of(model)

    def make(setting: Setting) -> Arms:
        inputs, arms = make_inputs(config, batch, length, setting.device), {}
        for name, plan in {"unshared": None, "all shared": SharingPlan.all(config.num_layers)}.items():
            encoder = make_encoder(config.replace(sharing=plan)).to(setting.device)
            arms[name] = Arm(partial(states, encoder, *inputs), bytes=stored_bytes(encoder))
        return arms

    what = f"sharing is no faster and no slower, {named(model)}, {batch} × {length}"
    reason = "a cache that holds the shared weights and not all of the others makes a difference"
    bars = (Bar(6, what, ("all shared",), "unshared", 0.9, 1.1, reason=reason),) if batch >= 8 and length >= 64 else ()
    about = "all layers one block (ALBERT) against twelve or six of their own: memory is saved, time is not"
    name = f"sharing, {named(model)}, {batch} × {length}"
    return Case(name, about, make, bars, rounds=rounds or ROUNDS.get((batch, length), 7))


# ---- what is compared ----


def _made(name: str, model: nn.Module, dense: Encoder, inputs: tuple[Tensor, ...], **about: float) -> dict[str, Arm]:
    """An arm for a changed model: its error against the dense one, and the bytes it would be stored in."""
    call = partial(states, model, *inputs)
    with torch.inference_mode():
        error = relative_error(call(), states(dense, *inputs))
    return {name: Arm(call, error=error, bytes=stored_bytes(model), **about)}


def _hugging_face(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    """The same weights in the library that most would use."""

    def make() -> Arm:
        theirs = hugging_face(dense).to(setting.device)
        with torch.inference_mode():
            found, expected = theirs(*inputs).last_hidden_state, states(dense, *inputs)
        require_close("a state of Hugging Face's", found, expected, within=1e-4 if setting.device == "cpu" else 1e-3)
        return Arm(lambda: theirs(*inputs).last_hidden_state, error=relative_error(found, expected))

    return {"Hugging Face, fp32": attempt(make, "Hugging Face")}


def _bf16(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    if not has_bf16(setting.device):
        return {"dense, bf16": Arm(None, no_bf16(setting.device))}
    return _made("dense, bf16", copy.deepcopy(dense).bfloat16(), dense, inputs)


def _low_rank(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    name = "low rank, half the weights"
    if dense.config == MODELS[MINILM]:
        return _smaller(name, compress(dense, 0.5), dense, inputs)
    (arm,) = _smaller(name, _random_factors(dense, 0.5), dense, inputs).values()
    return {name: replace(arm, error=None)}


def _random_factors(dense: Encoder, keep: float) -> Encoder:
    """Factors of the shapes that `compress` gives, without its SVDs: minutes for BERT-base, and of random weights."""
    ranks, replaced = plan_ranks(dense, keep), {}
    with torch.random.fork_rng():
        for path, rank in ranks.items():
            linear = dense.get_submodule(path)
            layer = LowRankLinear(linear.in_features, linear.out_features, rank, linear.bias is not None)
            replaced[id(linear)] = layer.to(linear.weight.device)
    return copy.deepcopy(dense, replaced)


def _masks(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    """90 % zeros: under masks as while training, as a dense weight, as compressed sparse rows. All compute the same."""
    masked = copy.deepcopy(dense)
    apply_masks(masked, magnitude_masks(masked, 0.9))
    forms = {"masked": masked, "dense": finalize(copy.deepcopy(masked))}
    if inputs[0].device.type == "cpu":
        forms["CSR"] = to_csr(forms["dense"])
    arms = {}
    for form, model in forms.items():
        with torch.inference_mode():
            expected = states(forms["dense"], *inputs)
            require_close(f"90 % zeros, {form}", states(model, *inputs), expected, within=1e-4)
        arms |= _made(f"90 % zeros, {form}", model, dense, inputs)
    return arms


def _structured(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    """Half of the heads, of the FFN neurons, of the layers: really gone."""
    depths, heads, neurons = dense.config.num_layers, dense.config.num_heads, dense.config.intermediate_size
    changed = {
        "heads −50 %": lambda model: prune_heads(model, {layer: range(heads // 2) for layer in range(depths)}),
        "FFN −50 %": lambda model: prune_ffn(model, {layer: range(neurons // 2) for layer in range(depths)}),
        "layers −50 %": lambda model: drop_layers(model, range(0, depths, 2)),
    }
    arms = {}
    for name, change in changed.items():
        arms |= _smaller(name, change(copy.deepcopy(dense)), dense, inputs)
    return arms


def _smaller(name: str, model: Encoder, dense: Encoder, inputs: tuple[Tensor, ...]) -> dict[str, Arm]:
    """An arm whose FLOPs say how fast it could be."""
    ideal = count_flops(dense, inputs=inputs) / count_flops(model, inputs=inputs)
    return _made(name, model, dense, inputs, ideal=ideal)


def _int8(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    return _made("int8, eager", quantize_model(dense, "int8"), dense, inputs)


def _int8_compiled(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    quantized = quantize_model(dense, "int8")

    def make() -> Arm:
        model = compiled(quantized, inputs)
        return _made("", model, dense, inputs)[""]

    return {"int8, compiled": attempt(make, "torch.compile")}


def _int4(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    return _made("int4 weights", quantize_model(dense, "int4"), dense, inputs)


def _torchao(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    def make() -> Arm:
        return _made("", torchao_int8(dense), dense, inputs)[""]

    return {"torchao int8, eager": attempt(make, "torchao")}


def _onnx(dense: Encoder, inputs: tuple[Tensor, ...], setting: Setting) -> Mapping[str, Arm]:
    """ONNX Runtime on the exported encoder; its int8 quantizes the embeddings too, so its file is the smallest."""
    names = {"fp32": "ONNX Runtime, fp32", "int8": "ONNX Runtime, int8"}
    try:
        if setting.device != "cpu":
            raise Missing(f"ONNX Runtime is timed on the CPU alone, not on {setting.device}")
        sessions = onnx_sessions(dense, inputs, setting.threads)
    except Exception as error:
        missing = attempt(partial(_raise, error), "ONNX Runtime")
        return dict.fromkeys(names.values(), missing)
    with torch.inference_mode():
        expected = states(dense, *inputs)
    require_close("the exported graph", sessions["fp32"][0](), expected, within=1e-3)
    return {
        names[kind]: Arm(call, error=relative_error(call(), expected), bytes=size)
        for kind, (call, size) in sessions.items()
    }


def _raise(error: Exception) -> Arm:
    raise error


METHODS: dict[str, Make] = {
    "hugging face": _hugging_face,
    "bf16": _bf16,
    "low rank": _low_rank,
    "masks": _masks,
    "structured": _structured,
    "int8": _int8,
    "int4": _int4,
    "int8 compiled": _int8_compiled,
    "torchao": _torchao,
    "onnx": _onnx,
}
OTHERS = ("int8 compiled", "torchao", "onnx")  # slow to prepare
