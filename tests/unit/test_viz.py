import base64
import json
from itertools import combinations

import pytest
from IPython.display import HTML
from matplotlib import pyplot as plt

from coursekit import viz
from coursekit.viz import colours, style, widgets

PNG = b"\x89PNG"

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as if in a kernel."""
    displayed = []
    shell = type("Shell", (), {"kernel": object()})()
    for module in (style, widgets):
        monkeypatch.setattr(module, "get_ipython", lambda: shell)
        monkeypatch.setattr(module, "display", lambda *objects: displayed.extend(objects))
    return displayed


def bar(height=1, wide=False):
    if height == 3:
        raise ValueError("height 3 <does> not exist")
    figure, axis = plt.subplots(figsize=(3, 2))
    axis.bar(["a"], [height])
    return figure


def test_series_differ_in_colour_marker_and_line_and_stand_out_on_white():
    _, axis = plt.subplots()
    lines = [axis.plot([1, 2, 3])[0] for _ in viz.PALETTE]
    assert [line.get_color() for line in lines] == list(viz.PALETTE)
    assert [line.get_marker() for line in lines] == list(viz.MARKERS)
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == len(viz.PALETTE)
    assert len(set(viz.PALETTE)) == len(set(viz.MARKERS)) == 7


def test_contrast_and_distance_of_known_colours():
    assert colours.contrast("#000000") == pytest.approx(21) == colours.contrast("#ffffff", "#000000")
    assert colours.contrast("#777777") == pytest.approx(4.48, abs=0.01)  # WCAG's own example of just too little
    assert colours.distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert colours.distance("#ff0000", "#00ff00") == pytest.approx(170.6, abs=0.2)
    assert colours.distance("#808080", "#808080", "protanopia") == 0
    assert (colours.ink("#ffffff"), colours.ink("#0072B2")) == ("#000000", "#ffffff")
    for wrong in ("red", "0072B2", "#0072B", "#0072B2FF"):
        with pytest.raises(ValueError, match=f"expected a colour as #0072B2, got '{wrong}'"):
            colours.contrast(wrong)


def test_red_and_green_are_alike_without_the_cones_for_one_of_them():
    red, green = "#C04000", "#5C6E00"
    assert colours.distance(red, green) > 60
    assert colours.distance(red, green, "deuteranopia") < colours.distance(red, green) / 3


def test_the_palette_stands_out_on_white_and_every_two_colours_differ_for_all_eyes():
    assert {colour: round(colours.contrast(colour), 2) for colour in viz.PALETTE if colours.contrast(colour) < 3} == {}
    for sight in colours.SIGHT:
        close = [pair for pair in combinations(viz.PALETTE, 2) if colours.distance(*pair, sight) < 15]
        assert close == [], sight
    assert colours.distance("#D55E00", "#B87E00", "deuteranopia") < 15  # a darker orange would not have done


def test_a_figure_is_shown_once_and_closed(shown):
    figure = bar()
    viz.show(figure, alt="One bar.", caption="It is short.")
    image, words = shown
    data, metadata = image._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert metadata["image/png"] == {"alt": "One bar.", "width": 3 * 96}
    assert words.data.startswith("It is short.") and "One bar." in words.data
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt": " "}, "needs alt="),
        ({"caption": ""}, "needs caption="),
        ({"alt": None}, "needs alt=.*None"),
        ({"figure": "plot"}, "expects a matplotlib figure or a table in HTML, got str"),
    ],
)
def test_show_refuses_a_figure_without_words(change, message):
    with pytest.raises(ValueError, match=message):
        viz.show(**{"figure": bar(), "alt": "a", "caption": "c"} | change)


def test_outside_a_notebook_nothing_is_printed_and_the_figure_is_closed(capsys):
    viz.show(bar(), alt="a", caption="c")
    viz.explore(bar, alt="a", caption="c", static={"height": 2}, height=(1, 5, 1))
    assert capsys.readouterr().out == "" and plt.get_fignums() == []


def picture(value):
    """The PNG in the live figure's HTML."""
    return base64.b64decode(value.partition("base64,")[2].partition('"')[0])


def test_controls_redraw_one_image_and_the_twin_stands_below(shown):
    viz.explore(bar, alt="One bar.", caption="It grows.", static={"height": 2}, height=(1, 5, 1), wide=True)
    box, twin, words = shown
    slider, tick, live = box.children
    assert (slider.value, tick.value, slider.tooltip) == (2, True, "height")
    assert picture(live.value).startswith(PNG) and "height = 2, wide = True" in live.value  # what the twin shows
    slider.value = 3
    assert live.value == '<p role="alert">height 3 &lt;does&gt; not exist</p>'
    slider.value = 5
    first = picture(live.value)
    assert (
        first.startswith(PNG) and 'alt="The figure described below, drawn for height = 5, wide = True."' in live.value
    )
    slider.value = 1
    assert picture(live.value).startswith(PNG) and picture(live.value) != first
    assert twin.alt == "One bar." and words.data.startswith("It grows. (Drawn for height = 2, wide = True.)")
    assert plt.get_fignums() == []


def test_a_change_draws_once_and_going_back_not_at_all(shown):
    calls = []

    def counted(height, wide):
        calls.append((height, wide))
        return bar(height)

    viz.explore(counted, alt="One bar.", caption="It grows.", static={"height": 2}, height=(1, 9, 1), wide=False)
    assert calls == [(2, False), (2, False)]  # the live figure, the twin
    slider, tick, live = shown[0].children
    seen = {2: live.value}
    for value in (6, 7):
        slider.value = value
        seen[value] = live.value
    assert calls[2:] == [(6, False), (7, False)]
    for value in (2, 7, 6):
        slider.value = value
        assert live.value == seen[value]
    assert len(calls) == 4
    tick.value = True
    assert calls[4:] == [(6, True)]


def test_a_table_is_shown_as_it_is(shown):
    viz.explore(lambda size: HTML(f"<table>{size}</table>"), alt="Sizes.", caption="They grow.", size=(1, 5, 1))
    box, twin, words = shown
    assert twin.data == "<table>3</table>" and twin.data in box.children[-1].value
    box.children[0].value = 5
    assert "<table>5</table>" in box.children[-1].value
    assert words.data.startswith("They grow. (Drawn for size = 3.)")
    assert "<summary>The table in words</summary>Sizes." in words.data


def test_answers_are_noted_where_they_are_asked_for(shown, monkeypatch, tmp_path):
    """Every control goes to its ends, each in turn, and ends where it was."""
    file = tmp_path / "answers.jsonl"
    controls = {"height": (4, 9, 1), "wide": False, "name": ["a", "b", "c"]}

    def explore():
        viz.explore(lambda height, wide, name: bar(height), alt="One bar.", caption="It grows.", **controls)

    explore()
    assert not file.exists()
    monkeypatch.setenv(widgets.NOTES, str(file))
    explore()
    noted = [json.loads(line) for line in file.read_text().splitlines()]
    turns = [(note["control"], note["value"]) for note in noted]
    assert turns == [("height", "4"), ("height", "9"), ("wide", "True"), ("name", "c")]
    assert all(note["caption"] == "It grows." and note["seconds"] > 0 for note in noted)
    assert [control.value for control in shown[-3].children[:3]] == [6, False, "a"]


def test_explore_refuses_no_controls_and_names_that_are_none():
    with pytest.raises(ValueError, match="at least one control"):
        viz.explore(bar, alt="a", caption="c")
    with pytest.raises(ValueError, match="unknown control 'hight'; nearest: height"):
        viz.explore(bar, alt="a", caption="c", static={"hight": 1}, height=(1, 5, 1))
    with pytest.raises(ValueError, match="static has height = 9, which its control cannot have"):
        viz.explore(bar, alt="a", caption="c", static={"height": 9}, height=(1, 5, 1))
    with pytest.raises(ValueError, match="static has name = 'd', which its control cannot have"):
        viz.explore(bar, alt="a", caption="c", static={"name": "d"}, name=["a", "b"])
    with pytest.raises(ValueError, match=r"control height is \(5, 1, 1\), expected"):
        viz.explore(bar, alt="a", caption="c", height=(5, 1, 1))
