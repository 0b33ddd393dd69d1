"""The two public siblings of the course's encoder, made to work: one as our model, one as it is in ONNX Runtime."""

import re
from typing import Any

import torch
from torch import Tensor

from coursekit.data import fetch
from coursekit.export.graph import onnx
from coursekit.files import atomic_folder, cache_folder, write_json
from coursekit.models import Encoder, from_huggingface
from coursekit.train import pretrained_encoder

_PREFIX = "model.0.auto_model."


def three_layers() -> Encoder:
    """The sibling of three layers, with the published weights, no pooler and dropout off."""
    from safetensors.torch import save_file

    folder = cache_folder() / "studies" / "leaderboard" / "minilm-3-layers"
    if not folder.is_dir():
        tensors = _weights(onnx().load(str(fetch("minilm-3-layers") / "model.onnx")))
        with atomic_folder(folder) as part:
            write_json(part / "config.json", _config())
            save_file(tensors, part / "model.safetensors")
    published = from_huggingface(folder)
    encoder = Encoder(published.config.replace(dropout=0.0))
    encoder.load_state_dict(published.state_dict())
    return encoder.eval()


def _config() -> dict[str, Any]:
    """The encoder's own, three layers deep."""
    ours = pretrained_encoder().config
    return {
        "model_type": "bert",
        "vocab_size": ours.vocab_size,
        "hidden_size": ours.hidden_size,
        "num_hidden_layers": 3,
        "num_attention_heads": ours.num_heads,
        "intermediate_size": ours.intermediate_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "layer_norm_eps": ours.layer_norm_eps,
        "max_position_embeddings": ours.max_positions,
        "type_vocab_size": ours.token_types,
        "pad_token_id": ours.pad_id,
    }


def _weights(model: Any) -> dict[str, Tensor]:
    """Hugging Face names → tensors. Matrices are stored transposed, under numbers; the products tell whose they are."""
    to_array = onnx().numpy_helper.to_array
    arrays = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    tensors = {name.removeprefix(_PREFIX): value for name, value in arrays.items() if name.startswith(_PREFIX)}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            path = re.search(r"encoder/layer.*(?=/MatMul)", node.name)[0].replace("/", ".")
            tensors[f"{path}.weight"] = arrays[node.input[1]].T
    return {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}


class Int8Sibling:
    """The six layers in int8 as others made them, run by ONNX Runtime on one thread."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.file = fetch("minilm-int8") / "model.onnx"
        self.session = onnxruntime.InferenceSession(
            str(self.file), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Last states (B, T, H)."""
        feed = {
            "input_ids": input_ids.numpy(),
            "attention_mask": attention_mask.long().numpy(),
            "token_type_ids": torch.zeros_like(input_ids).numpy(),
        }
        return torch.from_numpy(self.session.run(["last_hidden_state"], feed)[0])
