"""Kafka's jars: fetched once, checked against the pinned list beside this module, kept in the user's cache.

A jar that is not in the list is never used, and one whose SHA-256 differs is refused. Once the cache is complete
nothing here touches the network.
"""

import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path

from cdc.errors import EmbeddedKafkaFailed

VERSION = "4.3.1"
COORDINATE = f"org.apache.kafka:kafka_2.13:{VERSION}"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"  # without it Kafka logs nothing
FETCH_HINT = (
    "Run `python -m cdc.embedded.kafka fetch` where a Maven repository can be reached, or copy the cache directory "
    "from a machine that has it (AEROSPIKE_CDC_CACHE names its place)."
)


def cache_directory() -> Path:
    """Where the jars are kept: under AEROSPIKE_CDC_CACHE, else under the user's cache (XDG_CACHE_HOME)."""
    own = os.environ.get("AEROSPIKE_CDC_CACHE")
    root = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aerospike-cdc"
    return root / f"kafka-{VERSION}"


def pinned() -> dict[str, str]:
    """The SHA-256 of each jar by its file name."""
    text = resources.files("cdc.embedded").joinpath("kafka_jars.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: digest for digest, name in lines}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(directory: Path) -> list[Path]:
    """The jars in `directory`, each with the pinned hash. EmbeddedKafkaFailed when one is missing or differs."""
    jars = []
    for name, digest in pinned().items():
        path = directory / name
        if not path.is_file():
            raise EmbeddedKafkaFailed(f"Kafka's jar {name} is not in {directory}", FETCH_HINT)
        if _sha256(path) != digest:
            raise EmbeddedKafkaFailed(
                f"{path} does not have the pinned SHA-256 {digest}", f"Remove it and fetch again. {FETCH_HINT}"
            )
        jars.append(path)
    return jars


def fetch(directory: Path | None = None) -> list[Path]:
    """The checked jars, fetched first when the cache lacks one. EmbeddedKafkaFailed when that is not possible."""
    target = directory or cache_directory()
    if all((target / name).is_file() for name in pinned()):
        return checked(target)
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.env import EnvironmentBuilder, LinkStrategy
        from jgo.maven import MavenContext
    except ImportError as error:
        raise EmbeddedKafkaFailed(
            "jgo, which fetches Kafka's jars, is not installed", "Run `pip install 'aerospike-cdc[embedded]'`."
        ) from error
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            # jgo's own settings may name a mirror.
            repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
            context = MavenContext(repo_cache=Path(work) / "repository", remote_repos=repositories)
            builder = EnvironmentBuilder(
                context=context, cache_dir=Path(work) / "environment", link_strategy=LinkStrategy.HARD
            )
            # One at a time: resolved together, the second one's managed versions displace Kafka's own clients.
            builder.from_endpoint(COORDINATE)
            builder.from_endpoint(LOGGING)
            got = {path.name: path for path in (Path(work) / "environment").rglob("*.jar")}
            for name, digest in pinned().items():
                if name not in got:
                    raise EmbeddedKafkaFailed(f"{COORDINATE} came without {name}", FETCH_HINT)
                if _sha256(got[name]) != digest:
                    raise EmbeddedKafkaFailed(f"the fetched {name} does not have the pinned SHA-256 {digest}")
                got[name].replace(target / name)
    except (OSError, RuntimeError, ValueError) as error:
        raise EmbeddedKafkaFailed(f"Kafka's jars could not be fetched: {error}", FETCH_HINT) from error
    return checked(target)
