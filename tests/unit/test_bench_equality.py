"""What is timed computes the same: found out before timing, for every kind of comparison."""

import pytest
import torch

from coursekit.bench import Arm, MismatchError, Setting, run_case
from coursekit.bench import encoding as encoding_module
from coursekit.bench import inference as inference_module
from coursekit.bench import training as training_module
from coursekit.bench.csr import CsrLinear, to_csr
from coursekit.bench.frame import relative_error, require_close
from coursekit.compress.pruning import apply_masks, finalize, magnitude_masks
from coursekit.models import Encoder, TransformerConfig, from_huggingface

TINY = TransformerConfig(64, 32, 2, 2, 64, max_positions=32)
TWO = Setting(rounds=2)


def test_require_close():
    assert require_close("x", torch.ones(3), torch.ones(3) + 1e-6, within=1e-5) < 2e-6
    for wrong in (torch.tensor([1.0, 1.0, 1.1]), torch.tensor([1.0, 1.0, torch.nan]), torch.tensor([torch.inf] * 3)):
        with pytest.raises(MismatchError, match="the loss differs by .*, more than 1e-05"):
            require_close("the loss", wrong, torch.ones(3), within=1e-5)
    with pytest.raises(MismatchError, match="has shape"):
        require_close("x", torch.ones(2), torch.ones(3), within=1.0)
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == pytest.approx(0.75)


def test_a_wrong_model_is_not_timed(monkeypatch):
    def slightly_wrong(model):
        ours = from_huggingface(model)
        with torch.no_grad():
            ours.head.bias[7:20] += 0.5
        return ours

    case = training_module.masked_lm_case(64, 1.5, 2.2, layers=1, hidden=32, batch=4, length=8)
    monkeypatch.setattr(training_module, "from_huggingface", slightly_wrong)
    with pytest.raises(MismatchError, match="masked-LM step, V 64: the loss differs by .*; nothing was timed"):
        run_case(case, TWO)


def pair_of_encoders():
    import transformers

    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    theirs = transformers.BertModel(config).eval()
    return theirs, from_huggingface(theirs)


SENTENCES = [[2, *range(5, 5 + length), 3] for length in (3, 9, 4, 4, 11, 2)]


def test_an_encoder_that_differs_at_one_token_is_not_timed():
    theirs, ours = pair_of_encoders()
    assert set(encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)) >= {"ours, fp32", "ours, int8"}
    with torch.no_grad():
        ours.embeddings.word.weight[15, 3] += 0.5  # in the longest sentence alone
    with pytest.raises(MismatchError, match="a state of a real token differs"):
        encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)


def test_sentences_are_encoded_in_their_order_without_padding():
    theirs, ours = pair_of_encoders()
    arms = encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)
    expected = arms[encoding_module.HF].call()
    for name in ("Hugging Face, sorted by length", "ours, fp32"):
        torch.testing.assert_close(arms[name].call(), expected, atol=1e-5, rtol=0)
    assert arms["ours, fp32"].error < 1e-5 < arms["ours, int8"].error < 0.1
    rows = []
    ours.layers[0].ffn.register_forward_pre_hook(lambda _, args: rows.append(args[0][..., 0].numel()))
    arms["ours, fp32"].call()
    assert sum(rows) == sum(map(len, SENTENCES))


def test_texts_per_second_are_those_of_all_sentences():
    theirs, ours = pair_of_encoders()
    arms = encoding_module.encoding_arms(theirs, ours, SENTENCES, 0, TWO)
    assert {arm.texts for arm in arms.values()} == {6}


def test_hugging_face_has_the_weights_of_the_dense_model():
    arms = inference_module.case(TINY, 2, 8, ["hugging face"]).make(TWO)
    assert list(arms) == ["dense, fp32", "Hugging Face, fp32"]
    theirs, dense = arms["Hugging Face, fp32"], arms["dense, fp32"]
    torch.testing.assert_close(theirs.call(), dense.call(), atol=1e-5, rtol=0)
    assert 0 < theirs.error < 1e-5


def test_a_hugging_face_model_with_other_weights_is_not_timed(monkeypatch):
    make = inference_module.hugging_face

    def slightly_wrong(encoder):
        theirs = make(encoder)
        with torch.no_grad():
            theirs.encoder.layer[1].output.LayerNorm.bias[3] += 0.01
        return theirs

    monkeypatch.setattr(inference_module, "hugging_face", slightly_wrong)
    with pytest.raises(MismatchError, match="2 × 32, 2 × 8: a state of Hugging Face's differs by 0.01.*nothing was"):
        run_case(inference_module.case(TINY, 2, 8, ["hugging face"]), TWO)


def test_without_transformers_the_others_are_timed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    arms = inference_module.case(TINY, 2, 8, ["hugging face", "int8"]).make(TWO)
    assert arms["Hugging Face, fp32"] == Arm(None, "transformers is not installed (pip install transformers)")
    assert arms["int8, eager"].call is not None


def test_csr_computes_what_zeros_compute():
    encoder = Encoder(TINY).eval()
    finalize(apply_masks(encoder, magnitude_masks(encoder, 0.9)))
    sparse, ids = to_csr(encoder), torch.randint(1, 64, (2, 5))
    assert sum(isinstance(part, CsrLinear) for part in sparse.modules()) == 13
    with torch.no_grad():
        torch.testing.assert_close(sparse(ids).last_hidden, encoder(ids).last_hidden, atol=1e-5, rtol=1e-5)
