"""What is said of a piece of metadata, as `schemas/metadata.avsc` says it, and everything that Kafka holds of it."""

import io
from dataclasses import asdict, dataclass
from typing import Any

from fastavro import schemaless_reader, schemaless_writer

from cdc.codec import framing
from cdc.codec.schemas import without_logical_types
from cdc.config import KafkaSettings
from cdc.errors import BodyDamaged
from cdc.model import Item, ItemKind
from cdc.topics.names import Topics
from cdc.topics.offsets import list_offsets
from cdc.topics.whole import messages

PLAIN = without_logical_types("metadata")
"""The schema with moments as the plain longs they are on the wire: inside, time is an int."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """One metadata record; the fields are described in the schema, moments are milliseconds since 1970."""

    namespace: str
    item: Item
    removed: bool
    observed_at: int
    unobserved_since: int
    looked_at: int
    kinds: tuple[ItemKind, ...]

    @property
    def key(self) -> bytes:
        """The key by which the topic is compacted."""
        return f"{self.item.kind}/{self.item.name}".encode()

    def encode(self) -> bytes:
        """As it stands in Kafka: Avro single-object encoding."""
        fields = asdict(self)
        out = io.BytesIO()
        out.write(framing.head("metadata"))
        schemaless_writer(out, PLAIN, fields | fields.pop("item"))
        return out.getvalue()

    @classmethod
    def decode(cls, value: bytes, where: str = "a metadata record") -> "Metadata":
        """From its encoding. BodyDamaged says `where` it stands."""
        source = io.BytesIO(framing.unframe_one(value, "metadata", where))
        try:
            fields: Any = schemaless_reader(source, PLAIN, None)
        except (EOFError, ValueError, IndexError, OverflowError) as error:
            raise BodyDamaged(f"{where} is not an encoded metadata record: {error!r}") from error
        if source.read(1):
            raise BodyDamaged(f"{where} has bytes after its end")
        kinds = tuple(ItemKind(kind) for kind in fields.pop("kinds"))
        item = Item(ItemKind(fields.pop("kind")), fields.pop("name"), fields.pop("facts"), fields.pop("content"))
        return cls(item=item, kinds=kinds, **fields)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the metadata topic holds: the last record of every item, by kind and name; `damaged` names the last messages
    that are none. Not `whole`: a transaction that is still open, of a worker that is gone, hides what comes after
    it. `told` is every record that is still there, in order. Of some item of the kinds in `unread` the last message is
    none: what the item is now is not known, nor that it is not there."""

    records: tuple[Metadata, ...]
    damaged: tuple[str, ...]
    whole: bool
    told: tuple[Metadata, ...] = ()
    unread: frozenset[ItemKind] = frozenset()


def kept_metadata(settings: KafkaSettings, topics: Topics) -> Kept:
    """Everything that was committed to the metadata topic until now. Raises BrokerUnreachable, TopicMismatch."""
    last: dict[bytes, Metadata] = {}
    damaged: dict[bytes, str] = {}
    told: list[Metadata] = []
    visible = list_offsets(settings, topics.metadata, [0])
    for message in messages(settings, topics, topics.metadata, visible):
        given, value = message.key(), message.value()
        key = given if isinstance(given, bytes) else b""
        last.pop(key, None)
        damaged.pop(key, None)
        try:
            last[key] = Metadata.decode(value or b"", f"{topics.metadata}, offset {message.offset()}")
            told.append(last[key])
        except BodyDamaged as error:
            damaged[key] = error.message
    records = sorted(last.values(), key=lambda record: (record.item.kind, record.item.name))
    # Asked for afterwards: what is open now was, at the worst, begun since.
    whole = list_offsets(settings, topics.metadata, [0], committed=False) == visible
    unread = frozenset(kind for kind in ItemKind if any(key.startswith(f"{kind}/".encode()) for key in damaged))
    return Kept(tuple(records), tuple(damaged.values()), whole, tuple(told), unread)
