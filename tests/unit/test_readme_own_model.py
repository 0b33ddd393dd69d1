"""The README's code about your own model runs as it stands, on a small checkpoint and a small table."""

import io
import json
import shutil
import warnings
import wsgiref.simple_server

import pytest
import torch

from coursekit.course.units import course_root
from coursekit.data import fetch
from coursekit.models import SequenceClassifier

transformers = pytest.importorskip("transformers")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

YOURS, TAKE = "## Compress your own checkpoint in ten lines", "## Take it with you"


def blocks(heading):
    """The Python of a section of the README."""
    text = (course_root() / "README.md").read_text(encoding="utf-8")
    section = text.split(f"{heading}\n")[1].split("\n## ")[0]
    return [block.split("```")[0] for block in section.split("```python\n")[1:]]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a checkpoint of random weights and sixty reviews, as a reader has them."""
    folder = tmp_path_factory.mktemp("own")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64, num_labels=2
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder / "my-model")
    shutil.copy(fetch("minilm") / "tokenizer.json", folder / "my-model")
    rows = [f'"A {("dull", "fine")[number % 2]} film, number {number}.",{number % 2}' for number in range(60)]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    return folder


@pytest.fixture(scope="module")
def names(workplace):
    """What the README's lines have defined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        patch.setenv("COURSEKIT_QUIET", "1")
        defined, printed = {}, io.StringIO()
        patch.setattr("sys.stdout", printed)
        (code,) = blocks(YOURS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a teacher that was never fine-tuned
            exec(compile(code, "README.md", "exec"), defined)
        defined["printed"], defined["code"] = printed.getvalue(), code
        export, _ = blocks(TAKE)
        exec(compile(export, "README.md", "exec"), defined)
    return defined


def test_ten_lines_make_a_smaller_model_and_its_table(names):
    lines = [line for line in names["code"].splitlines() if line and not line.startswith("from ")]
    assert len(lines) == 10
    yours, small, tiny = (names["models"][name] for name in ("yours", "half of it", "in int8"))
    assert [len(model.encoder.layers) for model in (yours, small, tiny)] == [4, 2, 2]
    assert small.encoder.layers[0].ffn.intermediate_size == 32
    rows = [line.split("|")[1:-1] for line in names["printed"].splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[2:]] == list(names["models"])
    stored = [float(row[2].replace(",", "")) for row in rows[2:]]
    assert stored[0] > stored[1] > 2 * stored[2]
    assert all(0 <= share <= 1 for share in names["right"].values())


def test_what_was_taken_along_gives_the_same_answers(names, workplace):
    ids = names["tokenizer"].encode(["A fine film."])
    session = runtime.InferenceSession(str(workplace / "tiny.onnx"))
    given = {"input_ids": ids, "attention_mask": [[1] * len(ids[0])], "token_type_ids": [[0] * len(ids[0])]}
    classify = transformers.pipeline("text-classification", str(workplace / "small-model"), device="cpu", top_k=None)
    for model, said in (
        (names["tiny"], session.run(["logits"], given)[0][0].tolist()),
        (
            names["small"],
            [each["score"] for each in sorted(classify(["A fine film."])[0], key=lambda each: each["label"])],
        ),
    ):
        assert isinstance(model, SequenceClassifier)
        with torch.inference_mode():
            logits = model(torch.tensor(ids)).logits[0]
        expected = logits if model is names["tiny"] else logits.softmax(-1)
        assert said == pytest.approx(expected.tolist(), abs=1e-3)


def test_five_lines_serve_it(names, workplace, monkeypatch):
    """The application they hand to the server, asked as a server asks it."""
    served = {}

    class Server:
        def serve_forever(self):
            served["forever"] = True

    def make_server(host, port, application):
        served.update(host=host, application=application)
        return Server()

    monkeypatch.setattr(wsgiref.simple_server, "make_server", make_server)
    monkeypatch.chdir(workplace)
    _, code = blocks(TAKE)
    lines = [line for line in code.splitlines() if line and not line.startswith(("from ", "import "))]
    assert len(lines) == 5
    exec(compile(code, "README.md", "exec"), {})
    text, status = b"A fine film.", []
    request = {"CONTENT_LENGTH": str(len(text)), "wsgi.input": io.BytesIO(text)}
    (body,) = served["application"](request, lambda *answer: status.append(answer))
    assert served["forever"] and served["host"] == "localhost" and status[0][0] == "200 OK"
    (answer,) = json.loads(body)
    assert answer["label"] in ("0", "1") and 0.5 <= answer["score"] <= 1
