"""Layer maps, the recipes that use them, and how students begin."""

import pytest
import torch
from distill_models import NARROW, SHAPE, model, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.distill import (
    Recipe,
    Replacing,
    Stage,
    Term,
    distilbert,
    fresh_student,
    init_from_teacher,
    match_layers,
    minilm,
    needs_assistant,
    pkd,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.models import Encoder, MaskedLM, SequenceClassifier, SharingPlan


def test_uniform_matches_differ_for_attention_and_hidden():
    """12 → 4: attention 0-based 2, 5, 8, 11; hidden 0, 3, 6, 9, 12."""
    match = match_layers("uniform", 12, 4)
    assert match.attention == ((0, 2), (1, 5), (2, 8), (3, 11))
    assert match.hidden == ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 4))
def test_uniform_ends_with_the_last_layer_and_strides_evenly(student, k):
    match = match_layers("uniform", student * k, student)
    assert match.hidden[0] == (0, 0) and match.hidden[-1] == (student, student * k)
    assert match.attention[-1] == (student - 1, student * k - 1)
    assert [t + 1 for _, t in match.attention] == [t for _, t in match.hidden[1:]]


@pytest.mark.parametrize(
    ("strategy", "hidden", "attention"),
    [
        ("top", ((0, 0), (1, 4), (2, 5), (3, 6)), ((0, 3), (1, 4), (2, 5))),
        ("bottom", ((0, 0), (1, 1), (2, 2), (3, 3)), ((0, 0), (1, 1), (2, 2))),
        ("pkd-skip", ((1, 2), (2, 4)), ()),
        ("pkd-last", ((1, 4), (2, 5)), ()),
        ("distilbert-init", ((0, 0), (1, 1), (2, 3), (3, 5)), ((0, 0), (1, 2), (2, 4))),
        ("minilm", (), ((2, 5),)),
    ],
)
def test_matches_of_6_to_3(strategy, hidden, attention):
    match = match_layers(strategy, 6, 3)
    assert match.hidden == hidden and match.attention == attention


def test_published_matches_of_12_to_6():
    teachers = [[t for _, t in match_layers(name, 12, 6).hidden] for name in ("pkd-skip", "pkd-last")]
    assert teachers == [[2, 4, 6, 8, 10], [7, 8, 9, 10, 11]]
    assert [t for _, t in match_layers("distilbert-init", 12, 6).attention] == [0, 2, 4, 7, 9, 11]
    assert [t for _, t in match_layers("pkd-skip", 12, 3).hidden] == [4, 8]
    assert [t for _, t in match_layers("pkd-last", 12, 3).hidden] == [10, 11]


@pytest.mark.parametrize(
    ("strategy", "teacher", "student", "says"),
    [
        ("uniform", 6, 4, "4 student layers do not divide the 6"),
        ("pkd-skip", 12, 5, "5 student layers do not divide the 12"),
        ("pkd-skip", 6, 1, "at least 2"),
        ("pkd-last", 6, 1, "at least 2"),
        ("distilbert-init", 12, 4, "12 → 6, 6 → 3.*12 → 4"),
        ("uniform", 6, 12, "1 to 6.*12"),
        ("top", 6, 0, "1 to 6.*0"),
        ("unifrom", 6, 3, "unknown strategy 'unifrom'.*uniform"),
    ],
)
def test_matches_that_do_not_exist(strategy, teacher, student, says):
    with pytest.raises(ValueError, match=says):
        match_layers(strategy, teacher, student)


def terms(recipe, stage=-1):
    return {term.name: term for term in recipe.stages[stage].terms}


def test_distilbert_recipe_has_the_weights_of_the_released_code():
    found = terms(distilbert())
    assert {name: term.weight for name, term in found.items()} == {"soft": 5.0, "hard": 2.0, "cosine": 1.0}
    assert found["soft"].temperature == 2.0 and found["cosine"].layers == ((6, 12),)
    assert distilbert().start == match_layers("distilbert-init", 12, 6)
    assert "hard" not in terms(distilbert(hard=0))


def test_alpha_multiplies_the_soft_loss():
    found = terms(soft_and_hard(6, 3, alpha=0.7))
    assert found["soft"].weight == 0.7 and found["hard"].weight == pytest.approx(0.3)


def test_pkd_leaves_the_last_layer_alone():
    for which in ("skip", "last"):
        assert all(s < 3 and t < 6 for s, t in terms(pkd(6, 3, which=which))["patient"].layers)
    assert pkd(6, 3).name == "PKD-Skip" and pkd(6, 3, which="last").name == "PKD-Last"


def test_tinybert_is_staged():
    """General: no labels, no prediction, another teacher. Inner at a constant rate, prediction alone last."""
    general, inner, prediction = tinybert(6, 3, general=True).stages
    assert [stage.teacher for stage in (general, inner, prediction)] == ["pretrained", "teacher", "teacher"]
    assert [term.name for term in general.terms] == [term.name for term in inner.terms]
    assert {term.kind for term in general.terms} == {"hidden", "attention"}
    assert inner.schedule == "constant" and prediction.schedule is None
    assert [term.kind for term in prediction.terms] == ["soft"] and prediction.terms[0].temperature == 1.0
    assert all(term.weight == 1 for term in (*inner.terms, *prediction.terms))
    assert terms(tinybert(6, 3), 0)["embedding"].layers == ((0, 0),)
    assert [stage.name for stage in tinybert(6, 3).stages] == ["inner", "prediction"]


def test_a_regression_fits_the_teachers_score():
    assert tinybert(6, 3, regression=True).stages[-1].terms[0].kind == "logits"


def test_minilm_compares_the_last_layers_only():
    assert all(term.layers == ((2, 5),) and term.weight == 1 for term in minilm(6, 3).stages[0].terms)
    assert [term.kind for term in minilm(6, 3).stages[0].terms] == ["attention-kl", "values"]
    assert [term.kind for term in minilm(6, 3, relation_heads=8).stages[0].terms] == ["queries", "keys", "values"]
    first, second = minilm(6, 3, assistant=True).stages
    assert (first.student, first.teacher, second.student, second.teacher) == (
        "assistant", "teacher", "student", "assistant"
    )  # fmt: skip
    assert first.terms[0].layers == ((5, 5),) and second.terms[0].layers == ((2, 5),)
    assert needs_assistant(12, 768, 6, 384) and not needs_assistant(12, 768, 6, 768)


def test_theseus_has_the_hard_loss_alone():
    recipe = theseus(6, 3)
    assert all([term.kind for term in stage.terms] == ["hard"] for stage in recipe.stages)
    assert recipe.start.attention == ((0, 0), (1, 1), (2, 2))  # the first layers
    with pytest.raises(ValueError, match="divide"):
        theseus(6, 4)
    with pytest.raises(ValueError, match="hard loss alone"):
        Stage("replace", (Term("soft"),), replacing=Replacing())


def test_replacing_rate_is_linear_then_one():
    rate = Replacing(0.3, 0.5).rate
    assert [rate(step, 100) for step in (0, 25, 50, 99)] == pytest.approx([0.3, 0.65, 1.0, 1.0])
    assert Replacing(0.5, None).rate(99, 100) == 0.5
    for base, reach in ((0, 0.5), (1.1, 0.5), (0.5, 0), (0.5, 2)):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            Replacing(base, reach)


def test_ablations_take_terms_or_stages_out():
    recipe = tinybert(6, 3)
    assert [term.name for term in recipe.without("attention").stages[0].terms] == ["embedding", "hidden"]
    assert [stage.name for stage in recipe.without("inner").stages] == ["prediction"]
    assert [stage.name for stage in recipe.without("embedding", "hidden", "attention").stages] == ["prediction"]
    assert recipe.stages[0].terms == tinybert(6, 3).stages[0].terms
    with pytest.raises(ValueError, match="unknown term or stage 'atention'"):
        recipe.without("atention")
    with pytest.raises(ValueError, match="nothing is left"):
        recipe.without("inner", "prediction")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "sotf"}, "unknown kind of term.*soft"),
        ({"kind": "soft", "temperature": 0}, "temperature"),
        ({"kind": "soft", "weight": 0}, "weight"),
        ({"kind": "soft", "weight": -1.0}, "weight"),
        ({"kind": "soft", "layers": ((0, 0),)}, "takes no pairs"),
        ({"kind": "hidden"}, "needs pairs"),
        ({"kind": "hard", "temperature": 2.0}, "temperature is for soft"),
        ({"kind": "attention", "layers": ((0, 0),), "project": "one"}, "project is for hidden"),
        ({"kind": "hidden", "layers": ((0, 0),), "project": "two"}, "'one' or 'each'"),
        ({"kind": "hidden", "layers": ((0, 0),), "heads": 2}, "heads is for"),
    ],
)
def test_terms_refuse_what_they_do_not_take(arguments, says):
    with pytest.raises(ValueError, match=says):
        Term(**arguments)


def test_a_stage_needs_terms_of_different_names():
    with pytest.raises(ValueError, match="name of its own"):
        Stage("inner", (Term("soft"), Term("soft")))
    with pytest.raises(ValueError, match="needs terms"):
        Stage("inner", ())
    assert Recipe("mine", 2, 1, (Stage("both", (Term("soft"), Term("soft", name="again"))),)).start is None


@pytest.mark.parametrize("strategy", ["distilbert-init", "bottom", "top", "uniform"])
def test_a_student_begins_with_copies_of_the_teachers_layers(strategy):
    teacher, match = model(), match_layers(strategy, 6, 3)
    before = weights(teacher)
    student = init_from_teacher(teacher, match)
    for (s, t), layer in zip(match.attention, student.encoder.layers, strict=True):
        assert torch.equal(weights(layer), weights(teacher.encoder.layers[t])) and s < 3
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)
    assert torch.equal(student.encoder.embeddings.word.weight, teacher.encoder.embeddings.word.weight)
    assert not {id(w) for w in student.parameters()} & {id(w) for w in teacher.parameters()}
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(1)
    assert torch.equal(weights(teacher), before) and len(teacher.encoder.layers) == 6
    assert student.config.num_layers == 3 and student.encoder.embeddings.config == student.config


def test_a_student_with_all_layers_is_the_teacher():
    teacher = model().requires_grad_(False)
    student = init_from_teacher(teacher, match_layers("bottom", 6, 6))
    ids = torch.randint(5, 40, (2, 7))
    assert torch.equal(student(ids).logits, teacher(ids).logits)
    assert all(weight.requires_grad for weight in student.parameters())


def test_a_students_layers_are_its_own_where_the_teacher_shares():
    teacher = model(config=SHAPE.replace(sharing=SharingPlan.all(6)))
    student = init_from_teacher(teacher, match_layers("bottom", 6, 3))
    assert student.encoder.layers[0].attention is not student.encoder.layers[1].attention
    assert torch.equal(
        student.encoder.layers[0].attention.query.weight, teacher.encoder.layers[5].attention.query.weight
    )


def test_a_bare_student_has_no_token_types_and_no_pooler_but_the_same_hidden_states():
    teacher = model(MaskedLM)
    student = init_from_teacher(teacher, match_layers("bottom", 6, 6), bare=True)
    assert student.encoder.pooler is None and student.encoder.embeddings.token_type is None
    assert student.config.token_types == 0 and not student.config.pooler
    ids = torch.randint(5, 40, (2, 7))
    assert torch.allclose(student(ids).logits, teacher(ids).logits, atol=1e-4)


def test_a_bare_student_is_saved_and_read_back(tmp_path):
    from coursekit.models import load, save

    for kind in (MaskedLM, SequenceClassifier):
        student = init_from_teacher(model(kind), match_layers("bottom", 6, 3), bare=True).eval()
        again = load(save(student, tmp_path / kind.__name__))
        ids = torch.randint(5, 40, (2, 7))
        assert torch.equal(again(ids).logits, student(ids).logits)


def test_a_start_needs_a_layer_for_each_of_the_students():
    with pytest.raises(ValueError, match="each student layer needs one"):
        init_from_teacher(model(), match_layers("pkd-skip", 6, 3))
    with pytest.raises(ValueError, match="each student layer needs one"):
        init_from_teacher(model(), match_layers("minilm", 6, 3))
    with pytest.raises(ValueError, match="layer 11.*0 to 5"):
        init_from_teacher(model(), match_layers("uniform", 12, 3))


@pytest.mark.parametrize("kind", [Encoder, MaskedLM, SequenceClassifier])
def test_a_fresh_student_is_of_the_teachers_kind_and_depends_on_the_seed_alone(kind):
    teacher, state = model(kind), torch.get_rng_state()
    made = [fresh_student(teacher, seed=seed, num_layers=3, hidden_size=16, intermediate_size=24) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert type(made[0]) is kind and made[0].config == NARROW
    assert torch.equal(weights(made[0]), weights(made[1])) and not torch.equal(weights(made[0]), weights(made[2]))
