"""A new learner's first hour in JupyterLab, as Chromium sees it: the welcome page, a lesson's slider, an exercise.

The tests are steps of one visit, in this order.
"""

from coursekit.course.units import FAMILIES, UNITS

MEAN = """def median_and_iqr(times):
    first, third = np.quantile(times, [0.25, 0.75]).tolist()
    return sum(times) / len(times), third - first"""
MEDIAN = """def median_and_iqr(times):
    first, median, third = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return median, third - first"""


def test_the_welcome_page_is_there_before_anything_is_run(page, course):
    page.front("welcome.ipynb")
    page.wait("the map", lambda: page.all(".jp-OutputArea-output table"))
    page.photograph("welcome")
    cell = page.cell("welcome()")
    shown = page.says(cell)
    for words in ("The map", "60 minutes", "the whole course", "tasks are right", "This machine"):
        assert words in shown
    links = {link.text for link in cell.find_elements("tag name", "a")}
    for unit in UNITS:
        name = f"{unit.number} · {unit.title}"
        is_open = unit.open_in(course)
        assert (name in links, f"{name} (in the making)" in shown) == (is_open, not is_open)
    assert "00 · Measuring honestly" in links
    page.run(cell)  # and it says the same when it is run
    asked = [each.text for each in page.browser.find_elements("css selector", ".Toastify__toast")]
    assert not any("news" in words for words in asked)
    assert "The route for your time" in page.says(cell) and "Traceback" not in page.says(cell)


def test_a_familys_picture_leads_to_its_lesson_with_the_keyboard_too(page):
    page.tab("welcome.ipynb")
    cell = page.cell("welcome()")
    pictures = cell.find_elements("css selector", "th img")
    assert len(pictures) == len(FAMILIES) and all(int(each.get_attribute("naturalWidth")) > 100 for each in pictures)
    for press in ("click", "Enter"):
        page.tab("welcome.ipynb")
        link = page.link(page.cell("welcome()"), "low-rank factorization")
        assert link.get_attribute("tabindex") in (None, "0")  # Tab comes by
        if press == "click":
            link.find_element("tag name", "img").click()
        else:
            page.press_enter(link)
        page.front("01_parameters.ipynb")


def test_nbgraders_panels_are_not_shown(page):
    menus = [item.text for item in page.browser.find_elements("css selector", ".lm-MenuBar-itemLabel")]
    assert "Kernel" in menus and not any("nbgrader" in menu.lower() for menu in menus)


def test_a_lesson_runs_and_its_slider_answers_the_keyboard(page):
    page.tab("welcome.ipynb")
    page.follow(page.cell("welcome()"), "01 · ")
    page.front("01_parameters.ipynb")
    cell = page.cell("explore(")
    page.run_above(cell)
    page.run(cell)
    assert page.all("[data-mime-type='application/vnd.jupyter.stderr']") == []
    vocabulary, hidden, width = page.knobs(cell)
    assert [knob.get_attribute("tabindex") for knob in (vocabulary, hidden, width)] == ["0"] * 3  # Tab comes by
    first = page.live(cell)
    wider = page.turn(cell, width, "ARROW_RIGHT")
    assert "width = 5." in first[0] and "width = 6." in wider[0] and wider[1] != first[1]
    assert page.turn(cell, width, "ARROW_LEFT") == first
    assert "vocabulary = 10," in page.turn(cell, vocabulary, "HOME")[0]
    assert "(Drawn for vocabulary = 100, hidden = 10, width = 5.)" in page.says(cell)  # the static twin
    page.photograph("slider")


def test_an_exercise_wrong_then_right(page):
    page.tab("welcome.ipynb")
    start = page.cell('start("00")')
    page.run(start)
    page.follow(start, "my-work/00_measuring.ipynb")
    page.front("00_measuring.ipynb")
    answer, check = page.cell("def median_and_iqr"), page.cell('check("00.1"')
    page.run_above(answer)
    for code in (None, MEAN, MEDIAN):
        if code:
            page.write(answer, code)
        page.run(answer)
        page.run(check)
        said = page.says(check)
        if code is None:
            assert said == "00.1 not attempted"
        elif code == MEAN:
            assert said.startswith("00.1 wrong: the first value is the mean") and 'hint("00.1")' in said
            after = page.cell("RECORDED =")
            page.run(after)  # the library stands in, and says so
            assert "00.1: using coursekit's median_and_iqr in place of yours" in page.says(after)
            page.photograph("wrong")
    assert said == "00.1 right"
    page.photograph("right")


def test_the_welcome_page_knows_of_it(page):
    page.tab("welcome.ipynb")
    cell = page.cell("welcome()")
    page.run(cell)
    assert "■□□□□□□□ 1 of 8" in page.says(cell)
    assert "my exercise" in {link.text for link in cell.find_elements("tag name", "a")}
    start = page.cell('start("00")')
    page.write(start, 'from coursekit.course import hint\n\nhint("00.2")')
    page.run(start)
    assert "00.2 hint 1 of 3: " in page.says(start)
    page.photograph("progress")
