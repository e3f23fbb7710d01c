#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What one connected sidecar costs the operator: an operator of a folder's objects, and bench/fleet.c in
the place of N sidecars that call some services each. No API server, so it takes seconds, and what is
counted (anonymous memory) is the same on every machine.

usage: sidecars.py BUILD_DIR [--sidecars N] [--services S] [--calls C] [--under CMD] [--gate]
--gate ends with 1 when a sidecar costs more than a tenth above its budget; --under puts a program
such as valgrind before the operator's."""

import argparse
import http.client
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import fleet

BUDGET_KB = 27  # what is reached with 200 services; design: 40
PODS = 10  # of a service


def objects(o, folder):
    """The mesh of fleet.py, in files: services in ten namespaces, each with PODS pods."""
    def write(name, items):
        with open(f"{folder}/{name}.yaml", "w", encoding="utf-8") as f:
            f.write("\n---\n".join(json.dumps(i) for i in items))
    mesh = fleet.Mesh(None, argparse.Namespace(services=o.services, endpoints=o.services * PODS))
    write("namespaces", [{"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": f"team-{n}", "labels": {"istio-injection": "enabled"}}} for n in range(fleet.NAMESPACES)])
    for i in range(o.services):
        address = fleet.ip(10 << 24 | 96 << 16, i + 1)
        write(f"svc-{i}", [
            {"apiVersion": "v1", "kind": "Service",
             "metadata": {"name": f"svc-{i}", "namespace": mesh.ns(i)},
             "spec": {"clusterIP": address, "clusterIPs": [address], "selector": {"app": f"svc-{i}"},
                      "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}},
            mesh.slice(i)] + [mesh.pod(pod) for pod in range(i * PODS, i * PODS + PODS)])
    return mesh


def wait(test, what):
    end = time.monotonic() + 300
    while not test():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within 300 s")
        time.sleep(0.1)


def ready():
    try:
        c = http.client.HTTPConnection("127.0.0.1", fleet.MONITOR, timeout=30)
        c.request("GET", "/readyz")
        return c.getresponse().status == 200
    except OSError:
        return False


def settled(pid):
    """Memory of the process and of its signer's, which is its child, when it no longer changes."""
    before = None
    while True:
        now = fleet.memory_kb(pid)["anonymous"]
        if now == before:
            return now
        before = now
        time.sleep(2)


def run(o, work):
    os.mkdir(f"{work}/objects")
    os.mkdir(f"{work}/ca")
    mesh = objects(o, f"{work}/objects")
    with open(f"{work}/tokens", "w", encoding="ascii") as f:
        for n in range(fleet.NAMESPACES):
            for a in range(fleet.ACCOUNTS_PER_NAMESPACE):
                f.write(f"token-{n}-{a} team-{n} account-{a}\n")
                with open(f"{work}/token-{n}-{a}", "w", encoding="ascii") as token:
                    token.write(f"token-{n}-{a}")
    operator = subprocess.Popen(
        shlex.split(o.under) + [
            f"{o.build}/bin/tulle-operator", "--config-dir", f"{work}/objects", "--ca-dir", f"{work}/ca",
            "--tokens", f"{work}/tokens", "--address", "127.0.0.1", "--port", str(fleet.PORT),
            "--monitoring-port", str(fleet.MONITOR)],
        stderr=open(f"{work}/operator.log", "w", encoding="utf-8"))
    clients = None
    try:
        wait(ready, "operator")
        with open(f"{work}/ca/root-cert.pem", encoding="ascii") as a, \
                open(f"{work}/root.pem", "w", encoding="ascii") as b:
            b.write(a.read())
        rnd = random.Random(1)
        with open(f"{work}/pods", "w", encoding="ascii") as pods, \
                open(f"{work}/hosts", "w", encoding="ascii") as hosts:
            for pod in range(o.sidecars):
                ns, account = mesh.pod_ns(pod), mesh.account(pod)
                pods.write(f"{ns} pod-{pod} {account} {work}/token-{ns.split('-')[1]}-"
                           f"{account.split('-')[1]}\n")
                calls = {0} | set(rnd.sample(range(1, o.services), o.calls - 1))
                hosts.write(f"{ns} pod-{pod} {' '.join(mesh.key(i) for i in calls)}\n")
        clients = fleet.Fleet(o.fleet, work, o)
        clients.wait(lambda: "ready" in clients.words, 300, "certificates")
        alone = settled(operator.pid)
        clients.say("connect 500")
        clients.wait(lambda: "connected" in clients.words, 600, "all streams answered")
        time.sleep(3)
        full = settled(operator.pid)
    finally:
        if clients and clients.p.poll() is None:
            clients.p.send_signal(signal.SIGSTOP if o.under else signal.SIGTERM)
        operator.terminate()  # before its clients go, so that a profile shows what they cost
        operator.wait(120)
        if clients and o.under:
            clients.p.kill()
    return alone, full


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("build")
    p.add_argument("--fleet", default=None, help="the program made from bench/fleet.c")
    p.add_argument("--sidecars", type=int, default=500)
    p.add_argument("--services", type=int, default=200)
    p.add_argument("--calls", type=int, default=10)
    p.add_argument("--under", default="")
    p.add_argument("--gate", action="store_true")
    o = p.parse_args()
    o.fleet = o.fleet or f"{o.build}/bench/fleet"
    with tempfile.TemporaryDirectory() as work:
        alone, full = run(o, work)
    each = (full - alone) / o.sidecars
    print(f"operator of {o.services} services: {alone} KB anonymous, with {o.sidecars} sidecars {full} KB: "
          f"{each:.1f} KB a sidecar (budget {BUDGET_KB})")
    return 1 if o.gate and each > BUDGET_KB * 1.1 else 0


if __name__ == "__main__":
    sys.exit(main())
