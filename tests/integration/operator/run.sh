#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The operator as built against a real API server of this test's own (no node, no root needed): root bundles, webhook certificate, injector settings, Mesh, statuses, CA and discovery as a
# proxy sees them, restart, a lost CA Secret, cleanup.
# usage: run.sh BUILD_DIR
# shellcheck disable=SC2016,SC2317 # conditions are evaluated later, helpers called by name
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$1
work=$(mktemp -d)
sys=op-it-system ns=op-it-shop port=25012 mon=25014
pid='' failures=0

pass() { echo "PASS operator: $*"; }
fail() {
    echo "FAIL operator: $*"
    failures=$((failures + 1))
}
until_true() { # SECONDS COMMAND
    local end=$((SECONDS + $1))
    shift
    until eval "$*" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}
expect() { # NAME COMMAND [SECONDS], within 10 s
    if until_true "${3:-10}" "$2"; then pass "$1"; else fail "$1"; fi
}
start() {
    POD_NAME=op-it "$build/bin/tulle-operator" --namespace $sys --port $port --address 127.0.0.1 \
        --monitoring-port $mon --log-level debug >>"$work/log" 2>&1 &
    pid=$!
}
stop() {
    [ -n "$pid" ] || return 0
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    pid=''
}
finish() {
    stop
    "$api" down >/dev/null 2>&1
    [ "$failures" -eq 0 ] || tail -n 60 "$work/log"
    rm -rf "$work"
}

if ! command -v kubectl >/dev/null && [ -r "$root/tests/cluster/env.sh" ]; then
    eval "$(TULLE_CLUSTER_DIR='' "$root/tests/cluster/env.sh" 2>/dev/null)" || true
fi
if ! command -v kubectl >/dev/null; then
    echo "SKIP operator: no kubectl"
    exit 0
fi
export TULLE_CLUSTER_DIR=$work/api IT_ETCD_PORT=23379
api=$root/tests/integration/kube/apiserver.sh
trap finish EXIT
"$api" up >"$work/api.log" 2>&1 || {
    cat "$work/api.log"
    fail "API server"
    exit 1
}
export KUBECONFIG=$work/api/kubeconfig
kubectl apply -f "$root/crds/" >/dev/null || fail "CRDs"
kubectl apply -f - >/dev/null <<'Y' || fail "node"
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {nodeInfo: {kubeletVersion: v1.34.4, architecture: "", bootID: "", containerRuntimeVersion: "", kernelVersion: "", kubeProxyVersion: "", machineID: "", operatingSystem: "", osImage: "", systemUUID: ""}}
Y
for n in "$sys" "$ns"; do kubectl create ns "$n" >/dev/null || fail "namespace $n"; done

status() { kubectl get -n $ns "$1" "$2" -o "jsonpath={.status.conditions[?(@.type==\"$3\")].$4}"; }

start
expect "ready" "curl -fs http://127.0.0.1:$mon/readyz"
expect "Lease is held" '[ "$(kubectl get lease -n $sys tulle-operator -o jsonpath={.spec.holderIdentity})" = op-it ]'
expect "CA Secret was made" "kubectl get secret -n $sys tulle-ca"
expect "Mesh was made, with status" '[ "$(kubectl get mesh default -o "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}")" = True ]'
expect "settings of the injector" 'kubectl get cm -n $sys tulle-injector -o jsonpath={.data.settings} | grep -q "\"nativeSidecar\": true"'
expect "webhook certificate is by the mesh CA" 'kubectl get secret -n $sys tulle-injector-certs -o "jsonpath={.data.tls\.crt}" | base64 -d >$work/hook.pem && kubectl get secret -n $sys tulle-ca -o "jsonpath={.data.root-cert\.pem}" | base64 -d >$work/root.pem && openssl verify -CAfile $work/root.pem $work/hook.pem'

# --- the namespace's label
expect "no bundle without label" '! kubectl get cm -n $ns istio-ca-root-cert'
kubectl label ns $ns istio-injection=enabled >/dev/null
expect "label on: root bundle" 'kubectl get cm -n $ns istio-ca-root-cert -o "jsonpath={.data.root-cert\.pem}" | cmp - $work/root.pem'
kubectl delete cm -n $ns istio-ca-root-cert >/dev/null
expect "a deleted bundle comes back" "kubectl get cm -n $ns istio-ca-root-cert"
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec: {containers: [{name: a, image: none.invalid/none}]}
Y
expect "a bare pod is named" 'kubectl get mesh default -o "jsonpath={.status.barePods}" | grep -q $ns/bare'
kubectl delete pod -n $ns bare --force --grace-period=0 >/dev/null 2>&1
expect "and forgotten" '! kubectl get mesh default -o "jsonpath={.status.barePods}" | grep -q $ns/bare'

kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: old}
spec: {containers: [{name: a, image: none.invalid/none}, {name: istio-proxy, image: "none.invalid/tulle-proxy:0.0.1"}]}
Y
expect "a pod with an old sidecar is named" 'kubectl get mesh default -o "jsonpath={.status.stalePods} {.status.problems}" | grep -q "$ns/old.*sidecar of another release"'
kubectl delete pod -n $ns old --force --grace-period=0 >/dev/null 2>&1
expect "and forgotten, too" '[ "$(kubectl get mesh default -o "jsonpath={.status.stalePods}")" = "[]" ]'

# --- statuses
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: v1
kind: Service
metadata: {name: frontend}
spec:
  selector: {app: frontend}
  ports: [{name: http, port: 80}]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: good}
spec:
  hosts: [frontend.example.com]
  http: [{route: [{destination: {host: frontend, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec:
  hosts: [frontend]
  http: [{route: [{destination: {host: frontend, subset: a}, weight: 0}], match: [{uri: {regex: "("}}]}]
Y
expect "a valid object is accepted" '[ "$(status vs good Accepted status)" = True ]'
expect "without proxies Programmed is unknown" '[ "$(status vs good Programmed reason)" = NoInterestedProxy ]'
expect "an invalid object is refused, with the reason" '[ "$(status vs bad Accepted status)" = False ]'
expect "the host got an address" 'kubectl get vs -n $ns good -o "jsonpath={.status.addresses[0].value}" | grep -q ^240.240'
address=$(kubectl get vs -n $ns good -o "jsonpath={.status.addresses[0].value}")
expect "an Event tells of the refusal" 'kubectl get events.events.k8s.io -n $ns -o "jsonpath={.items[*].regarding.name}" | grep -qw bad'

# --- what other objects make of one
sleep 1 # the next one is younger by a second, which is how fine their ages are
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: late}
spec:
  hosts: [frontend.example.com]
  http: [{route: [{destination: {host: nowhere}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: open}
spec: {mtls: {mode: DISABLE}}
Y
expect "the younger claim on a host is in conflict" '[ "$(status vs late Conflicted status)" = True ]'
expect "who holds it is named" 'status vs late Conflicted message | grep -q "older VirtualService $ns/good"'
expect "the older one is not" '[ -z "$(status vs good Conflicted status)" ]'
expect "a route to nowhere is told" '[ "$(status vs late ResolvedRefs reason)" = ReferenceNotFound ]'
expect "Events tell of both" 'kubectl get events.events.k8s.io -n $ns -o "jsonpath={range .items[*]}{.regarding.name}={.reason} {end}" | tr " " "\n" | grep -x -e late=Conflict -e late=ReferenceNotFound | sort -u | wc -l | grep -qx 2'
expect "Mesh lists a plaintext edge" 'kubectl get mesh default -o "jsonpath={.status.plaintextEdges}" | grep -q "PeerAuthentication $ns/open"'
expect "and counts it among its problems" 'kubectl get mesh default -o "jsonpath={.status.problems}" | grep -q "1 plaintext edge between workloads"'
kubectl delete -n $ns vs/late pa/open >/dev/null
expect "and forgets it" '[ "$(kubectl get mesh default -o "jsonpath={.status.plaintextEdges}")" = "[]" ]'
written=$(kubectl get vs -n $ns good -o "jsonpath={.metadata.resourceVersion}")
sleep 2
[ "$written" = "$(kubectl get vs -n $ns good -o "jsonpath={.metadata.resourceVersion}")" ] &&
    pass "a settled status is not written again" || fail "a settled status is written again"

# --- addresses of ServiceEntries
given() { kubectl get se -n $ns "$1" -o "jsonpath={.status.addresses[?(@.host==\"$2\")].value}"; }
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ledger}
spec:
  hosts: [ledger.example.com, books.example.com]
  ports: [{number: 5432, name: tcp-pg, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.9}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: without, labels: {networking.istio.io/enable-autoallocate-ip: "false"}}
spec:
  hosts: [without.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.9}]
Y
expect "a ServiceEntry gets an address of each family" 'given ledger ledger.example.com | grep -qE "^240\.240\.[0-9.]+ 2001:2::[0-9a-f]+$"'
expect "each of its hosts its own" '[ -n "$(given ledger books.example.com)" ] && [ "$(given ledger books.example.com)" != "$(given ledger ledger.example.com)" ]'
expect "one that opted out is settled" '[ "$(status se without Accepted status)" = True ]'
[ -z "$(given without without.example.com)" ] && pass "and has none" || fail "it opted out and has an address"
sleep 1 # as above
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ledger-too}
spec:
  hosts: [ledger.example.com]
  ports: [{number: 5432, name: tcp-pg, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.10}]
Y
expect "a younger one with its host is in conflict" 'status se ledger-too Conflicted message | grep -q "older ServiceEntry $ns/ledger"'

# --- a proxy
if gcc_out=$("$here/build.sh" "$build" "$work/proxy" 2>&1); then
    kubectl create sa -n $ns front >/dev/null
    kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: front-1, labels: {app: front, sidecar.istio.io/inject: "false"}}
spec: {serviceAccountName: front, containers: [{name: a, image: none.invalid/none}]}
Y
    until_true 10 "kubectl get pod -n $ns front-1"
    kubectl create token -n $ns front --audience istio-ca >"$work/token"
    kubectl create token -n $ns front >"$work/token-other"
    key=frontend.example.com:80
    "$work/proxy" 127.0.0.1:$port tulle-operator.$sys.svc "$work/root.pem" "$work/token-other" \
        spiffe://cluster.local/ns/$ns/sa/front $ns front-1 $key 0 >"$work/proxy.log" 2>&1
    grep -q UNAUTHENTICATED "$work/proxy.log" && pass "a token for another audience is refused" ||
        fail "token for another audience: $(cat "$work/proxy.log")"
    "$work/proxy" 127.0.0.1:$port tulle-operator.$sys.svc "$work/root.pem" "$work/token" \
        spiffe://cluster.local/ns/$ns/sa/other $ns front-1 $key 0 >"$work/proxy.log" 2>&1
    grep -q PERMISSION_DENIED "$work/proxy.log" && pass "another identity than the token's is refused" ||
        fail "another identity: $(cat "$work/proxy.log")"
    "$work/proxy" 127.0.0.1:$port tulle-operator.$sys.svc "$work/root.pem" "$work/token" \
        spiffe://cluster.local/ns/$ns/sa/front $ns front-1 $key 15 >"$work/proxy.log" 2>&1 &
    client=$!
    expect "a certificate for a token" 'grep -q "^certificate spiffe://cluster.local/ns/$ns/sa/front" $work/proxy.log'
    expect "discovery brings the service" 'grep -q "^Service $key VALUE" $work/proxy.log'
    expect "acknowledged: Programmed" '[ "$(status vs good Programmed status)" = True ]'
    expect "one of one proxies" '[ "$(kubectl get vs -n $ns good -o "jsonpath={.status.proxies}")" = 1/1 ]'
    expect "the proxy is counted in Mesh" '[ "$(kubectl get mesh default -o "jsonpath={.status.proxies.connected}")" = 1 ]'
    kubectl patch vs -n $ns good --type merge -p '{"spec":{"http":[{"timeout":"3s","route":[{"destination":{"host":"frontend","port":{"number":80}}}]}]}}' >/dev/null
    expect "a change is pushed" '[ "$(grep -c "^Service $key VALUE" $work/proxy.log)" = 2 ]'
    wait $client
    expect "a proxy that left does not count" '[ "$(status vs good Programmed reason)" = NoInterestedProxy ]'
else
    fail "test client: $gcc_out"
fi

# --- restart, and a lost CA
mesh_events() { # REASON: how often it was told
    kubectl get events.events.k8s.io -A -o json | python3 -c 'import json, sys
print(sum(e.get("series", {}).get("count", 1) for e in json.load(sys.stdin)["items"]
          if e["regarding"]["kind"] == "Mesh" and e["reason"] == sys.argv[1]))' "$1"
}
problems() { kubectl get mesh default -o "jsonpath={.status.problemCount}"; }
expect "a mesh without problems" '[ "$(problems)" = 0 ]'
healthy=$(mesh_events Healthy) degraded=$(mesh_events Degraded)
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain}
spec: {mtls: {mode: DISABLE}}
Y
expect "a problem of the mesh is an Event" '[ "$(mesh_events Degraded)" = $((degraded + 1)) ]'
stop
kubectl patch se -n $ns ledger --subresource status --type json -p '[{"op": "replace", "path": "/status/addresses", "value": [{"host": "ledger.example.com", "value": "240.240.9.9"}]}]' >/dev/null
expect "the Lease was released" '[ -z "$(kubectl get lease -n $sys tulle-operator -o jsonpath={.spec.holderIdentity})" ]'
start
expect "ready again" "curl -fs http://127.0.0.1:$mon/readyz"
sleep 1
kubectl label vs -n $ns good touched=yes >/dev/null
expect "its problem is the same" '[ "$(problems)" = 1 ]'
sleep 1
[ "$(mesh_events Degraded)" = $((degraded + 1)) ] && pass "a restarted operator does not tell it again" ||
    fail "told $(mesh_events Degraded) times, after $degraded"
kubectl delete pa -n $ns plain >/dev/null
expect "that it is over is told, though another began" '[ "$(mesh_events Healthy)" = $((healthy + 1)) ]'
[ "$address" = "$(kubectl get vs -n $ns good -o "jsonpath={.status.addresses[0].value}")" ] &&
    pass "the address stayed" || fail "the address moved from $address"
expect "a ServiceEntry's is the one in its status" 'given ledger ledger.example.com | grep -qE "^240.240.9.9 2001:2::"'
kubectl get secret -n $sys tulle-ca -o "jsonpath={.data.root-cert\.pem}" | base64 -d | cmp - "$work/root.pem" &&
    pass "the root stayed" || fail "the root changed"
stop
kubectl get secret -n $sys tulle-ca -o json >"$work/ca.json"
kubectl delete secret -n $sys tulle-ca >/dev/null
start
expect "a lost CA Secret is an alarm" 'kubectl get mesh default -o "jsonpath={.status.problems}" | grep -q "is missing"'
kubectl get secret -n $sys tulle-ca >/dev/null 2>&1 && fail "a new root was made" || pass "no new root was made"
expect "and the operator is not ready" '! curl -fs http://127.0.0.1:$mon/readyz'
python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); o["metadata"]={k:o["metadata"][k] for k in ("name","namespace")}; json.dump(o,sys.stdout)' "$work/ca.json" | kubectl apply -f - >/dev/null
expect "restored, it serves" "curl -fs http://127.0.0.1:$mon/readyz"

# --- another root, and a CA of the user's
ca() { kubectl get mesh default -o "jsonpath={.status.ca.$1}"; }
root_of() { kubectl get secret -n $sys "$1" -o "jsonpath={.data.root-cert\.pem}" | base64 -d; }
expect "Mesh tells of the CA" '[ "$(ca state)" = Steady ] && [ -n "$(ca rotateAt)" ] && [ "$(ca "roots[*].state")" = Active ]'
# Longer than the second between two looks of `tulle ca rotate`, which tells what it sees.
kubectl patch mesh default --type merge -p '{"spec":{"mtls":{"rootRotation":{"minStep":"3s"}}}}' >/dev/null
timeout 60 "$build/bin/tulle" ca rotate >"$work/rotate.log" 2>&1 && pass "tulle ca rotate ends" ||
    fail "tulle ca rotate: $(cat "$work/rotate.log")"
grep -q '^Spreading' "$work/rotate.log" && grep -q '^Renewing' "$work/rotate.log" &&
    tail -n 1 "$work/rotate.log" | grep -q '^Steady' && pass "it tells the steps" ||
    fail "it does not tell the steps: $(cat "$work/rotate.log")"
root_of tulle-ca >"$work/root2.pem"
cmp -s "$work/root.pem" "$work/root2.pem" && fail "the root is the old one" || pass "there is another root"
expect "the namespace has it" 'kubectl get cm -n $ns istio-ca-root-cert -o "jsonpath={.data.root-cert\.pem}" | cmp - $work/root2.pem'
expect "so have the webhooks" '[ "$(kubectl get secret -n $sys tulle-injector-certs -o "jsonpath={.data.ca\.crt}" | base64 -d)" = "$(cat $work/root2.pem)" ]'
expect "Events tell of it" 'kubectl get events.events.k8s.io -A -o "jsonpath={.items[*].reason}" | tr " " "\n" | grep -x -e CASpreading -e CARenewing -e CASteady | sort -u | wc -l | grep -qx 3'
record=$(kubectl get secret -n $sys tulle-ca-rotation -o "jsonpath={.data.rotation\.json}" | base64 -d)
grep -q Steady <<<"$record" && ! grep -q PRIVATE <<<"$record" && pass "no old key is kept" ||
    fail "the record: ${record:0:80}"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/mine.key" -out "$work/mine.pem" \
    -subj /O=mine -days 40 -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
kubectl create secret generic -n $sys cacerts --from-file=ca-key.pem="$work/mine.key" --from-file=ca-cert.pem="$work/mine.pem" \
    --from-file=root-cert.pem="$work/root2.pem" >/dev/null
expect "a CA that does not lead to its root is refused, by name" 'kubectl get mesh default -o "jsonpath={.status.problems}" | grep -q "does not lead to a root"' 30
[ "$(ca "roots[0].subject")" = O=cluster.local ] && pass "the one from before signs on" || fail "$(ca 'roots[*]')"
kubectl create secret generic -n $sys cacerts --from-file=ca-key.pem="$work/mine.key" --from-file=ca-cert.pem="$work/mine.pem" \
    --from-file=root-cert.pem="$work/mine.pem" --dry-run=client -o yaml | kubectl apply -f - >/dev/null 2>&1
expect "put right, it comes into force" '[ "$(ca state)" = Steady ] && [ "$(ca "roots[*].subject")" = O=mine ]' 30
expect "its end is told before it comes" 'kubectl get mesh default -o "jsonpath={.status.problems}" | grep -q "a root of the mesh ends in 39 days"'
curl -fs "http://127.0.0.1:$mon/metrics" >"$work/metrics"
awk '$1 == "citadel_server_root_cert_expiry_timestamp" { found = $2 > 1e9 } END { exit !found }' "$work/metrics" &&
    pass "and is a metric" || fail "no metric of the root's end"
timeout 60 "$build/bin/tulle" ca rotate >"$work/rotate.log" 2>&1 && fail "a user's CA was changed" ||
    { grep -q "write the new one there" "$work/rotate.log" && pass "tulle ca rotate leaves a user's CA alone" ||
        fail "tulle ca rotate with a user's CA: $(cat "$work/rotate.log")"; }
kubectl delete secret -n $sys cacerts >/dev/null
expect "the operator's own again" '[ "$(ca state)" = Steady ] && [ "$(ca "roots[*].subject")" = O=cluster.local ]' 30

# --- label off, cleanup
kubectl label ns $ns istio-injection- >/dev/null
expect "label off: the bundle goes" '! kubectl get cm -n $ns istio-ca-root-cert'
kubectl apply -n $ns -f - >/dev/null <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: guest, labels: {sidecar.istio.io/inject: "true"}}
spec: {containers: [{name: a, image: none.invalid/none}, {name: istio-proxy, image: none.invalid/none}]}
Y
expect "a pod that asks by itself brings the bundle" "kubectl get cm -n $ns istio-ca-root-cert"
kubectl delete pod -n $ns guest --force --grace-period=0 >/dev/null 2>&1
expect "and takes it along" '! kubectl get cm -n $ns istio-ca-root-cert'
kubectl label ns $ns istio-injection=enabled >/dev/null
until_true 10 "kubectl get cm -n $ns istio-ca-root-cert"
anon=$(awk '/^Anonymous/ {print $2}' "/proc/$pid/smaps_rollup")
child=$(awk '/^Anonymous/ {print $2}' "/proc/$(pgrep -P "$pid" | head -1)/smaps_rollup")
echo "operator: anonymous memory idle: $anon kB, signer $child kB"
stop
"$build/bin/tulle-operator" cleanup --namespace $sys >>"$work/log" 2>&1 || fail "cleanup"
left=$(kubectl get mesh,secret,cm,lease -n $sys -o name | grep -v kube-root-ca)$(kubectl get cm -n $ns -o name | grep istio-ca)
[ -z "$left" ] && pass "cleanup leaves nothing" || fail "cleanup left $left"
[ "$failures" -eq 0 ]
