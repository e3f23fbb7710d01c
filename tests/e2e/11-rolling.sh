# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A deployment is restarted, scaled and its pods deleted under load; no request fails. Neither the
# client nor a proxy retries.

need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
out=$E2E_DIR/rolling.json

no_retries() {
    apply "$SHOP" /dev/stdin <<'Y'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: order}
spec:
  hosts: [order]
  http: [{route: [{destination: {host: order}}], retries: {attempts: 0}}]
Y
}
roll() { k rollout restart deployment -n "$SHOP" order-v1 && settled "$SHOP"; }
scale() { k scale deployment -n "$SHOP" order-v1 --replicas "$1" && settled "$SHOP"; }
still_running() { kill -0 "$(cat "$out.pid")" 2>/dev/null || { echo "the load has ended"; return 1; }; }

check "proxies retry nothing" no_retries
check "a caller asks for it" eventually 10 answers 200 "$SHOP" "$loader" http://order/
check "two replicas" scale 2
check "the client's proxy knows" eventually 10 programmed "$SHOP" vs order
load_start "$out" "$SHOP" "$loader" --rate 200 --seconds 45 http://order/
sleep 2
check "rolling restart under 200 requests a second" roll
check "up to three and down to two" scale 3
check "(down)" scale 2
check "the load ran all the time" still_running
check "it ended" load_end "$out"
check "not one request failed" no_failure "$out"
check "and it was a load" between "$(jq .requests "$out")" 8500 9100
k scale deployment -n "$SHOP" order-v1 --replicas 1 >/dev/null
no_policies
settled "$SHOP"
