#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# collect-libs.sh DEST [--names] FILE[=TARGET]... [LIBRARY.so.N]...
# Fills DEST with a root that runs the given executables and nothing else: each FILE at TARGET (or at
# /usr/local/bin), every shared library that it or a LIBRARY (loaded on demand, looked up by the
# loader's rules) needs, at the path where the loader looks, and a user without a name to others.
# --names: also what resolving names and verifying servers takes: nsswitch.conf and CA certificates.
set -eu

dest=$1
shift
names=
if [ "${1:-}" = --names ]; then
    names=1
    shift
fi

# "libx.so.1 => /lib/.../libx.so.1 (0x...)" and the loader's own line; a static file has none.
needed() {
    if out=$(ldd "$1" 2>/dev/null); then
        case $out in
        *"not found"*)
            echo "$1 lacks a library:" >&2
            echo "$out" | grep "not found" >&2
            return 1
            ;;
        esac
        echo "$out" | sed -n 's/.*=> \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'
    fi
}

put() { # FROM TO: the file itself where FROM is a link to it
    [ ! -e "$dest$2" ] || return 0
    mkdir -p "$dest$(dirname "$2")"
    cp -L "$1" "$dest$2"
}

with_libraries() {
    list=$(needed "$1") || exit 1
    for lib in $list; do
        put "$lib" "$lib"
    done
}

for what; do
    case $what in
    /*)
        file=${what%%=*}
        target=/usr/local/bin/$(basename "$file")
        [ "$what" = "$file" ] || target=${what#*=}
        put "$file" "$target"
        with_libraries "$file"
        ;;
    *)
        file=$(ldconfig -p | sed -n "s|^[[:space:]]*$what .*=> ||p" | head -1)
        [ -n "$file" ] || { echo "$what: no such library" >&2; exit 1; }
        put "$file" "$file"
        with_libraries "$file"
        ;;
    esac
done

mkdir -p "$dest/etc" "$dest/tmp"
chmod 1777 "$dest/tmp"
printf 'root:x:0:0::/:/\nproxy:x:1337:1337::/:/\nnonroot:x:65532:65532::/:/\n' >"$dest/etc/passwd"
printf 'root:x:0:\nproxy:x:1337:\nnonroot:x:65532:\n' >"$dest/etc/group"
if [ -n "$names" ]; then
    # glibc 2.34 and later carry `files` and `dns` within themselves.
    printf 'hosts: files dns\n' >"$dest/etc/nsswitch.conf"
    put /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
fi
