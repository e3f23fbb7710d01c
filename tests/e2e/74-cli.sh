# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The command line's whole life: install beside Helm's definitions, upgrade under load, a credential
# plugin, and `uninstall --purge`, which tells what goes, asks, and takes nothing that is not its own.
# e2e: alone
# e2e: by name

if ! ours; then
    skip "tulle" "it takes over the whole cluster"
    exit 0
fi
. tests/e2e/pages.sh

tulle=$(cli)
[ -n "$tulle" ] || { fail "no command line: make, or TULLE_CLI=FILE"; exit 1; }
out=$E2E_DIR/cli.json
plugged=$E2E_DIR/cli-plugin

base() {
    helm upgrade --install tulle-base manifests/charts/tulle-base -n "$SYSTEM" --create-namespace \
        --wait --timeout 60s
}
crds() { k get crds -o name | grep -cE '(\.istio\.io|tulle\.dev)$'; }
mesh_is_well() { is_true "" mesh default Ready; }
replicas() { k get deployment -n "$SYSTEM" tulle-operator -o jsonpath='{.status.readyReplicas}'; }
version() {
    k get deployment -n "$SYSTEM" tulle-operator -o jsonpath='{.metadata.labels.app\.kubernetes\.io/version}'
}
images() {
    k get deployments -n "$SYSTEM" -o jsonpath='{.items[*].spec.template.spec.containers[*].image}'
}
# As an older release, half taken apart, would stand there.
age() {
    k label deployment -n "$SYSTEM" tulle-operator tulle-injector --overwrite \
        app.kubernetes.io/version=0.0.1 >/dev/null &&
        k delete -n "$SYSTEM" poddisruptionbudget/tulle-operator service/tulle-injector >/dev/null &&
        k create configmap -n "$SYSTEM" mine --from-literal a=b >/dev/null &&
        k create serviceaccount -n "$SYSTEM" tulle-former >/dev/null &&
        k label serviceaccount -n "$SYSTEM" tulle-former app.kubernetes.io/part-of=tulle >/dev/null
}
# on_terminal ANSWER COMMAND...: with somebody at a terminal who says this when asked.
on_terminal() {
    python3 -c 'import os, pty, signal, sys
signal.alarm(240)
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said, asked = b"", False
while True:
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    if not piece:
        break
    said += piece
    if not asked and b"[y/N] " in said:
        asked = True
        os.write(fd, sys.argv[1].encode() + b"\n")
sys.stdout.buffer.write(said.replace(b"\r", b""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)' "$@"
}
# The administrator's kubeconfig, with a program in place of certificate and key.
plugin_write() { # COMMAND
    k config view --raw --minify -o json >"$plugged.json" &&
        jq --arg c "$1" '.users[0].user = {exec: {apiVersion: "client.authentication.k8s.io/v1",
            command: $c, interactiveMode: "Never", env: [{name: "FROM", value: "'"$plugged.json"'"}]}}' \
            "$plugged.json" >"$plugged/kubeconfig"
}
plugin_make() {
    rm -rf "$plugged" && mkdir -p "$plugged/bin" && cat >"$plugged/bin/who" <<'SH' && chmod +x "$plugged/bin/who"
#!/bin/sh
jq '.users[0].user as $u | {kind: "ExecCredential", apiVersion: "client.authentication.k8s.io/v1",
    status: {clientCertificateData: ($u["client-certificate-data"] | @base64d),
             clientKeyData: ($u["client-key-data"] | @base64d)}}' "$FROM"
SH
}

need_shop || { fail "fixtures"; exit 1; }
no_policies
check "a cluster without a mesh" no_mesh || exit 1
check "tulle upgrade has nothing to upgrade" says "there is no mesh in $SYSTEM: tulle install" "$tulle" upgrade
check "and fails" not "$tulle" upgrade

check "definitions by Helm" base
all=$(crds)
check "tulle install" says "$all definitions are left as they are" "$tulle" install --hub "$TULLE_HUB" --tag "$TULLE_TAG"
check "the mesh is well" eventually 60 mesh_is_well
check "a user's objects" apply "$SHOP" examples/shop/subsets.yaml examples/shop/canary-10.yaml
check "uninstall --purge names what is Helm's" \
    says "virtualservices.networking.istio.io stays, with its objects: Helm's release tulle-base" \
    "$tulle" uninstall --purge --yes
check "which stays" same "$(crds)" "$all"
check "with its objects" k get -n "$SHOP" vs/checkout dr/checkout
check "and the namespace where Helm keeps it" helm status tulle-base -n "$SYSTEM"
check "Helm's release goes, the definitions are kept" helm uninstall tulle-base -n "$SYSTEM" --wait

check "tulle install --profile ha" "$tulle" install --profile ha --hub "$TULLE_HUB" --tag "$TULLE_TAG"
check "the mesh is well" eventually 60 mesh_is_well
check "pods get sidecars" restart "$SHOP"
check "calls go through" meshed_shop 60
was=$(version) ran=$(images)
check "an older release, half taken apart" age
load_start "$out" "$SHOP" "$(pod_of "$SHOP" app=load)" --rate 100 --seconds 60 http://order/
sleep 1
check "tulle upgrade" says "Tulle $was runs \(profile ha\)" "$tulle" upgrade
check "the profile stayed" same "$(replicas)" 2
check "the images stayed" same "$(images)" "$ran"
check "it is of this release" same "$(version)" "$was"
check "what was missing is back" k get -n "$SYSTEM" poddisruptionbudget/tulle-operator service/tulle-injector
check "what an older release had is gone" not k get -n "$SYSTEM" serviceaccount/tulle-former
check "what is the user's is not" k get -n "$SYSTEM" configmap/mine
check "tulle check is content" eventually 60 "$tulle" check
check "the load ended" load_end "$out" 100
check "not one request failed" no_failure "$out"

check "a credential plugin" plugin_make
plugin_write ./bin/who
check "tells who we are" "$tulle" check --kubeconfig "$plugged/kubeconfig"
plugin_write ./bin/nobody
check "its absence is named" says "users: 'admin': exec: .*nobody" "$tulle" check --kubeconfig "$plugged/kubeconfig"

now=$(crds)
check "without a terminal uninstall --purge wants --yes" says "nobody to ask: --yes" \
    "$tulle" uninstall --purge
check "at a terminal it tells what goes" says "virtualservices.networking.istio.io: 1 object" \
    on_terminal n "$tulle" uninstall --purge
check "and asks" says "no way back. Go on\? \[y/N\]" on_terminal n "$tulle" uninstall --purge
check "no is no" not on_terminal n "$tulle" uninstall --purge
check "all is as it was" same "$(crds)" "$now"
check "and well" "$tulle" check
check "yes is yes" on_terminal y "$tulle" uninstall --purge
check "definitions, namespace, all of it is gone" nothing_remains
check "nothing is left to take" "$tulle" uninstall --purge --yes
check "pods run on" answers 200 "$SHOP" "$(pod_of "$SHOP" app=probe)" http://order/
check "and start without a sidecar" bare_shop
ns_drop "$SHOP" istio-system
