"""The one door to numba, typed. Importing this takes about a second: commands that need no kernel must not."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., object])

U8_IN = types.Array(types.uint8, 1, "C", readonly=True)
"""Bytes that a kernel only reads. A writable array may be handed in as well: one specialisation serves both."""
I64_IN = types.Array(types.int64, 1, "C", readonly=True)
I32_IN = types.Array(types.int32, 1, "C", readonly=True)
U8_ROWS_IN = types.Array(types.uint8, 2, "C", readonly=True)
U8_OUT = types.Array(types.uint8, 1, "C")
I32_OUT = types.Array(types.int32, 1, "C")
I64_OUT = types.Array(types.int64, 1, "C")
U64_OUT = types.Array(types.uint64, 1, "C")
BOOL_OUT = types.Array(types.boolean, 1, "C")
U8_ROWS_OUT = types.Array(types.uint8, 2, "C")
I64_ROWS_OUT = types.Array(types.int64, 2, "C")
INT = types.int64


def _sources() -> tuple[str, int]:
    """What all kernels are made of, in the form of numba's own stamp."""
    digest = hashlib.sha256()
    size = 0
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*_kernels.py")):
        text = path.read_bytes()
        size += len(text)
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + text)
    return digest.hexdigest(), size


STAMP = _sources()


_unliteral: Any = types.unliteral
_null: Any = cgutils.get_null_value
_memcpy: Any = cgutils.raw_memcpy


def _stamped(function: F, **options: Any) -> F:
    dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
    # numba's cache looks at the one file a function stands in, and would go on running yesterday's copy of a helper
    # from another file. A kernel is only as new as all of them.
    dispatcher._cache._cache_file._source_stamp = STAMP
    # numba would compile a helper anew for every constant that it is called with, and constants are what the protocol
    # is made of: a third of the time of a first start.
    template = dispatcher.get_call_template
    dispatcher.get_call_template = lambda args, kws: template(tuple(_unliteral(a) for a in args), kws)
    return cast(F, dispatcher)


def kernel(function: F) -> F:
    """Compile at first use, keep the result on disk, and run without the interpreter's lock."""
    return _stamped(function)


def hot(function: F) -> F:
    """A helper that LLVM must put into its callers, however large: calling it would cost as much as it does."""
    return _stamped(function, forceinline=True)


def inline(function: F) -> F:
    """A piece of a kernel, put into its callers."""
    return _stamped(function, inline="always")


def compiled(result: Any, *arguments: Any) -> Callable[[F], F]:
    """A kernel with one fixed signature, compiled (or loaded) when its module is imported.

    The types are those above: a read-only frame and a writable one then run the same machine code.
    """

    def decorate(function: F) -> F:
        dispatcher = cast(Any, _stamped(function))
        dispatcher.compile(result(*arguments))
        dispatcher.disable_compile()
        return cast(F, dispatcher)

    return decorate


def _borrow(typing_context: Any, array: Any) -> Any:
    """The same array without its share in the owner's count of references.

    numba counts references to every array that it hands to a helper, atomically: several times what the helper costs.
    The caller of a kernel holds its arrays until it returns, so there a borrowed one is as good.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        helper = context.make_array(signature.args[0])(context, builder, value)
        for owner in ("meminfo", "parent"):
            setattr(helper, owner, _null(getattr(helper, owner).type))
        return helper._getvalue()

    return array(array), generate


borrow: Any = intrinsic(_borrow)
"""In a kernel: `b = borrow(b)`."""


def _copy_from(typing_context: Any, out: Any, at: Any, address: Any, size: Any) -> Any:
    """`size` bytes of memory at an address to out[at:]; the position after them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        room = context.make_array(signature.args[0])(context, builder, arguments[0])
        target = builder.gep(room.data, [arguments[1]])
        source = builder.inttoptr(arguments[2], room.data.type)
        _memcpy(builder, target, source, arguments[3], 1)
        return builder.add(arguments[1], arguments[3])

    return types.int64(out, types.int64, types.uint64, types.int64), generate


copy_from: Any = intrinsic(_copy_from)
"""In a kernel: `o = copy_from(out, o, address, size)`. Nothing checks the address: what stands there must be kept."""
