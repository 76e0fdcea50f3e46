# notify-gateway. Two commands do it all: make run, make test.

CARGO ?= cargo

.PHONY: run example test test-e2e compare test-postgres test-browser test-firefox test-packages lint lint-tools lint-workflows lint-bench build soak soak-browser simulate loadtest bench-peers bench-writers bench-relay bench-retention bench-micro instructions instructions-accept fuzz deps browser nginx help

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 21

# To try it out: without optimisation and traces, compiled in a third of the time.
QUICK = --profile quick --no-default-features

run: ## a throwaway database, the gateway, a demo page (RELAY=1: with NATS between two gateways)
	$(if $(RELAY),@./scripts/ensure-nats)
	$(CARGO) run --locked --package notify-gateway $(QUICK) -- dev $(if $(RELAY),--relay)

# Those that depend most on the browser, each with one React, so that they take
# under two minutes; test-firefox has all.
IN_FIREFOX = tabs users story -t '^(?!.*react18)'

test: deps browser nginx frontend/node_modules ## everything, on a real PostgreSQL and in real browsers
	$(CARGO) test --locked --workspace
	@$(call front-end,npm test && npm run consumers && npm run test:browser && npm run test:firefox -- $(IN_FIREFOX),TESTED)

PORT ?= 3000
PROXY ?= nginx
EXAMPLES = target/examples/bin/python

example: ## an application with the gateway beside it (examples/fastapi), at localhost:PORT (default 3000)
	@./scripts/ensure-postgres
	@./scripts/ensure-$(if $(filter caddy,$(PROXY)),proxies,nginx)
	@./scripts/ensure-examples & \
		$(CARGO) build --locked --package notify-gateway $(QUICK) && wait $$!
	@NOTIFY_GATEWAY_BIN=$(CURDIR)/target/quick/notify-gateway $(EXAMPLES) examples/fastapi/scribe_stack.py --port $(PORT) --proxy $(PROXY)

test-e2e: ## the applications of examples/ with all that is around them, in Chromium
	@./scripts/ensure-postgres
	@./scripts/ensure-chromium
	@./scripts/ensure-nginx
	@./scripts/ensure-proxies
	@./scripts/ensure-examples
	$(CARGO) build --locked --package notify-gateway
	$(EXAMPLES) -m ruff check --quiet examples
	$(EXAMPLES) -m ruff format --quiet --check examples
	NOTIFY_GATEWAY_BIN=$(CURDIR)/target/debug/notify-gateway $(EXAMPLES) -m pytest -q -c examples/pytest.ini examples

compare: ## polling, an endpoint of the application's own and the gateway, side by side: medians, spread
	@./scripts/ensure-postgres
	@./scripts/ensure-nginx
	@./scripts/ensure-examples
	$(CARGO) build --locked --release --package notify-gateway
	NOTIFY_GATEWAY_BIN=$(CURDIR)/target/release/notify-gateway $(EXAMPLES) examples/comparison/compare.py $(COMPARE)

VERSIONS ?= 13 14 15 16 17 18

# What depends on the server: what schema.sql makes, and what is read from it and told by it.
# The rest of the tests is about HTTP, tokens, proxies and browsers.
ON_POSTGRES = alterations backup changes check epochs idle isolation lists neighbours outage \
	payloads plans pooler quiet relay replay resume revocation schema shapes silent

test-postgres: ## the tests of schema, delivery and watch() on each PostgreSQL of VERSIONS (default 13 to 18)
	@./scripts/ensure-postgres
	@./scripts/ensure-pgbouncer
	@./scripts/ensure-nats
	$(CARGO) test --locked --package notify-gateway --test promises --no-run
	@set -e; for version in $(VERSIONS); do \
		bin=$$(./scripts/ensure-postgres-version $$version); \
		echo "PostgreSQL $$version"; \
		PGBIN=$$bin $(CARGO) test --locked --package notify-gateway --test promises -- \
			$(ON_POSTGRES:%=%::); done

test-browser: deps browser frontend/node_modules ## the front end's package in Chromium, against a gateway that is killed and cut off
	$(CARGO) build --locked --package notify-gateway
	@$(call front-end,npm run test:browser,TESTED)

test-firefox: deps browser frontend/node_modules ## the same in Firefox, but for the bell
	$(CARGO) build --locked --package notify-gateway
	@$(call front-end,npm run test:firefox,TESTED)

# $(call front-end,commands,DONE): there, or a word about why not.
define front-end
if command -v npm >/dev/null; then cd frontend && $(1); else \
	echo "=================================================================="; \
	echo "SKIPPED: npm (Node 20 or later) is not installed: THE FRONT END WAS NOT $(2)"; \
	echo "=================================================================="; fi
endef

frontend/node_modules: frontend/package-lock.json
	@if command -v npm >/dev/null; then cd frontend && npm ci && touch node_modules; fi

lint: lint-tools frontend/node_modules ## format, clippy, rustdoc, eslint, types, licences and bans, spelling
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	node scripts/check-rust-version
	CARGO="$(CARGO)" ./scripts/check-lock-files
	$(LINT_TOOLS) $(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources
	$(LINT_TOOLS) typos
	./scripts/check-links
	cd frontend && npm run lint && npm run build && npm run check
	cd frontend && npx prettier --check --log-level warn --config .prettierrc.json $(EXAMPLE_PAGES)

EXAMPLE_PAGES = '../examples/fastapi/frontend/{src,test}/**' '../examples/fastapi/frontend/*.{ts,js,html}' \
	'../examples/django/inbox/static/inbox/bell.*'

LINT_TOOLS = PATH="$(CURDIR)/target/tools/bin:$$PATH"

# A tool that is missing fails the lint: what was not looked at has not passed.
lint-tools:
	@command -v npm >/dev/null || { echo "lint: npm (Node 20 or later) is not installed" >&2; exit 1; }
	@CARGO="$(CARGO)" ./scripts/ensure-lint-tools

test-packages: ## the image, the Debian package and the chart, built and tried; as root on Debian (some six minutes)
	./scripts/test-chart
	CARGO="$(CARGO)" ./scripts/test-image
	CARGO="$(CARGO)" ./scripts/test-deb

ACTIONLINT = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

lint-workflows: ## actionlint over .github/workflows (Go)
	go run $(ACTIONLINT)

build: ## the release binary, target/release/notify-gateway
	$(CARGO) build --locked --release --package notify-gateway

DURATION ?= 10m

soak: deps ## real faults on the real thing for DURATION (default 10m); RELAY=1: with NATS between five gateways
	$(CARGO) build --locked --release --package notify-gateway --package notify-faults
	./target/release/notify-faults --duration $(DURATION) $(if $(RELAY),--relay)

soak-browser: deps browser frontend/node_modules ## the same, with a page open in Chromium that must show what is in the table after every fault
	$(CARGO) build --locked --release --package notify-gateway --package notify-faults
	@$(call front-end,DURATION=$(DURATION) CI_REQUIRE_BROWSER=1 npm run soak,TESTED)

HISTORIES ?= 1000000

simulate: ## the core through HISTORIES random histories (default 1,000,000)
	$(CARGO) run --locked --release --package notify-simulation -- --histories $(HISTORIES)

loadtest: ## a gateway of its own under load, the limits asserted; under two minutes
	$(CARGO) build --locked --release --package notify-gateway --package notify-loadtest
	./target/release/notify-loadtest suite --self-contained --json target/loadtest.json --html target/loadtest.html

BENCH_CARGO = cd bench && $(CARGO)

bench-peers: ## the gateway beside the floor and other servers: medians, ratios (PEERS="--quick", PEERS=--help)
	$(CARGO) build --locked --release --package notify-gateway --package notify-loadtest
	$(BENCH_CARGO) build --locked --release
	@./bench/ensure-peers
	cd bench && python3 -m peers $(PEERS)

bench-writers: ## what the trigger costs those who write: medians, ratios (WRITERS="--rounds 3", WRITERS=--help)
	$(CARGO) build --locked --release --package notify-gateway
	$(BENCH_CARGO) build --locked --release --bin throwaway_postgres
	cd bench && python3 writers.py $(WRITERS)

bench-relay: ## many gateways that listen, or one that tells the others over NATS (RELAY="--rounds 1")
	$(CARGO) build --locked --release --package notify-gateway
	$(BENCH_CARGO) build --locked --release --bin throwaway_postgres
	@./scripts/ensure-nats
	cd bench && python3 relay.py $(RELAY)

bench-retention: ## whether the log stays flat and pruning makes nobody wait (RETENTION="--periods 4")
	$(CARGO) build --locked --release --package notify-gateway
	$(BENCH_CARGO) build --locked --release --bin throwaway_postgres
	cd bench && python3 retention.py $(RETENTION)

bench-micro: ## how long the gateway's small steps take, one by one (criterion; MICRO="route")
	$(BENCH_CARGO) bench --locked --package notify-bench-micro --bench micro -- $(MICRO)

instructions: ## how many instructions they take; fails where one takes over 3 % more than before
	@CARGO="$(CARGO)" ./scripts/check-instructions

instructions-accept: ## makes these counts the ones that the next are compared with
	@CARGO="$(CARGO)" ./scripts/check-instructions --accept

lint-bench: ## as lint, for bench/, which is a workspace of its own
	$(BENCH_CARGO) fmt --all --check
	$(BENCH_CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(BENCH_CARGO) test --locked --quiet
	cd bench && python3 -m unittest discover --start-directory peers --top-level-directory .

SECONDS_EACH ?= 120

fuzz: ## each fuzz target for SECONDS_EACH (nightly Rust and cargo-fuzz)
	@cd fuzz && for target in payload cursor request database_url claim cookie; do \
		mkdir -p corpus/$$target && $(CARGO) +nightly fuzz run $$target corpus/$$target seeds/$$target \
			-- -max_total_time=$(SECONDS_EACH) -max_len=4096 || exit 1; done

deps: ## what the tests need besides: PostgreSQL, PgBouncer, NATS, migration tools
	@./scripts/ensure-postgres
	@./scripts/ensure-pgbouncer
	@./scripts/ensure-nats
	@./scripts/ensure-migration-tools

browser: ## and Chromium and Firefox, for those of the front end
	@./scripts/ensure-chromium
	@./scripts/ensure-firefox

nginx: ## and nginx, Caddy and HAProxy, for the lines for them
	@./scripts/ensure-nginx
	@./scripts/ensure-proxies
