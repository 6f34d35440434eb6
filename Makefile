# The vocabulary of this repository: `make help` prints it. CI calls these targets and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
# More options for the package installer, e.g. INSTALL_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu".
INSTALL_FLAGS ?=

BIN := $(abspath $(VENV))/bin
UV := $(shell command -v uv 2>/dev/null)
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)
RUST_SOURCES := $(shell find rust -type f \( -name '*.rs' -o -name Cargo.toml \)) Cargo.toml Cargo.lock
# One interpreter for every cargo call: with two, pyo3 would be compiled again at each change between them.
export PYO3_PYTHON := $(BIN)/python
# Property tests try the same cases everywhere, so that red means broken; PROPTEST_RNG_SEED=<number> tries others.
export PROPTEST_RNG_SEED ?= 1

ifdef UV
PIP_INSTALL := uv pip install --python $(BIN)/python $(INSTALL_FLAGS)
else
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(INSTALL_FLAGS)
endif

.PHONY: help
help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

.PHONY: install
install: $(VENV)/.built ## make .venv with everything in it: all extras, the tested versions, bgeprep built for release

# The virtual environment with all dependencies at their tested versions, and both packages as an editable install.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else f"Python 3.10 or later is needed, {sys.executable} is {sys.version.split()[0]}\nhint: make install PYTHON=python3.12")'
	command -v cargo >/dev/null || { echo 'cargo is needed to build the Rust part' >&2; echo 'hint: https://rustup.rs' >&2; exit 1; }
ifdef UV
	[ -x $(BIN)/python ] || uv venv --seed --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
else
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
endif
	$(PIP_INSTALL) --constraint constraints.txt maturin
	PATH="$(BIN):$$PATH" $(PIP_INSTALL) --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

# The Rust part again where a source is newer; cargo does nothing where nothing changed.
$(VENV)/.built: $(VENV)/.installed $(RUST_SOURCES)
	VIRTUAL_ENV="$(abspath $(VENV))" PATH="$(BIN):$$PATH" maturin develop
	touch $@

.PHONY: build
build: install ## build the Rust part for release into .venv (what `maturin develop` does)

.PHONY: build-dev
build-dev: $(VENV)/.installed ## the same without optimisation: quick to compile, slow to run, with overflow checks
	VIRTUAL_ENV="$(abspath $(VENV))" PATH="$(BIN):$$PATH" maturin develop --profile dev
	rm -f $(VENV)/.built

.PHONY: test-py-dev
test-py-dev: build-dev ## Python tests on an unoptimised build, whose overflow checks show what release hides
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test
test: lint test-rs test-py ## all that has to hold: lint, Rust tests, Python tests

.PHONY: test-rs
test-rs: $(VENV)/.installed ## Rust tests, by nextest where it is installed
ifdef NEXTEST
	cargo nextest run --locked --workspace --exclude bgeprep-py
	cargo test --locked --workspace --exclude bgeprep-py --doc
else
	cargo test --locked --workspace --exclude bgeprep-py
endif

.PHONY: test-py
test-py: install ## Python tests; options of pytest in ARGS="-k shard -x"
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-system
test-system: install $(VENV)/.installed-system ## tests against servers that they start on this machine; options of pytest in ARGS
	$(BIN)/python -m pytest tests/system $(ARGS)

# What those servers need: more than anything else does, so `make install` does without it.
$(VENV)/.installed-system: $(VENV)/.installed tests/system/requirements.txt constraints.txt
	$(PIP_INSTALL) --constraint constraints.txt --requirement tests/system/requirements.txt
	touch $@

.PHONY: lint
lint: install ## formats, clippy, ruff, mypy, and the stub against the built module
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest bgeprep._native --concise

.PHONY: format
format: $(VENV)/.installed ## format Rust and Python in place
	cargo fmt --all
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: demo
demo: install ## from pairs to a trained, measured, exported model, in ten minutes on two cores
	PATH="$(BIN):$$PATH" examples/demo/run.sh

.PHONY: pipeline
pipeline: install ## the whole path from random weights, English and Chinese, a core each; options in ARGS="--set seeds=1,2"
	PATH="$(BIN):$$PATH" examples/pipeline/run.sh $(ARGS)

.PHONY: bench
bench: install ## criterion benches, then the peers (each in .venv-peers/<name>); minutes to an hour
	cargo bench --locked --package bgeprep-bench
	$(MAKE) bench-peers
	$(MAKE) bench-near
	$(MAKE) bench-loader
	$(MAKE) bench-tokenize
	$(MAKE) bench-train

.PHONY: bench-peers
bench-peers: install ## bgeprep shard next to polars, duckdb and HF datasets on one file; options in ARGS="--rows 50000"
	$(BIN)/python -m benches.peers $(ARGS)

.PHONY: bench-near
bench-near: install ## near dedup next to rensa, datasketch, text-dedup and datatrove; options in ARGS="--rows 20000"
	$(BIN)/python -m benches.peers.near $(ARGS)

.PHONY: bench-loader
bench-loader: install ## the batch loader next to sentence-transformers and FlagEmbedding; options in ARGS="--rows 50000"
	$(BIN)/python -m benches.peers.loader $(ARGS)

.PHONY: bench-tokenize
bench-tokenize: install ## bgeprep.Tokenizer next to HF tokenizers, one core and two; options in ARGS="--passages 2000"
	$(BIN)/python -m benches.peers.tokenize $(ARGS)

.PHONY: bench-train
bench-train: install ## a training step next to sentence-transformers and FlagEmbedding; options in ARGS="--passage-max-len 256"
	$(BIN)/python -m benches.peers.train $(ARGS)

.PHONY: bench-retromae
bench-retromae: install ## a step of RetroMAE next to the published algorithm in plain PyTorch; options in ARGS="--long"
	$(BIN)/python -m benches.peers.retromae $(ARGS)

.PHONY: bench-encode
bench-encode: install ## bgetrain encode next to sentence-transformers on mixed lengths; options in ARGS="--texts 2000"
	$(BIN)/python -m benches.peers.encode $(ARGS)

.PHONY: bench-learn
bench-learn: install ## what is learned next to sentence-transformers' trainer; options in ARGS="--pairs FILE --collections DIR"
	$(BIN)/python -m benches.peers.learning $(ARGS)

.PHONY: bench-mine
bench-mine: install ## mining next to bare faiss and sentence-transformers; options in ARGS="--rounds 1"
	$(BIN)/python -m benches.peers.mine $(ARGS)

.PHONY: bench-memory
bench-memory: install ## peak memory and spill of bgeprep shard as the input grows; options in ARGS="--dedup near"
	$(BIN)/python -m benches.peers.memory $(ARGS)

.PHONY: bench-executors
bench-executors: install $(VENV)/.installed-system ## bgeprep shard on Ray next to the local threads; options in ARGS="--rows 1000000"
	$(BIN)/python -m benches.executors $(ARGS)

# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= json gzip arrow

.PHONY: fuzz
fuzz: ## fuzz the JSON, gzip and Arrow readers, FUZZ_SECONDS=60 each (needs cargo-fuzz and a nightly toolchain)
	cargo fuzz --version >/dev/null 2>&1 || { echo 'cargo-fuzz is needed' >&2; echo 'hint: cargo install cargo-fuzz' >&2; exit 1; }
	cargo +nightly --version >/dev/null 2>&1 || { echo 'a nightly toolchain is needed' >&2; echo 'hint: rustup toolchain install nightly --profile minimal' >&2; exit 1; }
	for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/target/corpus/$$target; \
		cargo +nightly fuzz run $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512; \
	done

.PHONY: constraints
constraints: ## renew constraints.txt for every supported Python (needs uv)
	uv pip compile --universal --upgrade --python-version 3.10 --all-extras --no-annotate --no-header --no-emit-package bgeprep pyproject.toml tests/system/requirements.txt --output-file constraints.txt

.PHONY: clean
clean: ## remove what was built: .venv, .venv-peers, target, caches (no data, no output)
	rm -rf $(VENV) .venv-peers target fuzz/target .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/bgeprep/_native*.so
