# Two commands are enough: `make demo` and `make test`. Both work on a fresh machine with Python >= 3.11.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint types sql-lint unit catalog api-reference dictionary grafana install system wheel-test bench clean

demo: install
	$(BIN)/mp demo

test: system install lint types sql-lint unit wheel-test

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml hatch_build.py package-lock.json $(wildcard monitoring_pipelines/api/assets/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# A real MariaDB server and Chromium: installed through the system's package manager when missing.
system:
	@sh scripts/install_test_tools.sh

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

sql-lint:
	$(BIN)/sqlfluff lint --processes 2 -q dbt_like_sql

# Columns and references of the SQL models, stored so that a run need not parse them again.
catalog:
	$(BIN)/python -m monitoring_pipelines.orchestration.catalog

# Two files at a time: most tests wait for a server or a Dagster process, not for the processor.
unit: catalog
	$(BIN)/pytest -q -n 2 --dist loadfile

wheel-test:
	sh scripts/test_wheel.sh $(BIN)/python

# docs/api.md, from the server's own OpenAPI document.
api-reference:
	$(BIN)/python scripts/build_api_reference.py

# docs/data-dictionary.md, from the descriptions in the SQL models and entities.
dictionary:
	$(BIN)/python scripts/build_dictionary.py

# Dashboards of deploy/grafana, with the thresholds of the rules.
grafana:
	$(BIN)/python deploy/grafana/generate.py

bench:
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo dist build .pytest_cache .mypy_cache .ruff_cache
