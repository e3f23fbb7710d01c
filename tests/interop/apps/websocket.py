#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""WebSockets by Python's `websockets`: websocket.py serve ADDRESS PORT | talk ADDRESS PORT HOST."""
import asyncio
import sys

import websockets


async def echo(ws, *_):
    if ws.path == "/speaks-first":
        await ws.send("welcome")
    async for message in ws:
        if message == "close me":
            await ws.close(4001, "as asked")
            return
        await ws.send(message)


async def serve(address, port):
    async with websockets.serve(echo, address, port, max_size=1 << 25, ping_interval=None):
        await asyncio.Future()


async def talk(address, port, host):
    def connect(path):
        return websockets.connect("ws://%s%s" % (host, path), host=address, port=port, max_size=1 << 25,
                                  ping_interval=None)

    async with connect("/") as ws:
        for message in ("text", "", "\u00e9\u4e16", b"\0\1\2", b"", "x" * 70000, bytes(1 << 24)):
            await ws.send(message)
            assert await ws.recv() == message, "another answer to %r" % message[:20]
        async def pieces():
            for _ in range(100):
                yield "piece "
        await ws.send(pieces())
        assert await ws.recv() == "piece " * 100, "fragments"
        await asyncio.wait_for(await ws.ping(b"alive?"), 5)
        await ws.send("close me")
        try:
            await ws.recv()
            raise AssertionError("it goes on")
        except websockets.ConnectionClosed as e:
            assert (e.code, e.reason) == (4001, "as asked"), "closed with %r" % e
    async with connect("/speaks-first") as ws:
        assert await ws.recv() == "welcome"
    # many at a time, talking in turns
    many = [await connect("/") for _ in range(50)]
    for turn in range(20):
        await asyncio.gather(*(ws.send("%d" % turn) for ws in many))
        assert await asyncio.gather(*(ws.recv() for ws in many)) == ["%d" % turn] * len(many)
    await asyncio.gather(*(ws.close() for ws in many))
    print("all as it should be")


asyncio.run(serve(sys.argv[2], int(sys.argv[3])) if sys.argv[1] == "serve"
            else talk(sys.argv[2], int(sys.argv[3]), sys.argv[4]))
