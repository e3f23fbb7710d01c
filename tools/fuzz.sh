#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzz every target for SECONDS, one after another and nice, from the corpus in the tree and what earlier runs found; then
# keep the 24 smallest of the new inputs of up to 300 bytes that reach something new. What was found in all stays in
# the cache. Prints a row a target: executions, edges, features. Fails when a target crashed; its input is named.
# usage: fuzz.sh BUILD_DIR SECONDS [TARGET...]
set -uo pipefail
cd "$(dirname "$0")/.." || exit
bin=$(realpath "$1")/fuzz seconds=$2 grown=${TULLE_CACHE:-$HOME/.cache/tulle}/fuzz bad=0
shift 2
if [ $# -eq 0 ]; then
    for f in tests/fuzz/*.c; do set -- "$@" "$(basename "$f" .c)"; done
fi
printf '| target | executions | edges | features |\n|---|---|---|---|\n'
for t in "$@"; do
    here=tests/fuzz/corpus/$t
    log=$grown/$t.log
    mkdir -p "$here" "$grown/$t" "$grown/crashes"
    nice -n 19 "$bin/$t" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1500 -print_final_stats=1 \
        -artifact_prefix="$grown/crashes/$t-" "$grown/$t" "$here" >"$log" 2>&1 || {
        bad=1
        grep -a 'Test unit written to' "$log" >&2
    }
    printf '| `%s` | %s | %s | %s |\n' "$t" "$(sed -n 's/.*number_of_executed_units: //p' "$log")" \
        "$(grep -aoE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)" \
        "$(grep -aoE 'ft: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)"
    few=$(mktemp -d)
    cp "$here"/* "$few" 2>/dev/null
    nice -n 19 timeout 300 "$bin/$t" -merge=1 -max_len=300 "$few" "$grown/$t" >/dev/null 2>&1
    find "$few" -type f -printf '%s %f\n' | sort -n | while read -r _ name; do
        [ -e "$here/$name" ] || echo "$name"
    done | head -n 24 | while read -r name; do cp "$few/$name" "$here"; done
    rm -rf "$few"
done
exit $bad
