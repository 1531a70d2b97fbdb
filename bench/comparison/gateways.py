"""The gateways: Sluice without and with governance, and the peers."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import time
import urllib.request

from . import clickhouse, install, resources
from .processes import CONTESTANT_CORE, ROOT, Invalid, Process, answers_200, free_port, loud
from .proxies import Contestant
from .workloads import WORKLOADS

ROWS_SECONDS_MAX = 60


class Sluice(Contestant):
    """Rows go to the store at `usage_url`; `folder` holds everything else that it keeps."""

    def __init__(self, name, process, port, folder, keys, server):
        super().__init__(name, process, port, "this commit")
        self.folder = folder
        self.key = keys[0]
        self.server = server
        self.failover_url = self.url
        self.deployments_n = 0
        self.keys_n = len(keys)

    def model(self, workload):
        if self.deployments_n:
            # One of the last: a search that goes through them all would show.
            return f"d{self.deployments_n - 7}"
        return workload

    def takes(self, workload):
        if self.name == "sluice_keys":
            return workload == "keys"
        if self.name == "sluice_deployments":
            return workload == "deployments"
        # With one target there is nowhere to go.
        return workload not in ("keys", "deployments", "failover") or self.name == "sluice"

    def metric(self, name):
        """The value of a metric, its series added up."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        page = opener.open(f"{self.admin_url}/metrics", timeout=30).read().decode()
        found = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE)
        return sum(map(float, found))

    def rows(self):
        """Usage rows in the store."""
        if self.server:
            return int(self.server.ask(f"SELECT count() FROM {self.name}.usage"))
        return rows_of_file(self.folder / "usage.db")


def rows_of_file(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute("SELECT count(*) FROM requests").fetchone()[0]


def settings(folder, port, admin_port, usage_url):
    return f"""
        resources = "{folder}/resources.json"
        [data]
        listen = ["127.0.0.1:{port}"]
        threads = 1
        [admin]
        listen = "127.0.0.1:{admin_port}"
        [state]
        url = "sqlite://{folder}/state.db"
        [usage]
        url = "{usage_url}"
        spool_dir = "{folder}/spool"
        [limits]
        file = "{folder}/limits"
        [secrets]
        master_key_file = "{folder}/master.key"
        [upstream]
        allow_networks = ["127.0.0.0/8"]
        [telemetry]
        log = "warn"
        [drain]
        delay_s = 0
        max_s = 5
    """


def start_sluice(binaries, mock, folder, name="sluice", keys=1, server=None, **document):
    """Governance on, unless `document` says otherwise. Rows go to `server`, or to a file."""
    home = folder / name
    home.mkdir()
    port = free_port()
    made = [resources.new_key() for _ in range(keys)]
    resources.write(home / "resources.json", mock, made, **document)
    usage_url = f"sqlite://{home}/usage.db"
    if server:
        server.ask(f"CREATE DATABASE IF NOT EXISTS {name}")
        usage_url = f"{server.url.rstrip('/')}/{name}"
    config = home / "sluice.toml"
    admin_port = free_port()
    config.write_text(settings(home, port, admin_port, usage_url))
    command = [binaries / "sluice", "serve", "--config", config]
    began = time.monotonic()
    process = Process(name, CONTESTANT_CORE, command, folder / f"{name}.log")
    process.wait_for(lambda: answers_200(f"http://127.0.0.1:{port}/readyz"), "ready")
    started = Sluice(name, process, port, home, made, server)
    started.admin_url = f"http://127.0.0.1:{admin_port}"
    started.start_s = time.monotonic() - began
    started.deployments_n = document.get("deployments", 0)
    if keys > 1:
        started.keys_file = home / "keys.txt"
        started.keys_file.write_text("\n".join(made) + "\n")
    return started


def start_off(binaries, mock, folder, server=None):
    """A key without limits and one target. Rows cannot be switched off: they go to a file."""
    return start_sluice(binaries, mock, folder, "sluice_off", has_limits=False, targets=1)


def store(options):
    """The ClickHouse server that Sluice's rows go to; `None` for a file."""
    return None if options.store == "sqlite" else clickhouse.start()


def start_litellm(_binaries, mock, folder):
    program = install.litellm()
    if not program:
        return None
    port = free_port()
    config = folder / "litellm.yaml"
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{workload.model}", "api_base": f"http://{mock}/v1", "api_key": "none"},
        }
        for name, workload in WORKLOADS.items()
    ]
    settings = {
        "model_list": models,
        "litellm_settings": {"num_retries": 2, "drop_params": True, "telemetry": False},
        "router_settings": {"num_retries": 2, "allowed_fails": 1_000_000_000, "disable_cooldowns": True},
    }
    config.write_text(json.dumps(settings))
    command = [program, "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    process = Process("litellm", CONTESTANT_CORE, command, folder / "litellm.log", env)
    process.wait_for(lambda: answers_200(f"http://127.0.0.1:{port}/health/liveliness"), "alive")
    started = Contestant("litellm", process, port, install.LITELLM, port)
    started.is_exact, started.pace = False, 0.02
    started.model = lambda workload: workload
    return started


def start_portkey(_binaries, mock, folder):
    program = install.portkey()
    if not program:
        return None
    port = free_port()
    command = [shutil.which("node"), program, f"--port={port}", "--headless"]
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    process = Process("portkey", CONTESTANT_CORE, command, folder / "portkey.log", env)
    process.wait_for(lambda: answers_200(f"http://127.0.0.1:{port}/"), "alive")
    started = Contestant("portkey", process, port, install.PORTKEY, port)
    retry = {"provider": "openai", "custom_host": f"http://{mock}/v1", "api_key": "none", "retry": {"attempts": 2, "on_status_codes": [503]}}
    started.headers = ("x-portkey-config: " + json.dumps(retry),)
    started.is_exact, started.pace = False, 0.08
    # This version answers streams with 500: it adds to the headers of what it fetched, which Node forbids.
    started.takes = lambda workload: workload in ("small", "long", "body5m", "failover")
    return started


def check_rows(started, requests):
    """Governance that loses rows would be cheap. The last ones may be on their way."""
    deadline = time.monotonic() + ROWS_SECONDS_MAX
    while (rows := started.rows()) < requests and time.monotonic() < deadline:
        time.sleep(0.2)
    if rows != requests:
        raise Invalid(f"{started.name} wrote {rows} usage rows for {requests} requests")


def commit():
    """The commit that is measured, with a mark when there are changes besides."""
    with contextlib.suppress(OSError):
        said = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True)
        if found := re.match(r"\S+", said.stdout):
            return found[0]
    return "unknown"


def reachable(start, *arguments, **options):
    """What `start` starts, or `None` with a loud notice: one contestant less is no reason to end."""
    try:
        return start(*arguments, **options)
    except Invalid as invalid:
        loud(f"left out: {invalid}")
        return None
