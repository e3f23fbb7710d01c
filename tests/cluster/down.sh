#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Takes the cluster away: processes, mounts, namespaces, rules, interfaces, state. Only what is
# recorded as ours or lies below our folders. Doing it twice does no harm.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
[ -n "${TULLE_CLUSTER_LOCKED:-}" ] || lock "$DIR.lock" "up or down"
. "$CLUSTER_SRC/proc.sh"
. "$CLUSTER_SRC/net.sh"
. "$CLUSTER_SRC/runtime.sh"

# First those that would start again what is taken away.
for daemon in kubelet kube-controller-manager kube-scheduler coredns kube-proxy; do
    proc_stop "$daemon" 3
done
say "containers"
runtime_down
for daemon in kube-apiserver etcd; do
    proc_stop "$daemon" 3
done
say "network"
net_down
if grep -qF " $DIR/" /proc/self/mountinfo; then
    die "mounts below $DIR are still there"
fi
rm -rf --one-file-system "$DIR"
say "the cluster is down"
