"""The gate demands what it could install, says loudly what it could not, and the workflow demands the same."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from coursekit.course.units import course_root

PROGRAMS = ("bwrap", "chromium", "chromedriver")
FLAGS = ("COURSEKIT_SANDBOX", "COURSEKIT_BROWSER")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")


@pytest.fixture
def gate(tmp_path):
    """gate(installed, user, apt, broken, flags): status, flags and stderr where only these programs are found."""

    def program(name, code):
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{code}\n")
        (tmp_path / name).chmod(0o755)

    def run(installed, user=1000, apt=None, broken=(), **flags):
        for name in ("bash", "dirname", "mktemp", "rm", "timeout"):
            (tmp_path / name).symlink_to(shutil.which(name))
        for name in installed:
            program(name, f"exit {int(name in broken)}")
        program("id", f"echo {user}")
        program("make", 'echo "$1 ${COURSEKIT_SANDBOX-} ${COURSEKIT_BROWSER-}"; exit 7')
        if apt:
            program("apt-get", apt.replace("PLACE", str(tmp_path)))
        environment = {name: value for name, value in os.environ.items() if name not in FLAGS}
        command = [course_root() / ".ci" / "run"]
        done = subprocess.run(
            command, env=environment | flags | {"PATH": str(tmp_path)}, capture_output=True, text=True
        )
        return done.returncode, done.stdout.rstrip("\n"), done.stderr

    return run


def test_what_is_installed_is_demanded(gate):
    assert gate(PROGRAMS) == (7, "test 1 1", "")


def test_what_is_missing_is_said_loudly_and_the_rest_is_tested(gate):
    status, said, loud = gate(["bwrap", "chromium"])
    assert (status, said) == (7, "test 1 ")
    assert "*** no Chromium starts here: nothing is tested in a browser" in loud


@pytest.mark.parametrize("broken, said", [("bwrap", "test  1"), ("chromium", "test 1 ")])
def test_what_does_not_start_is_said_loudly(gate, broken, said):
    status, flags, loud = gate(PROGRAMS, broken=[broken])
    assert (status, flags) == (7, said) and "*** no " in loud


def test_what_the_caller_demands_stays_demanded(gate):
    assert gate([], COURSEKIT_SANDBOX="1", COURSEKIT_BROWSER="1")[:2] == (7, "test 1 1")


def test_where_apt_cannot_be_reached(gate):
    status, said, loud = gate([], user=0, apt="exit 100")
    assert (status, said) == (7, "test  ")
    assert "*** apt cannot be reached" in loud and "*** apt could not install bubblewrap" in loud
    assert "hostile submissions are NOT tested" in loud


def test_what_apt_brings_is_demanded(gate):
    names = "bubblewrap) name=bwrap;; chromium-driver) name=chromedriver;; *) name=${@: -1};;"
    brings = f"[ $1 = update ] && exit 0; case ${{@: -1}} in {names} esac; echo > PLACE/$name"
    assert gate([], user=0, apt=f"{brings}; {shutil.which('chmod')} +x PLACE/$name") == (7, "test 1 1", "")


def test_the_workflow_demands_and_installs_the_same():
    text = (course_root() / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    script = (course_root() / ".ci" / "run").read_text(encoding="utf-8")
    assert all(re.search(rf"\b{flag}: 1\b", text) and f"export {flag}=1" in script for flag in FLAGS)
    assert "- run: .ci/run" in text
    for package in ("bubblewrap", "chromium", "chromium-driver"):
        assert re.search(rf"apt-get install .*\b{package}\b", text) and f"+=({package})" in script
