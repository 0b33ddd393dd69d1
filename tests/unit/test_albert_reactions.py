"""The real ALBERT inside our encoder: twelve layers on one set of weights, and what it knows of chemistry."""

import json

import pytest
import torch

from coursekit.data import fetch
from coursekit.data.reactions import REACTIONS, ReactionTokenizer, mask_each
from coursekit.measure import count_parameters
from coursekit.models import MaskedLM, SharingPlan, from_huggingface, load, save


@pytest.fixture(scope="module")
def folder():
    return fetch("albert-reactions")


@pytest.fixture(scope="module")
def model(folder):
    return from_huggingface(folder)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return ReactionTokenizer(folder)


def test_twelve_layers_share_one_set_of_weights(model):
    assert isinstance(model, MaskedLM)
    assert model.config.plan == SharingPlan.all(12) and len(model.encoder.layers) == 12
    assert len({id(layer.attention) for layer in model.encoder.layers}) == 1
    assert len({id(layer.ffn_norm) for layer in model.encoder.layers}) == 1
    assert (model.config.hidden_size, model.config.embedding_size, model.config.vocab_size) == (256, 128, 591)


def test_parameters_as_published(model):
    """735,567 is the masked-language model; the file also has a pooler, which predicts no word."""
    pooler = 256 * 256 + 256
    assert count_parameters(model).total == 735_567 + pooler
    one_block = 4 * (256 * 256 + 256) + 2 * 256 * 512 + 512 + 256 + 4 * 256
    assert sum(weight.numel() for weight in model.encoder.layers[0].parameters()) == one_block


def test_twelve_private_layers_would_hold_seven_times_as_much(model):
    from coursekit.models import build

    apart = count_parameters(build(model.config.replace(sharing=None), device="meta")).total
    shared = count_parameters(model.encoder).total
    assert apart - shared == 11 * sum(weight.numel() for weight in model.encoder.layers[0].parameters())
    assert 8 < apart / shared < 9


def test_it_knows_its_chemistry(model, tokenizer):
    """Every token of five reactions masked in turn; over all 20 the share found is 0.978; chance is 1 in 591."""
    right = []
    for ids in tokenizer.encode(list(REACTIONS.values())[:5]):
        input_ids, positions, labels = mask_each(ids, tokenizer.mask_id)
        with torch.inference_mode():
            right += (model(input_ids, positions=positions).logits.argmax(-1) == labels).tolist()
    assert len(right) > 180
    assert 0.95 <= sum(right) / len(right) <= 1


def test_it_fails_on_scrambled_reactions(model, tokenizer):
    ids = tokenizer.encode([REACTIONS["Suzuki coupling"]])[0]
    order = torch.randperm(len(ids) - 2, generator=torch.Generator().manual_seed(0)).tolist()
    input_ids, positions, labels = mask_each([ids[0], *(ids[1 + i] for i in order), ids[-1]], tokenizer.mask_id)
    with torch.inference_mode():
        right = (model(input_ids, positions=positions).logits.argmax(-1) == labels).float().mean()
    assert right < 0.7


def test_equal_to_transformers_on_the_same_weights(model, folder, tokenizer):
    transformers = pytest.importorskip("transformers")
    known = transformers.AlbertConfig().to_dict()
    config = json.loads((folder / "config.json").read_text())
    theirs = transformers.AlbertForMaskedLM(
        transformers.AlbertConfig(**{name: value for name, value in config.items() if name in known})
    ).eval()
    state = torch.load(folder / "pytorch_model.bin", weights_only=True, map_location="cpu")
    missing = theirs.load_state_dict(state, strict=False).missing_keys
    assert not [name for name in missing if "position_ids" not in name]
    assert sum(weight.numel() for weight in theirs.parameters()) == 735_567
    ids = torch.tensor(tokenizer.encode([REACTIONS["paracetamol"]]))
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, theirs(ids).logits, atol=2e-4)


def test_it_is_written_once_and_read_back(model, tmp_path, tokenizer):
    save(model, tmp_path / "albert")
    file = tmp_path / "albert" / "model.safetensors"
    assert 4 * count_parameters(model).total <= file.stat().st_size < 4 * count_parameters(model).total + 10_000
    ids = torch.tensor(tokenizer.encode([REACTIONS["aspirin"]]))
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "albert")(ids).logits, model(ids).logits)


def test_safetensors_come_before_the_pickle_and_a_pickle_that_runs_code_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="holds no model.safetensors or pytorch_model.bin"):
        from_huggingface(tmp_path)
    torch.save({"weight": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged, or holds more than tensors"):
        from_huggingface(tmp_path)


def test_tokens_of_a_reaction(tokenizer):
    ids = tokenizer.encode(["BrCc1ccc([N+](=O)[O-])cc1.Cl>>C%10"])[0]
    expected = "[CLS] Br C c 1 c c c ( [N+] ( = O ) [O-] ) c c 1 . Cl >> C %10 [SEP]".split()
    assert [token if i != tokenizer.unk_id else "%10" for token, i in zip(tokenizer.tokens(ids), ids, strict=True)] == (
        expected
    )
    assert tokenizer.encode(["[Xx+9]"])[0] == [tokenizer.cls_id, tokenizer.unk_id, tokenizer.sep_id]
    assert tokenizer.vocab_size == 591 and tokenizer.pad_id == 0 and len(tokenizer.special_ids) == 5


def test_every_sample_reaction_is_in_the_vocabulary(tokenizer):
    for name, ids in zip(REACTIONS, tokenizer.encode(REACTIONS.values()), strict=True):
        assert tokenizer.unk_id not in ids, name
        assert "".join(tokenizer.tokens(ids)[1:-1]) == REACTIONS[name]
        assert REACTIONS[name].count(">>") == 1


def test_mask_each_hides_each_inner_token_once():
    input_ids, positions, labels = mask_each([2, 7, 8, 9, 3], mask_id=4)
    assert input_ids.tolist() == [[2, 4, 8, 9, 3], [2, 7, 4, 9, 3], [2, 7, 8, 4, 3]]
    assert positions.int().argmax(1).tolist() == [1, 2, 3] and positions.sum() == 3
    assert labels.tolist() == [7, 8, 9]


def test_bad_input(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="reactions must be a list of strings, got one string"):
        tokenizer.encode("CC>>CC")
    with pytest.raises(ValueError, match=r"reactions\[1\] must be a string, got int"):
        tokenizer.encode(["CC", 3])
    with pytest.raises(ValueError, match="id 591 is outside the vocabulary of 591"):
        tokenizer.tokens([591])
    with pytest.raises(ValueError, match="got 2 ids"):
        mask_each([1, 2], 0)
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        ReactionTokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\nC\n")
    with pytest.raises(ValueError, match=r"has no \[MASK\] \[UNK\]"):
        ReactionTokenizer(tmp_path)
