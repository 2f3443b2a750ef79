# Everything that is fetched or built lies in .build; Go's own caches aside. README.md says what the targets are for.

GO     ?= go
PYTHON ?= python3
BUILD  := $(CURDIR)/.build
PKG    ?= ./...# what `make test` tests

# Python would leave its caches beside the sources.
export PYTHONDONTWRITEBYTECODE := 1

# They fetch when nothing is there, so they are asked for only by the recipes that need them. A failure ends the recipe: see `set -e`.
with_envoy := set -e; ENVOY="$$($(PYTHON) tools/envoy.py)"; export ENVOY;
with_oldest := ENVOY_OLDEST="$$($(PYTHON) tools/envoy.py --oldest)"; export ENVOY_OLDEST;
with_prometheus := PROMETHEUS="$$($(PYTHON) tools/prometheus.py)"; export PROMETHEUS;
with_cc    := CC="$$($(PYTHON) tools/cc.py)"; CGO_ENABLED=1; export CC CGO_ENABLED;
# One package at a time: the whole systems of two would starve each other on a small machine.
# Of its tests four at a time: those that may run beside others mostly wait.
go_test    := $(GO) test -p 1 -parallel 4 -race -shuffle=on -timeout 15m

REPS ?= 300# releases per cell of `make bench-judge`
SEED ?= 1

.PHONY: build envoy prometheus demo bench bench-xds bench-reports bench-scale bench-judge soak fuzz test test-etcdctl check lint budget clean

build:
	$(GO) build -o $(BUILD)/rampart ./cmd/rampart

# Prints where the Envoy is.
envoy:
	@$(PYTHON) tools/envoy.py

# Prints where the Prometheus is.
prometheus:
	@$(PYTHON) tools/prometheus.py

demo: build
	@$(with_envoy) exec $(BUILD)/rampart demo $(ARGS)

bench: build
	@$(with_envoy) exec $(BUILD)/rampart bench $(ARGS)

# What fleets of simulated proxies cost, beside the best server over grpc-go: docs/xds.md. Without ARGS all of it, in an hour and a half: also the largest fleet, endpoints that change all
# the time, real Envoys, what it costs to read load reports (docs/reports.md) and to render (docs/scale.md).
bench-xds: build
	@$(with_envoy) $(BUILD)/rampart bench-xds $(ARGS)
ifeq ($(ARGS),)
	@$(BUILD)/rampart bench-xds --services 10,1000 --proxies 10000 --latency 0 --steps 10
	@$(BUILD)/rampart bench-xds --services 10000 --proxies 10000 --latency 0 --steps 5 --idle 2s --connects 1
	@for proxies in 100 1000; do $(BUILD)/rampart bench-xds --services 10 --proxies $$proxies --churn 1000; done
	@$(with_envoy) $(BUILD)/rampart bench-xds --services 10 --envoys 100
	@$(MAKE) --no-print-directory bench-reports bench-scale
endif

# What a change costs the serving half and the leader beside up to 10,000 services: docs/scale.md.
bench-scale:
	@$(GO) test -run '^$$' -bench 'WeightStep|Changed|Decision|Turn|Report|Routes|Cold|Acceptance|Churn' ./replica

# What it costs to read the load reports of 1,000 proxies, and to hold their streams at rest: docs/reports.md. PROFILE=FILE keeps the server's profile.
bench-reports:
	@$(GO) test -run '^$$' -bench LoadReports -benchtime 20x ./envoy
	@$(GO) test -run '^$$' -bench RestingStreams -benchtime 1x ./envoy

# The judge's tables beside the reference's, in simulated traffic: docs/judge.md. With REPS=3400 each service counts 10,000 healthy releases; that takes hours.
bench-judge:
	@$(GO) test -count=1 -v -timeout 24h -run '$(or $(TABLE),Test)' ./policy/simulation -reps $(REPS) -seed $(SEED)

test:
	@$(with_envoy) $(with_oldest) $(with_prometheus) $(with_cc) $(go_test) $(PKG)

# A fleet of both the newest and the oldest Envoy through many ramps, while a third of it is killed and comes back.
soak:
	@$(with_envoy) $(with_oldest) $(GO) test -count=1 -v -timeout 1h -run 'TestAFleet|UnderALargeFleet' ./replica -fleet 50 -ramps 20 -simulated 1000

# Request sequences of any shape, by hostile clients in both protocols: no crash, no leak, no unbounded memory. FUZZ=PACKAGE/NAME fuzzes another test; each for as long as FUZZTIME says.
FUZZ     ?= ./xds/FuzzRequests ./xds/FuzzStreams
FUZZTIME ?= 10m
fuzz:
	@for each in $(FUZZ); do $(GO) test -run '^$$' -fuzz "^$${each##*/}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$${each%/*}" || exit 1; done

# Needs an etcdctl of somebody else's, $ETCDCTL or on the PATH: that its users are equals of ours is only shown by the real one.
test-etcdctl:
	@$(with_cc) $(go_test) -tags etcdctl -run TestForeignEtcdctl ./testenv/

check: lint budget

# The tools have a module of their own, so that none of what they need gets into rampart.
lint:
	@unformatted="$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...) tools)"; \
	if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) build -C tools -o $(BUILD)/tools/ tool
	$(BUILD)/tools/staticcheck -checks inherit,ST1016 ./...
	$(BUILD)/tools/revive -config tools/revive.toml -formatter plain -set_exit_status ./...

# What the linters above lack; and that it can fail is tested first.
budget:
	$(PYTHON) -m unittest discover -q -s tools
	$(GO) test -C tools ./...
	$(GO) run -C tools ./budget $(CURDIR)

clean:
	rm -rf $(BUILD)
