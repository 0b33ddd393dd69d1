"""Our encoder and heads against Hugging Face's, on tiny random weights: every output equal to 1e-5."""

import pytest
import torch

from coursekit.models import Capture, from_huggingface, load, save

transformers = pytest.importorskip("transformers")

BERT = dict(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=32,
)
ALBERT = BERT | dict(embedding_size=8, num_hidden_layers=4)
DISTILBERT = dict(vocab_size=50, dim=24, n_layers=3, n_heads=4, hidden_dim=40, max_position_embeddings=32)

CASES = {
    "bert": ("Bert", BERT),
    "bert, tanh gelu, wide epsilon": ("Bert", BERT | dict(hidden_act="gelu_new", layer_norm_eps=1e-5)),
    "bert, relu, three types": ("Bert", BERT | dict(hidden_act="relu", type_vocab_size=3)),
    "bert, silu, one head": ("Bert", BERT | dict(hidden_act="silu", num_attention_heads=1)),
    "albert": ("Albert", ALBERT),
    "albert, two groups": ("Albert", ALBERT | dict(num_hidden_groups=2)),
    "albert, two inner layers": ("Albert", ALBERT | dict(num_hidden_groups=2, inner_group_num=2)),
    "albert, E = H": ("Albert", ALBERT | dict(embedding_size=24, hidden_act="gelu", layer_norm_eps=1e-6)),
    "distilbert": ("DistilBert", DISTILBERT),
    "distilbert, relu": ("DistilBert", DISTILBERT | dict(activation="relu")),
}


def make(family: str, head: str, values: dict) -> torch.nn.Module:
    """A Hugging Face model with large random weights, so that a swapped or missing one is seen."""
    config = getattr(transformers, f"{family}Config")(**values, num_labels=3, attn_implementation="eager")
    model = getattr(transformers, f"{family}{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def inputs(family: str) -> dict[str, torch.Tensor]:
    """Two rows, the second padded, with token types where the family has them."""
    ids = torch.randint(1, 50, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    return given if family == "DistilBert" else given | {"token_type_ids": (torch.arange(9) > 3).long().expand(2, 9)}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_inner_states(name: str) -> None:
    """Last hidden state, every hidden state, every attention map and the pooled state agree."""
    family, values = CASES[name]
    theirs, given = make(family, "Model", values), inputs(family)
    expected = theirs(**given, output_hidden_states=True, output_attentions=True)
    got = from_huggingface(theirs)(**given, capture=Capture.all())
    real = given["attention_mask"].bool()
    torch.testing.assert_close(got.last_hidden[real], expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    assert len(got.hidden) == len(expected.hidden_states)
    for ours, other in zip(got.hidden, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours[real], other[real], atol=1e-5, rtol=1e-5)
    for ours, other in zip(got.probs, expected.attentions, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)
    if family == "DistilBert":
        assert got.pooled is None
    else:
        torch.testing.assert_close(got.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
@torch.no_grad()
def test_heads(name: str, head: str, tmp_path) -> None:
    """Logits and parameter counts agree, fused path included, and again after saving and loading."""
    family, values = CASES[name]
    theirs, given = make(family, head, values), inputs(family)
    ours = from_huggingface(theirs)
    expected = theirs(**given).logits
    torch.testing.assert_close(ours(**given).logits, expected, atol=2e-5, rtol=1e-5)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    torch.testing.assert_close(load(save(ours, tmp_path / "m"))(**given).logits, expected, atol=2e-5, rtol=1e-5)


def test_folder_gives_the_same_model(tmp_path) -> None:
    """A folder written by `save_pretrained` converts like the model itself."""
    theirs = make("Bert", "Model", BERT)
    theirs.save_pretrained(tmp_path)
    given = inputs("Bert")
    with torch.no_grad():
        assert torch.equal(
            from_huggingface(tmp_path)(**given).last_hidden, from_huggingface(theirs)(**given).last_hidden
        )


def test_untied_output_table_is_refused() -> None:
    """An output table of its own cannot be represented, so it must not be dropped silently."""
    theirs = make("Bert", "ForMaskedLM", BERT | dict(tie_word_embeddings=False))
    theirs.cls.predictions.decoder.weight = torch.nn.Parameter(torch.randn(50, 24))
    with pytest.raises(ValueError, match="tied output table"):
        from_huggingface(theirs)


def test_other_architectures_are_named(tmp_path) -> None:
    """An unknown model type, an empty folder and unsupported settings each give one clear error."""
    with pytest.raises(ValueError, match="unknown model type 'gpt2'"):
        from_huggingface(transformers.GPT2Model(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)))
    with pytest.raises(ValueError, match="holds no config.json"):
        from_huggingface(tmp_path)
    with pytest.raises(ValueError, match="unknown activation 'mish'"):
        from_huggingface(make("Bert", "Model", BERT | dict(hidden_act="mish")))
    with pytest.raises(ValueError, match="decoder"):
        from_huggingface(make("Bert", "Model", BERT | dict(is_decoder=True)))
