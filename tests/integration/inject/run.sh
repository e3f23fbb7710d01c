#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every golden pod, patched, is accepted by a real API server (dry run), and comes back with what the
# patch added: a field that the API server drops or refuses shows here.
# Then the injector itself, outside of the cluster, reads its Secret and ConfigMap from that API server
# and answers its webhooks (where the API server runs on this machine and can reach it).
# usage: run.sh BUILD_DIR     (KUBECONFIG names the API server; BUILD_DIR is where objects go)
set -euo pipefail
cd "$(dirname "$0")/../../.."
build=${1:?usage: run.sh BUILD_DIR}
program=$build/tests/unit/mesh/inject/test_inject
if [ -z "${KUBECONFIG:-}" ]; then
    echo "SKIP inject: KUBECONFIG names no API server"
    exit 0
fi
[ -x "$program" ] || { echo "FAIL inject: $program is not built (make unit)"; exit 1; }

ns=tulle-inject-$$
pods=$(mktemp -d)
injector=
finish() {
    [ -z "$injector" ] || kill "$injector" 2>/dev/null || true
    kubectl delete mutatingwebhookconfiguration "$ns" --ignore-not-found >/dev/null 2>&1 || true
    kubectl delete namespace "$ns-app" --wait=false --ignore-not-found >/dev/null 2>&1 || true
    kubectl delete namespace "$ns" --wait=false --ignore-not-found >/dev/null 2>&1 || true
    rm -rf "$pods"
}
trap finish EXIT

INJECT_PODS=$pods "$program" >/dev/null
kubectl create namespace "$ns" >/dev/null
kubectl label namespace "$ns" pod-security.kubernetes.io/enforce=privileged >/dev/null
for name in default db; do # pods name these service accounts
    for _ in $(seq 1 50); do
        kubectl -n "$ns" get serviceaccount "$name" >/dev/null 2>&1 && break
        [ "$name" = default ] || kubectl -n "$ns" create serviceaccount "$name" >/dev/null 2>&1 || true
        sleep 0.2
    done
done

# What stands in the answer but was not asked for, or the other way round, in containers and volumes.
cat >"$pods/compare.py" <<'PY'
import json, sys

def missing(want, have, path):
    """Fields of `want` that `have` lacks or has otherwise; what is only in `have` are defaults."""
    if isinstance(want, dict):
        if not isinstance(have, dict):
            return [path]
        return [m for k, v in want.items() if v not in ({}, [], None)
                for m in (missing(v, have[k], f"{path}.{k}") if k in have else [f"{path}.{k}"])]
    if isinstance(want, list):
        if not isinstance(have, list) or len(have) < len(want):
            return [path]
        return [m for i, v in enumerate(want) for m in missing(v, have[i], f"{path}[{i}]")]
    return [] if want == have else [f"{path} ({want!r} became {have!r})"]

want, have = (json.load(open(f)) for f in sys.argv[1:3])
bad = missing(want["spec"], have["spec"], "spec")
bad += missing(want["metadata"].get("labels", {}), have["metadata"].get("labels", {}), "labels")
bad += missing(want["metadata"].get("annotations", {}), have["metadata"].get("annotations", {}),
               "annotations")
print("\n".join(bad))
sys.exit(bool(bad))
PY

good=0 bad=0
for pod in "$pods"/*.json; do
    name=$(basename "$pod" .json)
    if ! kubectl -n "$ns" create --dry-run=server --validate=strict -o json -f "$pod" \
        >"$pods/answer" 2>"$pods/error"; then
        echo "FAIL inject $name: refused by the API server: $(cat "$pods/error")"
        bad=$((bad + 1))
    elif ! python3 "$pods/compare.py" "$pod" "$pods/answer" >"$pods/error"; then
        echo "FAIL inject $name: changed by the API server:"
        sed 's/^/    /' "$pods/error"
        bad=$((bad + 1))
    else
        echo "PASS inject $name"
        good=$((good + 1))
    fi
done
echo "$good patched pods accepted, $bad not"

# --- the injector, live -------------------------------------------------------------------------------
server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')
host=$(sed -E 's#^https?://##; s#[:/][^]]*$##; s#[][]##g' <<<"$server")
if ! { [ "$host" = localhost ] || grep -qwF "$host" <<<"$(ip -o addr)"; }; then
    echo "SKIP inject live: the API server $server is elsewhere and cannot reach this machine"
    [ "$bad" -eq 0 ] && [ "$good" -ge 30 ]
    exit
fi
check() { # check NAME COMMAND...
    if "${@:2}" >"$pods/out" 2>&1; then
        echo "PASS inject $1"
        good=$((good + 1))
    else
        echo "FAIL inject $1: $(head -c 600 "$pods/out")"
        bad=$((bad + 1))
    fi
}
within() { # within SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
make_cert() { # make_cert NAME: a pair of that common name, signed by the test's CA
    openssl ecparam -name prime256v1 -genkey -noout -out "$pods/$1.key" &&
        openssl req -new -key "$pods/$1.key" -subj "/CN=$1" -out "$pods/$1.csr" &&
        openssl x509 -req -in "$pods/$1.csr" -CA "$pods/ca.crt" -CAkey "$pods/ca.key" \
            -CAcreateserial -days 1 -extfile <(echo subjectAltName=IP:127.0.0.1) -out "$pods/$1.crt"
}
put_secret() {
    kubectl -n "$ns" create secret generic tulle-injector-certs --from-file=tls.crt="$pods/$1.crt" \
        --from-file=tls.key="$pods/$1.key" --dry-run=client -o yaml | kubectl apply -f -
}
put_settings() {
    kubectl -n "$ns" create configmap tulle-injector --from-literal=settings="$1" \
        --dry-run=client -o yaml | kubectl apply -f -
}
shown() { openssl s_client -connect "127.0.0.1:$port" </dev/null 2>/dev/null | grep -q "CN = $1"; }
status() { [ "$(curl -sk -o /dev/null -w '%{http_code}' "https://127.0.0.1:$port$1")" = "$2" ]; }
pod_has() { # pod_has FILTER: what the API server would create, asked with a dry run
    kubectl -n "$ns-app" run probe --image=registry.example/app:1 --dry-run=server -o json \
        ${2:+--labels="$2"} >"$pods/probe.json" && python3 -c "
import json,sys
p=json.load(open('$pods/probe.json'))
names=[c['name'] for c in p['spec'].get('initContainers',[])]
sys.exit(not ($1))"
}

openssl ecparam -name prime256v1 -genkey -noout -out "$pods/ca.key"
openssl req -x509 -new -key "$pods/ca.key" -subj /CN=ca -days 2 -out "$pods/ca.crt" 2>/dev/null
make_cert first 2>/dev/null
make_cert second 2>/dev/null
"$build/bin/tulle-injector" --port 0 --namespace "$ns" --linger-ms 500 2>"$pods/log" &
injector=$!
within 10 grep -q 'is serving' "$pods/log"
port=$(sed -n 's/.*is serving" port=\([0-9]*\).*/\1/p' "$pods/log")

check "healthy without a certificate" status /healthz 200
check "not ready without a certificate" status /readyz 503
check "the Secret is written" put_secret first
check "the ConfigMap is written" put_settings '{"image":"registry.example/tulle-proxy:live"}'
check "ready with both" within 10 status /readyz 200
check "the Secret's certificate is shown" within 10 shown first

kubectl apply -f - >/dev/null <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: $ns
webhooks:
- name: namespace.sidecar-injector.istio.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 5
  reinvocationPolicy: IfNeeded
  clientConfig:
    url: https://127.0.0.1:$port/inject/namespace
    caBundle: $(base64 -w0 <"$pods/ca.crt")
  namespaceSelector:
    matchLabels: {tulle-test: $ns}
  rules:
  - {apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE], scope: Namespaced}
YAML
kubectl create namespace "$ns-app" >/dev/null
within 10 kubectl -n "$ns-app" get serviceaccount default >/dev/null 2>&1
check "no label, no sidecar" within 5 pod_has "names == []"
kubectl label namespace "$ns-app" "tulle-test=$ns" >/dev/null
check "label, sidecar" within 10 pod_has "names == ['istio-init', 'istio-proxy']"
check "the image of the ConfigMap" pod_has \
    "p['spec']['initContainers'][1]['image'] == 'registry.example/tulle-proxy:live'"
check "a pod that opts out" pod_has "names == []" sidecar.istio.io/inject=false
check "settings change without restart" put_settings \
    '{"image":"registry.example/tulle-proxy:next","nativeSidecar":false}'
check "the classic form" within 10 pod_has "names == ['istio-init'] and
    p['spec']['containers'][-1]['image'] == 'registry.example/tulle-proxy:next'"
check "broken settings are written" put_settings '{"image":7}'
check "broken settings are refused" within 10 grep -q 'Settings were refused' "$pods/log"
check "and the last good ones stay" pod_has "names == ['istio-init']"
check "the certificate is rotated" put_secret second
check "the new one is shown without restart" within 10 shown second
check "the API server goes on" pod_has "names == ['istio-init']"
kill -TERM "$injector"
check "SIGTERM ends it in good order" within 10 grep -q 'Injector stopped' "$pods/log"
wait "$injector" && rc=0 || rc=$?
injector=
check "its exit status is 0" [ "$rc" -eq 0 ]
[ "$bad" -eq 0 ] && [ "$good" -ge 50 ]
