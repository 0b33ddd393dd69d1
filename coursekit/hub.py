"""Checkpoints by the name they have on the Hugging Face Hub."""

import re
from pathlib import Path

FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "tokenizer_config.json")
OLDER_WEIGHTS = "pytorch_model.bin"
NAME = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"  # bert-base-uncased, google-bert/bert-base-uncased


def checkpoint_folder(source: Path | str) -> Path:
    """The folder or file itself; for a name without one here, the folder with that checkpoint of the Hub.

    Only config, weights and tokenizer are fetched, once; afterwards they are in the Hub's own cache. Raises OSError
    where they cannot be had.
    """
    named = isinstance(source, str) and re.fullmatch(NAME, source) and not source.endswith((".json", ".txt"))
    if not named or Path(source).exists():
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
            "offline, give a folder with config.json, model.safetensors and tokenizer.json or vocab.txt"
        ) from None
    return folder
