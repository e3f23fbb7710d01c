#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run test programs, print those that fail with their output, and a closing line that counts checks.
# usage: run-tests.sh BUILD_DIR PROGRAM...
set -uo pipefail
out=$1/test-output
shift
mkdir -p "$out"
checks=0 failed=0 programs=0
for t in "$@"; do
    log=$out/$(echo "$t" | tr / _).log
    programs=$((programs + 1))
    args=()
    case $t in */fuzz-replay/*) args=("tests/fuzz/corpus/$(basename "$t")") ;; esac
    start=$EPOCHREALTIME
    "$t" "${args[@]+"${args[@]}"}" >"$log" 2>&1
    rc=$?
    took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN{printf "%.1f", b-a}')
    line=$(grep -oE 'Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+' "$log" | tail -n 1)
    if [ -n "$line" ]; then
        # shellcheck disable=SC2046
        set -- $(echo "$line" | grep -oE '[0-9]+') "$@"
        n=$1 bad=$(($2 + $3))
        shift 3
    else
        n=1 bad=0
    fi
    [ $rc -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    checks=$((checks + n)) failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        printf 'FAIL %s (exit %d, %s s)\n' "$t" "$rc" "$took"
        sed 's/^/     /' "$log" | tail -n 60
    elif [ -n "${V:-}" ] || awk -v t="$took" 'BEGIN{exit !(t>5)}'; then
        printf 'ok   %s: %s checks, %s s\n' "$t" "$n" "$took"
    fi
done
printf '%d test programs\n' "$programs"
printf 'checks: %d passed, %d failed\n' "$((checks - failed))" "$failed"
[ "$failed" -eq 0 ] && [ "$programs" -gt 0 ]
