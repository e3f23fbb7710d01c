# SPDX-License-Identifier: Apache-2.0
"""Runs the scenarios (*.scn) of this folder against the real proxy; the language is in README.md.

Every scenario has a loopback network of its own, so that they can run side by side and with fixed
port numbers: pods, their applications and the proxy's listeners are addresses of 127.0.0.0/8.
"""
import base64
import hashlib
import concurrent.futures
import errno
import fcntl
import glob
import os
import queue
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import h2client
import h2server

HERE = os.path.dirname(os.path.abspath(__file__))
EPOCH = 1767225600  # when the virtual clock begins, in civil time
ALWAYS = ("20200101000000Z", "20400101000000Z")  # life of a certificate on either clock
WAIT = 10.0  # seconds that something expected may take


class Failure(Exception):
    pass


class Enough(Exception):
    """The scenario ends here, passed."""


def need(ok, text):
    if not ok:
        raise Failure(text)


def eventually(check, seconds=WAIT):
    """Call until it returns something true; the last value otherwise."""
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got or time.monotonic() > end:
            return got
        time.sleep(0.01)


def options(words):
    """name=value words and the plain ones."""
    named, plain = {}, []
    for w in words:
        k, eq, v = w.partition("=")
        if eq and re.fullmatch(r"[a-z_]+", k):
            named.setdefault(k, []).append(v)
        else:
            plain.append(w)
    return named, plain


def unescape(text):
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


class Stream:
    """A socket with a buffer; used by clients and servers."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(WAIT)
        self.buf = b""
        self.eof = False

    def fill(self):
        if self.eof:
            return False
        data = self.sock.recv(262144)
        if not data:
            self.eof = True
            return False
        self.buf += data
        return True

    def line(self):
        while b"\r\n" not in self.buf:
            need(len(self.buf) < 1 << 20, "a line without an end")
            if not self.fill():
                return None
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line

    def exactly(self, n, sink):
        while n:
            if not self.buf and not self.fill():
                return False
            piece, self.buf = self.buf[:n], self.buf[n:]
            n -= len(piece)
            sink(piece)
        return True

    def head(self):
        first = self.line()
        if first is None:
            return None, []
        fields = []
        while True:
            line = self.line()
            if line is None:
                return None, []
            if not line:
                return first.decode("latin-1"), fields
            name, _, value = line.partition(b":")
            fields.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))

    def body(self, fields, sink, until_eof=False):
        """Content of a message; False when it was cut short."""
        get = dict(fields)
        if get.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = self.line()
                if size is None:
                    return False
                n = int(size.split(b";")[0], 16)
                if n == 0:
                    while True:
                        line = self.line()
                        if not line:
                            return line is not None
                if not self.exactly(n, sink) or self.line() is None:
                    return False
        if "content-length" in get:
            return self.exactly(int(get["content-length"]), sink)
        if until_eof:
            while self.buf or self.fill():
                sink(self.buf)
                self.buf = b""
        return True


class Server:
    """An HTTP application; how it answers can change while it runs."""

    def __init__(self, name, address, tls=None):
        self.name, self.how, self.requests, self.connections = name, {}, 0, 0
        self.tls = tls
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.open = set()
        self.sock = listening(address)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, peer = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(s)
            threading.Thread(target=self.serve, args=(s, peer), daemon=True).start()

    def close(self):
        self.release.set()
        for s in [self.sock] + list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def serve(self, s, peer):
        try:
            if s.family != socket.AF_UNIX:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(60)
            stream = Stream(self.tls.wrap_socket(s, server_side=True) if self.tls else s)
            stream.sock.settimeout(60)
            while self.one(stream, peer):
                pass
        except (OSError, Failure, ValueError):
            pass
        finally:
            self.open.discard(s)
            s.close()

    def one(self, stream, peer):
        first, fields = stream.head()
        if first is None:
            return False
        how = self.how
        with self.lock:
            number = self.requests
            self.requests += 1
        get = dict(fields)
        if get.get("expect", "").lower() == "100-continue":
            stream.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        got = [0]
        small = []

        def sink(piece):
            got[0] += len(piece)
            if got[0] < 65536:
                small.append(piece)
            if "read_delay" in how:
                time.sleep(float(how["read_delay"][0]))

        if not stream.body(fields, sink):
            return False
        if "hang" in how:
            self.release.wait(WAIT)
        if "reset" in how:
            stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if "cut" in how:
            stream.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")
            return False
        method, path, _ = first.split(" ", 2)
        statuses = how.get("status", ["200"])[0].split(",")
        status = int(statuses[min(number, len(statuses) - 1)] if "once" in how
                     else statuses[number % len(statuses)])
        text = "server=%s\nmethod=%s\npath=%s\nfrom=%s\n" % (self.name, method, path, peer[0] if peer else "unix")
        if self.tls:
            cert = stream.sock.getpeercert() or {}
            text += "tls=%s\nclient=%s\n" % (stream.sock.version(), ",".join(
                v for _, v in cert.get("subjectAltName", ())))
        text += "".join("%s: %s\n" % f for f in fields)
        if small:
            text += "\n" + b"".join(small).decode("latin-1")
        text += "\nreceived=%d\n" % got[0]
        body = text.encode("latin-1")
        if "body" in how:
            body = unescape(how["body"][0])
        head = "HTTP/1.1 %d Status\r\nServer-Name: %s\r\n" % (status, self.name)
        head += "".join(h + "\r\n" for h in how.get("header", []))
        last = "close" in how
        if last:
            head += "Connection: close\r\n"
        out = stream.sock.sendall
        if "size" in how:
            size = int(how["size"][0])
            out((head + "Content-Length: %d\r\n\r\n" % size).encode())
            block = b"x" * 65536
            while size and method != "HEAD":
                out(block[:min(size, 65536)])
                size -= min(size, 65536)
        elif "chunked" in how:
            out((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
            for i in range(0, len(body), 7):
                out(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]))
            out(b"0\r\n\r\n")
        elif status in (204, 304):
            out((head + "\r\n").encode())
        elif "until_close" in how:
            out((head + "\r\n").encode() + body)
            return False
        else:
            out((head + "Content-Length: %d\r\n\r\n" % len(body)).encode() +
                (body if method != "HEAD" else b""))
        return not last and "silent_close" not in how


class Dns:
    """A name server: answers by a table, UDP and TCP. A name without an entry is NXDOMAIN."""

    def __init__(self, address):
        self.table, self.asked, self.alive, self.delay = {}, {}, True, 0
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(address)
        self.tcp = listening(address)
        for run in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=run, daemon=True).start()

    def close(self):
        self.alive = False
        for s in (self.udp, self.tcp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def serve_udp(self):
        while self.alive:
            try:
                msg, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            answer = self.answer(msg, False) if msg else None
            if answer:
                threading.Timer(self.delay, self.tell, (answer, peer)).start()

    def tell(self, answer, peer):
        try:
            self.udp.sendto(answer, peer)
        except OSError:
            pass

    def serve_tcp(self):
        while self.alive:
            try:
                s, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.questions, args=(s,), daemon=True).start()

    def questions(self, s):
        """Those of one TCP connection."""
        with s:
            s.settimeout(WAIT)
            try:
                while n := int.from_bytes(s.recv(2, socket.MSG_WAITALL), "big"):
                    answer = self.answer(s.recv(n, socket.MSG_WAITALL), True)
                    s.sendall(len(answer).to_bytes(2, "big") + answer)
            except OSError:
                pass

    @staticmethod
    def name(text):
        return b"".join(bytes([len(l)]) + l.encode() for l in text.split(".")) + b"\0"

    def answer(self, msg, tcp):
        at, labels = 12, []
        while msg[at]:
            labels.append(msg[at + 1:at + 1 + msg[at]].decode().lower())
            at += 1 + msg[at]
        kind, question = int.from_bytes(msg[at + 1:at + 3], "big"), msg[12:at + 5]
        host = ".".join(labels)
        if kind == 1:
            self.asked[host] = self.asked.get(host, 0) + 1
        addresses, how = self.table.get(host, ([], {"rcode": ["3"]}))
        if "silent" in how:
            return None
        self.delay = float(how.get("delay", ["0"])[0])
        ttl = int(how.get("ttl", ["30"])[0]).to_bytes(4, "big")
        rcode, records, owner = int(how.get("rcode", ["0"])[0]), [], b"\xc0\x0c"
        if "cname" in how:
            target = self.name(how["cname"][0])
            records.append(owner + b"\0\5\0\1" + ttl + len(target).to_bytes(2, "big") + target)
            owner = target
        for a in addresses:
            raw = socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)
            if len(raw) == (4 if kind == 1 else 16 if kind == 28 else 0):
                records.append(owner + kind.to_bytes(2, "big") + b"\0\1" + ttl +
                               len(raw).to_bytes(2, "big") + raw)
        cut = "cut" in how and not tcp
        flags = 0x8180 | rcode | (0x0200 if cut else 0)
        records = [] if cut or rcode else records
        return (msg[:2] + flags.to_bytes(2, "big") + b"\0\1" + len(records).to_bytes(2, "big") +
                b"\0\0\0\0" + question + b"".join(records))


class Health:
    """A gRPC health server of its own (grpc.health.v1.Health/Check), as far as one needs HTTP/2 for it:
    to check what a client sends, not to serve the world."""

    PATH = "/grpc.health.v1.Health/Check"
    STATUS = {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2, "SERVICE_UNKNOWN": 3}
    # The codes of the letters in PATH (RFC 7541 appendix B).
    CODES = {"011000": "/", "100110": "g", "101100": "r", "101011": "p", "00100": "c", "010111": ".",
             "100111": "h", "00101": "e", "00011": "a", "101000": "l", "01001": "t", "1110111": "v",
             "00001": "1", "1100011": "H", "1011110": "C", "1110101": "k"}

    def __init__(self, address, says):
        self.says, self.open, self.requests, self.paths = says, set(), 0, []
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(self.sock, address)
        self.sock.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            self.open.add(s)
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def close(self):
        for s in [self.sock] + list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def decode(self, text):
        """A Huffman text of those letters; None when there are others."""
        bits = "".join("{:08b}".format(b) for b in text)
        out, code = "", ""
        for b in bits:
            code += b
            if code in self.CODES:
                out, code = out + self.CODES[code], ""
        return out if len(code) < 8 and set(code) <= {"1"} else None

    def path_of(self, block):
        """The value of :path, an indexed name (4 or 5) with a literal value."""
        for i in range(len(block) - 1):
            if block[i] in (0x44, 0x45, 0x04, 0x05):
                n, huffman = block[i + 1] & 0x7f, block[i + 1] & 0x80
                value = block[i + 2:i + 2 + n]
                path = self.decode(value) if huffman else value.decode("latin-1")
                if path and path.startswith("/"):
                    return path
        return None

    @staticmethod
    def frame(kind, flags, stream, payload):
        return (len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") +
                payload)

    @staticmethod
    def fields(*pairs):
        return b"".join(b"\x10" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode()
                        for k, v in pairs)

    def answer(self, path, message):
        """(gRPC status, message or None)."""
        if path != self.PATH:
            return 12, None
        n = int.from_bytes(message[1:5], "big")
        request = message[5:5 + n]
        if message[:1] != b"\0" or len(message) != 5 + n or (
                request and request[:1] + request[1:2] != b"\x0a" + bytes([n - 2])):
            return 13, None
        says = self.says.get(request[2:].decode(), None)
        if says is None:
            return 5, None
        return 0, b"\x08" + bytes([self.STATUS[says]])

    def serve(self, s):
        try:
            stream = Stream(s)
            stream.sock.settimeout(60)
            got = []
            stream.exactly(24, got.append)
            need(b"".join(got) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "no preface")
            s.sendall(self.frame(4, 0, 0, b""))
            block, message, told = {}, {}, 0
            while True:
                got = []
                if not stream.exactly(9, got.append):
                    return
                head, got = b"".join(got), []
                size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                number = int.from_bytes(head[5:], "big")
                stream.exactly(size, got.append)
                payload = b"".join(got)
                if kind == 4 and not flags & 1:
                    s.sendall(self.frame(4, 1, 0, b""))
                elif kind == 6 and not flags & 1:
                    s.sendall(self.frame(6, 1, 0, payload))
                elif kind == 1:
                    need(flags & 4 and not flags & 8, "a head in one frame without padding is meant")
                    block[number] = payload[5:] if flags & 32 else payload
                elif kind == 0:
                    need(not flags & 8, "padding")
                    message[number] = message.get(number, b"") + payload
                if kind in (0, 1) and flags & 1:
                    self.requests += 1
                    self.paths.append(self.path_of(block[number]))
                    if "hang" in self.says:
                        continue
                    status, text = self.answer(self.paths[-1], message.get(number, b""))
                    # A table size of nought is acknowledged in the first head (RFC 7541 4.2).
                    out = self.frame(1, 4, number, b"\x20"[told:] + b"\x88" + self.fields(
                        ("content-type", "application/grpc")))
                    told = 1
                    if text is not None:
                        out += self.frame(0, 0, number, b"\0" + len(text).to_bytes(4, "big") + text)
                    s.sendall(out + self.frame(1, 5, number, self.fields(("grpc-status", str(status)))))
        except (OSError, Failure, ValueError, KeyError):
            pass
        finally:
            self.open.discard(s)
            s.close()


class Proxy:
    def __init__(self, scenario, pod, config, extra, listens, log_unread=False):
        self.pod, self.config = pod, config
        self.log_path = os.path.join(scenario.dir, pod + ".log")
        self.admin = (scenario.address(pod, 60), scenario.port)
        self.status = (scenario.address(pod, 70), scenario.port)
        args = [scenario.bin + "/tulle-proxy", "run", "--namespace",
                scenario.namespace, "--seed", "7", "--admin", "%s:%d" % self.admin,
                "--status", "%s:%d" % self.status]
        if config:
            args += ["--config", config]
        if not scenario.real_clock:
            args.append("--virtual-clock")
        env = dict(os.environ, POD_NAME=pod, POD_NAMESPACE=scenario.namespace,
                   TULLE_LIBDIR=scenario.bin, **scenario.env)
        if not config:
            env.update(scenario.managed(pod))
        self.log = open(self.log_path, "ab")
        out = self.log
        if log_unread:  # what a container runtime does that has fallen behind
            self.unread, out = os.pipe()
            fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
        self.process = subprocess.Popen(args + listens + extra, stdout=out, stderr=self.log,
                                        env=env, stdin=subprocess.DEVNULL)
        if log_unread:
            os.close(out)
        scenario.proxies[pod] = self
        need(eventually(self.ready), "proxy %s is not ready" % pod)

    def read_log(self):
        """From here on somebody reads what the proxy says on its output; returns when the backlog is read."""
        def work():
            while True:
                data = os.read(self.unread, 65536)
                if not data:
                    os.close(self.unread)
                    return
                with open(self.log_path, "ab") as f:
                    f.write(data)
        threading.Thread(target=work, daemon=True).start()
        still, size = 0, -1
        while still < 10:  # it is written in pieces, one at a time that the pipe has room
            self.page("/clock?advance_ms=50", "POST")
            time.sleep(0.005)
            still, size = still + 1 if os.path.getsize(self.log_path) == size else 0, \
                os.path.getsize(self.log_path)

    def page(self, path, method="GET", at=None, headers=()):
        with socket.create_connection(at or self.admin, WAIT) as s:
            fields = "".join(h + "\r\n" for h in headers)
            s.sendall(("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%s\r\n" %
                       (method, path, fields)).encode())
            stream = Stream(s)
            first, got = stream.head()
            need(first, "no answer from the admin port to " + path)
            body = []
            stream.body(got, body.append)
            return int(first.split()[1]), b"".join(body).decode("utf-8", "replace")

    def ready(self):
        need(self.process.poll() is None,
             "proxy %s ended with %s" % (self.pod, self.process.returncode))
        try:
            return self.page("/ready")[0] == 200
        except OSError:
            return False

    def text(self, start=0):
        """What it has said, from this byte on."""
        with open(self.log_path, "rb") as f:
            f.seek(start)
            return f.read().decode("utf-8", "replace")

    def children(self):
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return [int(p) for p in f.read().split()]

    def anonymous_kb(self):
        total = 0
        for pid in [self.process.pid] + self.children():
            with open("/proc/%d/status" % pid) as f:
                total += int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))
        return total

    def leave(self):
        """An orderly end, so that leaks are looked for."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.end(60000)

    def end(self, step_ms):
        """Wait for its end while time goes on."""
        for _ in range(400):
            try:
                return self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                pass
            try:
                self.page("/clock?advance_ms=%d" % step_ms, "POST")
            except (OSError, Failure):
                pass
        raise Failure("proxy %s does not leave" % self.pod)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # it starts no other data process meanwhile
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            for pid in self.children():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait()
        self.log.close()


class Program:
    """A server at address `at`. One that cannot be told its address runs on a port of its own, and what comes
    to `listen` is carried there."""

    def __init__(self, argv, at, listen, log, cwd):
        self.at, self.listen, self.open = at, listen, set()
        self.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=cwd,
                                        start_new_session=True)
        need(eventually(self.answers, 30), "the program does not listen")
        if listen:
            threading.Thread(target=self.accept, daemon=True).start()

    def answers(self):
        try:
            socket.create_connection(self.at, 1).close()
            return True
        except OSError:
            return self.process.poll() is not None and need(False, "the program ended")

    def accept(self):
        while True:
            try:
                a, _ = self.listen.accept()
                b = socket.create_connection(self.at, WAIT)
            except OSError:
                return
            for s in (a, b):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                s.settimeout(None)
            self.open |= {a, b}
            for pair in ((a, b), (b, a)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    @staticmethod
    def carry(a, b):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        """With whatever it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for s in ([self.listen] if self.listen else []) + list(self.open):
            s.close()


class Scenario:
    def __init__(self, path, bindir, index, base):
        self.path, self.bin = path, bindir
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.net = base + index
        self.dir = tempfile.mkdtemp(prefix="tulle-scn-")
        self.port = free_port()
        self.ports6 = {}  # of the one address that loopback has in IPv6: $SIXa, $SIXb ...
        self.namespace = "default"
        self.env = {}
        self.real_clock = False
        self.pods, self.labels, self.services, self.listens = [], {}, {}, []
        self.objects, self.servers, self.proxies, self.streams = [], {}, {}, {}
        self.listeners, self.running, self.last, self.vars = {}, {}, None, {}
        self.identities, self.programs = {}, []
        self.operator, self.loads = None, {}
        self.many, self.h2 = [], {}
        self.shares = {}
        self.pod("client")

    # --- the network --------------------------------------------------------------------------
    def ip(self, last):
        return "127.%d.%d.%d" % (64 + self.net // 250, 1 + self.net % 250, last)

    def pod(self, name):
        if name not in self.pods:
            self.pods.append(name)
            self.labels.setdefault(name, {})
        return self.pods.index(name)

    def address(self, pod, shift=0):
        """Of a pod; shifted: of its application behind a proxy (30), of the proxy's pages."""
        return self.ip(2 + self.pod(pod) + shift)

    def app_address(self, pod):
        return self.address(pod, 30 if pod in self.inbound_pods else 0)

    def target(self, name):
        """Where a client dials: a service's outbound listener, or a pod."""
        if name in self.services:
            return (self.ip(100 + self.services[name]["n"]), self.port)
        if name in self.pods:
            return (self.address(name), self.port)
        for n, l in enumerate(self.listens):
            if l[0] == name:
                return (self.ip(180 + n), self.port)
        raise Failure("no service, pod or listener " + name)

    # --- objects ------------------------------------------------------------------------------
    def documents(self):
        out = []
        for p in self.pods:
            ip = self.address(p)
            labels = dict({"app": p}, **self.labels[p])
            sa = labels.pop("sa", p)
            out.append("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s, labels: {%s}}\n"
                       "spec: {serviceAccountName: %s, containers: [{name: app, image: app}]}\n"
                       "status: {phase: Running, podIP: %s, podIPs: [{ip: %s}], conditions: "
                       "[{type: Ready, status: 'True'}]}\n" %
                       (p, self.namespace, ", ".join("%s: '%s'" % i for i in labels.items()), sa, ip,
                        ip))
        for name, s in self.services.items():
            vip = "10.96.0.%d" % s["n"]
            out.append("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\n"
                       "spec: {clusterIP: %s, clusterIPs: [%s], selector: {app: %s}, ports: "
                       "[{name: '%s', port: %d, targetPort: %d, protocol: TCP}]}\n" %
                       (name, self.namespace, vip, vip, name, s["port_name"], self.port, self.port))
            eps = "".join("- {addresses: [%s], conditions: {ready: true}, targetRef: {kind: Pod, "
                          "name: %s, namespace: %s}}\n" % (self.address(p), p, self.namespace)
                          for p in s["pods"])
            out.append("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-1, "
                       "namespace: %s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\n"
                       "ports: [{name: '%s', port: %d, protocol: TCP}]\nendpoints:%s\n" %
                       (name, self.namespace, name, s["port_name"], self.port,
                        "\n" + eps if eps else " []"))
        for o in self.objects:
            out.append(o)
        return self.six(self.with_certs("---\n".join(out))).replace("$PORT", str(self.port)).replace("$DIR", self.dir)

    def with_certs(self, text):
        """$CERT(x), $KEY(x), $CRL(x): files of a certificate, in base64, as Secrets hold them; $HASH(x) and
        $SPKI(x): the SHA-256 of the certificate in hex, and of its public key in base64."""
        ends = {"CERT": ".pem", "KEY": ".key", "CRL": ".crl"}

        def pin(m):
            pem = os.path.join(self.dir, m.group(2) + ".pem")
            if m.group(1) == "HASH":
                der = subprocess.check_output(["openssl", "x509", "-in", pem, "-outform", "DER"])
                return hashlib.sha256(der).hexdigest()
            key = subprocess.check_output(["openssl", "x509", "-in", pem, "-noout", "-pubkey"])
            der = subprocess.check_output(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key)
            return base64.b64encode(hashlib.sha256(der).digest()).decode()

        def file(m):
            with open(os.path.join(self.dir, m.group(2) + ends[m.group(1)]), "rb") as f:
                return base64.b64encode(f.read()).decode()
        text = re.sub(r"\$(HASH|SPKI)\(([^)]*)\)", pin, text)
        return re.sub(r"\$(CERT|KEY|CRL)\(([^)]*)\)", file, text)

    def six(self, text):
        def number(m):
            if m.group(1) not in self.ports6:
                self.ports6[m.group(1)] = free_port()
            return str(self.ports6[m.group(1)])
        return re.sub(r"\$SIX([a-z])", number, text)

    def compile(self, pod):
        source = os.path.join(self.dir, "objects.yaml")
        target = os.path.join(self.dir, pod + ".bin")
        with open(source, "w") as f:
            f.write(self.documents())
        # The leak check of clang 14 dies at the thread-local memory of a library that was loaded late (RE2).
        p = subprocess.run([self.bin + "/tulle", "compile", "-f", source, "-n", self.namespace, "--pod",
                            pod, "-o", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           env=dict(os.environ, LSAN_OPTIONS="use_tls=0"))
        need(p.returncode == 0, p.stdout.decode())
        self.compile_output = p.stdout.decode()
        return target

    # --- identities ---------------------------------------------------------------------------
    def openssl(self, *args, stdin=None):
        p = subprocess.run(["openssl"] + list(args), input=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, cwd=self.dir)
        need(p.returncode == 0, "openssl: " + p.stderr.decode())

    def sign(self, file, extensions, *how, life=ALWAYS):
        with open(self.dir + "/ca.cnf", "w") as f:
            f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n"
                    "default_md=sha256\npolicy=p\nunique_subject=no\nemail_in_dn=no\n"
                    "[p]\norganizationName=optional\n[x]\n" + extensions)
        open(self.dir + "/index.txt", "a").close()
        self.openssl("ca", "-config", "ca.cnf", "-batch", "-notext", "-extensions", "x", "-startdate",
                     life[0], "-enddate", life[1], "-in", file + ".csr", "-out",
                     file + ".pem", *([] if "-keyfile" in how else ["-keyfile", "ca.key"]), *how)

    def key(self, file, subject, kind="P-256"):
        how = (["-newkey", "rsa:2048"] if kind == "rsa" else
               ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:" + kind])
        self.openssl("req", *how, "-nodes", "-keyout", file + ".new", "-out", file + ".csr", "-subj",
                     subject)
        os.rename(self.dir + "/" + file + ".new", self.dir + "/" + file + ".key")

    def identity(self, file, spiffe, life=ALWAYS):
        """PEM files of a workload certificate, signed by the scenario's CA."""
        self.authority("ca")
        self.key(file, "/")
        self.sign(file, "subjectAltName=critical,URI:%s\nextendedKeyUsage=serverAuth,clientAuth\n"
                  "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n" % spiffe,
                  "-cert", "ca.pem", life=life)

    def authority(self, name):
        if not os.path.exists(self.dir + "/%s.pem" % name):
            self.key(name, "/O=" + name)
            self.sign(name, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
                      "subjectKeyIdentifier=hash\n", "-selfsign", *self.by(name))

    def by(self, ca):
        return [] if ca == "ca" else ["-keyfile", ca + ".key"]

    # --- running ------------------------------------------------------------------------------
    def run(self):
        with open(self.path) as f:
            lines = f.read().split("\n")
        self.inbound_pods = [m.group(1) for l in lines if (m := re.match(r"proxy (\S+) .*inbound", l))]
        i = 0
        try:
            while i < len(lines):
                line, number = lines[i].strip(), i + 1
                i += 1
                if not line or line.startswith("#"):
                    continue
                text = None
                if line.endswith("<<END"):
                    end = lines.index("END", i)
                    text = "\n".join(lines[i:end]) + "\n"
                    line, i = line[:-5], end + 1
                try:
                    words = shlex.split(line)
                    verb = getattr(self, "do_" + words[0].replace("-", "_"), None)
                    need(verb, "no such verb: " + words[0])
                    if text is None:
                        verb(*words[1:])
                    else:
                        verb(*words[1:], text=text)
                except Enough:
                    return None
                except (Failure, OSError, AssertionError, subprocess.TimeoutExpired) as e:
                    return "%s:%d: %s\n    %s" % (os.path.basename(self.path), number, line,
                                                  str(e).replace("\n", "\n    ")) + self.tails()
            return self.crashes(any(l.startswith("kill ") for l in lines))
        finally:
            self.end()

    def crashes(self, expected):
        """What no scenario may leave behind: a death that the supervisor repaired, a sanitizer's word."""
        if os.environ.get("SCENARIO_SANITIZER"):
            for p in self.proxies.values():
                try:
                    p.leave()
                except Failure as e:
                    return str(e)
        for p in self.proxies.values():
            text = p.text()
            found = re.search(r"Sanitizer|runtime error:" + ("" if expected else "|Data process died"),
                              text)
            if found:
                return "%s: %s" % (p.pod, text[max(0, found.start() - 200):found.start() + 3000])
        return None

    def tails(self):
        out = ""
        for p in self.proxies.values():
            try:
                self.settle(p)
                time.sleep(0.05)
            except (OSError, Failure):
                pass
            log = p.text().strip().split("\n")[-12:]
            out += "".join("\n    %s| %s" % (p.pod, l[:400]) for l in log)
        return out

    def end(self):
        for p in self.programs:
            p.kill()
            p.wait()
        for p in self.proxies.values():
            p.stop()
        for s in self.servers.values():
            s.close()
        for s in list(self.streams.values()) + self.many:
            s.sock.close()
        for s in self.listeners.values():
            s.close()
        if os.environ.get("SCENARIO_KEEP"):
            print("kept", self.name, self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    # --- verbs: the world ---------------------------------------------------------------------
    def do_service(self, name, protocol, *pods):
        n = len(self.services) + 1
        for p in pods:
            self.pod(p)
            self.labels[p].setdefault("app", name)
        port_name = {"auto": "port"}.get(protocol, protocol)
        self.services[name] = {"n": n, "port_name": port_name, "pods": list(pods)}

    def do_pod(self, name, *labels):
        self.pod(name)
        for l in labels:
            k, _, v = l.partition("=")
            if k == "mtls":
                k, v = "security.istio.io/tlsMode", "istio"
            self.labels[name][k] = v

    def do_mesh(self, text):
        self.objects.append(text)

    def do_remesh(self, text):
        """These objects instead of those of `mesh`; proxies see them at their next `reload`, or from
        the operator."""
        self.objects = [text]
        if self.operator:
            self.publish()

    def do_endpoints(self, service, *pods):
        """These pods behind the service; proxies hear of it at their next `reload`."""
        for p in pods:
            self.pod(p)
            self.labels[p].setdefault("app", service)
        self.services[service]["pods"] = list(pods)

    # --- an operator ----------------------------------------------------------------------------
    def operator_path(self, *names):
        return os.path.join(self.dir, "operator", *names)

    def publish(self):
        """The objects, where the operator reads them."""
        os.makedirs(self.operator_path(), exist_ok=True)
        with open(self.operator_path(".new"), "w") as f:
            f.write(self.documents())
        os.rename(self.operator_path(".new"), self.operator_path("objects.yaml"))

    def operator_log(self):
        with open(os.path.join(self.dir, "operator.log"), "rb") as f:
            return f.read().decode("utf-8", "replace")

    def do_operator(self):
        """tulle-operator with a folder of these objects; its CA is in $DIR/operator/.ca. Needs `clock
        real`. What pods have mounted (`mount`) is the root as it is now."""
        need(self.real_clock, "an operator needs `clock real`")
        self.publish()
        with open(self.operator_path(".tokens"), "w") as f:
            for p in self.pods:
                f.write("token-of-%s %s %s\n" % (p, self.namespace, self.labels[p].get("sa", p)))
        log = open(os.path.join(self.dir, "operator.log"), "ab")
        self.operator = subprocess.Popen(
            [self.bin + "/tulle-operator", "--config-dir", self.operator_path(), "--address",
             self.ip(250), "--port", str(self.port), "--monitoring-port", str(self.port + 1)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        self.programs.append(self.operator)
        need(eventually(lambda: self.operator.poll() is None and "in force" in self.operator_log() and
                        "Server certificate in force" in self.operator_log()),
             "the operator does not start: " + self.operator_log()[-2000:])
        if not os.path.exists(self.operator_path(".mounted")):
            self.do_mount()

    def do_operator_stop(self):
        self.operator.send_signal(signal.SIGKILL)
        self.operator.wait()
        os.rename(os.path.join(self.dir, "operator.log"), os.path.join(self.dir, "operator.log.old"))

    def do_mount(self, *words):
        """The root bundle as pods have it mounted; `more`: what was there stays."""
        text = ""
        if "more" in words:
            with open(self.operator_path(".mounted")) as f:
                text = f.read()
        with open(self.operator_path(".ca", "root-cert.pem")) as f:
            text += f.read()
        with open(self.operator_path(".mounted"), "w") as f:
            f.write(text)

    def do_new_ca(self, name):
        """Another CA in the place of the operator's, as an administrator writes it."""
        self.authority(name)
        shutil.copy(os.path.join(self.dir, name + ".key"), self.operator_path(".ca", "ca-key.pem"))
        for file in ("root-cert.pem", "ca-cert.pem"):
            shutil.copy(os.path.join(self.dir, name + ".pem"), self.operator_path(".ca", file))
        try:
            os.remove(self.operator_path(".ca", "cert-chain.pem"))
        except FileNotFoundError:
            pass

    def managed(self, pod):
        """Environment of a proxy that has its program and its certificate from the operator."""
        token = os.path.join(self.dir, pod + ".token")
        with open(token, "w") as f:
            f.write("token-of-" + pod)
        return {"TULLE_DISCOVERY_ADDRESS": "%s:%d" % (self.ip(250), self.port),
                "TULLE_DISCOVERY_NAME": "tulle-operator.tulle-system.svc", "TULLE_TOKEN_PATH": token,
                "TULLE_CA_NAME": "tulle-operator.tulle-system.svc",
                "TULLE_ROOTS_PATH": self.operator_path(".mounted"),
                "SERVICE_ACCOUNT": self.labels[pod].get("sa", pod), "INSTANCE_IP": self.address(pod)}

    def expect_operator(self, pattern, seconds="20"):
        """A line of its log, or a metric."""
        def check():
            if re.search(pattern, self.operator_log(), re.M):
                return True
            try:
                with socket.create_connection((self.ip(250), self.port + 1), WAIT) as s:
                    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    stream, body = Stream(s), []
                    stream.body(stream.head()[1], body.append)
                    return re.search(pattern, b"".join(body).decode(), re.M)
            except OSError:
                return False
        need(eventually(check, float(seconds)), "the operator does not say so: " +
             "\n".join(self.operator_log().split("\n")[-25:]))

    def do_traffic(self, name, target, path):
        """Requests without an end on new connections and on a kept one, until `traffic-unharmed NAME`."""
        load = {"over": threading.Event(), "failed": [], "answered": 0}

        def work():
            while not load["over"].is_set():
                for words in ((), ("conn=traffic-" + name,)):
                    try:
                        got = self.request(target, path, words)
                        load["answered"] += 1
                        if got["status"] != 200 or not got["whole"]:
                            load["failed"].append("status %d" % got["status"])
                    except (OSError, Failure) as e:
                        load["failed"].append(repr(e))
                time.sleep(0.005)
        load["thread"] = threading.Thread(target=work, daemon=True)
        load["thread"].start()
        self.loads[name] = load

    def do_traffic_unharmed(self, name):
        """Every one of them was answered 200."""
        load = self.loads.pop(name)
        load["over"].set()
        load["thread"].join(WAIT)
        need(not load["failed"], "%d of %d requests failed: %s" %
             (len(load["failed"]), load["answered"], load["failed"][:3]))
        need(load["answered"] > (10 if os.environ.get("SCENARIO_SANITIZER") else 50), "only %d requests" % load["answered"])

    def do_swaps(self, n, target, path, text):
        """So often the other of two configurations, this one and `mesh`, under requests on kept and on
        new connections: each is answered 200, and memory stays as it is."""
        (p,) = self.proxies.values()
        programs, failed, over, answered = [], [], threading.Event(), [0]
        n = int(n) // (4 if os.environ.get("SCENARIO_SANITIZER") else 1)
        # KB in the second and the last quarter: bursts come and go, a leak stays. Some time among the first 900 the heap
        # takes 64 to 100 KB that it keeps; then nothing, for thousands. 128 KB in 600 are 0.2 KB each.
        least = {1: 1 << 30, 3: 1 << 30}
        for objects in (self.objects, [text]):
            kept, self.objects = self.objects, objects
            with open(self.compile(p.pod), "rb") as f:
                programs.append(f.read())
            self.objects = kept

        def work():
            while not over.is_set():
                for words in ((), ("conn=swaps",)):
                    try:
                        got = self.request(target, path, words)
                        answered[0] += 1
                        if got["status"] != 200:
                            failed.append("status %d" % got["status"])
                    except (OSError, Failure) as e:
                        failed.append(repr(e))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        for i in range(n):
            said = os.path.getsize(p.log_path)
            with open(p.config + ".new", "wb") as f:
                f.write(programs[(i + 1) % 2])
            os.rename(p.config + ".new", p.config)
            p.process.send_signal(signal.SIGHUP)
            need(eventually(lambda: "Configuration read again" in p.text(said)),
                 "not read again: " + p.text()[-500:])
            quarter = i * 4 // n
            if quarter in least:
                least[quarter] = min(least[quarter], p.anonymous_kb())
        over.set()
        thread.join(WAIT)
        need(not failed, "%d of %d requests failed: %s" % (len(failed), answered[0], failed[:3]))
        need(answered[0] > n, "only %d requests" % answered[0])
        need(os.environ.get("SCENARIO_SANITIZER") or least[3] <= least[1] + 128,
             "anonymous memory went from %d to %d KB" % (least[1], least[3]))

    def do_churn(self, *names, text):
        """Until these in the background have ended, each proxy reads the other of two configurations, this one and that of
        `mesh`, again and again, its pages are read, and its clock goes on (pauses before repeated requests end)."""
        programs = []
        for objects in ([text], self.objects):
            kept, self.objects = self.objects, objects
            for p in self.proxies.values():
                with open(self.compile(p.pod), "rb") as f:
                    programs.append((p, f.read()))
            self.objects = kept
        rounds = 0
        while any(self.running[n].empty() for n in names):
            for p, program in programs:
                # First: the workers' answers to what follows would order what they counted and what is read here.
                for page in ("/stats/prometheus", "/clusters", "/memory", "/config_dump?kind=Settings"):
                    for each in self.proxies.values():
                        need(each.page(page)[0] == 200, page)
                said = os.path.getsize(p.log_path)
                with open(p.config + ".new", "wb") as f:
                    f.write(program)
                os.rename(p.config + ".new", p.config)
                p.process.send_signal(signal.SIGHUP)
                need(eventually(lambda: "Configuration read again" in p.text(said)),
                     "not read again: " + p.text()[-500:])
                self.do_advance("20ms")
            rounds += 1
        need(rounds > 2, "only %d rounds" % rounds)

    def do_reload(self, *pods):
        """The proxies (all) get the program of the objects as they are now."""
        for pod in pods or list(self.proxies):
            p = self.proxies[pod]
            before = p.text().count("Configuration read again")
            self.compile(pod)
            p.process.send_signal(signal.SIGHUP)
            need(eventually(lambda: p.text().count("Configuration read again") > before),
                 "not read again: " + p.text()[-500:])

    def do_listener(self, name, destination):
        """An outbound listener for a destination that is no service: ADDRESS or a pod's name."""
        self.listens.append((name, destination))

    def do_env(self, name, value):
        self.env[name] = value.replace("$PORT", str(self.port)).replace("$DIR", self.dir)

    def do_file(self, name, text=""):
        """A file in the scenario's own folder ($DIR)."""
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w") as f:
            f.write(text.replace("$PORT", str(self.port)).replace("$UID", str(os.getuid())))
        os.rename(path + ".new", path)

    def do_clock(self, which):
        self.real_clock = which == "real"

    def do_identity(self, pod, spiffe, *words):
        """from=SECONDS, to=SECONDS: its life, counted from the virtual clock's start."""
        named, _ = options(words)
        life = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(EPOCH + int(named[k][0])))
                if k in named else always for k, always in zip(("from", "to"), ALWAYS)]
        self.identity(pod, spiffe, life)
        self.identities[pod] = True

    def do_s_server(self, pod, *args):
        """openssl s_server in the place of a pod's application."""
        self.pod(pod)
        p = subprocess.Popen(["openssl", "s_server", "-accept", "%s:%d" % (self.app_address(pod),
                              self.port), "-quiet"] + list(args), cwd=self.dir,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        self.programs.append(p)

        def up():
            try:
                socket.create_connection((self.app_address(pod), self.port), 1).close()
                return True
            except OSError:
                return False
        need(eventually(up), "s_server does not listen")

    def do_server(self, name, *words):
        named, plain = options(words)
        how = dict({w: [""] for w in plain}, **named)
        if name not in self.servers:
            self.pod(name)
            at = how.get("at", [self.app_address(name)])[0]
            tls = None
            if "cert" in how:
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(*(self.dir + "/" + how["cert"][0] + e for e in (".pem", ".key")))
                if "client" in how:
                    tls.verify_mode = ssl.CERT_REQUIRED
                    tls.load_verify_locations(self.dir + "/ca.pem")
            elif "tls" in how:
                self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                             "-nodes", "-keyout", "tls.key", "-out", "tls.pem", "-subj", "/CN=nobody")
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(self.dir + "/tls.pem", self.dir + "/tls.key")
            if "h2" in how:
                self.servers[name] = h2server.Server(name, listening((at, self.port)))
            else:
                unix = "\0" + at[6:].replace("$PORT", str(self.port)) if at.startswith("unix:") else None
                self.servers[name] = Server(name, unix or (at, self.port), tls)
        self.servers[name].how = how
        if "hang" not in how:
            self.servers[name].release.set()
        else:
            self.servers[name].release.clear()

    def do_program(self, name, *words):
        """A pod's application is this program; it is to listen on $IP and $PORT or, where it cannot be told an
        address, on port $OWN of 127.0.0.1."""
        self.pod(name)
        at, own, listen = (self.app_address(name), self.port), free_port(), None
        if any("$OWN" in w for w in words):
            listen, at = listening(at), ("127.0.0.1", own)
        argv = [os.path.expandvars(w.replace("$OWN", str(own)).replace("$IP", at[0])
                                   .replace("$PORT", str(self.port)).replace("$DIR", self.dir)) for w in words]
        with open(self.dir + "/" + name + ".program", "wb") as log:
            self.servers[name] = Program(argv, at, listen, log, self.dir)

    def do_health(self, name, *words):
        """grpc.health.v1 at ADDRESS: SERVICE=STATUS..., again: changes what it says."""
        named, plain = options(words)
        says = {k: v[0] for k, v in named.items()}
        says.update({"": w[1:] for w in plain if w.startswith("=")})
        if name in self.servers:
            self.servers[name].says = says
            return
        self.servers[name] = Health((plain[0], self.port), says)

    def do_dns(self, host, *words):
        """What the name server of the proxies that are started after it answers: pods or addresses, ttl=, cname=, rcode=, cut (then by TCP), silent."""
        named, plain = options(words)
        how = dict({w: [""] for w in plain if w in ("cut", "silent")}, **named)
        if "dns" not in self.servers:
            at = (self.ip(250), self.port)
            self.servers["dns"] = Dns(at)
            with open(self.dir + "/resolv.conf", "w") as f:
                f.write("nameserver %s\n" % at[0])
            self.env["TULLE_RESOLV_PORT"] = str(self.port)
            self.env["TULLE_RESOLV_CONF"] = self.dir + "/resolv.conf"
        addresses = [w for w in plain if w not in how]
        for w in addresses:
            if not re.search("[.:]", w):
                self.pod(w)
        self.servers["dns"].table[host] = ([self.address(w) if w in self.pods else w
                                            for w in addresses], how)

    def do_dns_asked(self, host, low, high=None):
        """So many questions for the host's IPv4 addresses have come."""
        server = self.servers["dns"]
        need(eventually(lambda: server.asked.get(host, 0) >= int(low)),
             "%d questions" % server.asked.get(host, 0))
        time.sleep(0.05)
        need(server.asked[host] <= int(high or low), "%d questions" % server.asked[host])

    def do_stop(self, name):
        self.servers.pop(name).close()

    def do_release(self, name):
        self.servers[name].release.set()

    def do_proxy(self, pod, *words):
        self.pod(pod)
        config = None if "managed" in words else self.compile(pod)
        listens = []
        for s in self.services.values():
            listens += ["--outbound", "%s:%d=10.96.0.%d:%d" %
                        (self.ip(100 + s["n"]), self.port, s["n"], self.port)]
        for n, (_, to) in enumerate(self.listens):
            host = self.address(to) if to in self.pods else to
            if ":" not in host:
                host += ":%d" % self.port
            listens += ["--outbound", "%s:%d=%s" % (self.ip(180 + n), self.port, host)]
        extra = []
        if "inbound" in words:
            at = [self.six(w[3:]) for w in words if w.startswith("at=")]
            listens = ["--inbound", "%s=%s:%d" % (at[0] if at else "%s:%d" % (self.address(pod), self.port),
                                                  self.address(pod, 30), self.port)]
        if pod in self.identities:
            extra += ["--cert", "%s/%s.pem" % (self.dir, pod), "--key", "%s/%s.key" % (self.dir, pod),
                      "--roots", self.dir + "/ca.pem"]
        for w in words:
            if w.startswith("--"):
                extra += self.six(w).replace("$PORT", str(self.port)).split("=", 1)
        Proxy(self, pod, config, extra, listens, "log-unread" in words)

    def do_gateway(self, pod, *words):
        """The pod's proxy as a gateway at the pod's address."""
        self.pod(pod)
        extra = ["--gateway", self.address(pod)] + [w for w in words if w.startswith("--")]
        if pod in self.identities:
            extra += ["--cert", "%s/%s.pem" % (self.dir, pod), "--key", "%s/%s.key" % (self.dir, pod),
                      "--roots", self.dir + "/ca.pem"]
        Proxy(self, pod, self.compile(pod), extra, [], "log-unread" in words)

    def do_cert(self, name, *words):
        """A certificate of these names (DNS SANs, or "URI:..."), by the scenario's CA or `ca=`."""
        named, sans = options(words)
        ca = named.get("ca", ["ca"])[0]
        self.authority(ca)
        self.key(name, "/O=" + name, named.get("key", ["P-256"])[0])
        self.sign(name, "subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n"
                  "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n" %
                  ",".join(w if ":" in w else "DNS:" + w for w in sans),
                  "-cert", ca + ".pem", *self.by(ca))

    def do_use_cert(self, name, other):
        """From here on `name` is a copy of the other certificate; proxies see it at their `reload`."""
        for end in (".pem", ".key"):
            shutil.copy(os.path.join(self.dir, other + end), os.path.join(self.dir, name + end))

    def do_revoke(self, name):
        """A revocation list of the scenario's CA with this certificate on it: $CRL(ca)."""
        with open(self.dir + "/%s.pem" % name) as f:
            need(f.read(), "no certificate")
        self.openssl("ca", "-config", "ca.cnf", "-revoke", name + ".pem", "-keyfile", "ca.key",
                     "-cert", "ca.pem")
        self.openssl("ca", "-config", "ca.cnf", "-gencrl", "-crldays", "9000", "-out", "ca.crl",
                     "-keyfile", "ca.key", "-cert", "ca.pem", "-crl_lastupdate", "20200101000000Z")

    def do_curl(self, pod, url, *words):
        """The real curl, to the pod's proxy. A failure has status 0 and curl's words."""
        words = [w.replace("$DIR", self.dir) for w in words]
        url = url.replace("$PORT", str(self.port))
        p = subprocess.run(["curl", "-sS", "-i", "--max-time", "10", "--cacert", self.dir + "/ca.pem",
                            "--connect-to", "::%s:" % self.address(pod), url] + words,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir)
        head, _, body = p.stdout.decode("latin-1").partition("\r\n\r\n")
        lines = head.split("\r\n")
        fields = [(k.lower(), v.strip()) for k, _, v in (l.partition(":") for l in lines[1:])]
        self.last = {"status": int(lines[0].split()[1]) if p.returncode == 0 and head else 0,
                     "first": lines[0], "fields": fields, "whole": p.returncode == 0,
                     "body": body if p.returncode == 0 else p.stderr.decode(), "received": len(body),
                     "seconds": 0}

    def do_load(self, name, pod, host, port):
        """HTTPS requests until `load-ends`, each second one on a connection that is kept."""
        context = ssl.create_default_context(cafile=self.dir + "/ca.pem")
        box = {"failed": [], "saw": {}, "over": threading.Event(), "n": 0}

        def dial():
            s = context.wrap_socket(socket.create_connection((self.address(pod), int(port)), WAIT),
                                    server_hostname=host)
            who = dict(x[0] for x in s.getpeercert()["subject"])["organizationName"]
            box["saw"][who] = box["saw"].get(who, 0) + 1
            return Stream(s)

        def ask(stream):
            stream.sock.sendall(("GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host).encode())
            first, got = stream.head()
            need(first and first.split()[1] == "200", "answer %r" % first)
            need(stream.body(got, lambda _: None), "cut")
            box["n"] += 1

        def work():
            kept = None
            while not box["over"].is_set():
                try:
                    kept = kept or dial()
                    ask(kept)
                    once = dial()
                    ask(once)
                    once.sock.close()
                except (OSError, Failure) as e:
                    box["failed"].append(repr(e))
                    kept = None
        box["threads"] = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        for t in box["threads"]:
            t.start()
        self.running[name] = box
        need(eventually(lambda: box["n"] > 20 or box["failed"]), "no request was answered")

    def do_load_ends(self, name, *saw):
        """No request failed, and each of these certificates was shown."""
        box = self.running.pop(name)
        n = box["n"]
        need(eventually(lambda: box["n"] > n + 20 or box["failed"]), "no more answers")
        box["over"].set()
        for t in box["threads"]:
            t.join(WAIT)
        need(not box["failed"], "%d of %d failed: %s" % (len(box["failed"]), box["n"], box["failed"][:3]))
        need(all(w in box["saw"] for w in saw), "saw %s" % box["saw"])

    def do_read_log(self, pod):
        self.proxies[pod].read_log()

    def proxy_of(self, words):
        """The proxy that a verb means: the last word when it is a proxy's name, else the first."""
        if words and words[-1] in self.proxies:
            return self.proxies[words[-1]], words[:-1]
        return next(iter(self.proxies.values())), words

    def do_advance(self, duration):
        m = re.fullmatch(r"(\d+)(ms|s|m|h)", duration)
        need(m, "a duration like 30s")
        ms = int(m.group(1)) * {"ms": 1, "s": 1000, "m": 60000, "h": 3600000}[m.group(2)]
        for p in self.proxies.values():
            status, body = p.page("/clock?advance_ms=%d" % ms, "POST")
            need(status == 200, body)

    def do_skew(self, pod, seconds):
        """Somebody sets the civil clock of a pod's node, by so many seconds."""
        status, body = self.proxies[pod].page("/clock?set_s=%d" % int(seconds), "POST")
        need(status == 200, body)

    def do_sleep(self, seconds):
        # What a real clock is given to happen in takes longer under a sanitizer.
        time.sleep(float(seconds) * (3 if self.real_clock and os.environ.get("SCENARIO_SANITIZER") else 1))

    @staticmethod
    def do_not_with_sanitizer():
        if os.environ.get("SCENARIO_SANITIZER"):
            raise Enough

    def do_kill(self, pod, name="SIGKILL"):
        """The data process gets a signal that ends it."""
        for pid in self.proxies[pod].children():
            os.kill(pid, getattr(signal, name))
            need(eventually(lambda p=pid: not os.path.exists("/proc/%d" % p)), "lives on")

    @staticmethod
    def state(stat):
        with open(stat) as f:
            return f.read().rsplit(")", 1)[1].split()[0]

    def do_freeze(self, pod):
        """Stop the data process, so that events pile up; `thaw` lets it see them in their order."""
        for pid in self.proxies[pod].children():
            os.kill(pid, signal.SIGSTOP)
            need(eventually(lambda p=pid: all(self.state(t) == "T" for t in
                                              glob.glob("/proc/%d/task/*/stat" % p))), "runs on")

    def do_thaw(self, pod):
        for pid in self.proxies[pod].children():
            os.kill(pid, signal.SIGCONT)

    def do_signal(self, pod, name):
        self.proxies[pod].process.send_signal(getattr(signal, name))

    def do_admin(self, method, path, *words):
        proxy, rest = self.proxy_of(list(words))
        at = proxy.status if "status" in rest else proxy.admin
        headers = [w for w in rest if ":" in w]
        status, body = proxy.page(path.replace("$PORT", str(self.port)), method, at, headers)
        self.last = {"status": status, "fields": [], "body": body, "whole": True}

    # --- verbs: HTTP clients ------------------------------------------------------------------
    def request(self, target, path, words):
        named, plain = options(words)
        address = self.target(target)
        method = named.get("method", ["GET"])[0]
        host = named.get("host", [target])[0]
        name = named.get("conn", [None])[0]
        stream = self.streams.get(name) if name else None
        started = time.monotonic()
        if stream is None:
            stream = Stream(socket.create_connection(address, WAIT))
            if name:
                self.streams[name] = stream
        fields = "".join(h.replace("$COOKIE", self.vars.get("cookie", "")) + "\r\n"
                         for h in named.get("header", []))
        body = unescape(named.get("body", [""])[0])
        size = int(named.get("size", ["0"])[0])
        if size:
            fields += "Content-Length: %d\r\n" % size
        elif "chunked" in plain:
            fields += "Transfer-Encoding: chunked\r\n"
        elif body or method in ("POST", "PUT"):
            fields += "Content-Length: %d\r\n" % len(body)
        out = stream.sock.sendall
        head = ("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (method, path, host, fields)).encode("latin-1")
        if "chunked" in plain:
            out(head)
            for i in range(0, len(body), 5):
                out(b"%x\r\n%s\r\n" % (len(body[i:i + 5]), body[i:i + 5]))
            out(b"0\r\n\r\n")
        elif size:
            out(head)
            block = b"y" * 65536
            while size:
                out(block[:min(size, 65536)])
                size -= min(size, 65536)
        else:
            out(head + body)
        first, got = stream.head()
        while first and first.split()[1].startswith("1") and first.split()[1] != "101":
            first, got = stream.head()
        need(first, "no answer: the connection was closed")
        pieces, received = [], [0]

        def sink(piece):
            received[0] += len(piece)
            if received[0] < 1 << 20:
                pieces.append(piece)
            if "read_delay" in named:
                time.sleep(float(named["read_delay"][0]))

        status = int(first.split()[1])
        bare = method == "HEAD" or status in (204, 304)
        whole = bare or stream.body(got, sink, until_eof=True)
        if not name:
            stream.sock.close()
        return {"status": status, "first": first, "fields": got, "whole": whole,
                "body": b"".join(pieces).decode("latin-1"), "received": received[0],
                "seconds": time.monotonic() - started}

    def do_get(self, target, path, *words):
        self.last = self.request(target, path, words)

    def do_start(self, name, target, path, *words):
        """A request in the background; `finish` waits for its answer."""
        box = queue.Queue()

        def work():
            try:
                box.put(self.request(target, path, words))
            except (OSError, Failure) as e:
                box.put(e)
        threading.Thread(target=work, daemon=True).start()
        self.running[name] = box
        time.sleep(0.1)

    def do_finish(self, name):
        try:
            got = self.running.pop(name).get(timeout=WAIT)
        except queue.Empty:
            raise Failure("still no answer")
        need(not isinstance(got, Exception), str(got))
        self.last = got

    def do_waiting(self, name):
        need(self.running[name].empty(), "an answer is there already")

    def do_remember(self):
        """The last answer's server, and its cookie, which is $COOKIE from now on."""
        fields = dict(self.last["fields"])
        self.vars["server"] = fields.get("server-name", "none")
        self.vars["cookie"] = fields.get("set-cookie", "").split(";")[0]

    def do_times(self, n, verb, target, path, *words):
        """Many requests; counts answers by server and by status. %n is the number of the request."""
        need(verb == "get", "times N get ...")
        self.shares, self.answered = {}, set()
        for i in range(int(n)):
            got = self.request(target, path.replace("%n", str(i)),
                               [w.replace("%n", str(i)) for w in words])
            server = dict(got["fields"]).get("server-name", "-")
            self.answered.add(server)
            for key in [server, str(got["status"])]:
                self.shares[key] = self.shares.get(key, 0) + 1
            self.last = got

    # --- verbs: bare sockets -------------------------------------------------------------------
    def do_open(self, name, target):
        self.streams[name] = Stream(socket.create_connection(self.target(target), WAIT))

    def do_open_many(self, n, target, request, pattern):
        """So many connections, or what this machine lets a process open, each with one request that is answered."""
        at = self.target(target)
        for _ in range(min(int(n), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000)):
            s = Stream(socket.create_connection(at, WAIT))
            s.sock.sendall(unescape(request))
            while not re.search(pattern.encode(), s.buf, re.S):
                need(s.fill(), "the connection ended")
            self.many.append(s)

    def do_recv_many(self, pattern):
        for s in self.many:
            while not re.search(pattern.encode(), s.buf, re.S):
                need(s.fill(), "a connection ended")

    def do_send_many(self, text):
        for s in self.many:
            s.sock.sendall(unescape(text))

    def do_send_file(self, name, file):
        with open(os.path.join(self.dir, file), "rb") as f:
            self.streams[name].sock.sendall(f.read())

    def do_h2_heads(self, name, n):
        """Heads of so many answers are there."""
        c = self.h2[name]
        need(c.until(lambda *f: sum(s[0] == 1 for s in c.seen) >= int(n)), c.told())

    def expect_many_ended(self, *words):
        """All of those connections; `after`: the other side may say something first."""
        for s in self.many:
            while s.fill():
                need("after" in words, "came: %r" % s.buf[:200])
            s.sock.close()
        self.many = []

    def do_listen_at(self, name, address):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(s, (address, self.port))
        s.listen(16)
        s.settimeout(WAIT)
        self.listeners[name] = s

    def do_start_admin(self, name, *words):
        """A question to a page in the background; `finish` waits for its answer."""
        proxy, rest = self.proxy_of(list(words))
        at = proxy.status if "status" in rest else proxy.admin
        box = queue.Queue()

        def work():
            try:
                status, body = proxy.page(rest[1], rest[0], at)
                box.put({"status": status, "fields": [], "body": body, "whole": True})
            except (OSError, Failure) as e:
                box.put(e)
        threading.Thread(target=work, daemon=True).start()
        self.running[name] = box

    def do_listen(self, name):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.pod(name)
        bind(s, (self.app_address(name), self.port))
        s.listen(16)
        s.settimeout(WAIT)
        self.listeners[name] = s

    def do_accept(self, name, listener):
        self.streams[name] = Stream(self.listeners[listener].accept()[0])

    def do_send(self, name, text):
        self.streams[name].sock.sendall(unescape(text.replace("$PORT", str(self.port))))

    def do_hello(self, name, server, *pieces):
        """A TLS ClientHello for this server, in one piece or in pieces of so many bytes; `alpn=NAME`."""
        out = ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols([w[5:] for w in pieces if w.startswith("alpn=")])
        pieces = [w for w in pieces if w.isdigit()]
        tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=server)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        data = out.read()
        size = int(pieces[0]) if pieces else len(data)
        for i in range(0, len(data), size):
            self.streams[name].sock.sendall(data[i:i + size])
            time.sleep(0.02 if pieces else 0)

    def do_recv(self, name, pattern):
        """Until the pattern is found in what came; what is before and in it is consumed."""
        s, r = self.streams[name], re.compile(pattern.encode("latin-1"), re.S)
        while not (m := r.search(s.buf)):
            try:
                more = s.fill()
            except socket.timeout:
                more = False
            need(more, "not found in %r" % s.buf[-600:])
        self.last = {"status": 0, "fields": [], "whole": True,
                     "body": s.buf[:m.end()].decode("latin-1")}
        s.buf = s.buf[m.end():]

    def do_quiet(self, name, seconds="0.15"):
        """Nothing comes for so long."""
        s = self.streams[name]
        s.sock.settimeout(float(seconds))
        try:
            data = s.sock.recv(4096)
            raise Failure("came: %r" % data if data else "the connection ended")
        except socket.timeout:
            pass
        finally:
            s.sock.settimeout(WAIT)
        need(not s.buf, "left: %r" % s.buf[:200])

    def do_half_close(self, name):
        self.streams[name].sock.shutdown(socket.SHUT_WR)

    def do_close(self, name):
        self.streams.pop(name).sock.close()

    def do_reset(self, name):
        s = self.streams.pop(name).sock
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()

    def do_forget(self, name):
        self.streams.pop(name).sock.close()

    # --- verbs: HTTP/2 -------------------------------------------------------------------------
    def tool(self, words):
        """A program with its arguments; @NAME is a target's address, @ip:NAME without the port. Its output is the body, its exit
        code the status."""
        argv = []
        for w in words:
            w = re.sub(r"@ip:(\w+)", lambda m: self.target(m.group(1))[0], w)
            w = re.sub(r"@(\w+)", lambda m: "%s:%d" % self.target(m.group(1)), w)
            argv.append(os.path.expandvars(self.six(w).replace("$PORT", str(self.port)).replace("$DIR", self.dir)))
        started = time.monotonic()
        p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                           stdin=subprocess.DEVNULL, cwd=self.dir)
        return {"status": p.returncode, "fields": [], "whole": True,
                "body": p.stdout.decode("latin-1"), "seconds": time.monotonic() - started}

    def do_tool(self, *words):
        self.last = self.tool(words)

    def do_start_tool(self, name, *words):
        """In the background; `finish` waits for its end."""
        box = queue.Queue()

        def work():
            try:
                box.put(self.tool(words))
            except (OSError, Failure, subprocess.TimeoutExpired) as e:
                box.put(e)
        threading.Thread(target=work, daemon=True).start()
        self.running[name] = box
        time.sleep(0.15)

    def do_h2_open(self, name, target, *words):
        """A connection with the client's preface; settings as NUMBER=VALUE."""
        stream = Stream(socket.create_connection(self.target(target), WAIT))
        self.streams[name] = stream
        self.h2[name] = h2client.Client(stream, [tuple(int(v) for v in w.split("=")) for w in words])

    def do_h2_open_many(self, n, target, authority):
        """So many connections, each with one request that is answered; they stay."""
        for _ in range(int(n)):
            stream = Stream(socket.create_connection(self.target(target), WAIT))
            c = h2client.Client(stream)
            c.send(h2client.frame(1, 5, 1, h2client.request(authority, "/")))
            need(c.until(lambda k, flags, s, _: s == 1 and flags & 1), "no answer")
            self.many.append(stream)

    def do_h2_request(self, name, stream, authority, path, *words):
        """HEADERS; `open`: content follows."""
        named, plain = options(words)
        more = [tuple(h.split(": ", 1)) for h in named.get("header", [])]
        block = h2client.request(authority, path, named.get("method", ["GET"])[0], more)
        self.h2[name].send(h2client.frame(1, 4 if "open" in plain else 5, int(stream), block))

    def do_h2_data(self, name, stream, data, *words):
        self.h2[name].send(h2client.frame(0, 1 if "end" in words else 0, int(stream), unescape(data)))

    def do_h2_frame(self, name, kind, flags, stream, data=""):
        self.h2[name].send(h2client.frame(int(kind), int(flags), int(stream), unescape(data)))

    def do_h2_flood(self, name, kind, n, authority="cart"):
        threading.Thread(target=h2client.flood, args=(self.h2[name], kind, int(n), authority),
                         daemon=True).start()

    def do_h2_expect(self, name, kind, *words):
        """Read until a frame of this kind: `headers STREAM`, `data STREAM`, `trailers STREAM`, `end
        STREAM`, `reset STREAM CODE`, `goaway CODE`, `ping`; `eof`: the connection's end, after whatever."""
        c = self.h2[name]
        if kind == "eof":
            need(c.until(lambda *f: False) is None, "still open")
            return
        numbers = [int(w) for w in words if w.isdigit()]

        def want(k, flags, stream, payload):
            if kind == "end":
                return k in (0, 1) and flags & 1 and stream == numbers[0]
            if kind == "trailers":
                return k == 1 and flags & 1 and stream == numbers[0]
            if kind == "goaway":
                return k == 7 and int.from_bytes(payload[4:8], "big") == numbers[0]
            if kind == "reset":
                return k == 3 and stream == numbers[0] and int.from_bytes(payload, "big") == numbers[1]
            return h2client.KINDS.get(k) == kind and (not numbers or stream == numbers[0])
        try:
            f = c.until(want)
        except socket.timeout:
            f = None
        need(f, "did not come; there was " + c.told())
        self.last = {"status": 0, "fields": [], "whole": True, "body": f[3].decode("latin-1")}

    def do_h2_quiet(self, name, seconds="0.2"):
        """No frame but acknowledgements comes for so long."""
        c = self.h2[name]
        c.stream.sock.settimeout(float(seconds))
        try:
            f = c.until(lambda k, *_: k in (0, 1, 3, 7))
            raise Failure("came: " + c.told() if f else "the connection ended")
        except socket.timeout:
            pass
        finally:
            c.stream.sock.settimeout(WAIT)

    # --- expectations -------------------------------------------------------------------------
    def do_expect(self, what, *words):
        getattr(self, "expect_" + what.replace("-", "_"))(*words)

    def expect_status(self, *codes):
        need(str(self.last["status"]) in codes,
             "status is %s, body %.300r" % (self.last["status"], self.last["body"]))

    def expect_server(self, *names):
        got = dict(self.last["fields"]).get("server-name", "none")
        need(got in names, "answered by " + got)

    def expect_body(self, pattern):
        pattern = pattern.replace("$PORT", str(self.port))
        need(re.search(pattern, self.last["body"], re.S | re.M), "body is %.800r" % self.last["body"])

    def expect_no_body(self, pattern):
        need(not re.search(pattern, self.last["body"], re.S | re.M), "body is %.800r" % self.last["body"])

    def expect_header(self, name, pattern=""):
        values = [v for k, v in self.last["fields"] if k == name]
        pattern = pattern.replace("$PORT", str(self.port))
        need(any(re.search(pattern, v) for v in values), "fields are %s" % self.last["fields"])

    def expect_no_header(self, name):
        need(all(k != name for k, _ in self.last["fields"]), "fields are %s" % self.last["fields"])

    def expect_received(self, n):
        need(self.last["received"] == int(n), "received %d" % self.last["received"])

    def expect_whole(self):
        need(self.last["whole"], "the answer was cut short")

    def expect_cut(self):
        need(not self.last["whole"], "the answer was whole")

    def expect_share(self, key, bounds):
        low, high = (int(b) for b in bounds.split(".."))
        need(low <= self.shares.get(key, 0) <= high, "shares are %s" % self.shares)

    def expect_servers(self, bounds):
        """How many different ones answered in `times`."""
        low, _, high = bounds.partition("..")
        need(int(low) <= len(self.answered) <= int(high or low), "answered: %s" % self.shares)

    def expect_same_server(self):
        """The last answer came from the one that `remember` kept."""
        got = dict(self.last["fields"]).get("server-name", "none")
        need(got == self.vars["server"], "answered by %s, not %s" % (got, self.vars["server"]))

    def expect_requests(self, server, n):
        s = self.servers[server]
        low, _, high = n.partition("..")
        need(eventually(lambda: int(low) <= s.requests <= int(high or low), 2),
             "requests are %d" % s.requests)

    def expect_resets(self, server, *codes):
        """RST_STREAM frames that an HTTP/2 server got."""
        s, want = self.servers[server], [int(c) for c in codes]
        need(eventually(lambda: s.resets == want, 2), "resets are %s" % s.resets)

    def expect_pings(self, server, n):
        s = self.servers[server]
        need(eventually(lambda: s.pings == int(n), 2), "pings are %d" % s.pings)

    def expect_connections(self, server, bounds):
        low, _, high = bounds.partition("..")
        n = self.servers[server].connections
        need(int(low) <= n <= int(high or low), "connections are %d" % n)

    def expect_eof(self, name):
        s = self.streams[name]
        try:
            while s.fill():
                pass
        except ConnectionResetError:
            raise Failure("reset")
        except socket.timeout:
            raise Failure("still open")
        need(not s.buf, "left: %r" % s.buf[:600])

    def expect_end(self, name):
        """EOF or reset, whatever is left unread."""
        s = self.streams[name]
        try:
            while s.fill():
                pass
        except ConnectionResetError:
            pass
        except socket.timeout:
            raise Failure("still open")

    def expect_reset(self, name):
        s = self.streams[name]
        try:
            while s.fill():
                pass
        except ConnectionResetError:
            return
        except socket.timeout:
            raise Failure("still open")
        raise Failure("an orderly end, after %r" % s.buf[:200])

    def settle(self, proxy):
        """Records and log lines are gathered for some milliseconds of the proxy's time."""
        if not self.real_clock and proxy.process.poll() is None:
            proxy.page("/clock?advance_ms=100", "POST")

    def expect_log(self, pattern, *words):
        proxy, _ = self.proxy_of(list(words))
        self.settle(proxy)
        pattern = pattern.replace("$PORT", str(self.port))
        need(eventually(lambda: re.search(pattern, proxy.text(), re.M), 3), "not in the log")

    def expect_no_log(self, pattern, *words):
        proxy, _ = self.proxy_of(list(words))
        self.settle(proxy)
        need(not re.search(pattern, proxy.text(), re.M), "in the log")

    def expect_metric(self, pattern, *words):
        proxy, _ = self.proxy_of(list(words))
        seen = [""]
        self.settle(proxy)

        def check():
            seen[0] = proxy.page("/stats/prometheus")[1]
            return re.search(pattern, seen[0], re.M)
        key = re.match(r"\^?(\w+)", pattern).group(1)
        need(eventually(check, 3), "no such sample; there is:\n" +
             "\n".join(l for l in seen[0].split("\n") if l.startswith(key))[:1500])

    def expect_no_metric(self, pattern, *words):
        proxy, _ = self.proxy_of(list(words))
        self.settle(proxy)
        need(not re.search(pattern, proxy.page("/stats/prometheus")[1], re.M), "there is such a sample")

    def expect_memory_below(self, kb, *words):
        proxy, _ = self.proxy_of(list(words))
        got = proxy.anonymous_kb()
        need(os.environ.get("SCENARIO_SANITIZER") or got <= int(kb), "anonymous memory is %d KB" % got)

    def expect_faster_than(self, seconds):
        slack = 5 if os.environ.get("SCENARIO_SANITIZER") else 1
        need(self.last["seconds"] < float(seconds) * slack, "took %.3f s" % self.last["seconds"])

    def expect_ready_within(self, seconds, *words):
        proxy, _ = self.proxy_of(list(words))
        need(eventually(proxy.ready, float(seconds)), "not ready")

    def expect_exit(self, code, *words):
        proxy, _ = self.proxy_of(list(words))
        got = proxy.end(100)
        need(got == int(code), "exit code is %d" % got)


PORTS = set()
PORTS_LOCK = threading.Lock()


def bind(sock, address):
    """Another run that looks for a free port (below) holds the number for a moment, at all addresses."""
    until = time.monotonic() + 2
    while True:
        try:
            sock.bind(address)
            return
        except OSError as e:
            if e.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(0.02)


def listening(address):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bind(sock, address)
    sock.listen(256)
    return sock


def free_port():
    """A port number that nobody listens on, at any address, below the ephemeral ones."""
    with PORTS_LOCK:
        while True:
            p = random.randrange(20000, 30000)
            if p in PORTS:
                continue
            with socket.socket() as s:
                try:
                    s.bind(("0.0.0.0", p))
                except OSError:
                    continue
            PORTS.add(p)
            return p


def main():
    # No core file must come of a crash, however much whoever starts the proxy allows.
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if len(sys.argv) < 2:
        print("usage: run.sh BUILD_DIR [SCENARIO]", file=sys.stderr)
        return 2
    bindir = os.path.abspath(os.path.join(sys.argv[1], "bin"))
    if os.path.basename(os.path.dirname(bindir)) in ("asan", "tsan"):
        os.environ.setdefault("SCENARIO_SANITIZER", "1")
        # TSan takes all that is written to one socket and read from another for an order between threads.
        os.environ.setdefault("TSAN_OPTIONS", "io_sync=0")
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    paths = sorted(glob.glob(os.path.join(HERE, "*.scn")))
    if "/" in only:
        paths = [only]
    elif only:
        paths = [p for p in paths if re.fullmatch(only.replace("*", ".*"),
                                                  os.path.splitext(os.path.basename(p))[0])]
    base = os.getpid() % 100 * 150
    started = time.monotonic()
    failed = 0

    def one(item):
        index, path = item
        s = Scenario(path, bindir, index, base)
        t = time.monotonic()
        return s, s.run(), time.monotonic() - t

    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("SCENARIO_JOBS", "4"))) as pool:
        for s, problem, took in pool.map(one, enumerate(paths)):
            if problem:
                failed += 1
                print("FAIL %s\n  %s" % (s.name, problem))
            elif os.environ.get("V"):
                print("ok   %s (%.2f s)" % (s.name, took))
            sys.stdout.flush()
    print("scenario: %d passed, %d failed, %.1f s" % (len(paths) - failed, failed,
                                                      time.monotonic() - started))
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
