# `make demo`: the whole workflow on the synthetic camera networks. `make up`, `make status`, `make down`: the servers that
# unattended work needs, on this machine; `make backup to=FOLDER`, `make restore from=FOLDER`. `make bench`: what the README's figures of speed come from; `make bench-serve`:
# those of the service; `make gpu-check`: checks and measures what runs on a GPU. `make test`, `make test-integration`
# (the production loop on real servers), `make lint`,
# `make lock`: for developers.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: bench bench-serve demo gpu-check up status down backup restore test test-integration lint docs lock

demo: .venv/installed
	python -m flows.retrain

bench: .venv/installed
	python -m benchmarks

bench-serve: .venv/installed
	python -m benchmarks.serve

gpu-check: .venv/installed
	python -m benchmarks.gpu

up status down: .venv/installed
	python -m infra.local $@

backup: .venv/installed
	python -m infra.local backup "$(to)"

restore: .venv/installed
	python -m infra.local restore "$(from)"

test: .venv/installed
	python -m pytest --numprocesses auto --dist loadfile --ignore tests/flows --ignore tests/integration
	python -m pytest tests/flows tests/integration

test-integration: .venv/installed
	python -m pytest -m production --durations 0 tests/integration/test_production.py

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 mkdocs build

lint: .venv/installed
	ruff check
	ruff format --check
	mypy

lock:
	uv pip compile --universal --python-version 3.11 pyproject.toml --no-annotate \
		--extra all --extra dev --extra docs --extra servers \
		--custom-compile-command "make lock" -o requirements.lock

.venv/installed: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "python3 is $$(python3 -V); legal are 3.11 and 3.12"; exit 1; }
	test -x .venv/bin/pip || python3 -m venv --clear .venv
	.venv/bin/python -m pip install --requirement requirements.lock
	.venv/bin/python -m pip install --no-deps --editable .
	touch $@
