"""The encoder: shapes, masks, capture, sharing by identity, and the published counts."""

import copy

import pytest
import torch

from coursekit.models import (
    Capture,
    Encoder,
    MaskedLM,
    SequenceClassifier,
    SharingPlan,
    TransformerConfig,
    build,
    preset,
    presets,
)
from coursekit.models import attention as attention_module

PUBLISHED_CLASS_COUNTS = {
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "albert-base": 11_683_584,
    "albert-large": 17_683_968,
    "albert-xlarge": 58_724_864,
    "albert-xxlarge": 222_595_584,
    "distilbert-base": 66_362_880,
    "tinybert-4": 14_350_248,
    "tinybert-6": 66_955_008,
    "minilm-l12-h384": 33_360_000,
    "minilm-l6-h384": 22_713_216,
}


def count(model: torch.nn.Module) -> int:
    """Distinct parameters."""
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED_CLASS_COUNTS)
def test_preset_counts(name: str) -> None:
    """To the last parameter, without allocating any."""
    assert count(build(name, device="meta")) == PUBLISHED_CLASS_COUNTS[name]


def test_masked_lm_counts() -> None:
    """The tied table once, a bias per word, no pooler (BertForMaskedLM, AlbertForMaskedLM, DistilBertForMaskedLM)."""
    expected = {"bert-base": 109_514_298, "albert-base": 11_221_680, "distilbert-base": 66_985_530}
    for name, total in expected.items():
        with torch.device("meta"):
            assert count(MaskedLM(Encoder(preset(name).replace(pooler=False)))) == total
            if name == "distilbert-base":
                assert count(SequenceClassifier(Encoder(preset(name)), 2)) == 66_955_010


@pytest.mark.parametrize("width", [64, 128, 256, 768])
def test_albert_table_3(width: int) -> None:
    """ALBERT Table 3, both halves, with pooler; E = H has no map."""
    narrow = {"embedding": "factorised", "embedding_size": width} if width < 768 else {"embedding": "full"}
    expected = {
        64: (87_648_000, 9_681_408),
        128: (89_650_176, 11_683_584),
        256: (93_654_528, 15_687_936),
        768: (109_081_344, 31_114_752),
    }
    config = preset("albert-base").replace(embedding_size=None, embedding="full").replace(**narrow)
    private, shared = expected[width]
    assert count(build(config.replace(sharing=None), device="meta")) == private
    assert count(build(config, device="meta")) == shared


def test_albert_table_4() -> None:
    """Attention only and FFN only, E = 128, with pooler."""
    config = preset("albert-base")
    assert count(build(config.replace(sharing=SharingPlan.attention_only(12)), device="meta")) == 63_647_232
    assert count(build(config.replace(sharing=SharingPlan.ffn_only(12)), device="meta")) == 37_686_528


@pytest.mark.parametrize("embedding", ["full", "linear", "factorised"])
def test_shapes(tiny: TransformerConfig, embedding: str) -> None:
    """Every embedding kind gives the encoder's width, and a masked LM the whole vocabulary."""
    size = None if embedding == "full" else 8
    model = MaskedLM(Encoder(tiny.replace(embedding=embedding, embedding_size=size)))
    out = model(torch.randint(0, 40, (2, 5)))
    assert out.last_hidden.shape == (2, 5, 24)
    assert out.pooled.shape == (2, 24)
    assert out.logits.shape == (2, 5, 40)


@torch.no_grad()
def test_linear_embedding_is_the_product(tiny: TransformerConfig) -> None:
    """A V×E table and an E×H map act, at input and at output, as their product would."""
    narrow = MaskedLM(Encoder(tiny.replace(embedding="linear", embedding_size=8))).eval()
    full = MaskedLM(Encoder(tiny)).eval()
    weights = {n: t for n, t in narrow.state_dict().items() if "word" not in n and "map" not in n}
    embeddings = narrow.encoder.embeddings
    weights["encoder.embeddings.word.weight"] = embeddings.word.weight @ embeddings.map.weight.T
    full.load_state_dict(weights)
    ids = torch.randint(0, 40, (2, 5))
    torch.testing.assert_close(narrow(ids).logits, full(ids).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_and_batching_change_nothing(tiny: TransformerConfig) -> None:
    """A row's states do not depend on its padding or on its neighbours."""
    encoder = Encoder(tiny).eval()
    short, long = torch.randint(1, 40, (1, 4)), torch.randint(1, 40, (1, 9))
    ids = torch.zeros(2, 9, dtype=torch.long)
    ids[0, :4], ids[1] = short, long
    mask = torch.tensor([[1] * 4 + [0] * 5, [1] * 9], dtype=torch.bool)
    together = encoder(ids, mask)
    torch.testing.assert_close(together.last_hidden[0, :4], encoder(short).last_hidden[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.last_hidden[1], encoder(long).last_hidden[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.pooled[:1], encoder(short).pooled, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("capture", [None, Capture.all()])
def test_a_fully_padded_row_stays_finite(tiny: TransformerConfig, capture: Capture | None) -> None:
    """On both attention paths, forward and backward."""
    for training in (False, True):
        encoder = Encoder(tiny).train(training)
        out = encoder(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 5, dtype=torch.bool), capture=capture)
        out.last_hidden.sum().backward()
        assert out.last_hidden.isfinite().all()
        assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


@torch.no_grad()
def test_both_attention_paths_agree(tiny: TransformerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for inner states, and training on short texts, leave the fused path but not its result."""
    encoder = Encoder(tiny.replace(dropout=0.0)).eval()
    ids, mask = torch.randint(0, 40, (3, 6)), torch.tensor([[1] * 6, [1] * 2 + [0] * 4, [0] * 6]).bool()
    fused = encoder(ids, mask).last_hidden
    torch.testing.assert_close(encoder(ids, mask, capture=Capture.all()).last_hidden, fused, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.train()(ids, mask).last_hidden, fused, atol=1e-6, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # where training takes the plain path
        plain = encoder(ids, mask).last_hidden
        monkeypatch.setattr(attention_module, "PLAIN_TRAINING_LENGTH", 0)
        torch.testing.assert_close(encoder(ids, mask).last_hidden, plain, atol=0.05, rtol=0)


@torch.no_grad()
def test_captured_states(tiny: TransformerConfig) -> None:
    """Each state is what its name says: probabilities are the masked softmax of the scores, and so on."""
    encoder = Encoder(tiny).eval()
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    out = encoder(torch.randint(0, 40, (2, 4)), mask, capture=Capture.all())
    assert (len(out.hidden), len(out.scores), len(out.probs), len(out.values)) == (4, 3, 3, 3)
    assert torch.equal(out.hidden[3], out.last_hidden)
    assert out.values[0].shape == (2, 4, 4, 6)
    expected = out.scores[1].masked_fill(~mask[:, None, None, :], -torch.inf).softmax(-1)
    torch.testing.assert_close(out.probs[1], expected)
    layer = encoder.layers[0].attention
    query, key = (f(out.hidden[0]).view(2, 4, 4, 6).transpose(1, 2) for f in (layer.query, layer.key))
    torch.testing.assert_close(out.scores[0], query @ key.transpose(2, 3) / 6**0.5)


def test_capture_is_exact_about_what_it_returns(tiny: TransformerConfig) -> None:
    """Only what was asked; asking for nothing gives nothing; a state not asked for raises."""
    encoder, ids = Encoder(tiny), torch.randint(0, 40, (1, 3))
    plain = encoder(ids)
    assert plain.hidden == plain.scores == plain.probs == plain.values == ()
    out = encoder(ids, capture=Capture(hidden=(0, 3), probs=(2,)))
    assert out.hidden[0].shape == out.hidden[3].shape == (1, 3, 24)
    assert out.hidden[-1] is out.hidden[3]
    assert out.scores == ()
    with pytest.raises(LookupError, match=r"layer 1 was not captured; captured: \[0, 3\]"):
        out.hidden[1]
    with pytest.raises(ValueError, match="probs 3: this encoder has probs 0 to 2"):
        encoder(ids, capture=Capture(probs=(3,)))
    with pytest.raises(ValueError, match="hidden 4"):
        encoder(ids, capture=Capture(hidden=(4,)))


def test_sharing_is_identity(tiny: TransformerConfig) -> None:
    """Shared blocks are one module: counted once, one gradient, the sum over its uses."""
    shared = Encoder(tiny.replace(sharing=SharingPlan.all(3), dropout=0.0))
    assert shared.layers[0].attention is shared.layers[2].attention
    assert shared.layers[0].ffn_norm is shared.layers[1].ffn_norm
    sandwich = Encoder(tiny.replace(num_layers=4, sharing=SharingPlan.sandwich(4)))
    assert sandwich.layers[1].ffn is sandwich.layers[2].ffn
    assert sandwich.layers[1].ffn_norm is not sandwich.layers[2].ffn_norm

    unshared = Encoder(tiny.replace(dropout=0.0))
    unshared.load_state_dict(shared.state_dict())  # three equal copies
    ids = torch.randint(0, 40, (2, 5))
    for model in (shared, unshared):
        model(ids).last_hidden.square().sum().backward()
    total = sum(layer.attention.query.weight.grad for layer in unshared.layers)
    torch.testing.assert_close(shared.layers[0].attention.query.weight.grad, total, atol=1e-4, rtol=1e-4)


def test_sharing_survives_copying_and_casting(tiny: TransformerConfig) -> None:
    """deepcopy, dtype and device moves, and to_empty keep one module one module."""
    model = MaskedLM(Encoder(tiny.replace(sharing=SharingPlan.all(3))))
    for other in (copy.deepcopy(model), copy.deepcopy(model).bfloat16(), copy.deepcopy(model).to("meta")):
        assert other.encoder.layers[0].ffn is other.encoder.layers[2].ffn
        assert count(other) == count(model)
    empty = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    assert empty.encoder.layers[0].ffn.up.weight is empty.encoder.layers[2].ffn.up.weight


def test_masked_positions_only(tiny: TransformerConfig) -> None:
    """Projecting the chosen positions gives the same rows as projecting all of them."""
    model = MaskedLM(Encoder(tiny)).eval()
    ids = torch.randint(0, 40, (2, 5))
    chosen = torch.zeros(2, 5, dtype=torch.bool)
    chosen[0, 1] = chosen[1, 3] = chosen[1, 4] = True
    torch.testing.assert_close(model(ids, positions=chosen).logits, model(ids).logits[chosen], atol=1e-6, rtol=1e-5)
    assert model(ids, positions=torch.zeros(2, 5, dtype=torch.bool)).logits.shape == (0, 40)


def test_presets_are_listed() -> None:
    """Every preset builds, and an unknown one is answered with its neighbours."""
    assert set(PUBLISHED_CLASS_COUNTS) <= set(presets())
    with pytest.raises(ValueError, match="unknown preset 'bert-bse'; nearest: bert-base"):
        preset("bert-bse")


BAD_CONFIGS = {
    "hidden_size 24 is not a multiple of num_heads 5": dict(num_heads=5),
    "num_layers must be at least 1, got 0": dict(num_layers=0),
    "unknown embedding 'wide'": dict(embedding="wide"),
    "'full' takes none": dict(embedding_size=8),
    "the others need one": dict(embedding="linear"),
    "embedding_size must be at least 1, got 0": dict(embedding="linear", embedding_size=0),
    "a plan for 4 depths was given to 3 layers": dict(sharing=SharingPlan.all(4)),
    "unknown activation 'gelo'; nearest: gelu": dict(activation="gelo"),
    "dropout must lie in": dict(dropout=1.0),
    "token_types must not be negative": dict(token_types=-1),
    "pad_id 40 lies outside the vocabulary of 40": dict(pad_id=40),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_bad_configs(tiny: TransformerConfig, message: str) -> None:
    """A shape that cannot be built names both sides."""
    with pytest.raises(ValueError, match=message):
        tiny.replace(**BAD_CONFIGS[message])


def test_bad_inputs(tiny: TransformerConfig) -> None:
    """Too long, empty, differing shapes, types without a table, no labels."""
    encoder = Encoder(tiny)
    with pytest.raises(ValueError, match="17 tokens is longer than the 16 positions"):
        encoder(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match=r"non-empty \(B, T\) tensor, got shape \(0, 4\)"):
        encoder(torch.zeros(0, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"attention_mask has shape \(1, 3\), input_ids \(1, 4\)"):
        encoder(torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 3))
    with pytest.raises(ValueError, match="without a table of token types"):
        Encoder(tiny.replace(token_types=0))(
            torch.zeros(1, 4, dtype=torch.long), token_type_ids=torch.ones(1, 4).long()
        )
    with pytest.raises(ValueError, match="num_labels must be at least 1, got 0"):
        SequenceClassifier(encoder, 0)
    with pytest.raises(ValueError, match="positions has shape"):
        MaskedLM(encoder)(torch.zeros(1, 4, dtype=torch.long), positions=torch.ones(1, 3).bool())


def test_captured_probabilities_are_those_before_dropout(tiny: TransformerConfig) -> None:
    encoder = Encoder(tiny.replace(dropout=0.5)).train()
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    out = encoder(torch.randint(0, 40, (2, 4)), mask, capture=Capture.all())
    for scores, probs in zip(out.scores, out.probs, strict=True):
        torch.testing.assert_close(probs, scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1))
