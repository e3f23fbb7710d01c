#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The smaller story, without any cluster: the operator reads a folder, and each service of the shop
# runs with a sidecar in a network namespace of its own, as in a pod. Called by tools/demo.sh local.
# Takes everything away again at its end.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
[ "$(id -u)" -eq 0 ] || { echo "needs root, for network namespaces" >&2; exit 1; }

BRIDGE=tulle-lo0 GATEWAY=10.98.0.254
DIR=$(mktemp -d "${TMPDIR:-/tmp}/tulle-local.XXXXXX")
CONFIG=$DIR/config
started=$SECONDS
pids=()
# Pods: name, service, version, what it calls. Services have the addresses 10.99.0.1 and up.
PODS=(frontend:frontend:v1:http://checkout/ checkout-v1:checkout:v1:http://payment/
    checkout-v2:checkout:v2:http://payment/ payment:payment:v1:http://order/ order:order:v1:)
SERVICES=(frontend checkout payment order)

step() { printf '\n\033[1m[%3d s] %s\033[0m\n' $((SECONDS - started)) "$*"; }
say() { printf '        %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; tail -n 5 "$DIR"/*.log >&2 2>/dev/null; exit 1; }

cleanup() {
    local p pod
    for p in "${pids[@]}"; do
        kill "$p" 2>/dev/null
    done
    wait 2>/dev/null
    for pod in "${PODS[@]}"; do
        ip netns del "tulle-${pod%%:*}" 2>/dev/null
        rm -rf "/etc/netns/tulle-${pod%%:*}"
    done
    ip link del "$BRIDGE" 2>/dev/null
    rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

address_of() { # POD
    local i=0 pod
    for pod in "${PODS[@]}"; do
        i=$((i + 1))
        [ "${pod%%:*}" != "$1" ] || echo "10.98.0.$i"
    done
}
vip_of() { # SERVICE
    local i=0 s
    for s in "${SERVICES[@]}"; do
        i=$((i + 1))
        [ "$s" != "$1" ] || echo "10.99.0.$i"
    done
}
# within POD UID COMMAND...: as that user in the pod's network.
within() {
    local pod=$1 uid=$2
    shift 2
    ip netns exec "tulle-$pod" setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
app() { local pod=$1; shift; within "$pod" 10001 "$@"; }
code() { app "$1" curl -s -o /dev/null -w '%{http_code}' --max-time 5 "$2"; }
until_it() { # COMMAND...: within ten seconds
    local _
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    die "$*: not within ten seconds"
}
answers() { [ "$(code "$2" "$3")" = "$1" ]; }

network() {
    local pod name s
    ip link add "$BRIDGE" type bridge && ip addr add "$GATEWAY/24" dev "$BRIDGE" &&
        ip link set "$BRIDGE" up || die "network"
    for pod in "${PODS[@]}"; do
        name=${pod%%:*}
        ip netns add "tulle-$name"
        ip link add "tl$(address_of "$name" | tr -d .)" type veth peer name eth0 netns "tulle-$name"
        ip link set "tl$(address_of "$name" | tr -d .)" master "$BRIDGE" up
        ip -n "tulle-$name" addr add "$(address_of "$name")/24" dev eth0
        ip -n "tulle-$name" link set eth0 up
        ip -n "tulle-$name" link set lo up
        ip -n "tulle-$name" route add default via "$GATEWAY"
        mkdir -p "/etc/netns/tulle-$name"
        echo "127.0.0.1 localhost" >"/etc/netns/tulle-$name/hosts"
        for s in "${SERVICES[@]}"; do
            echo "$(vip_of "$s") $s" >>"/etc/netns/tulle-$name/hosts"
        done
    done
}

# What an API server would hold: services, endpoints, pods.
objects() {
    local s pod name svc version _
    for s in "${SERVICES[@]}"; do
        cat <<EOF
apiVersion: v1
kind: Service
metadata: {name: $s, namespace: shop}
spec:
  clusterIP: $(vip_of "$s")
  clusterIPs: [$(vip_of "$s")]
  selector: {app: $s}
  ports: [{name: http, port: 80, protocol: TCP, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $s-1, namespace: shop, labels: {kubernetes.io/service-name: $s}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
EOF
        for pod in "${PODS[@]}"; do
            IFS=: read -r name svc version _ <<<"$pod"
            [ "$svc" != "$s" ] || echo "  - {addresses: [$(address_of "$name")], conditions: {ready: true}, targetRef: {kind: Pod, name: $name, namespace: shop}}"
        done
        echo ---
    done
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc version _ <<<"$pod"
        cat <<EOF
apiVersion: v1
kind: Pod
metadata:
  name: $name
  namespace: shop
  labels: {app: $svc, version: $version, security.istio.io/tlsMode: istio}
  annotations: {sidecar.istio.io/status: "{}"}
spec:
  serviceAccountName: $svc
  containers: [{name: $svc, image: shop, ports: [{name: http, containerPort: 8080}]}]
status:
  phase: Running
  podIP: $(address_of "$name")
  podIPs: [{ip: $(address_of "$name")}]
  conditions: [{type: Ready, status: "True"}]
---
EOF
    done
}

applications() {
    local pod name svc version calls
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc version calls <<<"$pod"
        NAME=$svc VERSION=$version CALLS=$calls LAME_MS=0 app "$name" "$DIR/shop" >"$DIR/app-$name.log" 2>&1 &
        pids+=($!)
    done
    for pod in "${PODS[@]}"; do
        until_it answers 200 "${pod%%:*}" http://127.0.0.1:8080/healthz
    done
}

operator() {
    local pod name svc _
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc _ <<<"$pod"
        openssl rand -hex 16 >"$DIR/token-$name"
        echo "$(cat "$DIR/token-$name") shop $svc"
        chmod 644 "$DIR/token-$name"
    done >"$DIR/tokens"
    "$BIN/tulle-operator" --config-dir "$CONFIG" --ca-dir "$DIR/ca" --tokens "$DIR/tokens" \
        --address "$GATEWAY" --port 15012 --monitoring-port 15014 >"$DIR/operator.log" 2>&1 &
    pids+=($!)
    until_it curl -sf --noproxy '*' "http://$GATEWAY:15014/readyz"
    cp "$DIR/ca/root-cert.pem" "$DIR/root.pem" || die "the operator made no CA"
}

sidecars() {
    local pod name svc version _
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc version _ <<<"$pod"
        ip netns exec "tulle-$name" "$BIN/tulle-proxy" init >"$DIR/init-$name.log" 2>&1 || die "init in $name"
        within "$name" 1337 env POD_NAME="$name" POD_NAMESPACE=shop SERVICE_ACCOUNT="$svc" \
            INSTANCE_IP="$(address_of "$name")" TULLE_DISCOVERY_ADDRESS="$GATEWAY:15012" \
            TULLE_TOKEN_PATH="$DIR/token-$name" TULLE_ROOTS_PATH="$DIR/root.pem" \
            "$BIN/tulle-proxy" run >"$DIR/proxy-$name.log" 2>&1 &
        pids+=($!)
    done
    for pod in "${PODS[@]}"; do
        until_it within "${pod%%:*}" 10001 curl -sf http://127.0.0.1:15021/healthz/ready
    done
}

# wire COMMAND...: run it; how much of what passed between the pods could be read.
wire() {
    tcpdump -i "$BRIDGE" --immediate-mode -U -s 0 -w "$DIR/wire.pcap" \
        "tcp and port 8080 and not host $GATEWAY" 2>"$DIR/tcpdump.log" &
    local dump=$!
    until_it grep -q 'listening on' "$DIR/tcpdump.log"
    "$@"
    sleep 0.3
    kill -INT $dump
    wait $dump 2>/dev/null
    say "captured: $(tcpdump -r "$DIR/wire.pcap" -nn 2>/dev/null | wc -l) packets, $(tcpdump -r "$DIR/wire.pcap" -nn -A 2>/dev/null |
        grep -cE '(GET|POST) /[^ ]* HTTP/1|HTTP/1\.[01] [1-5]') lines of readable HTTP"
}
metric() { # POD NAME LABELS-REGEX
    within "$1" 10001 curl -s http://127.0.0.1:15090/stats/prometheus |
        awk -v n="$2" -v r="$3" 'index($0, n "{") == 1 && $0 ~ r { s += $NF } END { print s + 0 }'
}
memory_kb() { # POD: both processes of its sidecar, what is theirs alone
    local pid sum=0
    for pid in $(ip netns pids "tulle-$1"); do
        case $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") in
        *tulle-proxy*run*) sum=$((sum + $(awk '/^Anonymous:/ { print $2 }' "/proc/$pid/smaps_rollup"))) ;;
        esac
    done
    echo $sum
}

step "programs (a minute when nothing is built)"
tools/deps.sh >/dev/null || die "packages"
make -s -j"$(nproc)" all >"$DIR/make.log" 2>&1 || { cat "$DIR/make.log"; die "make"; }
started=$SECONDS
BIN=$PWD/build/release/bin
# Where a user of no privilege may read them.
mkdir -p "$DIR/bin" "$CONFIG"
cp "$BIN"/tulle* "$DIR/bin"
BIN=$DIR/bin
export TULLE_LIBDIR=$BIN
chmod 755 "$DIR"
gcc -O2 -o "$DIR/shop" examples/shop/shop.c -lmicrohttpd -lcurl &&
    gcc -O2 -o "$DIR/load" examples/shop/load.c -lcurl || die "the shop"

step "1. A shop of five processes, each in a network namespace of its own; no mesh"
network
objects >"$CONFIG/cluster.yaml"
applications
wire answers 200 frontend "http://$(address_of order):8080/"

step "2. The operator reads a folder; each namespace gets its redirect rules and a sidecar"
operator
sidecars
until_it answers 200 order http://frontend/
wire app order "$DIR/load" --count 50 --connections 2 http://frontend/ >"$DIR/load.json"
grep -v '^{' "$DIR/load.json"
say "$(jq -r '"\(.requests) requests through four services, \(.failed) failed"' <(grep '^{' "$DIR/load.json"))"
say "order's sidecar: $(metric order istio_requests_total 'source_principal="spiffe://cluster.local/ns/shop/sa/payment".*mutual_tls') requests over mutual TLS from spiffe://cluster.local/ns/shop/sa/payment"

step "3. A canary of checkout: files are copied into the folder"
cp examples/shop/subsets.yaml "$CONFIG"
sed -i 's/^  name: checkout$/&\n  namespace: shop/' "$CONFIG/subsets.yaml"
for pct in 10 50 100; do
    sed 's/^  name: checkout$/&\n  namespace: shop/' "examples/shop/canary-$pct.yaml" >"$CONFIG/canary.yaml"
    sleep 1.5
    app frontend "$DIR/load" --count 1000 --connections 4 http://checkout/ >"$DIR/load.json"
    say "$(printf '%3d' $pct) % asked for: $(jq -r '"\(.versions.v2 // 0) of \(.requests) went to v2, \(.failed) failed"' "$DIR/load.json")"
done

step "4. Only payment may call order"
sed 's/^  name: order-callers$/&\n  namespace: shop/' examples/shop/only-payment-may-call-order.yaml >"$CONFIG/guard.yaml"
until_it answers 403 frontend http://order/
say "payment calls order:  $(code payment http://order/)"
say "frontend calls order: $(code frontend http://order/)"

step "What the sidecars say"
for pod in "${PODS[@]}"; do
    pod=${pod%%:*}
    say "$(printf '%-12s %6d requests received, %4d of them denied, %5d KB of memory of its own' "$pod" \
        "$(metric "$pod" istio_requests_total 'reporter="destination"')" \
        "$(metric "$pod" istio_requests_total 'reporter="destination".*response_code="403"')" "$(memory_kb "$pod")")"
done
printf '\n  %d seconds after the build. Everything is taken away again.\n' $((SECONDS - started))
