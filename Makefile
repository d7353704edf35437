# make demo, make test: all the set-up is done here. make install: for production.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin

# Where `make install` puts things; DESTDIR is put before each.
DESTDIR ?=
HOMEDIR ?= /opt/mdconnector
BINDIR  ?= /usr/local/bin
CRONDIR ?= /etc/cron.d
SHAREDIR ?= /usr/local/share
MAN             := $(SHAREDIR)/man/man1/mdconnector.1
BASH_COMPLETION := $(SHAREDIR)/bash-completion/completions/mdconnector
ZSH_COMPLETION  := $(SHAREDIR)/zsh/site-functions/_mdconnector
FISH_COMPLETION := $(SHAREDIR)/fish/vendor_completions.d/mdconnector.fish

# How much the long runs try; MDCONNECTOR_DIFFERENTIAL_SEED begins elsewhere.
DIFFERENTIAL_CONFIGS ?= 20000
FUZZ_EXAMPLES ?= 20000

# What `make test-deb` tries: bookworm (Debian 12) or trixie (Debian 13); and where it keeps fresh roots.
RELEASE ?= bookworm
CHROOTS ?= /var/tmp/mdconnector-chroots

.PHONY: help test test-ansible lint format demo playground bench differential fuzz torture coverage mutation parts install uninstall man pictures dist deb test-deb clean

help:
	@echo 'make demo       certificates of every kind, from vhost files to a running Apache'
	@echo 'make playground  a test CA and an Apache to try things with, see docs/tutorial.md'
	@echo 'make test       linters and all tests, on a real Apache and a real CA'
	@echo 'make lint       linters and type checks alone'
	@echo 'make test-ansible  the role of examples/ansible in full, over SSH too; needs openssh-server'
	@echo 'make bench      figures: requests, seconds, memory, beside certbot, lego, dehydrated and mod_md'
	@echo 'make differential  $(DIFFERENTIAL_CONFIGS) odd configurations, read by us and by the installed httpd'
	@echo 'make fuzz       $(FUZZ_EXAMPLES) texts for each reader: no traceback, nothing above 2 s'
	@echo 'make torture    every fault by the thousand, into docs/reliability-report.md (FIGURES=…: some)'
	@echo 'make pictures   docs/status.svg anew'
	@echo 'make man        docs/commands.md anew; man page and completions into build/manual'
	@echo 'make dist       sdist and wheel'
	@echo 'make deb        a Debian package for the release of this machine, and what lintian says of it'
	@echo 'make test-deb   build and try it in clean roots of RELEASE ($(RELEASE)), as root: minutes, so not in CI'
	@echo 'make coverage   every branch of the store, of ACME and of verification has a test'
	@echo 'make mutation   how many small mistakes in the modules that only compute are noticed'
	@echo 'make install    into $(HOMEDIR), with the link in $(BINDIR) and the cron file'
	@echo 'make uninstall  take these away again; the store is left alone'

test: lint
	MDCONNECTOR_REQUIRE_PARTS=1 $(BIN)/pytest -n auto

lint: $(VENV)/.with-tools
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.with-tools
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

playground: $(VENV)/.with-package
	$(BIN)/python examples/playground.py

demo: $(VENV)/.with-package
	$(BIN)/python examples/demo.py

bench: $(VENV)/.with-package
	$(BIN)/python -m tests.bench

# The package of sshd starts a server of the machine's own, so it is never installed by us.
test-ansible: $(VENV)/.with-tools
	MDCONNECTOR_REQUIRE_PARTS=1 MDCONNECTOR_ANSIBLE=all $(BIN)/pytest -v tests/e2e/test_ansible.py

differential: $(VENV)/.with-tools
	MDCONNECTOR_REQUIRE_PARTS=1 MDCONNECTOR_DIFFERENTIAL_CONFIGS=$(DIFFERENTIAL_CONFIGS) \
	  $(BIN)/pytest -n auto tests/httpd/test_against_httpd.py \
	  tests/httpd/test_vhosts_against_httpd.py tests/httpd/test_httpd_manual.py

fuzz: $(VENV)/.with-tools
	MDCONNECTOR_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -n auto --dist worksteal \
	  tests/httpd/test_fuzz.py tests/httpd/test_lexer.py tests/httpd/test_evaluator.py \
	  tests/httpd/test_domains.py tests/httpd/test_vhosts.py tests/test_printable.py

torture: $(VENV)/.with-tools
	$(BIN)/python -m tests.torture $(FIGURES)

# What stores, obtains and judges certificates: each branch is to be run by the tests beside it.
COVERED := mdconnector/store/*,mdconnector/acme/*,mdconnector/certificates.py,mdconnector/candidates.py,mdconnector/httpd/pairs.py
coverage: $(VENV)/.with-tools
	rm -f .coverage .coverage.*
	MDCONNECTOR_REQUIRE_PARTS=1 $(BIN)/coverage run -m pytest -q \
	  tests/store tests/acme tests/test_certificates.py tests/test_candidates.py tests/httpd/test_pairs.py \
	  tests/e2e/test_account.py tests/e2e/test_account_import.py tests/e2e/test_accounts.py \
	  tests/e2e/test_revoke.py tests/e2e/test_renewal_information.py
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --show-missing --include='$(COVERED)' --fail-under=100

mutation: $(VENV)/.with-tools
	$(BIN)/python tests/mutation.py $(MUTATION)

parts:
	.ci/install-parts all $(PYTHON)

$(BIN)/python: | parts
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'mdconnector needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.with-package: pyproject.toml | parts $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.with-tools: pyproject.toml | parts $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint,ansible]'
	@touch $@

man: $(VENV)/.with-package
	$(BIN)/python docs/manual.py commands
	$(BIN)/python docs/manual.py build/manual

# Both are the same to the byte wherever they are built from the same commit.
dist: $(VENV)/.with-tools
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/hatchling build -d dist

deb: $(VENV)/.with-tools
	.ci/install-parts deb
	rm -rf build/deb
	$(BIN)/hatchling build -t sdist -d build/deb
	tar -xzf build/deb/mdconnector-*.tar.gz -C build/deb
	cd build/deb/mdconnector-*/ && dpkg-buildpackage -b -us -uc
	lintian --fail-on error build/deb/mdconnector_*.changes

test-deb: $(VENV)/.with-tools
	.ci/install-parts chroot
	rm -rf build/sdist
	$(BIN)/hatchling build -t sdist -d build/sdist
	tar -xzf build/sdist/mdconnector-*.tar.gz -C build/sdist
	tests/deb/in-chroot $(RELEASE) $(CHROOTS) build/sdist/mdconnector-*/

install:
	.ci/install-parts venv $(PYTHON)
	$(PYTHON) -m venv $(DESTDIR)$(HOMEDIR)
	$(DESTDIR)$(HOMEDIR)/bin/pip install --quiet --disable-pip-version-check --upgrade .
	$(DESTDIR)$(HOMEDIR)/bin/python3 docs/manual.py build/manual
	install -D -m 0644 build/manual/mdconnector.1 $(DESTDIR)$(MAN)
	install -D -m 0644 build/manual/mdconnector $(DESTDIR)$(BASH_COMPLETION)
	install -D -m 0644 build/manual/_mdconnector $(DESTDIR)$(ZSH_COMPLETION)
	install -D -m 0644 build/manual/mdconnector.fish $(DESTDIR)$(FISH_COMPLETION)
	sed -i '1s|^#!.*|#!$(HOMEDIR)/bin/python3|' $(DESTDIR)$(HOMEDIR)/bin/mdconnector
	install -d $(DESTDIR)$(BINDIR)
	ln -sfn $(HOMEDIR)/bin/mdconnector $(DESTDIR)$(BINDIR)/mdconnector
	install -D -m 0644 cron.d/mdconnector $(DESTDIR)$(CRONDIR)/mdconnector

uninstall:
	rm -f $(foreach file,$(MAN) $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION),$(DESTDIR)$(file))
	rm -f $(DESTDIR)$(CRONDIR)/mdconnector
	test ! -L $(DESTDIR)$(BINDIR)/mdconnector || rm $(DESTDIR)$(BINDIR)/mdconnector
	test ! -e $(DESTDIR)$(HOMEDIR)/pyvenv.cfg || rm -rf $(DESTDIR)$(HOMEDIR)

pictures: $(VENV)/.with-package
	$(BIN)/python docs/pictures.py

clean:
	rm -rf $(VENV) demo-run build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find mdconnector tests examples -name __pycache__ -prune -exec rm -rf {} +
