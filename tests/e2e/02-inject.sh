# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A label on the namespace is all it takes: pods come up with istio-init and istio-proxy.

has_init() { pod_containers "$SHOP" "$1" | tr ' ' '\n' | grep -qx istio-init; }
all_have_sidecars() {
    local p
    for p in $(k get pods -n "$SHOP" -o name | sed 's|.*/||'); do
        has_sidecar "$SHOP" "$p" && has_init "$p" || { echo "$p has none"; return 1; }
    done
}
all_ready() {
    k get pods -n "$SHOP" -o json | jq -e 'all(.items[]; any(.status.conditions[];
        .type == "Ready" and .status == "True"))' >/dev/null
}
runs_built_proxy() {
    k get pod -n "$SHOP" "$1" -o json | jq -e --arg i "$TULLE_HUB/tulle-proxy:$TULLE_TAG" \
        '[.spec.initContainers[], .spec.containers[]] | map(select(.name == "istio-proxy" or
            .name == "istio-init") | .image == $i) | all and length == 2' >/dev/null
}
root_bundle_is_there() {
    k get configmap -n "$SHOP" istio-ca-root-cert -o jsonpath='{.data.root-cert\.pem}' |
        openssl x509 -noout -subject
}
# The application's own readiness probe is asked by way of the proxy.
probe_is_rewritten() {
    k get pod -n "$SHOP" "$1" -o json | jq -e '[.spec.containers[] | select(.name == "frontend")
        | .readinessProbe.httpGet] | .[0].port == 15020' >/dev/null
}

ns_make "$BARE"
check "the shop starts in the labelled namespace" need_shop || exit 1
check "a caller starts in a namespace without the label" need_bare
front=$(pod_of "$SHOP" app=frontend)
check "each pod has istio-init and istio-proxy" all_have_sidecars
check "they run the image as built" runs_built_proxy "$front"
check "all pods are Ready" eventually 30 all_ready
check "the namespace has the root certificate" eventually 10 root_bundle_is_there
check "the readiness probe is rewritten, and passes" probe_is_rewritten "$front"
check "a pod in the namespace without the label has no sidecar" \
    not has_sidecar "$BARE" "$(pod_of "$BARE" app=probe)"
check "a request goes through the whole shop" \
    says '"service":"order"' body "$SHOP" "$(pod_of "$SHOP" app=probe)" http://frontend/
