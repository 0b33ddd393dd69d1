"""The course as a learner meets it: a copy of it, `coursekit lab`, and Chromium without a window.

Where Chromium should be, a test that needs it fails without it; elsewhere it is skipped.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coursekit.course.units import course_root
from coursekit.files import write_json

PATIENCE = 240
"""Seconds to wait for what takes a second or ten on a quiet machine."""
PREPARATION = 1800
"""Seconds to wait for `coursekit lab` to fetch the assets and train the teacher, where neither is cached."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1400"
)
COPIED = ("coursekit", "notebooks", "exercises", "solutions")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator["object"]:
    """A browser driven by Selenium. With COURSEKIT_BROWSER=1, as the gate sets it, it is demanded."""
    demanded = os.environ.get("COURSEKIT_BROWSER") == "1"
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if not demanded and (program is None or driver is None):
        pytest.skip("Chromium and its driver are not here")
    try:
        from selenium import webdriver
    except ImportError:
        if demanded:
            raise
        pytest.skip('Selenium is not here: pip install -e ".[browser]"')
    options = webdriver.ChromeOptions()
    options.binary_location = program or CHROMIUM[0]
    options.page_load_strategy = "eager"
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver or "chromedriver"))
    browser.set_page_load_timeout(PATIENCE)
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """A copy of the course that nobody has worked in."""
    copy = tmp_path_factory.mktemp("course")
    for folder in COPIED:
        shutil.copytree(course_root() / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="session")
def page(chromium, address, tmp_path_factory):
    """JupyterLab, opened on what `coursekit lab` printed; pictures of it go to COURSEKIT_SCREENSHOTS."""
    from jupyterlab_page import Page  # needs Selenium

    pictures = Path(os.environ.get("COURSEKIT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    pictures.mkdir(parents=True, exist_ok=True)
    chromium.get(address)
    return Page(chromium, PATIENCE, pictures)


@pytest.fixture(scope="session")
def address(course, chromium, tmp_path_factory) -> Iterator[str]:
    """What `coursekit lab`, started in the copy, prints to be opened: http://…/lab/tree/welcome.ipynb?token=…"""
    settings = tmp_path_factory.mktemp("jupyter")
    # Every cell is there at once.
    write_json(settings / "lab/@jupyterlab/notebook-extension/tracker.jupyterlab-settings", {"windowingMode": "none"})
    folders = {f"JUPYTER_{name}_DIR": str(settings / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {f"JUPYTERLAB_{name}_DIR": str(settings / "lab") for name in ("SETTINGS", "WORKSPACES")}
    without = ("COURSEKIT_PROGRESS", "DISPLAY", "WAYLAND_DISPLAY")  # progress lies in the copy; no window is opened
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= folders | {"PYTHONPATH": str(course), "IPYTHONDIR": str(settings / "ipython")}
    log = settings / "log.txt"
    with log.open("w") as lines:
        command = [sys.executable, "-m", "coursekit.cli", "lab"]
        process = subprocess.Popen(
            command, cwd=course, env=environment, stdout=lines, stderr=lines, start_new_session=True
        )
    try:
        yield _printed_address(process, log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _printed_address(process: subprocess.Popen, log: Path) -> str:
    """The first address in the log; the fetch and the teacher come before it where they are not cached."""
    end = time.monotonic() + PREPARATION
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/lab\S*\?token=\w+", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"coursekit lab printed no address:\n{log.read_text()[-3000:]}")
