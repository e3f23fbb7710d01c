# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# buildah with a store of our own in the cache, beside and not inside the user's. Sourced after
# lib.sh.

# overlay cannot lie on overlay; copies work everywhere.
images_driver() {
    case $(stat -f -c %T "$CACHE") in
    overlayfs) echo vfs ;;
    *) echo overlay ;;
    esac
}

buildah_() {
    mkdir -p "$CACHE"
    buildah --root "$CACHE/images" --runroot "$CACHE/images-run" \
        --storage-driver "$(images_driver)" "$@"
}

# image_ref NAME: the full name that Docker, buildah and the kubelet mean by a short one.
image_ref() {
    local name=$1
    case ${name##*/} in
    *:* | *@*) ;;
    *) name+=:latest ;;
    esac
    case $name in
    */*)
        case ${name%%/*} in
        *.* | *:* | localhost) echo "$name" ;;
        *) echo "docker.io/$name" ;;
        esac
        ;;
    *) echo "docker.io/library/$name" ;;
    esac
}

# The id of a stored image, or nothing.
image_id() { buildah_ images --quiet --no-trunc "$1" 2>/dev/null | head -1 || true; }

image_label() { # IMAGE LABEL
    buildah_ inspect --type image --format "{{index .OCIv1.Config.Labels \"$2\"}}" "$1" \
        2>/dev/null || true
}

# image_from_tar NAME TAR [buildah config flags]: one layer, nothing beneath it.
image_from_tar() {
    local name=$1 tar=$2 box
    shift 2
    box=$(buildah_ from scratch)
    buildah_ add --quiet "$box" "$tar" / >/dev/null
    buildah_ config "$@" "$box"
    buildah_ commit --quiet --rm "$box" "$name" >/dev/null
}
