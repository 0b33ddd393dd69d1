"""JupyterLab through Selenium, in a learner's terms: open, find a cell, type, run, read what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
CELLS = f"return [...document.querySelectorAll('{PANEL} .jp-Notebook .jp-CodeCell')]"
FIND = f"{CELLS}.find(c => (c.querySelector('.cm-content')?.textContent ?? '').includes(arguments[0]))"
BUSY = f"{CELLS}.some(c => c.querySelector('.jp-InputPrompt')?.textContent.includes('*'))"


class Page:
    """The front notebook of a JupyterLab in a browser; every wait is for a condition, `patience` seconds at most."""

    def __init__(self, browser: WebDriver, patience: float, pictures: Path):
        self.browser = browser
        self.patience = patience
        self.pictures = pictures

    def photograph(self, name: str) -> Path:
        """Save what is in the window as NAME.png."""
        path = self.pictures / f"{name}.png"
        self.browser.save_screenshot(str(path))
        return path

    def wait(self, what: str, condition: Callable[[], T]) -> T:
        """The condition's value as soon as it is true; elements that are just being replaced are asked for again."""
        waiting = WebDriverWait(self.browser, self.patience, 0.1, [StaleElementReferenceException])
        try:
            return waiting.until(lambda _browser: condition())
        except TimeoutException:
            picture = self.photograph("failed")
            raise AssertionError(f"waited {self.patience} seconds for {what}: {picture}") from None

    def all(self, css: str) -> list[WebElement]:
        """Elements of the front notebook."""
        return self.browser.find_elements(By.CSS_SELECTOR, f"{PANEL} {css}")

    def front(self, name: str) -> None:
        """Wait until the notebook of this name is in front and its kernel answers."""
        tab = ".lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel"

        def found() -> bool:
            return any(label.text == name for label in self.browser.find_elements(By.CSS_SELECTOR, tab))

        self.wait(f"{name} in front", found)
        self.wait(f"the kernel of {name}", lambda: self.all(".jp-Notebook-ExecutionIndicator[data-status='idle']"))

    def tab(self, name: str) -> None:
        """Bring an open notebook to the front."""
        label = f"//*[contains(@class, 'lm-TabBar-tabLabel') and text()='{name}']"
        self.browser.find_element(By.XPATH, label).click()
        self.front(name)

    def cell(self, text: str) -> WebElement:
        """The first code cell with this text in it, in view."""
        cell = self.wait(f"a cell with {text!r}", lambda: self._script(FIND, text))
        self._script("arguments[0].scrollIntoView({block: 'center'})", cell)
        return cell

    def enter(self, cell: WebElement) -> None:
        """Put the cursor into a code cell."""
        cell.find_element(By.CSS_SELECTOR, ".cm-content").click()
        self.wait("the cursor in the cell", lambda: "jp-mod-active" in cell.get_attribute("class"))

    def run(self, cell: WebElement) -> None:
        """Shift+Enter in a cell, and wait until nothing is running."""
        self.enter(cell)
        self.keys(Keys.SHIFT, Keys.ENTER)
        self.idle()

    def run_above(self, cell: WebElement) -> None:
        """Run > Run All Above Selected Cell, and wait until nothing is running."""
        self.enter(cell)
        menu = next(e for e in self.browser.find_elements(By.CSS_SELECTOR, ".lm-MenuBar-item") if e.text == "Run")
        menu.click()
        item = "li[data-command='notebook:run-all-above']"
        self.wait("the menu", lambda: self.browser.find_elements(By.CSS_SELECTOR, item))[0].click()
        self.idle()

    def write(self, cell: WebElement, code: str) -> None:
        """Replace what a code cell holds."""
        self.enter(cell)
        self.keys(Keys.CONTROL, "a")
        self.browser.execute_cdp_cmd("Input.insertText", {"text": code})
        last = code.splitlines()[-1].strip()
        self.wait("the new code", lambda: last in cell.find_element(By.CSS_SELECTOR, ".cm-content").text)

    def keys(self, held: str, pressed: str) -> None:
        """Press a key while another is held."""
        ActionChains(self.browser).key_down(held).send_keys(pressed).key_up(held).perform()

    def idle(self) -> None:
        """Wait until no cell has a star and the kernel is idle."""

        def quiet() -> bool:
            idle = self.all(".jp-Notebook-ExecutionIndicator[data-status='idle']")
            return bool(idle) and not self._script(BUSY)

        self.wait("the kernel to be idle", quiet)

    def says(self, cell: WebElement) -> str:
        """What stands under a code cell."""
        outputs = cell.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output")
        return "\n".join(output.text for output in outputs)

    def follow(self, within: WebElement, words: str) -> None:
        """Click the link that begins with these words."""
        self.link(within, words).click()

    def link(self, within: WebElement, words: str) -> WebElement:
        """The link that begins with these words, in view."""
        links = within.find_elements(By.TAG_NAME, "a")
        link = next(link for link in links if link.text.strip().startswith(words))
        self._script("arguments[0].scrollIntoView({block: 'center'})", link)
        return link

    def press_enter(self, link: WebElement) -> None:
        """Give a link the focus, as Tab does, and press Enter."""
        self._script("arguments[0].focus()", link)
        ActionChains(self.browser).send_keys(Keys.ENTER).perform()

    def knobs(self, cell: WebElement) -> list[WebElement]:
        """The handles of the sliders under a cell."""
        return self.wait("sliders", lambda: cell.find_elements(By.CSS_SELECTOR, ".noUi-handle"))

    def live(self, cell: WebElement) -> tuple[str, str]:
        """Alt text and address of the picture that follows the sliders."""
        image = "const image = arguments[0].querySelector('.jupyter-widgets img');"
        return tuple(
            self.wait("the figure", lambda: self._script(f"{image} return image && [image.alt, image.src]", cell))
        )

    def _script(self, code: str, *arguments: object) -> object:
        return self.browser.execute_script(code, *arguments)

    def turn(self, cell: WebElement, knob: WebElement, key: str) -> tuple[str, str]:
        """Press ARROW_RIGHT, ARROW_LEFT, HOME or END on a slider, and wait for its new picture."""
        before = self.live(cell)
        knob.send_keys(getattr(Keys, key))
        self.wait("a new figure", lambda: self.live(cell) != before)
        return self.live(cell)
