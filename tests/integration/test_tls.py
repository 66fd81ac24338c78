"""TLS on the listener and the PROXY protocol before it: versions, ALPN, reload, refusals, large events, the address that the log shows."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest
import websockets
from harness import DataSource, OpalClient, Opald
from harness.paths import ROOT
from harness.ports import free_port
from harness.process import Process, clean_environment, wait_until
from harness.tokens import KeyPair


def make_certificate(folder, name):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return certificate, key


class TlsOpald(Opald):
    def __init__(self, folder, certificate, key, **keywords):
        self.certificate = certificate
        super().__init__(folder, ready=False, args=["--tls-certificate", certificate, "--tls-key", key, *keywords.pop("more", [])], **keywords)
        self.wait_for_log("Application startup complete", 30)

    def context(self):
        return ssl.create_default_context(cafile=self.certificate)

    def open(self, context=None, before=b""):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        plain.sendall(before)
        return (context or self.context()).wrap_socket(plain, server_hostname="localhost")

    def ask(self, method="GET", target="/healthcheck", body=b"", before=b"", context=None, token=None):
        with self.open(context, before) as tls:
            tls.sendall(f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
                        f"{f'authorization: Bearer {token}' if token else 'x: y'}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            return b"".join(iter(lambda: tls.recv(65536), b""))

    def update(self, entry, token=None, **keywords):
        """POST /data/config with one entry; the data source's token in secure mode."""
        body = json.dumps({"entries": [{"config": {}, "save_method": "PUT", **entry}], "reason": "test"}).encode()
        reply = self.ask("POST", "/data/config", body, token=token, **keywords)
        assert b" 200 " in reply[:20], reply

    def metric(self, name, **keywords):
        for line in self.ask(target="/metrics", **keywords).decode().splitlines():
            if line.startswith(f"opald_{name}_total "):
                return int(line.split()[1])
        raise AssertionError(f"no {name} in /metrics")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(folder):
    certificate, key = make_certificate(folder, "first")
    server = TlsOpald(folder, certificate, key, workers=2, more=["--tls-handshake-timeout", "2"])
    yield server
    assert server.stop(15) == 0
    assert not server.sanitizer_report()


def test_versions_and_protocol(server):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = server.context()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with server.open(context) as tls:
            assert tls.selected_alpn_protocol() == "http/1.1"
    context = server.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.open(context)


def test_plain_http_garbage_and_silence_are_refused_and_counted(server):
    before = server.metric("tls_handshakes_failed")
    for bytes_ in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x00garbage" * 40, b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
            plain.sendall(bytes_)
            while plain.recv(4096):  # an alert, perhaps, then the end; no reset
                pass
    assert server.metric("tls_handshakes_failed") == before + 3


async def test_events_small_and_large_reach_a_websocket_that_reads_late(server):
    async def main():
        async with websockets.connect(f"wss://localhost:{server.port}/ws", ssl=server.context(), max_size=None) as ws:
            await ws.send(json.dumps({"request": {"method": "subscribe", "arguments": {"topics": ["t"]}, "call_id": "1"}}))
            await ws.recv()
            sizes = [1, 20000, 900000] * 6
            for size in sizes:
                body = json.dumps({"entries": [{"url": "", "topics": ["t"], "data": {"x": "y" * size}, "dst_path": "/"}], "reason": ""}).encode()
                assert b" 200 " in (await asyncio.to_thread(server.ask, "POST", "/data/config", body))[:20]
            await asyncio.sleep(0.3)
            got = [len(json.loads(await asyncio.wait_for(ws.recv(), 20))["request"]["arguments"]["data"]["entries"][0]["data"]["x"]) for _ in sizes]
            assert got == sizes
    await main()


def test_reload_keeps_clients_and_a_broken_certificate_keeps_the_old(server, folder):
    old = ssl.get_server_certificate(("127.0.0.1", server.port))
    original, original_key = server.certificate.read_bytes(), (folder / "first.key").read_bytes()
    with server.open() as held:
        server.certificate.write_bytes(b"no certificate\n")
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("the new certificate is not usable, the old one stays", 10)
        assert ssl.get_server_certificate(("127.0.0.1", server.port)) == old
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)  # its successor has the last good one
        wait_until(lambda: len(server.worker_pids()) == 2 and victim not in server.worker_pids(), 20, "a new worker")
        certificate, key = make_certificate(folder, "second")
        (folder / "first.key").write_bytes(key.read_bytes())
        server.certificate.write_bytes(certificate.read_bytes())
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: all(ssl.get_server_certificate(("127.0.0.1", server.port)) != old for _ in range(4)), 20, "the new certificate")
        del held
    (folder / "first.key").write_bytes(original_key)
    server.certificate.write_bytes(original)
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: all(ssl.get_server_certificate(("127.0.0.1", server.port)) == old for _ in range(4)), 20, "the first certificate")


def test_short_records_that_a_client_asks_for(server):
    """max_fragment_length (RFC 6066, 4): an answer of many records is whole."""
    def answer(*options):
        done = subprocess.run(["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{server.port}", "-CAfile", server.certificate, *options], capture_output=True,
                              input=b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", timeout=30)
        return done.stdout.split(b"\r\n\r\n", 1)[1]
    whole = server.ask(target="/openapi.json").split(b"\r\n\r\n", 1)[1]
    assert len(whole) > 4096 and json.loads(whole)
    for version in ("-tls1_2", "-tls1_3"):
        for length in ("512", "4096"):
            assert answer(version, "-maxfraglen", length) == whole


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def v2_with_checksum(source, port, change=0):
    start = v2(source, port)
    header = start[:14] + struct.pack("!H", 12 + 7) + start[16:] + b"\x03\x00\x04"
    return header + struct.pack("!I", crc32c(header + bytes(4)) ^ change)


def v2(source, port, command=0x21):
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([command, 0x11]) + struct.pack("!H", 12) + socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", port, 443)


def test_proxy_headers_before_tls(tmp_path):
    certificate, key = make_certificate(tmp_path, "proxied")
    server = TlsOpald(tmp_path, certificate, key, more=["--proxy-protocol-from", "127.0.0.0/8,fd00::/8", "--tls-handshake-timeout", "2"])
    try:
        for header in (v2("10.9.8.7", 4711), b"PROXY TCP4 10.9.8.6 127.0.0.1 4712 443\r\n", v2("1.2.3.4", 1, 0x20), b"PROXY UNKNOWN\r\n", v2_with_checksum("10.9.8.2", 4)):
            assert b" 200 " in server.ask(before=header)[:20]
        server.ask(target="/not-there", before=v2("10.9.8.7", 4711))
        server.wait_for_log("10.9.8.7:4711", 5)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:  # the first refusal: its line is not held back
            plain.sendall(v2("10.9.8.3", 3) + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            while plain.recv(4096):
                pass
        server.wait_for_log("10.9.8.3:3: refused: TLS handshake: plain HTTP on the TLS port", 10)
        with server.open(before=v2("10.9.8.5", 5)):  # in pieces
            pass
        pieces = v2("10.9.8.4", 4)
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in pieces:
            plain.sendall(bytes([byte]))
            time.sleep(0.002)
        with server.context().wrap_socket(plain, server_hostname="localhost"):
            pass
        bad = [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4 1 2 3\r\n", b"PROXY TCP4 1.2.3.4", b"PROXY " + b"x" * 200, v2("1.1.1.1", 1, 0x2f),
               v2_with_checksum("1.1.1.1", 1, change=1)]
        for bytes_ in bad:
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
                plain.sendall(bytes_)
                while plain.recv(4096):
                    pass
        assert server.metric("proxy_headers_refused", before=v2("10.0.0.1", 1)) == len(bad)
    finally:
        assert server.stop(15) == 0
        assert not server.sanitizer_report()


def trusting(certificate):
    """Environment of an opal-client that trusts this certificate and no public one."""
    return {"OPAL_CLIENT_SELF_SIGNED_CERTIFICATES_ALLOWED": "true", "OPAL_CLIENT_SSL_CONTEXT_TRUSTED_CA_FILE": certificate}


@pytest.fixture
def through_haproxy(tmp_path):
    """A server with TLS and keys of its own behind haproxy, by deploy/haproxy.cfg with both of its options; haproxy connects from 127.0.0.9."""
    haproxy = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    if not haproxy:
        pytest.skip("haproxy is not installed here")
    certificate, key = make_certificate(tmp_path, "behind")
    pair = KeyPair.make()
    server = TlsOpald(tmp_path, certificate, key, more=["--proxy-protocol-from", "127.0.0.9"], env=pair.environment())
    front = free_port()
    config = (ROOT / "deploy" / "haproxy.cfg").read_text()
    given, count = re.subn("#default-server ", "default-server source 127.0.0.9 ", config)
    assert count == 2
    given = given.replace("send-proxy-v2 ", "send-proxy-v2 proxy-v2-options crc32c ")
    given = re.sub(r"    server opald-2 .*", "", given)
    (tmp_path / "haproxy.cfg").write_text(given)
    env = {"OPALD_FRONT": f"127.0.0.1:{front}", "OPALD_SERVER_1": f"127.0.0.1:{server.port}", "OPALD_NAME": "localhost", "OPALD_CA": str(certificate)}
    checked = subprocess.run([haproxy, "-c", "-f", tmp_path / "haproxy.cfg"], env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    assert checked.returncode == 0, checked.stdout.decode()
    proxy = Process("haproxy", [haproxy, "-db", "-f", tmp_path / "haproxy.cfg"], tmp_path, env)
    try:
        server.wait_for_log('"GET /readyz HTTP/1', 20)
        yield server, front, pair
    finally:
        proxy.kill()
        status = server.stop(15)
    assert status == 0 and not server.sanitizer_report()


@pytest.mark.limit(120)
def test_real_client_in_secure_mode_through_haproxy(through_haproxy, tmp_path):
    server, front, pair = through_haproxy
    source = DataSource()
    url = source.serve("/users", {"alice": "admin"})
    callback = {"method": "post", "headers": {"content-type": "application/json", "authorization": f"Bearer {pair.token()}"}, "process_data": False}
    client = OpalClient(tmp_path, front, env={"OPAL_SERVER_URL": f"https://localhost:{front}", "OPAL_CLIENT_TOKEN": pair.token(),
                                              "OPAL_SHOULD_REPORT_ON_DATA_UPDATES": "true", "OPAL_DEFAULT_UPDATE_CALLBACK_CONFIG": json.dumps(callback),
                                              **trusting(server.certificate)})
    try:
        client.wait_connected()
        token = pair.token("datasource")
        server.update({"url": url, "topics": ["policy_data"], "dst_path": "/users"}, token)
        client.wait_stored("users", {"alice": "admin"})
        server.wait_for_log('"POST /data/callback_report HTTP/1.1" 200', 40)
        # the callback and both websockets: the client's own address, not haproxy's
        log = server.log()
        accepted = re.findall(r"(\S+):(\d+) - \"WebSocket /ws\S*\" \[accepted\]", log)
        assert len(accepted) >= 2 and {host for host, _ in accepted} == {"127.0.0.1"}, accepted
        assert re.search(r"127\.0\.0\.1:\d+ - \"POST /data/callback_report", log)
        assert not re.search(r"127\.0\.0\.9:\d+ - \"(?!GET /readyz)", log)  # the health check is haproxy's own
        body = server.ask(target="/pubsub_client_info", token=pair.token()).split(b"\r\n\r\n", 1)[1].decode()
        assert "127.0.0.9" not in body
        for _, port in accepted:
            assert port in body, body
    finally:
        client.kill()
        source.close()


@pytest.mark.limit(90)
def test_real_client_with_a_certificate_of_ones_own(server, tmp_path):
    """Without a load balancer; one that does not trust the certificate gets nothing."""
    client = OpalClient(tmp_path, server.port, env={"OPAL_SERVER_URL": f"https://localhost:{server.port}", **trusting(server.certificate)})
    try:
        client.wait_connected()
        server.update({"url": "", "topics": ["policy_data"], "dst_path": "/inline", "data": {"x": [1]}})
        client.wait_stored("inline", {"x": [1]})
        failed = server.metric("tls_handshakes_failed")
        stranger = OpalClient(tmp_path, server.port, env={"OPAL_SERVER_URL": f"https://localhost:{server.port}"}, name="stranger")
        try:
            wait_until(lambda: server.metric("tls_handshakes_failed") > failed, 40, "a refusal by the client")
            assert "Connected to PubSub server" not in stranger.log()
        finally:
            stranger.kill()
    finally:
        client.kill()
