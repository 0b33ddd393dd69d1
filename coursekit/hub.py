"""Checkpoints by the name they have on the Hugging Face Hub."""

import re
from pathlib import Path

FILES = ("config.json", "model.safetensors", "tokenizer.json")
OLDER_WEIGHTS = "pytorch_model.bin"
NAME = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"  # bert-base-uncased, google-bert/bert-base-uncased


def checkpoint_folder(source: Path | str) -> Path:
    """The folder or file itself; for a name without one here, the folder with that checkpoint of the Hub.

    Only config, weights and tokenizer are fetched, once; afterwards they are in the Hub's own cache. Raises OSError
    where they cannot be had.
    """
    if isinstance(source, Path) or Path(source).exists() or not re.fullmatch(NAME, source) or source.endswith(".json"):
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source, allow_patterns=FILES))
        if not (folder / "model.safetensors").is_file():
            folder = Path(snapshot_download(source, allow_patterns=[*FILES, OLDER_WEIGHTS]))
    except Exception as error:  # of many kinds: the connection's, the hub's, the disk's
        why = " ".join(str(error).split())
        raise OSError(
            f"no folder {source}, and no such checkpoint could be fetched from the Hugging Face Hub ({why[:160]}); "
            "offline, give a folder with config.json, model.safetensors and tokenizer.json"
        ) from None
    return folder
