"""An archive of one namespace in a store: its format, its manifests, and what they lead to.

<namespace>/format.json                              version, namespace, number of shards
<namespace>/shard-0000/segments/<name>.avro, .idx    versions from Kafka
<namespace>/shard-0000/sets/<name>.avro, .idx        the segments of restore sets
<namespace>/shard-0000/sets/<name>.json              what a restore set consists of
<namespace>/shard-0000/manifests/<sequence>.json     20 digits; the highest is what counts
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cdc.archive import listings, manifests, merged, views, windows
from cdc.archive.listings import Listing
from cdc.archive.manifests import Manifest, RestoreSet
from cdc.archive.store import Store
from cdc.archive.versions import Versions
from cdc.archive.views import View
from cdc.archive.windows import Hole, Window
from cdc.errors import CommitLost, ConfigError, ObjectDamaged, ObjectMissing
from cdc.model import U8

LISTINGS: Final = 64
"""So many listings are remembered: a restore asks for those of a few sets again and again."""


class Archive:
    """One namespace's archive. Every call sees what was committed before it: only listings, which never change, are
    remembered. Thread-safe."""

    def __init__(self, store: Store, namespace: str, shards: int) -> None:
        """Use `open` or `create`, which look at the format first."""
        self.store = store
        self.namespace = namespace
        self.shards = shards
        self._listings: OrderedDict[str, Listing] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, store: Store, namespace: str) -> "Archive":
        """An archive that is there. Raises ObjectMissing, ObjectDamaged (also where all but its format is there),
        FormatTooNew."""
        name = f"{namespace}/format.json"
        try:
            data = store.get(name)
        except ObjectMissing as error:
            _refuse_remains(store, namespace)
            raise ObjectMissing(
                f"the archive holds nothing of the namespace {namespace}",
                "Check archive.path and aerospike.namespace; `compact` creates the archive.",
            ) from error
        return cls(store, namespace, _shards(data, name, namespace))

    @classmethod
    def create(cls, store: Store, namespace: str, shards: int) -> "Archive":
        """The same, made if it is not there. Raises ConfigError if it is there with another number of shards, and
        ObjectDamaged where manifests are there and no format: they may be of another number, and would be lost by it.
        """
        _refuse_remains(store, namespace)
        write_format(store, namespace, shards)
        archive = cls.open(store, namespace)
        if archive.shards != shards:
            raise ConfigError(
                f"the archive of {namespace} has {archive.shards} shards, the settings say {shards}",
                "Set collector.shards to the archive's number, or begin another archive.",
            )
        return archive

    def directory(self, shard: int, kind: str) -> str:
        """Where a shard's `segments`, `sets` or `manifests` are."""
        return f"{self.namespace}/shard-{shard:04d}/{kind}"

    def shard(self, shard: int) -> Manifest | None:
        """The shard's last manifest; None before the first. Raises ObjectDamaged, FormatTooNew."""
        names = [n for n in self.store.list(self.directory(shard, "manifests")) if n.endswith(".json")]
        return self.read(shard, names[-1])[0] if names else None

    def all_shards(self) -> list[Manifest | None]:
        """Every shard's last manifest."""
        return [self.shard(k) for k in range(self.shards)]

    def as_of(self, named: Iterable[tuple[int, int, str]]) -> list[Manifest | None]:
        """The manifests that are named by shard, sequence and SHA-256; None for a shard of which none is.

        Raises ObjectMissing where one was pruned, ObjectDamaged where another stands in its place, FormatTooNew.
        """
        found: list[Manifest | None] = [None] * self.shards
        for shard, sequence, sha256 in named:
            name = self._name(shard, sequence)
            manifest, digest = self.read(shard, name)
            if digest != sha256:
                raise ObjectDamaged(f"{name} is not the manifest that it was")
            found[shard] = manifest
        return found

    def windows(self) -> list[Window]:
        """The namespace's recoverable windows, in order of time."""
        return windows.namespace_windows(self.all_shards())

    def holes(self) -> list[Hole]:
        """What lies between them, and why."""
        return windows.namespace_holes(self.all_shards())

    def commit(self, manifest: Manifest) -> Manifest:
        """Make what `shard` answered, with changes, the shard's next manifest; returns it as it stands now.

        Everything it names must have been written. Raises CommitLost if another manifest came first.
        """
        try:
            previous = self._bytes(manifest.shard, manifest.sequence) if manifest.sequence else None
        except ObjectMissing as error:  # whoever was suspended for so long has others' manifests before its own
            raise CommitLost(f"{error.message}: it was pruned, because others followed it") from error
        following = manifests.following(manifest, previous)
        data = manifests.encode(following)
        name = self._name(manifest.shard, following.sequence)
        if not self.store.put_if_absent(name, data) and self.store.get(name) != data:
            raise CommitLost(f"{name} was committed by another compactor")
        return following

    def amend(
        self,
        shard: int,
        edit: Callable[[Manifest], Manifest | None],
        known: Manifest | None = None,
        wrote: str = "",
    ) -> Manifest | None:
        """Commit what `edit` makes of the shard's newest manifest; None when it makes nothing, and nothing is written.

        Several may work on a shard: whoever comes second is given the manifest that came first, and says what it makes
        of that one. `known` saves a look while nobody else was here. `wrote` names the oldest object that is new.
        Raises what `edit` raises, and CommitLost where a prune took that one before it was named.
        """
        newest = known or self.shard(shard) or self.first(shard)
        while True:
            amended = edit(newest)
            if amended is None:
                return None
            if wrote and not self.store.exists(wrote):
                raise CommitLost(f"{wrote} was pruned before a manifest named it: that took longer than the grace")
            try:
                return self.commit(amended)
            except CommitLost:
                newest = self.shard(shard) or self.first(shard)

    def view(self, shard: int, at: int) -> View:
        """What a restore of the shard to `at` reads. Raises NotRecoverable outside its windows."""
        manifest = self.shard(shard)
        return views.view(manifest or self.first(shard), at, self.listing)

    def listing(self, made: RestoreSet) -> Listing:
        """What a restore set consists of. Raises ObjectMissing, ObjectDamaged, FormatTooNew."""
        with self._lock:
            known = self._listings.get(made.listing_sha256)
            if known is not None:
                self._listings.move_to_end(made.listing_sha256)
                return known
        found = listings.decode(self.store.get(made.listing), made)
        with self._lock:
            self._listings[made.listing_sha256] = found
            if len(self._listings) > LISTINGS:
                self._listings.popitem(last=False)
        return found

    def versions(
        self, view: View, low: bytes | None = None, high: bytes | None = None, *, digests: U8 | None = None
    ) -> Iterator[Versions]:
        """A view's versions in order of (digest, offset), in batches that never split a digest: `merged.stream`."""
        return merged.stream(self.store, view, low, high, digests=digests)

    def first(self, shard: int) -> Manifest:
        """What stands before a shard's first manifest: nothing, at sequence 0."""
        return Manifest(namespace=self.namespace, shard=shard, shards=self.shards)

    def chain(self, shard: int) -> Iterator[Manifest]:
        """Every manifest of a shard that is kept, newest first, each checked against the hash that its successor has.

        Raises ObjectDamaged, or ObjectMissing where the chain has a gap.
        """
        names = [n for n in self.store.list(self.directory(shard, "manifests")) if n.endswith(".json")]
        if not names:
            return
        manifest, _ = self.read(shard, names[-1])
        yield manifest
        first = manifest.first_kept
        while manifest.sequence > first:
            name, expected = self._name(shard, manifest.sequence - 1), manifest.previous
            manifest, digest = self.read(shard, name)
            if digest != expected:
                raise ObjectDamaged(f"{name} is not the manifest that its successor followed")
            yield manifest

    def manifest(self, shard: int, sequence: int) -> Manifest:
        """A shard's manifest of this number. Raises ObjectMissing, ObjectDamaged, FormatTooNew."""
        return self.read(shard, self._name(shard, sequence))[0]

    def read(self, shard: int, name: str) -> tuple[Manifest, str]:
        """A shard's manifest of this name, and the SHA-256 of its bytes. Raises ObjectMissing, ObjectDamaged."""
        data = self.store.get(name)
        manifest = manifests.decode(data, name)
        said = (manifest.namespace, manifest.shard, manifest.shards, self._name(shard, manifest.sequence))
        if said != (self.namespace, shard, self.shards, name):
            raise ObjectDamaged(f"{name} is a manifest of something else")
        return manifest, manifests.sha256(data)

    def _name(self, shard: int, sequence: int) -> str:
        return f"{self.directory(shard, 'manifests')}/{sequence:020d}.json"

    def _bytes(self, shard: int, sequence: int) -> bytes:
        return self.store.get(self._name(shard, sequence))


def write_format(store: Store, namespace: str, shards: int) -> None:
    """Say that an archive begins here, unless it has begun."""
    said = {"version": manifests.FORMAT_VERSION, "namespace": namespace, "shards": shards}
    store.put_if_absent(f"{namespace}/format.json", manifests.seal("format", said))


def _refuse_remains(store: Store, namespace: str) -> None:
    """Raises ObjectDamaged where an archive lost its format."""
    name = f"{namespace}/format.json"
    if not store.exists(name) and any("/manifests/" in found for found in store.list(namespace)):
        if store.exists(name):  # somebody has just begun it
            return
        raise ObjectDamaged(
            f"{name} is not in the archive, and the archive's manifests are",
            "`repair` writes it anew. What an import left that was killed may be removed.",
        )


def _shards(data: bytes, name: str, namespace: str) -> int:
    said = manifests.unseal("format", data, name)
    shards = said.get("shards")
    if said.get("namespace") != namespace or not isinstance(shards, int):
        raise ObjectDamaged(f"{name} does not say the format of {namespace}")
    return shards
