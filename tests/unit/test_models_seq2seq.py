"""Encoder–decoder: Subformer's counts, SAFE's formula, causality, caches, search."""

import pytest
import torch
from torch import nn

from coursekit.models import (
    Capture,
    Encoder,
    MaskedLM,
    Seq2Seq,
    Seq2SeqConfig,
    SharingPlan,
    TransformerConfig,
    build,
    generate,
    load,
    preset,
    save,
)
from coursekit.models.presets import subformer
from coursekit.models.seq2seq import DecoderCache

START, END = 1, 2


def every_2(n: int, **options: object) -> SharingPlan:
    """Subformer's "every 2 layers"."""
    return SharingPlan.every(n, 2, **options)


PLAN = SharingPlan
COUNTS = {  # Subformer Tables 1 to 3, recomputed from the released code's modules
    "all-shared": (subformer(512, 2048, 6, PLAN.all), 24_159_232),
    "all-shared, 768": (subformer(768, 3072, 6, PLAN.all), 41_743_872),
    "all-shared, FFNs private": (subformer(512, 2048, 6, PLAN.attention_only), 45_156_352),
    "all but last": (subformer(512, 2048, 6, PLAN.all_but_last), 31_510_528),
    "every 2": (subformer(512, 2048, 6, every_2), 38_861_824),
    "sandwich": (subformer(512, 2048, 6, PLAN.sandwich), 38_861_824),
    "sandwich, 8 layers": (subformer(512, 2048, 8, PLAN.sandwich), 38_872_064),
    "sandwich, big": (subformer(1024, 4096, 6, PLAN.sandwich), 121_763_840),
    "linear 128": (subformer(512, 2048, embedding="linear", embedding_size=128), 48_529_408),
    "linear 256": (subformer(512, 2048, embedding="linear", embedding_size=256), 52_920_320),
    "SAFE 128": (subformer(512, 2048, embedding="safe", embedding_size=128), 48_698_240),
    "SAFE 256": (subformer(512, 2048, embedding="safe", embedding_size=256), 53_582_592),
    "transformer-base": ("transformer-base", 60_915_712),
    "transformer-big": ("transformer-big", 209_911_808),
    "subformer-small": ("subformer-small", 38_646_272),
    "subformer-base": ("subformer-base", 51_961_024),
    "subformer-mid": ("subformer-mid", 63_152_042),
    "subformer-large": ("subformer-large", 197_362_176),
}


def count(model: nn.Module) -> int:
    """Distinct parameters."""
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("row", COUNTS)
def test_published_rows(row: str) -> None:
    """Every row comes out to the last parameter."""
    config, expected = COUNTS[row]
    assert count(build(config, device="meta")) == expected


def small(**changes: object) -> Seq2SeqConfig:
    """Four depths a side that run in a millisecond."""
    encoder = TransformerConfig(
        vocab_size=30,
        hidden_size=16,
        num_layers=4,
        num_heads=2,
        intermediate_size=20,
        max_positions=12,
        token_types=0,
        pooler=False,
        positions="sinusoidal",
        activation="relu",
        **changes,
    )
    plan = encoder.sharing and SharingPlan.sandwich(4, cross=True)
    return Seq2SeqConfig(encoder, 4, plan)


SANDWICH = dict(sharing=SharingPlan.sandwich(4))
SAFE = dict(embedding="safe", embedding_size=8, embedding_heads=2)
INNER = dict(inner_size=24, inner_heads=3, inner_intermediate_size=28)
VARIANTS = {
    "plain": {},
    "linear": dict(embedding="linear", embedding_size=8),
    "factorised": dict(embedding="factorised", embedding_size=8),
    "sandwich": SANDWICH,
    "safe": SAFE,
    "subformer": SANDWICH | SAFE | INNER,
    "subformer, pre-norm": SANDWICH | SAFE | INNER | dict(norm_first=True),
}


def make(variant: str) -> Seq2Seq:
    """A model whose weights are large enough for differences to show."""
    model = Seq2Seq(small(**VARIANTS[variant]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    """Three sources of different lengths, padded."""
    mask = torch.arange(7) < torch.tensor([7, 4, 2])[:, None]
    return torch.randint(3, 30, (3, 7)) * mask, mask


def test_safe_formula() -> None:
    """Words and the block, less biases and LayerNorms, are V·E + 5E² + E·H (Subformer, appendix A)."""
    vocabulary, hidden, size = 100, 10, 5
    config = TransformerConfig(
        vocabulary, hidden, 1, 2, 8, embedding="safe", embedding_size=size, embedding_heads=1, positions="sinusoidal"
    )
    embeddings = Encoder(config.replace(token_types=0)).embeddings
    matrices = sum(p.numel() for p in embeddings.parameters() if p.dim() == 2)
    assert matrices == vocabulary * size + 5 * size**2 + size * hidden == 675
    vectors = 4 * size + 2 * size + size + hidden + 2 * hidden  # attention, its norm, up, down, last norm
    assert count(embeddings) == matrices + vectors


@torch.no_grad()
def test_safe_in_an_encoder() -> None:
    """SAFE mixes tokens, ignores padding, and serves a masked LM."""
    config = TransformerConfig(30, 16, 2, 2, 20, embedding="safe", embedding_size=8, embedding_heads=2)
    model = MaskedLM(Encoder(config)).eval()
    ids, mask = sources()
    out = model(ids, mask, capture=Capture(hidden=(0,)))
    assert out.logits.shape == (3, 7, 30)
    alone = model(ids[1:2, :4], capture=Capture(hidden=(0,)))
    torch.testing.assert_close(out.hidden[0][1, :4], alone.hidden[0][0], atol=1e-6, rtol=1e-5)
    other = ids.clone()
    other[0, 0] = 3 + (other[0, 0] - 2) % 27
    changed = model(other, mask, capture=Capture(hidden=(0,))).hidden[0]
    assert not torch.allclose(changed[0, 6], out.hidden[0][0, 6])


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_future_is_not_seen(variant: str) -> None:
    """Changing a later target token leaves earlier logits alone; changing an earlier one does not."""
    model, (ids, mask) = make(variant), sources()
    target = torch.randint(3, 30, (3, 6))
    later, earlier = target.clone(), target.clone()
    later[:, 4], earlier[:, 1] = 3 + (target[:, 4] - 2) % 27, 3 + (target[:, 1] - 2) % 27
    logits = model(ids, mask, target).logits
    torch.testing.assert_close(model(ids, mask, later).logits[:, :4], logits[:, :4], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(model(ids, mask, earlier).logits[:, 4], logits[:, 4], atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_source_padding_changes_nothing(variant: str) -> None:
    """A sentence alone and the same sentence padded in a batch give the same logits."""
    model, (ids, mask) = make(variant), sources()
    target = torch.randint(3, 30, (3, 5))
    together = model(ids, mask, target).logits[1]
    torch.testing.assert_close(together, model(ids[1:2, :4], None, target[1:2]).logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cache_continues_exactly(variant: str) -> None:
    """Logits token by token, and in two pieces, equal those of one call."""
    model, (ids, mask) = make(variant), sources()
    target = torch.randint(3, 30, (3, 6))
    memory = model.encode(ids, mask)
    whole = model.decode(target, memory, mask)
    for pieces in ([1] * 6, [2, 4]):
        cache = DecoderCache(4)
        parts = [model.decode(piece, memory, mask, cache) for piece in target.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_search_is_the_same_without_cache(variant: str, beams: int) -> None:
    """The same tokens, and the same for a source alone as in a batch."""
    model, (ids, mask) = make(variant), sources()
    options = dict(start_id=START, end_id=END, max_length=8, beams=beams)
    found = generate(model, ids, mask, **options)
    assert found == generate(model, ids, mask, **options, use_cache=False)
    assert found[1] == generate(model, ids[1:2, :4], **options)[0]
    assert all(END not in row and len(row) <= 8 for row in found)


def log_probability(model: Seq2Seq, ids: torch.Tensor, tokens: list[int]) -> float:
    """Of these tokens in a row, the end token included where there is one."""
    log_probs = model(ids, None, torch.tensor([[START, *tokens]])).logits.log_softmax(-1)[0]
    return sum(log_probs[i, token].item() for i, token in enumerate(tokens))


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_beam_search_against_enumeration(seed: int) -> None:
    """With a beam for every hypothesis it finds the most probable of all, ended or cut at two tokens."""
    torch.manual_seed(seed)
    config = small()
    model = Seq2Seq(config.replace(encoder=config.encoder.replace(vocab_size=6))).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.5)
    ids = torch.tensor([[3, 5, 4]])
    words = [token for token in range(6) if token != END]
    hypotheses = [[END], *[[a, b] for a in words for b in range(6)]]
    best = max(hypotheses, key=lambda tokens: log_probability(model, ids, tokens))
    found = generate(model, ids, start_id=START, end_id=END, max_length=2, beams=36, length_penalty=0.0)[0]
    assert found == [token for token in best if token != END]


def test_three_way_tie_and_storage(tmp_path) -> None:
    """One word table for source, target and output, after saving and loading too."""
    model, (ids, mask) = make("subformer"), sources()
    other = load(save(model, tmp_path / "m"))
    assert other.embeddings.word is other.encoder.embeddings.word
    assert other.layers[1].cross is other.layers[2].cross
    assert other.layers[1].cross_norm is not other.layers[2].cross_norm
    assert other.config == model.config
    target = torch.randint(3, 30, (3, 5))
    assert torch.equal(other(ids, mask, target).logits, model(ids, mask, target).logits)


def test_inner_width() -> None:
    """The middle of a sandwich works at its own width; the ends do not."""
    model = make("subformer")
    ids, mask = sources()
    hidden = model.encoder(ids, mask, capture=Capture.all()).hidden
    assert [state.shape[-1] for state in hidden] == [16, 16, 24, 24, 16]


@torch.no_grad()
def test_pre_norm() -> None:
    """The sums run through: with every part silenced, the states are the embeddings, and the last is normed."""
    config = small(norm_first=True)
    model = Encoder(config.encoder).eval()
    assert count(Seq2Seq(config)) == count(Seq2Seq(small())) + 2 * 2 * 16
    for layer in model.layers:
        for part in (layer.attention.output, layer.ffn.down):
            part.weight.zero_()
            part.bias.zero_()
    out = model(torch.randint(3, 30, (2, 5)), capture=Capture(hidden="all"))
    assert torch.equal(out.hidden[4], out.hidden[0])
    torch.testing.assert_close(out.last_hidden, nn.functional.layer_norm(out.hidden[0], (16,), eps=1e-12))


def test_bad_input() -> None:
    """One clear error each."""
    model, (ids, mask) = make("plain"), sources()
    with pytest.raises(ValueError, match="source 1 is empty"):
        model(ids, mask & (torch.arange(3) != 1)[:, None], ids)
    with pytest.raises(ValueError, match="13 tokens is longer than the 12 positions"):
        model(ids, mask, torch.zeros(3, 13, dtype=torch.long))
    with pytest.raises(ValueError, match="12 positions, got 13"):
        generate(model, ids, mask, start_id=START, end_id=END, max_length=13)
    with pytest.raises(ValueError, match="beams must be at least 1, got 0"):
        generate(model, ids, mask, start_id=START, end_id=END, max_length=3, beams=0)
    with pytest.raises(ValueError, match="3 LayerNorms per depth"):
        Seq2SeqConfig(small().encoder, 4, SharingPlan.sandwich(4))
    with pytest.raises(ValueError, match="plan for 3 depths was given to 4 decoder layers"):
        Seq2SeqConfig(small().encoder, 4, SharingPlan.none(3, cross=True))
    with pytest.raises(ValueError, match="the first and last private"):
        small(**INNER, sharing=SharingPlan.all(4))
    with pytest.raises(ValueError, match="go together"):
        small(**SANDWICH, inner_size=24)
    with pytest.raises(ValueError, match="inner_size 24 is not a multiple of inner_heads 5"):
        small(**SANDWICH, **INNER | dict(inner_heads=5))
    with pytest.raises(ValueError, match="'safe' needs some"):
        small(embedding="safe", embedding_size=8)
    with pytest.raises(ValueError, match="unknown positions 'rotary'"):
        preset("bert-base").replace(positions="rotary")
