# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Servers outside the mesh by ServiceEntry: by address, by a name that is looked up and whose address
# changes, two TCP services on one port told apart by automatic addresses; a WorkloadEntry behind a
# Service. The outside is a namespace without the label.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)

entry() { # NAME RESOLUTION PORT PROTOCOL ENDPOINT...
    local name=$1 resolution=$2 port=$3 protocol=$4 e
    shift 4
    cat <<Y
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e2e-$name, namespace: $SHOP}
spec:
  hosts: [$name.outside.example]
  ports: [{number: $port, name: p, protocol: $protocol, targetPort: 8080}]
  resolution: $resolution
  endpoints:
$(for e; do echo "  - {address: $e}"; done)
---
Y
}
outside() { # a second server, and a name that leads to the first one's pod
    hello_yaml | sed 's/hello/world/g' | k apply -n "$BARE" -f - >/dev/null &&
        k apply -n "$BARE" -f - >/dev/null <<'Y' && rollout "$BARE" hello world >/dev/null
apiVersion: v1
kind: Service
metadata: {name: hello-pods}
spec: {clusterIP: None, selector: {app: hello}, ports: [{name: http, port: 8080}]}
Y
}
entries() {
    local hello world
    hello=$(pod_ip "$BARE" "$(pod_of "$BARE" app=hello)")
    world=$(pod_ip "$BARE" "$(pod_of "$BARE" app=world)")
    {
        entry static STATIC 80 HTTP "$hello"
        entry named DNS 80 HTTP "hello-pods.$BARE.svc.cluster.local"
        entry one STATIC 9000 TCP "$hello"
        entry two STATIC 9000 TCP "$world"
        cat <<Y
apiVersion: v1
kind: Service
metadata: {name: e2e-ledger, namespace: $SHOP}
spec: {selector: {app: e2e-ledger}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: e2e-ledger-1, namespace: $SHOP, labels: {app: e2e-ledger}}
spec: {address: $world, ports: {web: 8080}}
Y
    } | k apply -f - >/dev/null
}
given() { # NAME: the addresses in its status
    k get serviceentry -n "$SHOP" "e2e-$1" -o jsonpath='{.status.addresses[*].value}'
}
from() { # SERVER URL
    says "\"service\":\"$1\"" body "$SHOP" "$probe" "$2"
}
# The pod that stands for the outside is replaced: another address.
moved() {
    local was now
    was=$(pod_ip "$BARE" "$(pod_of "$BARE" app=hello)")
    k delete pod -n "$BARE" -l app=hello --wait=true --timeout 60s >/dev/null &&
        rollout "$BARE" hello >/dev/null &&
        now=$(pod_ip "$BARE" "$(pod_of "$BARE" app=hello)") && [ -n "$now" ] && [ "$now" != "$was" ]
}

check "the outside is there" outside || exit 1
check "entries for it" entries
check "each has an address of each family" eventually 15 says '^240\.240\.[0-9.]+ 2001:2::' given one
check "a server by its address" eventually 15 from hello http://static.outside.example/
check "a server by its name, looked up by the sidecar" eventually 15 from hello http://named.outside.example/
check "TCP by an automatic address" eventually 15 from hello http://one.outside.example:9000/
check "another on the same port" eventually 15 from world http://two.outside.example:9000/
check "a WorkloadEntry behind a Service" eventually 15 from world http://e2e-ledger/
check "the WorkloadEntry is acknowledged" eventually 15 programmed "$SHOP" workloadentry e2e-ledger-1
check "so is an entry" eventually 15 programmed "$SHOP" serviceentry e2e-named
check "the sidecar tells what it looked up" says "^name hello-pods.$BARE.svc.cluster.local state=resolved" \
    pod_exec "$SHOP" "$probe" curl -s http://127.0.0.1:15000/clusters
check "the address changes" moved
check "the sidecar follows" eventually 45 from hello http://named.outside.example/
k delete -n "$SHOP" serviceentry/e2e-{static,named,one,two} workloadentry/e2e-ledger-1 service/e2e-ledger \
    --ignore-not-found >/dev/null 2>&1
k delete -n "$BARE" deployment/world service/world service/hello-pods --ignore-not-found --wait=false \
    >/dev/null 2>&1
no_policies
