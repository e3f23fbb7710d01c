#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Brings the cluster up, or what is missing of it. A healthy cluster is left alone; the rest of
# a killed run is cleared away first; a piece that died alone is started again and the cluster's
# state kept.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
lock "$DIR.lock" "up or down"
"$CLUSTER_SRC/build.sh"
. "$CLUSTER_SRC/proc.sh"
. "$CLUSTER_SRC/pki.sh"
. "$CLUSTER_SRC/net.sh"
. "$CLUSTER_SRC/runtime.sh"
. "$CLUSTER_SRC/controlplane.sh"
. "$CLUSTER_SRC/node.sh"

DAEMONS=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet
    kube-proxy coredns)

all_alive() {
    local d
    for d in "${DAEMONS[@]}"; do
        proc_alive "$d" || return 1
    done
}

any_alive() {
    local d
    for d in "${DAEMONS[@]}"; do
        ! proc_alive "$d" || return 0
    done
    return 1
}

healthy() { all_alive && kubectl_ get --raw /readyz && node_ready && dns_works; }

# Two kubelets or kube-proxies in one network namespace fight over the same rules.
refuse_foreign() {
    local name
    for name in kubelet kube-proxy k3s; do
        if pidof "$name" >/dev/null; then
            die "a $name that is not ours runs here; set KUBECONFIG to use that cluster"
        fi
    done
}

if healthy >/dev/null 2>&1; then
    say "the cluster is up"
    exit 0
fi
if any_alive; then
    say "parts of the cluster run: starting the others"
else
    if [ -e "$DIR" ]; then
        say "clearing away what an earlier run left"
        TULLE_CLUSTER_LOCKED=1 "$CLUSTER_SRC/down.sh"
    fi
    refuse_foreign
fi

mkdir -p "$DIR"
if [ -n "${TULLE_CLUSTER_IPV6:-}" ] && [ ! -e "$DIR/pki" ]; then
    touch "$DIR/dual-stack"
fi
say "network: node address $NODE_IP on $DUMMY"
net_up
say "certificates"
pki_make
say "etcd and API server"
etcd_up
runtime_up
apiserver_up
say "controller manager and scheduler"
controllers_up
say "pause image"
"$CLUSTER_SRC/image.sh" pause
say "kubelet, kube-proxy, CoreDNS"
kubelet_up
kube_proxy_up
coredns_up
controllers_ready
until_true 90 node_ready || { proc_log_tail kubelet; die "node $NODE_NAME does not become Ready"; }
say "node $NODE_NAME is Ready"
until_true 60 dns_works || { proc_log_tail coredns; proc_log_tail kube-proxy; die "no DNS"; }
say "DNS answers; the cluster is up: eval \"\$($CLUSTER_SRC/env.sh)\""
