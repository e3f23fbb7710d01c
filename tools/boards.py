#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the Grafana boards in manifests/dashboards/, checks them, and prints their queries.

  tools/boards.py write          rewrite manifests/dashboards/*.json
  tools/boards.py check          exit 1 when a file is not what `write` would write, or its shape is
                                 not that of a Grafana board (schema version 36 and later)
  tools/boards.py queries BOARD NAMESPACE SERVICE SECONDS
                                 one line a query: panel, tab, expression with the variables filled in
"""
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "manifests" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Requests as the server's sidecar counted them, for the chosen services.
DEST = 'reporter="destination",destination_service_namespace=~"$namespace",destination_service_name=~"$service"'
SRC = 'reporter="source",destination_service_namespace=~"$namespace",destination_service_name=~"$service"'


def quantile(q):
    return (f"histogram_quantile({q}, sum by (le) "
            f"(rate(istio_request_duration_milliseconds_bucket{{{DEST}}}[$__rate_interval])))")


# Panels: title, kind, unit, width of 24, [(legend, expression)].
SERVICE = [
    ("Requests per second", "stat", "reqps", 4,
     [("", f"sum(rate(istio_requests_total{{{DEST}}}[$__rate_interval]))")]),
    ("Server errors", "stat", "percentunit", 4,
     [("", f'sum(rate(istio_requests_total{{{DEST},response_code=~"5.."}}[$__rate_interval])) / '
           f"sum(rate(istio_requests_total{{{DEST}}}[$__rate_interval])) or vector(0)")]),
    ("Latency, p99", "stat", "ms", 4, [("", quantile(0.99))]),
    ("Encrypted and authenticated", "stat", "percentunit", 4,
     [("", f'sum(rate(istio_requests_total{{{DEST},connection_security_policy="mutual_tls"}}'
           f"[$__rate_interval])) / sum(rate(istio_requests_total{{{DEST}}}[$__rate_interval]))")]),
    ("Denied calls per second", "stat", "reqps", 4,
     [("", f'sum(rate(istio_requests_total{{{DEST},response_code="403"}}[$__rate_interval])) or vector(0)')]),
    ("Open TCP connections", "stat", "short", 4,
     [("", f"sum(istio_tcp_connections_opened_total{{{DEST}}}) - "
           f"sum(istio_tcp_connections_closed_total{{{DEST}}}) or vector(0)")]),
    ("Requests by version", "timeseries", "reqps", 12,
     [("{{destination_service_name}} {{destination_version}}",
       "sum by (destination_service_name, destination_version) "
       f"(rate(istio_requests_total{{{DEST}}}[$__rate_interval]))")]),
    ("Requests by answer", "timeseries", "reqps", 12,
     [("{{response_code}} {{response_flags}}",
       f"sum by (response_code, response_flags) (rate(istio_requests_total{{{DEST}}}[$__rate_interval]))")]),
    ("Latency", "timeseries", "ms", 12,
     [("p50", quantile(0.5)), ("p90", quantile(0.9)), ("p99", quantile(0.99))]),
    ("Who calls", "timeseries", "reqps", 12,
     [("{{source_workload}} ({{connection_security_policy}})",
       "sum by (source_workload, connection_security_policy) "
       f"(rate(istio_requests_total{{{DEST}}}[$__rate_interval]))")]),
    ("Failures as the clients' sidecars saw them", "timeseries", "reqps", 12,
     [("{{source_workload}} {{response_code}} {{response_flags}}",
       "sum by (source_workload, response_code, response_flags) (rate(istio_requests_total"
       f'{{{SRC},response_code=~"0|5.."}}[$__rate_interval])) or vector(0)')]),
    ("Bytes of answers", "timeseries", "Bps", 12,
     [("{{destination_service_name}}", "sum by (destination_service_name) "
       f"(rate(istio_response_bytes_sum{{{DEST}}}[$__rate_interval]))")]),
]

CPU = 'container_cpu_usage_seconds_total{namespace=~"$namespace",container%s}'
MEM = 'container_memory_working_set_bytes{namespace=~"$namespace",container%s}'
RSS = 'container_memory_rss{namespace=~"$namespace",container%s}'
OURS, THEIRS = '="istio-proxy"', '!~"istio-proxy|POD|"'

SIDECARS = [
    ("Sidecars", "stat", "short", 4, [("", "count(" + MEM % OURS + ")")]),
    ("CPU of all sidecars", "stat", "none", 5,
     [("", "sum(rate(" + CPU % OURS + "[$__rate_interval]))")]),
    ("CPU of all applications", "stat", "none", 5,
     [("", "sum(rate(" + CPU % THEIRS + "[$__rate_interval]))")]),
    ("Memory of a sidecar", "stat", "bytes", 5, [("", "avg(" + MEM % OURS + ")")]),
    ("Memory of an application", "stat", "bytes", 5, [("", "avg(" + MEM % THEIRS + ")")]),
    ("CPU, sidecars beside applications", "timeseries", "none", 12,
     [("sidecars", "sum(rate(" + CPU % OURS + "[$__rate_interval]))"),
      ("applications", "sum(rate(" + CPU % THEIRS + "[$__rate_interval]))")]),
    ("Memory, sidecars beside applications", "timeseries", "bytes", 12,
     [("sidecars", "sum(" + MEM % OURS + ")"), ("applications", "sum(" + MEM % THEIRS + ")")]),
    ("CPU of each sidecar", "timeseries", "none", 12,
     [("{{pod}}", "sum by (pod) (rate(" + CPU % OURS + "[$__rate_interval]))")]),
    ("Resident memory of each sidecar", "timeseries", "bytes", 12,
     [("{{pod}}", "sum by (pod) (" + RSS % OURS + ")")]),
    ("Sidecars' CPU for a thousand requests", "stat", "s", 12,
     [("", "1000 * sum(rate(" + CPU % OURS + "[$__rate_interval])) / "
           'sum(rate(istio_requests_total{reporter="destination",'
           'destination_service_namespace=~"$namespace"}[$__rate_interval]))')]),
]


def panel(number, title, kind, unit, x, y, w, queries):
    h = 4 if kind == "stat" else 8
    p = {
        "id": number,
        "type": kind,
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"h": h, "w": w, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr,
                     "legendFormat": legend or "__auto"} for i, (legend, expr) in enumerate(queries)],
    }
    if kind == "stat":
        p["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                        "colorMode": "none", "graphMode": "area"}
    else:
        p["options"] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                        "tooltip": {"mode": "multi", "sort": "desc"}}
    return p


def query_variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query,
            "definition": query, "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]}, "sort": 1, "hide": 0}


def board(uid, title, panels, variables):
    placed, x, y, row = [], 0, 0, 0
    for i, (name, kind, unit, w, queries) in enumerate(panels, 1):
        if x + w > 24:
            x, y, row = 0, y + row, 0
        placed.append(panel(i, name, kind, unit, x, y, w, queries))
        x += w
        row = max(row, placed[-1]["gridPos"]["h"])
    datasource = {"name": "datasource", "label": "Data source", "type": "datasource",
                  "query": "prometheus", "current": {}, "hide": 0, "refresh": 1}
    return {
        "uid": uid, "title": title, "tags": ["tulle"], "schemaVersion": 38, "version": 1,
        "editable": True, "graphTooltip": 1, "refresh": "5s", "timezone": "browser",
        "time": {"from": "now-15m", "to": "now"},
        "annotations": {"list": []}, "links": [],
        "templating": {"list": [datasource] + variables},
        "panels": placed,
    }


def boards():
    namespace = query_variable("namespace", "Namespace",
                               "label_values(istio_requests_total, destination_service_namespace)")
    service = query_variable(
        "service", "Service",
        'label_values(istio_requests_total{destination_service_namespace=~"$namespace"}, '
        "destination_service_name)")
    return {
        "service.json": board("tulle-service", "Tulle: services", SERVICE, [namespace, service]),
        "sidecars.json": board("tulle-sidecars", "Tulle: what the sidecars cost", SIDECARS, [namespace]),
    }


def text(b):
    return json.dumps(b, indent=2) + "\n"


def shape_errors(b):
    """What Grafana needs of a board, as its dashboard schema has it."""
    need = {"uid": str, "title": str, "tags": list, "schemaVersion": int, "panels": list,
            "templating": dict, "time": dict, "editable": bool, "annotations": dict}
    for key, kind in need.items():
        if not isinstance(b.get(key), kind):
            yield f"{key}: must be {kind.__name__}"
    if len(b.get("uid", "")) > 40:
        yield "uid: longer than 40"
    ids, taken = set(), set()
    names = {v["name"] for v in b["templating"]["list"]}
    for p in b["panels"]:
        where = f"panel {p.get('title')!r}"
        if p.get("id") in ids:
            yield f"{where}: id {p.get('id')} twice"
        ids.add(p.get("id"))
        g = p.get("gridPos", {})
        if any(not isinstance(g.get(k), int) for k in "xywh") or g["x"] + g["w"] > 24:
            yield f"{where}: gridPos"
            continue
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        if cells & taken:
            yield f"{where}: lies upon another"
        taken |= cells
        if p.get("type") not in ("stat", "timeseries"):
            yield f"{where}: type {p.get('type')!r}"
        if not p.get("targets"):
            yield f"{where}: no query"
        for t in p.get("targets", []):
            if not t.get("expr") or not t.get("refId"):
                yield f"{where}: a target without expr or refId"
            for name in ("namespace", "service"):
                if f"${name}" in t["expr"] and name not in names:
                    yield f"{where}: variable ${name} is not declared"


def check():
    bad = 0
    for name, want in boards().items():
        got = (FOLDER / name).read_text()
        if got != text(want):
            print(f"{name}: is not what tools/boards.py writes")
            bad = 1
        for e in shape_errors(json.loads(got)):
            print(f"{name}: {e}")
            bad = 1
    return bad


def queries(name, namespace, service, seconds):
    b = json.loads((FOLDER / (name + ".json")).read_text())
    for p in b["panels"]:
        for t in p["targets"]:
            expr = t["expr"].replace("$__rate_interval", f"{seconds}s")
            expr = expr.replace("$namespace", namespace).replace("$service", service)
            print(f"{p['title']}\t{expr}")


def main(args):
    if args == ["write"]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name, b in boards().items():
            (FOLDER / name).write_text(text(b))
        return 0
    if args == ["check"]:
        return check()
    if len(args) == 5 and args[0] == "queries":
        queries(*args[1:])
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
