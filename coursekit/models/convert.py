"""Hugging Face models to ours: the same numbers under shorter names."""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from coursekit.errors import unknown_name
from coursekit.hub import checkpoint_folder
from coursekit.models.config import TransformerConfig
from coursekit.models.encoder import Encoder
from coursekit.models.heads import MaskedLM, SequenceClassifier
from coursekit.models.sharing import SharingPlan

ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# Their name (a pattern) → ours. In layer names, \1 is the number of a stored block.
_BERT_LAYER = {
    r"attention\.self\.(query|key|value)\.": r"attention.\1.",
    r"attention\.output\.dense\.": "attention.output.",
    r"attention\.output\.LayerNorm\.": "attention_norm.",
    r"intermediate\.dense\.": "ffn.up.",
    r"output\.dense\.": "ffn.down.",
    r"output\.LayerNorm\.": "ffn_norm.",
}
_ALBERT_LAYER = {
    r"attention\.(query|key|value)\.": r"attention.\1.",
    r"attention\.dense\.": "attention.output.",
    r"attention\.LayerNorm\.": "attention_norm.",
    r"ffn\.": "ffn.up.",
    r"ffn_output\.": "ffn.down.",
    r"full_layer_layer_norm\.": "ffn_norm.",
}
_DISTILBERT_LAYER = {
    r"attention\.q_lin\.": "attention.query.",
    r"attention\.k_lin\.": "attention.key.",
    r"attention\.v_lin\.": "attention.value.",
    r"attention\.out_lin\.": "attention.output.",
    r"sa_layer_norm\.": "attention_norm.",
    r"ffn\.lin1\.": "ffn.up.",
    r"ffn\.lin2\.": "ffn.down.",
    r"output_layer_norm\.": "ffn_norm.",
}
_OUTSIDE_LAYERS = {
    r"embeddings\.word_embeddings\.": "embeddings.word.",
    r"embeddings\.position_embeddings\.": "embeddings.position.",
    r"embeddings\.token_type_embeddings\.": "embeddings.token_type.",
    r"embeddings\.LayerNorm\.": "embeddings.norm.",
    r"encoder\.embedding_hidden_mapping_in\.": "embeddings.map.",
    r"pooler\.(dense\.)?": "pooler.",
}
_HEADS = {
    r"(cls\.predictions\.transform|predictions)\.dense\.|vocab_transform\.": "head.dense.",
    r"(cls\.predictions\.transform|predictions)\.LayerNorm\.|vocab_layer_norm\.": "head.norm.",
    r"(cls\.)?predictions\.bias|vocab_projector\.bias": "head.bias",
    r"pre_classifier\.": "dense.",
    r"classifier\.": "classifier.",
}
# The output table is the input table, the output bias is `head.bias`; position numbers are not weights.
_TIED = r"(cls\.)?predictions\.decoder\.(weight|bias)|vocab_projector\.weight|.*position_ids"
# Heads of a pretraining's second task (BERT's NSP, ALBERT's SOP) and TinyBERT's maps to its teacher's width.
_LEFT_BEHIND = r"cls\.seq_relationship\..*|sop_classifier\..*|fit_denses?\..*"
_OLD_NORM = {".gamma": ".weight", ".beta": ".bias"}  # TensorFlow's names, in checkpoints such as bert-base-uncased


def from_huggingface(source: nn.Module | Path | str) -> Encoder | MaskedLM | SequenceClassifier:
    """Our model with the weights of a BERT, ALBERT or DistilBERT: the plain model, its masked-LM or classifier head.

    source: a transformers model, or a folder with its `config.json` and `model.safetensors` or, from older days,
    `pytorch_model.bin`; or a name on the Hugging Face Hub, such as "bert-base-uncased", whose files are fetched once.
    Outputs are equal to rounding; the result is in evaluation mode. What only a pretraining needs, a head for sentence
    pairs or TinyBERT's maps, is left behind. Raises ValueError for another architecture, an
    untied output table, or weights that do not fit the config, OSError for a name that cannot be fetched.
    """
    if isinstance(source, nn.Module):
        config, tensors = source.config.to_dict(), source.state_dict()
    else:
        config, tensors = _read_folder(checkpoint_folder(source))
    return _convert(config, tensors)


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json; expected a Hugging Face model folder")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (folder / "model.safetensors").is_file():
        return config, load_file(folder / "model.safetensors")
    if (file := folder / "pytorch_model.bin").is_file():
        try:  # a pickle could run code; this reads tensors and nothing else
            return config, torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{file} is damaged, or holds more than tensors") from error
    raise ValueError(f"{folder} holds no model.safetensors or pytorch_model.bin; expected a Hugging Face model folder")


def _convert(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Encoder | MaskedLM | SequenceClassifier:
    first_words = [name.split(".")[0] for name in tensors]  # old configs do not say which model they are of
    family = config.get("model_type") or next((word for word in first_words if word in _CONFIGS), None)
    if family not in _CONFIGS:
        raise unknown_name("model type", family, _CONFIGS)
    tensors = {re.sub(rf"^{family}\.", "", name): tensor for name, tensor in tensors.items()}
    tensors = {
        re.sub(r"\.(gamma|beta)$", lambda found: _OLD_NORM[found[0]], name): tensor
        for name, tensor in tensors.items()
        if not re.fullmatch(_LEFT_BEHIND, name)
    }
    _refuse_unsupported(config, tensors)
    ours = _CONFIGS[family](config, pooler=any(name.startswith("pooler.") for name in tensors))
    renamed = _rename(family, ours, tensors)
    encoder = Encoder(ours)
    model: Encoder | MaskedLM | SequenceClassifier = encoder
    if "head.bias" in renamed:
        model = MaskedLM(encoder)
    elif "classifier.weight" in renamed:
        model = SequenceClassifier(encoder, renamed["classifier.weight"].shape[0])
    if model is not encoder:
        ahead = ("head.", "dense.", "classifier.")
        renamed = {n if n.startswith(ahead) else f"encoder.{n}": t for n, t in renamed.items()}
    _assign(model, renamed)
    return model.eval()


def _bert_config(config: Mapping[str, Any], pooler: bool) -> TransformerConfig:
    return TransformerConfig(
        num_layers=config["num_hidden_layers"],
        pooler=pooler,
        token_types=config["type_vocab_size"],
        **_common(config),
    )


def _albert_config(config: Mapping[str, Any], pooler: bool) -> TransformerConfig:
    layers, groups, inner = (
        config["num_hidden_layers"],
        config["num_hidden_groups"],
        config["inner_group_num"],
    )
    # A layer of theirs runs `inner` blocks one after another; group numbers in integers, as floats err for some sizes.
    blocks = [(layer * groups // layers) * inner + step for layer in range(layers) for step in range(inner)]
    return TransformerConfig(
        num_layers=layers * inner,
        pooler=pooler,
        token_types=config["type_vocab_size"],
        embedding="factorised",
        embedding_size=config["embedding_size"],
        sharing=SharingPlan.from_blocks(blocks, blocks, "shared"),
        **_common(config),
    )


def _distilbert_config(config: Mapping[str, Any], pooler: bool) -> TransformerConfig:
    names = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
    }
    common = _common({**config, **{ours: config[theirs] for ours, theirs in names.items()}})
    return TransformerConfig(num_layers=config["n_layers"], token_types=0, pooler=pooler, **common)


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["hidden_act"] not in ACTIVATION_NAMES:
        raise unknown_name("activation", config["hidden_act"], ACTIVATION_NAMES)
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "intermediate_size": config["intermediate_size"],
        "dropout": config["hidden_dropout_prob"],
        "activation": ACTIVATION_NAMES[config["hidden_act"]],
        "layer_norm_eps": config.get("layer_norm_eps", 1e-12),
        "max_positions": config["max_position_embeddings"],
        "pad_id": config.get("pad_token_id") or 0,
    }


_CONFIGS = {"bert": _bert_config, "albert": _albert_config, "distilbert": _distilbert_config}
_LAYERS = {
    "bert": (r"encoder\.layer\.(\d+)\.", _BERT_LAYER),
    "albert": (r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.", _ALBERT_LAYER),
    "distilbert": (r"transformer\.layer\.(\d+)\.", _DISTILBERT_LAYER),
}


def _refuse_unsupported(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"position embeddings are {config['position_embedding_type']!r}; expected 'absolute'")
    if config.get("is_decoder"):
        raise ValueError("a BERT used as a decoder was given; expected an encoder")
    table = tensors["embeddings.word_embeddings.weight"]
    for name in ("cls.predictions.decoder.weight", "predictions.decoder.weight", "vocab_projector.weight"):
        if name in tensors and not torch.equal(tensors[name], table):
            raise ValueError(f"{name} differs from the input embeddings; expected a tied output table")


def _rename(family: str, config: TransformerConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their names to ours; a stored block goes to the first depth that uses it."""
    prefix, inside = _LAYERS[family]
    blocks_per_group = max(
        (int(m[2]) + 1 for n in tensors if (m := re.match(prefix, n)) and m.re.groups == 2), default=1
    )
    renamed = {}
    for name, tensor in tensors.items():
        if re.fullmatch(_TIED, name):
            continue
        if found := re.match(prefix, name):
            group, *inner = map(int, found.groups())
            depth = config.plan.attention.index(group * blocks_per_group + sum(inner))
            renamed[f"layers.{depth}.{_translate(name[found.end() :], inside)}"] = tensor
        else:
            renamed[_translate(name, _OUTSIDE_LAYERS | _HEADS)] = tensor
    return renamed


def _translate(name: str, patterns: Mapping[str, str]) -> str:
    for theirs, ours in patterns.items():
        if found := re.match(theirs, name):
            return found.expand(ours) + name[found.end() :]
    raise ValueError(f"no place in our models for the weight {name!r}")


def _assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the model's distinct parameters; names and shapes must match exactly."""
    ours = dict(model.named_parameters())
    if missing := sorted(ours.keys() ^ tensors.keys()):
        raise ValueError(f"weights and config disagree about {', '.join(missing[:3])} ({len(missing)} names in all)")
    with torch.no_grad():
        for name, parameter in ours.items():
            if parameter.shape != tensors[name].shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensors[name].shape)}; the config says {tuple(parameter.shape)}"
                )
            parameter.copy_(tensors[name])
