#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds Kubernetes with etcd, CoreDNS and Helm from their Go modules into the cache. Nothing is
# done where the cache has them. `build.sh helm` builds one module alone.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$CLUSTER_SRC/go.sh"

KUBERNETES_VERSION=v1.34.4
HELM_VERSION=v3.19.5
version=k8s.io/component-base/version
LD_kubernetes="-X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1"
LD_kubernetes+=" -X $version.gitMinor=34 -X $version.gitTreeState=clean"
LD_coredns=
LD_helm="-X helm.sh/helm/v3/internal/version.version=$HELM_VERSION"
LD_helm+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1"
LD_helm+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34"
# CPU minutes from a cold Go cache; told to the user before the first figure of our own is there.
COLD_kubernetes=10 COLD_coredns=2 COLD_helm=2
PACKAGE_kubernetes=. PACKAGE_coredns=. PACKAGE_helm=helm.sh/helm/v3/cmd/helm
: "$LD_coredns$COLD_kubernetes$COLD_coredns$COLD_helm"
: "$PACKAGE_kubernetes$PACKAGE_coredns$PACKAGE_helm"

# watch_build PID LOG TOTAL NAME: a line every 15 s until the build ends.
watch_build() {
    local begin=$SECONDS tick=0 done_ left
    while kill -0 "$1" 2>/dev/null; do
        sleep 1
        tick=$((tick + 1))
        [ $((tick % 15)) -eq 0 ] || continue
        done_=$(wc -l <"$2")
        left=unknown
        if [ "$done_" -ge 100 ]; then
            left="about $(((SECONDS - begin) * ($3 - done_) / done_ / 60 + 1)) min left at most"
        fi
        say "$4: $done_ of at most $3 packages, $left"
    done
}

build_module() {
    local name=$1 out=$2 ld="LD_$1" package="PACKAGE_$1" cold="COLD_$1" total log pid
    if [ -x "$out" ]; then
        return
    fi
    go_find
    mkdir -p "$(dirname "$out")"
    log=$out.log
    cd "$CLUSTER_SRC/$name"
    say "$name: fetching modules"
    "$GO" mod download >"$log" 2>&1 || { cat "$log" >&2; die "$name: modules cannot be fetched"; }
    total=$("$GO" list -deps "${!package}" | wc -l)
    say "$name: compiling, $total packages, about ${!cold} CPU minutes where nothing is cached"
    : >"$log"
    # -v names each package that is really compiled; that is the progress.
    CGO_ENABLED=0 nice -n 10 "$GO" build -v -buildvcs=false -trimpath \
        -ldflags "-s -w ${!ld}" -o "$out.new" "${!package}" >"$log" 2>&1 9>&- &
    pid=$!
    watch_build $pid "$log" "$total" "$name"
    wait $pid || { tail -30 "$log" >&2; die "$name: build failed, log in $log"; }
    mv "$out.new" "$out"
    say "$name: built, $(du -m "$out" | cut -f1) MB"
}

modules=("$@")
[ $# -gt 0 ] || modules=(kubernetes coredns helm)
lock "$CACHE/build.lock"
"$CLUSTER_SRC/packages.sh"
for module in "${modules[@]}"; do
    build_module "$module" "$("${module}_bin")"
done
"$CLUSTER_SRC/kubectl.sh"
