# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# ISTIO_MUTUAL means it: when the server has no sidecar the client gets 503, and not one plaintext byte
# of the request leaves.

need_shop || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)
file=$E2E_DIR/mutual.pcap

without_sidecar() {
    k patch deployment -n "$SHOP" checkout-v1 --type merge -p \
        '{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"false"}}}}}' >/dev/null &&
        k scale deployment -n "$SHOP" checkout-v2 --replicas 0 >/dev/null && settled "$SHOP"
}
with_sidecar() {
    k patch deployment -n "$SHOP" checkout-v1 --type json -p '[{"op":"remove",
        "path":"/spec/template/metadata/labels/sidecar.istio.io~1inject"}]' >/dev/null &&
        k scale deployment -n "$SHOP" checkout-v2 --replicas 1 >/dev/null && settled "$SHOP"
}
# Whatever the client sends to the server is TLS records.
only_tls() { # FILE CLIENT SERVER
    local to="tcp and src host $2 and dst host $3" all tls
    same "$(plain_count "$1" "$to")" 0 || return 1
    all=$(payload_count "$1" "$to")
    tls=$(tcpdump -r "$1" -nn "$to and
        (tcp[((tcp[12] & 0xf0) >> 2)] >= 20 and tcp[((tcp[12] & 0xf0) >> 2)] <= 23) and
        tcp[((tcp[12] & 0xf0) >> 2) + 1] = 3" 2>/dev/null | wc -l)
    same "$tls" "$all"
}
some() { [ "$1" -gt 0 ] || { echo "none"; return 1; }; }
secret_call() { # CODE: a request with something to hide
    answers "$1" "$SHOP" "$probe" http://checkout/ -H 'x-secret: plainly-visible' -d 'plainly-visible'
}

check "checkout runs without a sidecar" without_sidecar
checkout=$(pod_of "$SHOP" app=checkout)
check "really" not has_sidecar "$SHOP" "$checkout"
client=$(pod_ip "$SHOP" "$probe") server=$(pod_ip "$SHOP" "$checkout")
check "without a rule the mesh falls back to plaintext: 200" eventually 20 \
    answers 200 "$SHOP" "$probe" http://checkout/
if ours; then
    capture_start "$file" "tcp and host $client"
    check "(a request with a secret)" secret_call 200
    capture_stop "$file" >/dev/null
    check "and the capture reads the secret" some "$(grep -ac plainly-visible "$file")"
fi
check "examples/seed/destinationrule.yaml is applied" apply "$SHOP" examples/seed/destinationrule.yaml
check "the client gets 503" eventually 10 answers 503 "$SHOP" "$probe" http://checkout/
if ours; then
    capture_start "$file" "tcp and host $client"
    check "each time" throughout 3 secret_call 503
    capture_stop "$file" >/dev/null
    check "not one plaintext byte left the client" only_tls "$file" "$client" "$server"
    check "the secret is nowhere in the capture" same "$(grep -ac plainly-visible "$file")" 0
else
    check "each time" throughout 3 secret_call 503
    skip "capture on the wire" "needs the node"
fi
check "sidecars again" with_sidecar
check "with the same rule: 200, over mutual TLS" eventually 20 \
    answers 200 "$SHOP" "$probe" http://checkout/
no_policies
