"""The README's lines for text larger than memory run as they stand, on a small file."""

from math import ceil

import pytest

from coursekit.course.units import course_root
from coursekit.data import TokenStore

ROWS = 70


@pytest.fixture
def code():
    text = (course_root() / "README.md").read_text(encoding="utf-8")
    found = [block.split("```")[0] for block in text.split("```python\n")[1:] if "TokenStore.write" in block]
    assert len(found) == 1, "the README shows nowhere, or twice, how text larger than memory is trained on"
    return found[0]


def test_five_lines_train_on_a_file_larger_than_memory(code, tmp_path, monkeypatch):
    """One line of the file is read at a time; what is on disk is its text, and each row of it is trained on once."""
    lines = [f"Film number {n} was dull. Its critics were not.\n" for n in range(ROWS)]
    (tmp_path / "corpus.txt").write_text("\n" + "".join(lines), encoding="utf-8")  # an empty line is no document
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSEKIT_QUIET", "1")
    assert len([line for line in code.splitlines() if line and not line.startswith("from ")]) == 5

    defined = {}
    exec(compile(code, "README.md", "exec"), defined)
    store, tokenizer = TokenStore("corpus.tokens"), defined["tokenizer"]
    assert [tokenizer.decode(row) for row in store] == [line.strip().lower() for line in lines]
    result = defined["result"]
    assert result.steps == ceil(ROWS / 32) and result.tokens == store.total_tokens
    with pytest.raises(StopIteration):
        next(defined["documents"])
