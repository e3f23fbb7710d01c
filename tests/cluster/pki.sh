# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Certificates, kubeconfigs. One CA for the cluster, one for the aggregation layer, P-256
# throughout; made once for each life of the cluster. Sourced after lib.sh.

# pki_ca FILE NAME
pki_ca() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/CN=$2" -keyout "$1.key" -out "$1.crt" \
        -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}

# pki_cert CA FILE SUBJECT [SAN]
pki_cert() {
    local usage=clientAuth san=()
    if [ -n "${4:-}" ]; then
        usage+=,serverAuth
        san=(-addext "subjectAltName=$4")
    fi
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -CA "$1.crt" -CAkey "$1.key" -subj "$3" -keyout "$2.key" -out "$2.crt" \
        -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
        -addext extendedKeyUsage=$usage "${san[@]}" 2>/dev/null
}

# pki_kubeconfig NAME FILE: the credentials in pki/NAME, embedded.
pki_kubeconfig() {
    local p=$DIR/pki
    cat >"$2.new" <<EOF
apiVersion: v1
kind: Config
current-context: tulle
clusters:
- name: tulle
  cluster:
    server: https://$NODE_IP:$API_PORT
    certificate-authority-data: $(base64 -w0 <"$p/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 <"$p/$1.crt")
    client-key-data: $(base64 -w0 <"$p/$1.key")
contexts:
- name: tulle
  context: {cluster: tulle, user: $1}
EOF
    mv "$2.new" "$2"
}

pki_make() {
    local p=$DIR/pki names
    [ -e "$p/done" ] && return
    rm -rf "$p"
    (
        umask 077
        mkdir -p "$p" "$DIR/kubeconfigs"
        pki_ca "$p/ca" tulle-test-cluster
        pki_ca "$p/front-proxy-ca" tulle-test-front-proxy
        names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
        names+=,DNS:kubernetes.default.svc.$DNS_DOMAIN,DNS:localhost
        names+=,IP:127.0.0.1,IP:$API_SERVICE_IP,IP:$NODE_IP
        pki_cert "$p/ca" "$p/apiserver" /CN=kube-apiserver "$names"
        pki_cert "$p/ca" "$p/admin" /O=system:masters/CN=admin
        pki_cert "$p/ca" "$p/kubelet" "/O=system:nodes/CN=system:node:$NODE_NAME" \
            "DNS:$NODE_NAME,IP:$NODE_IP"
        pki_cert "$p/ca" "$p/controller-manager" /CN=system:kube-controller-manager
        pki_cert "$p/ca" "$p/scheduler" /CN=system:kube-scheduler
        pki_cert "$p/ca" "$p/kube-proxy" /CN=system:kube-proxy
        pki_cert "$p/front-proxy-ca" "$p/front-proxy" /CN=front-proxy-client
        openssl genrsa -out "$p/service-account.key" 2048 2>/dev/null
        openssl rsa -in "$p/service-account.key" -pubout -out "$p/service-account.pub" 2>/dev/null
        for who in admin kubelet controller-manager scheduler kube-proxy; do
            pki_kubeconfig $who "$DIR/kubeconfigs/$who"
        done
        cp "$DIR/kubeconfigs/admin" "$DIR/kubeconfig"
        touch "$p/done"
    )
}
