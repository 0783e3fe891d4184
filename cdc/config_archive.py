"""The settings of an archive, of which there may be several: [archive] and each [destinations.NAME]."""

import os.path
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, model_validator

from cdc.config_section import Seconds, Section
from cdc.errors import ConfigError

MAIN = "main"
"""The destination that [archive] is."""


def _destination_name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value):
        raise ValueError("a destination's name is a small letter, then at most 31 of small letters, digits and hyphens")
    if value == MAIN:
        raise ValueError(f"{MAIN} is what [archive] is called; give another destination another name")
    return value


DestinationName = Annotated[str, AfterValidator(_destination_name)]


def _url(value: str) -> str:
    if value and not re.match(r"(s3|gs|az)://[^/]+", value):
        raise ValueError("a bucket is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")
    return value


class EncryptionSettings(Section):
    """Encryption of the archive at rest. At most one of these names the key: 32 bytes, plain, in hex or in base64.
    It is decided when an archive is begun; `aerospike-cdc rekey` changes the key later."""

    key_file: Path | None = None
    """A file with the key; a relative one is beside this file."""
    key_env: str = ""
    """An environment variable with the key."""
    key_command: tuple[str, ...] = ()
    """A command that prints the key, word by word: for a vault or a key management service."""

    @property
    def enabled(self) -> bool:
        """Whether a key is named."""
        return self.key_file is not None or bool(self.key_env) or bool(self.key_command)

    @model_validator(mode="after")
    def _one_key(self) -> "EncryptionSettings":
        if (self.key_file is not None) + bool(self.key_env) + bool(self.key_command) > 1:
            raise ValueError("name the key once: key_file, key_env or key_command")
        return self


class RetentionSettings(Section):
    """How long an archive leads back. Nothing is removed that a moment still kept needs."""

    changes_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """Every moment of so many days stays recoverable; before that only restore sets do. 0: every moment for ever."""
    hourly_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """The first restore set of every hour stays for so many days."""
    daily_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """The first of every day (UTC)."""
    weekly_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """The first of every week (Monday, UTC)."""
    monthly_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """The first of every month (UTC)."""
    minimum_sets: Annotated[int, Field(ge=1, le=10_000)] = 2
    """So many restore sets stay, however old."""
    grace_s: Annotated[float, Field(ge=0, le=31_536_000)] = 7200.0
    """What nothing needs any more is removed after so many seconds: longer than any restore takes."""
    every_s: Annotated[float, Field(ge=0, le=31_536_000)] = 3600.0
    """While `run` works, the archive is pruned this often, in seconds; 0: only by `prune`."""


class ArchiveSettings(Section):
    """Where segments and restore sets are kept."""

    path: Path = Path("archive")
    """Directory of the archive; a relative one is beside this file."""
    url: Annotated[str, AfterValidator(_url)] = ""
    """A bucket instead of the directory: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."""
    options: dict[str, str] = {}
    """The bucket's settings in obstore's words, such as endpoint, region, account_name; else from the environment."""
    secrets: dict[str, SecretStr] = {}
    """The same for what must never be printed, such as secret_access_key, account_key, service_account_key."""
    requests: Annotated[int, Field(ge=1, le=256)] = 16
    """Requests to the bucket at a time."""
    timeout_s: Seconds = 60.0
    """After how long an unanswered request to the bucket counts as failed, in seconds."""
    retry_s: Seconds = 120.0
    """For how long a failed request to the bucket is tried again, in seconds."""
    zstd_level: Annotated[int, Field(ge=1, le=19)] = 3
    """Compression level. Segments straight from Kafka take 2 at the most, until they are merged."""
    block_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 24)] = 512 << 10
    """Size of a block before compression: one record's look-up reads one. Small ones compress worse."""
    verify_every_s: Annotated[float, Field(ge=0, le=31_536_000)] = 0.0
    """While `run` works, what is new in the archive is read again and verified this often, in seconds; 0: never."""
    encryption: EncryptionSettings = EncryptionSettings()
    retention: RetentionSettings = RetentionSettings()
    _destination: str = PrivateAttr(default=MAIN)

    @property
    def place(self) -> str:
        """Where the archive is, for people."""
        return self.url or str(self.path)

    @property
    def destination(self) -> str:
        """Which of the destinations this is."""
        return self._destination

    @property
    def section(self) -> str:
        """Where in the settings this is said."""
        return "archive" if self._destination == MAIN else f"destinations.{self._destination}"

    def soon(self, seconds: float) -> Self:
        """The same for somebody who would rather not know than wait for longer than about so many seconds."""
        limits = {"timeout_s": min(seconds, self.timeout_s), "retry_s": min(seconds, self.retry_s)}
        return self.model_copy(update=limits)

    def called(self, name: str) -> Self:
        """The same as the destination of this name."""
        named = self.model_copy()
        named._destination = name
        return named


class DestinationSettings(ArchiveSettings):
    """One more destination beside [archive] (which is `main`), with all of its settings, each with a value of its own:
    an archive that is complete without the others. Its path or its url must be named."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if not self.model_fields_set & {"path", "url"}:
            raise ValueError("name its path or its url")
        return self


def apart(archives: Sequence[ArchiveSettings]) -> None:
    """Raises ConfigError where one archive lies at or within another's place: to either, what the other wrote would be
    garbage. Paths are compared as they are, so let them be absolute."""
    places = [(one.destination, one.place, _parts(one)) for one in archives]
    for i, (name, place, parts) in enumerate(places):
        for other, _, others in places[:i]:
            shorter = min(len(parts), len(others))
            if parts[:shorter] == others[:shorter]:
                how = "the same place" if len(parts) == len(others) else "one within the other"
                raise ConfigError(
                    f"the destinations {other} and {name} are {how}: {place}",
                    "Give each a directory, or a bucket and prefix, of its own.",
                )


def _parts(archive: ArchiveSettings) -> tuple[str, ...]:
    """The place part by part; of a bucket with what tells apart those that bear one name."""
    if not archive.url:
        return ("", *Path(os.path.normpath(archive.path)).parts)
    scheme, _, rest = archive.url.partition("://")
    apart = sorted(f"{k}={v}" for k, v in archive.options.items() if k.endswith(("endpoint", "account_name")))
    return (scheme, " ".join(apart), *filter(None, rest.split("/")))
