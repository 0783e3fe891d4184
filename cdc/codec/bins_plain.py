"""The plain twin of `bins_kernels`: the same in Python."""

from collections.abc import Sequence

from cdc.codec.avro import long
from cdc.codec.bins import Absent
from cdc.codec.decode import encode_python, to_python
from cdc.codec.records_plain import xxh64
from cdc.codec.values_plain import sized, to_avro


def choose(body: bytes, names: Sequence[str], absent: Absent) -> tuple[bytes, int, int]:
    """One change of `codec.bins.choose`: body, how many of the bins it had, checksum of them."""
    change = to_python(body)
    had = {name: change["bins"][name] for name in names if name in change["bins"]}
    if absent == "blank":
        change["op"], had = "WRITE", {}
    if change["op"] == "WRITE" and (absent != "found" or not had):
        change["bins"] = {name: had.get(name) for name in names}
    else:
        change["bins"] = had
    bins = change["bins"]
    block = b"".join(sized(name.encode()) + to_avro(value) for name, value in bins.items())
    return encode_python(change), len(had), xxh64((long(len(bins)) + block if bins else b"") + b"\x00")
