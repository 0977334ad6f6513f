# Everything from a bare Python to the finished book. `make` lists what there is to make.

# An interpreter to make .venv with; the first of these that is 3.11 or newer.
PYTHON ?= python3 python3.13 python3.12 python3.11 python
JOBS ?= 2
PORT ?= 8000

VENV := .venv
RUN := $(VENV)/bin/python
CASEBOOK_BOOK := PYTHONPATH=book/_ext $(RUN) -m casebook_book
PYTEST := $(RUN) -m pytest

# $(call fail,sentence): one readable line, and stop.
fail = { echo "$(1)" >&2; exit 1; }

.PHONY: help book serve notebooks test colab bench clean

help:  ## this list
	@awk -F':.*## +' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(VENV)/book.installed  ## install what is missing, run the chapters (JOBS=2 at a time), build the site
	@$(CASEBOOK_BOOK) build --jobs $(JOBS)

serve: $(VENV)/book.installed  ## show the built site on this machine (PORT=8000)
	@$(CASEBOOK_BOOK) serve --port $(PORT)

notebooks: $(VENV)/book.installed  ## write the Colab edition into _build/colab
	@$(CASEBOOK_BOOK) notebooks --jobs $(JOBS)

test: $(VENV)/test.installed  ## build the site and the notebooks, then run every test
	@command -v git >/dev/null || $(call fail,Git is missing; the notebooks are tested against a git checkout)
	@$(CASEBOOK_BOOK) build --jobs $(JOBS)
	@$(CASEBOOK_BOOK) notebooks --jobs $(JOBS)
	@$(PYTEST) -n 2 --dist loadfile

colab: $(VENV)/test.installed  ## run all Colab notebooks (make test runs a few)
	@$(CASEBOOK_BOOK) notebooks --jobs $(JOBS)
	@CASEBOOK_COLAB=all $(PYTEST) tests/book/test_colab.py

bench: $(VENV)/bench.installed  ## compare our speed with that of our peers, in training and in building
	@$(RUN) benchmarks/training_speed.py
	@$(RUN) benchmarks/build_speed.py

clean:  ## forget what was built and executed; .venv stays
	rm -rf _build

$(RUN):
	@for python in $(PYTHON); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
		then found=$$python; break; fi; \
	done; \
	test -n "$$found" || $(call fail,No Python 3.11 or newer among: $(PYTHON); install one or name it with PYTHON=/path/to/python); \
	$$found -c 'import ensurepip, venv' >/dev/null 2>&1 || $(call fail,$$found has no venv module; on Debian or Ubuntu: apt install python3-venv); \
	echo "making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); $(call fail,$$found could not make $(VENV): why stands above); }

$(VENV)/book.installed: requirements.txt pyproject.toml | $(RUN)
	@echo "installing what builds the book (the first time takes minutes)"
	@$(RUN) -m pip install --disable-pip-version-check -r requirements.txt || $(call fail,Pip could not install requirements.txt: why stands above)
	@touch $@

# The extras of pyproject.toml: test, bench.
$(VENV)/%.installed: $(VENV)/book.installed
	@echo "installing the $* extra"
	@$(RUN) -m pip install --disable-pip-version-check -r requirements.txt -e '.[$*]' || $(call fail,Pip could not install the $* extra: why stands above)
	@touch $@
