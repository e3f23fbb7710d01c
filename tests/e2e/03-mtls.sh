# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Between two sidecars the wire carries TLS and nothing that anybody could read; the proxies' metrics
# name the identities. A bare caller's plaintext is seen by the same capture: it would have told.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)
order=$(pod_of "$SHOP" app=order)
bare=$(pod_of "$BARE" app=probe)
file=$E2E_DIR/mtls.pcap
# Pod to pod: neither the kubelet's probes (from the node) nor DNS.
between_pods='tcp and src net 10.244.0.0/24 and dst net 10.244.0.0/24 and not host 10.244.0.1'

twenty_pass() {
    local _
    for _ in $(seq 20); do
        answers 200 "$SHOP" "$probe" http://frontend/ || return 1
    done
}
# New connections, so that their first bytes are seen.
restart_and_call() {
    k rollout restart deployment -n "$SHOP" payment-v1 >/dev/null && rollout "$SHOP" payment-v1 &&
        eventually 20 answers 200 "$SHOP" "$probe" http://frontend/
}
some() { [ "$1" -gt 0 ] || { echo "none"; return 1; }; }

check "warm: the shop answers" eventually 20 answers 200 "$SHOP" "$probe" http://frontend/
before=$(metric "$SHOP" "$order" istio_requests_total reporter=destination \
    connection_security_policy=mutual_tls)
if ours; then
    capture_start "$file" "$between_pods" || fail "capture" "$(cat "$file.log")"
    check "twenty requests through four services" twenty_pass
    check "nothing was lost by the capture" capture_stop "$file"
    check "there was traffic on the wire" some "$(payload_count "$file" tcp)"
    check "no HTTP can be read in it" same "$(plain_count "$file")" 0
    capture_start "$file.hello" "$between_pods"
    check "a restarted caller's connections" restart_and_call
    capture_stop "$file.hello" >/dev/null
    check "they began with TLS client hellos" some "$(hello_count "$file.hello")"
    check "again no HTTP can be read" same "$(plain_count "$file.hello")" 0
    capture_start "$file.bare" "tcp and host $(pod_ip "$BARE" "$bare")"
    check "a bare caller is answered" answers 200 "$BARE" "$bare" "http://frontend.$SHOP/"
    capture_stop "$file.bare" >/dev/null
    check "and the same capture reads its plaintext" some "$(plain_count "$file.bare")"
else
    check "twenty requests through four services" twenty_pass
    skip "capture on the wire" "needs the node"
    check "a bare caller is answered" answers 200 "$BARE" "$bare" "http://frontend.$SHOP/"
fi
after=$(metric "$SHOP" "$order" istio_requests_total reporter=destination \
    connection_security_policy=mutual_tls)
check "the server's metrics count them as mutual TLS" between "$((after - before))" 20 1000000
check "none of them came otherwise" same "$(metric "$SHOP" "$order" istio_requests_total \
    reporter=destination connection_security_policy=none)" 0
check "and name the caller's identity" some "$(metric "$SHOP" "$order" istio_requests_total \
    reporter=destination "source_principal=spiffe://cluster.local/ns/$SHOP/sa/payment" \
    destination_principal="spiffe://cluster.local/ns/$SHOP/sa/order" response_code=200)"
