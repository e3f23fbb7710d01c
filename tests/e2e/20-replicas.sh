# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Two replicas of the operator: each serves proxies, one writes statuses and counts the proxies of both.
# Either is killed under load: traffic and statuses go on.
# e2e: alone

need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
out=$E2E_DIR/replicas.json
operators='app.kubernetes.io/component=operator'

operator_pods() {
    k get pods -n "$SYSTEM" -l "$operators" -o json | jq -r '.items[]
        | select(.metadata.deletionTimestamp == null)
        | select(any(.status.conditions[]?; .type == "Ready" and .status == "True")) | .metadata.name'
}
two_ready() { same "$(operator_pods | wc -l)" 2; }
one_ready() { same "$(operator_pods | wc -l)" 1; }
connected() { pod_get "$SYSTEM" "$1" 15014 /metrics | metric_sum pilot_xds; }
holder() { k get lease -n "$SYSTEM" tulle-operator -o jsonpath='{.spec.holderIdentity}'; }
other() { operator_pods | grep -vx "$(holder)" | head -1; }
# kube-proxy deals connections out at random: restart until each replica has some.
spread() {
    local try p none
    for try in 1 2 3; do
        none=
        for p in $(operator_pods); do
            [ "$(connected "$p")" -gt 0 ] || none=$p
        done
        [ -n "$none" ] || return 0
        restart "$SHOP" || return 1
    done
    echo "$none has no proxy after $try restarts"
    return 1
}
sidecars() {
    k get pods -n "$SHOP" -o json | jq '[.items[] | select(.metadata.deletionTimestamp == null)
        | select([.spec.initContainers[]?, .spec.containers[]] | any(.[]; .name == "istio-proxy"))] | length'
}
mode() { # MODE
    k apply -n "$SHOP" -f - >/dev/null <<Y
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: $1}}
Y
}
counted() { # every sidecar of the namespace has acknowledged this generation
    local n
    n=$(sidecars)
    programmed "$SHOP" pa default &&
        same "$(k get pa -n "$SHOP" default -o jsonpath='{.status.proxies}')" "$n/$n"
}
kill_operator() { k delete pod -n "$SYSTEM" "$1" --force --grace-period 0 >/dev/null 2>&1; }
mesh_counts() { # all sidecars of the mesh are connected, wherever
    k get mesh default -o json | jq -e '.status.proxies.connected >= '"$(sidecars)" >/dev/null
}

check "two replicas" k scale deployment -n "$SYSTEM" tulle-operator --replicas 2
check "both are ready" eventually 30 two_ready
check "both serve proxies" spread
loader=$(pod_of "$SHOP" app=load)
check "a policy of the namespace" mode PERMISSIVE
check "is acknowledged by the proxies of both" eventually 10 counted
check "Mesh counts the proxies of both" eventually 20 mesh_counts
check "warm" eventually 10 answers 200 "$SHOP" "$(pod_of "$SHOP" app=probe)" http://frontend/
load_start "$out" "$SHOP" "$loader" --rate 100 --seconds 45 http://frontend/
sleep 1
first=$(holder)
check "the holder of the Lease is killed" kill_operator "$first"
check "the policy changes meanwhile" mode STRICT
check "another holds the Lease, and counts, within 20 s" eventually 20 counted
check "it is another" not same "$(holder)" "$first"
check "two replicas again" eventually 30 two_ready
second=$(other)
check "the one that does not hold it is killed" kill_operator "$second"
check "the policy changes again" mode PERMISSIVE
check "and all have acknowledged" eventually 15 counted
check "the load ends" load_end "$out"
check "not one request failed" no_failure "$out"
check "one replica" k scale deployment -n "$SYSTEM" tulle-operator --replicas 1
check "(gone)" eventually 40 one_ready
no_policies
