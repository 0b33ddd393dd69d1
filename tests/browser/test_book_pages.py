"""The book, opened from the disk: search, next and previous, formulas, and a page that fits a phone."""

import shutil
from pathlib import Path

import pytest

from coursekit.course.book import build_book
from coursekit.course.units import FOLDERS, UNITS, course_root

PHONE = {"width": 400, "height": 800, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The book of the units that are built."""
    root = tmp_path_factory.mktemp("course")
    for unit in UNITS:
        if unit.open_in(course_root()):
            for kind in FOLDERS:
                for path in (unit.source(kind, course_root()), unit.notebook(kind, course_root())):
                    copy = root / path.relative_to(course_root())
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)
    return build_book(root / "book", root=root)[0].parent


@pytest.fixture(params=[None, PHONE], ids=["desktop", "phone"])
def browser(request, chromium):
    if request.param:
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", request.param)
    yield chromium
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def address(book, name):
    return (book / name).as_uri()


def test_no_page_is_wider_than_the_screen_or_loads_from_elsewhere(browser, book):
    for path in sorted(book.glob("*.html")):
        browser.get(path.as_uri())
        width, room = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert width <= room, path.name
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert all(name.startswith(("file:", "data:")) for name in loaded)


def test_a_search_leads_to_a_section(browser, book):
    browser.get(address(book, "index.html"))
    field = browser.find_element("id", "query")
    field.send_keys("sandwich wei")
    hits = browser.find_elements("css selector", "#found a")
    assert hits and all(words in hits[0].text for words in ("02 · Sharing layers",))
    target = hits[0].get_attribute("href")
    browser.execute_script("arguments[0].click()", hits[0])
    assert browser.current_url == target and "02_sharing.html#" in target
    browser.find_element("id", "query").send_keys("zzzz")
    assert browser.find_element("id", "found").text == "Nothing found."


def test_next_and_previous_are_links_that_work(browser, book):
    browser.get(address(book, "00_measuring.html"))
    browser.execute_script("document.querySelector('a[rel=next]').click()")
    assert browser.current_url == address(book, "01_parameters.html")
    browser.execute_script("document.querySelector('a[rel=prev]').click()")
    assert browser.current_url == address(book, "00_measuring.html")


def test_numbers_of_an_output_stand_right_and_words_of_a_table_left(browser, book):
    align = "return getComputedStyle(document.querySelector(arguments[0])).textAlign"
    browser.get(address(book, "10_capstone.html"))
    assert browser.execute_script(align, ".says.wide td") == "right"
    browser.get(address(book, "00_measuring.html"))
    assert browser.execute_script(align, ".wide:not(.says) td") == "left"


def test_formulas_are_drawn_by_the_browser(browser, book):
    browser.get(address(book, "02_sharing.html"))
    tall, line = browser.execute_script(
        "const math = [...document.querySelectorAll('math')].find((each) => each.querySelector('mtable'));"
        "const letter = document.querySelector('p math');"
        "return [math.getBoundingClientRect().height, letter.getBoundingClientRect().height]"
    )
    assert tall > 1.5 * line > 0  # a matrix has two rows
