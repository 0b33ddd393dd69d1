"""The words a task never uses, taken out of the word table, the output bias and the tokenizer."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.compress.checks import check_finite
from coursekit.compress.pruning.structured import Model, encoder_of, rows_of, set_config
from coursekit.data import Tokenizer
from coursekit.files import atomic_file
from coursekit.models import MaskedLM


def task_vocabulary(tokenizer: Tokenizer, sequences: Iterable[Sequence[int]]) -> list[int]:
    """Rising ids of every piece that occurs in the sequences, and of all special tokens.

    Choose on training texts: the test set is not known beforehand either.
    """
    return sorted({*tokenizer.special_ids}.union(*sequences))


def prune_vocabulary(model: Model, tokenizer: Tokenizer, keep: Iterable[int]) -> Tensor:
    """Keep only some rows of the word table, in place, and the tokenizer's special tokens in any case.

    A masked LM loses the same entries of its output bias; give the whole model, not its encoder. Returns the id map
    (V,): `id_map[old]` is the new id, −1 where the piece is gone. New ids follow the order of the old ones. Kept
    pieces mean what they meant: same outputs (Abdaoui et al. 2020, section 3). Raises ValueError for an id outside the
    vocabulary, a tokenizer with more pieces than the model has rows, a word table that is no plain embedding, or
    weights that are NaN or infinite.
    """
    encoder = encoder_of(model)
    config, word = encoder.config, encoder.embeddings.word
    if type(word) is not nn.Embedding:
        raise ValueError(f"the word table is a {type(word).__name__}; prune the vocabulary first")
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"the tokenizer has {tokenizer.vocab_size} pieces, the word table {config.vocab_size} rows")
    kept = sorted({*map(int, keep), *tokenizer.special_ids, config.pad_id})
    for number in (kept[0], kept[-1]):
        if not 0 <= number < config.vocab_size:
            raise ValueError(f"id {number} is outside the vocabulary of {config.vocab_size}")
    check_finite(model)
    id_map = torch.full((config.vocab_size,), -1)
    id_map[kept] = torch.arange(len(kept))
    word.weight = rows_of(word.weight, kept)
    word.num_embeddings = len(kept)
    if isinstance(model, MaskedLM):
        model.head.bias = rows_of(model.head.bias, kept)
    set_config(encoder, config.replace(vocab_size=len(kept), pad_id=int(id_map[config.pad_id])))
    return id_map


def prune_tokenizer(source: Path | str, id_map: Tensor, target: Path | str) -> Tokenizer:
    """Write the tokenizer of `source` with only the kept pieces under their new ids to the file `target`, and read it.

    source: a `tokenizer.json` or a folder that holds one. Texts made of kept pieces are cut as before; of another
    word, the longest kept pieces are taken, or [UNK] where there are none. Raises ValueError for a tokenizer that is
    not WordPiece, has more pieces than the map, or would lose a special token.
    """
    original = Tokenizer(source)
    path = Path(source) / "tokenizer.json" if Path(source).is_dir() else Path(source)
    content = json.loads(path.read_text(encoding="utf-8"))
    if (kind := content["model"]["type"]) != "WordPiece":
        raise ValueError(f"only a WordPiece tokenizer can lose pieces, {path} is {kind}")
    if original.vocab_size > len(id_map):
        raise ValueError(f"the id map has {len(id_map)} entries, the tokenizer {original.vocab_size} pieces")
    new = id_map.tolist()
    if lost := [number for number in original.special_ids if new[number] < 0]:
        raise ValueError(f"the id map drops special tokens {original.tokens(lost)}")
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {piece: new[old] for piece, old in vocabulary.items() if new[old] >= 0}
    content["added_tokens"] = [
        token | {"id": new[token["id"]]} for token in content["added_tokens"] if new[token["id"]] >= 0
    ]
    _renumber(content["post_processor"], new)
    with atomic_file(Path(target)) as part:
        part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    pruned = Tokenizer(target)
    pruned.max_positions = original.max_positions  # known from the config beside the source, not from the file
    return pruned


def _renumber(processor: dict[str, Any] | None, new: list[int]) -> None:
    """Change the ids of the tokens that are put around a text: in a template, BERT's own form, or several."""
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _renumber(part, new)
    for name in ("cls", "sep"):
        if name in processor:
            piece, old = processor[name]
            processor[name] = [piece, new[old]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[old] for old in token["ids"]]
