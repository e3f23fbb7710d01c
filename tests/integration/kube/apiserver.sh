#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real API server and etcd of this test's own, without a node and without root, so that tests may
# break and mend it beside others: apiserver.sh {up [FLAG...]|stop|start [FLAG...]|compact|down}.
# State lives in $TULLE_CLUSTER_DIR, kubeconfig included.
set -euo pipefail
: "${TULLE_CLUSTER_DIR:?}"
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/cluster/lib.sh
. "$here/../../cluster/lib.sh"
# shellcheck source=tests/cluster/proc.sh
. "$CLUSTER_SRC/proc.sh"
KUBE=$(kubernetes_bin)
ETCD_PORT=${IT_ETCD_PORT:-22379}
PEER_PORT=$((ETCD_PORT + 1))
API_PORT=$((ETCD_PORT + 2))

kubeconfig() {
    sed -e "s|SERVER|https://127.0.0.1:$API_PORT|" -e "s|CA|$DIR/certs/apiserver.crt|" >"$DIR/kubeconfig" <<'YAML'
apiVersion: v1
kind: Config
current-context: it
clusters:
- name: it
  cluster: {server: "SERVER", certificate-authority: "CA"}
users:
- name: it
  user: {token: it-admin-token}
contexts:
- name: it
  context: {cluster: it, user: it}
YAML
}

ready() {
    curl -sf --noproxy '*' --cacert "$DIR/certs/apiserver.crt" \
        -H 'Authorization: Bearer it-admin-token' "https://127.0.0.1:$API_PORT/readyz"
}

api_start() {
    proc_start kube-apiserver "$KUBE" kube-apiserver \
        --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$API_PORT" \
        --cert-dir "$DIR/certs" --etcd-servers "http://127.0.0.1:$ETCD_PORT" \
        --service-cluster-ip-range 10.96.0.0/16 --authorization-mode RBAC \
        --disable-admission-plugins ServiceAccount \
        --token-auth-file "$DIR/tokens.csv" \
        --service-account-issuer https://kubernetes.default.svc \
        --service-account-key-file "$DIR/sa.key" --service-account-signing-key-file "$DIR/sa.key" \
        "$@"
    until_true 60 ready || { proc_log_tail kube-apiserver; die "no API server"; }
}

case ${1:-} in
up)
    shift
    mkdir -p "$DIR"
    [ -e "$DIR/sa.key" ] || openssl genrsa -out "$DIR/sa.key" 2048 2>/dev/null
    echo 'it-admin-token,it-admin,it-admin,system:masters' >"$DIR/tokens.csv"
    proc_start etcd "$KUBE" etcd --name it --data-dir "$DIR/etcd" --log-level error \
        --unsafe-no-fsync \
        --listen-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --listen-peer-urls "http://127.0.0.1:$PEER_PORT" \
        --initial-advertise-peer-urls "http://127.0.0.1:$PEER_PORT" \
        --initial-cluster "it=http://127.0.0.1:$PEER_PORT"
    api_start "$@"
    kubeconfig
    ;;
start)
    shift
    api_start "$@"
    ;;
stop) # killed and not asked: a watch must see its connection break, as in a crash
    kill -KILL "$(proc_pid kube-apiserver)"
    until_true 5 proc_dead kube-apiserver
    ;;
compact) python3 "$CLUSTER_SRC/etcd_compact.py" "http://127.0.0.1:$ETCD_PORT" ;;
down)
    proc_stop kube-apiserver 5
    proc_stop etcd 5
    rm -rf "$DIR"
    ;;
*) die "usage: apiserver.sh up|stop|start|compact|down" ;;
esac
