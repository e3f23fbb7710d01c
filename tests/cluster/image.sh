#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# image.sh build TARGET TAG [CONTEXT [FLAG...]]
#                                       builds a stage of CONTEXT/Dockerfile ("-": the last)
# image.sh load TAG...                  makes built images known to the running cluster's node
# image.sh pause                        builds and loads the image of a pod's first process
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$CLUSTER_SRC/images.sh"
. "$CLUSTER_SRC/runtime.sh"
need_root

# bud DOCKERFILE-FOLDER TAG [flags]: steps run in a chroot on the host's network, no container
# runtime needed; nothing is pulled.
bud() {
    local context=$1 tag=$2
    shift 2
    buildah_ bud --isolation chroot --network host --pull-never --layers "$@" \
        --tag "$(image_ref "$tag")" "$context"
}

build() { # TARGET TAG [CONTEXT [FLAG...]]
    local flags=("${@:4}") context=${3:-.}
    [ "$1" = - ] || flags+=(--target "$1")
    "$CLUSTER_SRC/base-image.sh"
    say "image $2: build"
    bud "$context" "$2" "${flags[@]}" >&2
    # Each rebuild leaves its forerunner nameless; now and then they are cleared away, and with
    # them cached steps, which the next build makes again.
    [ "$(buildah_ images --quiet --all | wc -l)" -lt 300 ] || buildah_ rmi --prune >/dev/null
}

# What the node has is remembered below $DIR, which goes when the node's images go.
load() { # TAG
    local name id note file
    name=$(image_ref "$1")
    id=$(image_id "$name")
    [ -n "$id" ] || die "no image $name; build it first"
    note=$DIR/images/${name//[^A-Za-z0-9.]/_}
    [ "$(cat "$note" 2>/dev/null)" != "$id" ] || return 0
    [ -S "$CTR_SOCKET" ] || die "no cluster runs: up.sh starts it"
    say "image $1: load"
    mkdir -p "$DIR/images"
    file=$(mktemp -u "$DIR/images/push.XXXXXX")
    buildah_ push --quiet "$name" "docker-archive:$file:$name" >/dev/null
    ctr_ images import "$file" >/dev/null
    rm -f "$file"
    echo "$id" >"$note"
}

pause() {
    local work
    if [ -z "$(image_id "$PAUSE_IMAGE")" ]; then
        work=$(mktemp -d)
        gcc -O2 -static -Wall -Wextra -o "$work/pause" "$CLUSTER_SRC/images/pause/pause.c"
        cp "$CLUSTER_SRC/images/pause/Dockerfile" "$work"
        bud "$work" "$PAUSE_IMAGE" >/dev/null 2>&1 || die "the pause image cannot be built"
        rm -r "$work"
    fi
    load "$PAUSE_IMAGE"
}

verb=${1:-}
case $verb in
build)
    [ $# -ge 3 ] || die "usage: image.sh build TARGET TAG [CONTEXT [FLAG...]]"
    shift
    build "$@"
    ;;
load)
    shift
    for tag in "$@"; do
        load "$tag"
    done
    ;;
pause) pause ;;
*) die "usage: image.sh build TARGET TAG [CONTEXT [FLAG...]] | load TAG... | pause" ;;
esac
