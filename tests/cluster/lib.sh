# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What every script of the test cluster shares: where things are, how progress is told, and how
# a cached artefact gets its name. Sourced, never run; changes nothing on the machine.

CLUSTER_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Things that are slow to make and the same for every run.
CACHE=${TULLE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tulle}
# Things of this run. Not under /run: that is often mounted noexec, and containers live here.
DIR=${TULLE_CLUSTER_DIR:-/var/lib/tulle-cluster}

NODE_NAME=node1
NODE_IP=10.97.0.1           # on a dummy interface: reachable from pods, never from outside
# With TULLE_CLUSTER_IPV6=1 also these; the choice holds for the life of a cluster.
NODE_IP6=fd97::1
POD_RANGE6=fd44::/56
POD_NODE_RANGE6=fd44::/64
SERVICE_RANGE6=fd96::/112
POD_RANGE=10.244.0.0/16
POD_NODE_RANGE=10.244.0.0/24
SERVICE_RANGE=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_SERVICE_IP=10.96.0.10
DNS_DOMAIN=cluster.local
DNS_PORT=10053
API_PORT=6443
ETCD_PORT=12379
ETCD_PEER_PORT=12380
BRIDGE=tulle-br0
DUMMY=tulle-void0
NFT_TABLE=tulle_cluster
CGROUP=tulle-cluster
BASE_IMAGE=docker.io/library/debian:bookworm-slim
PAUSE_IMAGE=tulle.local/pause:1
GO_MIN=1.24
: "$NODE_IP6$POD_RANGE6$POD_NODE_RANGE6$SERVICE_RANGE6"
: "$NODE_NAME$NODE_IP$POD_RANGE$POD_NODE_RANGE$SERVICE_RANGE$API_SERVICE_IP$DNS_DOMAIN"
: "$DNS_SERVICE_IP$DNS_PORT$API_PORT$ETCD_PORT$ETCD_PEER_PORT$BRIDGE$DUMMY$NFT_TABLE$CGROUP"
: "$DIR$BASE_IMAGE$PAUSE_IMAGE$GO_MIN"

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

now_ms() { date +%s%3N; }
STARTED_MS=$(now_ms)

# One line of progress, to stderr so that stdout stays free for results.
say() {
    local ms=$(($(now_ms) - STARTED_MS))
    printf '[%4d.%ds] %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" >&2
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Is this cluster's life a dual-stack one?
dual_stack() { [ -e "$DIR/dual-stack" ]; }

# both IPV4 IPV6: the list for a flag, one or two long.
both() { if dual_stack; then echo "$1,$2"; else echo "$1"; fi; }

have() { command -v "$1" >/dev/null 2>&1; }

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root: namespaces, mounts and network interfaces"
}

# hash_of FILE...: a short name for the contents of these files, whatever their place.
hash_of() { cat -- "$@" | sha256sum | cut -c1-16; }

# until_true SECONDS COMMAND...: polls; false when the time is over.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# lock FILE [WHAT]: held until the script ends. Daemons must be started with fd 9 closed.
lock() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    flock -n 9 && return
    say "waiting for another run of ${2:-${0##*/}}"
    flock 9
}

# Where the built programs are; they exist after build.sh.
module_key() {
    local files
    mapfile -t files < <(find "$CLUSTER_SRC/$1" -name go.mod -o -name go.sum -o -name '*.go' | sort)
    hash_of "${files[@]}"
}
kubernetes_bin() { echo "$CACHE/kubernetes-$(module_key kubernetes)/kubernetes"; }
coredns_bin() { echo "$CACHE/coredns-$(module_key coredns)/coredns"; }
helm_bin() { echo "$CACHE/helm-$(module_key helm)/helm"; }
