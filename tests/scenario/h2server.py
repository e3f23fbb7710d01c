# SPDX-License-Identifier: Apache-2.0
"""An HTTP/2 application (prior knowledge) that tells what it got, and misbehaves as it is told. It has
windows of its own and respects those of its client; header blocks are read by libnghttp2's decoder."""
import ctypes
import socket
import threading
import time

from h2client import PREFACE, fields, frame

NGHTTP2 = ctypes.CDLL("libnghttp2.so.14")
NGHTTP2.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t


class Nv(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("value", ctypes.c_void_p), ("namelen", ctypes.c_size_t),
                ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


class Inflater:
    def __init__(self):
        self.it = ctypes.c_void_p()
        NGHTTP2.nghttp2_hd_inflate_new(ctypes.byref(self.it))

    def free(self):
        NGHTTP2.nghttp2_hd_inflate_del(self.it)

    def block(self, data):
        got, nv, flags = [], Nv(), ctypes.c_int()
        while True:
            n = NGHTTP2.nghttp2_hd_inflate_hd2(self.it, ctypes.byref(nv), ctypes.byref(flags),
                                               ctypes.c_char_p(data), ctypes.c_size_t(len(data)), 1)
            if n < 0:
                raise ValueError("header block cannot be decoded")
            data = data[n:]
            if flags.value & 2:    # a field
                got.append((ctypes.string_at(nv.name, nv.namelen).decode("latin-1"),
                            ctypes.string_at(nv.value, nv.valuelen).decode("latin-1")))
            if flags.value & 1:    # the end
                NGHTTP2.nghttp2_hd_inflate_end_headers(self.it)
                return got


class Exchange:
    """One stream: what came, and what is still to be sent."""

    def __init__(self, window):
        self.fields, self.trailers, self.body = [], [], b""
        self.received, self.window, self.out, self.after = 0, window, b"", None
        self.answered = self.begun = False


class Connection:
    def __init__(self, server, sock, peer):
        self.server, self.sock, self.peer = server, sock, peer
        self.lock = threading.RLock()
        self.inflater, self.buf = Inflater(), b""
        self.streams, self.window, self.initial = {}, 65535, 65535
        self.max_frame, self.block = 16384, b""
        self.going = False

    # --- what goes -----------------------------------------------------------------------------
    def send(self, data):
        with self.lock:
            self.sock.sendall(data)

    def headers(self, sid, pairs, end):
        self.send(frame(1, 5 if end else 4, sid, fields(pairs)))

    def pump(self):
        """Content, as far as the windows go; then what comes behind it."""
        with self.lock:
            for sid, x in list(self.streams.items()):
                while x.begun and x.out:
                    n = min(len(x.out), self.window, x.window, self.max_frame)
                    if n <= 0:
                        break
                    piece, x.out = x.out[:n], x.out[n:]
                    self.window -= n
                    x.window -= n
                    last = not x.out and x.after == []
                    self.send(frame(0, 1 if last else 0, sid, piece))
                    if last:
                        x.after = None
                if x.begun and not x.out and x.after is not None:
                    after, x.after = x.after, None
                    if after:
                        self.headers(sid, after, True)
                    else:
                        self.send(frame(0, 1, sid))
                if x.begun and not x.out and x.after is None:
                    self.done(sid, x)

    def done(self, sid, x):
        self.streams.pop(sid, None)
        how = self.server.how
        if "goaway" in how and not self.going:
            self.going = True
            self.send(frame(7, 0, 0, sid.to_bytes(4, "big") + b"\0\0\0\0"))
        if "close" in how:
            self.sock.shutdown(socket.SHUT_RDWR)

    def answer(self, sid, x):
        how = self.server.how
        if x.answered:
            return
        x.answered = True
        if "hang" in how:
            self.server.release.wait(10)
        if "rst" in how:
            self.streams.pop(sid, None)
            self.send(frame(3, 0, sid, int(how["rst"][0]).to_bytes(4, "big")))
            return
        with self.server.lock:
            number = self.server.requests - 1
        get = dict(x.fields)
        statuses = how.get("status", ["200"])[0].split(",")
        status = statuses[min(number, len(statuses) - 1)] if "once" in how \
            else statuses[number % len(statuses)]
        head = [(":status", status), ("server-name", self.server.name)]
        head += [tuple(h.split(": ", 1)) for h in how.get("header", [])]
        trailers = [tuple(h.split(": ", 1)) for h in how.get("trailer", [])]
        if "grpc" in how:
            codes = how["grpc"][0].split(",")
            code = codes[min(number, len(codes) - 1)]
            head.append(("content-type", "application/grpc"))
            if code != "0" and "late" not in how:    # trailers only
                self.headers(sid, head + [("grpc-status", code)], True)
                self.done(sid, x)
                return
            trailers.append(("grpc-status", code))
        if "interim" in how:
            self.headers(sid, [(":status", "103"), ("link", "</style.css>")], False)
        body = x.body
        if "echo" not in how:
            text = "server=%s\nprotocol=HTTP/2\nmethod=%s\npath=%s\nauthority=%s\nfrom=%s\n" % (
                self.server.name, get.get(":method"), get.get(":path"), get.get(":authority"), self.peer[0])
            text += "".join("%s: %s\n" % f for f in x.fields if f[0][0] != ":")
            text += "".join("trailer %s: %s\n" % f for f in x.trailers)
            body = text.encode("latin-1") + (b"\n" + x.body if 0 < x.received < 65536 else b"")
            body += b"\nreceived=%d\n" % x.received
        if "size" in how:
            body = b"x" * int(how["size"][0])
        if get.get(":method") == "HEAD" or status in ("204", "304"):
            body = b""
        if not body and not trailers:
            self.headers(sid, head, True)
            self.done(sid, x)
            return
        with self.lock:
            self.headers(sid, head, False)
            x.out, x.after, x.begun = body, trailers, True
        self.pump()

    # --- what comes ------------------------------------------------------------------------------
    def begin(self, sid, pairs, end):
        how, server = self.server.how, self.server
        if sid in self.streams:
            self.streams[sid].trailers = pairs
            self.whole(sid)
            return
        with server.lock:
            number = server.requests
            server.requests += 1
        if self.going or number < int(how.get("refuse", ["0"])[0]):
            if not self.going:
                self.send(frame(3, 0, sid, b"\0\0\0\x07"))    # REFUSED_STREAM
            return
        if number < int(how.get("goaway_before", ["0"])[0]):
            self.going = True
            self.send(frame(7, 0, 0, (sid - 2 if sid > 1 else 0).to_bytes(4, "big") + b"\0\0\0\0"))
            return
        x = self.streams[sid] = Exchange(self.initial)
        x.fields = pairs
        if dict(pairs).get("expect"):
            self.headers(sid, [(":status", "100")], False)
        if "early" in how:
            self.answer(sid, x)
            self.send(frame(3, 0, sid, b"\0\0\0\0"))    # NO_ERROR (RFC 9113 8.1)
        elif end:
            self.whole(sid)

    def whole(self, sid):
        x = self.streams.get(sid)
        if not x:
            return
        if "hang" in self.server.how:
            threading.Thread(target=self.safely, args=(sid, x), daemon=True).start()
        else:
            self.answer(sid, x)

    def safely(self, sid, x):
        try:
            self.answer(sid, x)
        except OSError:
            pass

    def data(self, sid, flags, payload):
        x = self.streams.get(sid)
        if payload and "mute" not in self.server.how:
            if "read_delay" in self.server.how:
                time.sleep(float(self.server.how["read_delay"][0]))
            n = len(payload).to_bytes(4, "big")
            self.send(frame(8, 0, 0, n) + (b"" if flags & 1 or not x else frame(8, 0, sid, n)))
        if x:
            x.received += len(payload)
            if len(x.body) < 1 << 20:
                x.body += payload
            if flags & 1:
                self.whole(sid)

    def settings(self, payload):
        for i in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[i:i + 2], "big"), int.from_bytes(payload[i + 2:i + 6], "big")
            if key == 4:
                for x in self.streams.values():
                    x.window += value - self.initial
                self.initial = value
            elif key == 5:
                self.max_frame = value
        self.send(frame(4, 1, 0))

    def frame(self, kind, flags, sid, payload):
        if kind == 0:
            self.data(sid, flags, payload)
        elif kind in (1, 9):
            if kind == 1:
                self.end = flags & 1
                if flags & 0x20:    # priority
                    payload = payload[5:]
            self.block += payload
            if flags & 4:
                block, self.block = self.block, b""
                self.begin(sid, self.inflater.block(block), self.end)
        elif kind == 3:
            if self.streams.pop(sid, None):    # under way
                self.server.resets.append(int.from_bytes(payload, "big"))
        elif kind == 4 and not flags & 1:
            self.settings(payload)
        elif kind == 6 and not flags & 1 and "mute" not in self.server.how:
            self.server.pings += 1
            self.send(frame(6, 1, 0, payload))
        elif kind == 8:
            n = int.from_bytes(payload, "big")
            with self.lock:
                if sid == 0:
                    self.window += n
                elif sid in self.streams:
                    self.streams[sid].window += n
            self.pump()

    def exactly(self, n):
        while len(self.buf) < n:
            data = self.sock.recv(262144)
            if not data:
                return None
            self.buf += data
        piece, self.buf = self.buf[:n], self.buf[n:]
        return piece

    def serve(self):
        if self.exactly(len(PREFACE)) != PREFACE:
            return
        own = b""
        if "streams" in self.server.how:
            own = b"\0\3" + int(self.server.how["streams"][0]).to_bytes(4, "big")
        self.send(frame(4, 0, 0, own))
        while True:
            head = self.exactly(9)
            payload = self.exactly(int.from_bytes(head[:3], "big")) if head else None
            if payload is None:
                return
            self.frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7fffffff, payload)


class Server:
    """The same face as the HTTP/1 server of the driver."""

    def __init__(self, name, listen):
        self.name, self.how, self.requests, self.connections = name, {}, 0, 0
        self.pings, self.resets = 0, []
        self.lock, self.release = threading.Lock(), threading.Event()
        self.open, self.sock = set(), listen
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

    def serve(self, s, peer):
        c = Connection(self, s, peer)
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(60)
            c.serve()
        except (OSError, ValueError):
            pass
        finally:
            self.open.discard(s)
            s.close()
            c.inflater.free()

    def close(self):
        self.release.set()
        for s in [self.sock] + list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
