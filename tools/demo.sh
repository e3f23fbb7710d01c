#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The story that `make demo` tells: a shop on a real cluster, first bare, then in the mesh; encrypted,
# routed, guarded, a canary under load; then one screen of figures. Every figure comes from proxies,
# Prometheus or captures.
#
#   tools/demo.sh cluster    on the test cluster, or on the one that KUBECONFIG names (images then go
#                            to the registry of TULLE_REGISTRY); leaves everything running
#   tools/demo.sh local      a smaller story without any cluster, in seconds once the programs are built
#   tools/demo.sh clean      take away what it made; the test cluster goes down
set -uo pipefail
cd "$(dirname "$0")/.." || exit

[ "${1:-}" != local ] || exec tools/demo/local.sh

# The tests use the same cluster and namespaces: one at a time, as tests/e2e/run.sh has it.
if [ -z "${E2E_LOCKED:-}" ]; then
    lock=${TMPDIR:-/tmp}/tulle-e2e.lock
    flock -n "$lock" true || echo "a test has the cluster: waiting for it" >&2
    E2E_LOCKED=1 exec flock -o "$lock" bash tools/demo.sh "$@"
fi

DEMO_DIR=${TULLE_DEMO_DIR:-${TMPDIR:-/tmp}/tulle-demo}
export E2E_DIR=$DEMO_DIR/e2e
mkdir -p "$DEMO_DIR" "$E2E_DIR"
. tests/e2e/lib.sh
. tools/demo/prometheus.sh
started=$SECONDS
own_config=${TULLE_CLUSTER_DIR:-/var/lib/tulle-cluster}/kubeconfig

step() { printf '\n\033[1m[%3d s] %s\033[0m\n' $((SECONDS - started)) "$*"; }
say() { printf '        %s\n' "$*"; }
die() { printf '\n%s\n' "demo: $*" >&2; exit 1; }
run() { "$@" >"$DEMO_DIR/last.log" 2>&1 || { tail -n 20 "$DEMO_DIR/last.log" >&2; die "$* failed"; }; }

which_cluster() {
    if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$own_config" ]; then
        E2E_CLUSTER=users
    else
        E2E_CLUSTER=ours
    fi
}

# --- set-up ------------------------------------------------------------------------------------------

set_up() {
    step "packages, programs (a minute or two when nothing is built)"
    run tools/deps.sh
    run make -j"$(nproc)" all
    if ours; then
        [ "$(id -u)" -eq 0 ] || die "the test cluster needs root; or set KUBECONFIG to a cluster of yours"
        step "a real Kubernetes (about 10 minutes when nothing is cached, else seconds)"
        tests/cluster/build.sh >"$DEMO_DIR/build.log" 2>&1 || { tail "$DEMO_DIR/build.log"; die "cluster build"; }
        tests/cluster/up.sh >"$DEMO_DIR/up.log" 2>&1 || { tail "$DEMO_DIR/up.log"; die "cluster"; }
        eval "$(tests/cluster/env.sh)"
    else
        [ -n "${TULLE_REGISTRY:-}" ] || die "set TULLE_REGISTRY to a registry that your cluster pulls from"
        command -v helm >/dev/null || die "helm is needed"
        command -v kubectl >/dev/null || die "kubectl is needed"
        keep_off "$SYSTEM" "$SHOP" "$BARE" || die "this cluster has these namespaces already"
        run ns_make "$SYSTEM"
    fi
    step "images (a minute or two when the sources changed)"
    tools/images.sh >"$DEMO_DIR/images" 2>"$DEMO_DIR/images.log" || { tail "$DEMO_DIR/images.log"; die "images"; }
    # shellcheck disable=SC1091 # written just now
    . "$DEMO_DIR/images"
    say "$TULLE_HUB/tulle-{operator,injector,proxy}:$TULLE_TAG"
    step "the mesh: two charts"
    run helm upgrade --install tulle-base manifests/charts/tulle-base -n "$SYSTEM" --create-namespace --wait
    run helm upgrade --install tulle manifests/charts/tulle -n "$SYSTEM" --wait --timeout 120s \
        --set global.hub="$TULLE_HUB" --set global.tag="$TULLE_TAG"
    run eventually 60 is_true "" mesh default Ready
}

# --- the story ------------------------------------------------------------------------------------------

WIRE='tcp and src net 10.244.0.0/24 and dst net 10.244.0.0/24 and not host 10.244.0.1'

# wire NAME: requests through all four services, and what somebody on the wire could read of them.
wire() {
    local file=$DEMO_DIR/$1.pcap from
    from=$(pod_of "$SHOP" app=load)
    if ! ours; then
        run load "$SHOP" "$from" --count 50 --connections 2 http://frontend/
        say "(a capture needs the node: not taken on a cluster of yours)"
        return
    fi
    capture_start "$file" "$WIRE" || die "capture"
    run load "$SHOP" "$from" --count 50 --connections 2 http://frontend/
    run capture_stop "$file"
    say "captured between pods: $(payload_count "$file" tcp) segments with bytes, $(plain_count "$file") of readable HTTP"
    capture_text "$file" | grep -aoE '(GET|POST) /[^ ]* HTTP/1|"service":"[a-z]+"' | sort -ru | head -n 3 | sed 's/^/          read on the wire: /'
}

bare_shop() {
    step "1. The shop, not in the mesh yet: anybody on the wire reads along"
    run ns_make "$SHOP"
    k label namespace "$SHOP" istio-injection- >/dev/null 2>&1
    no_policies
    apply "$SHOP" examples/shop/shop.yaml >/dev/null || die "shop"
    caller_yaml load "$SHOP_IMAGE" | k apply -n "$SHOP" -f - >/dev/null || die "load client"
    if has_sidecar "$SHOP" "$(eventually 60 some_pod)"; then
        run restart "$SHOP" # of an earlier demo
    fi
    run settled "$SHOP"
    wire bare
}
some_pod() {
    local p
    p=$(pod_of "$SHOP" app=frontend)
    [ -n "$p" ] && echo "$p"
}

meshed_shop() {
    step "2. kubectl label namespace $SHOP istio-injection=enabled; a restart; nothing else changes"
    k label namespace "$SHOP" istio-injection=enabled --overwrite >/dev/null
    run restart "$SHOP"
    run eventually 60 answers 200 "$SHOP" "$(pod_of "$SHOP" app=load)" http://frontend/
    k get pods -n "$SHOP" | sed 's/^/        /'
    wire meshed
}

neighbours() {
    step "3. Bare and meshed neighbours call one another"
    ns_make "$BARE"
    { caller_yaml load "$SHOP_IMAGE"; echo ---; hello_yaml; } | k apply -n "$BARE" -f - >/dev/null
    run settled "$BARE"
    say "bare to meshed: $(http "$BARE" "$(pod_of "$BARE" app=load)" "http://frontend.$SHOP/")"
    say "meshed to bare: $(http "$SHOP" "$(pod_of "$SHOP" app=load)" "http://hello.$BARE/")"
}

canary() {
    step "4. A canary of checkout under load, by applying YAML: 10 %, 50 %, 100 %"
    local pct loader out=$DEMO_DIR/canary.json all=$DEMO_DIR/under-load.json
    loader=$(pod_of "$SHOP" app=load)
    run apply "$SHOP" examples/shop/subsets.yaml examples/shop/canary-0.yaml
    run eventually 15 programmed "$SHOP" vs checkout
    load_start "$all" "$SHOP" "$loader" --rate 100 --seconds 24 --connections 8 http://frontend/
    for pct in 10 50 100; do
        run apply "$SHOP" "examples/shop/canary-$pct.yaml"
        run eventually 15 programmed "$SHOP" vs checkout
        load "$SHOP" "$loader" --count 1000 --connections 4 http://checkout/ >"$out" || die "load"
        say "$(printf '%3d' "$pct") % asked for: $(jq -r '"\(.versions.v2 // 0) of \(.requests) went to v2, \(.failed) failed"' "$out")"
    done
    k get vs,dr -n "$SHOP" | sed 's/^/        /'
    run load_end "$all"
    say "meanwhile, 100 requests a second through all services: $(jq -r '"\(.requests) sent, \(.failed) failed, p50 \(.p50_ms) ms, p99 \(.p99_ms) ms"' "$all")"
}

faults() {
    step "5. One call of payment in five is made to fail; then checkout's callers retry, by YAML"
    local loader out=$DEMO_DIR/fault.json
    loader=$(pod_of "$SHOP" app=load)
    run apply "$SHOP" examples/shop/fault.yaml
    run eventually 15 programmed "$SHOP" vs payment
    load "$SHOP" "$loader" --count 400 --connections 4 http://checkout/ >"$out"
    say "without retries: $(jq -r '"\(.failed) of \(.requests) calls of checkout failed"' "$out")"
    run apply "$SHOP" examples/shop/retry.yaml
    run eventually 15 programmed "$SHOP" vs checkout
    load "$SHOP" "$loader" --count 400 --connections 4 http://checkout/ >"$out"
    say "with retries:    $(jq -r '"\(.failed) of \(.requests)"' "$out")"
    run unapply "$SHOP" examples/shop/fault.yaml
    run apply "$SHOP" examples/shop/canary-50.yaml
}

guards() {
    step "6. Only payment may call order, and only encrypted"
    run apply "$SHOP" examples/shop/only-payment-may-call-order.yaml examples/shop/strict-order.yaml
    local frontend payment
    frontend=$(pod_of "$SHOP" app=frontend) payment=$(pod_of "$SHOP" app=payment)
    run eventually 15 answers 403 "$SHOP" "$frontend" http://order/
    run eventually 15 answers 000 "$BARE" "$(pod_of "$BARE" app=load)" "http://order.$SHOP/"
    say "payment calls order:        $(http "$SHOP" "$payment" http://order/)"
    say "frontend calls order:       $(http "$SHOP" "$frontend" http://order/)"
    say "a bare pod calls order:     $(http "$BARE" "$(pod_of "$BARE" app=load)" "http://order.$SHOP/") (refused before a byte was answered)"
}

mutual_only() {
    step "7. ISTIO_MUTUAL means it: a checkout pod without sidecar gets not one plaintext byte"
    local loader server file=$DEMO_DIR/mutual.pcap code
    loader=$(pod_of "$SHOP" app=load)
    run unapply "$SHOP" examples/shop/canary-50.yaml examples/shop/subsets.yaml
    k scale deployment -n "$SHOP" checkout-v1 --replicas 0 >/dev/null
    k patch deployment -n "$SHOP" checkout-v2 --type merge -p \
        '{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"false"}}}}}' >/dev/null
    run settled "$SHOP"
    run eventually 20 answers 200 "$SHOP" "$loader" http://checkout/
    say "no rule, the mesh adapts:               $(http "$SHOP" "$loader" http://checkout/)"
    run apply "$SHOP" examples/seed/destinationrule.yaml
    run eventually 15 answers 503 "$SHOP" "$loader" http://checkout/
    server=$(pod_ip "$SHOP" "$(pod_of "$SHOP" app=checkout)")
    ours && { capture_start "$file" "tcp and host $server and port 8080" || die "capture"; }
    code=$(http "$SHOP" "$loader" http://checkout/ -H 'x-secret: plainly-visible')
    say "examples/seed/destinationrule.yaml:     $code"
    if ours; then
        run capture_stop "$file"
        say "plaintext captured on the way there:    $(plain_count "$file" "src host $(pod_ip "$SHOP" "$loader")") requests, $(grep -ac plainly-visible "$file") secrets"
    fi
    k patch deployment -n "$SHOP" checkout-v2 --type json -p '[{"op":"remove",
        "path":"/spec/template/metadata/labels/sidecar.istio.io~1inject"}]' >/dev/null
    k scale deployment -n "$SHOP" checkout-v1 --replicas 2 >/dev/null
    run rollout "$SHOP" checkout-v1 checkout-v2
    run apply "$SHOP" examples/shop/subsets.yaml examples/shop/canary-10.yaml
    run eventually 20 answers 200 "$SHOP" "$loader" http://checkout/
    say "with its sidecar back, the same rule:   $(http "$SHOP" "$loader" http://checkout/)"
}

# --- the screen -------------------------------------------------------------------------------------------

number() { awk -v n="${1:-0}" -v f="${2:-%.1f}" 'BEGIN { printf f, n }'; }

# edges POLICY: who has called whom in this way, as the servers' sidecars counted it.
edges() {
    prom_json "sum by (source_workload, destination_workload) (istio_requests_total{reporter=\"destination\",destination_service_namespace=\"shop\",connection_security_policy=\"$1\"}) > 0" |
        jq -r '"\(length)" + (if length > 0 then ": " + ([.[].metric |
            "\(.source_workload) to \(.destination_workload)"] | sort | join(", ")) else "" end)'
}

screen() {
    step "What the proxies and Prometheus say"
    local loader q='destination_service_namespace="shop"'
    loader=$(pod_of "$SHOP" app=load)
    load "$SHOP" "$loader" --rate 150 --seconds 8 --connections 4 http://frontend/ >"$DEMO_DIR/last.json"
    sleep 2 # a scrape
    echo
    echo "  checkout's versions      $(prom_json "100 * sum by (destination_version) (rate(istio_requests_total{reporter=\"source\",destination_service_name=\"checkout\",response_code=\"200\"}[10s])) / scalar(sum(rate(istio_requests_total{reporter=\"source\",destination_service_name=\"checkout\",response_code=\"200\"}[10s]))) > 0" |
        jq -r '[.[] | "\(.metric.destination_version) \(.value[1] | tonumber | round) %"] | sort | join("   ")')"
    echo "  errors (5xx)             $(number "$(prom_query "100 * (sum(rate(istio_requests_total{reporter=\"source\",$q,response_code=~\"5..\"}[10s])) or vector(0)) / sum(rate(istio_requests_total{reporter=\"source\",$q}[10s]))")" %.2f) %"
    local p
    for p in 0.50 0.99; do
        echo "  latency p$(awk -v q="$p" 'BEGIN { print q * 100 }')              $(number "$(prom_query "histogram_quantile($p, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter=\"destination\",$q,destination_service_name=\"frontend\"}[30s])))")") ms at frontend's sidecar"
    done
    echo "  encrypted edges          $(edges mutual_tls)"
    echo "  plaintext edges          $(edges none)"
    echo "  denied calls             $(prom_query "sum(istio_requests_total{reporter=\"destination\",$q,response_code=\"403\"})") by policy, $(prom_query "sum(tulle_connections_refused_total)") connections refused"
    echo "  sidecars' memory         $(number "$(prom_query 'avg(container_memory_working_set_bytes{namespace="shop",container="istio-proxy"}) / 1048576')") MB each, working set; the applications' $(number "$(prom_query 'avg(container_memory_working_set_bytes{namespace="shop",container!="istio-proxy",container!=""}) / 1048576')") MB"
    local cpu='sum(rate(container_cpu_usage_seconds_total{namespace="shop",container'
    echo "  sidecars' CPU            $(number "$(prom_query "$cpu=\"istio-proxy\"}[30s])) * 1000")" %.0f) millicores all together; the applications' $(number "$(prom_query "$cpu!~\"istio-proxy|\"}[30s])) * 1000")" %.0f)"
    echo
    k get mesh | sed 's/^/  /'
    cat <<TXT

  To look further:
    $(ours && echo "eval \"\$(tests/cluster/env.sh)\"")
    kubectl get vs,dr,pa,ap -n $SHOP            what became of the YAML
    kubectl describe vs checkout -n $SHOP       and why
    kubectl logs -n $SHOP deploy/frontend-v1 -c istio-proxy
    kubectl exec -n $SHOP deploy/frontend-v1 -c frontend -- curl -s localhost:15000/config_dump
    Prometheus: $PROM_URL      boards for Grafana: manifests/dashboards/
    make demo-clean
TXT
}

demo() {
    which_cluster
    set_up
    run prom_start "$DEMO_DIR/prometheus"
    bare_shop
    meshed_shop
    neighbours
    canary
    faults
    guards
    mutual_only
    screen
    printf '\n  %d seconds.\n' $((SECONDS - started))
}

clean() {
    which_cluster
    prom_stop "$DEMO_DIR/prometheus"
    if ours; then
        eval "$(tests/cluster/env.sh 2>/dev/null)" || true
    fi
    if k get namespace default >/dev/null 2>&1; then
        keep_off "$SYSTEM" "$SHOP" "$BARE" || die "this is not from the demo"
        ns_drop "$SHOP" "$BARE"
        ns_gone "$SHOP"
        helm uninstall tulle -n "$SYSTEM" --timeout 60s
        helm uninstall tulle-base -n "$SYSTEM"
        ours || ns_drop "$SYSTEM"
    fi
    ours && tests/cluster/down.sh
    rm -rf "$DEMO_DIR"
}

case ${1:-cluster} in
cluster) demo ;;
clean) clean ;;
*) die "DEMO must be cluster or local (or: make demo-clean)" ;;
esac
