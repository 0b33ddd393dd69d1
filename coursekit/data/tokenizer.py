"""Text to ids and back, a thin layer over `tokenizers`: the encoder's own tokenizer, and one learned from text."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from coursekit.files import atomic_file
from coursekit.hub import checkpoint_folder

# Names of padding, mask, first token, separator and unknown piece: BERT's, then ALBERT's where it has another.
NAMES = (("[PAD]", "<pad>"), ("[MASK]",), ("[CLS]",), ("[SEP]",), ("[UNK]", "<unk>"))


class Tokenizer:
    """The tokenizer of a BERT, ALBERT or DistilBERT: a `tokenizer.json`, an older `vocab.txt`, a folder that holds
    one, or a name on the Hugging Face Hub.

    The file's own padding and truncation are switched off: `pad` pads, `max_length` truncates. A `vocab.txt` is
    WordPiece, lower-cased unless the `tokenizer_config.json` beside it says no.

    Attributes: `pad_id mask_id cls_id sep_id unk_id`; `special_ids`, all of them in order; `vocab_size`;
    `max_positions`, from the `config.json` beside the file, else 512. Raises FileNotFoundError if there is no
    such file, OSError for a name that cannot be fetched, ValueError if it is damaged or lacks one of [PAD] [MASK]
    [CLS] [SEP] [UNK] (ALBERT's <pad> and <unk> will do).
    """

    def __init__(self, folder_or_file: Path | str):
        path = checkpoint_folder(folder_or_file)
        file = path / "tokenizer.json" if path.is_dir() else path
        if path.is_dir() and not file.is_file() and (path / "vocab.txt").is_file():
            file = path / "vocab.txt"
        if not file.is_file():
            raise FileNotFoundError(
                f"no tokenizer at {file}: expected a tokenizer.json, a vocab.txt or a folder with one"
            )
        try:
            older = file.name == "vocab.txt"
            self._tokenizer = _wordpiece(file) if older else tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"{file} is not a tokenizer file: {error}") from error
        self._tokenizer.no_padding()
        ids = [[i for name in names if (i := self._tokenizer.token_to_id(name)) is not None] for names in NAMES]
        if missing := [names[0] for names, found in zip(NAMES, ids, strict=True) if not found]:
            raise ValueError(f"the tokenizer in {file} has no {' '.join(missing)}")
        self.pad_id, self.mask_id, self.cls_id, self.sep_id, self.unk_id = (found[0] for found in ids)
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = tuple(sorted(i for i, token in added.items() if token.special))
        self.vocab_size = self._tokenizer.get_vocab_size()
        config = file.with_name("config.json")
        about = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        self.max_positions = about.get("max_position_embeddings", 512)

    def encode(self, texts: Iterable[str], *, max_length: int | None = 512) -> list[list[int]]:
        """Ids of each text, [CLS] and [SEP] around it: one list per text, of different lengths.

        A text of more than `max_length` tokens loses its end; None keeps all of it, for storing documents
        that are cut later. Raises ValueError if a text is not a string, or if `max_length` is below 3 or
        above `max_positions`.
        """
        return [encoding.ids for encoding in self._encode(_strings(texts, "texts"), max_length)]

    def encode_pairs(
        self, first: Iterable[str], second: Iterable[str], *, max_length: int | None = 512
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Ids and token types of [CLS] first [SEP] second [SEP]; the type is 1 from the second text on.

        A pair that is too long loses tokens from the end of its longer text, one at a time. Raises ValueError
        as `encode`, and if there are not as many first as second texts.
        """
        first, second = _strings(first, "first"), _strings(second, "second")
        if len(first) != len(second):
            raise ValueError(f"pairs need as many second texts as first; got {len(first)} and {len(second)}")
        encodings = self._encode(list(zip(first, second, strict=True)), max_length)
        return [encoding.ids for encoding in encodings], [encoding.type_ids for encoding in encodings]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of one sequence of ids, without its special tokens unless asked to keep them."""
        return self._tokenizer.decode(self._valid(ids), skip_special_tokens=skip_special)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's piece for each id. Raises ValueError for an id outside the vocabulary."""
        return [self._tokenizer.id_to_token(i) for i in self._valid(ids)]

    def save(self, file: Path | str) -> None:
        """Write the tokenizer's file, whole or not at all, without truncation."""
        self._tokenizer.no_truncation()
        with atomic_file(Path(file)) as part:
            self._tokenizer.save(str(part))

    def _encode(self, inputs: list, max_length: int | None) -> list[tokenizers.Encoding]:
        if max_length is None:
            self._tokenizer.no_truncation()
        elif 3 <= max_length <= self.max_positions:
            self._tokenizer.enable_truncation(max_length)
        else:
            raise ValueError(f"max_length must be 3 to {self.max_positions} (the model's positions), got {max_length}")
        return self._tokenizer.encode_batch_fast(inputs)

    def _valid(self, ids: Sequence[int]) -> list[int]:
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"id {i} is outside the vocabulary of {self.vocab_size}")
        return ids


def _wordpiece(vocabulary: Path) -> tokenizers.Tokenizer:
    """BERT's tokenizer from one piece a line, cased and accented as the tokenizer_config.json beside it says."""
    pieces = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    config = vocabulary.with_name("tokenizer_config.json")
    about = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    tokenizer = tokenizers.BertWordPieceTokenizer(
        {piece: number for number, piece in enumerate(pieces)},
        lowercase=about.get("do_lower_case", True),
        strip_accents=about.get("strip_accents"),
        handle_chinese_chars=about.get("tokenize_chinese_chars", True),
    )
    return tokenizers.Tokenizer.from_str(tokenizer.to_str())


SPECIAL = ("[PAD]", "[START]", "[END]", "[UNK]")


class SubwordTokenizer:
    """Text to pieces and back, for sequence to sequence. Make one with `train_tokenizer`, or read a saved file.

    Attributes: `pad_id start_id end_id unk_id` (0 to 3) and `vocab_size`. Raises FileNotFoundError for no such file,
    ValueError for a damaged or another one.
    """

    pad_id, start_id, end_id, unk_id = range(4)

    def __init__(self, file: Path | str) -> None:
        file = Path(file)
        if not file.is_file():
            raise FileNotFoundError(f"no tokenizer at {file}")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"{file} is not a tokenizer file: {error}") from error
        if tuple(map(self._tokenizer.id_to_token, range(4))) != SPECIAL:
            raise ValueError(
                f"{file} is not a tokenizer of train_tokenizer: it does not begin with {' '.join(SPECIAL)}"
            )

    @property
    def vocab_size(self) -> int:
        """Number of pieces, special ones included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text, [END] after it: so an empty text has one token, not none."""
        encodings = self._tokenizer.encode_batch_fast(_strings(texts, "texts"))
        return [[*encoding.ids, self.end_id] for encoding in encodings]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Texts of sequences of ids, without special pieces. Raises ValueError for an id outside the vocabulary."""
        sequences = [list(map(int, sequence)) for sequence in ids]
        for i in (i for sequence in sequences for i in sequence):
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"id {i} is outside the vocabulary of {self.vocab_size}")
        return [text.strip() for text in self._tokenizer.decode_batch(sequences)]

    def save(self, file: Path | str) -> None:
        """Write the tokenizer, whole or not at all."""
        with atomic_file(Path(file)) as part:
            self._tokenizer.save(str(part))


def train_tokenizer(texts: Iterable[str], vocab_size: int, file: Path | str) -> SubwordTokenizer:
    """Learn at most `vocab_size` pieces, the four special ones included, and keep them in `file`.

    Byte-pair encoding inside words (Sennrich et al. 2016); a piece keeps the space before it, so decoding gives the
    text back. The same texts give the same pieces. Raises ValueError for no text, or a vocabulary too small for the
    characters of the texts.
    """
    texts = _strings(texts, "texts")
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if not (least := len(SPECIAL)) < tokenizer.get_vocab_size() <= vocab_size:
        raise ValueError(
            f"a vocabulary of {vocab_size} cannot hold {least} special pieces and the characters of {len(texts)} texts"
        )
    with atomic_file(Path(file)) as part:
        tokenizer.save(str(part))
    return SubwordTokenizer(file)


BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(texts: Iterable[str], vocab_size: int, file: Path | str) -> Tokenizer:
    """Learn at most `vocab_size` pieces for a masked LM, BERT's special ones included, and keep them in `file`.

    WordPiece over lower-cased words (Devlin et al. 2019). The same texts give the same pieces. Raises ValueError for no
    text, or a vocabulary too small for the characters of the texts.
    """
    texts, learner = _strings(texts, "texts"), tokenizers.BertWordPieceTokenizer(lowercase=True)
    words = {
        word
        for text in texts
        for word, _ in learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(text))
    }
    # The library numbers the inner characters in an order that changes from run to run, unless they are given.
    inner = sorted({f"##{character}" for word in words for character in word[1:]})
    learner.train_from_iterator(texts, vocab_size, special_tokens=[*BERT_SPECIAL, *inner], show_progress=False)
    pieces = learner.get_vocab()
    if not texts or len(pieces) > vocab_size:
        raise ValueError(f"a vocabulary of {vocab_size} cannot hold the characters of {len(texts)} texts")
    with atomic_file(
        Path(file)
    ) as part:  # made again from the pieces: a trained one lacks [CLS] and [SEP] around texts
        tokenizers.BertWordPieceTokenizer(pieces, lowercase=True).save(str(part))
    return Tokenizer(file)


def _strings(texts: Iterable[str], name: str) -> list[str]:
    if isinstance(texts, str):
        raise ValueError(f"{name} must be a list of strings, got one string; write [text]")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}[{index}] must be a string, got {type(text).__name__}")
    return texts
