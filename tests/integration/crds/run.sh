#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CRDs of crds/ in a real API server of this test's own (no node, no root needed): every example of
# examples/kinds in every served version survives a strict apply unchanged, every field of the support
# table is in the schemas, rules refuse what they should, kubectl shows names and columns.
# The operator then gives each of them a status.
# usage: run.sh BUILD_DIR
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$1
work=$(mktemp -d)
pid='' failures=0

pass() { echo "PASS crds: $*"; }
fail() {
    echo "FAIL crds: $*"
    failures=$((failures + 1))
}
finish() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null
    "$api" down >/dev/null 2>&1
    rm -rf "$work"
}

if ! command -v kubectl >/dev/null && [ -r "$root/tests/cluster/env.sh" ]; then
    eval "$(TULLE_CLUSTER_DIR='' "$root/tests/cluster/env.sh" 2>/dev/null)" || true
fi
if ! command -v kubectl >/dev/null; then
    echo "SKIP crds: no kubectl"
    exit 0
fi
export TULLE_CLUSTER_DIR=$work/api IT_ETCD_PORT=${IT_ETCD_PORT:-24379}
api=$root/tests/integration/kube/apiserver.sh
trap finish EXIT
"$api" up >"$work/api.log" 2>&1 || {
    cat "$work/api.log"
    fail "API server"
    exit 1
}
export KUBECONFIG=$work/api/kubeconfig

# Client-side apply: each CRD has to fit into kubectl's annotation.
if kubectl apply -f "$root/crds/" >"$work/out" 2>&1 &&
    kubectl wait --for=condition=Established --timeout=30s crd --all >>"$work/out" 2>&1; then
    pass "$(grep -c created "$work/out") CRDs are taken by kubectl apply"
else
    cat "$work/out"
    fail "kubectl apply -f crds/"
fi
kubectl create ns shop >/dev/null
kubectl get crd -o json >"$work/crds.json"

# KIND GROUP PLURAL VERSION... of each CRD.
python3 - "$work/crds.json" >"$work/kinds" <<'P'
import json, sys
for crd in json.load(open(sys.argv[1]))["items"]:
    s = crd["spec"]
    print(s["names"]["kind"], s["group"], s["names"]["plural"], *(v["name"] for v in s["versions"] if v["served"]))
P

# --- examples, in every version
same() { # PLURAL.VERSION.GROUP: what the server holds of each object has the spec of the file
    python3 - "$1" "$work/sent.json" <<'P'
import json, subprocess, sys
text = open(sys.argv[2]).read()
decoder, at, sent = json.JSONDecoder(), 0, []
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    value, at = decoder.raw_decode(text, at)
    sent += value.get("items", [value])
for o in sent:
    ns = o["metadata"].get("namespace")
    got = json.loads(subprocess.check_output(
        ["kubectl", "get", sys.argv[1], o["metadata"]["name"], "-o", "json"] + (["-n", ns] if ns else [])))
    def within(a, b):  # defaults may be filled in
        if isinstance(a, dict):
            return isinstance(b, dict) and all(k in b and within(v, b[k]) for k, v in a.items())
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(within, a, b))
        return a == b
    if not within(o["spec"], got["spec"]):
        sys.exit(f"{o['kind']} {o['metadata']['name']}: sent {o['spec']}, held {got['spec']}")
P
}
while read -r kind group plural versions; do
    file=$root/examples/kinds/$(echo "$kind" | tr '[:upper:]' '[:lower:]').yaml
    if [ ! -r "$file" ]; then
        fail "$kind has an example"
        continue
    fi
    for sent in $versions; do
        sed "s|^apiVersion: $group/.*|apiVersion: $group/$sent|" "$file" >"$work/one.yaml"
        if ! kubectl apply --validate=strict -f "$work/one.yaml" >"$work/out" 2>&1 ||
            grep -qi warning "$work/out"; then
            cat "$work/out"
            fail "$kind $sent: strict apply"
            continue
        fi
        kubectl create --dry-run=client --validate=false -o json -f "$work/one.yaml" >"$work/sent.json"
        for read in $versions; do
            if same "$plural.$read.$group" >"$work/out" 2>&1; then
                pass "$kind applied as $sent reads the same as $read"
            else
                cat "$work/out"
                fail "$kind applied as $sent, read as $read"
            fi
        done
    done
done <"$work/kinds"

# --- every field that the programs read is in the schema: an object that sets all of them
for file in "$root"/tests/unit/mesh/api/every-field/*.yaml; do
    name=$(basename "$file" .yaml)
    kubectl apply -n shop --dry-run=server --validate=strict -f "$file" >"$work/out" 2>&1
    if grep -q 'unknown field' "$work/out"; then
        cat "$work/out"
        fail "$name: every field is in the schema"
    else
        pass "$name: every field is in the schema"
    fi
done

# --- what the schemas and their rules refuse, and with which words
refused() { # WORDS, manifest on standard input
    if kubectl apply -n shop --dry-run=server --validate=strict -f - >"$work/out" 2>&1; then
        fail "refused: $1"
    elif grep -qF "$1" "$work/out"; then
        pass "refused: $1"
    else
        cat "$work/out"
        fail "refused with the words: $1"
    fi
}
while IFS='|' read -r version kind spec words; do
    [ -n "$version" ] || continue
    printf 'apiVersion: %s\nkind: %s\nmetadata: {name: x}\nspec: %s\n' "$version" "$kind" "$spec" \
        >"$work/one.yaml"
    refused "$words" <"$work/one.yaml"
done <<'T'
networking.istio.io/v1|VirtualService|{hosts: [a], http: [{timout: 1s}]}|unknown field "spec.http[0].timout"
networking.istio.io/v1|VirtualService|{hosts: [a], http: [{match: [{uri: {exact: a, prefix: b}}]}]}|must have at most 1
networking.istio.io/v1|VirtualService|{hosts: a}|must be of type array
networking.istio.io/v1|VirtualService|{http: [{route: [{weight: 1}]}]}|destination: Required value
networking.istio.io/v1|DestinationRule|{subsets: []}|spec.host: Required value
networking.istio.io/v1|DestinationRule|{host: a, trafficPolicy: {tls: {mode: MAYBE}}}|supported values: "DISABLE", "SIMPLE"
networking.istio.io/v1|ServiceEntry|{hosts: []}|spec.hosts
networking.istio.io/v1|ServiceEntry|{hosts: [a.b], endpoints: [{address: 10.0.0.1}], workloadSelector: {labels: {a: b}}}|only one of workloadSelector and endpoints can be set
networking.istio.io/v1|ServiceEntry|{hosts: [a.b], resolution: NONE, endpoints: [{address: 10.0.0.1}]}|resolution NONE goes to the called address and takes no endpoints
networking.istio.io/v1|ServiceEntry|{hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: c.d}]}|takes one endpoint at most
networking.istio.io/v1|WorkloadEntry|{labels: {a: b}}|give an address
networking.istio.io/v1|WorkloadEntry|{address: "unix:///x", ports: {a: 1}}|a unix socket has no ports
networking.istio.io/v1|WorkloadGroup|{metadata: {}}|spec.template: Required value
networking.istio.io/v1|Sidecar|{egress: [{bind: 127.0.0.1}]}|hosts: Required value
networking.istio.io/v1|Gateway|{servers: [{hosts: [a]}]}|port: Required value
networking.istio.io/v1beta1|ProxyConfig|{concurrency: -1}|should be greater than or equal to 0
security.istio.io/v1|PeerAuthentication|{portLevelMtls: {"80": {mode: STRICT}}}|portLevelMtls needs a selector with matchLabels
security.istio.io/v1|AuthorizationPolicy|{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: s}]}|only one of selector, targetRef and targetRefs can be set
security.istio.io/v1|AuthorizationPolicy|{action: PERMIT}|supported values: "ALLOW", "DENY"
security.istio.io/v1|RequestAuthentication|{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: s}]}|only one of selector, targetRef and targetRefs can be set
telemetry.istio.io/v1|Telemetry|{tracing: [{randomSamplingPercentage: 101}]}|should be less than or equal to 100
tulle.dev/v1alpha1|Mesh|{}|the mesh of a cluster is named default
T

# --- names, categories, columns, the status subresource
for name in vs dr se we wg gw pa ap ra; do
    if kubectl get -n shop "$name" -o name >"$work/out" 2>&1 && [ -s "$work/out" ]; then
        pass "short name $name"
    else
        fail "short name $name"
    fi
done
n=$(kubectl get istio-io -n shop -o name 2>/dev/null | cut -d/ -f1 | sort -u | wc -l)
if [ "$n" -eq 15 ]; then pass "category istio-io lists $n kinds"; else fail "category istio-io lists $n kinds of 15"; fi
while read -r kind group plural _; do
    [ "$kind" != Mesh ] || continue
    if [[ $(kubectl get -n shop "$plural.$group") == *STATUS*PROXIES*AGE* ]]; then
        pass "$kind has columns STATUS and PROXIES"
    else
        fail "$kind has columns STATUS and PROXIES"
    fi
done <"$work/kinds"
kubectl patch -n shop vs cart --subresource=status --type=merge -p \
    '{"status": {"state": "Pending", "proxies": "1/2", "conditions": [{"type": "Accepted", "status": "True"}]}}' >/dev/null 2>&1
row=$(kubectl get -n shop vs cart --no-headers)
if [[ $row == *Pending*1/2* ]]; then pass "kubectl get vs shows the status"; else fail "kubectl get vs shows the status: $row"; fi
gen=$(kubectl get -n shop vs cart -o jsonpath='{.metadata.generation}')
kubectl patch -n shop vs cart --type=merge -p '{"status": {"state": "x"}}' >/dev/null 2>&1
if [ "$(kubectl get -n shop vs cart -o jsonpath='{.status.state}/{.metadata.generation}')" = "Pending/$gen" ]; then
    pass "the status is a subresource"
else
    fail "the status is a subresource"
fi
if [[ $(kubectl explain virtualservices.networking.istio.io --recursive 2>&1) == *"by its properties"*perTryTimeout* ]]; then
    pass "kubectl explain tells the fields"
else
    fail "kubectl explain tells the fields"
fi

# --- the operator judges them all; what it cannot do it says, and names what to do instead
kubectl create ns crds-system >/dev/null
POD_NAME=crds "$build/bin/tulle-operator" --namespace crds-system --port 26012 --address 127.0.0.1 \
    --monitoring-port 26014 >"$work/operator.log" 2>&1 &
pid=$!
judged() { # PLURAL.GROUP NAME WANT: Accepted's status/reason within 15 s
    local end=$((SECONDS + 15)) got=''
    while [ $SECONDS -lt $end ]; do
        got=$(kubectl get -n shop "$1" "$2" \
            -o 'jsonpath={.status.conditions[?(@.type=="Accepted")].status}/{.status.conditions[?(@.type=="Accepted")].reason}')
        # shellcheck disable=SC2053 # WANT is a pattern
        [[ $got == $3 ]] && break
        sleep 0.2
    done
    # shellcheck disable=SC2053
    if [[ $got == $3 ]]; then pass "status of $1 $2 is $got"; else fail "status of $1 $2 is $got, not $3"; fi
}
while read -r kind group plural _; do
    [ "$kind" != Mesh ] || continue
    want='True/*'
    grep -q "^| $kind | reported |" "$root/docs/support.md" && want=False/UnsupportedKind
    for name in $(kubectl get -n shop "$plural.$group" -o 'jsonpath={.items[*].metadata.name}'); do
        judged "$plural.$group" "$name" "$want"
    done
done <"$work/kinds"
timing=$(IT_ETCD_PORT=$IT_ETCD_PORT "$here/second.py" "$work/api" shop <"$work/kinds" 2>&1)
echo "$timing"
failures=$((failures + $(grep -c '^FAIL' <<<"$timing")))
[[ $timing == *"make no Event"* ]] || fail "the times of statuses"
# The columns tell what the operator found: the reason, and proxies of proxies (there are none here).
while read -r kind group plural _; do
    [ "$kind" != Mesh ] || continue
    while read -r name state proxies; do
        row=$(kubectl get -n shop "$plural.$group" "$name" --no-headers)
        if [[ $state =~ ^[A-Z][A-Za-z]+$ && $proxies = 0/0 && " $(tr -s ' ' <<<"$row") " == *" $state 0/0 "* ]]; then
            pass "kubectl get $plural $name: $state $proxies"
        else
            fail "kubectl get $plural $name: $row, for $state $proxies"
        fi
    done < <(kubectl get -n shop "$plural.$group" \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.status.state} {.status.proxies}{"\n"}{end}')
done <"$work/kinds"
message=$(kubectl get -n shop envoyfilter json-access-log \
    -o 'jsonpath={.status.conditions[?(@.type=="Accepted")].message}')
if [[ $message == *Mesh.spec.accessLog* ]]; then
    pass "an EnvoyFilter is told the native field"
else
    fail "an EnvoyFilter is told the native field: $message"
fi
row=$(kubectl get -n shop ra cart --no-headers)
if [[ $row == *UnsupportedKind* ]]; then pass "kubectl get ra shows it"; else fail "kubectl get ra: $row"; fi
# What an object names may come and go: its status follows, without a proxy that asks.
resolved() { # WANT, NAME
    local end=$((SECONDS + 15)) got=''
    while [ $SECONDS -lt $end ]; do
        got=$(kubectl get -n shop vs cart -o 'jsonpath={.status.conditions[?(@.type=="ResolvedRefs")].status} {.status.state}')
        [ "$got" != "$1" ] || break
        sleep 0.2
    done
    if [ "$got" = "$1" ]; then pass "$2"; else fail "$2: $got"; fi
}
resolved 'False ReferenceNotFound' "a host that is not there is named in the status"
for service in cart:80,443 cache:6379 cache-new:6379; do
    ports=''
    for port in $(tr , ' ' <<<"${service#*:}"); do ports+="{name: http-$port, port: $port}, "; done
    printf 'apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: x}, ports: [%s]}\n' \
        "${service%:*}" "${ports%, }" | kubectl apply -n shop -f - >/dev/null
done
resolved 'True NoInterestedProxy' "the hosts came: the references resolve"
kubectl delete -n shop dr cart >/dev/null
resolved 'False ReferenceNotFound' "the subsets went: that is named"
[ "$failures" -eq 0 ] || tail -20 "$work/operator.log"
[ "$failures" -eq 0 ]
