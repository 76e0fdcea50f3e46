# notify-gateway. Two commands do it all: make run, make test.

CARGO ?= cargo

.PHONY: run test lint build soak simulate deps help

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: ## a throwaway database, the gateway, a demo page
	$(CARGO) run --locked --package notify-gateway -- dev

test: deps ## everything, on a real PostgreSQL
	$(CARGO) test --locked --workspace

lint: ## format, clippy, licences and bans, spelling where typos is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; \
		then $(CARGO) deny --locked check bans licenses sources; \
		else echo "lint: cargo-deny is not installed, skipped (cargo install --locked cargo-deny)"; fi
	@if command -v typos >/dev/null; then typos; \
		else echo "lint: typos is not installed, skipped (cargo install --locked typos-cli)"; fi

build: ## the release binary, target/release/notify-gateway
	$(CARGO) build --locked --release --package notify-gateway

DURATION ?= 10m

soak: deps ## real faults on the real thing for DURATION (default 10m)
	$(CARGO) build --locked --release --package notify-gateway --package notify-faults
	./target/release/notify-faults --duration $(DURATION)

HISTORIES ?= 1000000

simulate: ## the core through HISTORIES random histories (default 1,000,000)
	$(CARGO) run --locked --release --package notify-simulation -- --histories $(HISTORIES)

deps: ## what the tests need of the system
	@./scripts/ensure-postgres
	@./scripts/ensure-chromium
