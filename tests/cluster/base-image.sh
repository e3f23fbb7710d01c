#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes Debian's base image where no registry is: debootstrap, then an image with the name that
# Dockerfiles use, so that they build here unmodified. Packages come from wherever this
# machine's apt gets them, and apt inside the image asks the same place in the same way.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$CLUSTER_SRC/images.sh"
need_root

SUITE=bookworm

# "URI release component..." for each source of the suite that apt has.
apt_sources() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        "Created-By: Packages" 2>/dev/null |
        awk -v s="$SUITE" '$2 ~ "^" s { k = $1 " " $2; if (!seen[k, $3]++) c[k] = c[k] " " $3 }
            END { for (k in c) print k c[k] }' | sort
}

# Settings of apt that decide how it reaches and trusts the mirror.
apt_settings() {
    apt-config dump |
        grep -E '^Acquire::(https?|Check-|ForceIPv[46]|Retries|Max-ValidTime)' || true
}

fill() { # ROOTFS SOURCES
    local root=$1 mirror
    mirror=$(awk -v s="$SUITE" '$2 == s { print $1; exit }' <<<"$2")
    [ -n "$mirror" ] || die "apt has no source for $SUITE"
    local more=()
    if grep -q ^https: <<<"$2"; then
        more=(--include=ca-certificates)
    fi
    debootstrap --variant=minbase "${more[@]}" "$SUITE" "$root" "$mirror" >"$root.log" 2>&1 || {
        tail -20 "$root.log" >&2
        die "debootstrap failed, log in $root.log"
    }
    rm -f "$root.log" "$root"/etc/apt/sources.list "$root"/var/cache/apt/archives/*.deb
    rm -rf "${root:?}"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/cache/apt/*.bin
    awk '{ print "deb " $0 }' <<<"$2" >"$root/etc/apt/sources.list"
    apt_settings >"$root/etc/apt/apt.conf.d/90build-machine"
    if [ ${#more[@]} -gt 0 ]; then
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    fi
    # An image build wants no documentation and no services.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
}

lock "$CACHE/base-image.lock"
"$CLUSTER_SRC/packages.sh"
sources=$(apt_sources)
key=$({ cat "$0"; echo "$sources"; apt_settings; } | sha256sum | cut -c1-16)
archive=$CACHE/base-$key.tar
if [ ! -e "$archive" ]; then
    mkdir -p "$CACHE/work"
    work=$(mktemp -d "$CACHE/work/base.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    say "base image: debootstrap $SUITE, half a minute on a quiet machine, minutes on a busy one"
    fill "$work/rootfs" "$sources"
    tar -C "$work/rootfs" --numeric-owner --one-file-system -cf "$archive.new" .
    mv "$archive.new" "$archive"
fi
if [ "$(image_label "$BASE_IMAGE" tulle.base)" != "$key" ]; then
    say "base image: import as $BASE_IMAGE"
    image_from_tar "$BASE_IMAGE" "$archive" --label "tulle.base=$key" --cmd bash
fi
