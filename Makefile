# What a contributor needs. Each target works in a fresh clone, with nothing done first.

PYTHON ?= python3
FUZZ_SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
IN_PARALLEL := -n auto --maxprocesses 4 --dist worksteal
SOURCES := $(wildcard csrc/*.[ch] csrc/python/*.[ch]) csrc/build.py setup.py

.PHONY: test prove prove-tests fuzz sanitize prove-long build demo bench bench-peers targets guard lint wheel clean

test: build  ## set up and run all tests; ARGS are pytest's
	$(BIN)/python -m pytest $(IN_PARALLEL) $(ARGS)

prove: prove-tests fuzz sanitize  ## all of what `make test` samples, within a quarter of an hour

prove-tests: build  ## crashes, mutants, faults, hostile bytes, power cuts, leaks
	$(BIN)/python -m pytest $(IN_PARALLEL) -m prove -o faulthandler_timeout=1800 $(ARGS)

fuzz:  ## libFuzzer on recovery and the decoders, FUZZ_SECONDS (60) each
	tests/fuzz/run $(FUZZ_SECONDS)

sanitize:  ## the suite under ASan and UBSan, the threaded tests under TSan
	PYTHON=$(PYTHON) .ci/sanitize

prove-long:  ## crashes of new random histories, for LONG_SECONDS (3600)
	tests/crash/long $(LONG_SECONDS)

build: $(VENV)/built  ## the C core, in place

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip 'setuptools>=77.0.3' 'cffi>=1.17'
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

$(VENV)/built: $(VENV)/ready $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@

demo: .venv-demo/ready  ## kill -9 a writer again and again; nothing acknowledged may be lost
	.venv-demo/bin/pylogwal demo $(ARGS)

.venv-demo/ready: pyproject.toml $(SOURCES) $(wildcard pylogwal/*.py)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install -q .
	touch $@

bench: build  ## microbenchmarks of the hot path; ARGS are pytest's
	$(BIN)/python -m pytest bench --benchmark-columns=min,median,iqr,rounds $(ARGS)

PEERS := build/peers
FEATURES ?=

bench-peers: build $(VENV)/peers  ## the same work on other stores; FEATURES=rocksdb adds d-engine's RocksDB
	@mkdir -p $(PEERS)
	@CARGO_TARGET_DIR=$(PEERS)/cargo cargo build -q --release -j 2 --manifest-path bench/peers/rust/Cargo.toml \
		--features '$(FEATURES)' || echo 'not built, for want of cargo or protoc: d-engine, raft-engine'
	@(cd bench/peers/go && go build -o ../../../$(PEERS)/go .) || echo "not built, for want of go: etcd's wal, raft-wal"
	$(BIN)/python bench/peers/run.py --json $(PEERS)/peers.json $(ARGS)

$(VENV)/peers: $(VENV)/ready
	$(BIN)/python -m pip install -q lmdb rocksdict plyvel pysyncobj
	touch $@

targets: build  ## the table of targets, measured beside the C floor
	$(BIN)/python bench/targets.py $(ARGS)

guard: build  ## instructions and system calls of the hot path, without a clock
	$(BIN)/python bench/guard.py $(ARGS)

lint: $(VENV)/lint  ## style and types; every C file without a warning from gcc and clang
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHON=$(BIN)/python .ci/lint-c

$(VENV)/lint: $(VENV)/ready
	$(BIN)/python -m pip install -q -e '.[lint]'
	touch $@

wheel: $(VENV)/ready  ## into dist/
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) .venv-demo build dist wheelhouse *.egg-info pylogwal/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
