#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Breaks and mends one part of the cluster, for tests of what survives it. Only by recorded pid.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
. "$CLUSTER_SRC/proc.sh"
. "$CLUSTER_SRC/pki.sh"
. "$CLUSTER_SRC/net.sh"
. "$CLUSTER_SRC/runtime.sh"
. "$CLUSTER_SRC/controlplane.sh"
. "$CLUSTER_SRC/node.sh"

# Killed and not asked: a watch must see its connection break, as in a crash.
kill_now() {
    local pid
    pid=$(proc_pid "$1") || return 0
    kill -KILL "$pid"
    until_true 5 proc_dead "$1" || die "$1 does not end"
}

case ${1:-} in
apiserver-stop) kill_now kube-apiserver ;;
apiserver-start) apiserver_up ;;
etcd-compact) python3 "$CLUSTER_SRC/etcd_compact.py" "http://127.0.0.1:$ETCD_PORT" ;;
kubelet-stop) kill_now kubelet ;;
kubelet-start)
    kubelet_up
    until_true 60 node_ready || die "the node does not become Ready"
    ;;
coredns-stop) kill_now coredns ;;
coredns-start)
    coredns_up
    until_true 30 dns_works || die "no DNS"
    ;;
*) die "usage: fault.sh {apiserver,kubelet,coredns}-{stop,start} | etcd-compact" ;;
esac
