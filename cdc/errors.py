"""Every error that a user may meet, as one tree. Each leaf has an exit code and a hint that says what to do.

    CdcError
    ├── UsageError                  2   wrong words on the command line
    ├── ConfigError                 3   a setting is malformed, unknown or missing
    ├── SourceError                 10  an Aerospike cluster does not do what is asked
    │   ├── ClusterUnreachable      11
    │   ├── NamespaceUnknown        12
    │   ├── LoginRefused            13
    │   ├── ProtocolError           14  an answer that does not follow the wire protocol
    │   ├── PartitionUnavailable    15
    │   ├── ServerRefused           16  a result code that retrying does not help
    │   └── TargetNotEmpty          17
    ├── KafkaError                  20
    │   ├── BrokerUnreachable       21
    │   ├── TopicMismatch           22  a topic is not as the product needs it
    │   ├── Fenced                  23  another worker owns the shard now
    │   ├── OffsetsLost             24  retention took changes that nobody archived
    │   └── EmbeddedKafkaFailed     25
    ├── CodecError                  30
    │   ├── RecordNotEncodable      31  counted, named, kept aside
    │   └── BodyDamaged             32
    ├── ArchiveError                40
    │   ├── StoreUnreachable        41
    │   ├── StoreForbidden          42
    │   ├── ObjectMissing           43
    │   ├── ObjectDamaged           44
    │   ├── FormatTooNew            45
    │   ├── CommitLost              46  another compactor committed first
    │   └── KeyRefused              47  the archive's key is missing or another
    ├── CatalogError                50
    ├── RestoreError                60
    │   ├── NotRecoverable          61  the moment lies outside every recoverable window
    │   ├── RecordsRefused          62  the target refused records; they are named in a file
    │   └── Differs                 63  a verification found differences
    └── CaptureIncomplete           70  the work was done, but something was kept aside

Success is 0; an interrupt ends with 130. Codes are part of the public interface and do not change.
"""


class CdcError(Exception):
    """Base of every error a user may meet.

    `message` is one line that says what happened, with the names that matter; `hint` says what to do about it.
    `report` says what was done before (`replayer.report.Report`), where a restore ended so.
    """

    exit_code = 1
    default_hint = ""
    report: object = None

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return self.message


class UsageError(CdcError):
    """Wrong words on the command line."""

    exit_code = 2
    default_hint = "See `aerospike-cdc --help`."


class ConfigError(CdcError):
    """A setting is malformed, unknown or missing."""

    exit_code = 3
    default_hint = "`aerospike-cdc init` writes a commented example; `aerospike-cdc check` tries the one you have."


class SourceError(CdcError):
    """An Aerospike cluster does not do what is asked."""

    exit_code = 10


class ClusterUnreachable(SourceError):
    """No node of the cluster answers."""

    exit_code = 11
    default_hint = "Check aerospike.hosts, the network and that the server runs."


class NamespaceUnknown(SourceError):
    """The cluster has no such namespace."""

    exit_code = 12
    default_hint = "Check aerospike.namespaces against the server's configuration."


class LoginRefused(SourceError):
    """User, password or certificate were refused."""

    exit_code = 13
    default_hint = "Check aerospike.user and the password."


class ProtocolError(SourceError):
    """An answer that does not follow the wire protocol. The connection it came from is closed."""

    exit_code = 14
    default_hint = (
        "Is this really an Aerospike service port? If so, please report the message and the server's version."
    )


class PartitionUnavailable(SourceError):
    """No node serves a partition, after every retry."""

    exit_code = 15
    default_hint = "A node is missing or the cluster is migrating; the next try goes on where this one stopped."


class ServerRefused(SourceError):
    """The server answered with a result code that retrying does not help."""

    exit_code = 16


class TargetNotEmpty(SourceError):
    """A clone was asked for into a target that holds records."""

    exit_code = 17
    default_hint = "Choose an empty namespace, or truncate it first."


class KafkaError(CdcError):
    """Kafka does not do what is asked."""

    exit_code = 20


class BrokerUnreachable(KafkaError):
    """No broker answers in time."""

    exit_code = 21
    default_hint = "Check kafka.bootstrap and that the broker runs. Nothing is lost: the work goes on where it stopped."


class TopicMismatch(KafkaError):
    """A topic exists, but not as the product needs it."""

    exit_code = 22


class Fenced(KafkaError):
    """Another worker owns the shard now; what this one had not committed is void."""

    exit_code = 23
    default_hint = "Another collector took over, for instance because this one paused for too long."


class OffsetsLost(KafkaError):
    """Kafka's retention removed changes that nobody had archived: the archive has a hole there."""

    exit_code = 24
    default_hint = "Start a new base snapshot, and keep the topic's retention longer than any outage of the compactor."


class EmbeddedKafkaFailed(KafkaError):
    """The embedded Kafka could not be fetched or did not start."""

    exit_code = 25


class CodecError(CdcError):
    """Bytes are not what they should be."""

    exit_code = 30


class RecordNotEncodable(CodecError):
    """A record cannot be said in the schema. It is counted, named and kept aside."""

    exit_code = 31


class BodyDamaged(CodecError):
    """Bytes that should be an encoded change are not one."""

    exit_code = 32


class ArchiveError(CdcError):
    """The archive does not do what is asked."""

    exit_code = 40


class StoreUnreachable(ArchiveError):
    """The object store does not answer."""

    exit_code = 41
    default_hint = (
        "Check archive.url, its options (endpoint, region) and the network. Nothing is lost: the work goes on where it "
        "stopped."
    )


class StoreForbidden(ArchiveError):
    """The object store refuses to read or write, or is full."""

    exit_code = 42
    default_hint = "Check the path or bucket, its permissions and its free space."


class ObjectMissing(ArchiveError):
    """An object that a manifest names is not there."""

    exit_code = 43
    default_hint = "`verify` says what else is missing and which moments that costs, `repair` brings back what it can."


class ObjectDamaged(ArchiveError):
    """An object does not have the hash, size or form that its manifest says."""

    exit_code = 44
    default_hint = (
        "`verify` says which moments that costs, `repair` brings back what another destination or Kafka still has; or "
        "choose a moment that does not need it."
    )


class FormatTooNew(ArchiveError):
    """The archive was written by a newer version of this product."""

    exit_code = 45
    default_hint = "Upgrade aerospike-cdc."


class CommitLost(ArchiveError):
    """Another compactor committed first; what this one had prepared is void."""

    exit_code = 46
    default_hint = "One compactor is enough for an archive. Nothing is lost, and what two do is not doubled."


class KeyRefused(ArchiveError):
    """The archive is encrypted, and the key is missing, malformed or another."""

    exit_code = 47
    default_hint = (
        "Check archive.encryption (destinations.NAME.encryption): the key is the one that the archive was begun with, "
        "or `rekey` gave it."
    )


class CatalogError(CdcError):
    """The collector's catalog cannot be read or written."""

    exit_code = 50
    default_hint = "Check the disk. A removed catalog is rebuilt from what was published."


class RestoreError(CdcError):
    """A restore cannot be done, or was not done whole."""

    exit_code = 60


class NotRecoverable(RestoreError):
    """The moment lies outside every recoverable window."""

    exit_code = 61
    default_hint = "`aerospike-cdc list` shows the recoverable windows."


class RecordsRefused(RestoreError):
    """The target refused records; they are named in a file. `report` says what became of all."""

    exit_code = 62

    def __init__(self, message: str, hint: str = "", report: object = None) -> None:
        super().__init__(message, hint)
        self.report = report


class Differs(RestoreError):
    """A verification found differences."""

    exit_code = 63


class CaptureIncomplete(CdcError):
    """The work was done, but something could not be captured and was kept aside."""

    exit_code = 70
    default_hint = "The aside topic holds the raw records; `aerospike-cdc status` counts them."
