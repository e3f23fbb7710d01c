#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs each tests/integration/*/run.sh against the API server that KUBECONFIG names, and counts.
# usage: run.sh BUILD_DIR [FOLDER...]
#
# A folder's run.sh gets BUILD_DIR and prints lines that begin with PASS, FAIL or SKIP; its exit
# status counts as one more failure when it is not 0 and no line says FAIL. Without a KUBECONFIG in
# the environment the test cluster's is used when that cluster is there, else none: tests that can
# do without one bring their own API server.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: run.sh BUILD_DIR [FOLDER...]}" && pwd) || exit 1
shift
if [ -z "${KUBECONFIG:-}" ]; then
    own=${TULLE_CLUSTER_DIR:-/var/lib/tulle-cluster}/kubeconfig
    [ -r "$own" ] && export KUBECONFIG=$own
fi
passed=0 failed=0 skipped=0 n=0
out=$build/test-output
mkdir -p "$out"

# run_one SCRIPT NAME: its log, and in NAME.count what became of it.
run_one() {
    local script=$1 name=$2 log=$out/integration-$2.log start=$SECONDS rc p f s
    "$script" "$build" 2>&1 | tee "$log" | grep --line-buffered -E '^(FAIL|SKIP)'
    rc=${PIPESTATUS[0]}
    p=$(grep -c '^PASS' "$log") f=$(grep -c '^FAIL' "$log") s=$(grep -c '^SKIP' "$log")
    if [ "$rc" -ne 0 ] && [ "$f" -eq 0 ]; then
        f=1
        printf 'FAIL %s: exit status %d\n' "$name" "$rc"
    fi
    if [ "$f" -ne 0 ]; then
        tail -n 30 "$log" | sed 's/^/     /'
    elif [ $((p + s)) -eq 0 ]; then
        f=1
        printf 'FAIL %s: it said nothing\n' "$name"
    fi
    printf '%s: %d passed, %d failed, %d skipped, %d s\n' "$name" "$p" "$f" "$s" $((SECONDS - start))
    echo "$p $f $s" >"$out/integration-$name.count"
}

# Two at a time: they mostly wait, each for an API server of its own.
names=()
for script in "$here"/*/run.sh; do
    name=$(basename "$(dirname "$script")")
    [ -x "$script" ] || continue
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    n=$((n + 1))
    names+=("$name")
    rm -f "$out/integration-$name.count"
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    run_one "$script" "$name" &
done
wait
for name in ${names[@]+"${names[@]}"}; do
    read -r p f s <"$out/integration-$name.count" || { p=0 f=1 s=0; }
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$n" -gt 0 ]
