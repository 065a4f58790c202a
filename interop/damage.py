"""Flips one bit anywhere in a member's directory: it must serve every key right or refuse, naming file and offset."""
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

KEYS = 300
READY_SECONDS = 10
# Longer than a member waits before it makes its state durable, so that two batches are in the state and one only in the log.
CHECKPOINT_SECONDS = 7


def run(binary, etcdctl, port, flips, seed):
    """Whether no flip made the server serve a wrong value or die without naming the place."""
    chance, server = random.Random(seed), Server(binary, etcdctl, port)
    counts = {"right": 0, "refused": 0, "wrong": 0, "unclear": 0}
    with tempfile.TemporaryDirectory(prefix="quorate-damage-") as home:
        pristine = Path(home) / "pristine"
        expected = fill(server, pristine)
        for _ in range(flips):
            damaged = Path(home) / "damaged"
            shutil.copytree(pristine, damaged)
            file, offset = flip(damaged, chance)
            verdict, said = judge(server, damaged, expected, file)
            counts[verdict] += 1
            if verdict in ("wrong", "unclear"):
                print(f"{verdict}: seed {seed}, bit flipped in {file.relative_to(damaged)} at {offset}:\n{said[-1500:]}")
            shutil.rmtree(damaged)
    print("damage: flips={} right={right} refused={refused} wrong={wrong} unclear={unclear}".format(flips, **counts))
    return counts["wrong"] == 0 and counts["unclear"] == 0


class Server:
    """One member, and etcdctl to ask it."""

    def __init__(self, binary, etcdctl, port):
        self.binary, self.etcdctl, self.port = binary, etcdctl, port

    def start(self, directory):
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port + 1}"
        return subprocess.Popen(
            [self.binary, "server", "--name", "one", "--data-dir", directory, "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ask(self, *arguments, **options):
        command = [self.etcdctl, "--endpoints", f"127.0.0.1:{self.port}", "--command-timeout", "3s", *arguments]
        return subprocess.run(command, capture_output=True, text=True, **options)

    def dump(self):
        """Every key and value, or None."""
        done = self.ask("get", "", "--prefix")
        return done.stdout if done.returncode == 0 else None

    def await_answer(self, process):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            found = self.dump()
            if found is not None:
                return found
            time.sleep(0.05)
        return None


def fill(server, directory):
    """A directory in which every kind of file holds something: state that was made durable, and a log behind it."""
    process = server.start(directory)
    try:
        assert server.await_answer(process) is not None, "the server does not serve"
        for batch in range(3):
            puts = "".join(f"put k{n:03d} value-{n}-{'x' * (n % 90)}\n" for n in range(batch * 100, batch * 100 + 100))
            done = server.ask("txn", input=f"\n{puts}\n\n")
            assert done.returncode == 0, done.stderr
            if batch == 1:
                time.sleep(CHECKPOINT_SECONDS)
        expected = server.dump()
        assert expected.count("\n") == 2 * KEYS
        return expected
    finally:
        process.kill()
        process.communicate()


def flip(directory, chance):
    """Flips one bit of what the files really hold: holes and untouched room at the end are drawn like the rest, but seldom."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size > 0]
    weights = [min(path.stat().st_size, path.stat().st_blocks * 512) for path in files]
    file = chance.choices(files, weights)[0]
    content = file.read_bytes()
    used = len(content.rstrip(b"\0")) or len(content)
    offset = chance.randrange(used)
    with open(file, "r+b") as handle:
        handle.seek(offset)
        handle.write(bytes([content[offset] ^ (1 << chance.randrange(8))]))
    return file, offset


def judge(server, directory, expected, file):
    process = server.start(directory)
    found = server.await_answer(process)
    if process.poll() is None:
        os.kill(process.pid, 9)
    said = process.communicate()[0].decode(errors="replace")
    if "panicked at" in said:
        return "unclear", said
    if found == expected:
        return "right", said
    if found is not None:
        return "wrong", f"{said}\nserved {found.count(chr(10)) // 2} keys"
    named = file.name in said and re.search(r"offset \d+", said)
    return ("refused" if named else "unclear"), said
