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
# First bytes that the client sends in each packet that carries any: TLS records or nothing.
only_tls() { # FILE CLIENT-ADDRESS
    local readable
    readable=$(plain_count "$1" "src host $2")
    [ "$readable" = 0 ] || { echo "$readable packets can be read"; return 1; }
    local all tls
    all=$(payload_count "$1" "tcp and src host $2")
    tls=$(tcpdump -r "$1" -nn "tcp and src host $2 and
        (tcp[((tcp[12] & 0xf0) >> 2)] >= 20 and tcp[((tcp[12] & 0xf0) >> 2)] <= 23) and
        tcp[((tcp[12] & 0xf0) >> 2) + 1] = 3" 2>/dev/null | wc -l)
    same "$tls" "$all"
}

check "checkout runs without a sidecar" without_sidecar
checkout=$(pod_of "$SHOP" app=checkout)
check "really" not has_sidecar "$SHOP" "$checkout"
check "without a rule the mesh falls back to plaintext: 200" eventually 20 \
    answers 200 "$SHOP" "$probe" http://checkout/
check "examples/seed/destinationrule.yaml is applied" apply "$SHOP" examples/seed/destinationrule.yaml
check "the client gets 503" eventually 10 answers 503 "$SHOP" "$probe" http://checkout/
check "and nothing else" throughout 2 answers 503 "$SHOP" "$probe" http://checkout/
if ours; then
    client=$(pod_ip "$SHOP" "$probe") server=$(pod_ip "$SHOP" "$checkout")
    capture_start "$file" "tcp and host $client and net 10.244.0.0/24"
    pod_exec "$SHOP" "$probe" curl -s -o /dev/null -H 'x-secret: plainly-visible' http://checkout/ \
        --data 'plainly-visible'
    answers 503 "$SHOP" "$probe" http://checkout/ >/dev/null
    capture_stop "$file" >/dev/null
    check "the capture saw the client try" between "$(tcpdump -r "$file" -nn \
        "src host $client and dst host $server" 2>/dev/null | wc -l)" 1 100000
    check "not one plaintext byte left the client" only_tls "$file" "$client"
    check "the secret is nowhere in it" same "$(grep -ac plainly-visible "$file")" 0
else
    skip "capture on the wire" "needs the node"
fi
check "sidecars again" with_sidecar
check "with the same rule: 200, over mutual TLS" eventually 20 \
    answers 200 "$SHOP" "$probe" http://checkout/
no_policies
