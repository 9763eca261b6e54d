# Every target first brings the tools it needs to what requirements/ pins; see requirements/install.sh.
# Options: PYTHON=/path/to/python3   ARGS="further arguments of the program that the target runs"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help quickstart showcase pictures miniature bench bench-operator test e2e cluster operator check check-format check-lint check-types check-arrows check-pins \
        check-generated docs generate format pins images sbom clean trainer-venv dev-venv docs-venv

# `make -f elsewhere/Makefile` works, too; the name may hold spaces, so no $(dir ...), which splits.
ROOT := $(shell cd "$$(dirname "$(strip $(MAKEFILE_LIST))")" && pwd -P)

ifneq ($(ROOT),$(CURDIR))
$(or $(MAKECMDGOALS),help)::
	@$(MAKE) --no-print-directory -C "$(ROOT)" $@
else

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

quickstart: trainer-venv  ## align the miniature model with a learned reward on this machine's CPU: minutes, no GPU
	@.venv/bin/g2rpo-train manifests/samples/miniature-g2rpo.yaml --runs runs $(ARGS)

showcase: quickstart  ## draw the README's pictures from the quickstart's run
	@.venv/bin/python docs/showcase.py runs/miniature-g2rpo

pictures: dev-venv  ## draw the dashboards from runs that live meanwhile: npm, and prometheus and chromium of Debian
	@PYTHONPATH=charts:tests/cluster:tests/monitoring:tests/operator .venv/bin/python -m testmonitoring $(ARGS)

miniature: trainer-venv  ## train the shipped miniature model again from nothing
	@.venv/bin/python -m g2rpo_trainer.miniature $(ARGS)

bench: trainer-venv  ## the benchmarks: what sharing saves, then the methods (an hour)
	@set -e; for file in benchmarks/rollout.py benchmarks/methods.py; do echo "== $$file"; .venv/bin/python "$$file" $(ARGS); done

bench-operator: dev-venv  ## the operator's benchmarks: a thousand jobs at once, ten thousand that wait (half an hour)
	@set -e; for file in benchmarks/operator/scale.py benchmarks/operator/steady.py; do echo "== $$file"; \
	  PYTHONPATH=tests/cluster .venv/bin/python "$$file" $(ARGS); done

# one more than there are cores, since many tests wait for a cluster; each needs 2 GiB
WORKERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 1 : 4)))

test: dev-venv  ## the tests; ARGS="-m slow" for those of more than twenty seconds
	@PYTHONPATH=tests/cluster .venv/bin/python -m testcluster binaries >/dev/null
	@.venv/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

NODE := PYTHONPATH=tests/cluster:tests/e2e .venv/bin/python -m testnode

e2e: dev-venv  ## everything on a real node of this machine: images, Helm, pods (root, Linux); ARGS="-k suspend" for some of it
	@$(NODE) $(if $(CI),prepare,able)
	@PYTHONPATH=docker .venv/bin/python -m images build $(if $(CI),--install)
	@$(NODE) binaries >/dev/null
	@# builds reach a registry, which the node's own network does not
	@.venv/bin/python -m pytest tests/e2e/test_images.py -m "" $(ARGS) || test $$? = 5
	@$(NODE) run -- .venv/bin/python -m pytest tests/e2e --ignore tests/e2e/test_images.py -m "" $(ARGS)

cluster: dev-venv  ## a real Kubernetes control plane with fake GPU nodes, to play with until Ctrl-C
	@PYTHONPATH=tests/cluster exec .venv/bin/python -m testcluster up $(ARGS)

operator: dev-venv  ## the operator on this machine, for the cluster that kubectl talks to, until Ctrl-C
	@kubectl version >/dev/null 2>&1 || { echo "kubectl reaches no cluster: copy the export lines that make cluster prints"; exit 1; }
	@kubectl apply --filename manifests/crd.yaml
	@G2RPO_OPERATOR_LEADER_ELECTION=false G2RPO_OPERATOR_LOG_FORMAT=text $(ARGS) exec .venv/bin/python -m g2rpo_operator

images:  ## build the images; ARGS=operator for one of them, ARGS=--install to bring missing programs (root, Debian)
	@PYTHONPATH=docker $(or $(PYTHON),python3) -m images build $(ARGS)

sbom: dev-venv  ## list what is in the images, in dist/sbom/
	@PYTHONPATH=docker .venv/bin/python -m images sbom $(ARGS)

check: check-format check-lint check-types check-arrows check-generated check-pins docs  ## format, lint, types, imports, generated files, pins, documents

check-format: dev-venv
	@.venv/bin/ruff format --check --diff

check-lint: dev-venv
	@.venv/bin/ruff check
	@.venv/bin/hadolint Dockerfile

check-types: dev-venv
	@.venv/bin/python -m mypy

check-arrows: dev-venv
	@.venv/bin/lint-imports --no-logo

check-pins:
	@requirements/compile.sh check

check-generated: dev-venv
	@.venv/bin/python -m g2rpo_api.generate --check
	@PYTHONPATH=charts .venv/bin/python -m values.generate --check
	@PYTHONPATH=charts .venv/bin/python -m monitoring.generate --check
	@.venv/bin/python docs/architecture.py --check
	@.venv/bin/python docs/metrics.py --check

generate: dev-venv  ## write what is made from sources: manifests, the chart, references, dashboards, a picture
	@.venv/bin/python -m g2rpo_api.generate
	@PYTHONPATH=charts .venv/bin/python -m values.generate
	@PYTHONPATH=charts .venv/bin/python -m monitoring.generate
	@.venv/bin/python docs/architecture.py
	@.venv/bin/python docs/metrics.py

docs: docs-venv  ## the documents as a site, in site/; ARGS=serve to read them while they are written
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs $(or $(ARGS),build --strict)

format: dev-venv  ## format the sources and mend what the linter can
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

pins:  ## renew the pinned versions; KEEP=1 only adds and drops what the pyproject files now say
	@requirements/compile.sh $(if $(KEEP),keep,upgrade)

clean:  ## remove what the other targets installed or cached; runs/ stays
	@rm -rf .venv .venv-docs .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

trainer-venv:
	@requirements/install.sh trainer

dev-venv:
	@requirements/install.sh dev

docs-venv:
	@requirements/install.sh docs

endif
