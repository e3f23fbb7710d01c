# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# helm uninstall leaves the custom resource definitions and the users' objects, and nothing else.
# e2e: alone

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

restart_meshed() {
    k rollout restart deployment -n "$SHOP" probe >/dev/null && rollout "$SHOP" probe &&
        has_sidecar "$SHOP" "$(pod_of "$SHOP" app=probe)"
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

# The same once more by the command line, on the definitions that are there.
tulle=${TULLE_CLI:-$ROOT/build/release/bin/tulle}
if [ -x "$tulle" ]; then
    check "tulle check --pre" "$tulle" check --pre
    check "tulle check says that there is no mesh" not "$tulle" check
    check "tulle install" "$tulle" install --hub "$TULLE_HUB" --tag "$TULLE_TAG"
    check "tulle check is content" eventually 30 "$tulle" check
    check "it has asked the webhooks" says 'a wrong object is refused' "$tulle" check
    check "a pod starts with a sidecar again" restart_meshed
    check "tulle install --profile ha" "$tulle" install --profile ha
    check "two operators" same "$(k get deployment -n "$SYSTEM" tulle-operator -o jsonpath='{.status.readyReplicas}')" 2
    check "tulle upgrade --check" "$tulle" upgrade --check
    check "tulle install --profile default" "$tulle" install --profile default
    check "what only ha has is gone" same "$(k get poddisruptionbudgets -n "$SYSTEM" -o name)" ""
    check "tulle uninstall" "$tulle" uninstall -y
    check "nothing of the control plane is left" eventually 30 nothing_left
    check "all of the definitions are" same "$(crds)" "$before"
else
    skip "tulle install" "no $tulle: make, or TULLE_CLI=FILE"
fi
check "the definitions' chart goes, too" uninstall_base
check "and leaves the definitions" same "$(crds)" "$before"
check "and the users' objects" k get -n "$SHOP" vs/checkout dr/checkout
no_policies
k label namespace "$SYSTEM" pod-security.kubernetes.io/enforce- >/dev/null 2>&1
ns_drop "$SHOP" "$BARE" istio-system
