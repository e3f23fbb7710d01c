#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# h2spec (github.com/summerwind/h2spec), all 145 cases, against the inbound side of the proxy. It is built
# once, into the cache; a run takes a second. No root, loopback only.
#
#   tests/interop/h2spec.sh BUILD_DIR          e.g. tests/interop/h2spec.sh build/release
set -euo pipefail
cd "$(dirname "$0")/../.."
H2SPEC_VERSION=v2.2.1+incompatible
build=${1:?usage: $0 BUILD_DIR}
cache=${TULLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tulle}/h2spec
export H2SPEC=$cache/h2spec
if [ ! -x "$H2SPEC" ]; then
    . tests/cluster/lib.sh
    . tests/cluster/go.sh
    go_find
    mkdir -p "$cache"
    GOBIN=$cache GOFLAGS=-mod=mod "$GO" install "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC_VERSION"
fi
exec tests/scenario/run.sh "$build" ./tests/interop/h2spec.scn
