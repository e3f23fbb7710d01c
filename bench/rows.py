# SPDX-License-Identifier: Apache-2.0
"""What is measured. A row has figures; each figure is measured for each subject in every round, round by
round, so that what else the machine does meets all of them. To measure one more thing, add a row.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import time

import peers

HOST = "web.bench.svc.cluster.local"
PAIRS = ["tulle", "envoy", "haproxy", "nginx"]


class Unable(RuntimeError):
    """A subject does not reach what a row asks for: a finding and no fault of the run."""


class Figure:
    def __init__(self, key, title, unit, digits=1):
        self.key, self.title, self.unit, self.digits = key, title, unit, digits

    def text(self, value):
        return "%.*f" % (self.digits, value)


class Row:
    """One quantity under one load. `measure` returns {figure's key: value} for one subject."""
    key = title = ""
    figures = ()
    subjects = PAIRS
    rounds = 5        # many short ones: what else the machine does comes in bursts
    alone = False     # starts and stops what it measures by itself

    def __init__(self, quick):
        self.quick = quick
        if quick:
            self.rounds = 1

    def seconds(self, s):
        return s / 4 if self.quick else s

    def how(self):
        return ""

    def measure(self, world, peer):
        raise NotImplementedError


def load(world, mode, *args, at, path="/", pids=(), host=HOST):
    argv = [world.tool("load"), mode] + [str(a) for a in args] + ["-H", host]
    if pids:
        argv += ["-p", ",".join(str(p) for p in pids)]
    p = subprocess.run(argv + [at, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=120)
    if p.returncode != 0:
        raise RuntimeError(p.stderr.strip() or "load ended with %d" % p.returncode)
    got = json.loads(p.stdout)
    # A load that is refused would be a cheap one.
    if not got["requests"]:
        raise RuntimeError("not one answer")
    if got["errors"] > 0.001 * (got["requests"] + 1):
        raise RuntimeError("%d errors in %d requests: %s" % (got["errors"], got["requests"],
                                                           got["error"]))
    return got


def cpu_per(got, n):
    return {"cpu": sum(got["cpu_us"]) / n} if got["cpu_us"] and n else {}


CPU = Figure("cpu", "CPU of the pair per request", "µs")
RPS = Figure("rps", "requests per second", "1/s", 0)
P50 = Figure("p50_us", "p50", "µs", 0)
P99 = Figure("p99_us", "p99", "µs", 0)
P999 = Figure("p999_us", "p99.9", "µs", 0)


class Http(Row):
    subjects = ["direct", "relay"] + PAIRS + ["envoy2", "tulle2"]
    figures = (CPU, RPS, P50, P99,
               Figure("fair", "slowest connection's share of the mean", "", 2))

    def __init__(self, quick, conns):
        super().__init__(quick)
        self.conns = conns
        if conns == 1:
            self.subjects = ["direct", "relay"] + PAIRS    # a second worker would have nothing to do
        self.key = "http-%d" % conns
        self.title = "HTTP/1.1, %d connection%s, as fast as it goes" % (conns, "s" if conns > 1 else "")

    def how(self):
        return ("1 KB answers; each connection sends when its answer is there; %g s after %g s of "
                "warm-up" % (self.seconds(1), self.seconds(0.3)))

    def measure(self, world, peer):
        got = load(world, "closed", "-c", self.conns, "-w", self.seconds(0.3), "-d", self.seconds(1),
                   at=peer.at("client"), pids=peer.all_pids())
        mean = got["requests"] / self.conns
        return dict(got, fair=got["least_per_connection"] / mean if mean else 0,
                    **cpu_per(got, got["requests"]))


class Rate(Row):
    figures = (P50, P99, P999, CPU)

    def __init__(self, quick, rate, subjects):
        super().__init__(quick)
        self.rate, self.subjects, self.length = rate, subjects, 3 if rate < 2000 else 2
        self.key = "rate-%d" % rate
        self.title = "HTTP/1.1 at %s requests per second" % format(rate, ",")

    def how(self):
        return ("16 connections, requests due at a fixed rate, latency from when each was due "
                "(coordinated omission corrected); %g s" % self.seconds(self.length))

    def measure(self, world, peer):
        got = load(world, "open", "-c", 16, "-r", self.rate, "-w", self.seconds(0.3), "-d",
                   self.seconds(self.length), at=peer.at("client"), pids=peer.all_pids())
        if got["requests"] < 0.97 * self.rate * got["seconds"]:
            raise Unable("answered only %.0f requests/s of %d" % (got["rps"], self.rate))
        return dict(got, **cpu_per(got, got["requests"]))


class Bulk(Row):
    key, title = "tcp-bulk", "TCP, bulk"
    subjects = ["direct", "relay"] + PAIRS
    figures = (Figure("cpu", "CPU of the pair per GB", "ms", 0), Figure("mbps", "throughput", "MB/s", 0))

    def how(self):
        return "opaque TCP, 4 connections read 16 MB answers; %g s; a GB is 10^9 bytes" % self.seconds(1)

    def measure(self, world, peer):
        got = load(world, "closed", "-c", 4, "-w", self.seconds(0.3), "-d", self.seconds(1),
                   at=peer.at("client", peers.TCP), path="/bytes/16777216", pids=peer.all_pids())
        return dict(cpu_per(got, got["bytes"] / 1e9 * 1000), mbps=got["bytes"] / 1e6 / got["seconds"])


def cpu_seconds(pids):
    """What these processes have used so far."""
    total = 0
    for pid in pids:
        with open("/proc/%d/stat" % pid) as f:
            total += sum(int(n) for n in f.read().rpartition(")")[2].split()[11:13])
    return total / os.sysconf("SC_CLK_TCK")


class Http2(Row):
    key, title = "h2", "HTTP/2, 16 connections of 16 streams, as fast as it goes"
    subjects = ["direct", "tulle", "envoy", "haproxy"]    # nginx speaks no HTTP/2 to servers
    figures = (CPU, RPS)

    def how(self):
        return ("h2load, 1 KB answers of nghttpd with one thread; HTTP/2 on all three ways; %d requests, CPU in "
                "the kernel's ticks" % self.requests())

    def requests(self):
        return 20000 if self.quick else 60000

    def measure(self, world, peer):
        if not os.path.exists(peers.NGHTTPD) or not shutil.which("h2load"):
            raise Unable("missing: nghttp2-server, nghttp2-client")
        n = self.requests()
        argv = ["h2load", "-c", "16", "-m", "16", "-t", "1", "-H", ":authority: " + HOST, "-n"]
        url = "http://%s/index.html" % peer.at("client", peers.H2)
        subprocess.run(argv + ["3000", url], stdout=subprocess.DEVNULL, check=True, timeout=60)
        before = cpu_seconds(peer.all_pids())
        out = subprocess.run(argv + [str(n), url], stdout=subprocess.PIPE, text=True, check=True,
                             timeout=120).stdout
        used = cpu_seconds(peer.all_pids()) - before
        done = int(re.search(r"(\d+) succeeded", out).group(1))
        if done < 0.999 * n or "status codes: %d 2xx" % done not in out:
            raise RuntimeError("%d of %d requests: %s" % (done, n, " ".join(re.findall(r"status codes: .*", out))))
        rate = float(re.search(r"finished in .*?, ([\d.]+) req/s", out).group(1))
        return dict({"rps": rate}, **({"cpu": used * 1e6 / n} if used else {}))


class NewConnections(Row):
    key, title = "new-mtls", "New mutual TLS connections, as configured"
    figures = (Figure("cpu", "CPU of the pair per connection", "µs", 0),
               Figure("rps", "connections per second", "1/s", 0))

    def how(self):
        return ("opaque TCP: every client connection makes the client side dial the server side anew; 16 "
                "at once, one request each; all keep sessions and may resume; %g s" % self.seconds(1))

    def measure(self, world, peer):
        got = load(world, "fresh", "-c", 16, "-w", self.seconds(0.3), "-d", self.seconds(1),
                   at=peer.at("client", peers.TCP), pids=peer.all_pids())
        return dict(got, **cpu_per(got, got["requests"]))


class Handshake(Row):
    key, title = "handshake", "Full mutual TLS handshakes, server side"
    figures = (Figure("cpu", "CPU of the server side per connection", "µs", 0),
               Figure("rps", "connections per second", "1/s", 0))

    def how(self):
        return ("the load generator is the TLS client, shows a P-256 certificate and resumes nothing; 16 "
                "at once, one request each over opaque TCP; %g s" % self.seconds(1))

    def measure(self, world, peer):
        got = load(world, "fresh", "-c", 16, "-w", self.seconds(0.3), "-d", self.seconds(1),
                   *tls_args(world, peer), at=peer.at("server", peers.TCP), pids=peer.pids("server"))
        return dict(got, **cpu_per(got, got["requests"]))


def tls_args(world, peer):
    args = ["-t", "-C", world.path(peer.certificate + ".pem"), "-K",
            world.path(peer.certificate + ".key"), "-S", peer.sni]
    return args + (["-A", peer.alpn] if peer.alpn else [])


class Syscalls(Row):
    key, title = "syscalls", "System calls per request"
    rounds, subjects = 1, ["relay"] + PAIRS
    figures = (Figure("client-1", "client side, 1 connection", "", 2),
               Figure("server-1", "server side, 1 connection", "", 2),
               Figure("client-16", "client side, 16 connections", "", 2),
               Figure("server-16", "server side, 16 connections", "", 2))

    def how(self):
        return ("kernel's count of raw_syscalls:sys_enter in the proxy's processes (perf stat), else strace "
                "-c; HTTP/1.1, 1 KB answers")

    def count(self, world, peer, side, conns):
        argv = [world.tool("load"), "closed", "-c", str(conns), "-d", str(self.seconds(1)), "-H", HOST,
                peer.at("client"), "/"]
        pids = ",".join(str(p) for p in peer.pids(side))
        if shutil.which("perf"):
            out = world.path("perf.out")
            p = subprocess.run(["perf", "stat", "-x;", "-o", out, "-e", "raw_syscalls:sys_enter", "-p",
                                pids, "--"] + argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, timeout=60)
            m = re.search(r"^(\d+);;raw_syscalls", open(out).read(), re.M) if p.returncode == 0 else None
            if m:
                return self.share(m.group(1), p.stdout)
        if not shutil.which("strace"):
            raise RuntimeError("neither perf (with tracepoints) nor strace is here")
        tracer = subprocess.Popen(["strace", "-c", "-f", "-o", world.path("strace.out")] +
                                  [w for p in pids.split(",") for w in ("-p", p)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        got = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60).stdout
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        with open(world.path("strace.out")) as f:
            total = re.search(r"^100\.00\s+\S+\s+(?:\d+\s+)?(\d+)\s.*total$", f.read(), re.M)
        return self.share(total.group(1), got)

    @staticmethod
    def share(calls, got):
        requests = json.loads(got)["requests"]
        if not requests:
            raise RuntimeError("not one answer")
        return int(calls) / requests

    def measure(self, world, peer):
        return {"%s-%d" % (side, conns): self.count(world, peer, side, conns)
                for side in ("client", "server") for conns in (1, 16)}


# --- what starts and stops its subjects itself --------------------------------------------------------

def memory(pids):
    """KB of all these processes."""
    total = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            for line in f:
                name = line.split(":")[0]
                if name in total:
                    total[name] += int(line.split()[1])
    return total


def kept(memory_of, quiet=0.4, patience=6):
    """Anonymous memory once it is at rest."""
    last, end = None, time.monotonic() + patience
    while time.monotonic() < end:
        now = memory_of()
        if last is not None and abs(now["Anonymous"] - last["Anonymous"]) < 8:
            return now
        last = now
        time.sleep(quiet)
    return last


class Memory(Row):
    key, title, alone, rounds = "memory", "Memory of a sidecar", True, 1
    figures = (Figure("anonymous", "anonymous, idle", "MB", 2), Figure("pss", "PSS, idle", "MB", 2),
               Figure("rss", "resident, idle", "MB", 2),
               Figure("plain", "anonymous per idle plaintext connection", "KB", 2),
               Figure("mtls", "anonymous per idle mTLS connection, one end", "KB", 2))

    def how(self):
        return ("/proc/PID/smaps_rollup, all processes of the side that needs more, started and used for "
                "one request; then 1,000 connections to the client side (plaintext) or to the server side "
                "(mTLS), each used once and left open")

    def connections(self, world, peer, side, args):
        before = kept(lambda: memory(peer.pids(side)))
        n = 250 if self.quick else 1000
        p = subprocess.Popen([world.tool("load"), "idle", "-c", str(n), "-H", HOST] + args +
                             [peer.at(side), "/"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if p.stdout.readline() != b"ready\n":
                raise RuntimeError("idle connections could not be opened")
            after = kept(lambda: memory(peer.pids(side)))
        finally:
            p.stdin.close()
            p.wait(20)
        return (after["Anonymous"] - before["Anonymous"]) / n

    def measure(self, world, peer):
        for side in ("server", "client"):
            peer.start(side)
        try:
            load(world, "closed", "-d", 0.5, at=peer.at("client"))
            idle = [kept(lambda s=side: memory(peer.pids(s))) for side in ("client", "server")]
            got = {k: max(m[name] for m in idle) / 1024 for k, name in
                   (("anonymous", "Anonymous"), ("pss", "Pss"), ("rss", "Rss"))}
            got["plain"] = self.connections(world, peer, "client", [])
            got["mtls"] = self.connections(world, peer, "server", tls_args(world, peer))
            return got
        finally:
            for side in ("client", "server"):
                if side in peer.running:
                    peer.stop(side)


class Start(Row):
    key, title, alone, rounds = "start", "Start to first byte", True, 7
    figures = (Figure("ms", "from exec to the first answer through the client side", "ms"),)

    def how(self):
        return ("configuration at hand, server side running; from fork to the first byte of a 200 over "
                "mutual TLS, asked again every 0.1 ms while the connection is refused")

    def measure(self, world, peer):
        peer.start("server")
        try:
            argv, env = peer.command("client")
            p = subprocess.run([world.tool("load"), "start", "-H", HOST, peer.at("client"), "/", "--"] +
                               argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=dict(os.environ, **env), timeout=60)
            if p.returncode != 0:
                raise RuntimeError(p.stderr.strip())
            return {"ms": json.loads(p.stdout)["first_us"] / 1000}
        finally:
            peer.stop("server")


class Size(Row):
    key, title, alone, rounds = "size", "Programs", True, 1
    figures = (Figure("mb", "stripped executables, beside shared libraries", "MB", 2),)

    def how(self):
        return "what strip --strip-unneeded leaves; Tulle's supervisor is static and counts its libc, musl"

    def measure(self, world, peer):
        total = 0
        for n, f in enumerate(peer.program_files()):
            out = world.path("stripped-%s-%d" % (peer.name, n))
            subprocess.run(["strip", "--strip-unneeded", "-o", out, f], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            total += os.path.getsize(out)
            os.unlink(out)
        return {"mb": total / 1e6}


class Injector(Row):
    key, title, alone, rounds = "injector", "Injection of pods", True, 3
    subjects = ["tulle"]
    figures = (Figure("inject", "p99 at 200 AdmissionReviews/s", "µs", 0),
               Figure("health", "p99 at 200 /healthz/s, same listener", "µs", 0),
               Figure("inject_p50", "p50 of AdmissionReviews", "µs", 0),
               Figure("health_p50", "p50 of /healthz", "µs", 0),
               Figure("ratio", "p99, AdmissionReview to /healthz", "", 2))

    def how(self):
        return ("8 HTTPS connections at a fixed rate, %g s each in turn; the review is a Deployment's pod "
                "with one container, twelve variables, two probes and two volumes" % self.seconds(4))

    @staticmethod
    def review():
        """As an API server sends it for a pod that a ReplicaSet creates."""
        probe = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
        containers = [{
            "name": name, "image": "registry.example/shop/%s:1.4.2" % name,
            "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
            "env": [{"name": "SETTING_%d" % i, "value": "value-%d" % i} for i in range(12)],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/" + name},
                {"name": "kube-api-access-x2v7q", "readOnly": True,
                 "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "livenessProbe": dict(probe, httpGet={"path": "/live", "port": port, "scheme": "HTTP"}),
            "readinessProbe": dict(probe, httpGet={"path": "/ready", "port": "http", "scheme": "HTTP"}),
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent"}
            for name, port in (("checkout", 8080),)]
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "5a2c8c1e-6d34-4f0b-9f0a-2f3b0e6a7d11", "name": "", "namespace": "shop",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE", "dryRun": False,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
                         "groups": ["system:serviceaccounts", "system:authenticated"]},
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}, "oldObject": None,
            "object": {
                "kind": "Pod", "apiVersion": "v1",
                "metadata": {
                    "generateName": "checkout-7c9d8b6f5d-",
                    "labels": {"app": "checkout", "version": "v1", "pod-template-hash": "7c9d8b6f5d"},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                                         "name": "checkout-7c9d8b6f5d", "controller": True,
                                         "uid": "0f5b7f5a-1111-4222-8333-444455556666",
                                         "blockOwnerDeletion": True}]},
                "spec": {
                    "containers": containers, "serviceAccountName": "checkout",
                    "serviceAccount": "checkout", "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "securityContext": {}, "schedulerName": "default-scheduler", "priority": 0,
                    "tolerations": [{"key": "node.kubernetes.io/" + k, "operator": "Exists",
                                     "effect": "NoExecute", "tolerationSeconds": 300}
                                    for k in ("not-ready", "unreachable")],
                    "volumes": [{"name": "config", "configMap": {"name": "checkout",
                                                                 "defaultMode": 420}},
                                {"name": "kube-api-access-x2v7q", "projected": {"sources": [
                                    {"serviceAccountToken": {"expirationSeconds": 3607,
                                                             "path": "token"}},
                                    {"configMap": {"name": "kube-root-ca.crt", "items": [
                                        {"key": "ca.crt", "path": "ca.crt"}]}}],
                                    "defaultMode": 420}}]},
                "status": {}}}}

    def measure(self, world, peer):
        body = world.write("review.json", json.dumps(self.review(), separators=(",", ":")))
        settings = world.write("settings.json", json.dumps({"image": "registry.example/tulle-proxy:1"}))
        log = world.path("injector.log")
        p = world.spawn([world.bin + "/tulle-injector", "--port", "0", "--cert",
                         world.path("server-dns.pem"), "--key", world.path("server-dns.key"),
                         "--settings", settings], "injector.log")
        try:
            at, end = None, time.monotonic() + 10
            while not at and time.monotonic() < end:
                with open(log) as f:
                    found = re.findall(r'is serving" port=(\d+)', f.read())
                at = "127.0.0.1:" + found[-1] if found else time.sleep(0.05)
            if not at or p.poll() is not None:
                raise RuntimeError("the injector does not serve")
            common = ["-c", 8, "-r", 200, "-w", 0.5, "-d", self.seconds(4), "-t"]
            health = load(world, "open", *common, at=at, path="/healthz", host="localhost")
            inject = load(world, "open", *common, "-b", body, at=at, path="/inject/namespace",
                          host="localhost")
            self.check(at, body)
            return {"inject": inject["p99_us"], "health": health["p99_us"],
                    "inject_p50": inject["p50_us"], "health_p50": health["p50_us"],
                    "ratio": inject["p99_us"] / health["p99_us"]}
        finally:
            world.stop(p)
            os.unlink(log)

    @staticmethod
    def check(at, body):
        """What was timed is a patch and no refusal."""
        import ssl
        import urllib.request
        ctx = ssl.create_default_context()
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=ctx))
        with open(body, "rb") as f:
            got = json.load(opener.open(urllib.request.Request(
                "https://%s/inject/namespace" % at, f.read(), {"Content-Type": "application/json"})))
        if not got["response"]["allowed"] or "patch" not in got["response"]:
            raise RuntimeError("the injector did not patch the pod: %s" % got)


def make(quick):
    return ([Size(quick), Start(quick), Memory(quick), Injector(quick)] +
            [Http(quick, n) for n in (1, 16, 64, 256)] +
            [Rate(quick, 1000, ["direct", "relay"] + PAIRS),
             # Envoy's pair needs more than the two cores of a small machine for this one.
             Rate(quick, 5000, ["direct", "relay", "tulle", "haproxy", "nginx"]), Bulk(quick), Http2(quick), NewConnections(quick), Handshake(quick),
             Syscalls(quick)])


class Budget:
    """`subject`'s figure is to be at most `limit` times that of the best of `others` (or `limit` itself)."""

    def __init__(self, row, figure, limit, *others, subject="tulle"):
        self.row, self.figure, self.limit, self.others, self.subject = (row, figure, limit, others,
                                                                        subject)


BUDGETS = [
    Budget("http-16", "cpu", 1 / 4, "envoy"),
    Budget("http-16", "cpu", 0.75, "haproxy", "nginx"),
    Budget("http-64", "cpu", 1 / 6, "envoy"),
    Budget("http-256", "cpu", 1 / 6, "envoy"),
    Budget("http-64", "p99_us", 1 / 10, "haproxy"),
    Budget("http-256", "p99_us", 1 / 10, "haproxy"),
    Budget("rate-1000", "p50_us", 0.55, "envoy"),
    Budget("rate-1000", "p99_us", 0.3, "envoy"),
    Budget("rate-1000", "p50_us", 1, "haproxy", "nginx"),
    Budget("rate-1000", "p99_us", 1, "haproxy", "nginx"),
    Budget("rate-5000", "p50_us", 2.6, "direct"),
    Budget("new-mtls", "cpu", 1 / 4, "envoy"),
    Budget("handshake", "cpu", 1 / 2, "envoy"),
    Budget("memory", "anonymous", 1.2),
    Budget("memory", "rss", 8),
    Budget("memory", "plain", 0.5),
    Budget("memory", "mtls", 16),
    Budget("start", "ms", 1, "nginx"),
    Budget("size", "mb", 1),
    Budget("injector", "ratio", 3),
]
