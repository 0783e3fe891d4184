"""Info answers, parsed: the words are a server's, and whatever else comes is a SourceError."""

import base64
import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import NamespaceUnknown, SourceError
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
        lambda: facts.standing({"A1": said("objects=1;" + text)}, "test", complete=True),
        lambda: facts.standing({"A1": said(sets="set=a:" + text)}, "test", complete=True),
        lambda: facts.standing({text: said()}, "test", complete=True),
    ):
        with contextlib.suppress(SourceError):
            assert parse() is not None


def test_a_namespace_that_a_node_does_not_have_is_unknown() -> None:
    with pytest.raises(NamespaceUnknown):
        facts.namespace_facts("type=unknown", "nix")


def test_nodes_without_the_namespace_are_left_out_unless_none_has_it() -> None:
    has, lacks = {"namespace/test": "objects=1;x=y"}, {"namespace/test": "type=unknown"}
    assert facts.holding({"A": has, "B": lacks}, "test") == {"A": has}
    assert facts.holding({}, "test") == {}
    with pytest.raises(NamespaceUnknown, match="unknown"):
        facts.holding({"A": lacks, "B": lacks}, "test")


SPACE = "objects=9;master_objects=5;tombstones=0;effective_replication_factor=2;current_time=500000000;truncate_lut=5;"
DELETES = "client_delete_success=1;batch_sub_delete_success=2;client_delete_error=9;from_proxy_delete_success=4;"
GONE = "client_delete_timeout=64;deleted_last_bin=8;expired_objects=16;evicted_objects=32;truncating=false"
STILL = ";migrate_tx_partitions_remaining=0;migrate_rx_partitions_remaining=0"


def said(space: str = SPACE + DELETES + GONE + STILL, sets: str = "") -> dict[str, str]:
    partitions = info(lambda p: f"test:{p}:S:A1:0:0:1:0:x")
    answers = (space, "uptime=100;cluster_key=AB;x=y", sets, partitions)
    return dict(zip(facts.standing_commands("test"), answers, strict=True))


def test_a_node_says_its_clock_its_counters_and_its_sets_and_deletes_of_every_kind_count_as_deleted() -> None:
    sets = "ns=t:set=a:objects=3:truncate_lut=7;ns=t:set=b:objects=1:truncate_lut=0"
    (node,) = facts.standing({"A1": said(sets=sets)}, "test", complete=True).nodes
    assert (node.deleted, node.expired, node.evicted) == (79, 16, 32)
    assert (node.now_ms, node.uptime_s, node.cluster_key) == (500_000_000_000 + facts.EPOCH_MS, 100, "AB")
    assert (node.copies, node.objects, node.masters) == (2, 9, 5)
    assert node.sets == {"a": 3, "b": 1}
    assert node.truncations == facts.Truncations(facts.EPOCH_MS + 5, {"a": facts.EPOCH_MS + 7})


def test_a_truncation_is_under_way_until_the_node_says_that_it_has_ended() -> None:
    going = said(sets="ns=t:set=a:objects=3:truncate_lut=7:truncating=true")
    assert facts.standing({"A1": going}, "test", complete=True).nodes[0].truncations.under_way
    going = said((SPACE + DELETES + GONE + STILL).replace("truncating=false", "truncating=true"))
    assert facts.standing({"A1": going}, "test", complete=True).nodes[0].truncations.under_way


def test_a_brief_standing_counts_nothing_and_is_settled_while_nothing_migrates_and_all_answer() -> None:
    def brief(space: str, complete: bool = True) -> facts.Standing:
        answers = (space, "uptime=100;cluster_key=AB", "")
        node = dict(zip(facts.standing_commands("test", brief=True), answers, strict=True))
        return facts.standing({"A1": node}, "test", complete=complete, brief=True)

    still = SPACE + DELETES + GONE + STILL
    assert "partition-info" not in facts.standing_commands("test", brief=True)
    assert (brief(still).counts.settled, len(brief(still).counts.records)) == (True, 0)
    assert brief(still).nodes[0] == facts.standing({"A1": said()}, "test", complete=True).nodes[0]
    assert not brief(still, complete=False).counts.settled
    for way in ("tx", "rx"):
        assert not brief(
            still.replace(f"_{way}_partitions_remaining=0", f"_{way}_partitions_remaining=1")
        ).counts.settled


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 2**31), st.integers(0, 2**31)), max_size=20),
    st.sampled_from(["A1", "BB9000000000A33", "FFFFFFFFFFFFFFFF"]),
)
def test_columns_of_partition_info_are_read_as_their_numbers(lines: list[tuple[int, int, int]], node: str) -> None:
    rows = [f"test:{p}:S:{node}:{e}:0:{n}:0:x" for p, n, e in lines]
    answer = ";".join([HEADER, "other:1:S:zz:?:?", *rows])
    counts = facts.partition_counts({node: answer}, "test", complete=True)
    assert {p: int(counts.records[p]) for p, _, _ in lines} == {p: n for p, n, _ in lines}
    assert not counts.settled
