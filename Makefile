# `make` alone prints what there is. Every step of .ci/run is a target here.

SHELL       := /bin/sh
GO          ?= go
BIN         := bin/forebay
MODULES     := . test/bench test/integration test/promcheck

# A build says where it comes from; a source tree without git says "dev". The
# toolchain's own stamp stays off: it fails in a clone that another user owns.
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION    := $(shell git rev-parse -q --verify HEAD 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)

# The race detector is C code: it needs a C compiler, nothing else here does.
CC_FOUND    := $(shell command -v "$$($(GO) env CC)" 2>/dev/null)
ifneq ($(CC_FOUND),)
RACE        := -race
RACE_SAYS   := with the race detector ($(CC_FOUND))
export CGO_ENABLED := 1
else
RACE        :=
RACE_SAYS   := without the race detector (no C compiler found)
export CGO_ENABLED := 0
endif

LINT_VERSION := v2.15.0
LINT         := .tools/golangci-lint-$(LINT_VERSION)

FUZZTIME    ?= 20s
N           ?= 20
MESSAGES    ?= 10000000
REGISTRATIONS ?= 20000
SPEED         ?= 1
BENCH_ROUNDS  ?= 5
BENCH_SECONDS ?= 10
BENCH_MESSAGES ?= 3000000

.DEFAULT_GOAL := help
.PHONY: help run build test parts integration integration-faults integration-servers lint vet fmt fuzz generate bench bench-accept bench-batch bench-core bench-deep bench-drain bench-edge bench-hdfs bench-idle bench-kafka bench-limits bench-logs bench-pace bench-read bench-ship promcheck pictures scenarios torture torture-power torture-model full-disk clean

help: ## print this
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## the main job on real orders, from the burst to the balance sheet; nothing to set up
	./$(BIN) demo

build: ## bin/forebay: static, version stamped
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/forebay

# The tests of the program hold real clocks against a real binary, so they run
# after the others, not beside them. Drains, whose clock is not real, have what
# all these leave of the processors. Tests of the core of a drain start no
# goroutine: the race detector makes them take twenty times as long, and has
# nothing to find.
test: ## every test that needs the Go toolchain alone
	@echo "testing $(RACE_SAYS)"
	$(GO) test -shuffle=on -run '^TestCore' ./drain
	nice -n 19 $(GO) test $(RACE) -shuffle=on -skip '^TestCore' ./drain & drain=$$!; \
	  $(GO) test $(RACE) -shuffle=on ./buffer $$($(GO) list ./... | grep -v -e '/cmd/forebay$$' -e '/drain$$') && \
	  $(GO) test $(RACE) -shuffle=on -parallel 5 -timeout 5m ./cmd/forebay; others=$$?; \
	  wait $$drain && exit $$others
	cd test/bench && $(GO) test $(RACE) -shuffle=on ./...

lint: $(LINT) vet ## linters, formatting, module files, and a build for macOS
	@for m in $(MODULES); do \
	  echo "golangci-lint $(LINT_VERSION) in $$m"; \
	  (cd $$m && $(CURDIR)/$(LINT) run --config $(CURDIR)/.golangci.yml ./...) || exit 1; \
	done

vet:
	@unformatted=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...) $(filter-out .,$(MODULES))); \
	  if [ -n "$$unformatted" ]; then echo "not gofmt-clean, run make fmt:"; echo "$$unformatted"; exit 1; fi
	@for m in $(MODULES); do \
	  echo "go vet, go mod tidy -diff, GOOS=darwin go build in $$m"; \
	  (cd $$m && $(GO) vet ./... && $(GO) mod tidy -diff && \
	    CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./... && \
	    CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./...) || exit 1; \
	done

# Built once, with the toolchain at hand; the version is part of the name.
$(LINT):
	@mkdir -p .tools
	GOBIN=$(CURDIR)/.tools CGO_ENABLED=0 $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv .tools/golangci-lint $(LINT)

fmt: $(LINT) ## format everything
	@for m in $(MODULES); do \
	  (cd $$m && $(CURDIR)/$(LINT) fmt --config $(CURDIR)/.golangci.yml ./...) || exit 1; \
	done

fuzz: ## each fuzz target for FUZZTIME (20s)
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; \
	    $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; \
	done

generate: ## go generate; a second run changes nothing
	$(GO) generate ./...

bench: bench-accept bench-batch bench-logs bench-edge bench-drain bench-pace bench-core bench-read bench-idle bench-ship ## every benchmark against its baselines in the same run

.PHONY: bin/bench
bin/bench: build
	cd test/bench && CGO_ENABLED=0 $(GO) build -o ../../bin/bench .

BENCH = ./bin/bench $(1) -forebay $(BIN) -dir .bench -rounds $(BENCH_ROUNDS) -seconds $(BENCH_SECONDS)

bench-accept: bin/bench ## accepting over 256 connections, fsynced, against a bare 202 and NATS; BENCH_ROUNDS (5) of BENCH_SECONDS (10)
	$(call BENCH,accept)

bench-batch: bin/bench ## accepting batches of 1,000 orders, fsynced, against a bare 202
	$(call BENCH,batch) -orders test/bench/testdata/order-lines.ndjson

bench-deep: bin/bench ## a backlog of MESSAGES (10000000): memory, disk, a start after kill -9, look-ups
	./bin/bench deep -forebay $(BIN) -dir .bench -messages $(MESSAGES) -orders test/bench/testdata/order-lines.ndjson

# A module of its own, not among MODULES: what Caddy needs takes minutes to build.
bin/bench-caddy: test/bench/caddy/main.go test/bench/caddy/go.mod
	cd test/bench/caddy && CGO_ENABLED=0 $(GO) build -o ../../../$@ .

bench-drain: bin/bench ## a backlog sent to a sink as fast as it can be, against a bare client with as many connections
	$(call BENCH,drain)

bench-pace: bin/bench ## a backlog sent at 10 to 20,000 a second for BENCH_SECONDS each, and in a window; fails where the sink's log is outside of what is promised
	$(call BENCH,pace)

bench-core: ## what the scheduler takes for a message, without buffer and sink
	$(GO) test -run '^$$' -bench '^BenchmarkCore$$' -count 3 ./drain

bench-edge: bin/bench bin/bench-caddy ## passing orders on to nginx, against httputil.ReverseProxy and Caddy; needs nginx
	$(call BENCH,edge) -caddy bin/bench-caddy

bench-idle: bin/bench ## 999 streams and drains with nothing to do: processor, memory, scrape, start, reload; BENCH_SECONDS of each
	$(call BENCH,idle)

bench-kafka: bin/bench ## beside Apache Kafka: batches of orders against its own client (fails below 1.25, and 2.5 with flush.messages=1); a drain against a bare producer, a topic into a stream against a bare consumer (0.8)
	$(MAKE) parts PART=kafka
	$(call BENCH,kafka) -hold -orders test/bench/testdata/order-lines.ndjson

bench-hdfs: parts ## writing files on a real HDFS, beside curl with the same bytes
	cd test/integration && $(GO) test -run '^$$' -bench '^BenchmarkBesideCurl$$' -benchtime 3x -timeout 15m ./hdfs

bench-logs: bin/bench ## intake of batches of 1,000 lines as gzip, against the same as they are (fails below 0.8 where inflating is not the most of it); lines a drain delivers to a _bulk endpoint that only parses
	$(call BENCH,logs) -hold -orders test/bench/testdata/order-lines.ndjson
	$(call BENCH,search) -orders test/bench/testdata/order-lines.ndjson

bench-read: ## reading BENCH_MESSAGES (3000000) back as a drain does, against pread and zstd alone, and commits beside cold readers
	$(GO) test -run '^$$' -bench '^BenchmarkReadBack$$' -benchtime $(BENCH_MESSAGES)x -count 3 -timeout 15m ./buffer
	$(GO) test -run '^$$' -bench '^BenchmarkCommitBesideReaders$$' -benchtime 3000x -count 3 -timeout 15m ./buffer

bench-ship: bin/bench ## what forebay ship takes of a core at 1,000 lines/s, for BENCH_SECONDS; fails over 2 %
	$(call BENCH,ship) -hold -orders test/bench/testdata/order-lines.ndjson

bench-limits: ## limits on callers: a known key, a new one, a million; a request refused against one stored
	$(GO) test -run '^$$' -bench '^BenchmarkKeyed$$' -count 3 ./limiter
	$(GO) test -run '^$$' -bench '^BenchmarkLimited$$' -count 3 ./ingress

promcheck: ## dashboards and rules against a real Prometheus that scrapes a real Forebay, two minutes; needs prometheus and promtool
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { echo "make promcheck: prometheus and promtool are not installed (on Debian: apt-get install prometheus)" >&2; exit 1; }
	cd test/promcheck && $(GO) test -count=1 -timeout 10m ./...

pictures: ## the same, and what each dashboard shows of it as a picture in .bench/dashboards; Overview's is the README's
	cd test/promcheck && PROMCHECK_PICTURES=$(CURDIR)/.bench/dashboards $(GO) test -count=1 -timeout 10m -run '^TestScene$$' ./...
	mkdir -p docs/img && cp .bench/dashboards/overview.png docs/img/overview.png

parts: ## the real servers that integration runs, pinned, into .parts; PART=kafka for one
	test/integration/parts/fetch.sh $(PART)

integration: integration-faults promcheck scenarios integration-servers ## what needs minutes, root and strace, or servers that are not ours

integration-faults: bin/bench ## faults of disks, power cuts, stops, reloads and a service that collapses under load, a year of a drain, calendars through the years, a backlog of 5 million within its bounds; Linux, root
	$(MAKE) torture-model N=50
	FOREBAY_INTEGRATION=1 $(GO) test -count=1 -timeout 15m -run '^TestFault|^TestUnderLoad|^TestAttacks' ./cmd/forebay
	FOREBAY_INTEGRATION=1 $(GO) test -count=1 -timeout 15m -run '^TestWindowsThroughTheYears$$' ./policies
	FOREBAY_INTEGRATION=1 $(GO) test -count=1 -timeout 15m -run '^TestRunForMoreThanAYear$$|^TestAdaptiveKeeps' ./drain
	./bin/bench deep -hold -forebay $(BIN) -dir .bench -messages 5000000 -orders test/bench/testdata/order-lines.ndjson

scenarios: ## examples/registration at work: REGISTRATIONS (20000), services SPEED (1) times as fast; a quarter of an hour, SPEED=10 REGISTRATIONS=6000 one minute
	FOREBAY_INTEGRATION=1 FOREBAY_SCENARIO_REGISTRATIONS=$(REGISTRATIONS) FOREBAY_SCENARIO_SPEED=$(SPEED) $(GO) test -count=1 -timeout 60m -v -run '^TestScenario' ./cmd/forebay

# FOREBAY_HDFS_LINES=5000000 makes the night on HDFS a long one.
# One package after the other: two servers of a kind would share the processors.
integration-servers: parts ## the program beside real brokers, search nodes, file systems and log agents
	cd test/integration && $(GO) test -count=1 -p 1 -timeout 25m ./...

torture: ## kill -9 at N (20) random points; FOREBAY_TORTURE_SEED repeats a run
	FOREBAY_TORTURE_KILLS=$(N) $(GO) test -count=1 -timeout $$((300 + 15 * $(N)))s -v -run '^TestTorture' ./cmd/forebay

# In a mount namespace of its own, so that no mount and no loop device outlives it.
torture-power: ## power cuts at N (20) random points of an ext4 of its own, and one without syncs as a control; Linux, root
	FOREBAY_TORTURE_CUTS=$(N) unshare --mount $(GO) test -count=1 -timeout $$((300 + 15 * $(N)))s -v -run '^TestPowerCuts' ./cmd/forebay

torture-model: ## the engine against the model through N (20) power cuts amid calls, and a disk without flushes as a control; Linux, root
	FOREBAY_MODEL_CUTS=$(N) unshare --mount $(GO) test -count=1 -timeout $$((300 + 5 * $(N)))s -v -run '^TestPowerModel' ./buffer

top-terminal: ## forebay top in a real terminal, through pages, sizes and a server that is gone; needs tmux
	FOREBAY_INTEGRATION=1 $(GO) test -count=1 -timeout 5m -run '^TestTopInTmux$$' ./cmd/forebay

full-disk: ## fill a small ext4 and a tmpfs, drain them, and again, N (20) times; needs root
	FOREBAY_INTEGRATION=1 FOREBAY_FULL_ROUNDS=$(N) $(GO) test -count=1 -timeout $$((300 + 30 * $(N)))s -v -run '^TestFaultFullDisk' ./cmd/forebay

clean: ## remove what make built; parts and tools stay
	rm -rf bin .bench
