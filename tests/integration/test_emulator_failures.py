"""What the emulator does when told to fail, seen through the real client and our own reader."""

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aerospike
import numpy as np
import pytest
from aerospike import exception as refusals
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cdc import codec
from cdc.config import AerospikeSettings, TlsSettings
from cdc.embedded.aerospike import Emulator
from cdc.errors import ClusterUnreachable, LoginRefused
from cdc.model import DIGEST_SIZE, PARTITIONS
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import write
from cdc.wire.query import query

Client = Any
ALL = range(PARTITIONS)
NOW = 1_800_000_000_000


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def connect(emulator: Emulator, **config: Any) -> Client:
    hosts = [(host, int(port)) for host, _, port in (h.partition(":") for h in emulator.hosts)]
    return aerospike.client({"hosts": hosts, **config}).connect()


def fill(client: Client, count: int, set_name: str = "s") -> set[bytes]:
    keys = [("test", set_name, i) for i in range(count)]
    for key in keys:
        client.put(key, {"n": key[2]})
    return {bytes(aerospike.calc_digest(*key)) for key in keys}


def digests(frames: Iterator[Any]) -> list[bytes]:
    found = []
    for frame in frames:
        for message in m.parse_messages(np.asarray(frame).tobytes()):
            digest = message.field(m.FieldType.DIGEST)
            if digest is not None:
                found.append(digest)
    return found


def settings_for(emulator: Emulator, **more: Any) -> AerospikeSettings:
    return AerospikeSettings(hosts=tuple(emulator.hosts), timeout_s=5, **more)


def ask(host: str, command: str) -> str:
    address, _, port = host.partition(":")
    with socket.create_connection((address, int(port)), 5) as sock:
        sock.sendall(m.frame(m.TYPE_INFO, f"{command}\n".encode()))
        stream = sock.makefile("rb")
        _, size = m.parse_frame_head(stream.read(8))
        return stream.read(size).decode().partition("\t")[2].rstrip("\n")


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:  # it was closed before all that we sent was read
        return True


def test_a_partition_that_moves_in_mid_query_is_read_once_at_its_new_owner() -> None:
    with Emulator(nodes=2) as emulator:
        client = connect(emulator)
        expected = fill(client, 3000)
        moved: list[int] = []

        def move_what_comes(partition: int) -> None:
            if len(moved) < 50 and partition >= 1000:
                moved.append(partition)
                emulator.move("test", range(partition, partition + 400), to=1)

        emulator.nodes[0].faults.before_partition = move_what_comes
        with Cluster(settings_for(emulator)) as cluster:
            found = digests(query(cluster, "test", ALL, bins=False))
        client.close()
    assert moved
    assert len(found) == len(expected)
    assert set(found) == expected


def test_a_query_of_a_node_answers_unavailable_for_what_it_does_not_own() -> None:
    with Emulator(nodes=2) as emulator:
        address, _, port = emulator.hosts[0].partition(":")
        fields = [
            m.field(m.FieldType.NAMESPACE, b"test"),
            m.field(m.FieldType.PARTITIONS, b"".join(struct.pack("<H", p) for p in range(10))),
        ]
        request = m.message(m.Header(info1=m.INFO1_READ, info3=m.INFO3_PARTITION_DONE), fields)
        with socket.create_connection((address, int(port)), 5) as sock:
            sock.sendall(m.frame(m.TYPE_MESSAGE, request))
            stream = sock.makefile("rb")
            _, size = m.parse_frame_head(stream.read(8))
            answered = [message.header for message in m.parse_messages(stream.read(size))]
        mine = [p for p in range(10) if emulator.nodes[0].owns("test", p)]
    refused = [(h.generation, h.result) for h in answered if h.info3 & m.INFO3_PARTITION_DONE]
    assert refused == [(p, m.Result.UNAVAILABLE) for p in range(10) if p not in mine]
    assert 0 < len(mine) < 10


def test_a_replica_takes_over_when_a_node_dies_and_the_node_comes_back(until: Callable[..., Any]) -> None:
    with Emulator(nodes=2, replication=2) as emulator:
        client = connect(emulator, tend_interval=250)
        expected = fill(client, 500)
        emulator.kill(0)
        until(lambda: len(client.get_node_names()) == 1)
        with Cluster(settings_for(emulator)) as cluster:
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected
        emulator.restart(0)
        until(lambda: len(client.get_node_names()) == 2)
        with Cluster(settings_for(emulator)) as cluster:
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected
            assert len({node.name for node in cluster.owners("test").values()}) == 2
        client.close()


def test_one_named_host_that_is_down_keeps_nobody_from_the_others() -> None:
    with Emulator(nodes=3, replication=2) as emulator:
        hosts = tuple(emulator.hosts)
        emulator.kill(1)
        with Cluster(AerospikeSettings(hosts=hosts, timeout_s=2.0)) as cluster:
            assert [node.name for node in cluster.nodes()] == ["E0", "E2"]
            assert len(cluster.owners("test")) == PARTITIONS
            assert set(cluster.builds()) == set(cluster.nodes())
        emulator.kill(0)
        emulator.kill(2)
        with pytest.raises(ClusterUnreachable):
            Cluster(AerospikeSettings(hosts=hosts, timeout_s=2.0))


def test_a_restart_of_a_persisted_node_brings_deleted_records_back_with_their_old_lut() -> None:
    clock = Hands()
    with Emulator(persisted=True, clock=clock, nsup_period_s=0) as emulator:
        client = connect(emulator)
        key = ("test", "s", "k")
        client.put(key, {"a": 1})
        clock.now += 5000
        client.remove(key)
        before = emulator.nodes[0].stores["test"]
        assert before.objects == 0
        client.close()
        emulator.restart(0)
        (record,) = emulator.nodes[0].stores["test"].all_records()
        assert record.lut_ms == NOW
        client = connect(emulator)
        assert client.get(key)[2] == {"a": 1}
        assert "client_delete_success=0;" in ask(emulator.hosts[0], "namespace/test")
        client.close()


def test_a_record_expires_by_the_injected_clock_and_nsup_counts_it() -> None:
    clock = Hands()
    with Emulator(clock=clock, nsup_period_s=0, namespaces={"test": 60}) as emulator:
        client = connect(emulator)
        client.put(("test", "s", "k"), {"a": 1})
        clock.now += 61_000
        with pytest.raises(refusals.RecordNotFound):
            client.get(("test", "s", "k"))
        assert "expired_objects=0;" in ask(emulator.hosts[0], "namespace/test")
        assert emulator.nsup() == 1
        assert "expired_objects=1;" in ask(emulator.hosts[0], "namespace/test")
        client.close()


def test_a_skewed_node_stamps_its_own_time() -> None:
    clock = Hands()
    with Emulator(nodes=2, clock=clock, nsup_period_s=0) as emulator:
        emulator.nodes[1].step_clock(-30_000)
        client = connect(emulator)
        fill(client, 50)
        luts = [{r.lut_ms for r in node.stores["test"].all_records()} for node in emulator.nodes]
        assert luts == [{NOW}, {NOW - 30_000}]
        assert "cluster_clock_skew_ms=30000" in ask(emulator.hosts[0], "statistics")
        client.close()


def test_a_request_for_another_node_s_record_is_passed_on_unless_told_otherwise() -> None:
    with Emulator(nodes=2) as emulator:
        client = connect(emulator)
        fill(client, 20)
        emulator.move("test", ALL, to=1)  # the client learns of it with its next look only
        assert client.get(("test", "s", 3))[2] == {"n": 3}
        client.close()
        reads = [node.stores["test"].counters for node in emulator.nodes]
        assert reads[0]["client_proxy_complete"] == reads[1]["from_proxy_read_success"]
        assert reads[1]["from_proxy_read_success"] + reads[1]["client_read_success"] == 1


def test_a_cut_connection_is_asked_again() -> None:
    with Emulator() as emulator:
        client = connect(emulator)
        expected = fill(client, 200)
        emulator.nodes[0].faults.cut_frames = 1
        with Cluster(settings_for(emulator)) as cluster:
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected
        assert emulator.nodes[0].faults.cut_frames == 0
        client.close()


def test_refusals_that_pass_are_retried_by_the_reader() -> None:
    with Emulator() as emulator:
        client = connect(emulator)
        expected = fill(client, 200)
        emulator.nodes[0].faults.refuse_queries.extend([m.Result.FORBIDDEN])
        with Cluster(settings_for(emulator)) as cluster:
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected
        assert not emulator.nodes[0].faults.refuse_queries
        client.close()


def test_a_slow_node_is_slow() -> None:
    with Emulator() as emulator:
        emulator.nodes[0].faults.delay_s = 0.3
        started = time.monotonic()
        assert ask(emulator.hosts[0], "status") == "ok"
        assert time.monotonic() - started >= 0.3


def test_a_write_is_told_how_long_each_of_its_batches_waited_for_a_slow_node() -> None:
    with Emulator() as emulator, Cluster(settings_for(emulator)) as cluster:
        digests, took = np.arange(60, dtype=np.uint8).reshape(3, DIGEST_SIZE), list[float]()
        emulator.nodes[0].faults.delay_s = 0.3
        write(
            cluster, "test", digests, lambda rows: codec.batch_removes(digests[rows], b"test"), batch_records=1,
            took=took.append,
        )  # fmt: skip
        assert len(took) == 3
        assert min(took) >= 0.3


def test_logins_work_for_the_official_client_and_for_ours_and_wrong_passwords_for_neither() -> None:
    with Emulator(users={"backup": "geheim"}) as emulator:
        client = connect(emulator, user="backup", password="geheim")
        expected = fill(client, 100)
        with Cluster(settings_for(emulator, user="backup", password="geheim")) as cluster:
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected
            emulator.accounts.expire_sessions()
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected
        with pytest.raises(refusals.AerospikeError):
            connect(emulator, user="backup", password="falsch")
        with pytest.raises(LoginRefused):
            Cluster(settings_for(emulator, user="backup", password="falsch"))
        assert ask(emulator.hosts[0], "namespaces") == "ERROR:80:not authenticated"
        client.close()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_file, key_file


def test_both_clients_talk_to_two_nodes_over_tls(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path, "emulator.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    with Emulator(nodes=2, tls=context, tls_name="emulator.example") as emulator:
        tls = TlsSettings(enabled=True, name="emulator.example", ca_file=cert_file)
        with Cluster(settings_for(emulator, tls=tls)) as cluster:
            expected = fill(cluster.client, 50)
            assert len(cluster.nodes()) == 2
            assert set(digests(query(cluster, "test", ALL, bins=False))) == expected


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.0\r\n\r\n", b"\x02\x03" + b"\xff" * 6, b"\x02\x09\0\0\0\0\0\0"])
def test_junk_ends_its_own_connection_only(junk: bytes) -> None:
    with Emulator() as emulator:
        address, _, port = emulator.hosts[0].partition(":")
        with socket.create_connection((address, int(port)), 5) as sock:
            sock.sendall(junk)
            assert ended(sock)
        assert ask(emulator.hosts[0], "status") == "ok"


def test_a_thread_s_own_failure_surfaces_when_the_emulator_closes() -> None:
    def fail(partition: int) -> None:
        raise ArithmeticError("told to")

    emulator = Emulator()
    emulator.start()
    emulator.nodes[0].faults.before_partition = fail
    client = connect(emulator)
    with pytest.raises(refusals.AerospikeError):
        client.query("test", "s").foreach(lambda record: None, {"max_retries": 0, "total_timeout": 2000})
    client.close()
    with pytest.raises(ArithmeticError):
        emulator.close()
