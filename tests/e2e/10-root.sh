# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Another root comes into force under load: no request fails, no connection is cut, a pod that starts
# meanwhile belongs to the mesh, and at the end nobody trusts the old root any more.
# e2e: beside

. tests/e2e/pages.sh
ns=tulle-e2e-root
out=$E2E_DIR/root.json
k get namespace "$ns" >/dev/null 2>&1 && ns_drop "$ns" && ns_gone "$ns" # of a run that was cut short
ns_make "$ns" istio-injection=enabled
tulle=$(cli)

least() { # DURATION, or nothing for the default: of each step
    local v=null
    [ -z "${1:-}" ] || v="\"$1\""
    k patch mesh default --type merge -p "{\"spec\":{\"mtls\":{\"rootRotation\":{\"minStep\":$v}}}}"
}
ca() { k get mesh default -o json | jq -r ".status.ca.$1"; }
in_state() { same "$(ca state)" "$1"; }
rotate() {
    if [ -n "$tulle" ]; then
        "$tulle" ca rotate --no-wait
    else
        k annotate mesh default --overwrite "tulle.dev/rotate-root=$(date +%s)"
    fi
}
bundle() { k get configmap -n "$ns" istio-ca-root-cert -o json | jq -r '.data["root-cert.pem"]'; }
roots_in_bundle() { same "$(bundle | grep -c BEGIN)" "$1"; }
is_another_root() { ! same "$(bundle)" "$old_bundle" >/dev/null; }
webhooks_follow() { # one root, the bundle's, in every entry
    local want
    want=$(bundle)
    k get mutatingwebhookconfiguration/tulle-sidecar-injector \
        validatingwebhookconfiguration/tulle-validator -o json |
        jq -e --arg want "$want" '[.items[].webhooks[].clientConfig.caBundle // "" | @base64d] |
            length >= 5 and all(.[]; rtrimstr("\n") == ($want | rtrimstr("\n")))' >/dev/null
}
deploy() {
    { hello_yaml; echo ---; caller_yaml load "$SHOP_IMAGE"; cat; } <<'Y' | k apply -n "$ns" -f - >/dev/null
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hello}
spec:
  hosts: [hello]
  http: [{route: [{destination: {host: hello}}], retries: {attempts: 0}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
Y
    settled "$ns"
}
# One request whose body takes longer than the whole change.
upload() {
    pod_exec "$ns" "$loader" sh -c 'head -c 4000000 /dev/zero |
        curl -s -o /dev/null -w "%{http_code} %{num_connects}" --max-time 110 --limit-rate 80k \
             -H "Expect:" -H "Transfer-Encoding: chunked" -T - http://hello/upload'
}
another_pod() {
    k scale -n "$ns" deployment/hello --replicas 2 >/dev/null && rollout "$ns" hello
}
told() { # REASON: an Event on the Mesh
    k get events -A --field-selector "reason=$1" -o name | grep -q .
}

check "a service and its caller, mutual TLS alone" deploy
loader=$(pod_of "$ns" app=load)
check "a call" eventually 20 answers 200 "$ns" "$loader" http://hello/
check "acknowledged" eventually 10 programmed "$ns" vs hello
check "the CA is steady" eventually 10 in_state Steady
old_issuer=$(ca issuer) old_bundle=$(bundle)
check "each step takes ten seconds at least" least 10s
load_start "$out" "$ns" "$loader" --rate 50 --seconds 45 http://hello/
upload >"$E2E_DIR/root.upload" 2>&1 &
uploading=$!
check "another root is asked for" rotate
check "both roots are trusted, the old CA signs" eventually 15 in_state Spreading
check "so do pods that are yet to start" eventually 10 roots_in_bundle 2
check "it is told on the Mesh" eventually 10 told CASpreading
check "a pod starts meanwhile" another_pod
check "the new CA signs, and all renew" eventually 40 in_state Renewing
check "it is over" eventually 60 in_state Steady
check "another CA signs" not same "$(ca issuer)" "$old_issuer"
check "the bundle has one root" eventually 10 roots_in_bundle 1
check "which is the new one" is_another_root
check "the webhooks are trusted by it alone" eventually 10 webhooks_follow
check "the load ended" load_end "$out"
check "not one request failed" no_failure "$out"
wait "$uploading"
check "the request that took longer than all of it was answered" same "$(cat "$E2E_DIR/root.upload")" "200 1"
check "a pod that starts now belongs to it" restart "$ns"
loader=$(pod_of "$ns" app=load)
check "and calls" eventually 20 answers 200 "$ns" "$loader" http://hello/
least >/dev/null
ns_drop "$ns"
