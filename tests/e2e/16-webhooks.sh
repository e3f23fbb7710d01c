# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The webhooks' certificate and caBundle are kept right, and pods go on being injected meanwhile, by the
# same injector. The validating webhook refuses what cannot be meant, and warns of the rest.
# e2e: alone

hooks=tulle-e2e-hooks
ns_make "$hooks" istio-injection=enabled

injects() {
    k run hook -n "$hooks" --image "$PROBE_IMAGE" --dry-run=server -o json |
        jq -e 'any(.spec.initContainers[]?, .spec.containers[]; .name == "istio-proxy")' >/dev/null
}
certificate() {
    k get secret -n "$SYSTEM" tulle-injector-certs -o json | jq -r '.data["tls.crt"]' | base64 -d |
        openssl x509 -noout -serial
}
certificate_is_new() { [ "$(certificate)" != "$old" ] && certificate | grep -q serial=; }
injectors() { # names and restarts
    k get pods -n "$SYSTEM" -l app.kubernetes.io/component=injector -o json |
        jq -r '.items[] | "\(.metadata.name) \(.status.containerStatuses[0].restartCount)"'
}
loaded() { # how often the injector has read a certificate
    pod_get "$SYSTEM" "https:$(pod_of "$SYSTEM" app.kubernetes.io/component=injector)" 15017 /metrics |
        metric_sum "$1"
}
bundles_are_right() { # one CA of ours, the Secret's, in every entry
    local ca
    ca=$(k get secret -n "$SYSTEM" tulle-injector-certs -o json | jq -r '.data["ca.crt"]')
    k get mutatingwebhookconfiguration/tulle-sidecar-injector \
        validatingwebhookconfiguration/tulle-validator -o json |
        jq -e --arg ca "$ca" '[.items[].webhooks[].clientConfig.caBundle // ""] |
            length >= 5 and all(.[]; (@base64d | contains($ca | @base64d)))' >/dev/null
}
# Pods one after the other until told to stop; a line for each that was refused.
pods_meanwhile() {
    : >"$E2E_DIR/hooks.refused"
    : >"$E2E_DIR/hooks.count"
    while [ ! -e "$E2E_DIR/hooks.stop" ]; do
        injects 2>>"$E2E_DIR/hooks.refused" || echo "not injected" >>"$E2E_DIR/hooks.refused"
        echo . >>"$E2E_DIR/hooks.count"
    done
}
meanwhile_start() {
    rm -f "$E2E_DIR/hooks.stop"
    pods_meanwhile &
    meanwhile=$!
}
meanwhile_end() {
    touch "$E2E_DIR/hooks.stop"
    wait "$meanwhile"
    [ "$(wc -l <"$E2E_DIR/hooks.count")" -ge 5 ] && [ ! -s "$E2E_DIR/hooks.refused" ] ||
        { wc -l "$E2E_DIR/hooks.count"; cat "$E2E_DIR/hooks.refused"; return 1; }
}

check "pods are injected" eventually 10 injects
check "every caBundle holds the Secret's CA" eventually 10 bundles_are_right
old=$(certificate) who=$(injectors)
meanwhile_start
check "the certificate's Secret is deleted" k delete secret -n "$SYSTEM" tulle-injector-certs
check "the operator makes another" eventually 20 certificate_is_new
check "the CA is the same, every caBundle fits" eventually 10 bundles_are_right
sleep 3
check "pods were injected all the time" meanwhile_end
check "the injector was not restarted" same "$(injectors)" "$who"
check "a spoiled caBundle" k patch mutatingwebhookconfiguration tulle-sidecar-injector --type json -p \
    '[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]'
check "is repaired" eventually 15 bundles_are_right
check "and pods are injected" eventually 10 injects

# --- validation
vs() { # the rest of a VirtualService's spec
    printf 'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: hook}\nspec: %s\n' "$1"
}
refused() { # PATTERN YAML
    local out
    out=$(k apply -n "$hooks" -f - <<<"$2" 2>&1) && { echo "it was taken: $out"; return 1; }
    grep -q 'admission webhook "validator.tulle.dev" denied the request' <<<"$out" &&
        grep -qE -- "$1" <<<"$out" || { echo "$out"; return 1; }
}
warned() { # PATTERN YAML
    local out
    out=$(k apply -n "$hooks" -f - <<<"$2" 2>&1) || { echo "$out"; return 1; }
    grep -qE -- "^Warning: $1" <<<"$out" || { echo "$out"; return 1; }
}
taken() { # YAML: without a word
    local out
    out=$(k apply -n "$hooks" -f - <<<"$1" 2>&1) || { echo "$out"; return 1; }
    not grep Warning <<<"$out"
}
good='{hosts: [a.example.com], http: [{route: [{destination: {host: a}}]}]}'
check "a good VirtualService is taken without a word" taken "$(vs "$good")"
check "a broken regular expression is refused, by field" refused 'spec.http\[0\].match\[0\].uri.regex' \
    "$(vs '{hosts: [a.example.com], http: [{match: [{uri: {regex: "("}}], route: [{destination: {host: a}}]}]}')"
check "weights that are all nought are refused" refused 'weight' \
    "$(vs '{hosts: [a.example.com], http: [{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 0}]}]}')"
check "what it held before still stands" says 'host: a$' k get vs -n "$hooks" hook -o yaml
check "a policy with a condition that is not known is refused or warned of" eventually 1 \
    says 'Warning|denied' k apply -n "$hooks" --dry-run=server -f - <<'Y'
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: hook}
spec: {action: CUSTOM, provider: {name: nobody}, rules: [{}]}
Y
ns_drop "$hooks"
