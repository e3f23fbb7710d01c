# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Weights split as they say, within statistical bounds; the status says who has acknowledged it.

need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
out=$E2E_DIR/canary.json

apply_split() { apply "$SHOP" examples/shop/subsets.yaml "examples/shop/canary-$1.yaml"; }
ten_thousand() {
    load "$SHOP" "$loader" --count 10000 --connections 8 http://checkout/ >"$out" && no_failure "$out"
}
versions() { jq -r ".versions.$1 // 0" "$out"; }
check "subsets and a 90/10 split are applied" apply_split 10
check "VirtualService is accepted" eventually 10 is_true "$SHOP" vs checkout Accepted
check "DestinationRule is accepted" eventually 10 is_true "$SHOP" dr checkout Accepted
check "a caller uses them" eventually 10 answers 200 "$SHOP" "$loader" http://checkout/
check "proxies have acknowledged the VirtualService" eventually 10 programmed "$SHOP" vs checkout
check "proxies have acknowledged the DestinationRule" eventually 10 programmed "$SHOP" dr checkout
check "kubectl get vs shows it" says '^checkout .* Programmed +[1-9][0-9]*/[1-9]' k get vs -n "$SHOP"
check "10,000 requests, none failed" ten_thousand
# Five standard deviations of a binomial with n = 10,000 and p = 0.1 are 150.
check "v2 got its tenth" between "$(versions v2)" 850 1150
check "v1 got the rest" same "$(versions v1)" "$((10000 - $(versions v2)))"
check "the client's proxy counted the same" between "$(metric "$SHOP" "$loader" istio_requests_total \
    reporter=source destination_version=v2 destination_service_name=checkout)" "$(versions v2)" \
    "$(($(versions v2) + 5))"

check "all to v2" apply_split 100
check "acknowledged" eventually 10 programmed "$SHOP" vs checkout
load "$SHOP" "$loader" --count 500 --connections 4 http://checkout/ >"$out"
check "no request goes to v1 any more" same "$(versions v1) $(versions v2)" "0 500"

# The data process of a pod's sidecar, on the node.
data_process() { # POD
    local environ pid
    for environ in $(grep -lsz "^POD_NAME=$1\$" /proc/[0-9]*/environ); do
        pid=${environ#/proc/} pid=${pid%/environ}
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != tulle-proxy-dat ] || echo "$pid"
    done
}
counts() { k get vs -n "$SHOP" checkout -o jsonpath='{.status.proxies}'; }
one_short() { # of all that ask for it, the frozen one has not answered
    local n
    n=$(counts)
    [ "${n%/*}" -eq $((${n#*/} - 1)) ]
}
split_even() {
    load "$SHOP" "$loader" --count 100 --connections 4 http://checkout/ >"$out" && between "$(versions v1)" 20 80
}
if ours; then
    probe=$(pod_of "$SHOP" app=probe)
    check "another caller asks for it" answers 200 "$SHOP" "$probe" http://checkout/
    check "so does its status" eventually 15 says '^([2-9])/\1$' counts
    frozen=$(data_process "$probe")
    check "its proxy is frozen" kill -STOP "$frozen"
    check "half and half" apply_split 50
    check "it is the one that is missing" eventually 15 one_short
    check "so it is not programmed" eventually 5 says '^False Pending' condition "$SHOP" vs checkout Programmed
    check "the others have it" eventually 10 split_even
    check "it thaws" kill -CONT "$frozen"
    check "and acknowledges" eventually 15 programmed "$SHOP" vs checkout
else
    skip "a frozen proxy is missing in the count" "the node is yours"
fi

check "a VirtualService nobody uses is applied" apply "$SHOP" /dev/stdin <<'Y'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: unused}
spec:
  hosts: [nobody.example.com]
  http: [{route: [{destination: {host: payment}}]}]
Y
check "its status does not claim an acknowledgement that nobody gave" eventually 10 \
    says '^Unknown NoInterestedProxy' condition "$SHOP" vs unused Programmed
no_policies
