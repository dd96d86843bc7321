# make book    build the book and print where it is
# make test    all tests: units, every chapter in smoke, the site
# make lab     open the chapters as notebooks in JupyterLab
# make policies, make lint, make lock, make clean
# Each sets up .venv from requirements.lock on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: book test lab notebooks policies lint lock clean

book: $(READY)
	@$(BIN)/python -m helpers book

test: $(READY)
	$(BIN)/python -m pytest -q --durations=15

lab: $(READY)
	$(BIN)/python -m helpers notebooks --learn
	$(BIN)/jupyter lab --notebook-dir=learn

notebooks: $(READY)
	$(BIN)/python -m helpers notebooks

policies: $(READY)
	$(BIN)/python -m pip install -q -e '.[policies]'
	$(BIN)/python -m helpers policy

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

# Newest versions that pyproject.toml allows, pinned. CUDA's libraries are torch's own affair.
lock:
	rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install -q --upgrade pip '.[dev]'
	{ echo "# What the book runs on, made by: make lock. Python 3.11 or newer."; \
	  _build/lock/bin/pip freeze --all --exclude pip --exclude transformers-take-the-wheel \
	  | grep -viE '^(nvidia|cuda|triton)' | sed 's/+cpu$$//'; } > _build/requirements.lock
	mv _build/requirements.lock requirements.lock

clean:
	rm -rf _build book/chapters learn data/.work

# The lock pins everything; the package itself is installed without its (looser) requirements.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	         "choose another by: make PYTHON=python3.12 book"; exit 1; }
	@echo "setting up $(VENV) (once, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@
