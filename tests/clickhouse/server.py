#!/usr/bin/env python3
"""Real ClickHouse servers for tests, with faults on demand. Needs Python 3.10 and the engine of `tests/clickhouse/install`.

    server.py --lib FOLDER [--servers N] [--users FILE]

The engine is ClickHouse itself: libchdb.so still holds the main of clickhouse-local, which can start ClickHouse's own HTTP and native listeners. Keeper,
replication, ON CLUSTER, and users and row policies made by SQL are not there: users come from FILE, which is merged into users.xml. With several servers,
each is a shard of the cluster `test`.

One line of JSON when all is ready: {"servers": [{"url": …, "direct_url": …, "tcp_port": …}]}; faults strike at `url` alone. Then commands on the standard
input, a line of JSON each and one line in answer; all ends, and the data is deleted, when the input does:

    {"faults": [{"kind": …, …}]}    replaces the faults that are left
    {"kill": 0}                     SIGKILL for the engine of server 0, which comes back; the answer is there when it has
    {"state": true}                 {"requests": …, "inserts": …, "in_flight": …, "fired": {kind: n}, "left": n}; abandoned requests are in flight until they are done

    kind         what happens                                                    fields
    refuse       nobody listens, and open connections are cut                    ms, else until the next `faults`
    hang         answers nobody for a while; then all who asked meanwhile        ms
    delay        waits before it looks at the request                            ms
    http_error   reads the request, answers an error, stores nothing             status (500), code (252), text
    reset        cuts the connection after some of the body, stores nothing      bytes (1)
    lost_ack     stores the rows, then cuts the connection without an answer
    kill         kills the engine after some of the body                         bytes (1)
    kill_after   stores the rows, then kills the engine before the answer

All but `refuse` and `hang` take `on` (insert, other, any; default insert), `match` (a text in the query), `after` (let so many pass) and `times` (default 1).
"""
import argparse, ctypes, http.client, json, os, random, select, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

CONFIG = """<clickhouse>
<log-level>warning</log-level>
<logger><level>warning</level><log>{path}/server.log</log><errorlog>{path}/error.log</errorlog></logger>
<path>{path}/data/</path><listen_host>127.0.0.1</listen_host><http_port>{http_port}</http_port><tcp_port>{tcp_port}</tcp_port>
<users_config>{path}/users.xml</users_config><timezone>UTC</timezone><mark_cache_size>67108864</mark_cache_size>
<remote_servers><test>{shards}</test></remote_servers>
<query_log><database>system</database><table>query_log</table></query_log>
<macros><launch>{launch}</launch><shard>{shard}</shard><replica>r{shard}</replica></macros>
</clickhouse>"""
SHARD = "<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>{}</port></replica></shard>"
USERS = """<clickhouse>
<profiles><default><log_queries>0</log_queries></default></profiles><quotas><default></default></quotas>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
</clickhouse>"""


def run_engine(lib, config, fifo):
    """In a process of its own: serves until something is written to the FIFO."""
    query = f"SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT * FROM file('{fifo}', 'LineAsString', 'l String') FORMAT Null"
    args = [arg.encode() for arg in ("clickhouse", "--config-file", config, "--query", query)]
    library = ctypes.CDLL(lib)
    library.chdb_query_cmdline.restype, library.chdb_result_error.restype = ctypes.c_void_p, ctypes.c_char_p
    library.chdb_result_error.argtypes = [ctypes.c_void_p]
    result = library.chdb_query_cmdline(len(args), (ctypes.c_char_p * len(args))(*args))
    error = library.chdb_result_error(result) if result else None
    sys.stderr.write(error.decode() if error else "")
    sys.stderr.flush()
    os._exit(1 if error else 0)


def free_port():
    """Below the range from which the system takes ports for outgoing connections: nobody gets it by accident while an engine is down."""
    while True:
        port = random.randrange(10_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
            return port
        except OSError:
            pass


class Engine:
    """One server process, started again when it is killed."""

    def __init__(self, lib, path, users, tcp_ports, shard):
        self.lib, self.path, self.tcp_ports, self.shard = lib, path, tcp_ports, shard
        self.up, self.closing = threading.Event(), False
        os.makedirs(path + "/users.d")
        os.mkfifo(path + "/stop.fifo")
        with open(path + "/users.xml", "w") as file:
            file.write(USERS)
        if users:
            shutil.copy(users, path + "/users.d/given.xml")
        # One thread for the life of the process: the engine dies with the thread that started it.
        threading.Thread(target=self.keep_alive, daemon=True).start()

    def keep_alive(self):
        self.http_port = free_port()
        launch = f"{os.getpid()}-{self.shard}-{random.getrandbits(64):x}"
        with open(self.path + "/config.xml", "w") as file:
            file.write(CONFIG.format(path=self.path, http_port=self.http_port, tcp_port=self.tcp_ports[self.shard], launch=launch, shard=self.shard,
                                     shards="".join(map(SHARD.format, self.tcp_ports))))
        command = [sys.executable, os.path.abspath(__file__), "--engine", self.lib + "/libchdb.so", self.path + "/config.xml", self.path + "/stop.fifo"]
        die_with_us = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        while not self.closing:
            with open(self.path + "/stderr", "ab") as stderr:
                self.child = subprocess.Popen(command, preexec_fn=die_with_us, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
            while self.child.poll() is None and not self.is_ours(launch):
                time.sleep(0.02)
            if self.child.poll() is None:
                self.up.set()
            elif not self.up.is_set() and not self.closing and self.child.returncode != -signal.SIGKILL:
                fail(f"the engine ended with {self.child.returncode}: {open(self.path + '/stderr', errors='replace').read()[-2000:]}")
            self.child.wait()
            self.up.clear()

    def is_ours(self, launch):
        try:
            return self.ask("SELECT getMacro('launch')") == launch
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, query):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("POST", "/", query)
            return connection.getresponse().read().decode().strip()
        finally:
            connection.close()

    def kill(self):
        self.up.clear()
        self.child.kill()

    def close(self):
        self.closing = True
        self.child.kill()
        self.child.wait()


class Cut(Exception):
    """The connection to the client ends here, with a reset."""


class Faults:
    def __init__(self):
        self.lock, self.fired, self.requests, self.inserts, self.in_flight = threading.Lock(), {}, 0, 0, 0
        self.hanging_until = 0
        self.set([])

    def set(self, items):
        with self.lock:
            self.items = [{"on": "insert", "match": "", "after": 0, "times": 1, "bytes": 1, **item} for item in items if item["kind"] not in ("refuse", "hang")]
            self.refusing_until = max((time.monotonic() + item.get("ms", 1e12) / 1e3 for item in items if item["kind"] == "refuse"), default=0)
            if self.is_refusing():
                self.fired["refuse"] = self.fired.get("refuse", 0) + 1
            self.hanging_until = max((time.monotonic() + item["ms"] / 1e3 for item in items if item["kind"] == "hang"), default=0)

    def is_refusing(self):
        return time.monotonic() < self.refusing_until

    def hang(self):
        """As long as it is to last; faults that are set meanwhile do not end it for who is in it."""
        left = self.hanging_until - time.monotonic()
        if left > 0:
            with self.lock:
                self.fired["hang"] = self.fired.get("hang", 0) + 1
            time.sleep(left)

    def take(self, query):
        """The fault that strikes this request, or one of no kind."""
        with self.lock:
            kind = "insert" if query.lstrip()[:6].upper() == "INSERT" else "other"
            self.requests += 1
            self.inserts += kind == "insert"
            for fault in self.items:
                if fault["on"] not in (kind, "any") or fault["match"] not in query or not fault["times"]:
                    continue
                if fault["after"]:
                    fault["after"] -= 1
                    continue
                fault["times"] -= 1
                self.fired[fault["kind"]] = self.fired.get(fault["kind"], 0) + 1
                return fault
        return {"kind": ""}

    def state(self):
        with self.lock:
            return {"requests": self.requests, "inserts": self.inserts, "in_flight": self.in_flight, "fired": self.fired, "left": sum(item["times"] for item in self.items)}


class Front(BaseHTTPRequestHandler):
    """Passes one connection's requests on to the engine, unless a fault says otherwise."""

    protocol_version, timeout = "HTTP/1.1", 600

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, Cut):
            # A reset, not an end: nobody may take what came so far for all.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def pieces(self):
        """The request's body, less its transfer coding."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                piece = self.exactly(min(left, 65_536))
                left -= len(piece)
                yield piece
            return
        while size := int(self.line().split(b";")[0], 16):
            yield self.exactly(size)
            self.exactly(2)
        while self.line().strip():
            pass

    def exactly(self, n):
        data = self.rfile.read(n)
        if len(data) < n:
            raise Cut
        return data

    def line(self):
        line = self.rfile.readline(65_536)
        if not line.endswith(b"\n"):
            raise Cut
        return line

    def pass_on(self):
        faults = self.server[1]
        with faults.lock:
            faults.in_flight += 1
        try:
            self.pass_one_on()
        finally:
            with faults.lock:
                faults.in_flight -= 1

    def pass_one_on(self):
        engine, faults = self.server
        pieces = self.pieces()
        query = "".join(parse_qs(urlsplit(self.path).query).get("query", []))
        first = b"" if query else next(pieces, b"")
        faults.hang()
        fault = faults.take(query or first[:65_536].decode("utf-8", "replace"))
        if fault["kind"] == "delay":
            time.sleep(fault["ms"] / 1e3)
        if fault["kind"] == "http_error":
            for _ in pieces:
                pass
            return self.refuse(fault)
        with_body = first or "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        upstream = http.client.HTTPConnection("127.0.0.1", engine.http_port, timeout=600)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "expect"):
                    upstream.putheader(name, value)
            upstream.putheader(*(("Transfer-Encoding", "chunked") if with_body else ("Content-Length", "0")))
            upstream.endheaders()
            self.send_body(engine, upstream, fault, first, pieces, with_body)
            self.answer(engine, fault, upstream.getresponse())
        except http.client.HTTPException as error:
            raise Cut from error
        finally:
            upstream.close()

    do_GET = do_POST = do_HEAD = pass_on

    def send_body(self, engine, upstream, fault, first, pieces, with_body):
        seen, is_broken, is_struck = 0, False, False
        strikes = fault["kind"] in ("reset", "kill")
        for piece in (first, *pieces) if strikes else chain(first, pieces):
            seen += len(piece)
            if piece and not is_broken:
                try:
                    upstream.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                except OSError:
                    is_broken = True  # A bad query is answered before its body has been read.
            if strikes and seen >= fault["bytes"]:
                is_struck = True
                break
        if strikes and (is_struck or with_body):
            if fault["kind"] == "kill":
                engine.kill()
            raise Cut
        if with_body and not is_broken:
            try:
                upstream.send(b"0\r\n\r\n")
            except OSError:
                pass

    def answer(self, engine, fault, response):
        if fault["kind"] in ("lost_ack", "kill_after"):
            response.read()
            if fault["kind"] == "kill_after":
                engine.kill()
            raise Cut
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "keep-alive"):
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := response.read1(65_536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def refuse(self, fault):
        code = fault.get("code", 252)
        text = f"Code: {code}. DB::Exception: {fault.get('text', 'a fault of the test')}. (FAULT)\n".encode()
        self.send_response_only(fault.get("status", 500))
        for name, value in {"X-ClickHouse-Exception-Code": code, "Content-Type": "text/plain; charset=UTF-8", "Content-Length": len(text)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)


def chain(first, rest):
    yield first
    yield from rest


def serve(port, engine, faults):
    """Accepts for ever; while the faults say so, nobody listens."""
    listener, live = socket.create_server(("127.0.0.1", port), backlog=1024), set()
    while True:
        if faults.is_refusing():
            if listener:
                listener = listener.close()
                for connection in list(live):
                    try:
                        connection.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
            time.sleep(0.005)
            continue
        listener = listener or socket.create_server(("127.0.0.1", port), backlog=1024)
        if select.select([listener], [], [], 0.02)[0]:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            live.add(connection)
            threading.Thread(target=serve_one, args=(connection, engine, faults, live), daemon=True).start()


def serve_one(connection, engine, faults, live):
    try:
        Front(connection, None, (engine, faults))
    except OSError:
        pass
    finally:
        live.discard(connection)
        connection.close()


def say(answer):
    print(json.dumps(answer), flush=True)


def fail(text):
    sys.stderr.write(f"clickhouse: {text}\n")
    sys.stderr.flush()
    os._exit(1)


def obey(command, engines, faults):
    if "faults" in command:
        faults.set(command["faults"])
        # The answer means that it holds: the listeners look every 20 ms.
        time.sleep(0.05)
        return {}
    if "kill" in command:
        engine = engines[command["kill"]]
        engine.kill()
        return {} if engine.up.wait(60) else {"error": "the engine did not come back"}
    return faults.state()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True, help="the folder of libchdb.so")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--users", help="a file to merge into users.xml")
    options = parser.parse_args()
    if not os.path.exists(options.lib + "/libchdb.so"):
        fail(f"there is no {options.lib}/libchdb.so: run tests/clickhouse/install")
    folder, faults = tempfile.mkdtemp(prefix="sluice-clickhouse-"), Faults()
    engines = []
    try:
        tcp_ports = [free_port() for _ in range(options.servers)]
        engines = [Engine(options.lib, f"{folder}/{n}", options.users, tcp_ports, n) for n in range(options.servers)]
        for engine in engines:
            engine.up.wait(120) or fail(f"the engine did not start in 120 s: {open(engine.path + '/stderr', errors='replace').read()[-2000:]}")
        ports = [free_port() for _ in engines]
        for port, engine in zip(ports, engines):
            threading.Thread(target=serve, args=(port, engine, faults), daemon=True).start()
        say({"servers": [{"url": f"http://127.0.0.1:{port}", "direct_url": f"http://127.0.0.1:{engine.http_port}", "tcp_port": tcp_port}
                         for port, engine, tcp_port in zip(ports, engines, tcp_ports)]})
        for line in sys.stdin:
            say(obey(json.loads(line), engines, faults))
    finally:
        for engine in engines:
            engine.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        run_engine(*sys.argv[2:])
    main()
