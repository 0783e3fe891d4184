"""Sessions with a peer that has security, and TLS."""

import datetime
import ipaddress
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cdc.config import AerospikeSettings, TlsSettings
from cdc.errors import ConfigError, LoginRefused, PartitionUnavailable, ProtocolError
from cdc.wire import login
from cdc.wire import messages as m
from cdc.wire.connection import tls_context
from cdc.wire.query import query
from tests.fixtures.wire import Loopback, OneNode
from tests.unit.test_wire_query import framed, last, seen, serve

Start = Callable[..., tuple[Loopback, OneNode]]
SETTINGS = AerospikeSettings(user="backup", password="secret", timeout_s=2)


def secured(tokens: list[bytes], *, ttl: int | None = 3600, expired: set[bytes] = frozenset()) -> Callable:  # type: ignore[type-arg,assignment]
    """A peer's answers: each login hands out the next token; a token in `expired` is refused when it is shown."""

    def answer(n: int, kind: int, payload: bytes) -> bytes:
        if kind == m.TYPE_MESSAGE:
            return serve(payload)
        said = login.Admin.parse(payload)
        assert said.field(login.USER) == b"backup"
        if said.command == login.AUTHENTICATE:
            gone = said.field(login.SESSION_TOKEN) in expired
            return login.Admin(result=m.Result.EXPIRED_SESSION if gone else 0).pack()
        if said.field(login.CREDENTIAL) != login.credential("secret"):
            return login.Admin(result=m.Result.CREDENTIAL).pack()
        fields = [(login.SESSION_TOKEN, tokens.pop(0))]
        if ttl is not None:
            fields.append((login.SESSION_TTL, struct.pack(">I", ttl)))
        return login.Admin(fields=tuple(fields)).pack()

    return answer


def commands(peer: Loopback) -> list[int]:
    return [login.Admin.parse(p).command for kind, p in peer.requests if kind == m.TYPE_SECURITY]


def test_the_first_connection_logs_in_and_the_next_ones_show_the_token(loopback: Start) -> None:
    peer, cluster = loopback(secured([b"one"]), SETTINGS)
    seen(query(cluster, "test", [1]))
    with cluster.connection(cluster.node), cluster.connection(cluster.node):
        assert commands(peer) == [login.LOGIN, login.AUTHENTICATE]


def test_a_session_that_the_server_has_dropped_is_renewed(loopback: Start) -> None:
    peer, cluster = loopback(secured([b"one", b"two"], expired={b"one"}), SETTINGS)
    with cluster.connection(cluster.node), cluster.connection(cluster.node):
        assert commands(peer) == [login.LOGIN, login.AUTHENTICATE, login.LOGIN]


def test_a_session_is_renewed_before_its_time_to_live_is_over(loopback: Start) -> None:
    peer, cluster = loopback(secured([b"one", b"two"], ttl=0), SETTINGS)
    with cluster.connection(cluster.node), cluster.connection(cluster.node):
        assert commands(peer) == [login.LOGIN, login.LOGIN]


@pytest.mark.parametrize("result", [m.Result.EXPIRED_SESSION, m.Result.NOT_AUTHENTICATED])
def test_a_query_that_is_told_of_an_expired_session_logs_in_again(loopback: Start, result: int) -> None:
    secure = secured([b"one", b"two"])
    refused: list[int] = []

    def answer(n: int, kind: int, payload: bytes) -> bytes:
        if kind == m.TYPE_MESSAGE and not refused:
            refused.append(n)
            return framed(last(result))
        said: bytes = secure(n, kind, payload)
        return said

    peer, cluster = loopback(answer, SETTINGS)
    assert seen(query(cluster, "test", [1])) == [1]
    assert commands(peer) == [login.LOGIN, login.LOGIN]


def test_a_wrong_password_is_a_refused_login(loopback: Start) -> None:
    wrong = AerospikeSettings(user="backup", password="other", timeout_s=2)
    _, cluster = loopback(secured([]), wrong)
    with pytest.raises(LoginRefused, match="CREDENTIAL"):
        list(query(cluster, "test", [1]))


def test_a_server_without_security_needs_no_session(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        if kind == m.TYPE_MESSAGE:
            return serve(payload)
        return login.Admin(result=m.Result.SECURITY_NOT_CONFIGURED).pack()

    _, cluster = loopback(answer, SETTINGS)
    assert seen(query(cluster, "test", [1])) == [1]


def test_external_authentication_sends_the_password_in_clear_too(loopback: Start) -> None:
    peer, cluster = loopback(secured([b"one"]), SETTINGS.model_copy(update={"auth": "external"}))
    seen(query(cluster, "test", [1]))
    assert login.Admin.parse(peer.requests[0][1]).field(login.CLEAR_PASSWORD) == b"secret"


@pytest.mark.parametrize(
    "answer",
    [login.Admin().pack(), m.frame(m.TYPE_SECURITY, b"short"), m.frame(m.TYPE_MESSAGE, bytes(16))],
    ids=["no token", "cut", "no admin message"],
)
def test_nonsense_for_a_login_is_a_protocol_error(loopback: Start, answer: bytes) -> None:
    _, cluster = loopback(lambda n, kind, payload: answer, SETTINGS)
    with pytest.raises(ProtocolError):
        list(query(cluster, "test", [1]))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for node.example that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node.example")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("node.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def over_tls(loopback: Start, certificate: tuple[Path, Path], tls: TlsSettings) -> OneNode:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, certificate))
    settings = AerospikeSettings(timeout_s=2, tls=tls)
    return loopback(lambda n, kind, payload: serve(payload), settings, context)[1]


def test_frames_go_over_tls_to_a_node_that_shows_the_right_name(
    loopback: Start, certificate: tuple[Path, Path]
) -> None:
    cluster = over_tls(loopback, certificate, TlsSettings(enabled=True, name="node.example", ca_file=certificate[0]))
    for _ in range(2):  # the second time over the kept connection
        assert sorted(seen(query(cluster, "test", range(4096), connections=1))) == list(range(4096))


@pytest.mark.parametrize("tls", [{"name": "other.example"}, {"name": "node.example", "ca_file": None}])
def test_a_node_with_a_wrong_certificate_is_not_talked_to(
    loopback: Start, certificate: tuple[Path, Path], tls: dict[str, str | None]
) -> None:
    settings = TlsSettings(**{"enabled": True, "ca_file": certificate[0]} | tls)  # type: ignore[arg-type]
    cluster = over_tls(loopback, certificate, settings)
    with pytest.raises(PartitionUnavailable, match="certificate"):
        list(query(cluster, "test", [1], retries=0))


def test_a_missing_certificate_file_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        tls_context(TlsSettings(enabled=True, ca_file=tmp_path / "none.pem"))
    assert tls_context(TlsSettings()) is None
