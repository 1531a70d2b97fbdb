"""The plain proxies: the floor."""

import json
import os

from . import install
from .processes import CONTESTANT_CORE, Process, accepts, free_port
from .workloads import WORKLOADS


class Contestant:
    """A running program between generator and provider: where it is, and how it wants to be called."""

    # Whether answers must be the provider's byte for byte, or only have its text.
    is_exact = True
    # Share of a workload's requests that a round has.
    pace = 1.0
    headers = ()
    keys_file = None

    def __init__(self, name, process, port, version, failover_port=None):
        self.name = name
        self.process = process
        self.version = version
        self.key = "none"
        self.url = f"http://127.0.0.1:{port}"
        self.failover_url = failover_port and f"http://127.0.0.1:{failover_port}"

    def url_for(self, workload):
        return self.failover_url if workload == "failover" else self.url

    def model(self, workload):
        return WORKLOADS[workload].model

    def takes(self, workload):
        """Whether it can do what the workload asks."""
        if workload == "failover":
            return self.failover_url is not None
        return workload not in ("keys", "deployments")


def start_nginx(_binaries, mock, folder):
    program = install.by_apt("nginx")
    if not program:
        return None
    port, failover_port = free_port(), free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    common = """
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
    """
    config.write_text(f"""
        {user}
        daemon off;
        worker_processes 1;
        worker_rlimit_nofile 65536;
        pid {folder}/nginx.pid;
        error_log {folder}/nginx.err crit;
        events {{ worker_connections 32768; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            client_max_body_size 64m;
            client_body_buffer_size 8m;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            upstream mock {{
                server {mock};
                keepalive 1024;
                keepalive_requests 1000000000;
            }}
            upstream twice {{
                server {mock} max_fails=0;
                server {mock} max_fails=0;
                keepalive 1024;
                keepalive_requests 1000000000;
            }}
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass http://mock; {common} }}
            }}
            server {{
                listen 127.0.0.1:{failover_port};
                location / {{
                    proxy_pass http://twice; {common}
                    proxy_next_upstream error timeout http_503 non_idempotent;
                    proxy_next_upstream_tries 3;
                }}
            }}
        }}
    """)
    command = [program, "-p", folder, "-e", folder / "nginx.err", "-c", config]
    process = Process("nginx", CONTESTANT_CORE, command, folder / "nginx.log")
    process.wait_for(lambda: accepts(port), "listening")
    return Contestant("nginx", process, port, install.version_of(program, "-v"), failover_port)


def start_haproxy(_binaries, mock, folder):
    program = install.by_apt("haproxy")
    if not program:
        return None
    port, failover_port = free_port(), free_port()
    config = folder / "haproxy.cfg"
    # Its words for the provider's side are its own.
    side = "back" + "end"
    config.write_text(f"""
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    option http-no-delay
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 120s
    timeout server 120s
frontend plain
    bind 127.0.0.1:{port}
    default_{side} mock
frontend failover
    bind 127.0.0.1:{failover_port}
    default_{side} twice
{side} mock
    server a {mock}
{side} twice
    retries 2
    option redispatch 1
    retry-on all-retryable-errors 503
    server a {mock}
    server b {mock}
""")
    command = [program, "-db", "-f", config]
    process = Process("haproxy", CONTESTANT_CORE, command, folder / "haproxy.log")
    process.wait_for(lambda: accepts(port), "listening")
    return Contestant("haproxy", process, port, install.version_of(program, "-v"), failover_port)


def start_envoy(_binaries, mock, folder):
    program = install.envoy()
    if not program:
        return None
    port, failover_port = free_port(), free_port()
    host, mock_port = mock.split(":")
    retries = {"retry_on": "5xx", "num_retries": 2}

    def listener(name, port, policy):
        route = {"cluster": "mock", "timeout": "0s", **({"retry_policy": retries} if policy else {})}
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {"virtual_hosts": [{
                "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }],
        }
        return {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "per_connection_buffer_limit_bytes": 1 << 20,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }]}],
        }

    # What limits there are by default would refuse thousands of streams.
    breaker = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000, "max_retries": 100_000}
    endpoint = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(mock_port)}}}}
    cluster = {
        "name": "mock", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "mock", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [breaker]},
    }
    listeners = [listener("plain", port, False), listener("failover", failover_port, True)]
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}}))
    command = [program, "-c", config, "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
    process = Process("envoy", CONTESTANT_CORE, command, folder / "envoy.log")
    process.wait_for(lambda: accepts(port), "listening")
    return Contestant("envoy", process, port, install.version_of(program, "--version"), failover_port)


def start_bare_pingora(binaries, mock, folder):
    port = free_port()
    command = [binaries / "examples" / "bare_pingora", f"127.0.0.1:{port}", mock]
    process = Process("bare_pingora", CONTESTANT_CORE, command, folder / "bare_pingora.log")
    process.wait_for(lambda: accepts(port), "listening")
    return Contestant("bare_pingora", process, port, "as in Cargo.lock")
