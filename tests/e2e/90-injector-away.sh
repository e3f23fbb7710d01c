# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Without injector: pods of other namespaces start as ever, those of labelled ones are refused with a
# reason, and come by themselves when it is back.
# e2e: alone

need_shop && need_bare || { fail "fixtures"; exit 1; }

# Gone for sure: the API server keeps a connection to it, and one that drains still answers.
off() {
    k scale deployment -n "$SYSTEM" tulle-injector --replicas 0 >/dev/null &&
        eventually 45 no_pod && eventually 20 no_endpoint
}
no_pod() {
    same "$(k get pods -n "$SYSTEM" -l app.kubernetes.io/component=injector -o name)" ""
}
no_endpoint() {
    k get endpointslices -n "$SYSTEM" -l kubernetes.io/service-name=tulle-injector -o json |
        jq -e '[.items[].endpoints[]? | select(.conditions.ready)] | length == 0' >/dev/null
}
on() { k scale deployment -n "$SYSTEM" tulle-injector --replicas 1 >/dev/null && rollout "$SYSTEM" tulle-injector; }
start() { # NAMESPACE
    caller_yaml orphan "$PROBE_IMAGE" | k apply -n "$1" -f - >/dev/null
}
refused_with_reason() {
    k get events -n "$SHOP" -o json | jq -r '.items[] | select(.involvedObject.name |
        startswith("orphan")) | .message' | grep -E 'webhook .*sidecar-injector.tulle.dev.*'
}
finish() {
    local ns
    for ns in "$SHOP" "$BARE"; do
        k delete deployment -n "$ns" orphan --ignore-not-found --wait=false >/dev/null 2>&1
    done
}

check "the injector is taken away" off
check "a deployment in a namespace without the label" start "$BARE"
check "runs as ever" rollout "$BARE" orphan
check "another in the labelled namespace" start "$SHOP"
check "is refused, and the event says by whom" eventually 30 refused_with_reason
check "it does not start without a sidecar" same "$(pod_of "$SHOP" app=orphan)" ""
check "an object of the mesh can still be applied" apply "$SHOP" examples/shop/subsets.yaml
check "the injector is back" on
check "the refused pod comes by itself" rollout "$SHOP" orphan
check "with a sidecar" has_sidecar "$SHOP" "$(pod_of "$SHOP" app=orphan)"
finish
no_policies
