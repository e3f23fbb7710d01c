#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a sidecar takes: an operator of a folder's objects, one proxy with an identity from its CA and a
discovery stream, as in a pod. Counts anonymous and resident memory of both of the proxy's processes at
rest, with N services in use out of M in the mesh, and prints one line for each step. Before that the sizes
of the stripped programs.

usage: memory.py BUILD_DIR [--services M] [--use N] [--pods P] [--smaps] [--gate]
--gate ends with 1 when a figure is more than a tenth (a size: 3 %) above what was reached: what was gained
stays. The budgets are the design's; a figure over its budget is named.
"""
import argparse
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

NS = "shop"
BUDGET = {"none": 1 << 30, "idle": 1200, "few": 1250, "thousand": 2500, "resident": 8192, "service": 1300, "connection": 512}
REACHED = {"idle": 1100, "few": 1140, "service": 3240, "connection": 505}  # KB, KB, bytes, bytes
CONNECTIONS = 2000
# KB = 1,000 bytes as `strip --strip-unneeded` leaves them. The sidecar's two executables count as one; the
# supervisor among them is static, with musl.
SIZES = {"sidecar": (("tulle-proxy", "tulle-proxy-data"), 699, 1000),
         "operator": (("tulle-operator",), 877, None),
         "injector": (("tulle-injector",), 393, None),
         "tulle": (("tulle",), 1431, None)}  # programs, reached, budget
SIZE_SLACK = 1.03  # they do not vary between runs, only between compilers and by features


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def vip(i):
    return "10.%d.%d.%d" % (96 + i // 62500, i // 250 % 250, 1 + i % 250)


def objects(services, pods, port):
    """Every service has `pods` endpoints; all of them are the one backend, which is enough to be used."""
    out = ["apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {istio-injection: enabled}}\n" % NS,
           "apiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: %s, labels: {app: client}}\n"
           "spec: {serviceAccountName: client, containers: [{name: app, image: app}]}\n"
           "status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}], conditions: "
           "[{type: Ready, status: 'True'}]}\n" % NS]
    for i in range(services):
        name = "service-%d" % i
        out.append("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\n"
                   "spec: {clusterIP: %s, clusterIPs: [%s], selector: {app: %s}, ports: "
                   "[{name: http, port: 80, targetPort: %d, protocol: TCP}]}\n" %
                   (name, NS, vip(i), vip(i), name, port))
        eps = "".join("- {addresses: [127.1.%d.%d], conditions: {ready: true}}\n" %
                      (i % 250, 1 + k) for k in range(pods))
        out.append("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-1, namespace: "
                   "%s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\nports: [{name: http, "
                   "port: %d, protocol: TCP}]\nendpoints:\n%s" % (name, NS, name, port, eps))
    return "---\n".join(out)


def backend(port):
    """Answers everything; on all of 127.0.0.0/8."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port))
    s.listen(1024)

    def serve(c):
        data = b""
        try:
            while True:
                more = c.recv(65536)
                if not more:
                    return
                data += more
                while b"\r\n\r\n" in data:
                    data = data.split(b"\r\n\r\n", 1)[1]
                    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            pass
        finally:
            c.close()

    def accept():
        while True:
            threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
    threading.stack_size(256 * 1024)
    threading.Thread(target=accept, daemon=True).start()


def stripped(program):
    """Bytes of the program without its symbols."""
    with tempfile.NamedTemporaryFile(prefix="tulle-size-") as out:
        subprocess.run(["strip", "--strip-unneeded", "-o", out.name, program], check=True)
        return os.path.getsize(out.name)


def sizes(build, over, grown):
    for name, (programs, reached, budget) in SIZES.items():
        kb = sum(stripped(os.path.join(build, "bin", p)) for p in programs) / 1000
        print("%-44s %5.0f KB stripped" % ("program: " + name, kb))
        if budget and kb > budget:
            over.append("size of " + name)
        if kb > reached * SIZE_SLACK:
            grown.append("size of %s: %.0f KB instead of %d" % (name, kb, reached))


def smaps(pid):
    """(name, permissions) -> [anonymous, resident, private] KB."""
    out, at = {}, None
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            m = re.match(r"^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \S+\s*(.*)$", line)
            if m:
                at = out.setdefault((os.path.basename(m.group(2)) or "[anonymous]", m.group(1)), [0, 0])
                continue
            m = re.match(r"^(Anonymous|Rss):\s+(\d+) kB", line)
            if m:
                at[m.group(1) == "Rss"] += int(m.group(2))
    return out


class Rig:
    def __init__(self, build, services, pods):
        self.bin = os.path.join(os.path.abspath(build), "bin")
        self.dir = tempfile.mkdtemp(prefix="tulle-memory-")
        self.children = []
        self.port, self.operator_port, monitoring = free_port(), free_port(), free_port()
        self.out, self.admin = free_port(), free_port()
        backend(self.port)
        objs, ca = self.dir + "/objects", self.dir + "/ca"
        os.mkdir(objs)
        os.mkdir(ca)
        with open(objs + "/mesh.yaml", "w") as f:
            f.write(objects(services, pods, self.port))
        with open(self.dir + "/tokens", "w") as f:
            f.write("secret %s client\n" % NS)
        with open(self.dir + "/token", "w") as f:
            f.write("secret")
        self.log = open(self.dir + "/log", "wb")
        self.operator = self.start(["tulle-operator", "--config-dir", objs, "--ca-dir", ca, "--tokens",
                                    self.dir + "/tokens", "--address", "127.0.0.1", "--port",
                                    str(self.operator_port), "--monitoring-port", str(monitoring)], {})
        self.wait(lambda: self.page(monitoring, "/readyz") == 200, "operator")
        env = {"TULLE_DISCOVERY_ADDRESS": "127.0.0.1:%d" % self.operator_port,
               "TULLE_TOKEN_PATH": self.dir + "/token", "TULLE_ROOTS_PATH": ca + "/root-cert.pem",
               "POD_NAME": "client", "POD_NAMESPACE": NS, "SERVICE_ACCOUNT": "client",
               "INSTANCE_IP": "127.0.0.1"}
        self.proxy = self.start(["tulle-proxy", "run", "--admin", "127.0.0.1:%d" % self.admin, "--outbound",
                                 "127.0.0.1:%d=%s:80" % (self.out, vip(0))], env)
        self.wait(lambda: self.page(self.admin, "/ready") == 200, "proxy")

    def start(self, args, env):
        p = subprocess.Popen([self.bin + "/" + args[0]] + args[1:], stdout=self.log, stderr=self.log,
                             env=dict(os.environ, **env), stdin=subprocess.DEVNULL)
        self.children.append(p)
        return p

    def page(self, port, path):
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            c.request("GET", path)
            return c.getresponse().status
        except OSError:
            return 0

    def wait(self, check, what):
        end = time.monotonic() + 60
        while not check():
            if time.monotonic() > end:
                raise SystemExit("%s is not ready; see below\n%s" % (what, open(self.dir + "/log").read()[-3000:]))
            time.sleep(0.05)

    def use(self, first, last):
        c = http.client.HTTPConnection("127.0.0.1", self.out, timeout=10)
        for i in range(first, last):
            c.request("GET", "/", headers={"Host": "service-%d.%s" % (i, NS)})
            r = c.getresponse()
            r.read()
            if r.status != 200:
                raise SystemExit("service-%d answers %d\n%s" % (i, r.status, open(self.dir + "/log").read()[-2000:]))
        c.close()

    def connect(self, n):
        """n plaintext connections of an application, each used once and left open."""
        kept = []
        for _ in range(n):
            c = socket.create_connection(("127.0.0.1", self.out))
            c.sendall(b"GET / HTTP/1.1\r\nHost: service-0.%s\r\n\r\n" % NS.encode())
            answer = c.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit("an idle connection: %r" % answer)
            kept.append(c)
        return kept

    def pids(self):
        with open("/proc/%d/task/%d/children" % (self.proxy.pid, self.proxy.pid)) as f:
            return [self.proxy.pid] + [int(p) for p in f.read().split()]

    def measure(self):
        maps = [smaps(p) for p in self.pids()]
        return tuple(sum(v[k] for m in maps for v in m.values()) for k in (0, 1)), maps

    def end(self):
        for p in reversed(self.children):
            p.send_signal(signal.SIGTERM)
        for p in self.children:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
        self.log.close()
        shutil.rmtree(self.dir)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("build")
    a.add_argument("--services", type=int, default=1000)
    a.add_argument("--use", type=int, default=1000)
    a.add_argument("--pods", type=int, default=2)
    a.add_argument("--smaps", action="store_true")
    a.add_argument("--gate", action="store_true")
    a = a.parse_args()
    over, grown = [], []
    sizes(a.build, over, grown)
    rig = Rig(a.build, a.services, a.pods)

    def step(name, budget):
        time.sleep(0.5)
        (anon, rss), maps = rig.measure()
        print("%-44s anonymous %5d KB  resident %5d KB" % (name, anon, rss))
        if a.smaps:
            for m in maps:
                for k, v in sorted(m.items(), key=lambda i: -i[1][0]):
                    if v[0]:
                        print("    %6d %6d  %s %s" % (v[0], v[1], k[0], k[1]))
        if rss > BUDGET["resident"]:
            over.append(name + " (resident)")
        judge(budget, name, anon)
        return anon

    def judge(what, name, value):
        if value > BUDGET[what]:
            over.append(name)
        if what in REACHED and value > REACHED[what] * 1.1:
            grown.append("%s: %.0f instead of %d" % (name, value, REACHED[what]))

    try:
        time.sleep(3.5)  # it gives back what only its start needed
        step("idle in a mesh of %d services" % a.services, "idle")
        if a.use:
            rig.use(0, min(3, a.use))
            few = step("3 of them in use", "few")
            kept = rig.connect(CONNECTIONS)
            time.sleep(0.5)
            each = (rig.measure()[0][0] - few) * 1024 / len(kept)
            print("%.0f bytes an idle plaintext connection" % each)
            judge("connection", "an idle plaintext connection", each)
            for c in kept:
                c.close()
            time.sleep(31)  # free memory between what stays is given back after half a minute
            before = rig.measure()[0][0]
        if a.use > 3:
            rig.use(3, a.use)
            time.sleep(31)
            full = step("%d of them in use" % a.use, "thousand" if a.use >= 1000 else "none")
            each = (full - before) * 1024 / (a.use - 3)
            print("%.0f bytes a service" % each)
            judge("service", "a service in use", each)
    finally:
        rig.end()
    if over:
        print("over budget: " + ", ".join(over))
    if grown:
        print("grown: " + ", ".join(grown))
    return 1 if a.gate and grown else 0


if __name__ == "__main__":
    sys.exit(main())
