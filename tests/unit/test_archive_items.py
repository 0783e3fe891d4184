"""What is known of metadata at a moment: held to a truth that looks, compaction, restarts and new topics hide."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive.items import Line, MetadataState, Snapshot, Told, kept, needed, state
from cdc.collector.metadata import Known, Moments, news
from cdc.compactor.metadata import AGAIN_MS, following
from cdc.model import Item, ItemKind
from cdc.source import Described
from cdc.topics import Kept, Metadata

T0 = 1_000_000
KINDS = (ItemKind.INDEX, ItemKind.UDF)


@dataclass
class World:
    """A namespace's metadata, a collector that looks at it, a topic and an archive. A step takes ten milliseconds."""

    now: int = T0
    there: dict[tuple[ItemKind, str], Item] = field(default_factory=dict)
    truth: list[tuple[int, dict[tuple[ItemKind, str], Item]]] = field(default_factory=list)
    touched: set[tuple[ItemKind, str]] = field(default_factory=set)
    topic: list[Metadata] = field(default_factory=list)
    known: Known = field(default_factory=lambda: Known({}, {}))
    archive: list[Snapshot] = field(default_factory=list)

    def change(self, kind: ItemKind, name: str) -> None:
        """An item comes, changes or goes. What is undone before anybody looks leaves no trace, so it is not done."""
        key = kind, name
        if key in self.touched:
            return
        self.touched.add(key)
        if key in self.there and self.now % 3 == 0:
            self.there = {k: item for k, item in self.there.items() if k != key}
        else:
            self.there = {**self.there, key: Item(kind, name, {"made": str(self.now)})}
        self.truth.append((self.now, self.there))

    def look(self, kinds: Sequence[ItemKind], everything: bool) -> None:
        """What the collector does; of the other kinds it can read nothing."""
        found = Described({k: tuple(i for key, i in self.there.items() if key[0] == k) for k in kinds}, {}, frozenset())
        at = Moments(self.now - 3, self.now + 3)
        told = news(self.known, found, "test", at, everything=everything)
        self.known = self.known.after(told, kinds, at.looked_at)
        self.topic += told
        self.touched -= {key for key in self.touched if key[0] in kinds}

    def restart(self) -> None:
        self.known = Known.of(self.kept().records)

    def compact(self) -> None:
        last = {record.key: record for record in self.topic}
        self.topic = [record for record in self.topic if last[record.key] is record]

    def anew(self) -> None:
        """Somebody removes the topic."""
        self.topic, self.known = [], Known({}, {})

    def kept(self) -> Kept:
        last = {record.key: record for record in self.topic}
        return Kept(tuple(last[key] for key in sorted(last)), (), whole=True, told=tuple(self.topic))

    def take(self) -> None:
        before = self.archive[-1] if self.archive else Snapshot("test")
        for snapshot in following(before, self.kept(), AGAIN_MS):
            if self.archive and self.archive[-1].items == snapshot.items:
                self.archive.pop()  # the next one takes its place
            self.archive.append(replace(snapshot, number=len(self.archive) + 1))

    def at(self, moment: int) -> dict[tuple[ItemKind, str], Item]:
        return next((there for since, there in reversed(self.truth) if since <= moment), {})


a_step = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(KINDS), st.sampled_from("ab")),
    st.tuples(st.just("look"), st.sampled_from((KINDS, KINDS[:1], KINDS[1:])), st.booleans()),
    st.sampled_from([("take",), ("take",), ("compact",), ("restart",), ("anew",)]),
)


def lived(steps: Sequence[tuple[object, ...]]) -> World:
    world = World()
    for name, *arguments in [*steps, ("look", KINDS, True), ("take",)]:
        getattr(world, str(name))(*arguments)
        world.now += 10
    return world


@settings(max_examples=300, deadline=None)
@given(st.lists(a_step, max_size=14))
def test_what_is_exact_is_right_and_what_may_be_is_named(steps: list[tuple[object, ...]]) -> None:
    world = lived(steps)
    for moment in range(T0, world.now):
        found = state(world.archive, moment)
        if found is None:
            continue
        truth = world.at(moment)
        shown = {known.told.key: known for known in found.items}
        assert all(truth.get(key) == known.told.item for key, known in shown.items() if known.exact), moment
        maybe = {told.key for told in found.maybe}
        assert truth.keys() <= shown.keys() | maybe, moment
        assert not shown.keys() & maybe


@settings(max_examples=100, deadline=None)
@given(st.lists(a_step, max_size=14), st.lists(st.integers(T0, T0 + 160), max_size=3), st.integers(T0, T0 + 160))
def test_a_moment_needs_few_snapshots_and_those_kept_say_the_same_as_all(
    steps: list[tuple[object, ...]], moments: list[int], since: int
) -> None:
    world = lived(steps)
    lines = [Line(s.number, "", s.until, s.looked) for s in world.archive]
    stays = kept(lines, since, moments)
    left = [s for s in world.archive if s.number in stays]
    for moment in range(T0, world.now):
        whole = state(world.archive, moment)
        few = [s for s in world.archive if s.number in needed(lines, moment)]
        assert len(few) <= 3 + len(KINDS)
        if whole is not None:
            assert same(state(few, moment), whole)
            if moment >= since or moment in moments:
                assert same(state(left, moment), whole)


def same(one: MetadataState | None, other: MetadataState) -> bool:
    return one is not None and (one.items, {t.key for t in one.maybe}) == (other.items, {t.key for t in other.maybe})


def a_record(at: int, unobserved_since: int = 0, looked_at: int | None = None) -> Metadata:
    item = Item(ItemKind.INDEX, "i", {"bin": "b"})
    return Metadata("test", item, False, at, unobserved_since, looked_at or at - 1, (ItemKind.INDEX,))


def written(known: Snapshot, *records: Metadata, now: int = 7) -> list[Snapshot]:
    kept = Kept(records[-1:], (), whole=True, told=records)
    return [replace(snapshot, written_at=now) for snapshot in following(known, kept, now)]


def test_what_cannot_be_read_is_not_taken_for_removed_and_no_look_makes_it_sure() -> None:
    """Such as what a collector of a later version told."""
    [first] = written(Snapshot("test"), a_record(100))
    module = Metadata(
        "test", Item(ItemKind.UDF, "m.lua", {}, b"--"), False, 300, 200, 299, (ItemKind.INDEX, ItemKind.UDF)
    )
    kept = Kept((module,), ("offset 7",), whole=True, told=(module,), unread=frozenset({ItemKind.INDEX}))
    [later] = following(first, kept, 8)
    assert [(told.item.name, told.removed) for told in later.items] == [("i", False), ("m.lua", False)]
    at = state([first, later], 299)
    assert at is not None
    assert [(known.told.item.name, known.exact) for known in at.items] == [("i", False)]


def test_a_look_that_found_nothing_new_is_written_down_only_now_and_then() -> None:
    [first] = written(Snapshot("test"), a_record(100))
    assert written(first, a_record(100), now=AGAIN_MS * 9) == []
    assert written(first, a_record(100, looked_at=300)) == []
    [later] = written(first, a_record(100, looked_at=300), now=AGAIN_MS + 7)
    assert later.items == first.items
    assert later.looked == {ItemKind.INDEX: 300}


def test_sets_that_come_and_go_wait_and_come_along_with_what_does_not() -> None:
    def a_set(name: str) -> Metadata:
        return replace(a_record(200, looked_at=190), item=Item(ItemKind.SET, name, {}))

    [first] = written(Snapshot("test"), a_record(100))
    waiting = (a_record(100), a_set("s"))
    assert list(following(first, Kept(waiting, (), whole=True, told=waiting), 8)) == []
    [later] = following(first, Kept(waiting, (), whole=True, told=waiting), AGAIN_MS + 7)
    assert [told.item.name for told in later.items] == ["i", "s"]
    changed = (replace(a_record(200, looked_at=190), item=Item(ItemKind.INDEX, "i", {"bin": "c"})), a_set("s"))
    [at_once] = following(first, Kept(changed, (), whole=True, told=changed), 8)
    assert [told.item.facts for told in at_once.items] == [{"bin": "c"}, {}]


def test_a_topic_made_anew_does_not_make_what_was_known_younger() -> None:
    [first] = written(Snapshot("test"), a_record(100))
    assert written(first, a_record(200)) == []
    changed = replace(a_record(200), item=Item(ItemKind.INDEX, "i", {"bin": "c"}))
    [then] = written(first, changed)
    assert then.items == (Told(changed.item, False, 200, 99),)  # it was as before at the last look that is known of
