#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Definitions that a real Istio left behind: statuses of which the schema keeps only what Istio knows, no
# columns of ours, in some kinds older versions alone, one kind not at all. All works with them as well.
# usage: run.sh BUILD_DIR
# shellcheck disable=SC2015,SC2016,SC2317 # conditions are evaluated later, helpers called by name
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$1
work=$(mktemp -d)
pid='' failures=0 sys=istio-crds-system

pass() { echo "PASS istio-crds: $*"; }
fail() {
    echo "FAIL istio-crds: $*"
    failures=$((failures + 1))
}
expect() { # NAME CONDITION, within 10 s
    local end=$((SECONDS + 10))
    until eval "$2" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { fail "$1"; return; }
        sleep 0.2
    done
    pass "$1"
}
finish() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null
    "$api" down >/dev/null 2>&1
    [ "$failures" -eq 0 ] || tail -n 30 "$work/log"
    rm -rf "$work"
}
if ! command -v kubectl >/dev/null && [ -r "$root/tests/cluster/env.sh" ]; then
    eval "$(TULLE_CLUSTER_DIR='' "$root/tests/cluster/env.sh" 2>/dev/null)" || true
fi
if ! command -v kubectl >/dev/null; then
    echo "SKIP istio-crds: no kubectl"
    exit 0
fi
export TULLE_CLUSTER_DIR=$work/api IT_ETCD_PORT=${IT_ETCD_PORT:-25379}
api=$root/tests/integration/kube/apiserver.sh
trap finish EXIT
"$api" up >"$work/api.log" 2>&1 || {
    cat "$work/api.log"
    fail "API server"
    exit 1
}
export KUBECONFIG=$work/api/kubeconfig

# Ours, made over as theirs.
kubectl create --dry-run=client --validate=false -o json -f "$root/crds/" >"$work/crds.json" || fail "crds/"
python3 - "$work/crds.json" "$work/theirs.json" "$work/late.json" <<'P'
import json, sys
OLD = {"virtualservices": ["v1beta1", "v1alpha3"], "authorizationpolicies": ["v1beta1"], "telemetries": ["v1alpha1"]}
text = {"type": "string"}
number = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
fields = lambda **f: {"type": "object", "properties": f}
some = lambda of: {"type": "array", "items": of}
STATUS = fields(
    conditions=some(fields(type=text, status=text, reason=text, message=text, observedGeneration=number,
                           lastTransitionTime={"type": "string", "format": "date-time"})),
    observedGeneration=number,
    validationMessages=some(fields(documentationUrl=text, type=fields(code=text, name=text),
                                   level={"type": "string", "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"]})))
STATUS["x-kubernetes-preserve-unknown-fields"] = True
decoder, at, theirs, late = json.JSONDecoder(), 0, [], []
whole = open(sys.argv[1]).read()
while whole[at:].strip():
    at += len(whole[at:]) - len(whole[at:].lstrip())
    value, at = decoder.raw_decode(whole, at)
    for crd in value.get("items", [value]):
        spec = crd["spec"]
        crd = {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "spec": spec,
               "metadata": {"name": crd["metadata"]["name"], "labels": {"app": "istio-pilot"}}}
        if spec["group"].endswith("istio.io"):
            names = OLD.get(spec["names"]["plural"])
            if names:
                spec["versions"] = [v for v in spec["versions"] if v["name"] in names]
                for v in spec["versions"]:
                    v["storage"] = v["name"] == names[0]
            for v in spec["versions"]:
                v["schema"]["openAPIV3Schema"]["properties"]["status"] = STATUS
                v.pop("additionalPrinterColumns", None)
        (late if spec["names"]["kind"] == "TrafficExtension" else theirs).append(crd)
for name, crds in zip(sys.argv[2:], (theirs, late)):
    json.dump({"apiVersion": "v1", "kind": "List", "items": crds}, open(name, "w"))
P
if kubectl apply --server-side -f "$work/theirs.json" >"$work/out" 2>&1 &&
    kubectl wait --for=condition=Established --timeout=30s crd --all >>"$work/out" 2>&1; then
    pass "$(grep -c serverside-applied "$work/out") definitions"
else
    cat "$work/out"
    fail "definitions"
fi
for n in "$sys" shop; do kubectl create ns "$n" >/dev/null || fail "namespace $n"; done
# Each kind's example, in a version that is there.
while read -r kind group version; do
    file=$root/examples/kinds/$(echo "$kind" | tr '[:upper:]' '[:lower:]').yaml
    sed "s|^apiVersion: $group/.*|apiVersion: $group/$version|" "$file" | kubectl apply -f - >"$work/out" 2>&1 ||
        { cat "$work/out"; fail "example of $kind"; }
done < <(kubectl get crds -o json | python3 -c 'import json, sys
for c in json.load(sys.stdin)["items"]:
    if c["spec"]["group"].endswith("istio.io"):
        print(c["spec"]["names"]["kind"], c["spec"]["group"], c["spec"]["versions"][0]["name"])')
kubectl apply -n shop -f - >/dev/null <<'Y' || fail "objects"
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: warned}
spec:
  hosts: [warned.example.com]
  http: [{match: [{statPrefix: a}], route: [{destination: {host: outside.example.com}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.example.com]
  ports: [{number: 5432, name: tcp-pg, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.9}]
Y

POD_NAME=istio-crds "$build/bin/tulle-operator" --namespace $sys --port 28012 --address 127.0.0.1 \
    --monitoring-port 28014 >"$work/log" 2>&1 &
pid=$!
expect "the operator is ready" 'curl -fs http://127.0.0.1:28014/readyz'
without() { # objects of which no condition Accepted tells
    kubectl get istio-io -n shop -o json | python3 -c 'import json, sys
print(*sorted(o["kind"] + "/" + o["metadata"]["name"] for o in json.load(sys.stdin)["items"]
              if not any(c["type"] == "Accepted" for c in o.get("status", {}).get("conditions", []))))'
}
expect "each of $(kubectl get istio-io -n shop -o name | wc -l) objects has a status" '[ -z "$(without)" ]'
[ -z "$(without)" ] || echo "without: $(without)"
of() { kubectl get -n shop "$1" -o "jsonpath=$2"; }
expect "a VirtualService without v1 is seen" '[ "$(of vs/warned "{.status.conditions[?(@.type==\"Accepted\")].reason}")" = AcceptedWithWarnings ]'
expect "what the schema cuts from messages the condition says" 'of vs/warned "{.status.conditions[?(@.type==\"Accepted\")].message}" | grep -q "statPrefix: is not implemented"'
expect "codes are there" 'of vs/warned "{.status.validationMessages[*].type.code}" | grep -q TUL0001'
[ -z "$(of vs/warned '{.status.validationMessages[*].message}')" ] && pass "(the schema does cut)" || fail "the schema does not cut"
expect "a ServiceEntry has its address" 'of se/outside "{.status.addresses[0].value}" | grep -q ^240.240'
wrote() { curl -fs http://127.0.0.1:28014/metrics | awk '/^rest_client_requests_total.*PATCH/ { n += $NF } END { print n + 0 }'; }
sleep 3
before=$(wrote)
kubectl label -n shop vs/warned touched=yes >/dev/null
sleep 4
after=$(wrote)
if [ "$before" -gt 0 ] && [ "$before" = "$after" ]; then
    pass "settled statuses are not written again"
else
    fail "settled statuses are written again: $before, then $after"
fi
kill -TERM "$pid"
wait "$pid"
pid=''
kubectl apply --server-side -f "$work/late.json" >/dev/null &&
    kubectl wait --for=condition=Established --timeout=30s crd --all >/dev/null || fail "the kind that was not there"
kubectl apply -f "$root/examples/kinds/trafficextension.yaml" >/dev/null || fail "example of TrafficExtension"
POD_NAME=istio-crds "$build/bin/tulle-operator" --namespace $sys --port 28012 --address 127.0.0.1 \
    --monitoring-port 28014 >>"$work/log" 2>&1 &
pid=$!
expect "a kind that came later has statuses, too" '[ -z "$(without)" ]'
[ "$failures" -eq 0 ]
