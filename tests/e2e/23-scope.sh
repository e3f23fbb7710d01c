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

# TLS of the sidecar's own, for who is outside of the mesh; and a port that the sidecar opens itself.
dir=$E2E_DIR/scope
mkdir -p "$dir"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=order" -addext \
    "subjectAltName=DNS:order.example.com" -keyout "$dir/tls.key" -out "$dir/tls.crt" 2>/dev/null
k delete secret -n "$SHOP" order-cert --ignore-not-found >/dev/null
k create secret tls order-cert -n "$SHOP" --cert "$dir/tls.crt" --key "$dir/tls.key" >/dev/null
from_outside() { # PORT: from the node, which is in no mesh
    curl -sS -o /dev/null -w '%{http_code}' --max-time 5 --cacert "$dir/tls.crt" \
        --connect-to "order.example.com:443:$(pod_ip "$SHOP" "$order"):$1" https://order.example.com/ 2>/dev/null
}
is_outside() { same "$(from_outside 8443)" "$1"; }
# (It stays: an operator that reads on behind it would be refused, which 99-uninstall looks for.)
check "a Role lets the operator read Secrets there" apply "$SHOP" /dev/stdin <<Y
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: order-cert}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: order-cert}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: order-cert}
subjects: [{kind: ServiceAccount, name: tulle-operator, namespace: $SYSTEM}]
Y
check "it is in force" eventually 10 k auth can-i list secrets -n "$SHOP" \
    --as "system:serviceaccount:$SYSTEM:tulle-operator" -q
check "order's sidecar is to end TLS at 8443, probe's to listen at 127.0.0.1:9080" apply "$SHOP" /dev/stdin <<Y
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: order}
spec:
  workloadSelector: {labels: {app: order}}
  ingress:
  - port: {number: 8443, protocol: HTTPS, name: https}
    defaultEndpoint: 127.0.0.1:8080
    tls: {mode: SIMPLE, credentialName: order-cert}
  - {port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8080"}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: order}
spec: {selector: {matchLabels: {app: order}}, portLevelMtls: {8443: {mode: DISABLE}}}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: frontend}, ports: [{name: http, port: 9080, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: probe}
spec:
  workloadSelector: {labels: {app: probe}}
  egress:
  - {port: {number: 9080, protocol: HTTP, name: front}, captureMode: NONE, bind: 127.0.0.1, hosts: ["./front.$SHOP.svc.cluster.local"]}
  - {hosts: ["./*"]}
Y
check "https from outside of the mesh is answered" eventually 30 is_outside 200
check "the mesh's own calls as before" answers 200 "$SHOP" "$front" http://order/
check "probe calls frontend by the port on its loopback" eventually 10 answers 200 "$SHOP" "$probe" \
    http://127.0.0.1:9080/ -H "Host: front:9080"
check "another host is not found there" answers 404 "$SHOP" "$probe" http://127.0.0.1:9080/ -H "Host: order"
check "order by redirection is" answers 200 "$SHOP" "$probe" http://order/
k delete -n "$SHOP" sidecars.networking.istio.io/order sidecars.networking.istio.io/probe \
    peerauthentications.security.istio.io/order secret/order-cert service/front >/dev/null
check "the port on loopback is closed again" eventually 10 answers 000 "$SHOP" "$probe" http://127.0.0.1:9080/
