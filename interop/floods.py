#!/usr/bin/env python3
"""Floods the ports of one member, and tells what it cost and what a bystander felt.

usage: floods.py BINARY [BINARY ...] [--port N] [--seconds N] [--flood NAME ...]

BINARY is started alone on loopback, anew for each flood: `quorate`, or anything that takes etcd's flags. For each flood a line of a Markdown
table: memory, threads and descriptors of the member at their peak and ten seconds after the flood has gone, and how long a bystander's
linearizable gets took meanwhile, one after another. "out" is a get that took more than five seconds.
"""
import argparse
import os
import resource
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from multiprocessing import Process
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, HEADERS, DATA, RESET, WINDOW_UPDATE = 4, 6, 1, 0, 3, 8
GET_SECONDS_MAX = 5


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call(path):
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"), (b"te", b"trailers"),
              (b"content-type", b"application/grpc")]
    return b"".join(field(*one) for one in fields)


GREETING = PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, b"\x3f\xff\x00\x00")
RANGE = call(b"/etcdserverpb.KV/Range")
PUT = call(b"/etcdserverpb.KV/Put")
WATCH = call(b"/etcdserverpb.Watch/Watch")
GET_A = b"\0\0\0\0\x03\x0a\x01a"


def crc32c(data):
    remainder = 0xffffffff
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82f63b78 if remainder & 1 else 0)
    return remainder ^ 0xffffffff


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def swallow(connection):
    """Reads whatever comes, for ever, so that it is the server's writing that is not waited for."""
    def read():
        try:
            while connection.recv(1 << 16):
                pass
        except OSError:
            pass
    threading.Thread(target=read, daemon=True).start()


def until(deadline, say):
    """Says it again and again; a server that has enough of it may close."""
    try:
        while time.monotonic() < deadline:
            say()
    except OSError:
        time.sleep(max(0, deadline - time.monotonic()))


def drip(port, deadline):
    """2,000 strangers who greet one byte a second."""
    strangers = [connect(port) for _ in range(1000)]
    for byte in PREFACE * 10:
        for stranger in strangers:
            try:
                stranger.send(bytes([byte]))
            except OSError:
                pass
        if time.monotonic() > deadline:
            return
        time.sleep(1)


def announce(port, deadline):
    """400 connections with 20 calls each, which announce 1.9 MiB and say nothing more."""
    held = []
    for _ in range(200):
        connection = connect(port)
        calls = (frame(HEADERS, 4, 1 + 2 * n, PUT) + frame(DATA, 0, 1 + 2 * n, b"\0" + (1_990_000).to_bytes(4, "big")) for n in range(20))
        connection.sendall(GREETING + b"".join(calls))
        held.append(connection)
    time.sleep(max(0, deadline - time.monotonic()))


def reset(port, deadline):
    """Calls that are taken back at once, as fast as two connections go."""
    connection = connect(port)
    swallow(connection)
    connection.sendall(GREETING)
    stream = 1

    def say():
        nonlocal stream
        pairs = []
        for _ in range(500):
            pairs.append(frame(HEADERS, 4, stream, RANGE) + frame(RESET, 0, stream, b"\0\0\0\x08"))
            stream += 2
        connection.sendall(b"".join(pairs))
    until(deadline, say)


def small(port, deadline):
    """Messages whose bytes come in a frame each, on two connections with a hundred calls in turn."""
    connection = connect(port)
    swallow(connection)
    calls = [1 + 2 * n for n in range(100)]
    connection.sendall(GREETING + b"".join(frame(HEADERS, 4, s, WATCH) + frame(DATA, 0, s, b"\0\0\x1c\0\0") for s in calls))
    bytes_each = b"".join(frame(DATA, 0, s, b"x") for s in calls) * 20
    until(deadline, lambda: connection.sendall(bytes_each))


def ping(port, deadline):
    """Pings as fast as two connections go."""
    connection = connect(port)
    swallow(connection)
    connection.sendall(GREETING)
    pings = frame(PING, 0, 0, b"12345678") * 1000
    until(deadline, lambda: connection.sendall(pings))


def deaf(port, deadline):
    """Settings as fast as they are taken, from two connections that never read the answers."""
    connection = connect(port)
    connection.settimeout(1)
    connection.sendall(GREETING)
    settings = frame(SETTINGS, 0, 0) * 1000
    until(deadline, lambda: connection.sendall(settings))


def crowd(port, deadline):
    """5,000 clients that greet, ask once and stay."""
    held = []
    for _ in range(2500):
        connection = connect(port)
        connection.sendall(GREETING + frame(HEADERS, 4, 1, RANGE) + frame(DATA, 1, 1, GET_A))
        held.append(connection)
    time.sleep(max(0, deadline - time.monotonic()))


def strangers(port, deadline):
    """2,000 connections to the peer port that say a byte each second, and come back when they are closed."""
    held = [connect(port + 1) for _ in range(1000)]
    while time.monotonic() < deadline:
        for place, one in enumerate(held):
            try:
                one.send(b"x")
            except OSError:
                held[place] = connect(port + 1)
        time.sleep(1)


def knocking(port, deadline):
    """Connections to the peer port, as fast as two threads open them, that say nonsense and leave."""
    def say():
        connection = connect(port + 1)
        try:
            connection.sendall(os.urandom(200))
        finally:
            connection.close()
    while time.monotonic() < deadline:
        until(deadline, say)


def boasting(port, deadline):
    """400 connections to the peer port that announce 60 MiB, half of them as etcd's members would and half as Quorate's."""
    size = 60 << 20
    length = size.to_bytes(4, "little")
    ours = length + crc32c(length).to_bytes(4, "little") + bytes(4)
    theirs = f"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    held = []
    for announced in (ours, theirs) * 100:
        connection = connect(port + 1)
        connection.sendall(announced + b"x" * 1000)
        held.append(connection)

    def say():
        for place, connection in enumerate(held):
            try:
                connection.send(b"x" * 1000)
            except OSError:
                held[place] = connect(port + 1)
                held[place].send((ours, theirs)[place % 2])
        time.sleep(0.1)
    until(deadline, say)


def none(port, deadline):
    """Nothing."""
    time.sleep(max(0, deadline - time.monotonic()))


FLOODS = {flood.__name__: flood for flood in (none, drip, announce, reset, small, ping, deaf, crowd, strangers, knocking, boasting)}


class Bystander(threading.Thread):
    """Gets a key, again and again, over one connection; a new one when that is lost."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.took, self.lost, self.stop = port, [], 0, False

    def run(self):
        while not self.stop:
            try:
                self.converse()
            except OSError:
                self.lost += 1
                time.sleep(0.01)

    def converse(self):
        connection = connect(self.port)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(GET_SECONDS_MAX)
        connection.sendall(GREETING)
        heard, stream = b"", 1
        while not self.stop:
            begin = time.perf_counter()
            connection.sendall(frame(HEADERS, 4, stream, RANGE) + frame(DATA, 1, stream, GET_A))
            ended = False
            while not ended:
                piece = connection.recv(1 << 16)
                if not piece:
                    raise OSError("closed")
                heard += piece
                while len(heard) >= 9 and len(heard) >= 9 + int.from_bytes(heard[:3], "big"):
                    size, kind, flags = int.from_bytes(heard[:3], "big"), heard[3], heard[4]
                    of = int.from_bytes(heard[5:9], "big")
                    ended |= of == stream and kind == HEADERS and flags & 1
                    if kind == SETTINGS and not flags & 1:
                        connection.sendall(frame(SETTINGS, 1, 0))
                    elif kind == PING and not flags & 1:
                        connection.sendall(frame(PING, 1, 0, heard[9:9 + size]))
                    heard = heard[9 + size:]
            self.took.append(time.perf_counter() - begin)
            stream += 2


class Watcher(threading.Thread):
    """The most memory, threads and descriptors of a process."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.stop = pid, (0, 0, 0), False

    def run(self):
        while not self.stop:
            self.peak = tuple(map(max, self.peak, usage(self.pid)))
            time.sleep(0.1)


def usage(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) // 1024, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def start(binary, port, home):
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    line = [str(binary), "--name", "n", "--data-dir", f"{home}/d", "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"n={peer}"]
    if "quorate" in binary.name:
        line.insert(1, "server")
    with open(f"{home}/log", "wb") as log:
        server = subprocess.Popen(line, stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if b'"true"' in urllib.request.urlopen(f"{client}/health", timeout=1).read():
                return server
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{binary} did not become healthy")


def measure(binary, flood, port, seconds):
    with tempfile.TemporaryDirectory(prefix="floods-") as home:
        server = start(binary, port, home)
        try:
            watcher, bystander = Watcher(server.pid), Bystander(port)
            deadline = time.monotonic() + seconds
            flooders = [Process(target=flood, args=(port, deadline)) for _ in range(2)]
            for one in (watcher, *flooders):
                one.start()
            time.sleep(1)
            bystander.start()
            time.sleep(max(0, deadline - time.monotonic()))
            bystander.stop = True
            for flooder in flooders:
                flooder.kill()
                flooder.join()
            watcher.stop = True
            time.sleep(10)
            after = usage(server.pid) if server.poll() is None else ("ended", "", "")
            lines = Path(f"{home}/log").read_bytes().count(b"\n")
            return watcher.peak, after, sorted(bystander.took), bystander.lost, lines
        finally:
            server.kill()
            server.wait()


def told(took, share):
    if not took:
        return "out"
    return f"{1000 * took[min(len(took) - 1, int(share * len(took)))]:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="+", type=Path)
    parser.add_argument("--port", type=int, default=24900)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--flood", action="append", choices=FLOODS, default=[])
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print("| Flood | Server | MB: peak, after | threads | descriptors | gets | p50, p99 in ms | lost | log lines |\n|---|---|---|---|---|---|---|---|---|")
    for name in options.flood or FLOODS:
        for binary in options.binary:
            peak, after, took, lost, lines = measure(binary.resolve(), FLOODS[name], options.port, options.seconds)
            both = " | ".join(f"{a}, {b}" for a, b in zip(peak, after))
            print(f"| `{name}` | {binary.name} | {both} | {len(took)} | {told(took, 0.5)}, {told(took, 0.99)} | {lost} | {lines} |", flush=True)


if __name__ == "__main__":
    main()
