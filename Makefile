# make study   install into .venv and run the main job: a table and a figure in out/
# make test    lint, C++ tests, Python tests
# make bench   every row of the speed table next to its peers (installs them into .venv-bench)
# make docs    the pages, with every reproduced figure, in out/docs
# make wheel   sdist and wheel in out/dist, each checked and tried in an environment of its own
# The rest: make test-slow, sanitize, tidy, lint, format, clean.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Of installed packages Python compiles the modules that are imported, when they first are, and keeps them; to compile
# all would take a minute.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE
CORE := $(shell find cpp/include cpp/src cpp/bindings cmake -type f) CMakeLists.txt pyproject.toml
SOURCES := python tests bench docs
CPP_TESTS := $(shell find cpp/tests -type f)
CPP := $(shell find cpp cmake -name '*.cpp' -o -name '*.hpp')

# Packages that attsvm is tested beside; `make test NEIGHBOURS=` does without them (torch is large).
NEIGHBOURS ?= neighbours

.PHONY: study install test test-python test-cpp test-slow lint format sanitize bench docs tidy wheel clean
.DELETE_ON_ERROR:

study: install
	$(BIN)/attsvm study overparam --out out/overparam

install: $(VENV)/.attsvm

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "attsvm needs Python 3.10 or newer; try make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# To run, and for the quick tests, this machine's instruction-set level is enough; the slow tests compare all levels.
compile = $(INSTALL) $(1) -C build-dir=build/$(2) \
  -C cmake.define.ATTSVM_ISA_LEVELS=$(3) -C cmake.define.ATTSVM_TEST_ISA_LEVELS=$(3) -C cmake.define.ATTSVM_BUILD_TESTS=$(4)

$(VENV)/.attsvm: $(VENV)/.pip $(CORE)
	@echo "Compiling and installing attsvm into $(VENV): a minute or two"
	$(call compile,--editable '.[report]',run,native,OFF)
	@touch $@

# Compiled while the packages of the tests are installed; those that attsvm itself needs come after both.
$(VENV)/.compiled-test: $(VENV)/.pip $(CORE) $(CPP_TESTS)
	$(call compile,--no-deps --editable .,test,native,ON)
	@rm -f $(VENV)/.compiled-levels  # no longer what is installed
	@touch $@

$(VENV)/.compiled-levels: $(VENV)/.pip $(CORE) $(CPP_TESTS)
	$(call compile,--no-deps --editable .,levels,all,ON)
	@touch $@

$(VENV)/.tested: $(VENV)/.compiled-test
$(VENV)/.levels: $(VENV)/.compiled-levels
$(VENV)/.tested $(VENV)/.levels: | $(VENV)/.tools
	$(INSTALL) 'attsvm[report]'
	@touch $@ $(VENV)/.attsvm

# One pip at a time but for those that compile: what stands behind | comes first.
$(VENV)/.tools: $(VENV)/.pip pyproject.toml | $(VENV)/.lint
	$(INSTALL) $(addprefix --group ,dev docs $(NEIGHBOURS))
	@touch $@

# What reads the sources needs no compiled core.
$(VENV)/.lint: $(VENV)/.pip pyproject.toml
	$(INSTALL) --group lint
	@touch $@

test: lint test-cpp test-python

test-cpp: $(VENV)/.tested
	$(CTEST) --test-dir build/test

# Threads that wait sleep, as others of the tests compute meanwhile.
CTEST := OMP_WAIT_POLICY=passive $(BIN)/ctest --output-on-failure
# A process for each of two processors, each of them on one thread; tests of threads ask for more.
PYTEST := OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-python: $(VENV)/.tested
	$(PYTEST) -m 'not slow'

test-slow: $(VENV)/.levels
	$(CTEST) --test-dir build/levels
	$(PYTEST) -m slow

lint: $(VENV)/.lint
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/.lint
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/clang-format -i $(CPP)

# C++ tests in a build of their own, with the Eigen and the build tools of the virtual environment.
define run_cpp_tests
	$(BIN)/cmake --preset $(1) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DCMAKE_PREFIX_PATH=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	$(BIN)/cmake --build --preset $(1)
endef

sanitize: $(VENV)/.tools
	$(call run_cpp_tests,asan)
	$(BIN)/ctest --preset asan
	$(call run_cpp_tests,tsan)
	$(BIN)/ctest --preset tsan

# The peers live in an environment of their own. OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE would slow NumPy's products.
$(VENV)-bench/.peers: $(CORE)
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)-bench/bin/python -m pip install --quiet --editable . --group bench
	@touch $@

bench: $(VENV)-bench/.peers
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(VENV)-bench/bin/python -m bench

$(VENV)/.docs: $(VENV)/.attsvm pyproject.toml
	$(INSTALL) --group docs
	@touch $@

# Figures are computed once, in six minutes on two cores, and again when the package has changed.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --builder html docs out/docs
	@echo "The pages: out/docs/index.html"

# The wheel is built from the sdist, as a user without a wheel would, and repaired to bring its OpenMP along.
DIST := $(VENV)-dist/bin

$(VENV)-dist/.tools: pyproject.toml
	$(PYTHON) -m venv $(VENV)-dist
	$(DIST)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(DIST)/python -m pip install --quiet --group dist
	@touch $@

wheel: $(VENV)-dist/.tools
	rm -rf out/dist
	$(DIST)/validate-pyproject pyproject.toml
	$(DIST)/cffconvert --validate
	$(DIST)/check-sdist
	$(DIST)/python -m build --outdir out/dist/built
	PATH="$(abspath $(DIST)):$$PATH" $(DIST)/auditwheel repair --wheel-dir out/dist out/dist/built/*.whl
	mv out/dist/built/*.tar.gz out/dist
	$(DIST)/twine check --strict out/dist/*.tar.gz out/dist/*.whl
	$(DIST)/python tests/check_wheel.py out/dist/*.whl
	$(PYTHON) -m venv --clear out/dist/venv
	out/dist/venv/bin/python -m pip install --quiet out/dist/*.whl
	cd out/dist && venv/bin/python ../../tests/smoke.py --installed

tidy: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet 'clang-tidy==23.1.4'
	PATH="$(abspath $(BIN)):$$PATH" $(MAKE) tidy-run

.PHONY: tidy-run
tidy-run:
	$(call run_cpp_tests,tidy)

clean:
	rm -rf build out docs/api/attsvm.*.rst docs/gallery $(VENV) $(VENV)-bench $(VENV)-dist
