"""Figures of unit 03 show the numbers they are given."""

import numpy as np
import pytest

from coursekit.viz.sentence_pairs import fate, how_pairs_are_made, masking_strip
from coursekit.viz.sentence_results import by_test, cross_tables, pretraining_arms, probes, teacher_curve

pytestmark = pytest.mark.usefixtures("drawing")


def said(axis):
    return [text.get_text() for text in axis.texts]


def test_pairs_name_their_sentences_and_labels():
    texts = said(how_pairs_are_made().axes[0])
    assert [texts.count(sentence) for sentence in ("a2", "a3", "b4")] == [4, 3, 2]
    assert texts.count("segment 0") == texts.count("segment 1") == 3
    assert any("SOP 1" in text for text in texts) and any("NSP 0, SOP 0" in text for text in texts)


def test_the_fate_of_a_token():
    assert fate("cat", "cat", False) == "left alone"
    assert fate("cat", "[MASK]", True) == "[MASK]"
    assert fate("cat", "dog", True) == "another token"
    assert fate("cat", "cat", True) == "as it was, but asked"


def test_a_strip_shows_every_token_and_below_it_what_is_asked():
    figure = masking_strip(["a", "b", "c"], ["a", "[MASK]", "x"], [False, True, True], per_row=2)
    axis = figure.axes[0]
    assert said(axis) == ["a", "[MASK]", "b", "x", "c"]
    boxes = axis.patches
    assert [(box.get_x(), box.get_y()) for box in boxes] == [(0, 0), (1, 0), (0, -1)]
    assert len({box.get_facecolor() for box in boxes}) == 3 and len({box.get_hatch() for box in boxes}) == 3
    for wrong in (([], [], []), (["a"], ["a"], [True, False])):
        with pytest.raises(ValueError, match="must have one length, got"):
            masking_strip(*wrong)


def test_cross_tables_print_what_they_colour():
    cells = {("NSP", "NSP"): (0.8, 0.75, 0.85), ("NSP", "SOP"): 0.5, ("SOP", "NSP"): 0.789, ("SOP", "SOP"): 0.9}
    axis = cross_tables({"ours": cells, "theirs": {("NSP", "SOP"): 0.52}}).axes[0]
    assert said(axis) == ["80.0", "75 to 85", "50.0", "78.9", "90.0"]
    assert axis.images[0].get_array().tolist() == [[0.8, 0.5], [0.789, 0.9]]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["NSP", "SOP"]


def test_by_test_leaves_out_what_was_not_measured():
    figure = by_test(["A", "B"], {"x": {"A": [0.6, 0.8], "B": [0.5]}, "y": {"A": [0.9]}})
    first, second = figure.axes
    dots = [line.get_xdata().tolist() for line in first.lines if len(np.unique(line.get_xdata())) > 1]
    assert dots == [[60.0, 80.0]]
    means = [line.get_xdata()[0] for line in first.lines[2::2]]
    assert means == pytest.approx([70, 90]) and len(second.lines) == 3  # chance, a dot, its mean


def test_probes_have_a_line_for_each_model():
    lines = {"m": [(0.5, 0.4, 0.6), (0.7, 0.6, 0.8)], "n": [(0.2, 0.1, 0.3), (0.3, 0.2, 0.4)]}
    axis = probes({"title": (("low", "high"), lines)}).axes[0]
    data = [container.lines[0].get_ydata().tolist() for container in axis.containers]
    assert data == [pytest.approx([50, 70]), pytest.approx([20, 30])]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["low", "high"]


def test_pretraining_shows_each_seed_and_leaves_out_what_an_arm_has_not():
    runs = [
        {"arm": arm, "numbers": {"masked_lm accuracy": 0.1 + seed / 100} | pair}
        for arm, pair in (("a", {"nsp accuracy": 0.6, "sop accuracy": 0.5}), ("b", {}))
        for seed in (0, 1)
    ]
    alone = {"nsp": {"accuracy": 0.7}, "sop": {"accuracy": 0.5}}
    study = {"runs": runs, "baselines": {"unigram": {"accuracy": 0.05}, "words_alone": alone}}
    masked, nsp, _ = pretraining_arms(study, {"a": "arm a", "b": "arm b"}).axes
    assert [line.get_xdata().tolist() for line in masked.lines[1:]] == [pytest.approx([10, 11])] * 2
    assert nsp.lines[0].get_xdata()[0] == pytest.approx(70) and len(nsp.lines[2].get_xdata()) == 0


def test_the_curve_of_a_teacher():
    history = [{"step": 25, "accuracy": 0.1, "loss": 6.0}, {"step": 50, "accuracy": 0.2, "loss": 5.0}]
    left, right = teacher_curve(history, [{"step": 50, "news accuracy": 0.19}], ["news"], target=0.4).axes
    assert left.lines[0].get_ydata().tolist() == [10, 20] and left.lines[1].get_ydata().tolist() == [19]
    assert left.lines[2].get_ydata()[0] == 40 and right.lines[0].get_ydata().tolist() == [6.0, 5.0]
