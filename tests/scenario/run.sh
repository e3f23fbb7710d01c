#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Scenario tests: the real proxy on loopback, with programs that `tulle compile` makes.
# usage: run.sh BUILD_DIR [SCENARIO]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { echo "scenario tests need python3" >&2; exit 1; }
exec python3 "$here/driver.py" "$@"
