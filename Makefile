# The course's commands. `make lab` opens the course, `make test` runs every test there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help lab test test-browser book clean

help:
	@echo "make lab    create $(VENV), fetch the assets, open JupyterLab on the course"
	@echo "make test   same environment, then every test, notebooks included"
	@echo "make test-browser   only the tests in Chromium; its pictures go to build/screenshots"
	@echo "make book   the lessons as a site to read, in build/book"
	@echo "make clean  remove $(VENV) (fetched assets and your work stay)"

lab: $(VENV)/.installed
	$(BIN)/coursekit lab

test: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/python -m pytest

test-browser: $(VENV)/.installed
	COURSEKIT_BROWSER=1 COURSEKIT_SCREENSHOTS=build/screenshots $(BIN)/python -m pytest tests/browser

book: $(VENV)/.installed
	$(BIN)/coursekit book build/book

# Made again only when what it is made from has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or later is needed; $(PYTHON) is {v}. Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV)
