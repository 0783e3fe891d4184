"""Info commands about sets, secondary indexes, UDFs and truncation. Indexes and UDFs are registered, never used."""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from cdc.embedded.aerospike.shared import Index
from cdc.embedded.aerospike.store import EPOCH_MS, NamespaceStore

if TYPE_CHECKING:
    from cdc.embedded.aerospike.cluster import Node

OK = "ok"
KINDS = ("numeric", "string", "blob", "geo2dsphere")
COLLECTIONS = ("default", "list", "mapkeys", "mapvalues")
OVER_SET = "set"
_ADDRESS = ("context", "namespace", "id")


def parameters(text: str) -> dict[str, str]:
    """`a=1;b=2` as a dictionary; what has no `=` is left out."""
    return dict(part.split("=", 1) for part in text.split(";") if "=" in part)


def _namespace_of(params: dict[str, str]) -> str | None:
    return params.get("namespace") or params.get("ns")


def sets(node: "Node", params: str) -> str:
    """`sets`, `sets/NS`, `sets/NS/SET`."""
    name, _, set_name = params.partition("/")
    if name and name not in node.stores:
        return "ns_type=unknown"
    if set_name:
        store = node.stores[name]
        return _set(node, store, set_name.encode("latin-1")) + ";" if set_name.encode("latin-1") in store.sets else ""
    lines = []
    for store in node.stores.values():
        if name in ("", store.name):
            for raw in store.sets:
                if raw:
                    lines.append(f"ns={store.name}:set={raw.decode('latin-1')}:{_set(node, store, raw)};")
    return "".join(lines)


def _set(node: "Node", store: NamespaceStore, raw: bytes) -> str:
    state = store.sets[raw]
    text = raw.decode("latin-1")
    indexes = sum(
        (i.namespace, i.set_name) == (store.name, text) and i.collection != OVER_SET
        for i in node.emulator.shared.indexes.values()
    )  # fmt: skip
    lut = state.truncate_lut_ms - EPOCH_MS if state.truncate_lut_ms else 0
    return (
        f"objects={state.objects}:tombstones=0:data_used_bytes={state.objects * 64}:truncate_lut={lut}:"
        f"sindexes={indexes}:index_populating=false:truncating=false:default-read-touch-ttl-pct=0:default-ttl=0:"
        f"disable-eviction=false:enable-index={str(state.enable_index).lower()}:stop-writes-count=0:stop-writes-size=0"
    )


def set_config(node: "Node", params: str) -> str:
    """`set-config:context=namespace;namespace=NS;`, and `set=SET;enable-index=…`, which makes the set known as on the
    server, or one of `store.Settings`."""
    given = parameters(params)
    namespace = _namespace_of(given) or given.get("id")
    if namespace not in node.stores:
        return "ERROR:20:namespace not found on node"
    if given.get("context") == "namespace" and "set" not in given:
        return _set_namespace(node.stores[namespace], given)
    if (
        given.get("context") != "namespace"
        or not given.get("set")
        or given.get("enable-index") not in ("true", "false")
    ):
        return "ERROR:4:invalid set-config parameter"
    node.stores[namespace].sets[given["set"].encode("latin-1")].enable_index = given["enable-index"] == "true"
    return OK


def _set_namespace(store: NamespaceStore, given: dict[str, str]) -> str:
    kinds = {field.name: type(getattr(store.settings, field.name)) for field in fields(store.settings)}
    wanted = {name.replace("-", "_"): value for name, value in given.items() if name not in _ADDRESS}
    for name, value in wanted.items():
        if value not in ("true", "false") if kinds.get(name) is bool else name not in kinds or not value.isdecimal():
            return "ERROR:4:invalid set-config parameter"
    for name, value in wanted.items():
        setattr(store.settings, name, value == "true" if kinds[name] is bool else int(value))
    return OK


def _indexes(node: "Node", namespace: str | None, *, b64: bool = False) -> str:
    """Contexts and expressions are shown in base 64 if that is asked for; otherwise in words, here always the same."""

    def shown(encoded: str) -> str:
        return encoded if b64 or encoded == "null" else "[(in words)]"

    found = [i for i in node.emulator.shared.indexes.values() if namespace in (None, i.namespace)]
    lines = [
        f"ns={i.namespace}:indexname={i.name}:set={i.set_name or 'null'}:bin={i.bin_name}:type={i.kind}:"
        f"indextype={i.collection}:context={shown(i.context)}:exp={shown(i.expression)}:state=RW"
        for i in found
        if i.collection != OVER_SET
    ]
    lines += [
        f"ns={i.namespace}:indexname={i.name}:set={i.set_name}:indextype={OVER_SET}"
        for i in found
        if i.collection == OVER_SET
    ]
    return ";".join(lines)


def index_list(node: "Node", params: str) -> str:
    """`sindex-list:` of all namespaces, or of one."""
    given = parameters(params)
    namespace = _namespace_of(given)
    if namespace is not None and namespace not in node.stores:
        return "ERROR:20:namespace not found on node;ERROR:20:namespace not found on node"
    return _indexes(node, namespace, b64=given.get("b64") == "true")


def index_list_or_stat(node: "Node", params: str) -> str:
    """The older `sindex`, `sindex/NS`, `sindex/NS/INDEX`."""
    namespace, _, name = params.partition("/")
    if name:
        return index_stat(node, f"namespace={namespace};indexname={name}")
    return _indexes(node, namespace or None)


def _index(node: "Node", params: str) -> Index | None:
    given = parameters(params)
    return node.emulator.shared.indexes.get((_namespace_of(given) or "", given.get("indexname", "")))


def index_stat(node: "Node", params: str) -> str:
    """An index is always loaded: it holds nothing."""
    if _index(node, params) is None:
        return "ERROR:201:no index"
    return "entries=0;used_bytes=16777216;entries_per_bval=0;entries_per_rec=0;load_pct=100;load_time=0;stat_gc_recs=0"


def index_exists(node: "Node", params: str) -> str:
    """true or false."""
    return "true" if _index(node, params) is not None else "false"


def index_create(node: "Node", params: str) -> str:
    """Register an index. One that is defined like another takes its place, whatever the name; ok for an unknown
    namespace too, as on the server."""
    given = parameters(params)
    namespace, name = _namespace_of(given), given.get("indexname")
    if not namespace:
        return "ERROR:20:missing 'namespace'"
    if not name:
        return "ERROR:4:missing 'indexname'"
    bin_name, kind = given.get("bin", ""), given.get("type", "").lower()
    collection = given.get("indextype", "default").lower()
    if "indexdata" in given:  # older clients: bin,type
        bin_name, _, kind = given["indexdata"].partition(",")
        kind = kind.lower()
    if collection == OVER_SET:
        return _index_set(node, namespace, name, given)
    if kind not in KINDS:
        return "ERROR:4:bad 'type' - must be one of 'numeric', 'string', 'blob', 'geo2dsphere'"
    if not bin_name and "exp" not in given:
        return "ERROR:4:both 'bin' and 'exp' are missing"
    if collection not in COLLECTIONS:
        return "ERROR:4:bad 'indextype' - must be one of 'default', 'list', 'mapkeys', 'mapvalues'"
    for encoded in ("context", "exp"):
        if encoded in given and not _is_base64(given[encoded]):
            return f"ERROR:4:'{encoded}' invalid base64"
    return _register(
        node,
        Index(
            namespace, name, given.get("set", ""), bin_name or "null", kind, collection,
            given.get("context", "null"), given.get("exp", "null"),
        ),
    )  # fmt: skip


def _register(node: "Node", index: Index) -> str:
    if index.namespace not in node.stores:
        return OK
    known = node.emulator.shared.indexes
    before = known.get((index.namespace, index.name))
    if before not in (None, index):
        return "ERROR:200:'indexname' already exists with different definition"
    for key, other in list(known.items()):
        if replace(other, name=index.name) == index:
            del known[key]
    known[index.namespace, index.name] = index
    return OK


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


def _index_set(node: "Node", namespace: str, name: str, given: dict[str, str]) -> str:
    if wrong := [word for word in ("context", "indexdata", "type", "bin", "exp") if word in given]:
        return f"ERROR:4:{wrong[0]} parameter is not supported for set index"
    if not given.get("set"):
        return "ERROR:4:missing 'set'"
    answer = _register(node, Index(namespace, name, given["set"], "", "", OVER_SET))
    if answer == OK and namespace in node.stores:
        _enable_index(node, namespace, given["set"], True)
    return answer


def index_delete(node: "Node", params: str) -> str:
    """Forget an index; ok when there is none."""
    given = parameters(params)
    namespace = _namespace_of(given)
    if not namespace:
        return "ERROR:20:missing 'namespace'"
    gone = node.emulator.shared.indexes.pop((namespace, given.get("indexname", "")), None)
    if gone is not None and gone.collection == OVER_SET:
        _enable_index(node, gone.namespace, gone.set_name, False)
    return OK


def _enable_index(node: "Node", namespace: str, set_name: str, enabled: bool) -> None:
    for each in node.emulator.nodes:
        each.stores[namespace].sets[set_name.encode("latin-1")].enable_index = enabled


def _udf_value(name: str, content: bytes) -> str:
    """How the server keeps a UDF in its metadata; its hash is over this text."""
    encoded = base64.b64encode(content).decode()
    return json.dumps({"content64": encoded, "type": "LUA", "name": name})


def udf_list(node: "Node", params: str) -> str:
    """File names, hashes and types."""
    return "".join(
        f"filename={name},hash={hashlib.sha1(_udf_value(name, content).encode()).hexdigest()},type=LUA;"
        for name, content in sorted(node.emulator.shared.udfs.items())
    )


def udf_get(node: "Node", params: str) -> str:
    """A UDF's content, in Base64."""
    content = node.emulator.shared.udfs.get(parameters(params).get("filename", ""))
    if content is None:
        return "error=not_found"
    return f"type=LUA;content={base64.b64encode(content).decode()};"


def udf_put(node: "Node", params: str) -> str:
    """Register a UDF; the Lua is not looked at."""
    given = parameters(params)
    if not given.get("filename"):
        return "error=invalid_filename"
    try:
        content = base64.b64decode(given.get("content", ""), validate=True)
    except binascii.Error:
        return "error=invalid_content"
    node.emulator.shared.udfs[given["filename"]] = content
    return OK


def udf_remove(node: "Node", params: str) -> str:
    """Forget a UDF; ok when there is none."""
    node.emulator.shared.udfs.pop(parameters(params).get("filename", ""), None)
    return OK


def truncate(node: "Node", params: str) -> str:
    """`truncate:namespace=NS;set=SET[;lut=NS]`."""
    given = parameters(params)
    if not _namespace_of(given):
        return "ERROR:20:missing 'namespace'"
    if not given.get("set"):
        return "ERROR:4:missing 'set'"
    return _truncate(node, given, given["set"].encode("latin-1"))


def truncate_namespace(node: "Node", params: str) -> str:
    """`truncate-namespace:namespace=NS[;lut=NS]`."""
    given = parameters(params)
    if not _namespace_of(given):
        return "ERROR:20:missing 'namespace'"
    return _truncate(node, given, None)


def _truncate(node: "Node", given: dict[str, str], set_name: bytes | None) -> str:
    """`lut` is in nanoseconds since 1970, cut to whole milliseconds; what has a lower LUT goes (`truncate.c`)."""
    now = node.now()
    lut = now
    if "lut" in given:
        digits = re.match(r"\d+", given["lut"])
        lut = (int(digits[0]) if digits else 0) // 1_000_000
        if lut <= EPOCH_MS:
            return "ERROR:4:would truncate to 0"
        if lut > now:
            return "ERROR:4:would truncate in the future"
    namespace = _namespace_of(given)
    if namespace in node.stores:
        node.emulator.truncate(namespace, set_name, lut)
    return OK
