# Two commands on a fresh machine: `make demo` and `make test`. Without make, see README.md.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/sfumato-is-installed

.PHONY: demo test setup bench pictures docs clean

demo: $(STAMP)
	@$(BIN)/sfumato demo --out demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

setup: $(STAMP)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.generation --large
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.unet
	$(BIN)/python -m benchmarks.metrics

pictures: $(STAMP)
	$(BIN)/sfumato demo --out demo
	cp demo/sheet.png docs/pictures/shapes.png
	$(BIN)/python -m benchmarks.pictures

docs: $(STAMP)
	$(BIN)/python -m sfumato.apps.docs

clean:
	rm -rf demo out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'sfumato needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo 'This Python has no venv module. On Debian and Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
