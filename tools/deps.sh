#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that building and testing need and that are missing. Without the right
# to install, print the one command that would. usage: deps.sh [build|interop]  (default: to build and to test;
# interop: the applications of tests/interop, none of which is started)
set -euo pipefail

build=(gcc g++ make pkg-config libc6-dev libcurl4-openssl-dev libjansson-dev libyaml-dev libssl-dev
    libmicrohttpd-dev libgnutls28-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler
    protobuf-compiler libnftables-dev libxxhash-dev libre2-dev libc-ares-dev musl-tools)
test=(check libsubunit-dev clang libclang-rt-14-dev clang-format jq curl ca-certificates iproute2
    nftables tcpdump openssl git python3 python3-venv)

interop=(nginx-light postgresql redis-server redis-tools python3-websockets python3-aiosmtpd nghttp2-client curl)

case ${1:-all} in
interop) want=("${interop[@]}") ;;
build) want=("${build[@]}") ;;
*) want=("${build[@]}" "${test[@]}") ;;
esac
missing=()
for p in "${want[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing packages. Run this once, then try again:"
    echo "  sudo apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
fi
echo "Installing ${#missing[@]} packages (about a minute): ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
