"""A real ClickHouse server for the usage rows: the one that the tests use."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from .processes import GENERATOR_CORE, ROOT, Invalid, loud

START_SECONDS_MAX = 120


class ClickHouse:
    """Runs until its input ends. The gateway's rows go to `url`."""

    def __init__(self, child, url, direct_url):
        self.child = child
        self.url = url
        self.direct_url = direct_url

    def faults(self, *faults):
        """From here on these, as tests/clickhouse/server.py describes them, and no others."""
        print(json.dumps({"faults": faults}), file=self.child.stdin, flush=True)
        self.child.stdout.readline()

    def ask(self, query):
        request = urllib.request.Request(self.direct_url, data=query.encode(), method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(request, timeout=60).read().decode().strip()
        except urllib.error.HTTPError as error:
            raise Invalid(f"ClickHouse refuses `{query}`: {error.read().decode()[:400]}") from None

    def stop(self):
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(timeout=30)
            return
        self.child.kill()
        self.child.wait()


def start(is_breakable=False):
    """The server, or `None` where there is none, and why. One that is to break has the launcher between it and the gateway."""
    try:
        made = subprocess.run([ROOT / "tests" / "clickhouse" / "install"], capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        loud(f"ClickHouse cannot be installed: {error}")
        return None
    if made.returncode != 0:
        loud(f"ClickHouse cannot be installed: {made.stderr.strip()}")
        return None
    # On the generator's core: what the store does with the rows is no cost of the gateway.
    command = ["taskset", "-c", GENERATOR_CORE, sys.executable, ROOT / "tests" / "clickhouse" / "server.py"]
    child = subprocess.Popen(
        [*map(str, command), "--lib", made.stdout.strip()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )
    line = child.stdout.readline()
    if not line:
        child.wait()
        loud("the ClickHouse server does not start")
        return None
    server = json.loads(line)["servers"][0]
    return ClickHouse(child, server["url" if is_breakable else "direct_url"], server["direct_url"])
