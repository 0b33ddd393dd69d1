"""An ONNX graph put together node by node; every weight is written once, however often it is used."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coursekit import __version__
from coursekit.files import atomic_file

OPSET = 21  # the first with codes of four bits in blocks
IR_VERSION = 10  # what ONNX Runtime reads from 1.18 on; a newer one would shut out older programs for nothing
MOST_BYTES = 2**31 - 1  # of a protocol buffer, which an ONNX file is


def onnx() -> ModuleType:
    """The package that knows the format. Raises RuntimeError if it is not installed."""
    try:
        import onnx
    except ImportError:
        raise RuntimeError("writing ONNX needs the package onnx: pip install onnx onnxruntime") from None
    return onnx


class Graph:
    """Nodes, and constants that are kept by what they belong to. Values in the graph are strings: their names.

    model names the constants: a weight has the path under which its module is first met, so a module that several
    depths share is one constant.
    """

    def __init__(self, model: nn.Module) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._paths = {id(module): path for path, module in model.named_modules()}

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node of one output, which is called `name`; returns its name."""
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(onnx().helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, module: nn.Module, role: str, make: Callable[[], Tensor], bits: int | None = None) -> str:
        """The constant `role` of a module, made when it is first asked for. bits=4: bytes of two signed codes each,
        whose shape is `make().shape` with the last axis twice as long."""
        name = f"{self._paths[id(module)]}.{role}".lstrip(".")
        if name not in self.constants:
            self.constants[name] = self._tensor(name, make().detach().cpu().contiguous(), bits)
        return name

    def number(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant that is no weight: a number, a list of sizes, or a small array."""
        array = np.asarray(value, dtype)
        name = f"{array.dtype}_{'x'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        if name not in self.constants:
            self.constants[name] = onnx().numpy_helper.from_array(array, name)
        return name

    def _tensor(self, name: str, value: Tensor, bits: int | None) -> Any:
        if bits is None:
            return onnx().numpy_helper.from_array(value.numpy(), name)
        shape = (*value.shape[:-1], 2 * value.shape[-1])
        return onnx().helper.make_tensor(name, onnx().TensorProto.INT4, shape, value.numpy().tobytes(), raw=True)

    def write(self, file: Path, inputs: list[str], outputs: dict[str, list[str | int]]) -> None:
        """Check the graph and write it, whole or not at all. inputs are (batch, length) integers, outputs of the named
        shapes real numbers. Raises ValueError above the 2 GiB that an ONNX file can hold.
        """
        helper, types = onnx().helper, onnx().TensorProto
        size = sum(len(constant.raw_data) for constant in self.constants.values())
        if size > MOST_BYTES:
            raise ValueError(f"an ONNX file holds at most 2 GiB, this model has {size / 2**30:.1f} GiB of weights")
        asked = [helper.make_tensor_value_info(name, types.INT64, ["batch", "length"]) for name in inputs]
        given = [helper.make_tensor_value_info(name, types.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "coursekit", asked, given, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="coursekit")
        model.producer_version = __version__
        onnx().checker.check_model(model)
        with atomic_file(file) as part:
            part.write_bytes(model.SerializeToString())


def real(value: Tensor) -> Tensor:
    """In the dtype of the graph, fp32."""
    return value.to(torch.float32)
