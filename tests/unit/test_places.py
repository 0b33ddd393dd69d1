"""Container, Binder, Codespaces and JupyterHub: their files agree with the course. None of them is run here."""

import ast
import json
import re
import tomllib

import pytest
from typer.main import get_command

from coursekit.cli import app
from coursekit.course.units import course_root

ROOT = course_root()
PLACES = ("Dockerfile", ".binder/requirements.txt", ".binder/postBuild", ".devcontainer/devcontainer.json")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*PLACES, "docs/jupyterhub/README.md"])
def test_the_commands_named_are_commands(name):
    commands = get_command(app).commands
    for command in re.findall(r"\bcoursekit ([a-z]+)\b(?! extra)", re.sub(r"(?m)^#.*", "", read(name))):
        assert command in commands, command


def test_all_install_the_tested_versions_with_a_torch_for_the_cpu():
    (torch,) = re.findall(r"(?m)^torch==(\S+)$", read("constraints.txt"))
    for name in ("Dockerfile", ".binder/requirements.txt", ".devcontainer/devcontainer.json"):
        for words in (f"torch=={torch}+cpu", "--extra-index-url https://download.pytorch.org/whl/cpu", "--constraint "):
            assert words in read(name), f"{name}: {words}"


def test_the_python_is_one_the_course_takes():
    wanted = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    found = [
        re.search(pattern, read(name))[1]
        for name, pattern in [
            ("Dockerfile", r"FROM python:(\S+)-slim"),
            (".binder/runtime.txt", r"python-(\S+)"),
            (".devcontainer/devcontainer.json", r"python:([\d.]+)"),
        ]
    ]
    assert set(found) == {wanted}


def test_the_container_copies_what_is_there_and_leaves_the_learners_work_out():
    for line in re.findall(r"(?m)^COPY (?!--chown)(.+) \S+$", read("Dockerfile")):
        assert all((ROOT / name).is_file() for name in line.split())
    assert {".git", ".venv", "my-work"} <= set(read(".dockerignore").split())


def test_codespaces_and_hub_configurations_can_be_read():
    assert json.loads(read(".devcontainer/devcontainer.json"))["hostRequirements"]["cpus"] == 2
    names = {ast.unparse(node) for node in ast.walk(ast.parse(read("docs/jupyterhub/jupyterhub_config.py")))}
    assert "c.DockerSpawner.image" in names
    assert (ROOT / ".binder" / "postBuild").stat().st_mode & 0o100


@pytest.mark.parametrize(
    "words",
    [
        "coursekit workshop FOLDER",
        "python3 FOLDER/install.py",
        "coursekit fetch --to FOLDER",
        "coursekit class handbook FOLDER",
        "make book",
        "jupyter nbconvert --to slides",
        "docker build",
        "docs/jupyterhub/README.md",
        "COURSEKIT_REPOSITORY",
    ],
)
def test_the_readme_says_how(words):
    assert words in read("README.md")
