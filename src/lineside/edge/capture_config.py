"""Settings of captures: what is kept of what models were given and said."""

import re
from dataclasses import dataclass
from typing import Literal

from lineside.core import InvalidError, refuse, unless

MOST_EMBEDDED_BYTES = 3072
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")
_POLICY = re.compile(r"none|all|unsure|drift|every:([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """How captures are buffered, where they go, and which of our own decisions are captured.

    Attributes:
        fleet: a level of the captures' path, and the fleet their records name.
        destination: ``Disk`` writes below ``folder``; ``Cloud`` puts straight to ``upload``.
        folder: empty: ``captures`` in ``data_dir``.
        prefix: levels before the fleet.
        upload: ``s3://bucket/prefix?…`` or ``file:///dir``.
        upload_period_s: how often what lies on the disk is uploaded and then removed; 0: never.
        buffer_size: captures that may wait; more are refused.
        batch_size: so many are written at once, or what is there after ``push_period_s``.
        embed_max_bytes: longer values become files of their own beside the record.
        max_bytes: of captures on the disk; beyond it the oldest go, and are counted.
        inspections: which own decisions: none, all, every:N, unsure or drift.
    """

    fleet: str = "default"
    destination: Literal["Disk", "Cloud"] = "Disk"
    folder: str = ""
    prefix: str = ""
    upload: str = ""
    upload_period_s: float = 0.0
    buffer_size: int = 30
    batch_size: int = 10
    push_period_s: float = 10.0
    embed_max_bytes: int = MOST_EMBEDDED_BYTES
    max_bytes: int = 1_000_000_000
    inspections: str = "none"

    def __post_init__(self) -> None:
        levels = self.prefix.split("/") if self.prefix else []
        refuse(
            self,
            unless(
                _PART.fullmatch(self.fleet), key="fleet", seen=self.fleet,
                expected="letters, digits, '_', '.', '-', at most 100",
                fix='Write fleet = "defect-detection".',
            ),
            unless(
                all(_PART.fullmatch(level) for level in levels), key="prefix", seen=self.prefix,
                expected="names separated by /", fix='Write prefix = "line-a/captures".',
            ),
            unless(
                1 <= self.batch_size < self.buffer_size, key="batch_size", seen=self.batch_size,
                expected=f"1 or more and below buffer_size ({self.buffer_size})",
                fix="Write batch_size = 10 and buffer_size = 30, say.",
            ),
            unless(
                self.push_period_s > 0, key="push_period_s", seen=self.push_period_s,
                expected="above 0", fix="Write push_period_s = 10.",
            ),
            unless(
                0 <= self.embed_max_bytes <= MOST_EMBEDDED_BYTES, key="embed_max_bytes",
                seen=self.embed_max_bytes, expected=f"0 to {MOST_EMBEDDED_BYTES}",
                fix=f"Write embed_max_bytes = {MOST_EMBEDDED_BYTES}.",
            ),
            unless(
                self.max_bytes >= 1_000_000, key="max_bytes", seen=self.max_bytes,
                expected="1000000 or more", fix="Leave room for some captures.",
            ),
            unless(
                self.destination == "Disk" or self.upload, key="upload", seen=self.upload,
                expected="a place, where destination is Cloud",
                fix='Write upload = "s3://bucket/prefix", or destination = "Disk".',
            ),
            unless(
                self.upload_period_s == 0 or (self.upload_period_s > 0 and self.upload),
                key="upload_period_s", seen=self.upload_period_s,
                expected="0, or seconds above 0 beside upload",
                fix='Write upload = "s3://bucket/prefix".',
            ),
            unless(
                _POLICY.fullmatch(self.inspections), key="inspections", seen=self.inspections,
                expected="none, all, every:N, unsure or drift",
                fix='Write inspections = "unsure".',
            ),
        )  # fmt: skip

    @property
    def every(self) -> int:
        """N of ``every:N``; 0 for the other policies."""
        found = _POLICY.fullmatch(self.inspections)
        if found is None:
            raise InvalidError("no policy", where="inspections")
        return int(found[1] or 0)
