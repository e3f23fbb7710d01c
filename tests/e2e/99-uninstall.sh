# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# helm uninstall leaves the custom resource definitions and the users' objects, and nothing else.

if [ -n "${E2E_KEEP:-}" ]; then
    skip "uninstall" "E2E_KEEP is set"
    exit 0
fi
need_shop || { fail "fixtures"; exit 1; }
no_policies

uninstall() { helm uninstall tulle -n "$SYSTEM" --wait --timeout 180s; }
uninstall_base() { helm uninstall tulle-base -n "$SYSTEM" --wait --timeout 60s; }
# Everything of ours that is left, by any of our names or labels.
left() {
    {
        k get clusterroles,clusterrolebindings,mutatingwebhookconfigurations -o name
        k get validatingwebhookconfigurations -o name
        k get all,secrets,configmaps,roles,rolebindings,serviceaccounts,leases,endpointslices -o name \
            -n "$SYSTEM" | grep -vE '^configmap/kube-root-ca.crt$|^serviceaccount/default$' |
            sed "s|^|$SYSTEM: |"
        k get configmaps -A -o custom-columns=N:.metadata.namespace,M:.metadata.name --no-headers |
            awk '{ print $1 ": configmap/" $2 }' | grep istio-ca-root-cert
        k get mesh -o name 2>/dev/null
    } | grep -E 'tulle|istio' | grep -v 'sh.helm.release.v1.tulle-base'
}
nothing_left() { same "$(left)" ""; }
crds() { k get crds -o name | grep -cE '(networking.istio.io|security.istio.io|tulle.dev)$'; }

restart_one() {
    k rollout restart deployment -n "$SHOP" probe >/dev/null && rollout "$SHOP" probe &&
        not has_sidecar "$SHOP" "$(pod_of "$SHOP" app=probe)"
}

api_refused() {
    local pod
    for pod in $(k get pods -n "$SYSTEM" -l app.kubernetes.io/component=operator -o name); do
        pod_get "$SYSTEM" "${pod#pod/}" 15014 /metrics | metric_sum rest_client_requests_total code=403
    done
}
check "the operator was refused nothing by the API server" not says "[1-9]" api_refused
check "a user's objects are there" apply "$SHOP" examples/shop/subsets.yaml examples/shop/canary-10.yaml
before=$(crds)
check "helm uninstall" uninstall
check "nothing of the control plane is left" eventually 20 nothing_left
check "the custom resource definitions are" between "$before" 6 100
check "all of them" same "$(crds)" "$before"
check "the users' objects are" k get -n "$SHOP" vs/checkout dr/checkout
check "a pod starts without a sidecar now" restart_one
check "the definitions' chart goes, too" uninstall_base
check "and leaves the definitions" same "$(crds)" "$before"
check "and the users' objects" k get -n "$SHOP" vs/checkout dr/checkout
no_policies
k label namespace "$SYSTEM" pod-security.kubernetes.io/enforce- >/dev/null 2>&1
ns_drop "$SHOP" "$BARE" istio-system
