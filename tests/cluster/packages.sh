#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the cluster is made of; says the command where it may not.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# command:package. A package is wanted when its command is not found.
WANTED=(
    containerd:containerd runc:runc buildah:buildah debootstrap:debootstrap
    iptables:iptables nft:nftables ip:iproute2 conntrack:conntrack socat:socat openssl:openssl
    gcc:gcc flock:util-linux nsenter:util-linux setsid:util-linux python3:python3
    /usr/lib/cni/bridge:containernetworking-plugins
    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
)

missing=()
for pair in "${WANTED[@]}"; do
    command=${pair%%:*}
    if ! have "$command" && ! [ -e "$command" ]; then
        missing+=("${pair#*:}")
    fi
done
# The static pause program needs libc.a; a machine with gcc has it almost always.
[ -n "$(find /usr/lib /usr/lib64 -name libc.a -print -quit 2>/dev/null)" ] || missing+=(libc6-dev)
# Go and kubectl may have to come from PyPI, by way of a venv.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -gt 0 ] || exit 0

apt=(apt-get install -y --no-install-recommends "${missing[@]}")
have apt-get || die "missing: ${missing[*]}"
[ "$(id -u)" -eq 0 ] || die "run this first: sudo ${apt[*]}"
say "installing Debian packages: ${missing[*]} (about a minute)"
export DEBIAN_FRONTEND=noninteractive
"${apt[@]}" >/dev/null 2>&1 || { apt-get update >/dev/null && "${apt[@]}" >/dev/null; }
say "packages installed"
