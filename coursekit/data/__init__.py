"""Real data: fetched and verified, split without leaks, tokenised, batched, stored memory-mapped."""

from coursekit.data.assets import assets, assets_folder, fetch, find_asset, verify
from coursekit.data.augment import (
    STOP_WORDS,
    MaskedLMProposer,
    NeighbourProposer,
    TinyBERTProposer,
    augment,
    augment_task,
    augment_texts,
)
from coursekit.data.batching import Batch, length_batches, pad
from coursekit.data.catalogue import Asset
from coursekit.data.corpora import Split, Task, load_task
from coursekit.data.documents import Documents, load_documents, split_documents, split_sentences
from coursekit.data.glue import GLUE, glue_task
from coursekit.data.masking import IGNORED, mask_tokens, whole_word_mask
from coursekit.data.packages import AssetError
from coursekit.data.pairs import SentencePair, nsp_pairs, sop_pairs
from coursekit.data.reactions import REACTIONS, ReactionTokenizer, mask_each
from coursekit.data.store import TokenStore
from coursekit.data.tables import csv_task
from coursekit.data.tokenizer import SubwordTokenizer, Tokenizer, train_tokenizer, train_wordpiece
from coursekit.data.translation import Pairs, Translation, load_translation, without_brackets

__all__ = [
    "Asset",
    "AssetError",
    "Batch",
    "Documents",
    "GLUE",
    "IGNORED",
    "MaskedLMProposer",
    "NeighbourProposer",
    "Pairs",
    "REACTIONS",
    "ReactionTokenizer",
    "STOP_WORDS",
    "SentencePair",
    "Split",
    "SubwordTokenizer",
    "Task",
    "TinyBERTProposer",
    "TokenStore",
    "Tokenizer",
    "Translation",
    "assets",
    "assets_folder",
    "augment",
    "augment_task",
    "augment_texts",
    "csv_task",
    "fetch",
    "find_asset",
    "glue_task",
    "length_batches",
    "load_documents",
    "load_task",
    "load_translation",
    "mask_each",
    "mask_tokens",
    "nsp_pairs",
    "pad",
    "sop_pairs",
    "split_documents",
    "split_sentences",
    "train_tokenizer",
    "train_wordpiece",
    "verify",
    "whole_word_mask",
    "without_brackets",
]
