"""Low rank: one matrix kept as a product of two smaller ones."""

import torch

from coursekit.models import Encoder


@torch.no_grad()
def factorize_embeddings(encoder: Encoder, rank: int) -> Encoder:
    """A copy of `encoder` whose V×H word table is its best rank-`rank` approximation, stored as V×E and E×H.

    By Eckart–Young the truncated SVD W ≈ (U√S)(√S Vᵀ) has the smallest Frobenius error of its rank. Positions,
    token types and LayerNorm stay at H, so at rank = H the outputs are unchanged. Raises ValueError unless the
    table is whole ("full") and 1 ≤ rank ≤ H.
    """
    config = encoder.config
    if config.embedding != "full":
        raise ValueError(f"the word table is already {config.embedding!r}; expected embedding 'full'")
    if not 1 <= rank <= config.hidden_size:
        raise ValueError(f"rank must lie between 1 and hidden_size {config.hidden_size}, got {rank}")
    narrow = Encoder(config.replace(embedding="linear", embedding_size=rank))
    tensors = encoder.state_dict()
    left, singular, right = torch.linalg.svd(tensors.pop("embeddings.word.weight").double(), full_matrices=False)
    root = singular[:rank].sqrt()
    tensors["embeddings.word.weight"] = left[:, :rank] * root  # (V, E)
    tensors["embeddings.map.weight"] = (root[:, None] * right[:rank]).T  # (H, E): nn.Linear stores out × in
    narrow.load_state_dict(tensors)
    return narrow.to(encoder.embeddings.word.weight).train(encoder.training)
