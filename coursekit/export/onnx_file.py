"""Our models as ONNX files: one graph, read by ONNX Runtime on every platform, without PyTorch."""

from pathlib import Path

import torch
from torch import nn

from coursekit.export.graph import Graph, onnx
from coursekit.export.layers import activation, layer_norm, linear, lookup, scores
from coursekit.models import Attention, Embeddings, Encoder, FeedForward, Layer, MaskedLM, SequenceClassifier
from coursekit.models.embeddings import SelfAttentiveMap, sinusoids
from coursekit.models.layers import Projection


def to_onnx(model: Encoder | MaskedLM | SequenceClassifier, file: Path | str) -> Path:
    """Write the model as one ONNX file, whole or not at all; returns its path.

    Inputs are input_ids, attention_mask (1 on real tokens) and, where the model has types, token_type_ids: (B, T)
    64-bit integers of any B and T. Outputs are logits; of an `Encoder` last_hidden_state (B, T, H) and, with a pooler,
    pooler_output (B, H). Numbers are fp32, whatever the model's. Low-rank, pruned and quantized models are written as
    they are: two small products, smaller products, products of integers. A shared layer is written once, so the file is
    as small as the model. (`torch.onnx.export` writes a transposed copy of it for each depth.)

    Outputs are equal to rounding. Where inputs are rounded to codes, a last bit can move a code, so that single outputs
    differ as much as those of the model itself in another batch: on 16 reviews 0.009 at most and 4e-7 in the middle,
    where int8 itself is off by 0.10 and 0.007. On x86 processors without VNNI or AMX, ONNX Runtime may saturate sums of
    two integer products in 16 bits. Raises ValueError for a model or layer that cannot be written and for more than
    2 GiB of weights, RuntimeError without the package onnx.
    """
    if type(model) not in (Encoder, MaskedLM, SequenceClassifier):
        raise ValueError(f"expected an Encoder, MaskedLM or SequenceClassifier, got {type(model).__name__}")
    g, encoder = Graph(model), model if isinstance(model, Encoder) else model.encoder
    inputs = ["input_ids", "attention_mask", "token_type_ids"][: 2 + bool(encoder.config.token_types)]
    x = _encoder(g, encoder)
    if isinstance(model, MaskedLM):
        outputs = _masked_lm(g, model, x)
    elif isinstance(model, SequenceClassifier):
        outputs = _classifier(g, model, x)
    else:
        outputs = {g.add("Identity", x, name="last_hidden_state"): ["batch", "length", encoder.config.hidden_size]}
        if encoder.pooler is not None:
            outputs[_pooled(g, encoder, x, name="pooler_output")] = ["batch", encoder.pooler.out_features]
    g.write(Path(file), inputs, outputs)
    return Path(file)


def _encoder(g: Graph, encoder: Encoder) -> str:
    """(B, T, H) after the last layer."""
    mask = _mask(g)
    x = _embeddings(g, encoder.embeddings, mask)
    for layer in encoder.layers:
        x = _layer(g, layer, x, mask)
    return x if encoder.norm is None else layer_norm(g, encoder.norm, x)


def _mask(g: Graph) -> str:
    """(B, 1, 1, T): 0 where a key may be seen and −∞ elsewhere; a row without real tokens sees all its positions."""
    types, last = onnx().TensorProto, g.number([1], "int64")
    nothing = g.add("Equal", g.add("ReduceMax", "attention_mask", last, keepdims=1), g.number(0, "int64"))
    seen = g.add("Or", g.add("Cast", "attention_mask", to=types.BOOL), nothing)
    return g.add("Unsqueeze", g.add("Where", seen, g.number(0), g.number(-torch.inf)), g.number([1, 2], "int64"))


def _embeddings(g: Graph, module: Embeddings, mask: str) -> str:
    kind, x = module.config.embedding, lookup(g, module.word, "input_ids")
    if kind == "linear":
        x = linear(g, module.map, x)
    if module.position is None:
        x = g.add("Mul", x, g.number(module.sum_size**0.5))
        like = module.word.weight if isinstance(module.word, nn.Embedding) else module.word.scale
        table = g.weight(module, "sinusoids", lambda: sinusoids(0, module.config.max_positions, module.sum_size, like))
    else:
        table = g.weight(module.position, "weight", lambda: module.position.weight.float())
    length = g.add("Shape", "input_ids", start=1, end=2)
    x = g.add("Add", x, g.add("Slice", table, g.number([0], "int64"), length))
    if module.token_type is not None:
        x = g.add("Add", x, lookup(g, module.token_type, "token_type_ids"))
    x = x if module.norm is None else layer_norm(g, module.norm, x)
    if kind == "factorised":
        return linear(g, module.map, x)
    return _self_attentive(g, module.map, x, mask) if kind == "safe" else x


def _self_attentive(g: Graph, module: SelfAttentiveMap, x: str, mask: str) -> str:
    x = layer_norm(g, module.attention_norm, g.add("Add", x, _attention(g, module.attention, x, mask)))
    return layer_norm(g, module.norm, linear(g, module.down, g.add("Relu", linear(g, module.up, x))))


def _layer(g: Graph, layer: Layer, x: str, mask: str) -> str:
    """A depth: two parts, each with a residual sum, and its LayerNorm before or after."""
    x = x if layer.enter is None else _projection(g, layer.enter, x)
    for part, norm in ((layer.attention, layer.attention_norm), (layer.ffn, layer.ffn_norm)):
        told = layer_norm(g, norm, x) if layer.norm_first else x
        change = _attention(g, part, told, mask) if part is layer.attention else _feed_forward(g, part, told)
        x = g.add("Add", x, change)
        x = x if layer.norm_first else layer_norm(g, norm, x)
    return x


def _projection(g: Graph, module: Projection, x: str) -> str:
    return layer_norm(g, module.norm, linear(g, module.map, x))


def _attention(g: Graph, module: Attention, x: str, mask: str) -> str:
    """softmax(QKᵀ/√d + mask)V per head; 0 in a shape keeps that axis."""
    heads = g.number([0, 0, module.num_heads, module.head_size], "int64")

    def split(part: nn.Module, order: list[int]) -> str:
        return g.add("Transpose", g.add("Reshape", linear(g, part, x), heads), perm=order)

    query, key = split(module.query, [0, 2, 1, 3]), split(module.key, [0, 2, 3, 1])  # (B, A, T, d), (B, A, d, T)
    scaled = g.add("Mul", g.add("MatMul", query, key), g.number(module.head_size**-0.5))
    probs = g.add("Softmax", g.add("Add", scaled, mask), axis=-1)
    context = g.add("Transpose", g.add("MatMul", probs, split(module.value, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    return linear(g, module.output, g.add("Reshape", context, g.number([0, 0, -1], "int64")))


def _feed_forward(g: Graph, module: FeedForward, x: str) -> str:
    return linear(g, module.down, activation(g, module.activation, linear(g, module.up, x)))


def _pooled(g: Graph, encoder: Encoder, x: str, name: str | None = None) -> str:
    return g.add("Tanh", linear(g, encoder.pooler, _first(g, x)), name=name)


def _first(g: Graph, x: str) -> str:
    """The state (B, H) of the first token."""
    return g.add("Gather", x, g.number(0, "int64"), axis=1)


def _classifier(g: Graph, model: SequenceClassifier, x: str) -> dict[str, list[str | int]]:
    if model.dense is None:
        pooled = _pooled(g, model.encoder, x)
    else:
        pooled = g.add("Relu", linear(g, model.dense, _first(g, x)))
    return {g.add("Identity", linear(g, model.classifier, pooled), name="logits"): ["batch", model.num_labels]}


def _masked_lm(g: Graph, model: MaskedLM, x: str) -> dict[str, list[str | int]]:
    head, embeddings = model.head, model.encoder.embeddings
    x = layer_norm(g, head.norm, activation(g, head.activation, linear(g, head.dense, x)))
    if embeddings.config.embedding == "linear":  # (…, H) @ (H, E): the transpose of the input map
        x = g.add("MatMul", x, g.weight(embeddings.map, "weight", lambda: embeddings.map.weight.float()))
    bias = g.weight(head, "bias", lambda: head.bias.float())
    logits = g.add("Add", scores(g, embeddings.word, x), bias, name="logits")
    return {logits: ["batch", "length", model.config.vocab_size]}
