# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian's Prometheus as a process of this machine, for the demo and the tests. It reads pods' metrics
# by way of the API server (`kubectl proxy`), so it works with any cluster; targets.py tells it which
# pods there are. Sourced.
#
#   prom_start FOLDER    starts both on loopback ports; sets PROM_URL
#   prom_query EXPR      the value of an instant query; the first series' where there are several
#   prom_unread          how many of the pods it knows of it has not scraped yet
#   prom_stop FOLDER

PROM_CACHE=${TULLE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tulle}

# The program, from Debian's package; unpacked and not installed, so that no service starts.
prom_binary() {
    local version dir work
    if command -v prometheus >/dev/null; then
        command -v prometheus
        return
    fi
    version=$(apt-cache policy prometheus | sed -n 's/ *Candidate: //p')
    if [ -z "$version" ] || [ "$version" = "(none)" ]; then
        apt-get update -qq >/dev/null 2>&1
        version=$(apt-cache policy prometheus | sed -n 's/ *Candidate: //p')
    fi
    dir=$PROM_CACHE/prometheus-${version//[^A-Za-z0-9.]/_}
    if [ ! -x "$dir/prometheus" ]; then
        mkdir -p "$PROM_CACHE/work"
        work=$(mktemp -d "$PROM_CACHE/work/prometheus.XXXXXX")
        ( cd "$work" && apt-get download prometheus >/dev/null 2>"$work/log" &&
            dpkg-deb -x prometheus_*.deb . && mkdir -p "$dir.new" &&
            cp usr/bin/prometheus usr/bin/promtool "$dir.new" && rm -rf "$dir" &&
            mv "$dir.new" "$dir" ) || { cat "$work/log" >&2; rm -rf "$work"; return 1; }
        rm -rf "$work"
    fi
    echo "$dir/prometheus"
}

# A port of loopback that nobody has right now.
prom_free_port() {
    python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

prom_config() { # FOLDER
    cat <<EOF
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
  # Each pod that asks for it by the usual annotations; the injector writes them.
  - job_name: pods
    file_sd_configs: [{files: ["$1/pods.json"], refresh_interval: 5s}]
  # CPU and memory of all containers, as the kubelets measure them.
  - job_name: cadvisor
    scrape_interval: 2s
    scrape_timeout: 2s
    file_sd_configs: [{files: ["$1/nodes.json"], refresh_interval: 5s}]
    metric_relabel_configs:
      - source_labels: [__name__]
        regex: container_(cpu_usage_seconds_total|memory_working_set_bytes|memory_rss)
        action: keep
EOF
}

prom_start() { # FOLDER
    local dir=$1 bin api
    bin=$(prom_binary) || return 1
    mkdir -p "$dir"
    rm -rf "$dir/data"
    api=$(prom_free_port)
    kubectl proxy --port "$api" --accept-paths '^/(api/v1|metrics).*' --reject-methods 'POST,PUT,PATCH,DELETE' \
        >"$dir/kubectl-proxy.log" 2>&1 &
    echo $! >"$dir/kubectl-proxy.pid"
    rm -f "$dir"/pods.json "$dir"/nodes.json
    "$(dirname "${BASH_SOURCE[0]}")/targets.py" "http://127.0.0.1:$api" "$dir" 2>"$dir/targets.log" &
    echo $! >"$dir/targets.pid"
    local port
    port=$(prom_free_port)
    prom_config "$dir" >"$dir/prometheus.yml"
    "$bin" --config.file "$dir/prometheus.yml" --storage.tsdb.path "$dir/data" \
        --storage.tsdb.retention.time 2h --web.listen-address "127.0.0.1:$port" --log.level warn \
        >"$dir/prometheus.log" 2>&1 &
    echo $! >"$dir/prometheus.pid"
    PROM_URL=http://127.0.0.1:$port
    echo "$PROM_URL" >"$dir/url"
    local _
    for _ in $(seq 50); do
        curl -sf --noproxy '*' "$PROM_URL/-/ready" >/dev/null && return
        sleep 0.2
    done
    tail -n 5 "$dir/prometheus.log" "$dir/kubectl-proxy.log" >&2
    prom_stop "$dir"
    return 1
}

prom_stop() { # FOLDER
    local f pid
    for f in "$1"/prometheus.pid "$1"/targets.pid "$1"/kubectl-proxy.pid; do
        pid=$(cat "$f" 2>/dev/null) || continue
        # A pid file may be old: only what is still ours.
        case $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") in
        *prometheus* | *kubectl*proxy* | *targets.py*) kill "$pid" 2>/dev/null ;;
        esac
        rm -f "$f"
    done
}

prom_json() { # EXPR: the result's series
    curl -sf --noproxy '*' --max-time 10 "$PROM_URL/api/v1/query" --data-urlencode "query=$1" |
        jq -c .data.result
}
prom_query() { prom_json "$1" | jq -r '.[0].value[1] // "0"'; }
prom_unread() {
    curl -sf --noproxy '*' --max-time 10 "$PROM_URL/api/v1/targets?state=active" |
        jq '[.data.activeTargets[] | select(.health == "unknown")] | length'
}
