#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# eval "$(env.sh)": the shell's kubectl, helm and ctr then speak to the test cluster.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

printf 'export KUBECONFIG=%q\n' "$DIR/kubeconfig"
# shellcheck disable=SC2016 # the caller's PATH
printf 'export PATH=%q:"$PATH"\n' "$CACHE/bin"
printf 'export CONTAINERD_ADDRESS=%q\n' "$DIR/containerd/containerd.sock"
printf 'export CONTAINERD_NAMESPACE=k8s.io\n'
