# `make demo`: the whole workflow on the embedded camera networks. `make test`, `make lint`, `make lock`: for developers.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Neither MLflow nor Prefect reports usage; their servers obey prefect.toml.
export DO_NOT_TRACK := true

.PHONY: demo test lint lock

demo: .venv/installed
	python -m flows.retrain

test: .venv/installed
	python -m pytest --ignore tests/integration
	python -m pytest tests/integration

lint: .venv/installed
	ruff check
	ruff format --check
	mypy

lock:
	uv pip compile --universal --python-version 3.11 pyproject.toml --extra dev --no-annotate \
		--custom-compile-command "make lock" -o requirements.lock

.venv/installed: requirements.lock pyproject.toml
	test -x .venv/bin/python || python3 -m venv .venv
	.venv/bin/python -m pip install --requirement requirements.lock
	.venv/bin/python -m pip install --no-deps --editable .
	touch $@
