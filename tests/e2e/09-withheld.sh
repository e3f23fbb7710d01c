# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A route to a subset that does not exist yet is held back: who holds an older one keeps it, who holds
# none gets 503, and the status says so. When the subset comes, so does the route.

need_shop || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)

# Two services of the same pods: one that the caller knows, one that nobody has called.
route_yaml() { # HOST
    cat <<Y
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: $1}
spec:
  hosts: [$1]
  http: [{route: [{destination: {host: $1, subset: blue}}]}]
Y
}
subset_yaml() { # HOST
    cat <<Y
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: $1}
spec:
  host: $1
  subsets: [{name: blue, labels: {app: payment}}]
Y
}
service() {
    k apply -n "$SHOP" -f - >/dev/null <<'Y'
apiVersion: v1
kind: Service
metadata: {name: fresh}
spec:
  selector: {app: payment}
  ports: [{name: http, port: 80, targetPort: 8080}]
Y
}
both() { { "$1" payment; "$1" fresh; } | k apply -n "$SHOP" -f - >/dev/null; }
log_says() { says "$1" k logs -n "$SHOP" "$probe" -c istio-proxy --tail 20; }

check "a service that nobody has called" service
check "another that the caller knows" eventually 10 answers 200 "$SHOP" "$probe" http://payment/
check "routes to a subset that does not exist" both route_yaml
for vs in payment fresh; do
    check "$vs: its status names what is missing" eventually 10 says \
        '^False ReferenceNotFound .*subset blue' condition "$SHOP" vs $vs ResolvedRefs
done
check "payment: its caller keeps the route that it held" throughout 3 answers 200 "$SHOP" "$probe" \
    http://payment/
check "fresh: nothing is held: 503" answers 503 "$SHOP" "$probe" http://fresh/
check "fresh: with the flag NC" eventually 5 log_says '"GET / HTTP/1.1" 503 NC '
for vs in payment fresh; do
    check "$vs: no proxy is said to have it" eventually 10 says '^False Pending' \
        condition "$SHOP" vs $vs Programmed
done
check "the subset comes" both subset_yaml
check "fresh: so does the route" eventually 10 answers 200 "$SHOP" "$probe" http://fresh/
for vs in payment fresh; do
    check "$vs: acknowledged" eventually 10 programmed "$SHOP" vs $vs
    check "$vs: nothing is missing any more" eventually 10 is_true "$SHOP" vs $vs ResolvedRefs
done
k delete service -n "$SHOP" fresh >/dev/null
no_policies
