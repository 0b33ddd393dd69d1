"""Pictures of recipes: what is drawn is what the recipe says, and another recipe makes another picture."""

from dataclasses import replace

import pytest

from coursekit.distill import Recipe, Stage, Term, distilbert, match_layers, minilm, pkd, theseus, tinybert
from coursekit.viz.recipes import in_words, recipe_panel, recipe_panels
from coursekit.viz.style import to_png
from coursekit.viz.towers import FLOOR, GAP, STACK, joins, layer_map

SIX = {
    "a": distilbert(6, 3),
    "b": theseus(6, 3),
    "c": pkd(6, 3, which="last"),
    "d": pkd(6, 3, which="skip"),
    "e": tinybert(6, 3),
    "f": minilm(6, 3),
}

pytestmark = pytest.mark.usefixtures("drawing")


def lines(axis):
    """Names of the lines between the stacks, without their numbers."""
    return [line.get_gid().split(" ", 1)[1] for line in axis.lines if line.get_gid()]


def gids(axis):
    return {patch.get_gid() for patch in axis.patches if patch.get_gid()}


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_six_panels_have_the_lines_of_their_recipes():
    drawn = dict(zip(SIX, recipe_panels(SIX).axes, strict=True))
    assert [axis.get_title(loc="center") for axis in drawn.values()] == list(SIX)
    assert lines(drawn["a"]) == ["soft logits", "cosine 3-6"]
    assert lines(drawn["b"]) == []
    assert lines(drawn["c"]) == ["soft logits", "patient 1-4", "patient 2-5"]
    assert lines(drawn["d"]) == ["soft logits", "patient 1-2", "patient 2-4"]
    hidden = ["embedding 0-0", "hidden 1-2", "hidden 2-4", "hidden 3-6"]
    assert lines(drawn["e"]) == [*hidden, "attention 0-1", "attention 1-3", "attention 2-5", "prediction logits"]
    assert lines(drawn["f"]) == ["attention-kl 2-5", "values 2-5"]
    assert {name for name, axis in drawn.items() if "hard label" in gids(axis)} == set("abcd")
    assert gids(drawn["b"]) == {"hard label", "module 0", "module 1", "module 2"}


def test_a_students_boxes_name_where_they_begin():
    assert "2\nbegins as 3" in words(recipe_panel(SIX["a"]).axes[0])  # DistilBERT's layers 0, 2, 4, counted from 1
    assert not any("begins" in text for text in words(recipe_panel(SIX["f"]).axes[0]))


def test_hidden_states_meet_at_edges_and_attention_at_middles():
    found = {join.name: join for join in joins(tinybert(12, 4))}
    assert found["embedding 0-0"].teacher == found["embedding 0-0"].student == FLOOR - GAP
    assert found["hidden 4-12"].teacher == pytest.approx(FLOOR + STACK - GAP)
    assert all(j.teacher == pytest.approx(j.student) for n, j in found.items() if n.startswith("hidden"))
    assert found["attention 0-2"].teacher == pytest.approx(FLOOR + 2.5 * STACK / 12 - GAP / 2)
    assert found["attention 0-2"].student == pytest.approx(FLOOR + 0.5 * STACK / 4 - GAP / 2)


def test_what_two_stages_share_is_drawn_once_and_listed_twice():
    axis = recipe_panel(tinybert(6, 3, general=True)).axes[0]
    assert lines(axis) == lines(recipe_panel(SIX["e"]).axes[0])
    assert words(axis).count("attention scores, MSE") == 2
    assert "1. general (teacher: pretrained)" in words(axis) and "2. inner, constant rate" in words(axis)


def test_an_assistant_is_in_the_words_alone():
    axis = recipe_panel(minilm(12, 6, assistant=True)).axes[0]
    assert lines(axis) == ["attention-kl 5-11", "values 5-11"]
    assert {"1. assistant (12 layers)", "2. student (teacher: assistant)"} <= set(words(axis))


def test_terms_in_words():
    assert in_words(Term("soft", 5.0, temperature=2.0, top_k=64)) == "5 × soft targets, T = 2, top 64"
    assert in_words(Term("hidden", layers=((1, 2),), project="each")) == "hidden states, MSE, own maps"
    assert in_words(Term("keys", layers=((1, 2),), heads=48)) == "key relations, KL, 48 heads"


CHANGES = {
    "another map": (pkd(6, 3, which="skip"), pkd(6, 3, which="last")),
    "another depth": (pkd(12, 6), pkd(12, 4)),
    "a weight": (distilbert(6, 3), distilbert(6, 3, soft=1.0)),
    "a temperature": (distilbert(6, 3), distilbert(6, 3, temperature=4.0)),
    "no term": (SIX["e"], SIX["e"].without("attention")),
    "no stage": (SIX["e"], SIX["e"].without("prediction")),
    "a start": (SIX["f"], replace(SIX["f"], start=match_layers("bottom", 6, 3))),
    "a projection": (SIX["e"], tinybert(6, 3, project="each")),
    "a schedule": (SIX["b"], theseus(6, 3, base=0.5)),
    "its end": (SIX["b"], theseus(6, 3, reach=0.8)),
    "relation heads": (minilm(6, 3, relation_heads=12), minilm(6, 3, relation_heads=24)),
    "labels": (SIX["f"], minilm(6, 3, fine_tune=True)),
    "who teaches": (
        Recipe("r", 6, 3, (Stage("one", (Term("soft"),)),)),
        Recipe("r", 6, 3, (Stage("one", (Term("soft"),), teacher="assistant"),)),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_panel_changes_with_its_recipe(change):
    one, other = (to_png(recipe_panel(recipe, title="same"), dpi=40) for recipe in CHANGES[change])
    assert one != other


def test_a_panel_is_the_same_for_the_same_recipe():
    assert to_png(recipe_panel(pkd(6, 3)), dpi=40) == to_png(recipe_panel(pkd(6, 3)), dpi=40)


def test_no_recipes_are_refused():
    with pytest.raises(ValueError, match="at least one recipe"):
        recipe_panels({})


def test_a_map_is_drawn_and_said():
    figure = layer_map(match_layers("uniform", 12, 4), 12, 4, title="uniform")
    picture, said = figure.axes
    names = [line.get_gid() for line in picture.lines]
    assert names == [f"hidden {m}-{3 * m}" for m in range(5)] + [f"attention {i}-{3 * i + 2}" for i in range(4)]
    assert words(said)[1:6] == [f"student {m} meets teacher {3 * m}" for m in range(5)]


def test_a_map_without_hidden_states_has_one_list():
    _, said = layer_map(match_layers("minilm", 12, 6), 12, 6).axes
    assert words(said) == ["attention: the first layer is 0", "student 5 meets teacher 11"]
