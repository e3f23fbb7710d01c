#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole path, on a real cluster, with the images as built.
#
#   tests/e2e/run.sh [BUILDDIR] [NN|NAME]...
#
# Without names all tests run, in order; with names those alone (the mesh is installed when it is
# not there). BUILDDIR is not needed: the images are built from the sources.
#
#   KUBECONFIG        a cluster of yours: tests that disturb node or control plane, or capture on the
#                     node, are skipped aloud; TULLE_REGISTRY must then name a registry for the images
#   TULLE_REGISTRY    registry and path for the images
#   E2E_SET           more flags for `helm upgrade tulle` ("--set a.b=c ...")
#   E2E_NO_BUILD=1    take the images of the last run
# shellcheck disable=SC2034 # what the tests read
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

# Two runs on one cluster would steer each other's traffic: the second waits for the first. (-o: what
# the tests start, daemons of the cluster among it, does not inherit the lock.)
if [ -z "${E2E_LOCKED:-}" ]; then
    lock=${TMPDIR:-/tmp}/tulle-e2e.lock
    flock -n "$lock" true || echo "another run has the cluster: waiting for it" >&2
    E2E_LOCKED=1 exec flock -o "$lock" bash tests/e2e/run.sh "$@"
fi
. tests/e2e/lib.sh

[ -z "${1:-}" ] || [ ! -d "$1" ] || shift
wanted=("$@")
started=$SECONDS

progress() { printf '[%3d s] %s\n' $((SECONDS - started)) "$*" >&2; }

for tool in jq curl tcpdump openssl; do
    command -v "$tool" >/dev/null || { echo "missing: $tool (make deps)" >&2; exit 1; }
done

own_config=${TULLE_CLUSTER_DIR:-/var/lib/tulle-cluster}/kubeconfig
if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$own_config" ]; then
    E2E_CLUSTER=users
    if [ -z "${TULLE_REGISTRY:-}" ]; then
        echo "KUBECONFIG names a cluster of yours: set TULLE_REGISTRY to a registry it can pull from" >&2
        exit 1
    fi
else
    E2E_CLUSTER=ours
    if [ "$(id -u)" -ne 0 ]; then
        echo "The test cluster needs root: sudo tests/e2e/run.sh, or set KUBECONFIG" >&2
        exit 1
    fi
    progress "cluster"
    tests/cluster/up.sh 2>"$E2E_DIR/up.log" || { cat "$E2E_DIR/up.log" >&2; exit 1; }
    eval "$(tests/cluster/env.sh)"
fi
# A namespace with one of our names that is not ours stays as it is; nor is a mesh of the user's changed.
if ! ours; then
    for tool in helm kubectl; do
        command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }
    done
    keep_off "$SYSTEM" "$SHOP" "$BARE" istio-system || exit 1
    ns_make "$SYSTEM" || exit 1
fi

progress "images"
if [ -z "${E2E_NO_BUILD:-}" ] || [ ! -s "$E2E_DIR/images" ]; then
    tools/images.sh >"$E2E_DIR/images.new" || exit 1
    mv "$E2E_DIR/images.new" "$E2E_DIR/images"
fi
. "$E2E_DIR/images"
: >"$E2E_DIR/results"
rm -rf "$E2E_DIR/diag"
progress "images ${TULLE_HUB}/tulle-{operator,injector,proxy}:$TULLE_TAG"

# is_wanted FILE: named by its number, its name or both; all are when nothing is named.
is_wanted() {
    local name w
    name=$(basename "$1" .sh)
    [ ${#wanted[@]} -gt 0 ] || return 0
    for w in "${wanted[@]}"; do
        case $name in
        "$w" | "$w"-* | *-"$w") return 0 ;;
        esac
    done
    return 1
}

# Names that match nothing would otherwise pass as zero failures.
for w in ${wanted[@]+"${wanted[@]}"}; do
    found=
    for f in tests/e2e/[0-9][0-9]-*.sh; do
        case $(basename "$f" .sh) in
        "$w" | "$w"-* | *-"$w") found=1 ;;
        esac
    done
    [ -n "$found" ] || { echo "no test $w" >&2; exit 1; }
done

clear_shop
installed() {
    k get deployment -n "$SYSTEM" tulle-operator -o json 2>/dev/null |
        grep -q "\"$TULLE_HUB/tulle-operator:$TULLE_TAG\""
}

run_test() { # FILE
    local begun=$SECONDS rc
    TEST=$(basename "$1" .sh)
    # shellcheck disable=SC1090 # each test is checked by itself
    ( . "$1" )
    rc=$?
    [ $rc -eq 0 ] || grep -q "^FAIL  $TEST:" "$E2E_DIR/results" ||
        fail "the test ended early (status $rc)"
    if grep -q "^FAIL  $TEST:" "$E2E_DIR/results"; then
        diagnose "$E2E_DIR/diag/$TEST"
        progress "$TEST failed after $((SECONDS - begun)) s; logs and state in $E2E_DIR/diag/$TEST"
    else
        progress "$TEST: $((SECONDS - begun)) s"
    fi
}
is_marked() { grep -q "^# e2e: $2\$" "$1"; } # FILE MARK

# Marks in a test's head:
#   # e2e: beside   has namespaces of its own and disturbs nobody: runs beside those that follow
#   # e2e: alone    disturbs control plane or node: those beside have ended before it begins
#   # e2e: by name  runs only when it is named
beside=()
join() {
    [ ${#beside[@]} -eq 0 ] || wait "${beside[@]}"
    beside=()
}
for f in tests/e2e/[0-9][0-9]-*.sh; do
    TEST=$(basename "$f" .sh)
    if ! is_wanted "$f"; then
        # The others stand on the first: a mesh that is installed, from these images.
        [ "$TEST" = 01-install ] && ! installed ||
            continue
    fi
    if [ ${#wanted[@]} -eq 0 ] && is_marked "$f" "by name"; then
        skip "all of it" "runs by name alone: tests/e2e/run.sh $TEST"
    elif is_marked "$f" beside; then
        run_test "$f" &
        beside+=($!)
    else
        ! is_marked "$f" alone || join
        run_test "$f"
    fi
done
join

if ! ours && ! helm status tulle -n "$SYSTEM" >/dev/null 2>&1; then
    ns_drop "$SYSTEM"
fi
passed=$(grep -c '^ok' "$E2E_DIR/results")
failed=$(grep -c '^FAIL' "$E2E_DIR/results")
skipped=$(grep -c '^skip' "$E2E_DIR/results")
[ "$failed" -eq 0 ] || { echo; grep '^FAIL' "$E2E_DIR/results"; }
echo "$passed passed, $failed failed, $skipped skipped (${E2E_CLUSTER/ours/test} cluster, $((SECONDS - started)) s)"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
