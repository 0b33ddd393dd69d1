"""Folders for transformers: its own classes give our outputs, and a refusal says what can be done."""

import json

import pytest
import torch
from export_models import CONFIGS, PLAIN, batch, classifier, large

from coursekit.compress.lowrank import compress
from coursekit.compress.pruning import drop_layers, prune_ffn, prune_heads
from coursekit.compress.quantization import quantize_model
from coursekit.data import Tokenizer, fetch
from coursekit.export import plain, to_huggingface
from coursekit.models import Encoder, MaskedLM, SharingPlan, from_huggingface

transformers = pytest.importorskip("transformers")

ALBERT = CONFIGS["albert"]
FITTING = {
    "bert": PLAIN,
    "bert without types, tanh": PLAIN.replace(token_types=0, activation="tanh", layer_norm_eps=1e-6),
    "albert": ALBERT,
    "albert in two groups": ALBERT.replace(sharing=SharingPlan.every(4, 2, norms="shared")),
    "albert in groups of two": ALBERT.replace(sharing=SharingPlan.from_blocks([0, 1, 0, 1], [0, 1, 0, 1], "shared")),
    "albert without sharing, types": ALBERT.replace(sharing=None, token_types=0),
    "distilbert": CONFIGS["distilbert"],
}


def loaded(folder, kind):
    return getattr(transformers, f"AutoModel{kind}").from_pretrained(folder).eval()


@torch.inference_mode()
def compare(model, folder, kind, rows=2):
    theirs = loaded(folder, kind)
    given = batch(rows, 9, model.config.token_types)
    given["attention_mask"][-1] = 1  # what a row without tokens gives is each one's own
    out, their_out = model(**given), theirs(**given)
    for ours, other in (("logits", "logits"), ("last_hidden", "last_hidden_state"), ("pooled", "pooler_output")):
        if getattr(their_out, other, None) is not None and getattr(out, ours, None) is not None:
            assert torch.allclose(getattr(out, ours), getattr(their_out, other), atol=1e-5), ours
    return theirs


@pytest.mark.parametrize("name", FITTING)
def test_their_classes_give_our_outputs(name, tmp_path):
    model = classifier(FITTING[name])
    folder = to_huggingface(model, tmp_path / "model")
    theirs = compare(model, folder, "ForSequenceClassification")
    assert type(theirs).__name__ == f"{name.split()[0].title().replace('Distilb', 'DistilB')}ForSequenceClassification"
    assert not list(tmp_path.glob(".*"))
    again = from_huggingface(folder)
    given = batch(2, 9, model.config.token_types)
    assert torch.equal(again(**given).logits, model(**given).logits)


@pytest.mark.parametrize("name", ["bert", "albert in groups of two", "distilbert"])
def test_heads(name, tmp_path):
    config = FITTING[name].replace(pooler=False)
    compare(
        large(MaskedLM(Encoder(config))),
        to_huggingface(large(MaskedLM(Encoder(config))), tmp_path / "lm"),
        "ForMaskedLM",
    )
    encoder = large(Encoder(FITTING[name]))
    compare(encoder, to_huggingface(encoder, tmp_path / "encoder"), "")


def test_shared_layers_are_stored_once(tmp_path):
    sizes = {}
    for layers in (4, 12):
        model = classifier(ALBERT.replace(num_layers=layers, sharing=SharingPlan.all(layers)))
        sizes[layers] = (to_huggingface(model, tmp_path / str(layers)) / "model.safetensors").stat().st_size
    assert sizes[4] == sizes[12]


def test_smaller_models_that_still_fit(tmp_path):
    """Fewer layers, equally many neurons everywhere, and compressed layers folded back."""
    model = classifier()
    small = prune_ffn(drop_layers(classifier(), [0, 2]), {0: range(5, 20), 1: range(15)})
    compare(small, to_huggingface(small, tmp_path / "small"), "ForSequenceClassification")
    about = json.loads((tmp_path / "small" / "config.json").read_text())
    assert (about["num_hidden_layers"], about["intermediate_size"]) == (2, 15)
    low = compress(model, 0.5)
    for compressed in (low, quantize_model(low, "int8-weight-only"), quantize_model(model, "int4", embeddings=True)):
        folded = plain(compressed)
        given = batch(2, 9, 2)
        assert torch.allclose(folded(**given).logits, compressed(**given).logits, atol=1e-4)
        compare(folded, to_huggingface(folded, tmp_path / "folded"), "ForSequenceClassification")


def test_folding_keeps_what_is_shared(tmp_path):
    folded = plain(quantize_model(classifier(ALBERT), "int8"))
    assert folded.encoder.layers[0].ffn.up is folded.encoder.layers[3].ffn.up
    assert type(folded.encoder.layers[0].ffn.up) is torch.nn.Linear
    compare(folded, to_huggingface(folded, tmp_path / "model"), "ForSequenceClassification")


REFUSED = {
    "safe": (CONFIGS["sandwich, safe"], "with a word table of kind 'safe'; to_onnx writes it as it is"),
    "pre-norm": (PLAIN.replace(norm_first=True), "with LayerNorm before its part"),
    "sandwich": (ALBERT.replace(sharing=SharingPlan.sandwich(4)), "with layers shared in another way than ALBERT's"),
    "private norms": (ALBERT.replace(sharing=SharingPlan.all(4, norms="private")), "in another way than ALBERT's"),
    "wide table": (PLAIN.replace(sharing=SharingPlan.all(4)), "with shared layers and a word table of full width"),
    "no pooler": (PLAIN.replace(pooler=False), "no Bert classifier without a pooler"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_they_cannot_express(name, tmp_path):
    config, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        to_huggingface(classifier(config), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_what_was_pruned_or_compressed(tmp_path):
    for model, message in (
        (prune_heads(classifier(), {1: [0]}), "layer 1 has 3 of 4 heads, and transformers keeps all of them; to_onnx"),
        (prune_ffn(classifier(), {1: range(9)}), "layer 1 has 9 neurons and layer 0 48.*keep equally many in each"),
        (compress(classifier(), 0.5), r"attention.query is a LowRankLinear.*plain\(model\) folds it back, or to_onnx"),
        (quantize_model(classifier(), "int8"), r"is a Int8Linear.*plain\(model\) folds it back"),
        (torch.nn.Linear(2, 2), "expected an Encoder, MaskedLM or SequenceClassifier, got Linear"),
    ):
        with pytest.raises(ValueError, match=message):
            to_huggingface(model, tmp_path / "model")
    with pytest.raises(ValueError, match="3 labels, their names are"):
        to_huggingface(classifier(), tmp_path / "model", labels=("bad", "good"))
    with pytest.raises(ValueError, match="labels are for a SequenceClassifier, got a Encoder"):
        to_huggingface(Encoder(PLAIN), tmp_path / "model", labels=("bad", "good"))


@pytest.mark.parametrize("name", ["bert", "albert", "distilbert"])
def test_a_pipeline_gives_our_logits(name, tmp_path):
    """The real tokenizer and a model of random weights: texts in, the same scores and the labels' names out."""
    tokenizer = Tokenizer(fetch("minilm"))
    model = classifier(FITTING[name].replace(vocab_size=tokenizer.vocab_size, max_positions=64))
    with pytest.raises(ValueError, match="the tokenizer has 30522 pieces, the word table 60 rows"):
        to_huggingface(classifier(FITTING[name]), tmp_path / "model", tokenizer)
    folder = to_huggingface(model, tmp_path / "model", tokenizer, labels=("bad", "so-so", "good"))
    classify = transformers.pipeline(
        "text-classification", str(folder), device="cpu", top_k=None, function_to_apply="none"
    )
    texts = ["A three-hour cinema master class.", "Dull!"]
    said = classify(texts, batch_size=2)
    again = Tokenizer(folder)
    for text, scores in zip(texts, said, strict=True):
        (ids,) = again.encode([text], max_length=64)
        assert ids == tokenizer.encode([text])[0]
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0].tolist()
        found = {each["label"]: each["score"] for each in scores}
        assert found == pytest.approx(dict(zip(("bad", "so-so", "good"), logits, strict=True)), abs=1e-4)
