"""Whether a store can be used is known within seconds, whatever its kind, and first runs on an empty one may meet."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dp_train.errors import TrackingError
from dp_train.tracking import connection
from dp_train.tracking.connection import absolute_uri
from dp_train.tracking.store import TrackingStore


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("kind", ["postgresql", "http", "https"])
def test_a_closed_port_is_one_line_at_once(kind: str) -> None:
    uri = f"{kind}://user:hunter2@127.0.0.1:{closed_port()}/runs"
    begun = time.monotonic()
    for ask in (TrackingStore.see, TrackingStore.open):
        with pytest.raises(TrackingError, match="does not answer") as error:
            ask(uri)
        assert "\n" not in str(error.value)
        assert "hunter2" not in str(error.value)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("kind", ["postgresql", "http"])
def test_a_store_that_accepts_and_says_nothing_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"{kind}://127.0.0.1:{silent.getsockname()[1]}/runs"
        with pytest.raises(TrackingError, match=r"does not answer within 0\.5 s"):
            TrackingStore.see(uri)


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(TrackingError, match=r"no driver for mysql is installed \(MySQLdb\)"):
        TrackingStore.see("mysql://127.0.0.1/runs")


def test_an_address_of_postgresql_takes_the_driver_that_is_there(tmp_path: Path) -> None:
    assert absolute_uri("postgresql://h/runs", tmp_path) == "postgresql+psycopg://h/runs"
    assert absolute_uri("postgresql+psycopg2://h/runs", tmp_path) == "postgresql+psycopg2://h/runs"


def test_looking_makes_no_database(tmp_path: Path) -> None:
    TrackingStore.see(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server whose certificate nobody else vouches for, and the file of that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, both = tmp_path / "public.pem", tmp_path / "both.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(public.read_bytes() + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", public
    server.shutdown()
    server.server_close()


def test_a_private_certificate_is_accepted_where_mlflows_own_client_accepts_it(
    private_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, certificate = private_server
    with pytest.raises(TrackingError, match="certificate that is not trusted; set MLFLOW_TRACKING_SERVER_CERT_PATH"):
        TrackingStore.see(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    TrackingStore.see(uri)


def _first_run(url: str) -> None:
    store = TrackingStore.open(url)
    with store.start_run(store.experiment("shared"), name="one"):
        pass


def test_two_first_runs_on_an_empty_postgresql_both_log(postgres_url: str) -> None:
    context = processes.context()
    workers = [context.Process(target=_first_run, args=(postgres_url,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(TrackingStore.open(postgres_url).runs(experiment="shared")) == 2


def test_a_database_whose_making_was_cut_off_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db import utils

    def killed(engine: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(utils, "_initialize_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            TrackingStore.open(f"sqlite:///{tmp_path / 'm.db'}")
    assert {path.name for path in tmp_path.iterdir()} <= {".m.db.lock"}
    assert TrackingStore.open(f"sqlite:///{tmp_path / 'm.db'}").experiment("e")
    assert {path.name for path in tmp_path.iterdir()} == {".m.db.lock", "m.db"}
