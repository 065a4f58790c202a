#!/usr/bin/env python3
"""Runs real clients and etcd's own test suite against Quorate.

usage: run.py [--binary PATH] [--breakable PATH] [--kill-seconds N] [--quake-seconds N]
              [--quake-seed N] [--requests N] [--flips N] [--seed N] [--port N] [JOB ...]

Jobs, all by default, in this order:
  clients        the scripts of the Go, Python, npm and Rust clients and of etcdctl, against three members
  differential   the same random requests to etcd 3.7.2 and to Quorate; every reply, event and hash compared
  suite          etcd's tests/common, for key-values, transactions, watches, leases, compaction, endpoints and hashes
  damage         one bit flipped anywhere in a member's directory
  crowds         one Go client with 20,000 leases, 100,000 watches, 20,000 streams: all of them served
  kill           kill -9 of leader, followers and all members under load
  quake          kill, pause, cut, slow, damage, fill and turn bits under load; and three broken servers that must be convicted

Everything is fetched from the ordinary package registries with versions pinned here; programs are built into interop/.build.
The last line is `N passed, N failed`.
"""
import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import damage
import etcd_suite
import etcdctl_script

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / ".build"
READY_SECONDS = 30


def sh(*command, cwd=HERE, **options):
    """Runs a command that must succeed."""
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, **options)


def build_quorate():
    sh("cargo", "build", "--release", "--locked", "-p", "quorate", cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "quorate"


def build_breakable():
    """A server that can be told to break promises; the real one stands again where it is looked for before anybody looks."""
    sh("cargo", "build", "--release", "--locked", "-p", "quorate", "--features", "breakable", cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = BUILD / "bin" / "quorate-breakable"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(target / "release" / "quorate", path)
    build_quorate()
    return path


def program_in_crate(workspace, crate, name):
    """A program that a crate of the ordinary registry carries, with the files beside it; `workspace` names the crate as a dependency."""
    home = BUILD / "crates" / crate
    path = home / "bin" / name
    if not path.exists():
        manifest = str(HERE / workspace / "Cargo.toml")
        sh("cargo", "fetch", "--locked", "--manifest-path", manifest)
        metadata = subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest],
            check=True, capture_output=True, text=True,
        ).stdout
        package = next(p for p in json.loads(metadata)["packages"] if p["name"].startswith(crate))
        shutil.copytree(Path(package["manifest_path"]).parent, home, dirs_exist_ok=True)
        path.chmod(0o755)
    return path


def etcd():
    """etcd 3.7.2."""
    return program_in_crate("etcd", "etcd-bin-vendored-linux", "etcd")


def go_program(name, module, package):
    path = BUILD / "bin" / name
    sh("go", "build", "-o", path, package, cwd=HERE / module)
    return path


def etcdctl():
    return go_program("etcdctl", "suite", "go.etcd.io/etcd/etcdctl/v3")


def etcdutl():
    return go_program("etcdutl", "suite", "go.etcd.io/etcd/etcdutl/v3")


def python_with_etcd3():
    home = BUILD / "python"
    if not (home / "bin" / "python").exists():
        sh(sys.executable, "-m", "venv", home)
        sh(home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "python" / "requirements.txt")
    return home / "bin" / "python"


def rust_program(name):
    return rust_build("--bin", name) / name


def rust_build(*what):
    """The build script of the crate etcd-client needs a protobuf compiler; that one finds its own definitions beside itself."""
    protoc = program_in_crate("rust", "protoc-bin-vendored-linux", "protoc")
    sh("cargo", "build", "--release", "--locked", *what, cwd=HERE / "rust", env={**os.environ, "PROTOC": str(protoc)})
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "rust" / "target"))
    return target / "release"


@contextlib.contextmanager
def cluster(binary, port, members=3):
    """Members on loopback; yields their client endpoints."""
    with tempfile.TemporaryDirectory(prefix="quorate-interop-") as home:
        named = [(f"n{i}", f"127.0.0.1:{port + 2 * i}", f"http://127.0.0.1:{port + 2 * i + 1}") for i in range(members)]
        initial = ",".join(f"{name}={peer}" for name, _, peer in named)
        started = []
        try:
            for name, client, peer in named:
                with open(Path(home) / f"{name}.log", "wb") as log:
                    started.append(subprocess.Popen(
                        [binary, "server", "--name", name, "--data-dir", f"{home}/{name}",
                         "--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}",
                         "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                         "--initial-cluster", initial, "--initial-cluster-token", "interop"], stdout=log, stderr=log))
            for _, client, _ in named:
                await_health(client, home)
            yield [client for _, client, _ in named]
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(timeout=20)


def await_health(endpoint, home):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if b'"true"' in urllib.request.urlopen(f"http://{endpoint}/health", timeout=1).read():
                return
        time.sleep(0.05)
    logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in Path(home).glob("*.log"))
    raise SystemExit(f"{endpoint} did not become healthy in {READY_SECONDS} s\n{logs}")


def job_clients(options):
    """Each client runs its own script; yields (name, passed)."""
    programs = {
        "go": lambda all_, one: [go_program("go-clients", "go", "./clients"), all_],
        "python": lambda all_, one: [python_with_etcd3(), HERE / "python" / "clients.py", one],
        "node": lambda all_, one: [node(), HERE / "node" / "clients.mjs", all_],
        "rust": lambda all_, one: [rust_program("clients"), all_],
    }
    ctl = etcdctl()
    with cluster(options.binary, options.port) as endpoints:
        for name, command in programs.items():
            line = [str(part) for part in command(",".join(endpoints), endpoints[1])]
            yield f"clients/{name}", subprocess.run(line, timeout=180).returncode == 0
        yield "clients/etcdctl", etcdctl_script.run(ctl, endpoints)


def node():
    if not (HERE / "node" / "node_modules").exists():
        sh("npm", "ci", "--no-fund", "--no-audit", "--silent", cwd=HERE / "node")
    return "node"


def job_differential(options):
    program = rust_program("differential")
    for nodes in (1, 3):
        share = options.requests // 2
        line = [program, "--etcd", etcd(), "--quorate", options.binary, "--nodes", nodes, "--requests", share]
        yield f"differential/{nodes}", subprocess.run([str(part) for part in line], timeout=1200).returncode == 0


def job_suite(options):
    with tempfile.TemporaryDirectory(prefix="quorate-suite-") as home:
        os.symlink(options.binary, f"{home}/etcd")
        for program in (etcdctl(), etcdutl()):
            os.symlink(program, f"{home}/{program.name}")
        test = BUILD / "bin" / "common.test"
        sh("go", "test", "-c", "-tags", "e2e", "-o", test, "go.etcd.io/etcd/tests/v3/common", cwd=HERE / "suite")
        where = subprocess.run(["go", "list", "-f", "{{.Dir}}", "go.etcd.io/etcd/tests/v3/common"], cwd=HERE / "suite",
                               check=True, capture_output=True, text=True).stdout.strip()
        yield "suite/common", etcd_suite.run(test, where, home, HERE / "suite" / "common.txt")


def job_damage(options):
    yield "damage", damage.run(options.binary, etcdctl(), options.port + 40, options.flips, options.seed)


def job_crowds(options):
    """Each crowd has to be served whole; the program says how many were."""
    program = go_program("crowds", "go", "./crowds")
    with cluster(options.binary, options.port + 10, members=1) as endpoints:
        yield "crowds", subprocess.run([str(program), "-endpoint", endpoints[0]], timeout=600).returncode == 0


def job_kill(options):
    program = go_program("kill", "go", "./kill")
    with tempfile.TemporaryDirectory(prefix="quorate-kill-") as home:
        link = f"{home}/etcd"
        os.symlink(options.binary, link)
        line = [program, "-binary", link, "-dir", home, "-port", options.port + 20, "-duration", f"{options.kill_seconds}s"]
        yield "kill", subprocess.run([str(part) for part in line], timeout=options.kill_seconds + 180).returncode == 0


# The promises that servers break which have to be convicted.
BROKEN = ("no-fsync", "stale-reads", "vote-not-persisted")


def job_quake(options):
    """Three members as they are shipped; five on a disk that forgets what was not synced; and three broken servers."""
    program = rust_program("quake")
    rust_build("-p", "quake-clock")
    breakable = (options.breakable or build_breakable()).resolve()
    seconds = options.quake_seconds
    common = [program, "--seed", options.quake_seed, "--port", options.port + 60, "--report"]
    three = [*common, BUILD / "quake" / "three", "--binary", options.binary, "--seconds", seconds, "--wipe"]
    yield "quake/three", quake(three, 3 * seconds)[0] == 0
    few = ["--seconds", seconds // 4, "--ops", 200 * seconds, "--faults", seconds // 8]
    five = [*common, BUILD / "quake" / "five", "--binary", breakable, "--members", 5, "--power-cut", *few]
    yield "quake/five", quake(five, 3 * seconds)[0] == 0
    for promise in BROKEN:
        line = [*common, BUILD / "quake" / promise, "--binary", breakable, "--break", promise]
        code, said = quake(line, 180, tail=6)
        yield f"quake/{promise} convicted", code == 1 and f"{promise} convicted" in said


def quake(line, seconds, tail=None):
    """Runs it; its exit code and what it said, of which the last lines are shown."""
    done = subprocess.run([str(part) for part in line], timeout=seconds + 120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shown = done.stdout.splitlines()[-tail:] if tail else done.stdout.splitlines()
    print("\n".join(line[:300] for line in shown), flush=True)
    return done.returncode, done.stdout


JOBS = {"clients": job_clients, "differential": job_differential, "suite": job_suite, "damage": job_damage, "crowds": job_crowds, "kill": job_kill, "quake": job_quake}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="the quorate binary; built in release when not given")
    parser.add_argument("--quake-seed", type=int, default=1, help="chooses the faults of the quake job, and what its clients do")
    parser.add_argument("--breakable", type=Path, help="a quorate binary with the feature `breakable`; built in release when not given")
    parser.add_argument("--kill-seconds", type=int, default=120)
    parser.add_argument("--quake-seconds", type=int, default=100, help="how long three members are shaken at least; five for a quarter of it")
    parser.add_argument("--requests", type=int, default=100_000, help="how many requests the differential test sends, half of them to one member and half to three")
    parser.add_argument("--port", type=int, default=24700, help="the first of the ports that the jobs use on loopback, but for the suite's")
    parser.add_argument("--flips", type=int, default=60, help="how many bits the damage job flips, one at a time")
    parser.add_argument("--seed", type=int, default=1, help="chooses the bits of the damage job")
    parser.add_argument("jobs", nargs="*", choices=[[], *JOBS], help="which jobs to run")
    options = parser.parse_args()
    options.binary = (options.binary or build_quorate()).resolve()
    results = []
    for job in options.jobs or JOBS:
        for name, passed in JOBS[job](options):
            print(f"{'ok' if passed else 'FAILED'}: {name}", flush=True)
            results.append(passed)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
