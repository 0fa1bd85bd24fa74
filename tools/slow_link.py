#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""slow_link.py LISTEN_PORT PORT MBIT_PER_S ROUND_TRIP_MS: a long thin link between two ports of 127.0.0.1, for benchmarks.

Each direction carries MBIT_PER_S and delivers half of ROUND_TRIP_MS later. It holds what such a link and its router would: twice what is
on the way, and no more; then it reads no further, so that TCP holds the sender back. SIGTERM ends it, SIGUSR1 begins anew, and either prints "BYTES_UP BYTES_DOWN BUSY_UP_MS BURSTS_UP_MS": how long
the upward direction was sending its bursts; and how long they took from their first byte to their last, with the gaps in them. A burst ends where nothing came for half a second,
and counts from 64 KiB on; a report or a sign of life (512 bytes) before it begins none: so the second is how long a sender had something to send that let no such time go by, and the first over the second how much of the link it used."""
import asyncio
import collections
import signal
import socket
import sys

listen_port, port = int(sys.argv[1]), int(sys.argv[2])
rate, delay = float(sys.argv[3]) * 125000, float(sys.argv[4]) / 2000
CHUNK, HOLD = 4096, max(65536, int(2 * rate * 2 * delay))
SILENCE, BURST_MIN, SMALL = 0.5, 65536, 512
carried = [0, 0]
bursts = [[], []]  # of each way: [first, last, bytes]


def note_burst(way, now, line_free_at, size):
    burst = bursts[way][-1] if bursts[way] else None
    if burst is not None and burst[2] <= SMALL and now > burst[1]:
        bursts[way][-1] = [now, line_free_at, size]
    elif burst is None or now - burst[1] > SILENCE:
        bursts[way].append([now, line_free_at, size])
    else:
        burst[1], burst[2] = line_free_at, burst[2] + size


async def one_way(reader, writer, way):
    loop = asyncio.get_running_loop()
    queue, free, full = collections.deque(), asyncio.Event(), asyncio.Event()
    held, line_free_at = 0, 0.0

    async def deliver():
        nonlocal held
        while True:
            while not queue:
                full.clear()
                await full.wait()
            due, data = queue[0]
            await asyncio.sleep(max(0, due - loop.time()))
            queue.popleft()
            held -= len(data)
            free.set()
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    task = asyncio.ensure_future(deliver())
    try:
        while True:
            while held > HOLD:
                free.clear()
                await free.wait()
            data = await reader.read(CHUNK)
            now = loop.time()
            line_free_at = max(line_free_at, now) + len(data) / rate
            carried[way] += len(data)
            note_burst(way, now, line_free_at, len(data))
            held += len(data)
            queue.append((line_free_at + delay, data))
            full.set()
            if not data:
                break
        await task
    except (ConnectionError, asyncio.CancelledError):
        task.cancel()
        writer.close()


async def serve(reader, writer):
    try:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
    except ConnectionError:
        writer.close()
        return
    await asyncio.gather(one_way(reader, to_writer, 0), one_way(to_reader, writer, 1), return_exceptions=True)


def figures():
    large = [b for b in bursts[0] if b[2] >= BURST_MIN]
    print(carried[0], carried[1], int(sum(b[2] for b in large) / rate * 1000), int(sum(b[1] - b[0] for b in large) * 1000), flush=True)
    carried[:] = [0, 0]
    for way in bursts:
        way.clear()


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, figures)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HOLD)  # else megabytes wait there, and the sender takes them for delivered
    listener.bind(("127.0.0.1", listen_port))
    server = await asyncio.start_server(serve, sock=listener, limit=CHUNK)
    async with server:
        await stop.wait()
    figures()


asyncio.run(main())
