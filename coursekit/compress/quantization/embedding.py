"""An embedding table kept in codes: looked up in codes, and the same codes on the output side."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from coursekit.compress.quantization.affine import QuantizedTensor
from coursekit.compress.quantization.packing import pack, unpack


class QuantizedEmbedding(nn.Module):
    """V vectors of width E as codes of `bits` bits (8, 4 or 2) with one scale per row, or per group of its entries.

    A lookup dequantizes the rows asked for. `weight` (V, E) is the whole table after quantization: a masked LM scores
    with it (`Embeddings.decode`), so a tie stays one, and the table is not stored twice.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, bits: int = 8, groups: int = 1) -> None:
        super().__init__()
        if embedding_dim * bits % 8:
            raise ValueError(f"rows of {embedding_dim} codes of {bits} bits do not fill whole bytes")
        self.num_embeddings, self.embedding_dim, self.bits = num_embeddings, embedding_dim, bits
        self.register_buffer("packed", torch.zeros(num_embeddings, embedding_dim * bits // 8, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(num_embeddings, groups))

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding, quantized: QuantizedTensor, bits: int) -> Self:
        """The layer for a table and its symmetric codes, with scales (V, 1) or (V, groups)."""
        with torch.device("meta"):
            layer = cls(*embedding.weight.shape, bits, quantized.scale.shape[-1])
        layer.packed = pack(quantized.codes, bits).view(len(quantized.codes), -1)
        layer.scale = quantized.scale.detach()
        return layer.train(embedding.training)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        names = ("num_embeddings", "embedding_dim", "bits")
        return {name: getattr(self, name) for name in names} | {"groups": self.scale.shape[-1]}

    @property
    def weight(self) -> Tensor:
        """The table (V, E) after quantization."""
        return self._rows(self.packed, self.scale)

    @property
    def what(self) -> str:
        """Kind of codes and scales."""
        groups = self.scale.shape[-1]
        kind = "per row" if groups == 1 else f"in groups of {self.embedding_dim // groups}"
        return f"int{self.bits} {kind}"

    def forward(self, input_ids: Tensor) -> Tensor:
        """(…) integers → (…, E)."""
        rows = self._rows(self.packed[input_ids.flatten()], self.scale[input_ids.flatten()])
        return rows.view(*input_ids.shape, self.embedding_dim)

    def _rows(self, packed: Tensor, scale: Tensor) -> Tensor:
        codes = unpack(packed, len(packed) * self.embedding_dim, self.bits).view(len(packed), self.embedding_dim)
        return QuantizedTensor(codes, scale, torch.zeros_like(scale, dtype=torch.int32)).dequantize()

    @torch.no_grad()
    def dequantize(self) -> nn.Embedding:
        """A plain table with the vectors after quantization."""
        return nn.Embedding.from_pretrained(self.weight, freeze=False).train(self.training)

    def logical_parameters(self) -> int:
        """V·E."""
        return self.num_embeddings * self.embedding_dim

    def extra_repr(self) -> str:
        """Shape and kind."""
        return f"{self.num_embeddings}, {self.embedding_dim}, {self.what}"
