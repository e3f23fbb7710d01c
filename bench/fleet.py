#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a fleet of sidecars costs the control plane: the operator as built against a real API server
and etcd (no node, no pods that run), objects made in that API server, and bench/fleet.c in the place
of the sidecars: one mutual TLS discovery stream each, subscribed to what a pod calls.

usage: fleet.py BUILD_DIR [--proxies 2000] [--services 1000] [--endpoints 10000] [--calls 10]
                [--seconds 20] [--rate 100] [--json FILE]

Prints one line per quantity with its budget, and exits with 1 where one is missed."""

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import random
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SYSTEM = "tulle-system"
PORT, MONITOR = 27012, 27014
PER_SLICE = 10
ACCOUNTS_PER_NAMESPACE = 2
NAMESPACES = 10


def say(text):
    print(text, flush=True)


class Api:
    """The API server, one kept connection per thread."""

    def __init__(self, folder):
        self.port = int(os.environ["IT_ETCD_PORT"]) + 2
        self.tls = ssl.create_default_context(cafile=f"{folder}/certs/apiserver.crt")
        self.local = threading.local()

    def call(self, method, path, body=None, kind="application/json"):
        for attempt in (1, 2):
            c = getattr(self.local, "connection", None)
            if c is None:
                c = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=60)
                self.local.connection = c
            try:
                c.request(method, path, json.dumps(body) if body is not None else None,
                          {"Authorization": "Bearer it-admin-token", "Content-Type": kind})
                answer = c.getresponse()
                text = answer.read()
            except (http.client.HTTPException, OSError):
                self.local.connection = None
                if attempt == 2:
                    raise
                continue
            if answer.status >= 300 and answer.status != 409:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return json.loads(text)
        return None


def many(work, items):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in pool.map(work, items):
            pass


def ip(base, n):
    n += base
    return f"{n >> 24 & 255}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"


POD_NET = 10 << 24 | 64 << 16          # 10.64.0.0: addresses of pods
NEW_NET = 10 << 24 | 200 << 16         # 10.200.0.0: addresses that changes bring


class Mesh:
    """Services svc-0.. in NAMESPACES namespaces; service i has the endpoints i*n..(i+1)*n-1, one pod
    each; the first pods are those of the fleet."""

    def __init__(self, api, o):
        self.api, self.o = api, o
        self.each = max(o.endpoints // o.services, 1)

    def ns(self, i):
        return f"team-{i % NAMESPACES}"

    def key(self, i):
        return f"svc-{i}.{self.ns(i)}.svc.cluster.local:80"

    def account(self, pod):
        return f"account-{pod % ACCOUNTS_PER_NAMESPACE}"

    def pod_ns(self, pod):
        return self.ns(pod // self.each)

    def slice(self, i, replace=None):
        ends = []
        for k in range(self.each):
            pod = i * self.each + k
            ends.append({"addresses": [replace if replace and k == 0 else ip(POD_NET, pod)],
                         "conditions": {"ready": True}, "nodeName": "n1",
                         "targetRef": {"kind": "Pod", "name": f"pod-{pod}", "namespace": self.ns(i)}})
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": f"svc-{i}-0", "namespace": self.ns(i),
                             "labels": {"kubernetes.io/service-name": f"svc-{i}"}},
                "addressType": "IPv4", "endpoints": ends,
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}

    def make_service(self, i):
        self.api.call("POST", f"/api/v1/namespaces/{self.ns(i)}/services",
                      {"metadata": {"name": f"svc-{i}"},
                       "spec": {"selector": {"app": f"svc-{i}"},
                                "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
        self.api.call("POST", f"/apis/discovery.k8s.io/v1/namespaces/{self.ns(i)}/endpointslices",
                      self.slice(i))

    def pod(self, pod):
        return {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": f"pod-{pod}", "namespace": self.pod_ns(pod),
                             "labels": {"app": f"svc-{pod // self.each}",
                                        "pod-template-hash": f"{pod // self.each:010x}"},
                             "annotations": {"sidecar.istio.io/status": "{}"}},
                "spec": {"nodeName": "n1", "serviceAccountName": self.account(pod),
                         "containers": [{"name": "app", "image": "none.invalid/app"}]},
                "status": {"phase": "Running", "podIP": ip(POD_NET, pod),
                           "podIPs": [{"ip": ip(POD_NET, pod)}],
                           "conditions": [{"type": "Ready", "status": "True"}]}}

    def make_pod(self, pod):
        o = self.pod(pod)
        path = f"/api/v1/namespaces/{self.pod_ns(pod)}/pods"
        self.api.call("POST", path, {k: o[k] for k in ("metadata", "spec")})
        self.api.call("PATCH", f"{path}/pod-{pod}/status", {"status": o["status"]},
                      "application/merge-patch+json")

    def change(self, i, address):
        """One endpoint of service i is replaced."""
        self.api.call("PUT", f"/apis/discovery.k8s.io/v1/namespaces/{self.ns(i)}/endpointslices/"
                      f"svc-{i}-0", self.slice(i, address))

    def make(self):
        for n in range(NAMESPACES):
            self.api.call("POST", "/api/v1/namespaces",
                          {"metadata": {"name": f"team-{n}", "labels": {"istio-injection": "enabled"}}})
            for a in range(ACCOUNTS_PER_NAMESPACE):
                self.api.call("POST", f"/api/v1/namespaces/team-{n}/serviceaccounts",
                              {"metadata": {"name": f"account-{a}"}})
        many(self.make_service, range(self.o.services))
        many(self.make_pod, range(self.o.services * self.each))


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kb(pid):
    ret = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        for line in f:
            parts = line.split()
            if parts[0] in ("Anonymous:", "Pss:", "Rss:"):
                ret[parts[0][:-1].lower()] = int(parts[1])
    return ret


class Fleet:
    def __init__(self, program, work, o):
        self.p = subprocess.Popen(
            [program, f"127.0.0.1:{PORT}", f"tulle-operator.{SYSTEM}.svc", f"{work}/root.pem",
             f"{work}/pods", f"{work}/hosts"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=open(f"{work}/fleet.log", "w", encoding="utf-8"), text=True, bufsize=1)
        self.o = o
        self.seen, self.stats, self.words = {}, None, []
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.stdout:
            with self.changed:
                words = line.split()
                if words[0] == "seen":
                    self.seen[words[1]] = int(words[4])
                elif words[0] == "stats":
                    self.stats = dict(w.split("=") for w in words[1:])
                self.words.append(words[0])
                self.changed.notify_all()

    def say(self, text):
        self.p.stdin.write(text + "\n")

    def wait(self, test, seconds, what):
        with self.changed:
            if not self.changed.wait_for(lambda: test() or self.p.poll() is not None, seconds) \
                    or self.p.poll() is not None:
                raise RuntimeError(f"fleet: {what}: not within {seconds} s")

    def now(self):
        with self.changed:
            self.stats = None
        self.say("stats")
        self.wait(lambda: self.stats is not None, 30, "stats")
        return {k: int(v) for k, v in self.stats.items()}


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))] if values else float("nan")


def run(o, work):
    os.environ.setdefault("IT_ETCD_PORT", "26379")
    os.environ["TULLE_CLUSTER_DIR"] = f"{work}/api"
    server = f"{ROOT}/tests/integration/kube/apiserver.sh"
    subprocess.run([server, "up"], check=True, stdout=subprocess.DEVNULL)
    kubectl = [o.kubectl, "--kubeconfig", f"{work}/api/kubeconfig"]
    operator = fleet = None
    rows = {}
    try:
        api = Api(f"{work}/api")
        subprocess.run(kubectl + ["apply", "-f", f"{ROOT}/crds/"], check=True, stdout=subprocess.DEVNULL)
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        api.call("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": {"nodeInfo": {
            k: "v1.34.4" if k == "kubeletVersion" else "" for k in (
                "kubeletVersion", "architecture", "bootID", "containerRuntimeVersion", "kernelVersion",
                "kubeProxyVersion", "machineID", "operatingSystem", "osImage", "systemUUID")}}})
        mesh = Mesh(api, o)
        start = time.monotonic()
        mesh.make()
        say(f"  {o.services} services, {o.services * mesh.each} endpoints with their pods made in "
            f"{time.monotonic() - start:.0f} s")

        env = dict(os.environ, KUBECONFIG=f"{work}/api/kubeconfig", POD_NAME="bench")
        start = time.monotonic()
        operator = subprocess.Popen(
            [f"{o.build}/bin/tulle-operator", "--namespace", SYSTEM, "--port", str(PORT), "--address",
             "127.0.0.1", "--monitoring-port", str(MONITOR)], env=env,
            stderr=open(f"{work}/operator.log", "w", encoding="utf-8"))
        while True:
            try:
                c = http.client.HTTPConnection("127.0.0.1", MONITOR, timeout=5)
                c.request("GET", "/readyz")
                if c.getresponse().status == 200:
                    break
            except OSError:
                pass
            if operator.poll() is not None or time.monotonic() - start > 300:
                raise RuntimeError("the operator did not get ready")
            time.sleep(0.05)
        rows["start_s"] = time.monotonic() - start
        time.sleep(3)
        rows["operator_kb"] = memory_kb(operator.pid)

        secret = api.call("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/tulle-ca")
        with open(f"{work}/root.pem", "wb") as f:
            f.write(base64.b64decode(secret["data"]["root-cert.pem"]))
        for n in range(NAMESPACES):
            for a in range(ACCOUNTS_PER_NAMESPACE):
                answer = api.call("POST", f"/api/v1/namespaces/team-{n}/serviceaccounts/account-{a}/token",
                                  {"spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600}})
                with open(f"{work}/token-{n}-{a}", "w", encoding="ascii") as f:
                    f.write(answer["status"]["token"])
        rnd = random.Random(1)
        interested = [0] * o.services
        with open(f"{work}/pods", "w", encoding="ascii") as pods, \
                open(f"{work}/hosts", "w", encoding="ascii") as hosts:
            for pod in range(o.proxies):
                ns = mesh.pod_ns(pod)
                team = ns.split("-")[1]
                account = mesh.account(pod)
                pods.write(f"{ns} pod-{pod} {account} {work}/token-{team}-{account.split('-')[1]}\n")
                # All call service 0; the other calls are spread.
                calls = {0} | set(rnd.sample(range(1, o.services), o.calls - 1))
                for i in calls:
                    interested[i] += 1
                hosts.write(f"{ns} pod-{pod} {' '.join(mesh.key(i) for i in calls)}\n")

        fleet = Fleet(o.fleet, work, o)
        fleet.wait(lambda: "ready" in fleet.words, 60, "certificates")
        start, used = time.monotonic(), cpu_seconds(operator.pid)
        fleet.say("connect 500")
        fleet.wait(lambda: "connected" in fleet.words, 180, "all streams answered")
        rows["connect_s"] = time.monotonic() - start
        rows["connect_cpu_s"] = cpu_seconds(operator.pid) - used
        time.sleep(5)
        rows["fleet_kb"] = memory_kb(operator.pid)
        rows["per_proxy_kb"] = (rows["fleet_kb"]["anonymous"] - rows["operator_kb"]["anonymous"]) / o.proxies

        used = cpu_seconds(operator.pid)
        time.sleep(o.seconds)
        rows["idle_cores"] = (cpu_seconds(operator.pid) - used) / o.seconds

        # One change that everybody is interested in, at a time.
        serial = 0
        all_ms = []
        for _ in range(30):
            serial += 1
            address = ip(NEW_NET, serial)
            fleet.say(f"expect {address} {o.proxies}")
            time.sleep(0.2)
            begin = time.time()
            mesh.change(0, address)
            fleet.wait(lambda a=address: a in fleet.seen, 30, f"change {serial}")
            all_ms.append(fleet.seen[address] / 1000 - begin * 1000)
        rows["one_change_ms"] = {"p50": percentile(all_ms, .5), "p99": percentile(all_ms, .99)}

        # Churn: `rate` changes a second of services at random; the time of every tenth is taken. Those
        # are of services that nothing else changes: of two quick changes only the last is pushed.
        timed = [i for i in range(1, o.services) if i % 10 == 0 and interested[i]]
        others = [i for i in range(1, o.services) if i % 10]
        before, used = fleet.now(), cpu_seconds(operator.pid)
        begins, deliveries, done = {}, 0, 0
        pool = concurrent.futures.ThreadPoolExecutor(8)
        start = time.monotonic()
        total = o.seconds * o.rate
        pending = []
        for n in range(total):
            serial += 1
            i = timed[n // 10 % len(timed)] if n % 10 == 0 else rnd.choice(others)
            address = ip(NEW_NET, serial)
            if n % 10 == 0:
                fleet.say(f"expect {address} {interested[i]}")
                begins[address] = None

            def change(i=i, address=address):
                if address in begins:
                    begins[address] = time.time()
                mesh.change(i, address)
            pending.append(pool.submit(change))
            deliveries += interested[i]
            late = start + (n + 1) / o.rate - time.monotonic()
            if late > 0:
                time.sleep(late)
        for p in pending:
            p.result()
        took = time.monotonic() - start
        rows["churn_cores"] = (cpu_seconds(operator.pid) - used) / took
        rows["churn_rate"] = total / took
        time.sleep(3)
        after = fleet.now()
        times = [fleet.seen[a] / 1000 - b * 1000 for a, b in begins.items() if a in fleet.seen]
        rows["churn_ms"] = {"p50": percentile(times, .5), "p99": percentile(times, .99),
                            "seen": len(times), "asked": len(begins)}
        rows["bytes_per_change_and_proxy"] = (after["payload"] - before["payload"]) / max(deliveries, 1)
        rows["churn_kb"] = memory_kb(operator.pid)
        rows["ends"] = after["ends"]
    finally:
        for p in (fleet.p if fleet else None, operator):
            if p and p.poll() is None:
                p.terminate()
                p.wait(20)
        subprocess.run([server, "down"], check=False, stdout=subprocess.DEVNULL)
    return rows


def report(o, r):
    big = o.services > 1000
    mb = lambda kb: f"{kb / 1024:.1f} MB"
    table = [
        ("operator alone, anonymous", mb(r["operator_kb"]["anonymous"]), "15 MB" if not big else "",
         big or r["operator_kb"]["anonymous"] <= 15 * 1024),
        (f"with {o.proxies} sidecars, anonymous", mb(r["fleet_kb"]["anonymous"]),
         "120 MB" if not big else "", big or r["fleet_kb"]["anonymous"] <= 120 * 1024),
        ("per connected sidecar", f"{r['per_proxy_kb']:.1f} KB", "40 KB", r["per_proxy_kb"] <= 40),
        ("ready after", f"{r['start_s']:.1f} s", "", True),
        (f"{o.proxies} streams with all they ask for", f"{r['connect_s']:.1f} s, "
         f"{r['connect_cpu_s']:.1f} s of CPU", "", True),
        ("idle", f"{r['idle_cores']:.3f} cores", "0.05", r["idle_cores"] <= .05),
        (f"one change to {o.proxies} sidecars, p50 and p99",
         f"{r['one_change_ms']['p50']:.0f} and {r['one_change_ms']['p99']:.0f} ms", "p99 200 ms",
         r["one_change_ms"]["p99"] <= 200),
        (f"{r['churn_rate']:.0f} changes a second", f"{r['churn_cores']:.2f} cores", "", True),
        ("change to last acknowledgement under churn, p50 and p99",
         f"{r['churn_ms']['p50']:.0f} and {r['churn_ms']['p99']:.0f} ms "
         f"({r['churn_ms']['seen']} of {r['churn_ms']['asked']})", "",
         r["churn_ms"]["seen"] == r["churn_ms"]["asked"]),
        ("bytes per change and proxy", f"{r['bytes_per_change_and_proxy']:.0f}", "", True),
        ("after churn, anonymous", mb(r["churn_kb"]["anonymous"]), "", True),
        ("streams that ended", str(r["ends"]), "0", r["ends"] == 0),
    ]
    say(f"| {o.services} services, {o.endpoints} endpoints, {o.proxies} proxies calling {o.calls} each "
        "| | budget |\n|---|---|---|")
    for name, value, budget, good in table:
        say(f"| {name} | {value} | {budget}{'' if good else ' (missed)'} |")
    return all(good for *_, good in table)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("build")
    p.add_argument("--fleet", default=None, help="the program made from bench/fleet.c")
    p.add_argument("--kubectl", default="kubectl")
    p.add_argument("--proxies", type=int, default=2000)
    p.add_argument("--services", type=int, default=1000)
    p.add_argument("--endpoints", type=int, default=10000)
    p.add_argument("--calls", type=int, default=10)
    p.add_argument("--seconds", type=int, default=20)
    p.add_argument("--rate", type=int, default=100)
    p.add_argument("--keep-logs", default=None, help="copy the logs there")
    p.add_argument("--json", default=None)
    o = p.parse_args()
    o.fleet = o.fleet or f"{o.build}/bench/fleet"
    with tempfile.TemporaryDirectory() as work:
        try:
            rows = run(o, work)
        finally:
            if o.keep_logs:
                os.makedirs(o.keep_logs, exist_ok=True)
                for name in ("operator.log", "fleet.log"):
                    if os.path.exists(f"{work}/{name}"):
                        with open(f"{work}/{name}", "rb") as a, open(f"{o.keep_logs}/{name}", "wb") as b:
                            b.write(a.read())
    if o.json:
        with open(o.json, "w", encoding="utf-8") as f:
            json.dump(rows, f)
    return 0 if report(o, rows) else 1


if __name__ == "__main__":
    sys.exit(main())
