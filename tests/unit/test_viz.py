import base64

import matplotlib
import pytest
from matplotlib import pyplot as plt

from coursekit import viz
from coursekit.viz import style, widgets

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def _clean():
    with matplotlib.rc_context():
        matplotlib.use("Agg")
        viz.use_style()
        yield
    plt.close("all")


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


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_series_differ_in_colour_marker_and_line_and_stand_out_on_white():
    _, axis = plt.subplots()
    lines = [axis.plot([1, 2, 3])[0] for _ in viz.PALETTE]
    assert [line.get_color() for line in lines] == list(viz.PALETTE)
    assert [line.get_marker() for line in lines] == list(viz.MARKERS)
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == len(viz.PALETTE)
    assert len(set(viz.PALETTE)) == len(set(viz.MARKERS)) == 7
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in viz.PALETTE)


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
        ({"figure": "plot"}, "expects a matplotlib figure, got str"),
    ],
)
def test_show_refuses_a_figure_without_words(change, message):
    with pytest.raises(ValueError, match=message):
        viz.show(**{"figure": bar(), "alt": "a", "caption": "c"} | change)


def test_outside_a_notebook_nothing_is_printed_and_the_figure_is_closed(capsys):
    viz.show(bar(), alt="a", caption="c")
    viz.explore(bar, alt="a", caption="c", static={"height": 2}, height=(1, 5, 1))
    assert capsys.readouterr().out == "" and plt.get_fignums() == []


def test_controls_redraw_one_image_and_the_twin_stands_below(shown):
    viz.explore(bar, alt="One bar.", caption="It grows.", static={"height": 2}, height=(1, 5, 1), wide=True)
    box, twin, words = shown
    slider, tick, message, image = box.children
    assert (slider.value, tick.value) == (3, True)
    assert message.value == "height 3 &lt;does&gt; not exist" and image.layout.display == "none"
    slider.value = 5
    first = bytes(image.value)
    assert first.startswith(PNG) and image.layout.display is None and message.value == ""
    slider.value = 1
    assert bytes(image.value).startswith(PNG) and bytes(image.value) != first
    assert twin.alt == "One bar." and words.data.startswith("It grows. (Drawn for height = 2, wide = True.)")
    assert plt.get_fignums() == []


def test_explore_refuses_no_controls_and_names_that_are_none():
    with pytest.raises(ValueError, match="at least one control"):
        viz.explore(bar, alt="a", caption="c")
    with pytest.raises(ValueError, match="unknown control 'hight'; nearest: height"):
        viz.explore(bar, alt="a", caption="c", static={"hight": 1}, height=(1, 5, 1))
    with pytest.raises(ValueError, match=r"control height is \(5, 1, 1\), expected"):
        viz.explore(bar, alt="a", caption="c", height=(5, 1, 1))
