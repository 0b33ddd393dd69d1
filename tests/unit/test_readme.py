"""What the README says of the units is what the course says of itself."""

from coursekit.course.units import UNITS, course_root


def test_unit_table() -> None:
    """One row per unit with its title, summary, minutes, prerequisites and state."""
    lines = (course_root() / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:3] in ("| 0", "| 1")]
    assert [row[0] for row in rows] == [unit.number for unit in UNITS]
    for row, unit in zip(rows, UNITS, strict=True):
        is_open = unit.open_in(course_root())
        title = f"[{unit.title}](notebooks/{unit.stem}.ipynb)" if is_open else unit.title
        state = "ready" if is_open else "in the making"
        assert row[1:] == [title, unit.summary, str(unit.minutes), ", ".join(unit.prerequisites) or "–", state]


def test_library_example(capsys) -> None:
    """The README's Python runs as it stands and prints the counts it is about."""
    code = (course_root() / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "22713216" in printed and "31515648" in printed
