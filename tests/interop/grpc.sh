#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# grpc-go's interop client and server (google.golang.org/grpc/interop), all cases that need no cloud, through two
# sidecars with mutual TLS. They are built once, into the cache (a minute); a run takes some seconds. No root,
# loopback only.
#
#   tests/interop/grpc.sh BUILD_DIR          e.g. tests/interop/grpc.sh build/release
set -euo pipefail
cd "$(dirname "$0")/../.."
GRPC_VERSION=v1.85.0
build=${1:?usage: $0 BUILD_DIR}
cache=${TULLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tulle}/grpc-interop-$GRPC_VERSION
export GRPC_INTEROP=$cache
if [ ! -x "$cache/client" ] || [ ! -x "$cache/server" ]; then
    . tests/cluster/lib.sh
    . tests/cluster/go.sh
    go_find
    mkdir -p "$cache"
    GOBIN=$cache GOFLAGS=-mod=mod nice "$GO" install "google.golang.org/grpc/interop/client@$GRPC_VERSION" \
        "google.golang.org/grpc/interop/server@$GRPC_VERSION"
fi
exec tests/scenario/run.sh "$build" ./tests/interop/grpc.scn
