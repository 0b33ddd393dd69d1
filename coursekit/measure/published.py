"""Parameter totals as papers print them, to stand beside what is counted. Published, not measured here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A printed total, where it is printed, and what it counts (or seems to, from the exact counts)."""

    total: str
    source: str
    counts: str


_BERT = "BERT (Devlin et al. 2019), section 3"
_ALBERT = "ALBERT (Lan et al. 2020), Table 1"
_TINYBERT = "TinyBERT (Jiao et al. 2020), Table 1"
_MINILM = "MiniLM (Wang et al. 2020), Table 8"
_SUBFORMER = "Subformer (Reid et al. 2021), WMT'14 En-De results"
_TRANSLATION = "both stacks, one 32,768-piece table tied three ways, no weights for positions"

PUBLISHED = {
    "bert-base": Published("110M", _BERT, "with pooler; other papers print 108M and 109M for the same model"),
    "bert-large": Published("340M", _BERT, "not reproduced: 335M with pooler; ALBERT's Table 1 prints 334M"),
    "albert-base": Published("12M", _ALBERT, "with pooler"),
    "albert-large": Published("18M", _ALBERT, "with pooler"),
    "albert-xlarge": Published(
        "60M", _ALBERT, "not reproduced: 58.7M with pooler, 59.0M with the pre-training heads too"
    ),
    "albert-xxlarge": Published("235M", _ALBERT, "not reproduced: 223M with pooler; the paper's text says 233M"),
    "distilbert-base": Published("66M", "DistilBERT (Sanh et al. 2019), Table 3", "no pooler, no token types"),
    "tinybert-4": Published(
        "14.5M", _TINYBERT, "not reproduced: 14.35M with pooler, 14.48M with the pre-training heads too"
    ),
    "tinybert-6": Published("67.0M", _TINYBERT, "with pooler"),
    "minilm-l12-h384": Published("33M", _MINILM, "with or without pooler"),
    "minilm-l6-h384": Published("22M", _MINILM, "22.6M without pooler, cut rather than rounded"),
    "subformer-small": Published("38M", _SUBFORMER, f"{_TRANSLATION}; cut rather than rounded"),
    "subformer-base": Published("52M", _SUBFORMER, _TRANSLATION),
    "subformer-mid": Published("63M", _SUBFORMER, _TRANSLATION),
    "subformer-large": Published("197M", _SUBFORMER, _TRANSLATION),
    "transformer-base": Published("61M", _SUBFORMER, f"{_TRANSLATION}; Vaswani et al. print 65M"),
    "transformer-big": Published("210M", _SUBFORMER, f"{_TRANSLATION}; Vaswani et al. print 213M"),
}
