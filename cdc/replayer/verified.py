"""What a verification found. Pure."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cdc.errors import Differs


@dataclass(frozen=True, slots=True)
class Verification:
    """A target compared with a plan, record by record.

    Of the `expected` records that the restore was about, `right` are as they were meant to be; `missing` are not there;
    `different` have another content or expiry; `kept` were there before a clone and stay, as it was told; `changed` are
    not as they were left, as somebody else wrote them since; `apart` are those that the restore's report names as
    refused or not touched; `unseen` were left as they were captured last, but somebody had changed them before the
    restore (or, of one that is gone, perhaps since). `extra` records should not be there. `found` were there.

    `unlike` partitions have another number of records than they should; None where their counts do not tell.
    `named_file` names the missing, different, extra and unseen ones, a JSON line each; None where there are none. It
    took `seconds`.
    """

    namespace: str
    expected: int = 0
    found: int = 0
    right: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    kept: int = 0
    changed: int = 0
    apart: int = 0
    unseen: int = 0
    unlike: int | None = None
    named_file: Path | None = None
    seconds: float = 0.0

    def __add__(self, other: "Verification") -> "Verification":
        names = ("expected", "found", "right", "missing", "different", "extra", "kept", "changed", "apart", "unseen")
        unlike = None if self.unlike is None or other.unlike is None else self.unlike + other.unlike
        return replace(self, unlike=unlike, **{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def wrong(self) -> int:
        """Records that are not as they were meant to be, for all that can be told by the restore's doing."""
        return self.missing + self.different + self.extra

    def error(self) -> Differs | None:
        """What to raise for it; None where nothing is wrong."""
        if not self.wrong:
            return None
        where = f"; they are named in {self.named_file}" if self.named_file else ""
        return Differs(
            f"{self.namespace} is not as it was meant to be: {self.missing:,} of {self.expected:,} records are "
            f"missing, {self.different:,} are different, {self.extra:,} should not be there{where}",
            "Somebody may have written or removed them since; a namespace may evict them, which its counters tell; a "
            "node of the Community Edition that restarts brings removed records back. Else restore again, and keep "
            "the archive.",
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        named_file = str(self.named_file) if self.named_file else None
        return asdict(self) | {"named_file": named_file, "seconds": round(self.seconds, 3)}

    def to_text(self) -> str:
        """For people, in a line."""
        counts = {
            "missing": self.missing, "different": self.different, "that should not be there": self.extra,
            "kept as they were before": self.kept, "changed by others since": self.changed,
            "refused or not touched": self.apart, "changed before it and not captured": self.unseen,
        }  # fmt: skip
        others = ", ".join(f"{n:,} {words}" for words, n in counts.items() if n)
        return f"{self.right:,} of {self.expected:,} records are as they were meant to be" + (others and f"; {others}")
