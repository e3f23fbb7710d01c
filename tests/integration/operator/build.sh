#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build the test's proxy from the archives in BUILD_DIR. usage: build.sh BUILD_DIR OUT
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
o=$1 gen=$(dirname "$1")/gen
cd "$root"
# shellcheck disable=SC2046
gcc -std=gnu17 -O1 -g -Wall -I. -I"$gen" -I"$gen/proto" -D_GNU_SOURCE \
    -o "$2" tests/integration/operator/proxy.c -Wl,--start-group "$o"/mesh/{wire,match}.a \
    "$o"/lib/{http,tls,data,io,base}.a -Wl,--end-group \
    $(pkg-config --libs openssl libnghttp2 libprotobuf-c jansson yaml-0.1) -lxxhash -lm -ldl -pthread
