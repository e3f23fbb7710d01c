# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# kubelet, kube-proxy and CoreDNS: settings and when each is up. Sourced after controlplane.sh.

kubelet_config() {
    cat >"$DIR/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
tlsCertFile: $DIR/pki/kubelet.crt
tlsPrivateKeyFile: $DIR/pki/kubelet.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $DIR/pki/ca.crt}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$DIR/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
oomScoreAdj: 0
clusterDNS: [$DNS_SERVICE_IP]
clusterDomain: $DNS_DOMAIN
resolvConf: $DIR/resolv.conf
healthzBindAddress: 127.0.0.1
syncFrequency: 5s
# A loaded image cannot be pulled again: the kubelet must never tidy one away.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard:
  memory.available: 50Mi
  nodefs.available: 1%
  nodefs.inodesFree: 1%
  imagefs.available: 1%
EOF
    # Pods without cluster DNS (hostNetwork, dnsPolicy Default) ask CoreDNS too, not the machine's.
    echo "nameserver $DNS_SERVICE_IP" >"$DIR/resolv.conf"
}

kubelet_up() {
    kubelet_config
    runtime_cgroup_make
    # The deprecated flag is the only way to tell the built-in cAdvisor where containerd is;
    # without it /metrics/cadvisor knows control groups but not pods.
    proc_start kubelet "$KUBE" kubelet --config "$DIR/kubelet.yaml" \
        --kubeconfig "$DIR/kubeconfigs/kubelet" --root-dir "$DIR/kubelet" \
        --cert-dir "$DIR/kubelet-pki" --hostname-override "$NODE_NAME" --node-ip "$(both "$NODE_IP" "$NODE_IP6")" \
        --containerd "$CTR_SOCKET"
}

kube_proxy_up() {
    touch "$DIR/net-used"
    cat >"$DIR/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: $(both "$POD_RANGE" "$POD_RANGE6")
hostnameOverride: $NODE_NAME
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: [$(both "$NODE_IP/32" "$NODE_IP6/128")]
clientConnection: {kubeconfig: $DIR/kubeconfigs/kube-proxy}
conntrack: {maxPerCore: 0}
iptables: {minSyncPeriod: 200ms}
EOF
    proc_start kube-proxy "$KUBE" kube-proxy --config "$DIR/kube-proxy.yaml"
}

# The cluster's names come from the API server, names that a test adds come from
# $DIR/dns-hosts (hosts format, read anew within seconds), every other name does not exist:
# nothing is asked of a server outside the machine.
coredns_up() {
    [ -e "$DIR/dns-hosts" ] || : >"$DIR/dns-hosts"
    cat >"$DIR/Corefile" <<EOF
. {
    bind $NODE_IP
    errors
    ready $NODE_IP:18181
    kubernetes $DNS_DOMAIN in-addr.arpa ip6.arpa {
        kubeconfig $DIR/kubeconfigs/admin tulle
        ttl 5
        fallthrough in-addr.arpa ip6.arpa
    }
    hosts $DIR/dns-hosts {
        ttl 5
        reload 1s
        fallthrough
    }
    template ANY ANY {
        rcode NXDOMAIN
        authority "{{ .Zone }} 5 IN SOA ns.$DNS_DOMAIN. none.$DNS_DOMAIN. 1 60 60 60 5"
    }
}
EOF
    proc_start coredns "$(coredns_bin)" -conf "$DIR/Corefile" -dns.port "$DNS_PORT"
    kubectl_ apply -f - >/dev/null <<EOF
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {k8s-app: kube-dns, kubernetes.io/name: CoreDNS}
spec:
  clusterIP: $DNS_SERVICE_IP
  ports:
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53, protocol: TCP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns-host
  namespace: kube-system
  labels: {kubernetes.io/service-name: kube-dns}
addressType: IPv4
endpoints:
- addresses: [$NODE_IP]
  conditions: {ready: true}
ports:
- {name: dns, port: $DNS_PORT, protocol: UDP}
- {name: dns-tcp, port: $DNS_PORT, protocol: TCP}
EOF
}

node_ready() {
    local ready='{.status.conditions[?(@.type=="Ready")].status}'
    [ "$(kubectl_ get node "$NODE_NAME" -o jsonpath="$ready")" = True ]
}

# Through the Service's address: this proves kube-proxy's rules and CoreDNS together.
dns_works() {
    python3 "$CLUSTER_SRC/dns_ask.py" "$DNS_SERVICE_IP" "kubernetes.default.svc.$DNS_DOMAIN" |
        grep -qx "$API_SERVICE_IP"
}
