"""Making a trained model smaller: so far, its word table as two low-rank factors."""

from coursekit.compress.lowrank import factorize_embeddings

__all__ = ["factorize_embeddings"]
