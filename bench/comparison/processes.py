"""Programs on a core of their own, and what the operating system says they use."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
CONTESTANT_CORE, GENERATOR_CORE = "0", "1"
# A gateway in Python takes its time, and one under valgrind too.
START_SECONDS_MAX = 180


class Invalid(Exception):
    """There is no result; the text says why."""


def notice(text):
    print(text, file=sys.stderr, flush=True)


def loud(text):
    notice(f"\n!!! {text}\n")


class Process:
    """A program on one core, with its children."""

    def __init__(self, name, core, command, log, env=None):
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self.child = subprocess.Popen(
                ["taskset", "-c", core, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )

    def fail(self, what):
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise Invalid(f"{self.name} {what}; the end of its output:\n{tail}")

    def wait_for(self, is_ready, what):
        """Waits until `is_ready` returns something, and returns that."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                self.fail(f"ended with status {self.child.returncode} before it was {what}")
            if found := is_ready():
                return found
            time.sleep(0.05)
        self.fail(f"was not {what} after {START_SECONDS_MAX} s")

    def pids(self):
        """The process and everything below it."""
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # The command's name is in brackets and may hold anything.
                    after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents[int(entry.name)] = int(after_name[1])
        tree = {self.child.pid}
        while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= more
        return tree

    def cpu_us(self):
        """CPU time of the tree so far, user and system, in microseconds."""
        nanoseconds = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    nanoseconds += int((task / "schedstat").read_text().split()[0])
        return nanoseconds / 1000

    def rss_kib(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                if found := re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE):
                    total += int(found[1])
        return total

    def descriptors(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/fd"))
        return total

    def stop(self):
        if self.child.poll() is None:
            below = self.pids()
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                for pid in below:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.child.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def answers_200(url):
    with contextlib.suppress(OSError, urllib.error.URLError):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(url, timeout=2).status == 200
    return False
