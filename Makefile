# `make` or `make help` lists what there is to do.
PYTHON ?= python3
CONFIG ?= embedded
PROFILE ?= local
CONFIG_FILE := $(if $(filter %.yaml,$(CONFIG)),$(CONFIG),workflow/config/$(CONFIG).yaml)
VENV := .venv
PATHS := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
# uv where it is, which is faster; the same versions by pip where not
PIP := $(if $(shell command -v uv),uv pip install --python $(VENV)/bin/python,$(VENV)/bin/pip install) --quiet

.DEFAULT_GOAL := help
.PHONY: help setup report publish compare notebook train zoo betons claims gallery test test-cluster check-gpu lint ffcv cluster texture clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## make .venv with what the notebooks need (every other target does this first)

$(VENV)/.installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements-peers.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt -c constraints.txt
	$(PIP) --no-deps -r requirements-peers.txt
	@touch $@

report: setup  ## run the study into runs/: CONFIG=embedded (default), cifar10, cifar100, FILE.yaml; PROFILE=slurm
	@test -f "$(CONFIG_FILE)" || { echo "no CONFIG=$(CONFIG); choose from:" \
		"$(basename $(notdir $(wildcard workflow/config/*.yaml))), or name a .yaml file"; exit 1; }
	@test -d workflow/profiles/$(PROFILE) || \
		{ echo "no PROFILE=$(PROFILE); choose from: $(notdir $(wildcard workflow/profiles/*))"; exit 1; }
	$(PATHS) python -m workflow.run --profile workflow/profiles/$(PROFILE) --snakefile workflow/Snakefile \
		--configfile "$(CONFIG_FILE)" $(if $(CORES),--cores $(CORES)) $(ARGS)

publish: setup  ## put the tables of a run into results/, as nothing else does: RUN=cifar10 [TO=cifar10_controls]
	$(PATHS) python -m workflow.publish "$(RUN)" $(if $(TO),--to $(TO))

compare: setup  ## compare two folders of tables: A=results/cifar10 B=runs/mine
	$(PATHS) python -m workflow.compare "$(A)" "$(B)"

notebook: setup  ## open the notebooks in JupyterLab
	$(PATHS) jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

train: setup  ## train a network: MODEL=cnn (or timm:NAME, FILE.py:NAME) DATASET=cifar10 [ARGS="--set epochs=5 --run mine"]
	@$(PATHS) $(if $(PROCESSES),torchrun --standalone --nproc-per-node $(PROCESSES),python) -m src.training "$(MODEL)" "$(DATASET)" $(ARGS)

zoo: setup  ## train what the controlled zoo lacks, into runs/controls: DATASET=cifar10 [ARGS="--seeds 0 1 2"]
	@$(PATHS) python -m src.training.controls $(or $(DATASET),cifar10) $(ARGS)

betons: setup  ## fetch the 2023 report's CIFAR-10 and CIFAR-100 as .beton files
	$(PATHS) python -m src.data.download

claims: setup  ## judge the claims of docs/hypotheses.md by the published tables, into docs/claims.md
	$(PATHS) python -m workflow.claims

gallery: setup  ## draw the README's figures again and write its numbers, from the published tables of CIFAR-10
	$(PATHS) python -m papermill 07_plots.ipynb /dev/null -p dataset cifar10 -y "formats: [png]" --cwd . --kernel python3 --no-progress-bar
	$(PATHS) python -m workflow.gallery

test: $(VENV)/.installed-dev  ## run the tests on all cores: ARGS="-k pgd", FAST=1 for those of half a minute
	@# a worker that crashes is not replaced: the run would wait for ever for what it was to do, instead of failing
	$(PATHS) OMP_NUM_THREADS=1 $(if $(FAST),FAST=1) python -m pytest -n auto --dist loadfile --no-loadscope-reorder \
		--max-worker-restart 0 \
		$(if $(FAST),tests src/tables src/plotting src/*.py) $(ARGS)

test-cluster: $(VENV)/.installed-dev cluster  ## run the graph on a private one-node Slurm (needs root, slurm-wlm, munge)
	$(PATHS) REQUIRE_SLURM=1 python -m pytest tests/workflow/test_cluster.py

check-gpu: setup  ## see whether a GPU computes what the CPU does, how fast, and whether all notebooks run on it
	$(PATHS) python -m benchmarks.check_gpu
	$(MAKE) report CONFIG=smoke

lint: $(VENV)/.installed-dev  ## check style, and that notebooks hold no stray output
	$(PATHS) ruff check . && $(PATHS) ruff format --check .
	$(PATHS) nbstripout --verify --keep-id *.ipynb

ffcv: $(VENV)/.installed  ## add FFCV, the optional fast loader (needs three system packages, see requirements-ffcv.txt)
	$(PIP) -r requirements-ffcv.txt -c constraints.txt

cluster: $(VENV)/.installed  ## add what submits jobs to Slurm, for `make report PROFILE=slurm`
	$(PIP) -r requirements-cluster.txt -c constraints.txt

texture: $(VENV)/.installed  ## add what makes the corruptions and the images of texture alone, for notebook 03
	$(PIP) -r requirements-texture.txt -c constraints.txt

clean:  ## remove unfinished training and Snakemake's records, but no run, no results and no weights
	rm -rf .snakemake checkpoints
