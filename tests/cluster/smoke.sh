#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tests the cluster itself: what a mesh and its tests will ask of it. One line for each property,
# exit status 1 if any fails. `smoke.sh faults` also breaks and mends parts of it.
# shellcheck disable=SC2317 # functions are called by way of check()
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root

NS=tulle-smoke
WORK=$(mktemp -d)
FAILED=0

k() { "$CACHE/bin/kubectl" --kubeconfig "$DIR/kubeconfig" -n "$NS" --request-timeout 60s "$@"; }

cleanup() {
    [ ! -s "$WORK/forward.pid" ] || kill "$(cat "$WORK/forward.pid")" 2>/dev/null || true
    k delete namespace "$NS" --ignore-not-found --timeout 90s >/dev/null 2>&1 || true
    sed -i '/ smoke\.example\.com$/d' "$DIR/dns-hosts" 2>/dev/null || true
    rm -rf "$WORK"
}
trap cleanup EXIT

# check NAME COMMAND...: one property.
check() {
    local name=$1
    shift
    if "$@" >"$WORK/out" 2>&1; then
        say "PASS $name"
    else
        say "FAIL $name"
        tail -n 8 "$WORK/out" | cut -c1-200 | sed 's/^/    /' >&2
        FAILED=1
    fi
}

in_pod() { k exec mesh -c app -- "$@"; }
get_from() { in_pod timeout 5 busybox wget -qO- "$1"; }
prints() { # WANT COMMAND...
    local want=$1
    shift
    "$@" >"$WORK/got" || return 1
    cat "$WORK/got"
    grep -q "$want" "$WORK/got"
}
fails() { ! "$@"; }

port_forward() {
    k port-forward --address 127.0.0.1 service/web :80 >"$WORK/forward" 2>&1 &
    echo $! >"$WORK/forward.pid"
    until_true 10 grep -q 'Forwarding from' "$WORK/forward" || return 1
    local port
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$WORK/forward")
    prints smoke http_get "http://127.0.0.1:$port/"
}

# Each pod serves its own name; 30 connections miss one of two once in 2^29 runs.
both_endpoints() {
    # shellcheck disable=SC2016 # expanded in the pod
    in_pod sh -c 'for i in $(seq 30); do busybox wget -qO- http://web/name; done' |
        sort | uniq -c | tee "$WORK/got"
    [ "$(wc -l <"$WORK/got")" -eq 2 ]
}

# The counter tells that the fence refused it, and not some other misfortune.
refused() { nft list chain inet "$NFT_TABLE" fence | sed -n 's/.*counter packets \([0-9]*\).*/\1/p'; }
fence_holds() {
    local before
    before=$(refused)
    fails in_pod busybox nc -w 2 192.0.2.254 80 || return 1
    echo "refused before: $before, after: $(refused)"
    [ "$(refused)" -gt "$before" ]
}

# The labels tell that cAdvisor knows pods and containers, not control groups alone.
cadvisor() { # METRIC
    k get --raw "/api/v1/nodes/$NODE_NAME/proxy/metrics/cadvisor" >"$WORK/metrics"
    grep "^$1{.*container=\"app\".*namespace=\"$NS\"" "$WORK/metrics"
}

token_review() {
    local token
    token=$(k create token default --audience mesh-ca) || return 1
    printf '%s' "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenReview\",
        \"spec\":{\"token\":\"$token\",\"audiences\":[\"mesh-ca\"]}}" |
        k create -f - -o jsonpath='{.status.user.username}' >"$WORK/got"
    grep -qx "system:serviceaccount:$NS:default" "$WORK/got"
}

HTTP_GET='import sys, urllib.request as u
print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], None, 5).read().decode())'
http_get() { python3 -c "$HTTP_GET" "$1"; }

service_from_node() {
    prints smoke http_get "http://$(k get service web -o jsonpath='{.spec.clusterIP}')/"
}

service_by_ipv6() {
    k patch service web -p '{"spec": {"ipFamilyPolicy": "RequireDualStack"}}' || return 1
    local address
    address=$(k get service web -o jsonpath='{.spec.clusterIPs[1]}')
    until_true 10 prints smoke get_from "http://[$address]/" && cat "$WORK/got"
}

test_name_from_host_file() {
    echo "$NODE_IP smoke.example.com" >>"$DIR/dns-hosts"
    until_true 15 prints "$NODE_IP" in_pod getent ahostsv4 smoke.example.com
}

kill_daemon() { kill -KILL "$(cut -d' ' -f1 "$DIR/pids/$1")"; }
# up mends; the pods that ran before must be the ones that run after it.
mended() { # DAEMON...
    local before after d
    before=$(k get pods -l app=web -o jsonpath='{.items[*].metadata.uid}')
    for d in "$@"; do
        kill_daemon "$d"
    done
    "$CLUSTER_SRC/up.sh" || return 1
    until_true 30 get_from http://web/ || return 1
    after=$(k get pods -l app=web -o jsonpath='{.items[*].metadata.uid}')
    [ "$before" = "$after" ]
}

# An old resourceVersion must be refused once history is gone and the API server is new.
compaction_is_seen() {
    local old
    old=$(k get --raw "/api/v1/namespaces/$NS/pods?limit=1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["metadata"]["resourceVersion"])')
    k annotate pod mesh smoke="$RANDOM" --overwrite
    "$CLUSTER_SRC/fault.sh" etcd-compact
    "$CLUSTER_SRC/fault.sh" apiserver-stop
    fails k get --raw /readyz || return 1
    "$CLUSTER_SRC/fault.sh" apiserver-start
    k get --raw "/api/v1/namespaces/$NS/pods?watch=1&resourceVersion=$old&timeoutSeconds=3" \
        >"$WORK/got" 2>&1 || true
    cat "$WORK/got"
    grep -qE '410|too old resource version|Expired' "$WORK/got"
}

kubelet_restarts() { "$CLUSTER_SRC/fault.sh" kubelet-stop && "$CLUSTER_SRC/fault.sh" kubelet-start; }

"$CLUSTER_SRC/up.sh"
say "smoke image"
"$CLUSTER_SRC/image.sh" build smoke tulle.local/smoke:1 "$CLUSTER_SRC/smoke" >"$WORK/build" 2>&1 ||
    { tail -20 "$WORK/build" >&2; die "the smoke image cannot be built"; }
"$CLUSTER_SRC/image.sh" load tulle.local/smoke:1
k delete namespace "$NS" --ignore-not-found --timeout 90s >/dev/null 2>&1
k create namespace "$NS" >/dev/null
until_true 20 k get serviceaccount default || die "no service account in $NS"
k apply -f "$CLUSTER_SRC/smoke/pods.yaml" >/dev/null

check "deployment becomes available" k rollout status deployment/web --timeout 60s
check "pod with NET_ADMIN init and native sidecar becomes ready" \
    k wait pod/mesh --for=condition=Ready --timeout 60s
check "job with a native sidecar ends" k wait job/once --for=condition=Complete --timeout 60s
check "job's output is in its log" prints smoke k logs job/once -c app
check "service by short name, from a pod" prints smoke get_from http://web/
check "service by full name" prints smoke get_from "http://web.$NS.svc.$DNS_DOMAIN/"
check "service has two ready endpoints" both_endpoints
check "service by its address, from the node (the API server calls webhooks so)" service_from_node
if dual_stack; then
    check "service with an IPv6 address, from a pod" service_by_ipv6
fi
check "glibc resolves a service" prints '^10\.96\.' in_pod getent ahostsv4 "web.$NS"
check "a name that is not there does not resolve" fails in_pod getent hosts nowhere.example.com
check "a name added by a test resolves" test_name_from_host_file
check "exec" prints Debian in_pod cat /etc/os-release
check "logs" prints app-says-hello k logs mesh -c app
check "nat OUTPUT redirect, IPv4" prints smoke get_from http://10.244.9.9:9999/
check "nat OUTPUT redirect, IPv6 loopback" prints smoke get_from 'http://[::1]:9999/'
check "port-forward" port_forward
check "pod reaches the API server's Service" \
    prints smoke in_pod sh -c 'busybox nc -w 2 10.96.0.1 443 </dev/null && echo smoke'
check "a pod cannot reach the machine's uplink" fence_holds
check "TokenReview with an audience" token_review
check "cAdvisor: CPU of a container" cadvisor container_cpu_usage_seconds_total
check "cAdvisor: memory of a container" cadvisor container_memory_working_set_bytes
if [ "${1:-}" = faults ]; then
    check "API server killed, up mends" mended kube-apiserver
    check "etcd and scheduler killed, up mends" mended etcd kube-scheduler
    check "containerd killed, up mends, pods stay" mended containerd
    check "kubelet, kube-proxy and CoreDNS killed, up mends" mended kubelet kube-proxy coredns
    check "compaction makes an old watch Gone" compaction_is_seen
    check "kubelet stopped and started" kubelet_restarts
fi
if [ $FAILED -eq 0 ]; then
    say "smoke: PASS"
else
    say "smoke: FAIL"
fi
exit $FAILED
