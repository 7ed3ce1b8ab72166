# make demo                 run the whole workflow on the synthetic camera networks
# make up, status, down     start, show and stop the servers of the production loop on this machine
# make backup to=FOLDER     save what the servers store; make restore from=FOLDER restores it
# make bench                measure the figures of speed in the README
# make bench-serve          measure the service
# make bench-scale          measure the stages at two sizes and ingest, and print what larger targets cost
# make gpu-check            check and measure everything that runs on a GPU
# make lint                 run ruff, the formatter's check and mypy
# make test                 run the tests
# make test-integration     run the production loop on real servers
# make fuzz                 put odd images, tables, params and requests in, for about ten minutes
# make malformed            put 1,000 malformed inputs through every door, and print how each took them
# make torture              kill service, ingest and promotions, stop S3 and MLflow, 50 times in all, and check that nothing
#                           is lost; seconds=900 at most
# make docs                 build the documentation site in site/
# make lock                 write requirements.lock, with the hashes of all packages
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: bench bench-scale bench-serve demo gpu-check up status down backup restore test test-integration fuzz malformed torture lint docs lock

demo: .venv/installed
	python -m flows.retrain

bench: .venv/installed
	python -m benchmarks

bench-serve: .venv/installed
	python -m benchmarks.serve

bench-scale: .venv/installed
	python -m benchmarks.scale 300 3700
	python -m benchmarks.scale 500 15900
	python -m benchmarks.fitting memory
	python -m benchmarks.fitting sample
	python -m benchmarks.ingest
	python -m benchmarks.plan

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
	python -m pytest -m production --durations 0 tests/integration/test_production.py tests/integration/test_site_production.py

fuzz: .venv/installed
	python -m pytest --numprocesses auto -m fuzz --hypothesis-profile fuzz --durations 0

malformed: .venv/installed
	python -m tests.malformed

torture: .venv/installed
	python -m tests.torture --seconds $(or $(seconds),900)

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 mkdocs build

lint: .venv/installed
	ruff check
	ruff format --check
	mypy

lock:
	uv pip compile --universal --python-version 3.11 pyproject.toml --no-annotate --generate-hashes \
		--extra all --extra cluster --extra dev --extra docs --extra ray --extra servers \
		--custom-compile-command "make lock" -o requirements.lock

.venv/installed: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "python3 must be 3.11 or 3.12, got $$(python3 -V)"; exit 1; }
	test -x .venv/bin/pip || python3 -m venv --clear .venv
	.venv/bin/python -m pip install --no-deps --requirement requirements.lock
	.venv/bin/python -m pip install --no-deps --editable .
	touch $@
