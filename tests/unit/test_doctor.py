"""Doctor's findings on machines that lack something, and the command that opens JupyterLab."""

import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from coursekit.course import doctor as module
from coursekit.course.doctor import Finding, examine
from coursekit.course.lab import WELCOME, has_display, hide_panels, lab_command


def found(look, *args) -> Finding:
    """The one finding of a look."""
    (finding,) = look(*args)
    return finding


def test_lines_say_what_to_do():
    assert str(Finding("disk", True, "9 GB free")) == "OK     disk: 9 GB free"
    assert str(Finding("disk", False, "0 GB free", "free 1 GB")) == "TO DO  disk: 0 GB free -> free 1 GB"
    assert str(Finding("CPU", False, "no bf16", "fp32", needed=False)) == "advice CPU: no bf16 -> fp32"


def test_python_outside_the_range(monkeypatch):
    assert found(module._python).ok
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    finding = found(module._python)
    assert not finding.ok and finding.needed
    assert "3.9.1" in finding.detail and ">=3.11" in finding.remedy


def test_packages_outside_their_ranges(monkeypatch):
    wanted = ["numpy>=1.26", "torch>=999", "not-a-package-of-ours>=1", 'pytest>=999; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    first, *faults = module._packages()
    assert not first.ok and "numpy" in first.detail
    assert [(fault.name, fault.remedy) for fault in faults] == [
        ("torch", 'pip install "torch>=999"'),
        ("not-a-package-of-ours", 'pip install "not-a-package-of-ours>=1"'),
    ]
    assert faults[1].detail == "not installed"


def test_widgets_that_do_not_fit(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["comm>=0.1", "jupyterlab_widgets~=2.0"])
    finding = found(module._widgets)
    assert not finding.ok and finding.needed
    assert "jupyterlab_widgets~=2.0" in finding.remedy


def test_widgets_without_their_part_in_jupyterlab(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    finding = found(module._widgets)
    assert not finding.ok and "nothing in" in finding.detail


def test_disk_and_memory_that_do_not_suffice(monkeypatch):
    assert found(module._disk).ok
    monkeypatch.setattr(module, "DISK_BYTES", 1e18)
    monkeypatch.setattr(module, "MEMORY_BYTES", 1e18)
    disk, memory = found(module._disk), found(module._memory)
    assert not disk.ok and disk.needed and "COURSEKIT_CACHE" in disk.remedy
    assert not memory.ok and memory.needed


def test_limits_of_a_container(tmp_path):
    assert module._container_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 2000\nactive_file 7\n")
    assert module._container_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("8000\n")
    assert module._container_limit(tmp_path) == (8000, 3000)


def test_folders_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "full").write_text("")
    monkeypatch.setenv("COURSEKIT_CACHE", str(tmp_path / "new" / "folder"))
    monkeypatch.setenv("COURSEKIT_PROGRESS", str(tmp_path / "progress.json"))
    assert all(finding.ok for finding in module._folders())
    assert not (tmp_path / "new").exists()  # looking leaves nothing behind

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    by_name = {finding.name: finding for finding in module._folders()}
    assert not by_name["cache"].ok and "Permission denied" in by_name["cache"].detail
    assert "COURSEKIT_PROGRESS" in by_name["progress"].remedy


def test_missing_assets_name_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSEKIT_ASSETS", str(tmp_path))
    findings = list(module._assets())
    assert findings and not any(finding.ok for finding in findings)
    assert findings[0].remedy.startswith("coursekit fetch ")


def test_five_seconds_of_training():
    finding = found(module._training)
    assert finding.ok, finding
    assert "per second, loss 0." in finding.detail


def test_the_training_can_be_left_out(monkeypatch):
    monkeypatch.setattr(module, "_assets", lambda: iter(()))
    monkeypatch.setattr(module, "_training", lambda: iter([Finding("training", True, "200 steps")]))
    names = [finding.name for finding in examine()]
    assert names[-1] == "training"
    assert [finding.name for finding in examine(training=False)] == names[:-1]


def test_a_look_that_fails_is_a_finding(monkeypatch):
    def _broken():
        raise KeyError("no such counter")
        yield

    for name in ("_python", "_packages", "_widgets", "_cpu", "_gpu", "_memory", "_disk", "_folders", "_assets"):
        monkeypatch.setattr(module, name, lambda: iter(()))
    monkeypatch.setattr(module, "_training", lambda: iter(()))
    monkeypatch.setattr(module, "_threads", _broken)
    (finding,) = examine()
    assert finding == Finding("broken", False, "KeyError: 'no such counter'", "reinstall the packages of the course")


def test_every_look_passes_or_advises_here():
    pytest.importorskip("coursekit.train")
    for look in (module._cpu, module._threads, module._gpu):
        finding = found(look)
        assert finding.ok or not finding.needed
        assert finding.ok or finding.remedy


# The command of the lab


def test_lab_command(tmp_path):
    command = lab_command(tmp_path, display=True, root_user=False)
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={tmp_path}" in command
    assert "--LabApp.default_url=/lab" in command
    assert not {"--allow-root", "--no-browser"} & set(command)
    assert not any("token" in part or "password" in part or "port" in part for part in command)
    (tmp_path / WELCOME).write_text("{}")
    command = lab_command(tmp_path, display=False, root_user=True)
    assert f"--LabApp.default_url=/lab/tree/{WELCOME}" in command
    assert {"--allow-root", "--no-browser"} <= set(command)


@pytest.mark.parametrize(
    ("environment", "platform", "mark", "seen"),
    [
        ({"DISPLAY": ":0"}, "linux", None, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", None, True),
        ({}, "linux", None, False),
        ({"DISPLAY": ""}, "linux", None, False),
        ({"DISPLAY": ":0"}, "linux", ".dockerenv", False),
        ({"DISPLAY": ":0"}, "linux", "run/.containerenv", False),
        ({"DISPLAY": ":0", "container": "podman"}, "linux", None, False),
        ({"DISPLAY": "localhost:10", "SSH_CONNECTION": "1.2.3.4"}, "linux", None, False),
        ({}, "darwin", None, True),
        ({}, "win32", None, True),
        ({"SSH_TTY": "/dev/ttys0"}, "darwin", None, False),
    ],
)
def test_where_a_browser_is_seen(environment, platform, mark, seen, tmp_path):
    if mark:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).write_text("")
    assert has_display(environment, platform, str(tmp_path)) is seen


def test_a_learner_does_not_see_the_lecturers_panels(tmp_path, monkeypatch):
    """What JupyterLab's own server makes of the configuration; without it nothing is hidden."""
    labels = "from jupyterlab_server.config import get_page_config; print(get_page_config([])['disabledExtensions'])"

    def disabled(**environment):
        done = subprocess.run(
            [sys.executable, "-c", labels], env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    paths = hide_panels(tmp_path / "jupyter", before=str(tmp_path / "mine"))
    assert paths == f"{tmp_path / 'jupyter'}{os.pathsep}{tmp_path / 'mine'}"
    assert hide_panels(tmp_path / "jupyter") == str(tmp_path / "jupyter")
    assert "'@jupyter/nbgrader'" in disabled(JUPYTER_CONFIG_PATH=paths)
    assert "nbgrader" not in disabled(JUPYTER_CONFIG_PATH=str(tmp_path / "mine"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_is_left_to_the_server(tmp_path):
    """The first Ctrl-C reaches the waiting parent too; it goes on waiting and returns the server's own status."""
    from coursekit.course.lab import _serve

    script = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "time.sleep(0.5)\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(0.3)\n"
        "open('served', 'w').close()\n"
        "sys.exit(7)\n"
    )
    before = signal.getsignal(signal.SIGINT)
    assert _serve([sys.executable, "-c", script], tmp_path, os.environ) == 7
    assert Path(tmp_path, "served").exists()
    assert signal.getsignal(signal.SIGINT) is before
