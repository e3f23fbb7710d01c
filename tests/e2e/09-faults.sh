# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Faults, retries and timeouts, as their share of the requests tells.

need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
probe=$(pod_of "$SHOP" app=probe)
checkout=$(pod_of "$SHOP" app=checkout)
out=$E2E_DIR/fault.json

run_load() { load "$SHOP" "$loader" --count 1000 --connections 4 "$1" >"$out"; }
status() { jq -r --arg s "$1" '.status[$s] // 0' "$out"; }
# rule SERVICE EXTRA...: a VirtualService for it, with these lines in its one route.
rule() {
    local name=$1
    shift
    {
        cat <<Y
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $name}
spec:
  hosts: [$name]
  http:
    - route: [{destination: {host: $name}}]
Y
        printf '      %s\n' "$@"
    } | apply "$SHOP" /dev/stdin
}
no_retries() { rule checkout 'retries: {attempts: 0}'; }
with_retries() { rule checkout 'retries: {attempts: 4, retryOn: 5xx}'; }
slow_payment() { rule payment 'fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}'; }
short_timeout() { rule checkout 'timeout: 0.5s' 'retries: {attempts: 0}'; }
took() { # LOW HIGH URL: seconds that a request takes
    between "$(pod_exec "$SHOP" "$probe" curl -s -o /dev/null -w '%{time_total}' --max-time 20 "$3")" \
        "$1" "$2"
}

check "a fault: payment aborts one request in five" apply "$SHOP" examples/shop/fault.yaml
check "and checkout's callers do not retry" no_retries
check "the callers ask for it" says '^[25]' http "$SHOP" "$loader" http://checkout/
check "acknowledged" eventually 10 programmed "$SHOP" vs payment
check "acknowledged" eventually 10 programmed "$SHOP" vs checkout
run_load http://checkout/
# n = 1000, p = 0.2: five standard deviations are 63. checkout says 502 when payment says 503.
check "one request in five fails" between "$(status 502)" 137 263
check "the others are good" same "$(status 200)" "$((1000 - $(status 502)))"
check "the client's proxy counts the injected ones with flag FI" between "$(metric "$SHOP" \
    "$checkout" istio_requests_total reporter=source response_code=503 response_flags=FI)" 1 100000

check "retries, by YAML" with_retries
check "acknowledged" eventually 10 programmed "$SHOP" vs checkout
run_load http://checkout/
# Five tries: 0.2 ^ 5 = 0.03 %. Ten in a thousand do not happen.
check "the faults are retried away" between "$(status 502)" 0 9
check "and answered" between "$(status 200)" 991 1000

check "a delay of 2 s" slow_payment
check "acknowledged" eventually 10 programmed "$SHOP" vs payment
check "delays what calls payment" took 1.9 3.5 http://payment/
check "a timeout of 0.5 s" short_timeout
check "acknowledged" eventually 10 programmed "$SHOP" vs checkout
check "ends the wait with 504" eventually 5 answers 504 "$SHOP" "$probe" http://checkout/
check "after half a second" took 0.45 1.5 http://checkout/
check "counted with flag UT" between "$(metric "$SHOP" "$probe" istio_requests_total reporter=source \
    response_code=504 response_flags=UT)" 1 100000
no_policies
check "taken away: all is well again" eventually 10 answers 200 "$SHOP" "$probe" http://checkout/
