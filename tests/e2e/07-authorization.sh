# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Only payment may call order.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
front=$(pod_of "$SHOP" app=frontend)
probe=$(pod_of "$SHOP" app=probe)
order=$(pod_of "$SHOP" app=order)
bare=$(pod_of "$BARE" app=probe)

check "before: frontend may call order" eventually 15 answers 200 "$SHOP" "$front" http://order/
denied=$(metric "$SHOP" "$order" istio_requests_total reporter=destination response_code=403)
check "examples/shop/only-payment-may-call-order.yaml is applied" \
    apply "$SHOP" examples/shop/only-payment-may-call-order.yaml
check "frontend gets 403" eventually 10 answers 403 "$SHOP" "$front" http://order/
check "each time" throughout 2 answers 403 "$SHOP" "$front" http://order/
check "with the words that people know" says 'RBAC: access denied' body "$SHOP" "$front" http://order/
check "by the pod's address, too" answers 403 "$SHOP" "$front" \
    "http://$(pod_ip "$SHOP" "$order"):8080/"
check "a header that claims another identity does not help" answers 403 "$SHOP" "$front" http://order/ \
    -H "x-forwarded-client-cert: By=spiffe://cluster.local/ns/$SHOP/sa/order;URI=spiffe://cluster.local/ns/$SHOP/sa/payment"
check "a bare pod, without any identity, gets 403" answers 403 "$BARE" "$bare" "http://order.$SHOP/"
check "payment may, all the same" answers 200 "$SHOP" "$(pod_of "$SHOP" app=payment)" http://order/
check "the shop goes on working" says '"service":"order"' body "$SHOP" "$probe" http://frontend/
check "the policy is accepted" eventually 10 is_true "$SHOP" ap order-callers Accepted
check "and acknowledged by order's proxies" eventually 10 programmed "$SHOP" ap order-callers
now=$(metric "$SHOP" "$order" istio_requests_total reporter=destination response_code=403)
check "the server counted what it denied" between "$((now - denied))" 5 100000

check "a DENY for one path comes before the ALLOW" apply "$SHOP" /dev/stdin <<'Y'
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: order-no-admin}
spec:
  selector: {matchLabels: {app: order}}
  action: DENY
  rules: [{to: [{operation: {paths: ["/admin*"]}}]}]
Y
pay=$(pod_of "$SHOP" app=payment)
check "payment is denied it" eventually 10 answers 403 "$SHOP" "$pay" http://order/admin/x
check "however it is spelled" answers 403 "$SHOP" "$pay" http://order/a/../%61dmin/x --path-as-is
check "payment is not denied the rest" answers 200 "$SHOP" "$pay" http://order/other
no_policies
check "taken away: frontend may call order again" eventually 10 \
    answers 200 "$SHOP" "$front" http://order/
