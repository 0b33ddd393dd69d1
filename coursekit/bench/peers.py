"""What others offer for the same work, where it is installed: transformers, ONNX Runtime, torchao, torch.compile."""

import copy
import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.bench.frame import Missing
from coursekit.export import to_huggingface
from coursekit.measure import cpu_name
from coursekit.models import Encoder


def transformers() -> ModuleType:
    """Hugging Face's library. Raises Missing if it is not installed."""
    return _imported("transformers")


def hugging_face(encoder: Encoder) -> nn.Module:
    """Their model with our weights, written and read as anybody would. Raises Missing without transformers."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, quiet():
        library = transformers()
        return library.AutoModel.from_pretrained(to_huggingface(encoder, Path(folder) / "model")).eval()


def no_bf16(device: str = "cpu") -> str:
    """Why bf16 arms are left out on a device."""
    name = cpu_name() if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{name} does not multiply in bfloat16; emulated it is slower than fp32"


def compiled(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """torch.compile of a copy of the model, already compiled for these inputs. Needs a C++ compiler."""
    torch._dynamo.reset()
    model = torch.compile(copy.deepcopy(model), dynamic=False)
    with quiet(), torch.inference_mode():
        model(*inputs)
        model(*inputs)
    return model


def torchao_int8(model: nn.Module) -> nn.Module:
    """A copy with torchao's dynamic int8 linears."""
    with quiet():
        quantization = _imported("torchao").quantization
        model = copy.deepcopy(model)
        quantization.quantize_(model, quantization.Int8DynamicActivationInt8WeightConfig())
    return model


def onnx_sessions(
    model: nn.Module, inputs: Sequence[Tensor], threads: int
) -> dict[str, tuple[Callable[[], Tensor], int]]:
    """ "fp32" and "int8" (dynamic) → a call of ONNX Runtime on these inputs, and the bytes of its file."""
    runtime, _ = _imported("onnxruntime"), _imported("onnx")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    calls = {}
    with TemporaryDirectory() as folder, quiet():
        files = {kind: Path(folder) / f"{kind}.onnx" for kind in ("fp32", "int8")}
        torch.onnx.export(_States(model).eval(), tuple(inputs), files["fp32"], dynamo=False, opset_version=17)
        runtime.set_default_logger_severity(3)
        quantize_dynamic(files["fp32"], files["int8"], weight_type=QuantType.QInt8)
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        for kind, file in files.items():
            session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            feeds = {node.name: x.numpy() for node, x in zip(session.get_inputs(), inputs, strict=True)}
            calls[kind] = (
                (lambda session=session, feeds=feeds: torch.from_numpy(session.run(None, feeds)[0])),
                (file.stat().st_size),
            )
    return calls


class _States(nn.Module):
    """An encoder as one tensor out, which is what a graph has."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.encoder(*inputs).last_hidden


@contextmanager
def quiet() -> Any:
    """Swallow what compilers and exporters say on the way."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _imported(name: str) -> ModuleType:
    try:
        return __import__(name, fromlist=["quantization"])
    except ImportError:
        raise Missing(f"{name} is not installed (pip install {name})") from None
