# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A peer with a valid certificate of the wrong service account is refused by client and by server. The
# certificates are signed by the mesh's own CA, so that nothing but the name in them is wrong; each
# refusal stands beside the same call with the right name, which passes.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)
work=$E2E_DIR/pki
rm -rf "$work"
mkdir -p "$work"

mesh_ca() {
    local f
    for f in ca-cert.pem ca-key.pem root-cert.pem; do
        k get secret -n "$SYSTEM" tulle-ca -o json | jq -r --arg f "$f" '.data[$f]' | base64 -d \
            >"$work/$f" || return 1
    done
    openssl x509 -in "$work/ca-cert.pem" -noout
}
other_ca() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /O=cluster.local \
        -addext basicConstraints=critical,CA:TRUE -keyout "$work/other-key.pem" \
        -out "$work/other-cert.pem" 2>/dev/null
}
issue() { # NAME URI [CA-CERT CA-KEY]: a leaf as the mesh's CA makes them
    local ca=${3:-ca-cert.pem} key=${4:-ca-key.pem}
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O= \
        -keyout "$work/$1.key" -out "$work/$1.csr" 2>/dev/null &&
        printf 'subjectAltName=critical,URI:%s\nkeyUsage=critical,digitalSignature\n%s\n' "$2" \
            'extendedKeyUsage=serverAuth,clientAuth' >"$work/$1.ext" &&
        openssl x509 -req -in "$work/$1.csr" -CA "$work/$ca" -CAkey "$work/$key" -days 1 \
            -set_serial "0x$(openssl rand -hex 8)" -extfile "$work/$1.ext" -out "$work/$1.pem" \
            2>/dev/null
}
make_certificates() {
    mesh_ca && other_ca &&
        issue vault "spiffe://cluster.local/ns/$SHOP/sa/vault" &&
        issue intruder "spiffe://cluster.local/ns/$SHOP/sa/intruder" &&
        issue payment "spiffe://cluster.local/ns/$SHOP/sa/payment" &&
        issue frontend "spiffe://cluster.local/ns/$SHOP/sa/frontend" &&
        issue elsewhere "spiffe://elsewhere.example/ns/$SHOP/sa/payment" &&
        issue forged "spiffe://cluster.local/ns/$SHOP/sa/payment" other-cert.pem other-key.pem
}
# A server without sidecar that speaks mutual TLS itself, as service account vault, with the
# certificate of NAME.
vault_with() { # NAME
    k create secret generic -n "$SHOP" vault-tls --dry-run=client -o yaml \
        --from-file=tls.crt="$work/$1.pem" --from-file=tls.key="$work/$1.key" \
        --from-file=ca.crt="$work/root-cert.pem" | k apply -f - >/dev/null &&
        k apply -n "$SHOP" -f - >/dev/null <<Y
apiVersion: v1
kind: ServiceAccount
metadata: {name: vault}
---
apiVersion: v1
kind: Service
metadata: {name: vault}
spec:
  selector: {app: vault}
  ports: [{name: http, port: 80, targetPort: 8443}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: vault}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: vault}}
  template:
    metadata:
      labels: {app: vault, sidecar.istio.io/inject: "false", security.istio.io/tlsMode: istio}
      annotations: {certificate: $1}
    spec:
      serviceAccountName: vault
      terminationGracePeriodSeconds: 0
      volumes: [{name: tls, secret: {secretName: vault-tls}}]
      containers:
        - name: vault
          image: $PROBE_IMAGE
          imagePullPolicy: IfNotPresent
          command: [openssl, s_server, -accept, "8443", -www, -tls1_3, -Verify, "2",
            -cert, /tls/tls.crt, -key, /tls/tls.key, -CAfile, /tls/ca.crt,
            -alpn, "istio-http/1.1,istio"]
          volumeMounts: [{name: tls, mountPath: /tls}]
Y
    rollout "$SHOP" vault
}
# A client without sidecar that calls order with the certificate of NAME. Prints the status line.
call_order_as() { # NAME
    local bare ip
    bare=$(pod_of "$BARE" app=probe)
    ip=$(pod_ip "$SHOP" "$(pod_of "$SHOP" app=order)")
    {
        cat "$work/$1.pem" "$work/$1.key"
    } | kubectl exec -i -n "$BARE" "$bare" -c probe -- sh -c 'cat >/tmp/who.pem
        { printf "GET / HTTP/1.1\r\nHost: order.shop\r\nConnection: close\r\n\r\n"; sleep 2; } |
        timeout 5 openssl s_client -quiet -connect '"$ip"':8080 -cert /tmp/who.pem -key /tmp/who.pem \
            -tls1_3 -alpn istio-http/1.1 \
            -servername outbound_.80_._.order.shop.svc.cluster.local 2>&1' | tr -d '\r'
}

check "certificates from the mesh's own CA" make_certificates || exit 1

check "a server with the right certificate starts" vault_with vault
check "the client accepts it" eventually 20 answers 200 "$SHOP" "$probe" http://vault/
check "the same server with a valid certificate of another service account" vault_with intruder
check "the client refuses it with 503" eventually 20 answers 503 "$SHOP" "$probe" http://vault/
check "each time" throughout 2 answers 503 "$SHOP" "$probe" http://vault/
check "and with the right one again it is accepted" vault_with vault
check "(200)" eventually 20 answers 200 "$SHOP" "$probe" http://vault/

check "only payment may call order" apply "$SHOP" examples/shop/only-payment-may-call-order.yaml
check "order is STRICT" apply "$SHOP" examples/shop/strict-order.yaml
check "acknowledged" eventually 10 programmed "$SHOP" ap order-callers
check "acknowledged" eventually 10 programmed "$SHOP" pa order-strict
check "the server accepts payment's certificate" says '^HTTP/1.1 200' call_order_as payment
check "the server refuses a valid certificate of frontend with 403" \
    says '^HTTP/1.1 403' call_order_as frontend
check "the server refuses another trust domain's name" not says '^HTTP/1.1' call_order_as elsewhere
check "the server refuses payment's name from another CA" \
    not says '^HTTP/1.1' call_order_as forged
k delete -n "$SHOP" deployment/vault service/vault secret/vault-tls serviceaccount/vault \
    --wait=false >/dev/null 2>&1
no_policies
rm -rf "$work"
