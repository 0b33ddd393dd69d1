"""Our models as folders that transformers loads: the inverse of `coursekit.models.from_huggingface`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from coursekit.data import Tokenizer
from coursekit.export.folding import way_back
from coursekit.files import atomic_folder, write_json
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan, TransformerConfig
from coursekit.models.heads import MaskedLMHead

Model = Encoder | MaskedLM | SequenceClassifier
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu", "tanh": "tanh"}
INSTEAD = "to_onnx writes it as it is"
# Our name → theirs; {} is the number of a layer, or of a group and of a layer in it.
_COMMON = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "classifier": "classifier",
}
_NAMES = {
    "bert": _COMMON
    | {
        "attention.query": "encoder.layer.{}.attention.self.query",
        "attention.key": "encoder.layer.{}.attention.self.key",
        "attention.value": "encoder.layer.{}.attention.self.value",
        "attention.output": "encoder.layer.{}.attention.output.dense",
        "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "ffn.up": "encoder.layer.{}.intermediate.dense",
        "ffn.down": "encoder.layer.{}.output.dense",
        "ffn_norm": "encoder.layer.{}.output.LayerNorm",
        "pooler": "pooler.dense",
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head": "cls.predictions",
    },
    "albert": _COMMON
    | {
        "embeddings.map": "encoder.embedding_hidden_mapping_in",
        "attention.query": "encoder.albert_layer_groups.{}.albert_layers.{}.attention.query",
        "attention.key": "encoder.albert_layer_groups.{}.albert_layers.{}.attention.key",
        "attention.value": "encoder.albert_layer_groups.{}.albert_layers.{}.attention.value",
        "attention.output": "encoder.albert_layer_groups.{}.albert_layers.{}.attention.dense",
        "attention_norm": "encoder.albert_layer_groups.{}.albert_layers.{}.attention.LayerNorm",
        "ffn.up": "encoder.albert_layer_groups.{}.albert_layers.{}.ffn",
        "ffn.down": "encoder.albert_layer_groups.{}.albert_layers.{}.ffn_output",
        "ffn_norm": "encoder.albert_layer_groups.{}.albert_layers.{}.full_layer_layer_norm",
        "pooler": "pooler",
        "head.dense": "predictions.dense",
        "head.norm": "predictions.LayerNorm",
        "head": "predictions",
    },
    "distilbert": _COMMON
    | {
        "attention.query": "transformer.layer.{}.attention.q_lin",
        "attention.key": "transformer.layer.{}.attention.k_lin",
        "attention.value": "transformer.layer.{}.attention.v_lin",
        "attention.output": "transformer.layer.{}.attention.out_lin",
        "attention_norm": "transformer.layer.{}.sa_layer_norm",
        "ffn.up": "transformer.layer.{}.ffn.lin1",
        "ffn.down": "transformer.layer.{}.ffn.lin2",
        "ffn_norm": "transformer.layer.{}.output_layer_norm",
        "dense": "pre_classifier",
        "head.dense": "vocab_transform",
        "head.norm": "vocab_layer_norm",
        "head": "vocab_projector",
    },
}
_CLASSES = {"bert": "Bert", "albert": "Albert", "distilbert": "DistilBert"}
_HEADS = {Encoder: "Model", MaskedLM: "ForMaskedLM", SequenceClassifier: "ForSequenceClassification"}


def to_huggingface(
    model: Model, folder: Path | str, tokenizer: Tokenizer | None = None, *, labels: Sequence[str] | None = None
) -> Path:
    """Write a folder that `transformers` loads by its own means, whole or not at all; returns the folder.

    The model becomes a BERT; an ALBERT if its word table is factorised and its layers are shared in ALBERT's groups; a
    DistilBERT if it has neither token types nor a pooler. With the tokenizer, `pipeline("text-classification", folder)`
    gives the model's own logits. labels: their names, in order, for the pipeline to show.

    Nothing is changed to make a model fit. Raises ValueError for what these classes cannot express, saying what can be
    done; for a tokenizer with more pieces than the word table has rows; and for labels that are not as many as the
    model's.
    """
    if type(model) not in _HEADS:
        raise ValueError(f"expected an Encoder, MaskedLM or SequenceClassifier, got {type(model).__name__}")
    family = _family(model)
    config = _config(model, family)
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the word table {model.config.vocab_size} rows"
        )
    if isinstance(model, SequenceClassifier):
        config |= _labels(model, labels)
    elif labels is not None:
        raise ValueError(f"labels are for a SequenceClassifier, got a {type(model).__name__}")
    with atomic_folder(Path(folder)) as part:
        write_json(part / "config.json", config)
        save_file(_tensors(model, family), part / "model.safetensors", metadata={"format": "pt"})
        if tokenizer is not None:
            _write_tokenizer(tokenizer, family, config, part)
    return Path(folder)


def _family(model: Model) -> str:
    """Which of "bert", "albert" and "distilbert" it becomes. Raises ValueError for a model that is none of them."""
    encoder = model if isinstance(model, Encoder) else model.encoder
    config, depths = encoder.config, encoder.config.num_layers
    narrow = config.embedding == "factorised"
    _require_plain(model)
    _require_whole(encoder)
    for wrong, what in (
        (config.embedding in ("linear", "safe"), f"a word table of kind {config.embedding!r}"),
        (config.positions != "learned", f"{config.positions} positions"),
        (config.norm_first, "LayerNorm before its part"),
        (config.inner_size is not None, "a middle of another width"),
        (narrow and _groups(config.plan) is None, "layers shared in another way than ALBERT's"),
        (not narrow and config.plan != SharingPlan.none(depths), "shared layers and a word table of full width"),
    ):
        if wrong:
            raise ValueError(f"transformers has no BERT, ALBERT or DistilBERT with {what}; {INSTEAD}")
    if narrow:
        family = "albert"
    else:
        bare = config.token_types == 0 and not config.pooler and config.layer_norm_eps == 1e-12
        family = "distilbert" if bare and config.activation in ("gelu", "relu") else "bert"
    if isinstance(model, SequenceClassifier) and model.dense is not None and family != "distilbert":
        raise ValueError(f"transformers has no {_CLASSES[family]} classifier without a pooler; {INSTEAD}")
    return family


def _require_plain(model: nn.Module) -> None:
    for path, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        known = not own or type(module) in (nn.Linear, nn.Embedding, nn.LayerNorm, MaskedLMHead)
        if way_back(module) or not known:
            raise ValueError(
                f"{path} is a {type(module).__name__}, and transformers has plain layers only: plain(model) folds it "
                f"back, or {INSTEAD}"
            )


def _require_whole(encoder: Encoder) -> None:
    """Heads as built, and equally many neurons in all layers."""
    first = encoder.layers[0].ffn.intermediate_size
    for number, layer in enumerate(encoder.layers):
        heads, size = layer.attention.num_heads, layer.ffn.intermediate_size
        if heads != encoder.config.num_heads:
            what = f"{heads} of {encoder.config.num_heads} heads"
            raise ValueError(f"layer {number} has {what}, and transformers keeps all of them; {INSTEAD}")
        if size != first:
            raise ValueError(
                f"layer {number} has {size} neurons and layer 0 {first}, where transformers has one number for all; "
                f"keep equally many in each, or {INSTEAD}"
            )


def _groups(plan: SharingPlan) -> tuple[int, int] | None:
    """ALBERT's (number of groups, layers in a group) that mean this plan; None if none do."""
    for inner in (size for size in range(1, len(plan) + 1) if len(plan) % size == 0):
        layers = len(plan) // inner
        for groups in range(1, layers + 1):
            blocks = [(layer * groups // layers) * inner + step for layer in range(layers) for step in range(inner)]
            if plan == SharingPlan.from_blocks(blocks, blocks, "shared"):
                return groups, inner
    return None


def _config(model: Model, family: str) -> dict[str, Any]:
    """Their config.json."""
    ours, encoder = model.config, model if isinstance(model, Encoder) else model.encoder
    common = {
        "architectures": [_CLASSES[family] + _HEADS[type(model)]],
        "model_type": family,
        "dtype": "float32",
        "vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.max_positions,
        "pad_token_id": ours.pad_id,
        "tie_word_embeddings": True,
    }
    sizes = (ours.hidden_size, ours.num_layers, ours.num_heads, encoder.layers[0].ffn.intermediate_size)
    if family == "distilbert":
        names = dict(zip(("dim", "n_layers", "n_heads", "hidden_dim"), sizes, strict=True))
        drop = dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), ours.dropout)
        return common | names | drop | {"activation": ACTIVATION_NAMES[ours.activation], "sinusoidal_pos_embds": False}
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    drop = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob", "classifier_dropout")
    theirs = common | dict(zip(names, sizes, strict=True)) | dict.fromkeys(drop, ours.dropout)
    theirs |= {
        "hidden_act": ACTIVATION_NAMES[ours.activation],
        "layer_norm_eps": ours.layer_norm_eps,
        "type_vocab_size": max(1, ours.token_types),
    }
    if family == "albert":
        groups, inner = _groups(ours.plan)
        theirs |= {"embedding_size": ours.embedding_size, "num_hidden_groups": groups, "inner_group_num": inner}
        theirs["num_hidden_layers"] = ours.num_layers // inner
    return theirs


def _labels(model: SequenceClassifier, labels: Sequence[str] | None) -> dict[str, Any]:
    names = list(labels) if labels is not None else [f"LABEL_{number}" for number in range(model.num_labels)]
    if len(set(names)) != model.num_labels or len(names) != model.num_labels:
        raise ValueError(f"the model has {model.num_labels} labels, their names are {names}")
    about = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    return about | ({"problem_type": "regression"} if model.num_labels == 1 else {})


def _tensors(model: Model, family: str) -> dict[str, Tensor]:
    """Their names → fp32 tensors, a shared one once."""
    tensors = {}
    for name, tensor in model.named_parameters():
        tensors[_theirs(name, family, model.config)] = tensor.detach().to("cpu", torch.float32).contiguous()
    if (
        model.config.token_types == 0 and family != "distilbert"
    ):  # they have types always; of zeros, one changes nothing
        prefix = "" if isinstance(model, Encoder) else f"{family}."
        width = model.config.embedding_size or model.config.hidden_size
        tensors[f"{prefix}embeddings.token_type_embeddings.weight"] = torch.zeros(1, width)
    return tensors


def _theirs(name: str, family: str, config: TransformerConfig) -> str:
    inside = name.startswith("encoder.")
    module, _, role = name.removeprefix("encoder.").rpartition(".")
    layer = re.match(r"layers\.(\d+)\.", module)
    place = _NAMES[family][module[layer.end() :] if layer else module]
    if layer:
        number = int(layer[1])
        if family == "albert":
            inner = _groups(config.plan)[1]
            place = place.format(*divmod(config.plan.attention[number], inner))
        else:
            place = place.format(number)
    return f"{family}.{place}.{role}" if inside else f"{place}.{role}"


def _write_tokenizer(tokenizer: Tokenizer, family: str, config: dict[str, Any], folder: Path) -> None:
    tokenizer.save(folder / "tokenizer.json")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "model_input_names": inputs if family != "distilbert" else [inputs[0], inputs[2]],
    }
    specials = {"pad": "pad_id", "mask": "mask_id", "cls": "cls_id", "sep": "sep_id", "unk": "unk_id"}
    pieces = tokenizer.tokens([getattr(tokenizer, attribute) for attribute in specials.values()])
    about |= {f"{name}_token": piece for name, piece in zip(specials, pieces, strict=True)}
    write_json(folder / "tokenizer_config.json", about)
