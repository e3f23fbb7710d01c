# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# manifests/install.yaml by kubectl, as docs/install.md has it: on a cluster without a mesh, applied
# again, another profile, and taken away as its head says.
# e2e: alone
# e2e: by name

if ! ours; then
    skip "kubectl apply" "it takes over the whole cluster"
    exit 0
fi
. tests/e2e/pages.sh

work=$E2E_DIR/kubectl
page=$ROOT/docs/install.md
# "After putting your registry into it."
manifests_of_mine() {
    rm -rf "$work" && mkdir -p "$work" && cp -a manifests "$work" &&
        sed -Ei "s|tulle\.local/(tulle-[a-z]+):[^ \"]+|$TULLE_HUB/\1:$TULLE_TAG|" \
            "$work/manifests/install.yaml" "$work"/manifests/profiles/*.yaml
}
mesh_is_well() { is_true "" mesh default Ready; }
rolled_out() { rollout "$SYSTEM" tulle-operator tulle-injector; }
generations() {
    k get deployments -n "$SYSTEM" -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.generation} {end}'
}
bundles() {
    k get mutatingwebhookconfigurations,validatingwebhookconfigurations -o json | jq -r '[.items[]
        | select(.metadata.name | test("tulle")).webhooks[].clientConfig.caBundle // ""] | unique | join(" ")'
}
has_bundles() { same "$(bundles | wc -w)" 1; }
strict() { k get mesh default -o json | jq -e '.spec.mtls.floor == "STRICT"' >/dev/null; }
as_its_head_says() {
    (cd "$work/manifests" && bash -euxc "$(sed -n 's|^#   \(kubectl delete .*\)|\1|p' install.yaml | head -1)" </dev/null)
}
crds() { k get crds -o name | grep -cE '(\.istio\.io|tulle\.dev)$'; }

check "every block of docs/install.md has a name" all_named "$page"
check "the manifests, with our registry" manifests_of_mine || exit 1
need_shop || { fail "fixtures"; exit 1; }
need_bare || { fail "fixtures"; exit 1; }
no_policies
check "a cluster without a mesh" no_mesh || exit 1

came_up() { # well, trusted, and of use
    check "operator and injector come up" rolled_out
    check "the mesh is well" eventually 60 mesh_is_well
    check "the webhooks are trusted" eventually 30 has_bundles
    restart "$SHOP"
    check "pods get sidecars, calls go through" meshed_shop 60
    before=$(generations) trusted=$(bundles)
}
as_before() {
    check "nothing rolls out anew" same "$(generations)" "$before"
    check "the webhooks are trusted as before" same "$(bundles)" "$trusted"
}

check "kubectl apply -f manifests/install.yaml" kubectl apply -f "$work/manifests/install.yaml"
came_up
check "kubectl apply once more" kubectl apply -f "$work/manifests/install.yaml"
as_before
check "a cluster without a mesh" no_mesh

check "the block \`kubectl\` runs: the server applies it" run_block "$work" "$page" kubectl
came_up
check "it runs once more" run_block "$work" "$page" kubectl
as_before
check "an object is validated" says "denied" k apply -n "$SHOP" -f - <<<'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wrong}
spec: {hosts: [order], http: [{match: [{uri: {regex: "("}}], route: [{destination: {host: order}}]}]}'

check "without a certificate one is heard" answers 200 "$BARE" "$(pod_of "$BARE" app=probe)" "http://order.$SHOP/"
check "the block \`profile\` runs: secure" run_block "$work" "$page" profile
check "operator and injector come up" rolled_out
check "mutual TLS is strict" eventually 30 strict
check "without a certificate one is heard no more" \
    eventually 30 answers 000 "$BARE" "$(pod_of "$BARE" app=probe)" "http://order.$SHOP/"
check "with one, as before" eventually 30 answers 200 "$SHOP" "$(pod_of "$SHOP" app=probe)" http://order/

check "a user's object is there" apply "$SHOP" examples/shop/subsets.yaml examples/shop/canary-10.yaml
had=$(crds)
check "kubectl delete, as the file's head says" as_its_head_says
check "the definitions stay" same "$(crds)" "$had"
check "and the user's objects" k get -n "$SHOP" vs/checkout dr/checkout
# What the operator wrote beyond its namespace, as docs/install.md says.
check "Mesh stays" k get mesh default
check "the root bundle stays" k get -n "$SHOP" configmap/istio-ca-root-cert
check "the control plane is gone" not k get namespace "$SYSTEM"
check "a pod starts without it" bare_shop
if [ -n "$(cli)" ]; then
    check "tulle uninstall --purge takes the rest" "$(cli)" uninstall --purge --yes
    check "nothing is left" eventually 60 nothing_remains
fi
no_mesh >/dev/null 2>&1
ns_drop "$SHOP" "$BARE" istio-system
ns_gone "$SHOP" && ns_gone "$BARE"
