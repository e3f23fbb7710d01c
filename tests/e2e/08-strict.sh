# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# STRICT refuses plaintext; without it bare and meshed pods call each other both ways.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)
bare=$(pod_of "$BARE" app=probe)
order_ip=$(pod_ip "$SHOP" "$(pod_of "$SHOP" app=order)")

all_ready() {
    k get pods -n "$SHOP" -l app=order -o json | jq -e 'all(.items[]; any(.status.conditions[];
        .type == "Ready" and .status == "True"))' >/dev/null
}
strict_mesh() {
    k get namespace istio-system >/dev/null 2>&1 || ns_make istio-system
    apply istio-system /dev/stdin <<'Y'
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
Y
}

check "bare to meshed: 200" eventually 15 answers 200 "$BARE" "$bare" "http://order.$SHOP/"
check "meshed to bare: 200" eventually 15 answers 200 "$SHOP" "$probe" "http://hello.$BARE/"
check "examples/shop/strict-order.yaml is applied" apply "$SHOP" examples/shop/strict-order.yaml
check "the bare pod's plaintext call is refused" eventually 10 \
    answers 000 "$BARE" "$bare" "http://order.$SHOP/"
check "each time" throughout 2 answers 000 "$BARE" "$bare" "http://order.$SHOP/"
check "by the pod's address, too" answers 000 "$BARE" "$bare" "http://$order_ip:8080/"
check "TLS without a client certificate is refused, too" answers 000 "$BARE" "$bare" \
    "https://$order_ip:8080/" -k
check "meshed pods go on" says '"service":"order"' body "$SHOP" "$probe" http://frontend/
check "other services still take plaintext" answers 200 "$BARE" "$bare" "http://frontend.$SHOP/"
check "the kubelet's probes still pass" throughout 5 all_ready
check "the policy is accepted" eventually 10 is_true "$SHOP" pa order-strict Accepted
check "and acknowledged" eventually 10 programmed "$SHOP" pa order-strict
no_policies
check "taken away: 200 again" eventually 10 answers 200 "$BARE" "$bare" "http://order.$SHOP/"
check "STRICT for the whole mesh, from the root namespace" strict_mesh
check "then all services refuse plaintext" eventually 10 answers 000 "$BARE" "$bare" \
    "http://frontend.$SHOP/"
check "and meshed pods go on" says '"service":"order"' body "$SHOP" "$probe" http://frontend/
no_policies
