# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the end-to-end tests share: checks that are counted, waiting with a deadline, and short verbs
# for pods, requests, load, captures and metrics. Sourced by run.sh; the tests are sourced after it.

E2E_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$E2E_SRC/../.." && pwd)
SYSTEM=tulle-system
SHOP=shop               # labelled; the policies in examples/shop name it
BARE=tulle-e2e-bare     # never labelled
E2E_DIR=${E2E_DIR:-${TMPDIR:-/tmp}/tulle-e2e}
BRIDGE=tulle-br0
TEST=${TEST:-}
mkdir -p "$E2E_DIR"

# --- checks -----------------------------------------------------------------------------------------

# Each check is one line on stdout and one in the results.
ok() { printf 'ok    %s: %s\n' "$TEST" "$1" | tee -a "$E2E_DIR/results"; }
fail() { # NAME [DETAILS]
    printf 'FAIL  %s: %s\n' "$TEST" "$1" | tee -a "$E2E_DIR/results"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -n 15 | cut -c1-300 | sed 's/^/        /'
}
skip() { printf 'skip  %s: %s (%s)\n' "$TEST" "$1" "$2" | tee -a "$E2E_DIR/results"; }

# check NAME COMMAND...: one property; what the command printed is shown when it does not hold.
# (Underscores: a function under test may have a variable `name` of its own.)
check() {
    local _name=$1 _said
    shift
    if _said=$("$@" 2>&1); then
        ok "$_name"
    else
        fail "$_name" "$_said"
        return 1
    fi
}

# eventually SECONDS COMMAND...: true as soon as the command is; its last output when it never is.
eventually() {
    local _end=$((SECONDS + $1)) _said
    shift
    while :; do
        if _said=$("$@" 2>&1); then
            [ -z "$_said" ] || printf '%s\n' "$_said"
            return 0
        fi
        [ $SECONDS -lt $_end ] || break
        sleep 0.25
    done
    printf '%s\n' "$_said"
    return 1
}

# throughout SECONDS COMMAND...: true when the command is, each time it is asked.
throughout() {
    local _end=$((SECONDS + $1))
    shift
    while [ $SECONDS -lt $_end ]; do
        "$@" || return 1
        sleep 0.5
    done
}

not() { ! "$@"; }
same() { # GOT WANT
    [ "$1" = "$2" ] || { echo "got '$1', want '$2'"; return 1; }
}
# between N LOW HIGH: decimal numbers.
between() {
    awk -v n="$1" -v lo="$2" -v hi="$3" 'BEGIN { exit !(n >= lo && n <= hi) }' ||
        { echo "$1 is not within $2..$3"; return 1; }
}
says() { # PATTERN COMMAND...
    local _pattern=$1 _said
    shift
    _said=$("$@" 2>&1)
    grep -qE -- "$_pattern" <<<"$_said" ||
        { printf 'wanted %s in:\n%s\n' "$_pattern" "$_said"; return 1; }
}

# --- the cluster ------------------------------------------------------------------------------------

k() { kubectl --request-timeout 30s "$@"; }
# Does this run own node and control plane, so that it may disturb and observe them?
ours() { [ "${E2E_CLUSTER:-}" = ours ]; }

# On a cluster of the user's, only namespaces that were made here are ours to fill and to delete.
made_here() { k get namespace "$1" -o jsonpath='{.metadata.labels}' 2>/dev/null | grep -q tulle.dev/e2e; }
theirs() { ! ours && k get namespace "$1" >/dev/null 2>&1 && ! made_here "$1"; }
# keep_off NAMESPACE...: fails, and says which, where one of these is the user's.
keep_off() {
    local ns rc=0
    for ns; do
        ! theirs "$ns" || { echo "namespace $ns exists and was not made here: nothing is done to it" >&2; rc=1; }
    done
    return $rc
}

ns_make() { # NAME [LABEL...]
    local name=$1
    shift
    keep_off "$name" || return 1
    k get namespace "$name" >/dev/null 2>&1 || k create namespace "$name" >/dev/null
    k label namespace "$name" tulle.dev/e2e=yes "$@" --overwrite >/dev/null
    eventually 20 k get -n "$name" serviceaccount default >/dev/null
}
ns_drop() { # NAMESPACE...
    local ns
    for ns; do
        theirs "$ns" || k delete namespace "$ns" --ignore-not-found --wait=false --timeout 5s >/dev/null 2>&1
    done
}
ns_gone() { eventually 90 not k get namespace "$1" >/dev/null; }

# The first running pod that a selector finds and that is not about to go.
pod_of() { # NAMESPACE SELECTOR
    k get pods -n "$1" -l "$2" -o json | jq -r '[.items[] | select(.metadata.deletionTimestamp == null
        and .status.phase == "Running")] | sort_by(.metadata.creationTimestamp) | last
        | .metadata.name // empty'
}
pod_ip() { k get pod -n "$1" "$2" -o jsonpath='{.status.podIP}'; }
pod_containers() { # NAMESPACE POD: init containers and containers
    k get pod -n "$1" "$2" -o jsonpath='{.spec.initContainers[*].name} {.spec.containers[*].name}'
}
has_sidecar() { pod_containers "$1" "$2" | tr ' ' '\n' | grep -qx istio-proxy; }

# pod_exec NAMESPACE POD COMMAND...: in the application's container.
pod_exec() {
    local ns=$1 pod=$2 c
    shift 2
    c=$(k get pod -n "$ns" "$pod" -o json |
        jq -r '[.spec.containers[].name | select(. != "istio-proxy")][0]')
    kubectl --request-timeout 120s exec -n "$ns" "$pod" -c "$c" -- "$@"
}

rollout() { # NAMESPACE DEPLOYMENT...
    local ns=$1 d
    shift
    for d; do
        kubectl rollout status -n "$ns" "deployment/$d" --timeout 90s || return 1
    done
}

# restart NAMESPACE: every deployment anew, and back when all run.
restart() {
    k rollout restart deployment -n "$1" >/dev/null || return 1
    settled "$1"
}
settled() { # NAMESPACE: all deployments are up to date, and nothing of their forerunners remains
    local list
    mapfile -t list < <(k get deployments -n "$1" -o name | sed 's|.*/||')
    [ ${#list[@]} -gt 0 ] && rollout "$1" "${list[@]}" >/dev/null && eventually 60 no_old_pods "$1"
}
no_old_pods() {
    same "$(k get pods -n "$1" -o json |
        jq '[.items[] | select(.metadata.deletionTimestamp != null)] | length')" 0
}

# apply NAMESPACE FILE...: the repository's examples, with the shop's image as it was built.
apply() {
    local ns=$1 f
    shift
    for f; do
        sed "s|localhost/tulle-shop:dev|$SHOP_IMAGE|" "$f" | k apply -n "$ns" -f - || return 1
    done
}
unapply() {
    local ns=$1 f
    shift
    for f; do
        k delete -n "$ns" -f "$f" --ignore-not-found || return 1
    done
}

# condition NAMESPACE KIND NAME TYPE: "True reason message".
condition() {
    k get -n "$1" "$2" "$3" -o json | jq -r --arg t "$4" \
        '.status.conditions[]? | select(.type == $t) | "\(.status) \(.reason) \(.message)"'
}
is_true() { says '^True ' condition "$@"; }
# programmed NAMESPACE KIND NAME: proxies have acknowledged this very generation.
programmed() {
    k get -n "$1" "$2" "$3" -o json | jq -e '.metadata.generation as $g | .status.conditions[]?
        | select(.type == "Programmed" and .status == "True" and .observedGeneration == $g)' >/dev/null ||
        { condition "$1" "$2" "$3" Programmed; return 1; }
}

# --- requests ---------------------------------------------------------------------------------------

# http NAMESPACE POD URL [curl flags]: the status code; 000 when there was no answer.
http() {
    local ns=$1 pod=$2 url=$3
    shift 3
    pod_exec "$ns" "$pod" curl -s -o /dev/null -w '%{http_code}' --max-time 10 "$@" "$url" || true
}
answers() { # CODE NAMESPACE POD URL [curl flags]
    local want=$1
    shift
    same "$(http "$@")" "$want"
}
body() { # NAMESPACE POD URL [curl flags]
    local ns=$1 pod=$2 url=$3
    shift 3
    pod_exec "$ns" "$pod" curl -s --max-time 10 "$@" "$url"
}

# load NAMESPACE POD FLAGS... URL: prints the JSON of examples/shop/load.c.
load() {
    local ns=$1 pod=$2
    shift 2
    kubectl exec -n "$ns" "$pod" -c load -- load "$@"
}
# load_start FILE ...: the same in the background; load_end FILE waits and tells how it went.
load_start() {
    local file=$1
    shift
    load "$@" >"$file" 2>"$file.err" &
    echo $! >"$file.pid"
}
load_end() { # FILE [SECONDS]
    eventually "${2:-90}" not kill -0 "$(cat "$1.pid")" >/dev/null || { echo "it runs on"; return 1; }
    grep -q '"requests"' "$1" || { cat "$1" "$1.err"; return 1; }
    cat "$1"
}
no_failure() { # FILE
    local failed total
    failed=$(jq .failed "$1") total=$(jq .requests "$1")
    [ "${failed:-1}" = 0 ] && [ "${total:-0}" -gt 0 ] || { cat "$1" "$1.err" 2>/dev/null; return 1; }
}

# --- what the proxies say ---------------------------------------------------------------------------

pod_get() { # NAMESPACE POD PORT PATH: by way of the API server
    k get --raw "/api/v1/namespaces/$1/pods/$2:$3/proxy$4"
}
proxy_metrics() { pod_get "$1" "$2" 15090 /stats/prometheus; }

# metric NAMESPACE POD NAME [LABEL=VALUE]...: the sum over the series that carry these labels.
metric() {
    local ns=$1 pod=$2
    shift 2
    proxy_metrics "$ns" "$pod" | metric_sum "$@"
}
metric_sum() { # NAME [LABEL=VALUE]... <text
    local name=$1 l
    shift
    awk -v name="$name" -v want="$(for l; do printf '%s\n' "${l%%=*}=\"${l#*=}\""; done)" '
        BEGIN { n = split(want, w, "\n") }
        /^#/ { next }
        { head = $0; sub(/[ \t].*$/, "", head)
          metric = $0; sub(/[{ ].*/, "", metric)
          if (metric != name) next
          labels = $0; if (!sub(/^[^{]*\{/, "{", labels)) labels = "{}"
          for (i = 1; i <= n; i++)
              if (w[i] != "" && index(labels, "{" w[i]) != 1 && !index(labels, "," w[i])) next
          value = $0; sub(/^.*[} ] */, "", value)
          sum += value }
        END { printf "%.10g\n", sum }'
}

# --- the wire ---------------------------------------------------------------------------------------

# capture_start FILE FILTER...: every packet between pods; needs the node, so only on our cluster.
capture_start() {
    local file=$1
    shift
    rm -f "$file"
    tcpdump -i "$BRIDGE" --immediate-mode -U -s 0 -B 16384 -w "$file" "$@" 2>"$file.log" &
    echo $! >"$file.pid"
    eventually 10 grep -q 'listening on' "$file.log" >/dev/null
}
capture_stop() {
    local pid
    pid=$(cat "$1.pid")
    sleep 0.5
    kill -INT "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null ||
        eventually 5 not kill -0 "$pid" >/dev/null # started by another shell than this one
    grep -q '^0 packets dropped by kernel' "$1.log" || { cat "$1.log"; return 1; }
}
capture_text() { tcpdump -r "$1" -nn -A "${@:2}" 2>/dev/null; }
# Requests and answers of HTTP/1 that anybody on the wire could read.
plain_count() { # FILE [FILTER]
    capture_text "$@" | grep -cE '(GET|POST|PUT|HEAD) /[^ ]* HTTP/1|HTTP/1\.[01] [1-5][0-9][0-9]' || true
}
# TLS client hellos: record type 22, message type 1.
hello_count() { # FILE [FILTER...]
    local file=$1
    shift
    local f='tcp[((tcp[12] & 0xf0) >> 2)] = 22 and tcp[((tcp[12] & 0xf0) >> 2) + 5] = 1'
    [ $# -eq 0 ] || f="($*) and $f"
    tcpdump -r "$file" -nn "$f" 2>/dev/null | wc -l
}
# TCP segments that carry bytes.
payload_count() { # FILE FILTER
    tcpdump -r "$1" -nn "(${2:-tcp}) and (ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2)) != 0" \
        2>/dev/null | wc -l
}

# --- fixtures: made once, used by many --------------------------------------------------------------

# A pod to call from: the load client, curl, and a service account of its own.
caller_yaml() { # NAME IMAGE [SERVICE-ACCOUNT [POD-LABEL...]]
    local name=$1 image=$2 sa=${3:-$1} l
    shift 3 2>/dev/null || shift $#
    cat <<EOF
apiVersion: v1
kind: ServiceAccount
metadata: {name: $sa}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: $name}
spec:
  selector: {matchLabels: {app: $name}}
  template:
    metadata:
      labels:
        app: $name
$(for l; do echo "        ${l%%=*}: \"${l#*=}\""; done)
    spec:
      serviceAccountName: $sa
      terminationGracePeriodSeconds: 2
      containers:
        - name: $name
          image: $image
          imagePullPolicy: IfNotPresent
          command: [sleep, infinity]
EOF
}

# The shop, in the labelled namespace, with a load client and a probe beside it.
need_shop() {
    ns_make "$SHOP" istio-injection=enabled
    {
        apply "$SHOP" "$ROOT/examples/shop/shop.yaml" &&
        caller_yaml load "$SHOP_IMAGE" | k apply -n "$SHOP" -f - &&
        caller_yaml probe "$PROBE_IMAGE" | k apply -n "$SHOP" -f -
    } >/dev/null || return 1
    # What apply has changed rolls out first: those pods are new anyhow.
    settled "$SHOP" || true
    # Pods of an earlier run may carry an older sidecar, or one made by other settings.
    if [ -n "${E2E_RESTART:-}" ] || k get pods -n "$SHOP" -o json | jq -e --arg i "$TULLE_HUB/tulle-proxy:$TULLE_TAG" \
        'any(.items[]; [.spec.initContainers[]?, .spec.containers[]] | any(.[];
            .name == "istio-proxy") and any(.[]; .name == "istio-proxy" and .image != $i))' \
        >/dev/null; then
        restart "$SHOP"
    else
        settled "$SHOP"
    fi
}
# The same callers where no mesh is.
need_bare() {
    ns_make "$BARE"
    {
        caller_yaml load "$SHOP_IMAGE" | k apply -n "$BARE" -f - &&
        caller_yaml probe "$PROBE_IMAGE" | k apply -n "$BARE" -f - &&
        hello_yaml | k apply -n "$BARE" -f -
    } >/dev/null || return 1
    settled "$BARE"
}
# A service that is in no mesh.
hello_yaml() {
    cat <<EOF
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: hello
          image: $SHOP_IMAGE
          imagePullPolicy: IfNotPresent
          env: [{name: NAME, value: hello}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
EOF
}
# What a run that was cut short may have left.
clear_shop() {
    k delete -n "$SHOP" deployment/{late,orphan,out,probes,vault} job/once --ignore-not-found \
        --timeout 60s >/dev/null 2>&1
    k delete -n "$BARE" deployment/orphan --ignore-not-found --timeout 60s >/dev/null 2>&1
    k scale -n "$SHOP" deployment/order-v1 --replicas 1 >/dev/null 2>&1
    k patch deployment -n "$SHOP" checkout-v1 --type json -p '[{"op":"remove",
        "path":"/spec/template/metadata/labels/sidecar.istio.io~1inject"}]' >/dev/null 2>&1
    return 0
}
# Nothing of an earlier test may steer this one.
no_policies() {
    local kinds=virtualservices,destinationrules,peerauthentications,authorizationpolicies ns
    kinds+=,serviceentries.networking.istio.io,sidecars.networking.istio.io
    for ns in "$SHOP" istio-system; do
        theirs "$ns" || k delete "$kinds" --all -n "$ns" >/dev/null 2>&1
    done
    return 0
}

# --- when something failed --------------------------------------------------------------------------

# diagnose FOLDER: what one would look at next.
diagnose() {
    local dir=$1 ns pod c
    mkdir -p "$dir"
    k get all,mesh -A -o wide >"$dir/all" 2>&1
    k get events -A --sort-by=.lastTimestamp >"$dir/events" 2>&1
    k get vs,dr,pa,ap,se -A -o yaml >"$dir/istio.yaml" 2>&1
    k get mesh -o yaml >"$dir/mesh.yaml" 2>&1
    for ns in "$SYSTEM" "$SHOP" "$BARE"; do
        k describe pods -n "$ns" >"$dir/describe-$ns" 2>&1
        for pod in $(k get pods -n "$ns" -o name 2>/dev/null | sed 's|.*/||'); do
            for c in $(pod_containers "$ns" "$pod" 2>/dev/null); do
                case $ns/$c in
                "$SYSTEM"/* | */istio-*) ;;
                *) continue ;;
                esac
                k logs -n "$ns" "$pod" -c "$c" --tail 400 >"$dir/log-$ns-$pod-$c" 2>&1
                k logs -n "$ns" "$pod" -c "$c" --tail 200 --previous \
                    >"$dir/log-$ns-$pod-$c.previous" 2>/dev/null || rm -f "$dir/log-$ns-$pod-$c.previous"
            done
            proxy_metrics "$ns" "$pod" >"$dir/metrics-$ns-$pod" 2>/dev/null ||
                rm -f "$dir/metrics-$ns-$pod"
        done
    done
}
