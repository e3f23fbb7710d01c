#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `make test`: set up what is missing, build with gcc and clang, run everything. Slow set-up (the Go
# build of the test cluster) runs beside the C build and is cached outside the work tree. What needs
# no cluster and much CPU (clang, the sanitizers) runs beside the tests on the cluster, which mostly
# wait, and behind them: nice.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
start=$SECONDS
jobs=$(nproc)
failed=()

say() { printf '\n=== %s (after %d s)\n' "$1" "$((SECONDS - start))"; }
step() { # step NAME COMMAND...: run, remember a failure, go on
    local name=$1
    shift
    say "$name"
    if ! "$@"; then
        failed+=("$name")
        printf '=== FAILED: %s\n' "$name"
    fi
}

# Jobs beside the steps write their status into a file: the shell forgets that of a pid which it meets
# again, and the tests use up more pids than there are.
background() { # background LOG COMMAND...: sets $pid
    local log=$1
    shift
    rm -f "$log.rc"
    {
        "$@" >"$log" 2>&1
        echo $? >"$log.rc"
    } &
    pid=$!
}
ended() { # ended PID LOG: waits; the job's status, 1 when it was killed
    wait "$1" 2>/dev/null
    return "$(cat "$2.rc" 2>/dev/null || echo 1)"
}

say "packages"
tools/deps.sh || exit 1
tools/deps.sh interop || exit 1 # here: two installations at a time wait for nobody

cluster_log=$(mktemp)
cluster=no
if [ "$(id -u)" -eq 0 ]; then
    cluster=yes
    say "test cluster: building in the background (about 10 minutes when nothing is cached)"
    background "$cluster_log" tests/cluster/build.sh
    cluster_pid=$pid
fi

# Sanitizers are slow, and slower beside others: Check's limit for one test is ten times as long.
beside() {
    local rc=0 target
    for target in "FLAVOUR=clang all" check-asan check-tsan "FLAVOUR=asan all" "FLAVOUR=tsan all"; do
        echo "--- make $target"
        # shellcheck disable=SC2086
        CK_TIMEOUT_MULTIPLIER=10 nice -n 10 make -j"$jobs" $target || { rc=1; echo "FAILED: make $target"; }
    done
    return $rc
}

step "build with gcc" make -j"$jobs" all
step "layers" tools/graph.sh
step "support table, schemas and references agree" tools/crds.py --check
step "metrics and limits are as documented" tools/metrics.py --check
step "mutations find their lines" eval "tests/scenario/mutations.sh check && tests/e2e/mutations.sh check"
step "check" make -j"$jobs" check
if [ "$cluster" = yes ]; then
    step "demo without a cluster" tools/demo/local.sh --check "${BUILD:-build}/release/bin"
fi

beside_log=$(mktemp)
say "clang, ASan and UBSan, TSan: begun beside what follows"
background "$beside_log" beside
beside_pid=$pid

memory_log=$(mktemp)
say "memory gates: begun beside what follows"
background "$memory_log" make memory
memory_pid=$pid

interop_log=$(mktemp)
say "real clients and servers: begun beside what follows"
background "$interop_log" make interop
interop_pid=$pid

if [ "$cluster" = yes ]; then
    say "test cluster: waiting for its build"
    if ended "$cluster_pid" "$cluster_log"; then
        tail -n 3 "$cluster_log"
        # From nothing: what an earlier run left installed would have a say in these tests.
        # (Not from under a run or a demo that has the cluster: their lock, as tests/e2e/run.sh has it.)
        flock -o "${TMPDIR:-/tmp}/tulle-e2e.lock" tests/cluster/down.sh >/dev/null 2>&1
        step "test cluster up" tests/cluster/up.sh
        eval "$(tests/cluster/env.sh)"
        step "rendered manifests agree with the charts" tools/manifests.sh --check
        step "integration" make integration
        step "e2e" make e2e
        flock -o "${TMPDIR:-/tmp}/tulle-e2e.lock" tests/cluster/down.sh
    else
        tail -n 40 "$cluster_log"
        failed+=("test cluster build")
    fi
elif [ "${CI:-}" = true ]; then
    echo "CI promises root, and this is not root"
    failed+=("root")
else
    echo "skipped: demo, integration and e2e (namespaces and the test cluster need root)"
fi

# finish PID LOG: what was begun beside the others; its status, and its output without make's.
finish() {
    local rc=0
    ended "$1" "$2" || rc=$?
    grep -vE '^(  [A-Z]+ |make)' "$2"
    return $rc
}
step "a sidecar, a service and a connection take no more than they did" finish "$memory_pid" "$memory_log"
step "real clients and servers through two sidecars" finish "$interop_pid" "$interop_log"
step "build with clang; unit tests under ASan, UBSan and TSan" finish "$beside_pid" "$beside_log"
step "scenarios under ASan and UBSan" make -j"$jobs" FLAVOUR=asan scenario # alone: their waits are for the proxy, not for a core
step "scenarios under TSan" make -j"$jobs" FLAVOUR=tsan scenario
rm -f "$cluster_log"* "$beside_log"* "$memory_log"* "$interop_log"*

say "result"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "All steps passed in $((SECONDS - start)) s."
