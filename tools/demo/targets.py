#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""targets.py API-URL FOLDER: keeps FOLDER/pods.json and FOLDER/nodes.json, in the form of Prometheus's
file_sd, up to date with the cluster's pods and nodes (Debian's Prometheus has no Kubernetes discovery).
A pod is a target when it asks for it by the prometheus.io annotations. Ends with its parent."""
import json
import os
import pathlib
import sys
import time
import urllib.request

api, folder = sys.argv[1], pathlib.Path(sys.argv[2])
address = api.split("//", 1)[1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(path):
    with opener.open(api + path, timeout=5) as r:
        return json.load(r)["items"]


def pods():
    for p in get("/api/v1/pods"):
        meta, notes = p["metadata"], p["metadata"].get("annotations") or {}
        if notes.get("prometheus.io/scrape") != "true" or p["status"].get("phase") != "Running":
            continue
        if meta.get("deletionTimestamp"):
            continue
        port, path = notes.get("prometheus.io/port", "80"), notes.get("prometheus.io/path", "/metrics")
        yield {"targets": [address], "labels": {
            "namespace": meta["namespace"], "pod": meta["name"], "instance": meta["name"],
            "__metrics_path__":
                f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}:{port}/proxy{path}"}}


def nodes():
    for n in get("/api/v1/nodes"):
        name = n["metadata"]["name"]
        yield {"targets": [address], "labels": {
            "node": name, "instance": name,
            "__metrics_path__": f"/api/v1/nodes/{name}/proxy/metrics/cadvisor"}}


def keep(name, groups):
    text = json.dumps(sorted(groups, key=lambda g: g["labels"]["instance"]))
    path = folder / name
    if not path.exists() or path.read_text() != text:
        new = folder / (name + ".new")
        new.write_text(text)
        new.rename(path)


parent = os.getppid()
while os.getppid() == parent:
    try:
        keep("pods.json", pods())
        keep("nodes.json", nodes())
    except (OSError, ValueError, KeyError) as e:
        print(e, file=sys.stderr, flush=True)
    time.sleep(1)
