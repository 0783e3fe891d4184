"""What a look at the metadata has to tell, given what was told before."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from cdc.collector.metadata import Known, Moments, news, still
from cdc.errors import ProtocolError
from cdc.model import BEGINNING, Item, ItemKind
from cdc.source import Described
from cdc.topics import Metadata

KINDS = (ItemKind.INDEX, ItemKind.UDF)
World = Mapping[ItemKind, Mapping[str, str]]


def described(world: World, unreadable: tuple[ItemKind, ...] = ()) -> Described:
    items = {
        kind: tuple(Item(kind, name, {"v": value}) for name, value in there.items())
        for kind, there in world.items()
        if kind not in unreadable
    }
    return Described(items, dict.fromkeys(unreadable, ProtocolError("no")), frozenset())


def there(known: Known) -> World:
    """What the records say there is."""
    return {
        kind: {name: item.facts["v"] for name, item in known.items(kind).items()} for kind in KINDS
    }  # fmt: skip


WORLDS = st.fixed_dictionaries(
    {kind: st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3) for kind in KINDS}
)
LOOKS = st.lists(st.tuples(WORLDS, st.sets(st.sampled_from(KINDS)), st.booleans(), st.booleans()), max_size=8)


@given(LOOKS)
def test_the_records_say_what_every_look_has_seen_and_when_it_can_have_changed(
    looks: list[tuple[World, set[ItemKind], bool, bool]],
) -> None:
    known = Known.of(())
    seen: dict[ItemKind, Mapping[str, str]] = {kind: {} for kind in KINDS}
    looked_at: dict[ItemKind, int] = {}
    for number, (world, unreadable, everything, restarted) in enumerate(looks, 1):
        at = Moments(number * 100, number * 100 + 10)
        found = described(world, tuple(unreadable))
        told = news(known, found, "test", at, everything=everything)
        changed = {kind for kind in found.items if world[kind] != seen[kind]}
        assert {record.item.kind for record in told if record.observed_at == at.observed_at} == changed
        for record in told:
            before = known.records.get((record.item.kind, record.item.name))
            if record.observed_at == at.observed_at:
                assert record.unobserved_since == looked_at.get(record.item.kind, BEGINNING) < record.observed_at
            else:
                assert everything
                assert before is not None
                assert (record.item, record.unobserved_since) == (before.item, before.unobserved_since)
            assert record.looked_at == at.looked_at
        known = known.after(told, found.items, at.looked_at)
        seen |= {kind: world[kind] for kind in found.items}
        looked_at |= dict.fromkeys(found.items, at.looked_at)
        assert there(known) == seen
        if everything:
            live = {(r.item.kind, r.item.name) for r in told if not r.removed}
            assert live == {(kind, name) for kind in found.items for name in world[kind]}
        if told:
            # Whatever kind was told of, the record proves the look for all that it could read.
            stored = Known.of(known.records.values()).looked_at
            assert dict.fromkeys(found.items, at.looked_at).items() <= stored.items()
        if restarted:  # only what stands in Kafka is known then
            known = Known.of(Metadata.decode(record.encode()) for record in known.records.values())
            assert there(known) == seen
            assert all(known.looked_at[kind] <= looked_at[kind] for kind in known.looked_at)
            looked_at = dict(known.looked_at)


def test_nothing_is_told_of_a_kind_that_could_not_be_read() -> None:
    at = Moments(100, 110)
    before = news(Known.of(()), described({ItemKind.UDF: {"a": "1"}}), "test", at, everything=False)
    known = Known.of(before)
    assert not news(known, described({ItemKind.UDF: {}}, (ItemKind.UDF,)), "test", at, everything=True)


def test_a_removal_says_what_was_there_and_what_comes_back_is_new() -> None:
    known = Known.of(())
    for number, names in enumerate(({"a": "1"}, {}, {"a": "1"}), 1):
        at = Moments(number * 100, number * 100 + 10)
        [told] = news(known, described({ItemKind.UDF: names}), "test", at, everything=False)
        assert told.removed == (not names)
        assert told.item == Item(ItemKind.UDF, "a", {"v": "1"})
        known = known.after([told], [ItemKind.UDF], at.looked_at)


def test_a_clock_that_was_set_back_makes_no_change_end_before_it_begins() -> None:
    known = Known.of(()).after([], [ItemKind.UDF], 9_000)
    [told] = news(known, described({ItemKind.UDF: {"a": "1"}}), "test", Moments(100, 110), everything=False)
    assert told.unobserved_since <= told.observed_at


def test_one_item_told_again_says_of_all_that_they_are_as_they_were() -> None:
    found = described({ItemKind.INDEX: {"b": "1"}, ItemKind.UDF: {"a": "2"}})
    first = Known.of(news(Known.of(()), found, "test", Moments(100, 110), everything=False))
    [again] = still(first, found, Moments(900, 910))
    assert (again.observed_at, again.unobserved_since) == (110, BEGINNING)
    assert (again.looked_at, again.kinds) == (900, KINDS)
    later = first.after([again], KINDS, 900)
    assert Known.of(later.records.values()).looked_at == dict.fromkeys(KINDS, 900)
    assert still(Known.of(()), described({ItemKind.INDEX: {}, ItemKind.UDF: {}}), Moments(900, 910)) == []
