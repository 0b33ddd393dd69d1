"""A word table as two factors, its tie to an output layer kept."""

import copy

import torch
from torch import Tensor, nn

from coursekit.compress.lowrank.factors import check_rank, check_weight
from coursekit.models import Encoder


@torch.no_grad()
def factorize_embeddings(encoder: Encoder, rank: int, weights: Tensor | None = None) -> Encoder:
    """A copy of `encoder` whose V×H word table W is stored as V×E and E×H, with E = `rank`; the rest is unchanged.

    Among all tables of that rank, the product has the smallest squared error Σᵢ weights[i]·‖Wᵢ − Ŵᵢ‖². Without
    `weights` every word counts the same and the error is the tail of the spectrum (Eckart–Young); with `weights` (V,),
    for instance how often a task uses each word, rare words pay for frequent ones. Positions, token types and
    LayerNorm stay at H, so at rank = H the outputs are the same. The map starts with orthonormal columns.

    Raises ValueError unless the table is whole ("full") and finite, rank an integer with 1 ≤ rank ≤ min(V, H), and
    `weights`, if given, are V finite numbers of which none is negative and one is positive.
    """
    config = encoder.config
    if config.embedding != "full":
        raise ValueError(f"the word table is already {config.embedding!r}; expected embedding 'full'")
    old = encoder.embeddings.word.weight
    check_weight(old, "the word table")
    check_rank(rank, old.shape)
    table = old.double()
    basis = _leading_directions(table, rank, weights)  # (H, E)

    narrow = copy.deepcopy(encoder)  # keeps what is shared shared, and whatever else was changed in the encoder
    narrow.config = narrow.embeddings.config = config.replace(embedding="linear", embedding_size=rank)
    narrow.embeddings.word = nn.Embedding.from_pretrained((table @ basis).to(old), freeze=not old.requires_grad)
    linear = nn.utils.skip_init(nn.Linear, rank, config.hidden_size, bias=False)  # no random numbers are drawn
    linear.weight.copy_(basis)  # nn.Linear stores out × in = H × E
    narrow.embeddings.map = linear.to(old)
    return narrow.train(encoder.training)


def _leading_directions(table: Tensor, rank: int, weights: Tensor | None) -> Tensor:
    """(H, rank) first right singular vectors of √weights·table, as eigenvectors of its small H×H Gram matrix."""
    if weights is None:
        gram = table.T @ table
    else:
        weights = weights.to(table)
        if weights.shape != table.shape[:1]:
            raise ValueError(f"weights must be one number per word, ({len(table)},), got {tuple(weights.shape)}")
        if not (weights.isfinite().all() and (weights >= 0).all() and weights.any()):
            raise ValueError("weights must be finite, none negative and at least one positive")
        gram = table.T @ (weights[:, None] * table)
    values, vectors = torch.linalg.eigh(gram)  # ascending
    return vectors.flip(-1)[:, :rank]
