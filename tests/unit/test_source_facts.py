"""Info answers, parsed: the words are a server's, and whatever else comes is a SourceError."""

import base64
import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import NamespaceUnknown, ProtocolError, SourceError
from cdc.model import PARTITIONS
from cdc.source import facts
from cdc.wire.cluster import Claim, parse_replicas

HEADER = "namespace:partition:state:working_master:emigrates:immigrates:records:tombstones:version"


def info(lines: Callable[[int], str]) -> str:
    return ";".join([HEADER, *(lines(p) for p in range(PARTITIONS)), "other:0:S:A1:1:1:99:0:x"])


def test_counts_come_from_the_working_master_without_tombstones() -> None:
    answers = {
        "0A1": info(lambda p: f"test:{p}:S:{'A1' if p < 100 else 'B2'}:0:0:{p + 5}:3:x"),
        "B2": info(lambda p: f"test:{p}:S:{'A1' if p < 100 else 'B2'}:0:0:{p}:0:x"),
    }
    counts = facts.partition_counts(answers, "test", complete=True)
    assert counts.settled
    assert np.array_equal(
        counts.records, np.where(np.arange(PARTITIONS) < 100, np.arange(PARTITIONS) + 2, np.arange(PARTITIONS))
    )


@pytest.mark.parametrize(
    ("line", "complete"),
    [
        ("test:{p}:S:A1:1:0:1:0:x", True),
        ("test:{p}:S:A1:0:1:1:0:x", True),
        ("test:{p}:S:C3:0:0:1:0:x", True),
        ("test:{p}:S:A1:0:0:1:0:x", False),
    ],
    ids=["emigrates", "immigrates", "no master", "a node is missing"],
)
def test_counts_in_flux_are_not_settled(line: str, complete: bool) -> None:
    def lines(p: int) -> str:
        return (line if p == 7 else "test:{p}:S:A1:0:0:1:0:x").format(p=p)

    assert not facts.partition_counts({"A1": info(lines)}, "test", complete=complete).settled


def test_replicas_name_the_masters_bit_by_bit() -> None:
    bits = bytearray(PARTITIONS // 8)
    bits[0], bits[511] = 0x81, 0x01
    text = base64.b64encode(bits).decode()
    none = base64.b64encode(bytes(PARTITIONS // 8)).decode()
    assert parse_replicas(f"test:3,2,{text},{none};other:0,1,{none};") == {
        "test": Claim(3, (0, 7, 4095)),
        "other": Claim(0, ()),
    }


WORDS = st.text("test:;=,0159AZ\n x", max_size=60)


@settings(max_examples=60)
@given(WORDS)
def test_any_words_are_facts_or_a_source_error(text: str) -> None:
    for parse in (
        lambda: parse_replicas(text),
        lambda: facts.partition_counts({"A1": HEADER + ";test:" + text}, "test", complete=True),
        lambda: facts.partition_counts({"A1": text}, "test", complete=True),
        lambda: facts.deletion_counters("objects=1;" + text, text, "test"),
        lambda: facts.truncations({"A1": "objects=1;" + text}, {"A1": "set=a:" + text}, "test"),
        lambda: facts.set_facts({"A1": "set=a:" + text}),
        lambda: facts.secondary_indexes("ns=test:" + text, "test"),
        lambda: facts.udf_names(text),
        lambda: facts.udf_content("content=" + text),
    ):
        with contextlib.suppress(SourceError):
            assert parse() is not None


def test_a_namespace_that_a_node_does_not_have_is_unknown() -> None:
    with pytest.raises(NamespaceUnknown):
        facts.namespace_facts("type=unknown", "nix")


def test_deletes_of_every_kind_count_as_deleted() -> None:
    answer = (
        "objects=1;current_time=500000000;client_delete_success=1;batch_sub_delete_success=2;client_delete_error=9;"
        "from_proxy_delete_success=4;deleted_last_bin=8;expired_objects=16;evicted_objects=32"
    )
    counters = facts.deletion_counters(answer, "uptime=100;x=y", "test")
    assert (counters.deleted, counters.expired, counters.evicted) == (15, 16, 32)
    assert counters.started_ms == (500_000_000 - 100) * 1000 + facts.EPOCH_MS


def test_the_latest_truncation_that_any_node_knows_holds() -> None:
    spaces = {"A1": "objects=0;truncate_lut=0", "B2": "objects=0;truncate_lut=5"}
    sets = {"A1": "ns=t:set=a:truncate_lut=7;ns=t:set=b:truncate_lut=0", "B2": "ns=t:set=a:truncate_lut=6"}
    found = facts.truncations(spaces, sets, "t")
    assert found == facts.Truncations(facts.EPOCH_MS + 5, {"a": facts.EPOCH_MS + 7})


def test_sets_add_up_over_the_nodes() -> None:
    lines = {
        "A1": "ns=t:set=a:objects=2:data_used_bytes=9:truncate_lut=0:default-ttl=3;",
        "B2": "ns=t:set=a:objects=3:default-ttl=3",
    }
    assert facts.set_facts(lines) == (facts.SetFacts("a", 5, {"default-ttl": "3"}),)


def test_indexes_of_other_namespaces_are_left_out() -> None:
    answer = (
        "ns=test:indexname=i:set=s:bin=a:type=numeric:indextype=default:context=null:exp=null:state=RW;"
        "ns=other:indexname=j:set=NULL:bin=b:type=string:indextype=list:context=null:exp=null:state=RW"
    )
    assert facts.secondary_indexes(answer, "test") == (
        facts.SecondaryIndex("i", "s", "a", "numeric", "default", "", ""),
    )
    assert facts.secondary_indexes(answer, "other")[0].set == ""


def test_a_module_that_is_not_base_64_is_a_protocol_error() -> None:
    assert facts.udf_content("type=LUA;content=aGk=;") == b"hi"
    with pytest.raises(ProtocolError):
        facts.udf_content("type=LUA;content=a;")
