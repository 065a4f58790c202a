"""A script of assertions with the unmodified etcdctl, each command sent to another member."""
import itertools
import json
import subprocess
import time

WAIT_SECONDS = 15


class Etcdctl:
    def __init__(self, program, endpoints):
        self.program, self.endpoints = str(program), itertools.cycle(endpoints)

    def command(self, *arguments):
        return [self.program, "--endpoints", next(self.endpoints), *map(str, arguments)]

    def __call__(self, *arguments, stdin=None, fails=False):
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=WAIT_SECONDS)
        if (done.returncode != 0) != fails:
            raise AssertionError(f"{' '.join(map(str, arguments))}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stderr if fails else done.stdout

    def json(self, *arguments):
        return json.loads(self(*arguments, "-w", "json"))


def put_and_get(ctl):
    assert ctl("put", "ctl/one", "1") == "OK\n"
    assert ctl("get", "ctl/one") == "ctl/one\n1\n"
    assert ctl("put", "ctl/one", "2", "--prev-kv") == "OK\nctl/one\n1\n"
    for number in range(5):
        ctl("put", f"ctl/r/{number}", number)
    assert ctl("get", "ctl/r/", "--prefix", "--keys-only").split() == [f"ctl/r/{n}" for n in range(5)]
    assert ctl("get", "ctl/r/", "--prefix", "--limit", 2, "--order", "DESCEND", "--print-value-only").split() == ["4", "3"]
    assert ctl.json("get", "ctl/r/", "--prefix", "--limit", 1)["count"] == 5
    assert ctl("del", "ctl/r/", "--prefix") == "5\n"


def transaction(ctl):
    ctl("del", "ctl/t")
    text = 'mod("ctl/t") = "0"\n\nput ctl/t first\n\nget ctl/t\n\n'
    assert ctl("txn", stdin=text) == "SUCCESS\n\nOK\n"
    assert ctl("txn", stdin=text) == "FAILURE\n\nctl/t\nfirst\n"


def watch(ctl):
    revision = ctl.json("put", "ctl/w", "0")["header"]["revision"]
    follow = subprocess.Popen(ctl.command("watch", "ctl/w", "--rev", revision), stdout=subprocess.PIPE, text=True)
    try:
        ctl("put", "ctl/w", "1")
        ctl("del", "ctl/w")
        lines = [follow.stdout.readline().strip() for _ in range(8)]
    finally:
        follow.terminate()
        follow.wait()
    assert lines == ["PUT", "ctl/w", "0", "PUT", "ctl/w", "1", "DELETE", "ctl/w"], lines


def lease(ctl):
    granted = ctl("lease", "grant", 60)
    identifier = granted.split()[1]
    assert granted == f"lease {identifier} granted with TTL(60s)\n"
    ctl("put", "ctl/l", "x", f"--lease={identifier}")
    left = ctl("lease", "timetolive", identifier, "--keys")
    assert f"lease {identifier} granted with TTL(60s), remaining(" in left and "attached keys([ctl/l])" in left
    assert identifier in ctl("lease", "list")
    assert ctl("lease", "keep-alive", "--once", identifier) == f"lease {identifier} keepalived with TTL(60)\n"
    assert ctl("lease", "revoke", identifier) == f"lease {identifier} revoked\n"
    assert ctl("get", "ctl/l") == ""
    short = ctl("lease", "grant", 2).split()[1]
    ctl("put", "ctl/l", "x", f"--lease={short}")
    deadline = time.monotonic() + 8
    while ctl("get", "ctl/l"):
        assert time.monotonic() < deadline, "the lease never ran out"


def compaction(ctl):
    first = ctl.json("put", "ctl/c", "1")["header"]["revision"]
    second = ctl.json("put", "ctl/c", "2")["header"]["revision"]
    assert ctl("compact", second, "--physical") == f"compacted revision {second}\n"
    assert "required revision has been compacted" in ctl("get", "ctl/c", "--rev", first, fails=True)
    assert "required revision has been compacted" in ctl("compact", first, fails=True)
    assert "required revision is a future revision" in ctl("get", "ctl/c", "--rev", second + 10_000, fails=True)


def cluster(ctl):
    members = ctl.json("member", "list")["members"]
    assert len(members) == 3
    for _ in members:
        status = ctl.json("endpoint", "status")[0]["Status"]
        assert status["leader"] in [member["ID"] for member in members]
        assert "is healthy" in ctl("endpoint", "health")
    hashes = {ctl.json("endpoint", "hashkv", "--rev", 0)[0]["HashKV"]["hash"] for _ in members}
    assert len(hashes) == 1, hashes


def lock(ctl):
    held = subprocess.Popen(ctl.command("lock", "ctl/lock"), stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline().startswith("ctl/lock/")
        assert ctl.json("get", "ctl/lock", "--prefix")["count"] == 1
    finally:
        held.terminate()
        held.wait()
    assert ctl("lock", "ctl/lock", "echo", "locked") == "locked\n"


STEPS = [put_and_get, transaction, watch, lease, compaction, cluster, lock]


def run(program, endpoints):
    """Whether every step passes."""
    ctl, failed = Etcdctl(program, endpoints), 0
    for step in STEPS:
        try:
            step(ctl)
        except Exception as error:  # each step is reported by name
            failed += 1
            print(f"FAILED {step.__name__}: {type(error).__name__}: {error}")
    print(f"etcdctl: {len(STEPS) - failed} passed, {failed} failed")
    return failed == 0
