#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The smaller story, without any cluster: the operator reads a folder of YAML, and each service of the
# shop runs with a sidecar in a network namespace of its own, as in a pod. First bare, then in the
# mesh; a canary, a fault and a policy come by files that are put into the folder while it runs. Each
# claim is checked: a figure that is not as the story says ends it with an error.
#
#   tools/demo/local.sh [--check] [BINDIR]    --check: the same with fewer requests, one line a claim
#
# All of it happens in network, mount and process namespaces of its own, which end with it: nothing is
# left behind however it ends, nothing of the machine's network is touched or gets in its way, and
# several may run at once.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

NODE=10.98.0.254 # the operator's address
# Pods: name, service, version, what it calls; addresses 10.98.0.1 and up.
PODS=(frontend:frontend:v1:http://checkout/ checkout-v1:checkout:v1:http://payment/
    checkout-v2:checkout:v2:http://payment/ payment:payment:v1:http://order/ order:order:v1:)
SERVICES=(frontend checkout payment order) # addresses 10.99.0.1 and up

die() {
    printf '\ndemo: %s\n' "$*" >&2
    [ -z "${INSIDE:-}" ] || tail -qn 5 "$DIR"/*.log 2>/dev/null | tail -n 30 >&2
    exit 1
}

# --- outside: build, then enter namespaces of our own ------------------------------------------------

outside() {
    local check='' bin='' cc=${CC:-gcc} dir rc why
    while [ $# -gt 0 ]; do
        case $1 in
        --check) check=1 ;;
        -*) die "unknown flag $1" ;;
        *) bin=$1 ;;
        esac
        shift
    done
    local enter=(unshare --net --mount --pid --fork --kill-child --mount-proc)
    if [ "$(id -u)" -ne 0 ]; then
        enter+=(--map-root-user --map-auto)
        why=$("${enter[@]}" ip link add probe type bridge 2>&1) ||
            die "needs root, or user namespaces with an entry in /etc/subuid and the package uidmap ($why)"
    fi
    if [ -z "$bin" ]; then
        printf '%s\n' "packages and programs (a minute or two when nothing is built)"
        tools/deps.sh || exit
        MAKEFLAGS='' make -s -j"$(nproc)" BUILD="${BUILD:-build}" FLAVOUR=release all || die "make"
        bin=${BUILD:-build}/release/bin
    fi
    # What a run that was killed left: folders that nobody holds.
    for dir in "${TMPDIR:-/tmp}"/tulle-local.*; do
        [ ! -O "$dir" ] || flock -n "$dir" rm -rf "$dir"
    done
    dir=$(mktemp -d "${TMPDIR:-/tmp}/tulle-local.XXXXXX") && exec 8<"$dir" && flock -n 8 || exit
    chmod 755 "$dir"
    mkdir "$dir/bin" "$dir/run" "$dir/config"
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$dir'" EXIT
    cp "$bin"/tulle* "$dir/bin" || die "no programs in $bin"
    "$cc" -O2 -o "$dir/bin/shop" examples/shop/shop.c -lmicrohttpd -lcurl || die "shop.c"
    "$cc" -O2 -o "$dir/bin/load" examples/shop/load.c -lcurl || die "load.c"
    # Whoever dies takes those inside along: this shell `unshare` (pdeathsig), that one all others
    # (--kill-child; the kernel ends what is left of a process namespace).
    INSIDE=1 DIR=$dir CHECK=$check setpriv --pdeathsig KILL -- "${enter[@]}" \
        bash tools/demo/local.sh &
    inner=$!
    trap 'kill -KILL $inner 2>/dev/null; wait $inner 2>/dev/null; exit 130' INT TERM HUP
    wait $inner
    rc=$?
    exit $rc
}

[ -n "${INSIDE:-}" ] || outside "$@"

# --- inside: helpers -----------------------------------------------------------------------------------

unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
E2E_DIR=$DIR/run
. tests/e2e/lib.sh
# shellcheck disable=SC2034 # what lib.sh captures on
BRIDGE=tulle-lo0
CONFIG=$DIR/config BIN=$DIR/bin
export TULLE_LIBDIR=$BIN
started=$SECONDS
count() { if [ -n "$CHECK" ]; then echo "$1"; else echo "$2"; fi; } # IN-A-CHECK IN-THE-DEMO

step() { [ -n "$CHECK" ] || printf '\n\033[1m[%2d s] %s\033[0m\n' $((SECONDS - started)) "$*"; }
say() { [ -n "$CHECK" ] || printf '       %s\n' "$*"; }
run() { "$@" >"$DIR/run/last" 2>&1 || { tail -n 15 "$DIR/run/last" >&2; die "$* failed"; }; }
# claim TEXT COMMAND...: what the story says here holds.
claim() {
    local _text=$1 _said
    shift
    _said=$("$@" 2>&1) || die "not so: $_text ($_said)"
    [ -z "$CHECK" ] || printf 'ok    demo: %s\n' "$_text"
}

names() {
    local pod
    for pod in "${PODS[@]}"; do
        echo "${pod%%:*}"
    done
}
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
pods_of() { # SERVICE
    local pod svc name
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc _ <<<"$pod"
        [ "$svc" != "$1" ] || echo "$name"
    done
}
# within POD UID COMMAND...: as that user in the pod's network; takes the place of a subshell, so
# that `within ... &` leaves the command's own process id in $!.
within() {
    local pod=$1 uid=$2
    shift 2
    exec nsenter --net="/run/netns/$pod" -S "$uid" -G "$uid" -- "$@"
}
app() { (within "$1" 10001 "${@:2}"); }
code() { app "$1" curl -s -o /dev/null -w '%{http_code}' --max-time 5 "$2" || true; }
gives() { same "$(code "$2" "$3")" "$1"; } # CODE POD URL
counted() { # POD METRIC LABEL=VALUE...: by the pod's sidecar
    local pod=$1
    shift
    app "$pod" curl -s http://127.0.0.1:15090/stats/prometheus | metric_sum "$@"
}
load_to() { # FILE POD FLAGS... URL
    local file=$1 pod=$2
    shift 2
    app "$pod" "$BIN/load" "$@" >"$file" 2>"$file.err" || { cat "$file.err"; return 1; }
}

# --- the stage: pods' networks, what an API server would hold, the applications ----------------------

network() {
    local name i=0 s
    run mount -t tmpfs tmpfs /run
    run mkdir /run/netns
    {
        echo "127.0.0.1 localhost"
        for s in "${SERVICES[@]}"; do
            echo "$(vip_of "$s") $s"
        done
    } >"$DIR/hosts"
    run mount --bind "$DIR/hosts" /etc/hosts
    run ip link set lo up
    run ip link add "$BRIDGE" type bridge
    run ip addr add "$NODE/24" dev "$BRIDGE"
    run ip link set "$BRIDGE" up
    for name in $(names); do
        i=$((i + 1))
        run ip netns add "$name"
        run ip link add "pod$i" type veth peer name eth0 netns "$name"
        run ip link set "pod$i" master "$BRIDGE" up
        run ip -n "$name" link set lo up
        run ip -n "$name" addr add "$(address_of "$name")/24" dev eth0
        run ip -n "$name" link set eth0 up
        run ip -n "$name" route add default via "$NODE"
        services "$name" || die "services"
    done
}

# services POD: until a sidecar takes this over, service addresses lead to any of a service's pods, as
# kube-proxy does it.
services() {
    local s p list n
    {
        printf 'table ip services {\nchain out {\ntype nat hook output priority -100;\n'
        for s in "${SERVICES[@]}"; do
            list='' n=0
            for p in $(pods_of "$s"); do
                list+="${list:+, }$n : $(address_of "$p")"
                n=$((n + 1))
            done
            echo "ip daddr $(vip_of "$s") tcp dport 80 dnat to numgen random mod $n map { $list } : 8080"
        done
        printf '}\n}\n'
    } | ip netns exec "$1" nft -f -
}

objects() {
    local s pod name svc version _
    for s in "${SERVICES[@]}"; do
        cat <<EOF2
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
EOF2
        for name in $(pods_of "$s"); do
            echo "  - {addresses: [$(address_of "$name")], conditions: {ready: true}, targetRef: {kind: Pod, name: $name, namespace: shop}}"
        done
        echo ---
    done
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc version _ <<<"$pod"
        cat <<EOF2
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
EOF2
    done
}

applications() {
    local pod name svc version calls
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc version calls <<<"$pod"
        NAME=$svc VERSION=$version CALLS=$calls LAME_MS=0 within "$name" 10001 "$BIN/shop" \
            >"$DIR/app-$name.log" 2>&1 &
    done
    for name in $(names); do
        run eventually 10 gives 200 "$name" http://127.0.0.1:8080/healthz
    done
}

operator() {
    local pod name svc _
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc _ <<<"$pod"
        openssl rand -hex 16 >"$DIR/token-$name"
        echo "$(cat "$DIR/token-$name") shop $svc"
    done >"$DIR/tokens"
    "$BIN/tulle-operator" --config-dir "$CONFIG" --ca-dir "$DIR/ca" --tokens "$DIR/tokens" \
        --address "$NODE" >"$DIR/operator.log" 2>&1 &
    operator_pid=$!
    run eventually 10 curl -sf "http://$NODE:15014/readyz"
    cp "$DIR/ca/root-cert.pem" "$DIR/root.pem" || die "the operator made no CA"
}

sidecars() {
    local pod name svc _
    for pod in "${PODS[@]}"; do
        IFS=: read -r name svc _ <<<"$pod"
        run ip netns exec "$name" nft delete table ip services
        run ip netns exec "$name" "$BIN/tulle-proxy" init
        POD_NAME=$name POD_NAMESPACE=shop SERVICE_ACCOUNT=$svc INSTANCE_IP=$(address_of "$name") \
            TULLE_DISCOVERY_ADDRESS=$NODE:15012 TULLE_TOKEN_PATH=$DIR/token-$name \
            TULLE_ROOTS_PATH=$DIR/root.pem within "$name" 1337 "$BIN/tulle-proxy" run \
            >"$DIR/proxy-$name.log" 2>&1 &
    done
    for name in $(names); do
        run eventually 10 app "$name" curl -sf http://127.0.0.1:15021/healthz/ready
    done
}

# put FILE [AS]: an example, copied into the folder that the operator watches (to AS in one move, as an
# editor saves).
put() {
    local as=${2:-$(basename "$1")}
    sed 's/^metadata:$/&\n  namespace: shop/' "$1" >"$CONFIG/.$as" && mv "$CONFIG/.$as" "$CONFIG/$as"
}

# --- the story -----------------------------------------------------------------------------------------

WIRE='tcp and src net 10.98.0.0/24 and dst net 10.98.0.0/24 and not host 10.98.0.254'

# wire NAME: requests through all four services, and what somebody on the wire could read of them.
wire() {
    local file=$DIR/run/$1.pcap n
    n=$(count 20 50)
    capture_start "$file" "$WIRE" || die "capture"
    run load_to "$DIR/run/$1.json" order --count "$n" --connections 2 http://frontend/
    run capture_stop "$file"
    claim "$1: $n requests pass through all four services" \
        same "$(jq -c '[.requests, .failed]' "$DIR/run/$1.json")" "[$n,0]"
    segments=$(payload_count "$file" tcp) plain=$(plain_count "$file") hellos=$(hello_count "$file")
    say "captured between pods: $segments segments with bytes, $hellos TLS hellos, $plain of readable HTTP"
    capture_text "$file" | grep -aoE '(GET|POST) /[^ ]* HTTP/1|"service":"[a-z]+"' | sort -ru |
        head -n 3 | sed 's/^/read on the wire: /' | while read -r line; do say "  $line"; done
}

bare() {
    step "1. A shop of five processes, each in a network namespace of its own, and no mesh"
    network
    objects >"$CONFIG/cluster.yaml"
    applications
    wire bare
    claim "bare, requests are readable on the wire ($plain)" between "$plain" $((8 * $(count 20 50))) 1000000
    bare_plain=$plain
}

meshed() {
    step "2. The operator reads a folder; each pod gets redirect rules and a sidecar; nothing else changes"
    operator
    sidecars
    run eventually 10 gives 200 order http://frontend/
    wire meshed
    claim "in the mesh nothing is readable, of $segments segments" same "$plain" 0
    claim "in the mesh bytes still pass" between "$segments" "$(count 20 50)" 1000000
    mesh_segments=$segments
    peers=$(counted order istio_requests_total reporter=destination connection_security_policy=mutual_tls \
        source_principal=spiffe://cluster.local/ns/shop/sa/payment)
    claim "order's sidecar knows payment by its certificate" between "$peers" "$(count 20 50)" 1000000
    say "order's sidecar: $peers requests over mutual TLS from spiffe://cluster.local/ns/shop/sa/payment"
}

# in_force PATTERN POD...: until these sidecars hold what the pattern finds in their program; sets `ms`,
# the time since `edited`.
in_force() {
    local pattern=$1 pod end=$((SECONDS + 10))
    shift
    for pod; do
        until app "$pod" curl -s http://127.0.0.1:15000/config_dump | grep -qE "$pattern"; do
            [ $SECONDS -lt $end ] || die "no '$pattern' in $pod's sidecar within ten seconds of the edit"
        done
    done
    ms=$(($(date +%s%3N) - edited))
}
edit() { edited=$(date +%s%3N) && put "$@"; }

canary() {
    step "3. A canary of checkout under load: the YAML in the folder is edited"
    local pct n before_v1 before_v2 v1 v2 low high load_pid
    n=$(count 300 1000)
    split=
    put examples/shop/subsets.yaml
    within order 10001 "$BIN/load" --rate 100 --seconds 60 --connections 4 http://frontend/ \
        >"$DIR/run/under-load.json" 2>"$DIR/run/under-load.err" &
    load_pid=$!
    for pct in 10 50 100; do
        edit "examples/shop/canary-$pct.yaml" canary.yaml
        # 100 % is one destination; its weight has no other beside it.
        in_force "weight $pct of 100|cluster\[0\]: outbound\|80\|v2\|checkout" frontend
        before_v1=$(versions_seen v1) before_v2=$(versions_seen v2)
        run load_to "$DIR/run/canary.json" frontend --count "$n" --connections 4 http://checkout/
        v1=$(($(versions_seen v1) - before_v1)) v2=$(($(versions_seen v2) - before_v2))
        # Five standard deviations.
        read -r low high < <(awk -v n=$((v1 + v2)) -v p="$pct" 'BEGIN { s = 5 * sqrt(n * p * (100 - p)) / 100
            printf "%d %d\n", n * p / 100 - s, n * p / 100 + s + 1 }')
        claim "$pct % for v2: $v2 of $((v1 + v2))" between "$v2" "$low" "$high"
        claim "$pct %: no request failed" no_failure "$DIR/run/canary.json"
        split+="${split:+, }$(awk -v a="$v2" -v b=$((v1 + v2)) 'BEGIN { printf "%.1f", 100 * a / b }')"
        say "$(printf '%3d' "$pct") % asked for, in force after $ms ms: $v2 of $((v1 + v2)) requests went to v2"
    done
    kill -TERM "$load_pid"
    wait "$load_pid"
    claim "meanwhile no request failed" no_failure "$DIR/run/under-load.json"
    under_load=$(jq -r '"\(.requests) requests, \(.failed) failed, p50 \(.p50_ms) ms, p99 \(.p99_ms) ms"' \
        "$DIR/run/under-load.json")
    say "meanwhile, 100 requests a second through all services: $under_load"
}
# What frontend's sidecar has sent to a version of checkout.
versions_seen() { counted frontend istio_requests_total reporter=source destination_version="$1"; }

faults() {
    step "4. One call of payment in five is made to fail; then checkout's callers retry"
    local n
    n=$(count 200 400)
    edit examples/shop/fault.yaml
    in_force 'VirtualService shop/payment' checkout-v2
    run load_to "$DIR/run/fault.json" frontend --count "$n" --connections 4 http://checkout/
    without=$(jq .failed "$DIR/run/fault.json")
    claim "without retries about one call in five fails: $without of $n" between "$without" $((n / 10)) $((n / 3))
    say "without retries, $without of $n calls of checkout fail"
    edit examples/shop/retry.yaml canary.yaml
    in_force 'retr.*4' frontend
    in_force 'VirtualService shop/payment' checkout-v1
    run load_to "$DIR/run/retry.json" frontend --count "$n" --connections 4 http://checkout/
    with=$(jq .failed "$DIR/run/retry.json") calls=$n
    claim "with retries next to none: $with of $n" between "$with" 0 $((n / 50))
    say "with retries, $with of $n; in force after $ms ms"
    rm "$CONFIG/fault.yaml"
}

guards() {
    step "5. Only payment may call order, and only encrypted"
    put examples/shop/only-payment-may-call-order.yaml
    put examples/shop/strict-order.yaml
    run eventually 10 gives 403 frontend http://order/
    from_node() { same "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "http://$(address_of order):8080/")" "$1"; }
    run eventually 10 from_node 000
    claim "payment calls order" gives 200 payment http://order/
    claim "frontend is denied" gives 403 frontend http://order/
    claim "without a certificate there is no answer" from_node 000
    denied=$(counted order istio_requests_total reporter=destination response_code=403)
    claim "order's sidecar counted what it denied" between "$denied" 1 1000
    say "payment calls order:            $(code payment http://order/)"
    say "frontend calls order:           $(code frontend http://order/)"
    say "someone without a certificate:  no answer, the connection is closed"
}

mistakes() {
    step "6. A file that is broken changes nothing, and is named"
    printf 'kind: VirtualService\nspec: {hosts: [order\n' >"$CONFIG/broken.yaml"
    run eventually 10 grep -q 'broken.yaml' "$DIR/operator.log"
    say "the operator: $(grep 'broken.yaml' "$DIR/operator.log" | tail -n 1 |
        sed 's/.*msg="\([^"]*\)" reason="/\1: /; s/"[^"]*$//' | sed "s|$CONFIG/||" | cut -c1-110)"
    claim "the shop works on" gives 200 order http://frontend/
    rm "$CONFIG/broken.yaml"
}

memory_kb() { # POD: what both processes of its sidecar have for themselves
    local pid sum=0
    for pid in $(ip netns pids "$1"); do
        case $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") in
        *tulle-proxy*) sum=$((sum + $(awk '/^Anonymous:/ { print $2 }' "/proc/$pid/smaps_rollup"))) ;;
        esac
    done
    echo $sum
}

screen() {
    step "What the sidecars and the captures say"
    [ -z "$CHECK" ] || return 0
    local pod
    denied=$(counted order istio_requests_total reporter=destination response_code=403)
    cat <<EOF

  readable on the wire     $bare_plain lines of HTTP before the mesh, none in $mesh_segments segments within it
  checkout's v2            $split % where 10, 50, 100 % were asked for
  under load meanwhile     $under_load
  failed calls             $without of $calls with a fault in payment, $with with retries
  denied calls             $denied by policy at order's sidecar
  memory of the operator   $(awk '/^Anonymous:/ { print $2 }' "/proc/$operator_pid/smaps_rollup") KB of its own

  sidecar        requests received   of them by mutual TLS   memory of its own
EOF
    for pod in $(names); do
        printf '  %-12s %19s %23s %16s KB\n' "$pod" \
            "$(counted "$pod" istio_requests_total reporter=destination)" \
            "$(counted "$pod" istio_requests_total reporter=destination connection_security_policy=mutual_tls)" \
            "$(memory_kb "$pod")"
    done
    printf '\n  %d seconds after the build. Nothing of it is left behind.\n' $((SECONDS - started))
}

bare
meshed
canary
faults
guards
mistakes
screen
