# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The user's own text: a VirtualService for a host that no DNS knows works from a meshed pod, with each
# family of resolvers.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies
probe=$(pod_of "$SHOP" app=probe)
host=frontend.example.com

resolves() { # COMMAND...: an address comes out
    local out
    out=$(pod_exec "$SHOP" "$probe" "$@" 2>&1)
    grep -qE '^[0-9a-f.:]+$' <<<"$out" || { echo "$out"; return 1; }
}
quick() { # COMMAND...: within a second; an answer that is missing costs a resolver five
    local from to
    from=$(date +%s%3N)
    "$@" || return 1
    to=$(date +%s%3N)
    [ $((to - from)) -lt 3000 ] || { echo "took $((to - from)) ms"; return 1; }
}

# Users have these very bytes.
seeds_are_whole() {
    (cd "$ROOT/examples/seed" && sha256sum --quiet -c -) <<S
057345a8a23a254299c294f7ae9c22b76edc2b39ceae33e34c6ca17e62bdf8ce  virtualservice.yaml
7fd4d755ba294e17aaf770ded7f68eb0ae5de851158e1770ec1352fd7b01190f  destinationrule.yaml
S
}
check "the examples are what users have, byte for byte" seeds_are_whole
check "before: nobody knows the name" not resolves resolve-glibc "$host"
check "kubectl apply -f examples/seed" apply "$SHOP" examples/seed/virtualservice.yaml \
    examples/seed/destinationrule.yaml
check "curl http://$host/ (glibc)" eventually 15 answers 200 "$SHOP" "$probe" "http://$host/"
check "it is frontend that answers" says '"service":"frontend"' body "$SHOP" "$probe" "http://$host/"
check "glibc resolves it" quick resolves resolve-glibc "$host"
check "glibc resolves it by TCP" quick resolves env RES_OPTIONS=use-vc resolve-glibc "$host"
check "musl resolves it" quick resolves resolve-musl "$host"
check "Go resolves it" quick resolves resolve-go "$host"
check "Go resolves it by TCP" quick resolves resolve-go -tcp "$host"
check "a cluster name still resolves (glibc)" resolves resolve-glibc payment
check "a cluster name still resolves (musl)" resolves resolve-musl "payment.$SHOP"
check "a cluster name still resolves (Go)" resolves resolve-go payment
check "a name that is not there still does not" not resolves resolve-glibc nowhere.example.com
check "the VirtualService is accepted" eventually 10 is_true "$SHOP" vs frontend-routing Accepted
check "and acknowledged" eventually 10 programmed "$SHOP" vs frontend-routing
check "the DestinationRule is accepted" eventually 10 is_true "$SHOP" dr checkout-destination Accepted
check "and acknowledged" eventually 10 programmed "$SHOP" dr checkout-destination
check "outside the mesh the name stays unknown" same \
    "$(http "$BARE" "$(pod_of "$BARE" app=probe)" "http://$host/")" 000
check "taken away again" unapply "$SHOP" examples/seed/virtualservice.yaml
check "the name goes with it" eventually 15 not resolves resolve-glibc "$host"
no_policies
