# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The operator is killed and stays away for a while: traffic goes on; a new pod waits, and comes up by
# itself when the operator is back. E2E_AWAY=600 for so many seconds more without it.
# e2e: alone

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
probe=$(pod_of "$SHOP" app=probe)
out=$E2E_DIR/away.json

operator_off() {
    k scale deployment -n "$SYSTEM" tulle-operator --replicas 0 >/dev/null
    k delete pod -n "$SYSTEM" -l app.kubernetes.io/component=operator --force --grace-period 0 \
        >/dev/null 2>&1
    eventually 30 same "$(k get pods -n "$SYSTEM" -l app.kubernetes.io/component=operator -o name |
        wc -l)" 0
}
operator_on() {
    k scale deployment -n "$SYSTEM" tulle-operator --replicas 1 >/dev/null &&
        rollout "$SYSTEM" tulle-operator
}
late_pod() {
    caller_yaml late "$PROBE_IMAGE" | k apply -n "$SHOP" -f - >/dev/null
    eventually 20 late_has_started
}
late_name() {
    k get pods -n "$SHOP" -l app=late -o jsonpath='{.items[0].metadata.name}'
}
late_has_started() {
    k get pod -n "$SHOP" "$(late_name)" -o json | jq -e '[.status.initContainerStatuses[]?,
        .status.containerStatuses[]?] | any(.[]; .name == "istio-proxy" and .state.running)' >/dev/null
}
late_is_ready() {
    k get pod -n "$SHOP" "$(late_name)" -o json |
        jq -e 'any(.status.conditions[]; .type == "Ready" and .status == "True")' >/dev/null
}
crashes() {
    k get pods -n "$SHOP" -o json | jq '[.items[] | (.status.containerStatuses // [],
        .status.initContainerStatuses // []) | .[].restartCount] | add'
}

rule_arrives() {
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
    answers 418 "$SHOP" "$probe" http://payment/teapot
}

# A service that no proxy of the shop has called yet; they know that it is one of the cluster's.
stranger() {
    k apply -n "$BARE" -f - >/dev/null <<'Y'
apiVersion: v1
kind: Service
metadata: {name: stranger}
spec:
  selector: {app: hello}
  ports: [{name: http, port: 80, targetPort: 8080}]
Y
}

check "a service that nobody has called" stranger
check "warm" eventually 20 answers 200 "$SHOP" "$probe" http://frontend/
restarts=$(crashes)
away=${E2E_AWAY:-0}
load_start "$out" "$SHOP" "$loader" --rate 100 --seconds $((45 + away)) http://frontend/
sleep 1
check "the operator is killed" operator_off
check "traffic goes on" throughout 4 answers 200 "$SHOP" "$probe" http://frontend/
check "a service that its proxy has not learnt is not guessed at: 503" answers 503 "$SHOP" "$probe" \
    "http://stranger.$BARE/"
check "a new pod is made meanwhile" late_pod
check "and waits" throughout 4 not late_is_ready
[ "$away" = 0 ] || check "for $away s" throughout "$away" answers 200 "$SHOP" "$probe" http://frontend/
check "the operator comes back" operator_on
check "the waiting pod recovers by itself" eventually 40 late_is_ready
check "and can call" eventually 20 answers 200 "$SHOP" "$(late_name)" http://frontend/
check "the service is learnt now" eventually 20 answers 200 "$SHOP" "$probe" "http://stranger.$BARE/"
k delete service -n "$BARE" stranger >/dev/null
check "rules reach the old proxies again" eventually 5 rule_arrives
check "the load ended" load_end "$out" $((90 + away))
check "not one of its requests failed" no_failure "$out"
check "no container was restarted" same "$(crashes)" "$restarts"
k delete deployment -n "$SHOP" late --wait=false >/dev/null 2>&1
no_policies
