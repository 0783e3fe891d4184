"""Records in another set: under the digests that the official client reckons there, and else as they were."""

from typing import Any

import aerospike
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.codec.decode import encode_python, to_python
from cdc.codec.values_plain import Raw
from cdc.replayer.resettled import resettled
from tests.unit.test_codec_changes import bodies_of

KEYS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
    st.binary(min_size=1, max_size=20),
)  # fmt: skip


def change(set_name: str | None, user_key: Any, void_time: int | None, bins: dict[str, Any]) -> dict[str, Any]:
    return {
        "digest": bytes(20), "op": "WRITE", "origin": "SWEEP", "lut": 1, "generation": 2, "void_time": void_time,
        "effective_at": 300, "unobserved_since": 0, "observed_at": 1 << 40, "consecutive": True, "set": set_name,
        "user_key": user_key, "bins": bins,
    }  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "s", "a longer name"]), KEYS, st.sampled_from([None, 5]),
            st.dictionaries(st.text(max_size=5), st.integers(-9, 1 << 40), min_size=1, max_size=3),
        ),
        min_size=1, max_size=8,
    ),
    st.text(st.characters(exclude_characters="\0:;", codec="utf-8"), min_size=1, max_size=15),
)  # fmt: skip
def test_what_has_a_key_has_its_digest_in_the_other_set_and_all_else_as_it_was(
    given_: list[tuple[Any, ...]], name: str
) -> None:
    changes = [change(*one) for one in given_]
    rows = np.arange(len(changes))[::-1]
    found = resettled(bodies_of([encode_python(one) for one in changes]), rows, name)
    assert found.known.all()
    for i, row in enumerate(rows.tolist()):
        key = changes[row]["user_key"]
        digest = bytes(aerospike.calc_digest("any", name, bytearray(key) if isinstance(key, bytes) else key))
        assert to_python(found.bodies[i]) == changes[row] | {"digest": digest, "set": name}
        assert found.digest[i].tobytes() == digest


def test_what_has_none_is_left_out() -> None:
    keys = [None, 7, 1.5, "a\0b", Raw(7, b"x"), b"k", b""]
    bodies = bodies_of([encode_python(change("s", key, None, {"b": 1})) for key in keys])
    found = resettled(bodies, np.arange(len(keys)), "t")
    assert found.known.tolist() == [False, True, False, False, False, True, False]
    assert [to_python(body)["user_key"] for body in found.bodies] == [7, b"k"]
    nobody = resettled(bodies, np.array([0]), "t")
    assert (len(nobody.bodies), nobody.digest.shape) == (0, (0, 20))
