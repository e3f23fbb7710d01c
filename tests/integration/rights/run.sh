#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Least rights: operator, injector and cleanup run as the ServiceAccounts of manifests/install.yaml and the
# chart, against an API server of this test's own that keeps an audit log. Nothing that they ask is refused,
# and there is no verb in their roles that they do not use.
# usage: run.sh BUILD_DIR
# shellcheck disable=SC2015,SC2016,SC2317 # conditions are evaluated later, helpers called by name
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$1
work=$(mktemp -d)
pids=() failures=0 sys=tulle-system mon=29014

pass() { echo "PASS rights: $*"; }
fail() {
    echo "FAIL rights: $*"
    failures=$((failures + 1))
}
expect() { # NAME CONDITION [SECONDS], within 10 s
    local end=$((SECONDS + ${3:-10}))
    until eval "$2" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { fail "$1"; return; }
        sleep 0.2
    done
    pass "$1"
}
finish() {
    local p
    for p in "${pids[@]+"${pids[@]}"}"; do kill "$p" 2>/dev/null; done
    "$api" down >/dev/null 2>&1
    [ "$failures" -eq 0 ] || tail -n 30 "$work/log"
    rm -rf "$work"
}
eval "$(TULLE_CLUSTER_DIR='' "$root/tests/cluster/env.sh" 2>/dev/null)" || true
for tool in kubectl helm; do
    command -v $tool >/dev/null || { echo "SKIP rights: no $tool"; exit 0; }
done
export TULLE_CLUSTER_DIR=$work/api IT_ETCD_PORT=${IT_ETCD_PORT:-28379}
api=$root/tests/integration/kube/apiserver.sh
trap finish EXIT
cat >"$work/audit.yaml" <<'Y'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:tulle-system"]
- level: None
Y
"$api" up --audit-policy-file "$work/audit.yaml" --audit-log-path "$work/audit.log" >"$work/api.log" 2>&1 || {
    cat "$work/api.log"
    fail "API server"
    exit 1
}
export KUBECONFIG=$work/api/kubeconfig
kubectl create ns $sys >/dev/null && kubectl create ns shop >/dev/null || fail "namespaces"
kubectl apply -f "$root/crds/" >/dev/null || fail "CRDs"

# The rights alone, as they are installed.
python3 - "$root/manifests/install.yaml" "$work" <<'P'
import re, sys
docs = re.split(r"(?m)^---\n", open(sys.argv[1]).read())
kind = lambda d: (re.search(r"(?m)^kind: (\w+)", d) or [0, ""])[1]
for name, kinds in ("rights", ("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")), \
                   ("hooks", ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")):
    open(f"{sys.argv[2]}/{name}.yaml", "w").write("---\n".join(d for d in docs if kind(d) in kinds))
P
helm template tulle "$root/manifests/charts/tulle" -n $sys --show-only templates/cleanup.yaml >"$work/cleanup.yaml" ||
    fail "helm template"
python3 - "$work/cleanup.yaml" <<'P'
import re, sys
docs = re.split(r"(?m)^---\n", open(sys.argv[1]).read())
open(sys.argv[1], "w").write("---\n".join(d for d in docs if not re.search(r"(?m)^kind: Job", d)))
P
kubectl apply -f "$work/rights.yaml" -f "$work/cleanup.yaml" >"$work/out" || fail "rights: $(cat "$work/out")"
as() { # ACCOUNT PROGRAM...: with that account's token and no other credential
    local account=$1 token
    shift
    token=$(kubectl create token -n $sys "$account" --duration 1h)
    sed "s|it-admin-token|$token|" "$KUBECONFIG" >"$work/$account.kubeconfig"
    KUBECONFIG=$work/$account.kubeconfig POD_NAME=rights POD_NAMESPACE=$sys "$@" >>"$work/log" 2>&1 &
    pid=$!
    pids+=("$pid")
}
operator() {
    as tulle-operator "$build/bin/tulle-operator" --namespace $sys --port 29012 --address 127.0.0.1 --monitoring-port $mon
}

# --- all that the operator does
operator
expect "the operator is ready" "curl -fs http://127.0.0.1:$mon/readyz"
expect "Mesh has a status" '[ "$(kubectl get mesh default -o "jsonpath={.status.conditions[0].type}")" = Ready ]'
for file in "$root"/examples/kinds/*.yaml; do
    grep -q '^kind: Mesh' "$file" || kubectl apply -f "$file" >/dev/null || fail "$file"
done
without() {
    kubectl get istio-io -n shop -o json | python3 -c 'import json, sys
print(*sorted(o["kind"] for o in json.load(sys.stdin)["items"] if not o.get("status", {}).get("conditions")))'
}
expect "every kind's status is written" '[ -z "$(without)" ]'
kubectl label ns shop istio-injection=enabled >/dev/null
expect "the root bundle is there" 'kubectl get cm -n shop istio-ca-root-cert'
kubectl patch cm -n shop istio-ca-root-cert --type merge -p '{"data":{"root-cert.pem":"spoiled"}}' >/dev/null
expect "it is put right" 'kubectl get cm -n shop istio-ca-root-cert -o jsonpath={.data} | grep -q BEGIN'
kubectl label ns shop istio-injection- >/dev/null
expect "it goes with the label" '! kubectl get cm -n shop istio-ca-root-cert'
kubectl label ns shop istio-injection=enabled >/dev/null
expect "and comes back" 'kubectl get cm -n shop istio-ca-root-cert'
kubectl apply -f "$work/hooks.yaml" >/dev/null || fail "webhook configurations"
bundles() {
    kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations -o json | python3 -c 'import json, sys
print(sum(not w["clientConfig"].get("caBundle") for c in json.load(sys.stdin)["items"] for w in c["webhooks"]))'
}
expect "the webhooks' bundles are written" '[ "$(bundles)" = 0 ]'
kubectl delete -f "$work/hooks.yaml" >/dev/null
kubectl patch mesh default --type merge -p '{"spec":{"proxy":{"logLevel":"debug"},"mtls":{"rootRotation":{"minStep":"1s"}}}}' >/dev/null
expect "the injector's settings follow" 'kubectl get cm -n $sys tulle-injector -o jsonpath={.data.settings} | grep -q debug'
timeout 60 "$build/bin/tulle" ca rotate >"$work/rotate.log" 2>&1 && pass "the CA changes" ||
    fail "tulle ca rotate: $(cat "$work/rotate.log")"
"$root/tests/integration/operator/build.sh" "$build" "$work/proxy" >"$work/out" 2>&1 || fail "test client: $(cat "$work/out")"
kubectl create sa -n shop front >/dev/null
kubectl apply -n shop -f - >/dev/null <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: front-1, labels: {app: front}}
spec: {serviceAccountName: front, containers: [{name: a, image: none.invalid/none}]}
Y
kubectl create token -n shop front --audience istio-ca >"$work/token"
kubectl get secret -n $sys tulle-ca -o 'jsonpath={.data.root-cert\.pem}' | base64 -d >"$work/root.pem"
"$work/proxy" 127.0.0.1:29012 tulle-operator.$sys.svc "$work/root.pem" "$work/token" \
    spiffe://cluster.local/ns/shop/sa/front shop front-1 cart.shop.svc.cluster.local:80 0 >"$work/proxy.log" 2>&1
grep -q '^certificate ' "$work/proxy.log" && pass "a proxy gets its certificate" || fail "proxy: $(cat "$work/proxy.log")"
kill -TERM "$pid"
wait "$pid"
# An API server that does not stream lists: they are asked for.
"$api" stop
"$api" start --audit-policy-file "$work/audit.yaml" --audit-log-path "$work/audit.log" \
    --feature-gates=WatchList=false >>"$work/api.log" 2>&1 || fail "API server without WatchList"
operator
expect "a restarted operator is ready" "curl -fs http://127.0.0.1:$mon/readyz" 30
expect "and has read its own objects" '[ "$(grep tulle-system:tulle-operator "$work/audit.log" | grep "\"verb\":\"list\"" | grep -c "\"namespace\":\"tulle-system\"")" -ge 2 ]'
kill -TERM "$pid"
wait "$pid"

# --- injector and cleanup
as tulle-injector "$build/bin/tulle-injector" --port 0 --namespace $sys --linger-ms 100
expect "the injector reads both of its objects" '[ "$(grep tulle-system:tulle-injector "$work/audit.log" | grep -c "\"verb\":\"watch\"")" -ge 2 ]'
kill -TERM "$pid"
wait "$pid"
kubectl apply -n $sys -f - >/dev/null <<'Y'
apiVersion: apps/v1
kind: Deployment
metadata: {name: tulle-operator}
spec:
  replicas: 1
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: a, image: none.invalid/none}]}
Y
as tulle-cleanup "$build/bin/tulle-operator" cleanup --namespace $sys
wait "$pid" && pass "cleanup ends well" || fail "cleanup"
expect "and leaves nothing" '! kubectl get mesh default && ! kubectl get secret -n $sys tulle-ca && ! kubectl get cm -n shop istio-ca-root-cert'

# --- what was used of what was given
kubectl get roles,clusterroles -A -o json >"$work/roles.json"
sleep 1
python3 - "$work/roles.json" "$work/audit.log" <<'P' || failures=$((failures + 1))
import json, sys
used, refused = set(), set()
for line in open(sys.argv[2]):
    e = json.loads(line)
    account = e["user"]["username"].rsplit(":", 1)[1]
    o = e.get("objectRef")
    if not o:
        continue
    resource = o["resource"] + ("/" + o["subresource"] if "subresource" in o else "")
    one = account, o.get("apiGroup", ""), resource, e["verb"]
    if e.get("responseStatus", {}).get("code") == 403:
        refused.add((*one, o.get("namespace", ""), o.get("name", "")))
    verbs = [e["verb"]]
    if e["verb"] == "patch" and e.get("responseStatus", {}).get("code") == 201:
        verbs.append("create")  # an apply that creates is asked for both
    for verb in verbs:
        used.add((*one[:3], verb, o.get("name", "")))
        used.add((*one[:3], verb))
# An Event's count is written at most once a minute: tests/unit/lib/kube has it.
used.add(("tulle-operator", "events.k8s.io", "events", "patch"))
rows = bad = 0
for role in json.load(open(sys.argv[1]))["items"]:
    account = role["metadata"]["name"]
    if account not in ("tulle-operator", "tulle-injector", "tulle-cleanup"):
        continue
    unused = []
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [None]):
                        rows += 1
                        one = (account, group, resource, verb) + ((name,) if name else ())
                        if one not in used:
                            unused.append(" ".join(x for x in (verb, group, resource, name) if x))
    bad += len(unused)
    print(f"FAIL rights: {role['kind']} {account} gives what is not used: {', '.join(unused)}" if unused else
          f"PASS rights: {role['kind']} {account} gives nothing that is not used")
print(f"FAIL rights: refused: {sorted(refused)}" if refused else
      f"PASS rights: {len(used)} kinds of request were asked, none was refused")
sys.exit(bool(refused or bad) or rows < 50)
P
[ "$failures" -eq 0 ]
