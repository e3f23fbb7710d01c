#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images of operator, injector, proxy, of the example shop and of the tests' probe, where
# their inputs have changed (the tag is the hash of the inputs), and makes them known to the cluster:
# loaded into the test cluster's node, or, where TULLE_REGISTRY names a registry and path, pushed there.
# Prints for `eval`: TULLE_HUB, TULLE_TAG, SHOP_IMAGE, PROBE_IMAGE.
#
#   tools/images.sh [--only mesh|shop|probe]
#
#   TULLE_REGISTRY=registry/path   push there by docker, podman or buildah, the first that works here.
#                                  (buildah as root makes its base image itself, of Debian's packages)
#   TULLE_PREBUILT=build/release   take executables that this Debian 12 has built, do not build them
#                                  again inside the image
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/cluster/lib.sh
. tests/cluster/images.sh

only=
[ "${1:-}" != --only ] || only=$2

SOURCES=(Makefile VERSION Dockerfile proto lib mesh operator injector cli proxy)
# What the command line carries inside.
MANIFESTS=(manifests/install.yaml manifests/profiles)
# Of tools/ what the build uses; the others may change without a new image.
TOOLS=(deps.sh collect-libs.sh gen.mk crds.py)

# tree_hash PATH...: names, contents and modes, not times.
tree_hash() {
    find "$@" -type f ! -name '*.o' -printf '%m %p\n' | sort -k2 |
        while read -r mode path; do
            printf '%s %s\n' "$mode" "$path"
            cat "$path"
        done | sha256sum | cut -c1-12
}

mesh_inputs() {
    local f
    printf '%s\n' "${SOURCES[@]}" "${MANIFESTS[@]}"
    for f in "${TOOLS[@]}"; do
        [ ! -e "tools/$f" ] || echo "tools/$f"
    done
    if [ -n "${TULLE_PREBUILT:-}" ]; then
        echo "$TULLE_PREBUILT/bin"
    fi
}

# mesh_context DIR: what the Dockerfile may see: the inputs and nothing of .git or build folders.
mesh_context() {
    local f
    cp -a "${SOURCES[@]}" "$1"
    cp -a --parents "${MANIFESTS[@]}" "$1"
    mkdir -p "$1/tools"
    for f in "${TOOLS[@]}"; do
        [ ! -e "tools/$f" ] || cp -a "tools/$f" "$1/tools"
    done
    if [ -n "${TULLE_PREBUILT:-}" ]; then
        mkdir -p "$1/prebuilt"
        find "$TULLE_PREBUILT/bin" -maxdepth 1 -type f -name 'tulle*' -exec cp -a {} "$1/prebuilt/" \;
    fi
}

# Who builds: "store" is buildah with the store, and the base image, of the test cluster. A docker
# without its daemon is none.
choose_builder() {
    local t
    [ -n "${TULLE_REGISTRY:-}" ] || { echo store; return; }
    for t in docker podman; do
        if have "$t" && "$t" info >/dev/null 2>&1; then
            echo "$t"
            return
        fi
    done
    have buildah || die "TULLE_REGISTRY is set, but no docker, podman or buildah works here to build with"
    if [ "$(id -u)" -eq 0 ]; then echo store; else echo buildah; fi
}

# In the store an image has one name, wherever it is pushed to.
stored() { echo "tulle.local/${1##*/}"; } # IMAGE

there() { # IMAGE
    case $builder in
    store) [ -n "$(image_id "$(image_ref "$(stored "$1")")")" ] ;;
    *) "$builder" inspect "$1" >/dev/null 2>&1 ;;
    esac
}

build() { # TARGET|- IMAGE CONTEXT [FLAG...]
    local target=$1 image=$2 context=$3
    shift 3
    if [ "$builder" = store ]; then
        tests/cluster/image.sh build "$target" "$(stored "$image")" "$context" "$@"
        return
    fi
    [ "$target" = - ] || set -- "$@" --target "$target"
    case $builder in
    buildah) buildah bud --layers -t "$image" "$@" "$context" >&2 ;;
    *) "$builder" build -t "$image" "$@" "$context" >&2 ;;
    esac
}

publish() { # IMAGE...
    local i
    if [ -z "${TULLE_REGISTRY:-}" ]; then
        tests/cluster/image.sh load "$@"
        return
    fi
    for i in "$@"; do
        say "image $i: push"
        case $builder in
        store) quietly "$i: push" buildah_ push "$(stored "$i")" "docker://$i" ;;
        *) quietly "$i: push" "$builder" push "$i" ;;
        esac
    done
}

# Of each name the test cluster's store keeps the four newest.
forget_old() { # NAME
    [ "$builder" = store ] || return 0
    buildah_ images --format '{{.Name}}:{{.Tag}}' --filter "reference=tulle.local/${1##*/}" 2>/dev/null |
        tail -n +5 | while read -r old; do
            buildah_ rmi "$old" >/dev/null 2>&1 || true
        done
}

work=
new_context() {
    mkdir -p "$CACHE/work"
    work=$(mktemp -d "$CACHE/work/context.XXXXXX")
}
cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT

# The log of a build is only worth reading when it failed.
quietly() { # WHAT COMMAND...
    local what=$1 log
    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        die "$what failed"
    fi
    rm -f "$log"
}

hub=${TULLE_REGISTRY:-tulle.local}
builder=$(choose_builder)

mesh_images() {
    local list=() part flags=()
    mapfile -t inputs < <(mesh_inputs)
    tag=$(tree_hash "${inputs[@]}")
    for part in operator injector proxy; do
        list+=("$hub/tulle-$part:$tag")
    done
    for part in operator injector proxy; do
        there "$hub/tulle-$part:$tag" && continue
        if [ -z "$work" ]; then
            say "images of Tulle $tag: build (half a minute; the first time some minutes for packages)"
            new_context
            mesh_context "$work"
            [ -z "${TULLE_PREBUILT:-}" ] || flags=(--build-arg PREBUILT=prebuilt)
        fi
        quietly "tulle-$part: build" build "$part" "$hub/tulle-$part:$tag" "$work" "${flags[@]}"
        forget_old "$hub/tulle-$part"
    done
    publish "${list[@]}"
    printf 'TULLE_HUB=%s\nTULLE_TAG=%s\n' "$hub" "$tag"
}

# small_image VARIABLE NAME FOLDER: an image from one folder's Dockerfile and sources.
small_image() {
    local image sources
    mapfile -t sources < <(find "$3" -maxdepth 1 -name Dockerfile -o -maxdepth 1 -name '*.c' \
        -o -maxdepth 1 -name '*.go')
    image=$hub/$2:$(tree_hash "${sources[@]}")
    if ! there "$image"; then
        say "image $image: build"
        quietly "$2: build" build - "$image" "$3"
        forget_old "$hub/$2"
    fi
    publish "$image"
    printf '%s=%s\n' "$1" "$image"
}

lock "$CACHE/images.sh.lock" "the image build"
# Working containers of a build that was cut short would keep images from being replaced.
[ "$builder" != store ] || buildah_ rm --all >/dev/null 2>&1 || true
case $only in
'' | mesh) mesh_images ;;
esac
case $only in
'' | shop) small_image SHOP_IMAGE tulle-shop examples/shop ;;
esac
case $only in
'' | probe) small_image PROBE_IMAGE tulle-probe tests/e2e/probe ;;
esac
