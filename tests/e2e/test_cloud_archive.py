"""The archive in a bucket instead of a directory: capture, look, restore, and what is wrong with it said at once."""

import pytest

from cdc.clock import rfc3339
from cdc.errors import StoreForbidden
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.stores import Bucket

ONE = pytest.mark.parametrize("bucket", ["s3"], indirect=True)
"""What does not differ from cloud to cloud."""


def _in(bucket: Bucket, **more: object) -> dict[str, object]:
    return {"url": bucket.url, "options": bucket.options(bucket.port), "timeout_s": 2, "retry_s": 5, **more}


def test_a_moment_comes_back_from_a_bucket(operator: Operator, bucket: Bucket) -> None:
    operator.configure(archive=_in(bucket), compactor={"set_every_s": 1})
    shop = operator.shop()
    shop.place(200)
    captured(operator)
    shop.trade(50)
    between_looks()
    captured(operator)
    moment = between_looks()
    expected = shop.at(moment)
    shop.bad_deploy(corrupt=20, delete=10)
    captured(operator)

    assert operator.good("check").out.count("FAILED") == 0
    assert operator.good("list", "--json").json["windows"]
    cloned = operator.good("restore", "--at", rfc3339(moment), "--into", TARGET, "--yes", "--json").json
    assert cloned["written"] == sum(bins is not None for bins in expected.values())
    operator.good("restore", "--at", rfc3339(moment), "--yes")
    assert shop.differences(expected) == []
    assert not (operator.folder / "archive").exists()
    assert {name.split("/")[0] for name in bucket.store().list("")} == {operator.namespace}


@ONE
def test_a_bucket_that_is_not_there_is_said_before_anything_is_done(operator: Operator, bucket: Bucket) -> None:
    scheme, _, rest = bucket.url.partition("://")
    missing = _in(bucket, url=f"{scheme}://nowhere-at-all/{rest.partition('/')[2]}")
    operator.configure(archive=missing)
    operator.shop().place(10)
    operator.good("collect", "--once")
    for command in (("compact", "--once"), ("list",), ("status",)):
        answer = operator.run(*command)
        assert answer.code == StoreForbidden.exit_code, answer
        assert "no such bucket or container" in answer.err
    checked = operator.run("check")
    assert checked.code != 0
    assert "no such bucket or container" in checked.out


@ONE
def test_secrets_of_a_bucket_are_never_printed(operator: Operator, bucket: Bucket) -> None:
    options = bucket.options(bucket.port)
    secret = {k: v for k, v in options.items() if "secret" in k or "account_key" in k}
    kept = {k: v for k, v in options.items() if k not in secret}
    operator.configure(archive=_in(bucket, options=kept, secrets=secret))
    operator.shop().place(5)
    captured(operator)
    said = [operator.run(*command) for command in (("check",), ("list",), ("status",), ("status", "--json"))]
    assert all(value not in answer.out + answer.err for answer in said for value in secret.values())
