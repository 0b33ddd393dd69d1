"""Container, Binder, Codespaces and JupyterHub: their files agree with the course. No test runs them."""

import ast
import json
import re
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
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


def packages(lines):
    """What pip would bring for these requirements, as far as it is installed here."""
    found, waiting = set(), [(Requirement(line), "") for line in lines]
    while waiting:
        wanted, extra = waiting.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        for asked in {"", *wanted.extras}:
            if (name, asked) in found:
                continue
            found.add((name, asked))
            try:
                waiting += [(Requirement(line), asked) for line in metadata.requires(name) or []]
            except metadata.PackageNotFoundError:
                pass  # of another system
    return {name for name, _ in found}


INSTALLS = {
    "Makefile": r"--editable '\.(?:\[(\w+)\])?'",
    "README.md": r'-c constraints\.txt -e "\.\[(\w+)\]"\n\.venv/bin/coursekit lab',
    "Dockerfile": r"--editable '?\.(?:\[(\w+)\])?",
    ".binder/requirements.txt": r"(?m)^-e \.(?:\[(\w+)\])?$",
    ".devcontainer/devcontainer.json": r"-e '\.(?:\[(\w+)\])?'",
    "coursekit/course/workshop/install.py": r'"--editable", f?"?\{?target\}?(?:\[(\w+)\]")?',
}


@pytest.mark.parametrize("place", INSTALLS)
def test_what_lessons_and_exports_import_is_installed(place):
    """Colab, which reads pyproject.toml itself, has the same in test_colab.py."""
    (extra,) = re.findall(INSTALLS[place], read(place))
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    brought = packages(project["dependencies"] + (extras[extra] if extra else []))
    files = [*ROOT.glob("notebooks/_src/*.py"), *ROOT.glob("solutions/_src/*.py"), *ROOT.glob("coursekit/export/*.py")]
    imported = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.split(".")[0])
    providers = metadata.packages_distributions()
    assert {"torch", "onnx"} <= imported
    for name in imported - set(sys.stdlib_module_names) - {"coursekit"}:
        assert {canonicalize_name(package) for package in providers[name]} & brought, f"{place}: {name}"
    assert packages(extras["export"]) <= brought, place  # lesson 10 exports


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
    assert {".git", ".venv", "my-work", "submissions", "grades*"} <= set(read(".dockerignore").split())


def test_hub_and_image_have_a_jupyterhub_that_the_authenticator_knows():
    for name in ("Dockerfile", "docs/jupyterhub/README.md"):
        assert "'jupyterhub<6'" in read(name)


def test_codespaces_and_hub_configurations_can_be_read():
    assert json.loads(read(".devcontainer/devcontainer.json"))["hostRequirements"]["cpus"] == 2
    set_to = {
        ast.unparse(node.targets[0]): ast.unparse(node.value)
        for node in ast.walk(ast.parse(read("docs/jupyterhub/jupyterhub_config.py")))
        if isinstance(node, ast.Assign)
    }
    assert set_to["c.DockerSpawner.image"] == "'small-transformers'"
    # the proxy knows only this machine's names, the containers only the one they are given
    assert set_to["c.JupyterHub.hub_connect_ip"] == "'127.0.0.1'"
    (name,) = ast.literal_eval(set_to["c.DockerSpawner.extra_host_config"])["extra_hosts"]
    assert f"http://{name}:" in set_to["c.Spawner.hub_connect_url"]
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
