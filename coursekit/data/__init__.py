"""Real data: fetched and verified, split without leaks, tokenised, batched, stored memory-mapped."""

from coursekit.data.assets import assets, assets_folder, fetch, verify
from coursekit.data.batching import Batch, length_batches, pad
from coursekit.data.catalogue import Asset
from coursekit.data.corpora import Split, Task, load_task
from coursekit.data.packages import AssetError
from coursekit.data.store import TokenStore
from coursekit.data.tokenizer import Tokenizer

__all__ = [
    "Asset",
    "AssetError",
    "Batch",
    "Split",
    "Task",
    "TokenStore",
    "Tokenizer",
    "assets",
    "assets_folder",
    "fetch",
    "length_batches",
    "load_task",
    "pad",
    "verify",
]
