"""Plans of trainings: the arithmetic by hand, and bytes beside what a real step keeps."""

import pytest
import torch

from coursekit.bench import Memory, Plan, Throughput, check_plan, plan
from coursekit.bench import plan as plan_function
from coursekit.bench.arithmetic import activation_bytes, training_flops, training_memory
from coursekit.bench.plan import measure_throughput
from coursekit.bench.plan_table import check_line, plan_rows
from coursekit.models import Encoder, MaskedLM, Seq2SeqConfig, SharingPlan, TransformerConfig, preset
from coursekit.train import masked_lm_loss

TINY = TransformerConfig(200, 32, 3, 4, 64, max_positions=64, dropout=0.0)


def test_flops_by_hand():
    """Per layer 2(4TH² + 2T²H + 2THI), then the head on 15 % of the tokens, three times for forward and backward."""
    tokens, hidden, inner, vocab = 16, 32, 64, 200
    layer = 2 * (4 * tokens * hidden**2 + 2 * tokens**2 * hidden + 2 * tokens * hidden * inner)
    head = 2 * tokens * (hidden**2 + hidden * vocab)
    assert training_flops(TINY, tokens) == pytest.approx(3 * (3 * layer + 0.15 * head))
    shared = TINY.replace(sharing=SharingPlan.all(3))
    assert training_flops(shared, tokens) == training_flops(TINY, tokens)  # sharing saves no product


def test_memory_by_hand():
    """16 bytes a weight; 8H + 2I numbers a token and layer; V twice for the 15 % that are predicted."""
    embeddings = (200 + 64 + 2) * 32 + 64
    layer = 4 * (32 * 32 + 32) + 64 + (32 * 64 + 64) + (64 * 32 + 32) + 64
    weights = embeddings + 3 * layer + (32 * 32 + 32) + 64 + 200
    memory = training_memory(TINY, 2, 16)
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * weights, 4 * weights, 8 * weights)
    assert memory.activations == round(2 * 16 * (3 * 4 * (8 * 32 + 2 * 64) + 0.15 * 8 * 200))
    half = activation_bytes(TINY, 2, 16, "bf16", "cuda")
    assert half == round(2 * 16 * (3 * (2 * (8 * 32 + 2 * 64) + 8 * 32) + 0.15 * 6 * 200))
    plain = 3 * 4 * 16 * 2  # 4 heads, 16 keys: the probabilities, in bf16
    assert activation_bytes(TINY, 2, 16, "bf16") - half == 2 * 16 * plain
    dropped = activation_bytes(TINY.replace(dropout=0.1), 2, 16)
    assert dropped - memory.activations == 2 * 16 * 3 * (4 * 16 * 12 + 2 * 32 * 4)
    assert memory.total == 16 * weights + memory.activations
    assert memory.sharded(4) == 4 * weights + memory.activations
    shared = training_memory(TINY.replace(sharing=SharingPlan.all(3)), 2, 16)
    assert memory.weights - shared.weights == 4 * 2 * layer and shared.activations == memory.activations


@pytest.mark.parametrize("length", [160, 72], ids=["fused attention", "short"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_those_a_real_step_keeps(precision, dropout, length):
    """Storages that autograd saves, weights left out."""
    if dropout and length > 128:
        pytest.skip("on a CPU, fused attention is not for dropout")
    config = TINY.replace(num_layers=6, hidden_size=64, num_heads=4, intermediate_size=256, max_positions=160)
    config = config.replace(dropout=dropout)
    model = MaskedLM(Encoder(config.replace(pooler=False))).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    shapes = {weight.shape for weight in model.parameters()}
    shapes |= {weight.T.shape for weight in model.parameters() if weight.dim() == 2}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.shape not in shapes:  # nor a weight's copy in bf16
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no other gets its address
        return tensor

    ids = torch.randint(5, 200, (4, length))
    labels = torch.where(torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.15, ids, -100)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids, dtype=torch.bool), "labels": labels}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = masked_lm_loss(model, batch).mean
    assert loss.requires_grad
    found = sum(size for size, _ in kept.values())
    assert activation_bytes(config, 4, length, precision) == pytest.approx(found, rel=0.12)


def test_a_plan_adds_up():
    memory = Memory(weights=4, gradients=4, optimizer=8, activations=10)
    made = Plan("x", 1, 1e9, 6e6, Throughput(1e12, "as given"), memory, devices=4, efficiency=0.5, price=3.0)
    assert made.flops == 6e15
    assert made.tokens_per_second == pytest.approx(1e12 * 4 * 0.5 / 6e6)
    assert made.seconds == pytest.approx(3000)
    assert made.device_hours == pytest.approx(3000 * 4 / 3600) and made.cost == pytest.approx(10)
    rows = dict(plan_rows(made))
    assert rows["time"] == "50.0 minutes" and rows["cost"] == "10.00" and rows["FLOP in all"] == "6.00e+15"
    assert rows["of the devices' throughput left"] == "50%"
    alone = Plan("x", 1, 1e9, 6e6, Throughput(1e12, "as given"), memory)
    assert "cost" not in dict(plan_rows(alone)) and alone.seconds == pytest.approx(6000)


@pytest.mark.parametrize("name", ["bert-base", "albert-xxlarge", "subformer-base", "transformer-base"])
def test_presets(name):
    """Six FLOPs per weight and token that multiplies, and attention: Kaplan's count holds where nothing is shared."""
    made = plan(name, 1e9, throughput=Throughput(1e12, "as given"), batch=8, length=128, precision="fp32")
    assert made.memory.activations > 0 and made.seconds > 0
    if name == "bert-base":
        layers = 12 * 7_087_872
        assert made.flops_per_token == pytest.approx(6 * layers, rel=0.08)
        assert made.efficiency == 1 and plan(name, 1, throughput=made.throughput, devices=2).efficiency == 0.9


def test_measured_and_checked(monkeypatch):
    """On a model of a few kilobytes: what is timed is a part of it, what is checked the whole. Times are not judged."""
    module = __import__("sys").modules["coursekit.bench.plan"]
    monkeypatch.setattr(module, "preset", lambda name: TINY if name == "tiny" else preset(name))
    made = plan_function("tiny", 1e6, batch=4, length=16, precision="fp32")
    assert "3 steps of 2 of its layers, 4 × 16 tokens, fp32, on " in made.throughput.source
    assert made.throughput.flops_per_second > 0
    checked = check_plan(made, steps=1)
    assert checked.seconds > 0 and checked.ratio == checked.seconds / checked.planned_seconds
    assert checked.planned_bytes == made.memory.gradients + made.memory.activations
    assert 0.8 < checked.bytes_ratio < 2  # so small a model has buffers that no formula counts
    assert "(ratio " in check_line(checked)
    wide = TINY.replace(
        num_layers=5, sharing=SharingPlan.sandwich(5), inner_size=48, inner_heads=4, inner_intermediate_size=80
    )
    assert "3 of its layers" in measure_throughput(wide, 2, 8, "fp32", steps=1).source
    seq2seq = Seq2SeqConfig(TINY.replace(token_types=0, pooler=False), 2)
    assert "2 of its layers" in measure_throughput(seq2seq, 2, 8, "fp32", steps=1).source


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"devices": 0}, {"price": -1.0}, {"length": float("nan")}])
def test_wrong_numbers(wrong):
    options = {"tokens": 1e6} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be positive, got"):
        plan("bert-base", options.pop("tokens"), throughput=Throughput(1e12, ""), **options)
    with pytest.raises(ValueError, match="unknown preset 'bert-bse'"):
        plan("bert-bse", 1)


def test_seq2seq_is_not_checked():
    made = plan("subformer-small", 1e6, throughput=Throughput(1e12, ""))
    with pytest.raises(ValueError, match="a plan is checked on encoders; subformer-small is a Seq2Seq"):
        check_plan(made)
