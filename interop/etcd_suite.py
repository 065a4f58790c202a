"""Runs etcd's own tests/common against a folder of binaries and compares with the list of tests that etcd itself passes."""
import json
import subprocess
import sys

RUN = "^Test(KV|Txn|Watch|Lease|Compact|Endpoint|HashKV|VerifyHashKV)"
SKIP = "Auth|(Peer|Client)(Auto)?TLS"
TIMEOUT = "15m"


def run(test_binary, directory, bin_dir, expected_file):
    """Whether every leaf test named in expected_file passes."""
    command = ["go", "tool", "test2json", "-t", str(test_binary), "-test.v=test2json", "-test.timeout", TIMEOUT, "-test.run", RUN,
               "-test.skip", f"{SKIP}|.*/({SKIP})|.*/.*/({SKIP})", f"-bin-dir={bin_dir}"]
    output = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    results, texts = outcomes(output)
    expected = expected_file.read_text().split("\n")[:-1]
    failed = [name for name in expected if results.get(name) != "pass"]
    for name in failed:
        print(f"not passed: {name} ({results.get(name, 'not run')})\n{''.join(texts.get(name, [])[-25:])}", file=sys.stderr)
    print(f"etcd tests/common: {len(expected) - len(failed)} passed, {len(failed)} failed")
    return bool(expected) and not failed


def outcomes(output):
    """Result and output by test name."""
    results, texts = {}, {}
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        name = event.get("Test")
        if name and event.get("Action") in ("pass", "fail", "skip"):
            results[name] = event["Action"]
        elif name and event.get("Action") == "output":
            texts.setdefault(name, []).append(event["Output"])
    return results, texts
