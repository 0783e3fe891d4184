"""An object store in a cloud, or one that speaks its protocol: S3, Google Cloud Storage, Azure Blob; through obstore.

Requests are tried again here and not in obstore, because only here is it known what an unknown outcome means: a put
whose answer was lost may have succeeded, and then finds its own object in its way.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import from_url

from cdc import metrics
from cdc.archive.store import Data, Entry
from cdc.config import MAIN
from cdc.errors import ArchiveError, ConfigError, ObjectDamaged, ObjectMissing, StoreForbidden, StoreUnreachable

R = TypeVar("R")

BACK_OFF_S: Final = 0.1
BACK_OFF_LIMIT_S: Final = 10.0
MULTIPART_BYTES: Final = 16 << 20
"""An object larger than this goes in parts, so that a lost connection costs a part."""
PART_BYTES: Final = 8 << 20
PARTS_AT_ONCE: Final = 4

_STATUS = re.compile(r"status code: (\d{3})")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_BEYOND_END = re.compile(r"Wanted range starting at \d+, but object was only")
"""What obstore finds by itself where a server answers with the wrong range, or none."""
_BUSY = {408, 409, 425, 429}
"""With every 5xx: the same request may succeed later (409: another conditional write of the name was under way)."""
_BAD_RANGE = 416


@dataclass(frozen=True, slots=True)
class Limits:
    """How a store is treated: requests at once, seconds for one of them, seconds until trying again is given up."""

    requests: int = 16
    timeout_s: float = 60.0
    retry_s: float = 120.0


class CloudStore:
    """The objects below a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.

    `options` are obstore's for that store (endpoint, region, access_key_id …); what they leave out comes from the
    environment and the machine's own role, as the cloud's own tools take it. Thread-safe.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        destination: str = MAIN,
    ) -> None:
        """Raises ConfigError for a URL or an option that obstore does not know. Nothing is asked yet. By `destination`
        the metrics tell stores apart."""
        self._destination = destination
        self.url = url.rstrip("/")
        self._limits = limits or Limits()
        self._slots = threading.BoundedSemaphore(self._limits.requests)
        given = dict(options or {})
        endpoint = given.get("endpoint", given.get("aws_endpoint", given.get("azure_storage_endpoint", "")))
        client: Any = {
            "timeout": timedelta(seconds=self._limits.timeout_s),
            "connect_timeout": timedelta(seconds=min(10.0, self._limits.timeout_s)),
            "allow_http": endpoint.startswith("http://") or '"http://' in given.get("service_account_key", ""),
        }
        try:
            self._store: Any = from_url(self.url, config=given, client_options=client, retry_config={"max_retries": 0})  # type: ignore[call-overload]
        except (BaseError, ValueError) as error:
            hint = "Options are obstore's configuration keys of this kind of store."
            kind = "option" if isinstance(error, UnknownConfigurationKeyError) else "URL"
            raise ConfigError(f"{self.url}: {kind} not usable: {_first_line(error)}", hint) from error

    def __repr__(self) -> str:
        return f"CloudStore({self.url!r})"

    def check(self) -> None:
        """Ask for a listing, so that a bucket that is not there or may not be read is told at once."""
        self._request("list", "", lambda: self._first_listed())

    def put(self, name: str, data: Data) -> None:
        """See Store."""
        large = memoryview(data).nbytes > MULTIPART_BYTES
        self._request(
            "put", name,
            lambda: obstore.put(
                self._store, name, bytes(data), use_multipart=large, chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            ),
            sent=memoryview(data).nbytes,
        )  # fmt: skip

    def put_if_absent(self, name: str, data: Data) -> bool:
        """See Store. An object of equal content that is met after an answer was lost is taken for our own."""
        attempts = 0

        def put() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                obstore.put(self._store, name, bytes(data), mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return attempts > 1 and bytes(self._store.get(name).bytes()) == bytes(data)
            return True

        return self._request("put", name, put, sent=memoryview(data).nbytes)

    def get(self, name: str) -> bytes:
        """See Store."""
        return self._request("get", name, lambda: bytes(self._store.get(name).bytes()))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        if not length:
            size = self.size(name)
            found = b""
        else:
            found = self._request("get", name, lambda: self._range(name, start, length))
            size = start + len(found)
        if size < start + length:
            raise ObjectDamaged(f"{name} has {size} bytes where {start + length} are needed")
        return found

    def size(self, name: str) -> int:
        """See Store."""
        return int(self._request("head", name, lambda: self._store.head(name)["size"]))

    def exists(self, name: str) -> bool:
        """See Store."""
        try:
            self.size(name)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str) -> "list[str]":
        """See Store."""
        return self._request(
            "list", prefix, lambda: sorted(str(meta["path"]) for chunk in self._store.list(prefix) for meta in chunk)
        )

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See Store."""

        def ask() -> Sequence[Entry]:
            every = (meta for chunk in self._store.list(prefix) for meta in chunk)
            return sorted(
                Entry(str(m["path"]), int(m["size"]), int(m["last_modified"].timestamp() * 1000)) for m in every
            )

        return self._request("list", prefix, ask)

    def delete(self, name: str) -> None:
        """See Store."""
        try:
            self._request("delete", name, lambda: self._store.delete(name))
        except ObjectMissing:
            return  # some clouds say so and some do not; it is gone

    def _first_listed(self) -> None:
        for _ in self._store.list(chunk_size=1):
            return

    def _range(self, name: str, start: int, length: int) -> bytes:
        try:
            return bytes(self._store.get_range(name, start=start, length=length))
        except BaseError as error:
            if _status(error) == _BAD_RANGE or _BEYOND_END.search(str(error)):
                return b""
            raise

    def _request(self, kind: str, name: str, ask: Callable[[], R], *, sent: int = 0) -> R:
        """Ask, and again after what passes, with a back-off that grows. Raises what `_said` makes of the last error."""
        namespace = name.partition("/")[0]
        began = time.monotonic()
        wait = BACK_OFF_S
        while True:
            asked = time.monotonic()
            try:
                with self._slots:
                    answer = ask()
            except (BaseError, OSError) as error:
                said, passes = _said(f"{self.url}/{name}", error)
                outcome = "failed" if passes else type(said).__name__
                metrics.STORE_REQUESTS.labels(namespace, self._destination, self.url, kind, outcome).inc()
                if not passes or time.monotonic() + wait > began + self._limits.retry_s:
                    raise said from error
            else:
                metrics.STORE_REQUESTS.labels(namespace, self._destination, self.url, kind, "ok").inc()
                metrics.STORE_SECONDS.labels(namespace, self._destination, self.url, kind).observe(
                    time.monotonic() - asked
                )
                size = sent or (len(answer) if isinstance(answer, bytes) else 0)
                metrics.STORE_BYTES.labels(namespace, self._destination, self.url, kind).inc(size)
                return answer
            # Spread out, or those that a pause held back would all come at once.
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, BACK_OFF_LIMIT_S)


def _said(name: str, error: Exception) -> tuple[ArchiveError, bool]:
    """An error of the store's in our words, and whether the same request may succeed later."""
    status, text = _status(error), _first_line(error)
    if _NO_BUCKET.search(str(error)):
        return StoreForbidden(f"{name}: there is no such bucket or container"), False
    if isinstance(error, FileNotFoundError):
        return ObjectMissing(f"{name} is not in the archive"), False
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403):
        return StoreForbidden(f"{name}: {text}"), False
    if isinstance(error, InvalidPathError) or (status is not None and status < 500 and status not in _BUSY):
        return StoreForbidden(f"{name}: {text}"), False
    return StoreUnreachable(f"{name}: {text}"), True


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _first_line(error: Exception) -> str:
    """What obstore says, without the tree of causes that it prints below it."""
    text = str(error).partition("\n")[0].partition("Debug source:")[0].strip()
    return text or type(error).__name__
