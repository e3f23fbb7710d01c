# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Certificates of a minute are renewed at half of their life, again and again, and no request fails
# over it.
# e2e: alone

need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
out=$E2E_DIR/renewal.json

life() { # DURATION, or nothing for the default
    local v=null
    [ -z "${1:-}" ] || v="\"$1\""
    k patch mesh default --type merge -p "{\"spec\":{\"mtls\":{\"workloadCertTTL\":$v}}}"
}
ends_in() { # NAMESPACE POD: seconds until the workload's certificate ends
    metric "$1" "$2" istio_agent_cert_expiry_seconds
}
is_short() { between "$(ends_in "$SHOP" "$1")" 1 60; }
serials() { # how many certificates the pod's proxy has had
    k logs -n "$SHOP" "$1" -c istio-proxy | grep -c 'Workload certificate in force'
}
renewed() { [ "$(serials "$1")" -ge "$2" ] || { echo "$(serials "$1") certificates"; return 1; }; }
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
restart_order() { k rollout restart deployment -n "$SHOP" order-v1 >/dev/null && settled "$SHOP"; }

check "Mesh asks for certificates of a minute" life 60s
check "order starts with one" restart_order
order=$(pod_of "$SHOP" app=order)
check "it ends within the minute" is_short "$order"
check "proxies retry nothing" no_retries
check "acknowledged" eventually 10 programmed "$SHOP" vs order
had=$(serials "$order")
load_start "$out" "$SHOP" "$loader" --rate 50 --seconds 75 http://order/
check "it is renewed at half of its life" eventually 40 renewed "$order" $((had + 1))
check "and again" eventually 40 renewed "$order" $((had + 2))
check "the one in force is not near its end" between "$(ends_in "$SHOP" "$order")" 20 60
check "the load ended" load_end "$out"
check "not one request failed" no_failure "$out"
check "order did not restart" same "$(k get pod -n "$SHOP" "$order" -o json |
    jq '[.status.containerStatuses[], .status.initContainerStatuses[]] | map(.restartCount) | add')" 0
check "back to the default" life
no_policies
restart_order
