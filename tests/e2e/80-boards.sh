# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian's Prometheus scrapes the mesh; every query of both boards is run against it and returns the
# figures that the load client counted.
# e2e: alone

. "$ROOT/tools/demo/prometheus.sh"
need_shop || { fail "fixtures"; exit 1; }
no_policies
loader=$(pod_of "$SHOP" app=load)
front=$(pod_of "$SHOP" app=frontend)
out=$E2E_DIR/boards.json
prom=$E2E_DIR/prometheus
trap 'prom_stop "$prom"' EXIT

value() { # BOARD PANEL SERVICE SECONDS [N]: of the panel's N-th query
    local expr
    expr=$(tools/boards.py queries "$1" "$SHOP" "$3" "$4" |
        awk -F'\t' -v p="$2" '$1 == p { print $2 }' | sed -n "${5:-1}p")
    [ -n "$expr" ] || { echo "no panel $2" >&2; return 1; }
    prom_query "$expr"
}
all_answer() { # BOARD SERVICE SECONDS: each query gives at least one series
    local bad=0 panel expr
    while IFS=$'\t' read -r panel expr; do
        [ "$(prom_json "$expr" | jq length)" -gt 0 ] || { echo "nothing: $panel: $expr"; bad=1; }
    done < <(tools/boards.py queries "$1" "$SHOP" "$2" "$3")
    return $bad
}
# Every target was scraped once: what the pods counted before is in the figures from here on.
scrapes() {
    local up down unread
    up=$(prom_query 'count(up{job="pods"} == 1)') down=$(prom_query 'count(up == 0)')
    unread=$(prom_unread) || return 1
    [ "$up" -ge 6 ] && [ "$down" = 0 ] && [ "$unread" = 0 ] ||
        { echo "$up up, $down down, $unread not scraped yet"; return 1; }
}
run_load() {
    load "$SHOP" "$loader" --rate 100 --seconds 20 http://frontend/ >"$out" && no_failure "$out"
}
# The kubelet measures containers every ten seconds or so: a longer window.
cpu_is() { between "$(value sidecars "$1" '' 60)" 0.0001 2; }
deny_some() { # frontend is denied while payment may
    apply "$SHOP" examples/shop/only-payment-may-call-order.yaml &&
        eventually 10 answers 403 "$SHOP" "$front" http://order/
}
denied_are_seen() {
    answers 403 "$SHOP" "$front" http://order/ || return 1
    between "$(value service 'Denied calls per second' order 20)" 0.01 1000
}
sent_so_far() {
    prom_query "sum(istio_requests_total{reporter=\"source\",source_app=\"load\",
        destination_service_name=\"frontend\"})"
}
counted() { same "$(($(sent_so_far) - before))" "$(jq .requests "$out")"; }

check "the boards are well-formed" tools/boards.py check
# (Not by way of check: it sets a variable, and starts what must outlive a subshell.)
prom_start "$prom" || { fail "Prometheus starts" "$(tail -n 5 "$prom"/*.log)"; exit 1; }
ok "Prometheus starts"
check "it scrapes the meshed pods" eventually 20 scrapes
before=$(sent_so_far)
check "2,000 requests at 100 a second" run_load
# Most of the window lies within the load; reading metrics takes a busy machine a second or two.
check "service board: the rate is what the client sent" \
    between "$(value service 'Requests per second' frontend 15)" 80 115
check "Prometheus counted exactly what the client sent" eventually 10 counted
check "no errors" same "$(value service 'Server errors' frontend 15)" 0
check "all of checkout's is encrypted" same "$(value service 'Encrypted and authenticated' checkout 15)" 1
p50=$(value service Latency frontend 15 1) p99=$(value service Latency frontend 15 3)
check "p50 is near what the client measured" between "$p50" 0.1 \
    "$(jq '.p50_ms * 2 + 5' "$out")"
check "p99 is not below p50" between "$p99" "$p50" 100000
check "every query of the service board answers" all_answer service '.*' 20
check "order denies frontend" deny_some
check "the denied calls are on the board" eventually 15 denied_are_seen
check "sidecar board: it counts the sidecars" between "$(value sidecars Sidecars '' 15)" 7 50
check "their CPU is not nothing and not everything" \
    eventually 30 cpu_is 'CPU of all sidecars'
check "the applications' neither" eventually 30 cpu_is 'CPU of all applications'
check "a sidecar's memory" between "$(value sidecars 'Memory of a sidecar' '' 15)" 500000 64000000
check "every query of the sidecar board answers" all_answer sidecars '' 60
no_policies
