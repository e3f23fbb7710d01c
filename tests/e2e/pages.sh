# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Pages whose shell code is run: a comment that no reader sees, in the line above a block, names it.
#
#   <!-- e2e: NAME -->
#   ```sh
#   helm install ...
#   ```
#
# A block that a test cannot run is named `elsewhere`. Sourced by the tests that run blocks.

# block FILE NAME: its lines; fails where there is none.
block() {
    awk -v want="<!-- e2e: $2 -->" '
        inside && /^```$/ { exit }
        inside { print; next }
        /^```sh$/ && last == want { inside = found = 1 }
        { last = $0 }
        END { if (!found) { print "no block " want > "/dev/stderr"; exit 1 } }' "$1"
}
# all_named FILE: each block of shell code has a name, and each name is that of one block alone.
all_named() {
    awk '/^```sh$/ { n++
             if (last !~ /^<!-- e2e: [a-z-]+ -->$/) { print FILENAME ":" NR ": no name"; bad = 1 }
             else if (last !~ / elsewhere / && seen[last]++) { print FILENAME ":" NR ": twice"; bad = 1 } }
         { last = $0 }
         END { exit bad || !n }' "$1"
}
# run_block FOLDER FILE NAME [SED...]: as a user would, in FOLDER; the sed commands put in what the page
# leaves to the reader. What they do not find is an error: the page has changed.
run_block() {
    local dir=$1 code was s
    code=$(block "$2" "$3") || return 1
    shift 3
    for s; do
        was=$code
        code=$(sed -E "$s" <<<"$code")
        [ "$code" != "$was" ] || { echo "nothing there for $s"; return 1; }
    done
    (cd "$dir" && bash -euxo pipefail -c "$code" </dev/null)
}

# no_mesh: a cluster that has never heard of one, whoever installed it; workloads stay, with the
# sidecars that they have.
no_mesh() {
    local crds kinds=clusterroles,clusterrolebindings,mutatingwebhookconfigurations
    kinds+=,validatingwebhookconfigurations
    helm uninstall tulle -n "$SYSTEM" --wait --timeout 180s --ignore-not-found &&
        helm uninstall tulle-base -n "$SYSTEM" --wait --timeout 60s --ignore-not-found &&
        kubectl delete "$kinds" -l app.kubernetes.io/part-of=tulle --timeout 60s &&
        kubectl delete deployments -n "$SYSTEM" -l app.kubernetes.io/part-of=tulle --timeout 60s \
            --cascade=foreground || return 1
    crds=$(k get crds -o name | grep -E '\.(networking|security|telemetry|extensions)\.istio\.io$|\.tulle\.dev$')
    # shellcheck disable=SC2086 # one name a word
    [ -z "$crds" ] || kubectl delete $crds --timeout 60s || return 1
    kubectl delete namespace "$SYSTEM" --ignore-not-found --timeout 90s &&
        kubectl delete configmaps -A -l app.kubernetes.io/managed-by=tulle-operator --timeout 60s
}
# What is left of a mesh, by any of our names and labels.
remains() {
    {
        k get namespace "$SYSTEM" -o name --ignore-not-found
        k get crds,clusterroles,clusterrolebindings -o name
        k get mutatingwebhookconfigurations,validatingwebhookconfigurations -o name
        k get configmaps -A -o custom-columns=N:.metadata.namespace,M:.metadata.name --no-headers |
            awk '{ print $1 ": configmap/" $2 }' | grep istio-ca-root-cert
    } | grep -E 'tulle|istio'
}
nothing_remains() { same "$(remains)" ""; }
# The shop, back on its feet without a sidecar.
bare_shop() {
    k label namespace "$SHOP" istio-injection- >/dev/null && restart "$SHOP" &&
        not has_sidecar "$SHOP" "$(pod_of "$SHOP" app=probe)"
}
meshed_shop() { # SECONDS: every workload has its sidecar, and calls go through
    eventually "$1" settled "$SHOP" && has_sidecar "$SHOP" "$(pod_of "$SHOP" app=probe)" &&
        has_sidecar "$SHOP" "$(pod_of "$SHOP" app=order)" &&
        eventually 30 answers 200 "$SHOP" "$(pod_of "$SHOP" app=probe)" http://order/
}
# The command line as built; nothing where it is not.
cli() { ls "${TULLE_CLI:-${TULLE_PREBUILT:-$ROOT/build/release}/bin/tulle}" 2>/dev/null; }
