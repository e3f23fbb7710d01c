#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Applications as people run them, through two sidecars with mutual TLS: curl, nghttp and h2load against nginx
# and Go's net/http, Python's websockets, PostgreSQL, Redis and SMTP. Debian's packages are installed where that
# is allowed, the Go program is built once into the cache. No root needed otherwise, loopback only.
#
#   tests/interop/apps.sh BUILD_DIR [NAME]     e.g. tests/interop/apps.sh build/release postgres
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?usage: $0 BUILD_DIR [NAME]}
tools/deps.sh interop || exit 1
export INTEROP=$PWD/tests/interop
sources=$INTEROP/apps/web
sum=$(cat "$sources"/* | sha256sum | cut -c1-16)
cache=${TULLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tulle}/interop-web-$sum
export WEB=$cache/web
if [ ! -x "$WEB" ]; then
    . tests/cluster/lib.sh
    . tests/cluster/go.sh
    go_find
    mkdir -p "$cache"
    (cd "$sources" && nice "$GO" build -o "$WEB" .)
fi
rc=0
for scenario in "$INTEROP"/apps/${2:-*}.scn; do
    V=1 tests/scenario/run.sh "$build" "$scenario" || rc=1
done
exit $rc
