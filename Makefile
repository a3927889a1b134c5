# The front door. Every target sets up what it needs in $(VENV) and does it once.
#   PYTHON    the interpreter to build the environment from (>= 3.10)
#   PIP_ARGS  handed to pip, to choose another build of torch; see README.md
#   RUN       where the demo writes
#   RESULT    where the benchmarks write, and GPU_RESULT those on a GPU
#   TORCHES   versions for test-torch-range, and TORCH_RANGE the folder of their environments
#   JOBS      processes that run a study's cells, or compile GPU kernels, side by side
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
RUN ?= runs/demo
RESULT ?= benchmarks/results/cpu-$(shell date +%F).json
TORCH_RANGE ?= build/torch-range
JOBS ?= $(shell nproc)
GPU_RESULT ?= benchmarks/results/gpu-$(shell date +%F).json

BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard csrc/*)
CPP = csrc/*.h csrc/*.cpp tests/aarch64/*.cpp
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

.DELETE_ON_ERROR:
.PHONY: demo test test-full test-scale test-integrations test-model-servers test-torch-range bench bench-gpu render resources sanitize compare-aarch64 compare-intel soak study study-defenses study-people docs docs-site lint help format clean

demo: $(VENV)/.eval
	@if [ -e $(RUN)/.finished ]; then \
	  echo "$(RUN) is finished; remove it to run the demo anew"; \
	else \
	  [ ! -e $(RUN) ] || echo "$(RUN) is unfinished: its files are written anew"; \
	  $(BIN)/mipoison evaluate --preset demo --out $(RUN) --overwrite && touch $(RUN)/.finished; \
	fi && echo "Open $(RUN)/report.html"

# Two workers, who take tests from each other's ends. What takes long, and is much like what is always tried, is --full.
WORKERS ?= 2
test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-full: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --full

# Ray and Dask, each on a cluster that the test starts here. They are 300 MB, and the first tests do without them.
test-scale: $(VENV)/.test
	$(INSTALL) -e '.[eval,test,scale]'
	$(BIN)/python -m pytest tests/eval/test_frozen_run.py -k engines

# The adapters, against the libraries that they are for, and the servers of examples/servers: an environment of its own.
INTEGRATIONS ?= build/integrations
test-integrations: test-model-servers
	$(MAKE) $(INTEGRATIONS)/.integrations VENV=$(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pytest tests/integrations tests/test_art.py --integrations

# The proxy in front of MLServer, FastAPI, LitServe and TorchServe (which needs Java), in an environment of their own: some
# need older libraries than the proxy.
MODEL_SERVERS ?= build/model-servers
test-model-servers: $(VENV)/.test $(MODEL_SERVERS)/.installed
	MODEL_SERVERS=$(MODEL_SERVERS)/bin $(BIN)/python -m pytest tests/integrations/test_model_servers.py

$(MODEL_SERVERS)/.installed:
	$(PYTHON) -m venv $(MODEL_SERVERS)
	$(MODEL_SERVERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) \
	  mlserver-sklearn litserve torchserve torch-model-archiver torch
	@touch $@

# One file a machine and day; `make render` takes them into docs/performance.md.
bench: $(VENV)/.test
	$(BIN)/python -m pytest benchmarks --benchmark-only --record --ignore=benchmarks/bench_gpu.py --benchmark-json $(RESULT)

# On a machine with a GPU: right first, then fast. Takes the Python that has a CUDA torch, and installs no other one.
# Compiling is most of it, so that tests share the cores, and what the benchmarks need is compiled size by size.
bench-gpu:
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	$(PYTHON) -m pytest tests/gpu -n $(JOBS)
	PYTHONPATH=benchmarks $(PYTHON) -c 'import bench_gpu; print(*bench_gpu.SIZES)' | tr ' ' '\n' | \
	  xargs -P $(JOBS) -I{} $(PYTHON) -m mipoison.kernels.warmup --operation step --k {}
	$(PYTHON) -m pytest benchmarks/bench_gpu.py --benchmark-only --record --benchmark-json $(GPU_RESULT)

# What the Triton kernels take of a GPU, compiled for it ahead of time.
resources: $(VENV)/.test
	$(BIN)/python -m mipoison.kernels.resources --out benchmarks/results/triton-resources.json

# Watches what the extension reads and writes, and what its threads share, in builds of their own: ten minutes, and as
# many to build. What is not ours is left alone: torch's allocations, and its pool of threads.
WATCH = PYTHON=$(BIN)/python tests/sanitize/run
SANITIZE_SECONDS ?= 150
sanitize: build/sanitize/address/.built build/sanitize/thread/.built
	$(WATCH) build/sanitize/address/site asan,ubsan tests/sanitize/kernel_table.py --seconds $(SANITIZE_SECONDS)
	$(WATCH) build/sanitize/address/site asan,ubsan tests/fuzz.py --seconds $(SANITIZE_SECONDS)
	$(WATCH) build/sanitize/thread/site tsan tests/sanitize/kernel_table.py --seconds $(SANITIZE_SECONDS)
	$(WATCH) build/sanitize/thread/site tsan tests/fuzz.py --seconds $(SANITIZE_SECONDS)

SANITIZERS_address = address,undefined,float-cast-overflow
SANITIZERS_thread = thread
build/sanitize/%/.built: $(SOURCES) $(wildcard mipoison/*.py mipoison/*/*.py kernels/*.py) tests/sanitize/compiler | $(VENV)/.test
	SANITIZE=$(SANITIZERS_$*) CC=$(CURDIR)/tests/sanitize/compiler CXX=$(CURDIR)/tests/sanitize/compiler \
	  $(BIN)/python setup.py -q build --build-base $(@D)/objects --build-lib $(@D)/site
	@touch $@

# The kernels of an ARM processor, under an emulator, against those of an x86-64 one: two minutes, and a cross compiler.
compare-aarch64:
	tests/aarch64/run

# The AVX2 and the baseline kernels on an Intel processor, under an emulator, against those on this one: three minutes.
compare-intel: $(VENV)/.test
	PYTHON=$(BIN)/python tests/intel/run

# The versions of torch that pyproject.toml declares, each in an environment of its own: gigabytes for each CUDA build.
TORCHES ?= 2.11.0 2.12.0 2.13.0 2.14.1
test-torch-range: $(VENV)/.test
	PYTHON=$(BIN)/python PIP_ARGS="$(PIP_ARGS)" tests/torch_range/run $(TORCH_RANGE) $(TORCHES)

render: $(VENV)/.test
	$(BIN)/python benchmarks/render.py $(sort $(wildcard benchmarks/results/cpu-*.json benchmarks/results/gpu-*.json))

# Ten million random rows through every operation and instruction set.
soak: $(VENV)/.test
	$(BIN)/python benchmarks/soak.py --out runs/soak

# Every defense at equal mean l1 on all data sets, and the rest of docs/results.md: hours. A study goes on where it was
# interrupted, and finished cells are not run again, unless the package has changed. The comparison alone: study-defenses.
COMPARED = standard study-mnist study-mnist-confident study-fashion study-faces study-faces-confident
REST = more-digits more-mnist more-mnist-confident more-faces more-faces-confident
DEFENSES = $(COMPARED) $(REST) asked-mnist asked-faces study-decoder study-ablation
# make study LFW=FOLDER: also the faces in that folder, see docs/guides/faces.md.
LFW ?=
FACES = $(if $(LFW),study-lfw-imagenet study-lfw-imagenet-softened study-lfw-imagenet-48 study-lfw-identity)
STUDIES ?= $(DEFENSES) study-yang study-strangers study-nls study-vib study-bido $(FACES)
READ_FACES = certified channel
WITH_FACES = $(if $(LFW),--lfw "$(LFW)")
PARTS ?= keys rotation retrained certified serve_load drift unlike channel
study-defenses:
	$(MAKE) study STUDIES="$(DEFENSES)" PARTS=
# make study-people ADULT=FILE: what a classifier of income tells of people; studies/people.py says which file.
ADULT ?=
study-people: $(VENV)/.test
	@[ -n "$(ADULT)" ] || { echo "make study-people: expected ADULT=FILE; see studies/people.py" >&2; exit 2; }
	$(BIN)/python studies/people.py "$(ADULT)"
	$(BIN)/python studies/results_page.py
study: $(VENV)/.test
	$(BIN)/python studies/run.py $(STUDIES) --jobs $(JOBS) $(WITH_FACES)
	for part in $(filter-out $(READ_FACES),$(PARTS)); do $(BIN)/python studies/$$part.py --jobs $(JOBS) || exit 1; done
	for part in $(filter $(READ_FACES),$(PARTS)); do \
		$(BIN)/python studies/$$part.py --jobs $(JOBS) $(WITH_FACES) || exit 1; done
	$(BIN)/python studies/results_page.py

# The documentation as a site: quickstart, guides, reference, results. A warning is an error.
docs-site: $(VENV)/.docs
	$(BIN)/python studies/long_pages.py docs/pages
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site
	@echo "Open build/site/index.html"

# Takes a finished demo into the docs: its numbers, its picture, and the README's table.
docs: demo
	$(BIN)/python studies/demo.py $(RUN)

help:
	@echo "make demo              attack a defended classifier on real images, and write a report (5 minutes)"
	@echo "make test              the tests (5 minutes on two cores)"
	@echo "make test-full         every size, dtype and option of them (an hour)"
	@echo "make lint              the linters; make format mends what they can"
	@echo "make docs-site         the documentation, in build/site"
	@echo "make bench             the CPU benchmarks; make render writes docs/performance.md from them"
	@echo "make study             everything in docs/results.md (hours)"
	@echo "make docs              takes a finished demo into the README"
	@echo "make sanitize          the extension under sanitizers (half an hour)"
	@echo "make compare-aarch64   the kernels of an ARM processor, under an emulator, bit for bit"
	@echo "make compare-intel     the same on an Intel processor, but for AVX-512"
	@echo "make test-model-servers  the proxy in front of MLServer, FastAPI, LitServe and TorchServe"
	@echo "make soak              ten million random rows against the guarantees"
	@echo "make test-torch-range  every version of torch that is declared (gigabytes)"
	@echo "make test-scale        experiments on a Ray and a Dask cluster"
	@echo "make test-integrations every adapter against its library, servers and clusters (4 GB)"
	@echo "make bench-gpu         on a GPU: the tests there, then the benchmarks"
	@echo "make resources         what each Triton kernel takes of a GPU"
	@echo "Variables, such as PIP_ARGS, stand at the top of the Makefile."

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf $(VENV) build dist mipoison.egg-info mipoison/*.so

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "mipoison needs Python 3.10 or newer, got " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras; an edit under csrc/ builds the extension again.
$(VENV)/.eval: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) -e '.[eval]'
	@touch $@

$(VENV)/.test: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) -e '.[eval,test]'
	@touch $@ $(VENV)/.eval

$(VENV)/.integrations: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) -e '.[eval,test,onnx,integrations,clusters]'
	@touch $@

$(VENV)/.docs: $(SOURCES) docs/conf.py | $(VENV)/bin/python
	$(INSTALL) -e '.[docs]'
	@touch $@ $(VENV)/.eval

$(VENV)/.dev: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.eval $(VENV)/.test $(VENV)/.docs
