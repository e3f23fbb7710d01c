# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A cluster of the user's own: KUBECONFIG names it, images are pushed to a registry, which asks for a
# password, and pulled from there by the node with the Secret that chart and Mesh name. The cluster is
# the test's, used as a stranger: by a kubeconfig elsewhere, with nothing loaded into its node.
# e2e: alone
# e2e: by name

if ! ours; then
    skip "a cluster of yours" "this run is one"
    exit 0
fi
. tests/cluster/lib.sh
. tests/cluster/go.sh

own=$E2E_DIR/own
pid=
host=
# shellcheck disable=SC2317 # called by the trap
away() {
    # shellcheck disable=SC2153 # of tests/cluster/lib.sh
    [ -z "$host" ] || rm -rf "$DIR/containerd/hosts/$host"
    [ -z "$pid" ] || kill "$pid" 2>/dev/null
}
trap away EXIT

# The registry's program, from its Go module, in the cache.
registry_program() {
    local src=$E2E_SRC/registry bin
    bin=$CACHE/registry-$(hash_of "$src"/go.mod "$src"/go.sum "$src"/main.go)/registry
    [ -x "$bin" ] || ( go_find && mkdir -p "$(dirname "$bin")" && cd "$src" &&
        CGO_ENABLED=0 "$GO" build -buildvcs=false -trimpath -o "$bin" . ) >"$own/go.log" 2>&1 ||
        { cat "$own/go.log" >&2; return 1; }
    echo "$bin"
}
# Both ends speak plain HTTP with it, and the tools here know the password. (Not within `check`, whose
# subshell would wait for the registry's end.)
registry_start() {
    local port
    port=$(python3 -c 'import socket, sys
s = socket.socket(); s.bind((sys.argv[1], 0)); print(s.getsockname()[1])' "$NODE_IP")
    host=$NODE_IP:$port
    password=$(openssl rand -hex 12)
    "$program" -address "$host" -dir "$own/blobs" -user mesh -password "$password" \
        -public 'tulle-(shop|probe)$' >"$own/registry.log" 2>&1 &
    pid=$!
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$host" >"$own/registries.conf"
    jq -n --arg h "$host" --arg a "$(printf 'mesh:%s' "$password" | base64 -w0)" \
        '{auths: {($h): {auth: $a}}}' >"$own/auth.json"
    mkdir -p "$DIR/containerd/hosts/$host"
    # (containerd 1.6 takes the scheme from a [host] section, not from `server`.)
    printf 'server = "http://%s"\n[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$host" "$host" \
        >"$DIR/containerd/hosts/$host/hosts.toml"
}
# The Secret where pods of ours and injected pods need it, in namespaces that carry the mark of these tests.
secrets() {
    local ns
    for ns in "$SYSTEM" "$SHOP"; do
        ns_make "$ns"
        k create secret docker-registry registry -n "$ns" --docker-server "$host" --docker-username mesh \
            --docker-password "$password" --dry-run=client -o yaml | k apply -f - || return 1
    done
}
# As in a shell of the user's, without what tests/cluster/env.sh has set but PATH.
as_user() {
    env -u CONTAINERD_ADDRESS -u CONTAINERD_NAMESPACE -u E2E_NO_BUILD \
        KUBECONFIG="$own/kubeconfig" E2E_LOCKED=1 E2E_DIR="$own" TULLE_REGISTRY="$host/team/mesh" \
        CONTAINERS_REGISTRIES_CONF="$own/registries.conf" REGISTRY_AUTH_FILE="$own/auth.json" \
        E2E_SET="--set global.imagePullSecrets={registry} --set meshConfig.proxy.imagePullSecrets={registry}" \
        tests/e2e/run.sh "$@" >"$own/out" 2>&1 || { grep -E '^FAIL|^ ' "$own/out"; tail -n 5 "$own/out"; return 1; }
}
# The node resolved the tag there, by the password where one is asked for. (Layers that it has under
# another name it does not fetch again.)
pulled() { # REPOSITORY
    says "(HEAD|GET) /v2/team/mesh/$1/manifests/[^ ]* 200" grep -F "/$1/" "$own/registry.log"
}
# A pod of the operator's image, without the Secret: the registry's refusal shows.
refused_without_secret() {
    k delete pod -n "$BARE" stranger --ignore-not-found >/dev/null
    k run stranger -n "$BARE" --image "$host/team/mesh/tulle-operator:$TULLE_TAG" \
        --image-pull-policy Always --restart Never >/dev/null || return 1
    eventually 30 says 'ErrImagePull|ImagePullBackOff' \
        k get pod -n "$BARE" stranger -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'
    local rc=$?
    k delete pod -n "$BARE" stranger --wait=false >/dev/null
    return $rc
}
# With a namespace that has one of our names but not our mark, a run ends before it changes anything.
stays_off() {
    k label namespace "$BARE" tulle.dev/e2e- >/dev/null
    as_user 01 >/dev/null 2>&1
    local rc=$?
    k label namespace "$BARE" tulle.dev/e2e=yes >/dev/null
    [ $rc -ne 0 ] && says "namespace $BARE exists and was not made here" cat "$own/out"
}
# The node forgets what this registry gave it, so that the next run pulls again.
forget() {
    ctr images ls -q | grep -F "$host/" | xargs -r ctr images rm >/dev/null 2>&1
}
back() {
    helm upgrade --install tulle manifests/charts/tulle -n "$SYSTEM" --wait --timeout 120s \
        --set global.hub="$TULLE_HUB" --set global.tag="$TULLE_TAG"
}

rm -rf "$own"
mkdir -p "$own"
program=$(registry_program) || { fail "the registry's program"; exit 1; }
ns_make "$BARE"
cp "$KUBECONFIG" "$own/kubeconfig"
registry_start
check "a registry with a password runs" eventually 10 grep listening "$own/registry.log" || exit 1
check "Secrets for it" secrets
check "push, install, inject and encrypt on a cluster of the user's" as_user 01 02 03
check "what needs the node was skipped aloud" says '^skip .*needs the node' cat "$own/out"
check "and nothing was loaded into it" not grep ': load$' "$own/out"
for repository in tulle-operator tulle-injector tulle-proxy tulle-shop; do
    check "the node pulled $repository" pulled "$repository"
done
check "with the Secret: a pod without it gets no image" refused_without_secret
check "a namespace of the user's is not taken" stays_off
check "back to the images in the node" back
k delete secret -n "$SYSTEM" registry >/dev/null 2>&1
k delete secret -n "$SHOP" registry >/dev/null 2>&1
k label namespace "$SYSTEM" tulle.dev/e2e- >/dev/null
forget
