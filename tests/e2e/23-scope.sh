# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A Sidecar says what its workload sees, and where its application is.

need_shop || { fail "fixtures"; exit 1; }
no_policies
front=$(pod_of "$SHOP" app=frontend)
probe=$(pod_of "$SHOP" app=probe)
order=$(pod_of "$SHOP" app=order)

check "before: probe may call order" eventually 15 answers 200 "$SHOP" "$probe" http://order/
check "a Sidecar lets probe see frontend alone" apply "$SHOP" /dev/stdin <<Y
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: probe}
spec:
  workloadSelector: {labels: {app: probe}}
  egress: [{hosts: ["./frontend.$SHOP.svc.cluster.local"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
Y
check "order is unknown to it" eventually 5 answers 502 "$SHOP" "$probe" http://order/
check "by the pod's address, too" answers 502 "$SHOP" "$probe" "http://$(pod_ip "$SHOP" "$order"):8080/"
check "frontend is known" answers 200 "$SHOP" "$probe" http://frontend/
check "frontend itself sees order as before" answers 200 "$SHOP" "$front" http://order/
check "the Sidecar is accepted" eventually 10 is_true "$SHOP" sidecars.networking.istio.io probe Accepted
check "and acknowledged by probe's proxy" eventually 10 programmed "$SHOP" sidecars.networking.istio.io probe
check "a Sidecar leads what comes to order to its loopback" apply "$SHOP" /dev/stdin <<Y
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: order}
spec:
  workloadSelector: {labels: {app: order}}
  ingress: [{port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8080"}]
Y
check "its proxy has it" eventually 10 programmed "$SHOP" sidecars.networking.istio.io order
check "calls are answered" throughout 2 answers 200 "$SHOP" "$front" http://order/
check "they are taken away" k delete -n "$SHOP" sidecars.networking.istio.io probe order
check "probe sees order again" eventually 5 answers 200 "$SHOP" "$probe" http://order/
