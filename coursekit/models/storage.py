"""Models on disk: a folder with `config.json` and `model.safetensors`, each stored tensor written once.

What a method changed physically is written down as data. A module with `describe()` (its constructor arguments)
that differs from what the config alone would build is recorded by class and arguments, and rebuilt from them.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from coursekit.errors import unknown_name
from coursekit.files import atomic_folder, write_json
from coursekit.models.config import TransformerConfig
from coursekit.models.encoder import Encoder
from coursekit.models.heads import MaskedLM, SequenceClassifier
from coursekit.models.seq2seq import Seq2Seq, Seq2SeqConfig

Model = Encoder | MaskedLM | SequenceClassifier | Seq2Seq
MODELS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Model]] = {
    "Encoder": lambda config, arguments: Encoder(TransformerConfig.from_dict(config)),
    "MaskedLM": lambda config, arguments: MaskedLM(Encoder(TransformerConfig.from_dict(config))),
    "SequenceClassifier": lambda config, arguments: SequenceClassifier(
        Encoder(TransformerConfig.from_dict(config)), **arguments
    ),
    "Seq2Seq": lambda config, arguments: Seq2Seq(Seq2SeqConfig.from_dict(config)),
}


def save(model: Model, folder: Path | str) -> Path:
    """Write the model as a folder, whole or not at all; shared and tied tensors once. Returns the folder.

    Raises ValueError for a model or a replaced layer that could not be rebuilt.
    """
    kind = type(model).__name__
    if kind not in MODELS:
        raise unknown_name("model class", kind, MODELS)
    arguments = {"num_labels": model.num_labels} if kind == "SequenceClassifier" else {}
    with torch.device("meta"):
        plain = MODELS[kind](model.config.to_dict(), arguments)
    header = {
        "format": "coursekit 1",
        "model": kind,
        "arguments": arguments,
        "config": model.config.to_dict(),
        "replaced": _replaced(model, plain),
    }
    with atomic_folder(Path(folder)) as part:
        save_file(_distinct_tensors(model), part / "model.safetensors")
        write_json(part / "config.json", header)
    return Path(folder)


def load(folder: Path | str, *, device: torch.device | str = "cpu") -> Model:
    """Read what `save` wrote: same outputs, sharing, ties and shapes; in evaluation mode.

    Raises ValueError for a folder of another kind or damaged weights, FileNotFoundError for none.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no model in {folder}: it has no config.json")
    header = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if header.get("format") != "coursekit 1" or header.get("model") not in MODELS:
        raise ValueError(f"{folder} was not written by coursekit.models.save; for other models use from_huggingface")
    with torch.device("meta"):
        model = MODELS[header["model"]](header["config"], header["arguments"])
        for path in sorted(header["replaced"], key=lambda path: path.count(".")):  # a parent before its children
            replace_module(model, model.get_submodule(path), _construct(**header["replaced"][path]))
    _fill(model, folder / "model.safetensors", device)
    return model.eval()


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> int:
    """Put `new` wherever `old` is used, shared uses included, and return the number of places.

    Walking `named_children` would change only the first alias of a shared module.
    """
    places = [(parent, name) for parent in model.modules() for name, child in parent._modules.items() if child is old]
    for parent, name in places:
        setattr(parent, name, new)
    return len(places)


def _description(module: nn.Module) -> dict[str, Any]:
    kind = type(module)
    return {"cls": f"{kind.__module__}:{kind.__qualname__}", "arguments": module.describe()}


def _replaced(model: nn.Module, plain: nn.Module) -> dict[str, dict[str, Any]]:
    """Path → description of every module that the config alone would not build like this."""
    unchanged = {
        path: _description(module) if hasattr(module, "describe") else type(module)
        for path, module in plain.named_modules()
    }
    replaced = {}
    for path, module in model.named_modules():
        if hasattr(module, "describe"):
            if unchanged.get(path) != _description(module):
                replaced[path] = _description(module)
        elif path in unchanged and unchanged[path] is not type(module):
            raise ValueError(f"cannot save {path}: a {type(module).__name__} has no describe() to rebuild it from")
    return replaced


def _construct(cls: str, arguments: dict[str, Any]) -> nn.Module:
    module, _, name = cls.partition(":")
    if not module.startswith("coursekit."):  # a file must not choose what is imported
        raise ValueError(f"a saved layer is of class {cls!r}; only coursekit's own are rebuilt")
    return getattr(importlib.import_module(module), name)(**arguments)


def _distinct_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Name → tensor, each stored tensor under its first name."""
    stored = model.state_dict()
    named = dict(model.named_parameters()) | dict(model.named_buffers())  # both list an object once
    return {name: tensor.detach().contiguous() for name, tensor in named.items() if name in stored}


def _fill(model: nn.Module, path: Path, device: torch.device | str) -> None:
    """Give every distinct tensor of a meta model its stored value."""
    expected = _distinct_tensors(model)
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            if differing := sorted(expected.keys() ^ set(file.keys())):
                raise ValueError(f"{path} and its config disagree about {', '.join(differing[:3])}")
            for name, wanted in expected.items():
                tensor = file.get_tensor(name)
                if tensor.shape != wanted.shape:
                    raise ValueError(f"{path}: {name} has shape {tuple(tensor.shape)}, not {tuple(wanted.shape)}")
                owner, _, attribute = name.rpartition(".")
                module = model.get_submodule(owner)
                if attribute in module._parameters:
                    tensor = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
                setattr(module, attribute, tensor)
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} is damaged or missing: {error}") from error
