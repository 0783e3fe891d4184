"""`keep` and `prune` at a prompt: what is kept by name outlives the changes around it, and the rest goes."""

from cdc.clock import parse_rfc3339, rfc3339
from cdc.errors import NotRecoverable, UsageError
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator

SECOND = 1 / 86_400


def test_a_moment_kept_by_name_outlives_its_changes_until_the_mark_is_taken_away(operator: Operator) -> None:
    retention = {"changes_days": SECOND, "minimum_sets": 1, "grace_s": 0, "every_s": 0}
    operator.configure(compactor={"set_every_s": 1}, **{"archive.retention": retention})
    shop = operator.shop()
    shop.place(60)
    captured(operator)
    kept = between_looks()
    shop.trade(40)
    between_looks()
    captured(operator)
    expected = shop.at(kept)
    operator.good("keep", "before-sale", "--at", rfc3339(kept), "--note", "the spring sale")
    assert operator.run("keep", "10m", "--at", rfc3339(kept)).code == UsageError.exit_code
    for _ in range(3):
        between_looks()
        shop.trade(20)
        between_looks()
        captured(operator)

    before = operator.good("list", "--json").json
    planned = operator.good("prune", "--dry-run", "--json").json
    assert (planned["dry_run"], planned["removed"]) == (True, 0)
    assert [mark["reason"] for mark in planned["kept_sets"]] == ["kept as before-sale"]
    assert operator.good("list", "--json").json == before
    done = operator.good("prune", "--json").json
    assert (done["made_sets"], done["lost_marks"], done["refused"]) == (2, [], [])
    assert done["segments"]
    assert done["removed_bytes"] > 0
    said = operator.good("prune").out
    assert "kept as before-sale" in said

    listed = operator.good("list", "--json").json
    assert [mark["name"] for mark in listed["keeps"]] == ["before-sale"]
    assert listed["windows"][0]["start"] == listed["windows"][0]["end"] == rfc3339(kept)
    assert parse_rfc3339(listed["windows"][-1]["start"]) > parse_rfc3339(before["windows"][-1]["start"])
    shown = operator.good("list").out
    assert "kept as before-sale" in shown
    assert "changes were pruned, restore sets remain" in shown
    checked = operator.good("verify", "--tier", "decode", "--json").json
    assert (checked["ok"], checked["garbage"]) == (True, [])

    operator.good("restore", "--at", "before-sale", "--into", TARGET, "--yes")
    assert shop.differences(expected, TARGET) == []
    refused = operator.run("restore", "--at", "before-sale", "--yes")
    assert refused.code == NotRecoverable.exit_code
    assert "Nearest that a rewind leads to: " in refused.err
    assert "A clone leads to this moment" in refused.err
    unknown = operator.run("restore", "--at", "before-sail", "--into", TARGET, "--yes")
    assert unknown.code == UsageError.exit_code
    assert "before-sale" in unknown.err

    operator.good("keep", "before-sale", "--remove")
    assert operator.good("keep").out == "nothing is kept by name\n"
    operator.good("prune")
    assert operator.run("restore", "--at", rfc3339(kept), "--into", TARGET, "--yes").code == NotRecoverable.exit_code
