# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# etcd, API server, controller manager, scheduler: the flags of each and when it is up.
# Sourced after lib.sh, proc.sh.

KUBE=$(kubernetes_bin)

kubectl_() { "$CACHE/bin/kubectl" --kubeconfig "$DIR/kubeconfig" --request-timeout 20s "$@"; }

etcd_up() {
    proc_alive etcd && return
    proc_start etcd "$KUBE" etcd --name node1 --data-dir "$DIR/etcd" --log-level warn \
        --unsafe-no-fsync \
        --listen-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --listen-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
        --initial-advertise-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
        --initial-cluster "node1=http://127.0.0.1:$ETCD_PEER_PORT"
}

apiserver_up() {
    local p=$DIR/pki
    proc_alive kube-apiserver || proc_start kube-apiserver "$KUBE" kube-apiserver \
        --bind-address "$NODE_IP" --secure-port "$API_PORT" --advertise-address "$NODE_IP" \
        --etcd-servers "http://127.0.0.1:$ETCD_PORT" \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --allow-privileged \
        --service-cluster-ip-range "$(both "$SERVICE_RANGE" "$SERVICE_RANGE6")" \
        --tls-cert-file "$p/apiserver.crt" --tls-private-key-file "$p/apiserver.key" \
        --client-ca-file "$p/ca.crt" \
        --kubelet-certificate-authority "$p/ca.crt" \
        --kubelet-client-certificate "$p/admin.crt" --kubelet-client-key "$p/admin.key" \
        --kubelet-preferred-address-types InternalIP \
        --service-account-issuer "https://kubernetes.default.svc.$DNS_DOMAIN" \
        --service-account-key-file "$p/service-account.pub" \
        --service-account-signing-key-file "$p/service-account.key" \
        --requestheader-client-ca-file "$p/front-proxy-ca.crt" \
        --requestheader-allowed-names front-proxy-client \
        --requestheader-extra-headers-prefix X-Remote-Extra- \
        --requestheader-group-headers X-Remote-Group \
        --requestheader-username-headers X-Remote-User \
        --proxy-client-cert-file "$p/front-proxy.crt" --proxy-client-key-file "$p/front-proxy.key"
    until_true 60 kubectl_ get --raw /readyz && return
    proc_log_tail kube-apiserver
    die "the API server does not become ready"
}

controllers_up() {
    local p=$DIR/pki c=$DIR/kubeconfigs
    proc_start kube-controller-manager "$KUBE" kube-controller-manager \
        --kubeconfig "$c/controller-manager" --bind-address 127.0.0.1 --leader-elect=false \
        --use-service-account-credentials --root-ca-file "$p/ca.crt" \
        --service-account-private-key-file "$p/service-account.key" \
        --cluster-signing-cert-file "$p/ca.crt" --cluster-signing-key-file "$p/ca.key" \
        --allocate-node-cidrs --cluster-cidr "$(both "$POD_RANGE" "$POD_RANGE6")" \
        --service-cluster-ip-range "$(both "$SERVICE_RANGE" "$SERVICE_RANGE6")"
    proc_start kube-scheduler "$KUBE" kube-scheduler --kubeconfig "$c/scheduler" \
        --bind-address 127.0.0.1 --leader-elect=false
}

# A pod can be made only when the controllers have made the default service account.
controllers_ready() {
    until_true 60 kubectl_ -n default get serviceaccount default && return
    proc_log_tail kube-controller-manager
    die "the controller manager does not work"
}
