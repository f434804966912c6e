# Two commands: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup tools demo serve deploy docs test test-long lint types style

setup: .venv/installed tools

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

# ffmpeg, ffprobe and rubberband come from the system's packages
tools:
	@command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null && command -v rubberband >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ffmpeg rubberband-cli >/dev/null; \
	else echo "ffmpeg or rubberband is missing; type: sudo apt-get install ffmpeg rubberband-cli"; exit 1; fi

demo: setup
	$(BIN)/ltx-flows demo

serve: setup
	$(BIN)/ltx-flows serve

# work pool, deployments and the watch over heartbeats, on the Prefect server of PREFECT_API_URL
deploy: setup
	$(BIN)/ltx-flows deploy

# the documents as a site in site/; a link that leads nowhere fails
docs: setup
	$(BIN)/mkdocs build --strict

lint: setup
	@$(MAKE) --no-print-directory --jobs 2 types style

types:
	$(BIN)/mypy

style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

# three processes on two cores, each with one thread, as some wait for servers; a file's tests stay together and share
# what they prepare, and the files that take longest come first
test: lint
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 25

# the rest of every sweep: more kills, outages, broken files, endpoints in a browser
test-long: setup
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 25 -m long
