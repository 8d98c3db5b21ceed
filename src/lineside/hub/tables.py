"""Tables as files, CSV or Parquet, written piece by piece.

1. In CSV a text that begins with ``=``, ``+``, ``-``, ``@``, ``'``, tab or carriage return gets a
   ``'`` in front, so that a spreadsheet takes it for text (OWASP, "CSV Injection"); whoever reads
   it drops a ``'`` at the front. Numbers stay numbers.
2. Times are UTC by RFC 3339; in Parquet timestamps in microseconds. What is no time has none there.
3. A figure of 2^63 and above, which no column can hold, is left out.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from lineside.core import InvalidError, encode, need, parse_rfc3339

T = TypeVar("T")
Kind = Literal["text", "whole", "number", "time"]
Value = str | int | float | None

_ROWS = 500
_GROUP = 5000
_MOST = 2**63
_RISKY = ("=", "+", "-", "@", "'", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """A column: its kind, and where a row has it."""

    name: str
    kind: Kind
    of: Callable[[T], object]

    def value(self, row: T) -> Value:
        """Return the value of a column; None for nothing or for no number."""
        return _as(self.kind, self.of(row))


def csv_table(rows: Iterable[T], columns: Sequence[Column[T]]) -> Iterator[bytes]:
    """Return a CSV file in pieces."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_safe(column.name) for column in columns])
    for some in _batches(rows, _ROWS):
        writer.writerows([_safe(one.value(row)) for one in columns] for row in some)
        yield _written_bytes(text)
    yield _written_bytes(text)


def _safe(value: Value) -> Value:
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value


def _written_bytes(text: io.StringIO) -> bytes:
    written = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return written


class Drain(io.RawIOBase):
    """A file that gives out what was written to it since it was last asked."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, piece: Any, /) -> int:  # noqa: ANN401  any buffer
        copied = bytes(piece)
        self._pieces.append(copied)
        self._written += len(copied)
        return len(copied)

    def pop(self) -> bytes:
        """Return the bytes written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def parquet_table(rows: Iterable[T], columns: Sequence[Column[T]]) -> Iterator[bytes]:
    """Return a Parquet file in pieces.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    arrow = need("pyarrow", extra="parquet")
    writer_of = need("pyarrow.parquet", extra="parquet").ParquetWriter
    kinds = {
        "text": arrow.string(), "whole": arrow.int64(), "number": arrow.float64(),
        "time": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = arrow.schema([(column.name, kinds[column.kind]) for column in columns])

    def pieces() -> Iterator[bytes]:
        drain = Drain()
        with writer_of(drain, schema, compression="zstd") as writer:
            for some in _batches(rows, _GROUP):
                arrays = [
                    arrow.array([_moment(one, row) for row in some], kinds[one.kind])
                    for one in columns
                ]
                writer.write_table(arrow.table(arrays, schema=schema))
                yield drain.pop()
        yield drain.pop()

    return pieces()


def _moment(column: Column[T], row: T) -> object:
    value = column.value(row)
    if column.kind != "time" or value is None:
        return value
    try:
        return parse_rfc3339(str(value), where=column.name)
    except InvalidError:
        return None


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def _as(kind: Kind, value: object) -> Value:
    if value is None or (value == "" and kind == "time"):
        return None
    if kind in {"text", "time"}:
        return value if isinstance(value, str) else encode(value).decode()
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= _MOST:
        return None
    if kind == "whole":
        return int(value) if value == int(value) else None
    return float(value)
