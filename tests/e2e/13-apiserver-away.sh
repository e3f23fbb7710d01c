# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The API server is killed and its history compacted: no endpoint is dropped, all recovers by itself.
# e2e: alone

if ! ours; then
    skip "API server killed" "disturbs the control plane"
    exit 0
fi
need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
probe=$(pod_of "$SHOP" app=probe)
out=/tmp/load.json

# kubectl exec would die with the API server: the load runs on in its pod.
load_in_pod() {
    kubectl exec -n "$SHOP" "$loader" -c load -- sh -c \
        "rm -f $out; (load --rate 100 --seconds 25 http://frontend/ >$out 2>&1 &)"
}
load_result() { kubectl exec -n "$SHOP" "$loader" -c load -- cat "$out" | tee "$E2E_DIR/api.json"; }
has_result() { load_result | grep -q '"requests"'; }
operator_restarts() {
    k get pods -n "$SYSTEM" -o json | jq '[.items[].status.containerStatuses[].restartCount] | add'
}
teapot() {
    apply "$SHOP" /dev/stdin >/dev/null <<'Y'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment}
spec:
  hosts: [payment]
  http:
    - match: [{uri: {exact: /teapot}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
      route: [{destination: {host: payment}}]
    - route: [{destination: {host: payment}}]
Y
}

roll_order() {
    k rollout restart deployment -n "$SHOP" order-v1 >/dev/null && settled "$SHOP" &&
        eventually 20 answers 200 "$SHOP" "$probe" http://order/
}

check "warm" eventually 20 answers 200 "$SHOP" "$probe" http://frontend/
restarts=$(operator_restarts)
check "load starts" load_in_pod
sleep 2
check "history is compacted" tests/cluster/fault.sh etcd-compact
check "the API server is killed" tests/cluster/fault.sh apiserver-stop
check "(it does not answer)" not k get --raw /readyz
sleep 6
check "and started again" tests/cluster/fault.sh apiserver-start
check "the load ended" eventually 60 has_result
check "not one of its requests failed" no_failure "$E2E_DIR/api.json"
check "the operator was not restarted" same "$(operator_restarts)" "$restarts"
check "a rule is applied" teapot
check "and reaches the proxies" eventually 30 answers 418 "$SHOP" "$probe" http://payment/teapot
check "endpoints are followed again" roll_order
no_policies
