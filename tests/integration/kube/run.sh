#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lib/kube against real API servers: what disturbs nobody runs against $KUBECONFIG; kills,
# compactions and servers without WatchList against an API server and an etcd of this test's own.
# usage: run.sh BUILD_DIR
# shellcheck disable=SC2016,SC2317 # conditions are evaluated later, helpers called by name
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$1
work=$(mktemp -d)
export TULLE_CLUSTER_DIR=$work/api
pids=()
failures=0

pass() { echo "PASS kube: $*"; }
fail() {
    echo "FAIL kube: $*"
    failures=$((failures + 1))
}
skip() { echo "SKIP kube: $*"; }
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@"; then pass "$name"; else fail "$name"; fi
}
# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
api() { "$here/apiserver.sh" "$@"; }
finish() {
    local p
    for p in "${pids[@]+"${pids[@]}"}"; do kill -KILL "$p" 2>/dev/null; done
    [ -e "$TULLE_CLUSTER_DIR" ] && api down
    rm -rf "$work"
}
trap finish EXIT

# The archives are there: BUILD_DIR was built. The flavour is the folder's name.
cc=gcc flags=()
case $(basename "$build") in
asan) cc=clang flags=("-fsanitize=address,undefined" -fno-sanitize-recover=undefined) ;;
clang) cc=clang ;;
esac
it=$work/kube_it
archives=()
for a in kube data io base; do archives+=("$build/lib/$a.a"); done
# shellcheck disable=SC2046 # pkg-config gives words
(cd "$root" && $cc -std=gnu17 -g -O1 -D_GNU_SOURCE -I. "${flags[@]+"${flags[@]}"}" -Wall -Wextra \
    -Wshadow -Werror -o "$it" tests/integration/kube/kube_it.c \
    -Wl,--start-group "${archives[@]}" -Wl,--end-group \
    $(pkg-config --libs libcurl jansson yaml-0.1) -lxxhash -pthread -ldl -lm) || {
    fail "kube_it compiles"
    exit 1
}

# --- the given cluster --------------------------------------------------------------------------
if [ -n "${KUBECONFIG:-}" ]; then
    "$it" all || failures=$((failures + 1))
else
    skip "the user's cluster: KUBECONFIG is not set"
fi

# --- an API server of our own -------------------------------------------------------------------
if ! (. "$root/tests/cluster/lib.sh" && [ -x "$(kubernetes_bin)" ]); then
    skip "kills and compactions: tests/cluster/build.sh has not been run"
    exit $((failures > 0))
fi
if ! api up >"$work/up.log" 2>&1; then
    cat "$work/up.log"
    fail "an API server of our own starts"
    exit 1
fi
[ -n "${KUBECONFIG:-}" ] || { export KUBECONFIG=$TULLE_CLUSTER_DIR/kubeconfig; "$it" all || failures=1; }
export KUBECONFIG=$TULLE_CLUSTER_DIR/kubeconfig
port=$(sed -n 's|.*127.0.0.1:\([0-9]*\)".*|\1|p' "$KUBECONFIG")
call() { # METHOD PATH [JSON]
    curl -sf --noproxy '*' --cacert "$TULLE_CLUSTER_DIR/certs/apiserver.crt" -X "$1" \
        -H 'Authorization: Bearer it-admin-token' -H 'Content-Type: application/json' \
        ${3:+--data "$3"} "https://127.0.0.1:$port$2" >/dev/null
}
cm=/api/v1/namespaces/default/configmaps
put() { call POST "$cm" "{\"metadata\":{\"name\":\"$1\"},\"data\":{\"v\":\"$1\"}}"; }
has() { grep -q -- "$1" "$2"; }
follow() { # LOG [MODE]: in $pid
    "$it" follow default "${@:2}" >"$1" 2>&1 &
    pid=$!
    disown
    pids+=("$pid")
    until_true 20 has '^synced' "$1"
}
gone() { ! kill -0 "$1" 2>/dev/null; }
term() { kill -TERM "$1" && until_true 10 gone "$1"; }

# A killed and restarted API server: the watch resumes, nothing is listed anew.
put keep
follow "$work/restart.log"
api stop
sleep 3
api start
put after-restart
check "a watch survives the API server's restart" \
    until_true 45 has '^+ default/after-restart' "$work/restart.log"
check "nothing was taken for deleted meanwhile" eval '! has "^-" "$work/restart.log"'
term "$pid"
check "without a second list" has 'lists=1 ' "$work/restart.log"

# Compacted history: what happened while we looked away must come by a new list, deletions too.
put gone-meanwhile
follow "$work/compact.log"
api stop # frozen without a connection: nothing can wait for it in a socket's buffer
sleep 0.5
kill -STOP "$pid"
api start
call DELETE "$cm/gone-meanwhile"
for i in 1 2 3; do put "while-away-$i"; done
api stop
api compact >/dev/null
api start
kill -CONT "$pid"
check "after a compaction what was made meanwhile is there" \
    until_true 60 has '^+ default/while-away-3' "$work/compact.log"
check "and what was deleted meanwhile is gone" \
    until_true 5 has '^- default/gone-meanwhile' "$work/compact.log"
check "what stayed was not told again" \
    eval '[ "$(grep -c "default/keep" "$work/compact.log")" -eq 1 ]'
term "$pid"
check "by a second list" has 'lists=2 ' "$work/compact.log"
"$it" old || failures=$((failures + 1))

# Two processes and one Lease.
held() { # ID LOG: in $pid
    "$it" hold default fight "$1" >"$2" 2>&1 &
    pid=$!
    disown # the shell need not tell that it was killed
    pids+=("$pid")
}
held first "$work/first.log"
first=$pid
check "a Lease is acquired" until_true 10 has '^acquired' "$work/first.log"
held second "$work/second.log"
second=$pid
sleep 5
check "the second process waits" eval '! has acquired "$work/second.log"'
killed=$(date +%s%3N)
kill -KILL "$first"
check "it takes over when the holder was killed" until_true 15 has '^acquired' "$work/second.log"
took=$(($(date +%s%3N) - killed))
check "not before the lease ran out (${took} ms)" [ "$took" -ge 2000 ]
held third "$work/third.log"
third=$pid
sleep 1
term "$second"
check "a released Lease is taken at once" until_true 2 has '^acquired' "$work/third.log"
check "the holder told that it was over" has '^lost' "$work/second.log"
check "the third held only afterwards" eval \
    '[ "$(sed -n "s/acquired //p" "$work/third.log")" -ge "$(sed -n "s/lost //p" "$work/second.log")" ]'
# A holder that cannot renew gives up by itself, in time; afterwards it takes part again.
before=$(date +%s%3N)
api stop
check "a holder that cannot renew gives up" until_true 5 has '^lost' "$work/third.log"
took=$(($(date +%s%3N) - before))
check "before another could take over (${took} ms)" [ "$took" -lt 3000 ]

# A stopped process wakes up beside its successor.
api start
check "the Lease is acquired again" until_true 20 \
    eval '[ "$(grep -c "^acquired" "$work/third.log")" -eq 2 ]'
held fourth "$work/fourth.log"
fourth=$pid
kill -STOP "$third"
check "a successor takes over from a frozen holder" until_true 15 has '^acquired' "$work/fourth.log"
kill -CONT "$third"
check "the frozen one knows at once" until_true 3 \
    eval '[ "$(grep -c "^lost" "$work/third.log")" -eq 2 ]'
term "$third"
term "$fourth"

# A server without WatchList.
api stop
api start --feature-gates=WatchList=false
follow "$work/fallback.log"
check "without WatchList the list is read instead" has '^synced' "$work/fallback.log"
put after-fallback
check "and followed" until_true 10 has '^+ default/after-fallback' "$work/fallback.log"
term "$pid"
check "no sanitizer complained" eval '! grep -q Sanitizer "$work"/*.log'
exit $((failures > 0))
