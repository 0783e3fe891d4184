"""Where a restore goes, from the words of a person. Pure."""

from dataclasses import dataclass

from cdc.config import AerospikeSettings
from cdc.errors import UsageError

FORM = "NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT]"


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of the cluster that `aerospike` leads to. `in_place`: it is the one that the archive is of."""

    namespace: str
    aerospike: AerospikeSettings
    in_place: bool


def place_of(aerospike: AerospikeSettings, into: str, *, beside: bool = False) -> Place:
    """The place that `into` names, FORM, or the namespace itself where it is empty. Another cluster is spoken to with
    the same user, password and certificates. `beside`: what is written there goes into a set of its own, which may be
    in the namespace itself, and is not in place. Raises UsageError."""
    if not into or (beside and into == aerospike.namespace):
        return Place(aerospike.namespace, aerospike, in_place=not beside)
    namespace, at, hosts = into.partition("@")
    if not namespace or (at and not hosts):
        raise UsageError(f"{into}: the {'hosts are' if namespace else 'namespace is'} missing", f"Write {FORM}.")
    if not hosts and namespace == aerospike.namespace:
        raise UsageError(
            f"{into} is the namespace itself",
            "Leave --into out to rewind it, or name another place.",
        )
    values = aerospike.model_dump() | {"namespaces": (namespace,)}
    if hosts:
        values["hosts"] = tuple(hosts.split(","))
    try:
        return Place(namespace, AerospikeSettings.model_validate(values), in_place=False)
    except ValueError as error:
        raise UsageError(f"{into}: not {FORM}") from error
