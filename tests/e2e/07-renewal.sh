# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Certificates of a minute are renewed at half of their life, again and again, and no request fails
# over it. E2E_ROTATIONS=20 for so many of them. (The length is the mesh's: pods of other tests that start meanwhile get short ones, too.)
# e2e: beside

renewal=tulle-e2e-renewal
rotations=${E2E_ROTATIONS:-2}
out=$E2E_DIR/renewal.json
k get namespace "$renewal" >/dev/null 2>&1 && ns_drop "$renewal" && ns_gone "$renewal" # of a run that was cut short
ns_make "$renewal" istio-injection=enabled

life() { # DURATION, or nothing for the default
    local v=null
    [ -z "${1:-}" ] || v="\"$1\""
    k patch mesh default --type merge -p "{\"spec\":{\"mtls\":{\"workloadCertTTL\":$v}}}"
}
ends_in() { # POD: seconds until the workload's certificate ends
    metric "$renewal" "$1" istio_agent_cert_expiry_seconds
}
is_short() { between "$(ends_in "$1")" 1 60; }
certificates() { # how many the pod's proxy has had
    k logs -n "$renewal" "$1" -c istio-proxy | grep -c 'Workload certificate in force'
}
renewed() { [ "$(certificates "$1")" -ge "$2" ] || { echo "$(certificates "$1") certificates"; return 1; }; }
restarts() {
    k get pod -n "$renewal" "$1" -o json |
        jq '[.status.containerStatuses[], .status.initContainerStatuses[]] | map(.restartCount) | add'
}
one_call() { load "$renewal" "$loader" --rate 1 --seconds 1 http://hello/ >"$out" && no_failure "$out"; }
deploy() {
    { hello_yaml; echo ---; caller_yaml load "$SHOP_IMAGE"; cat; } <<'Y' | k apply -n "$renewal" -f - >/dev/null
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hello}
spec:
  hosts: [hello]
  http: [{route: [{destination: {host: hello}}], retries: {attempts: 0}}]
Y
    settled "$renewal"
}

check "Mesh asks for certificates of a minute" life 60s
check "a service starts with one; its callers retry nothing" deploy
loader=$(pod_of "$renewal" app=load)
hello=$(pod_of "$renewal" app=hello)
check "it ends within the minute" is_short "$hello"
check "a caller asks for it" eventually 10 one_call
check "acknowledged" eventually 10 programmed "$renewal" vs hello
had=$(certificates "$hello")
load_start "$out" "$renewal" "$loader" --rate 50 --seconds $((rotations * 32 + 6)) http://hello/
for ((i = 1; i <= rotations; i++)); do
    check "it is renewed at half of its life: $i" eventually 40 renewed "$hello" $((had + i))
done
check "the one in force is not near its end" between "$(ends_in "$hello")" 20 60
check "back to the default" life
check "the load ended" load_end "$out"
check "not one request failed" no_failure "$out"
check "the service did not restart" same "$(restarts "$hello")" 0
ns_drop "$renewal"
