"""S3's interface for reading: lists of buckets and objects as XML, and what a query asks for. Pure.

Sources: Amazon S3 API reference, ListBuckets, ListObjects and ListObjectsV2.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from lineside.compat.aws.errors import ParameterError, xml_text
from lineside.compat.aws.sigv4 import BUCKET

_MOST_LISTED = 1_000
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_OWNER = f"<Owner><ID>{BUCKET}</ID><DisplayName>{BUCKET}</DisplayName></Owner>"
_OTHER_OPERATIONS = frozenset((
    "accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption",
    "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "logging", "metrics",
    "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
    "publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select",
    "tagging", "torrent", "uploadId", "uploads", "versioning", "versions", "website",
))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """An object as a list names it."""

    key: str
    size_bytes: int
    sha256: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _ObjectPage:
    """A part of a list.

    Attributes:
        prefixes: what keys share up to the delimiter, one for all that share it.
        following: the last key or prefix of this page where more come, else "".
    """

    entries: tuple[ObjectEntry, ...]
    prefixes: tuple[str, ...]
    following: str


def _object_page(
    entries: Sequence[ObjectEntry],
    *,
    prefix: str = "",
    delimiter: str = "",
    after: str = "",
    limit: int,
) -> _ObjectPage:
    """The next entries and common prefixes behind ``after``, together at most ``limit``.

    Args:
        entries: in the order of their keys.
        prefix: what keys begin with.
        delimiter: keys that have it behind the prefix are listed by what stands up to it.
        after: a key, or a common prefix of a page before: all keys below it were listed.
        limit: 0 gives nothing, and says that nothing follows.
    """
    stored: list[ObjectEntry] = []
    prefixes: list[str] = []
    last = ""
    for entry in entries:
        key = entry.key
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        common = prefix + head + found if found else ""
        if key <= after or (common and common in (after, last)):
            continue
        if len(stored) + len(prefixes) >= limit:
            return _ObjectPage(entries=tuple(stored), prefixes=tuple(prefixes), following=last)
        last = common or key
        if common:
            prefixes.append(common)
        else:
            stored.append(entry)
    return _ObjectPage(entries=tuple(stored), prefixes=tuple(prefixes), following="")


def other_parameter(query: Iterable[str]) -> str:
    """The parameter by which a call means another operation than reading, putting or listing.

    "" where there is none.
    """
    return min(_OTHER_OPERATIONS.intersection(query), default="")


def buckets_xml(made: datetime) -> str:
    """``ListBuckets``: the one bucket, and when it was made."""
    buckets = f"<Bucket><Name>{BUCKET}</Name><CreationDate>{_stamp(made)}</CreationDate></Bucket>"
    return _xml("ListAllMyBucketsResult", f"{_OWNER}<Buckets>{buckets}</Buckets>")


def bucket_xml(entries: Sequence[ObjectEntry], *, bucket: str, query: Mapping[str, str]) -> str:
    """``GetBucketLocation``, or ``ListObjects`` of the version that the query asks for.

    The location is the first region, which S3 leaves empty.

    Raises:
        ParameterError: a parameter of the query has a value that it cannot have.
    """
    if "location" in query:
        return _xml("LocationConstraint", "")
    return _xml("ListBucketResult", _listing(entries, bucket=bucket, query=query))


def _listing(entries: Sequence[ObjectEntry], *, bucket: str, query: Mapping[str, str]) -> str:
    """Return the content of ``ListBucketResult``, of the version that was asked for."""
    second = query.get("list-type") == "2"
    limit, token = _limit(query), query.get("continuation-token")
    after = query.get("start-after" if second else "marker", "")
    if second and token is not None:
        after = _after(token)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    page = _object_page(entries, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    encoding = query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise ParameterError(f"{encoding[:40]!r} is no encoding", where="encoding-type", fix="url")

    def name(text: str) -> str:
        return xml_text(quote(text, safe="/~") if encoding else text)

    fields = [("Name", bucket), ("Prefix", name(prefix)), ("MaxKeys", str(limit))]
    if second:
        found = {
            "KeyCount": str(len(page.entries) + len(page.prefixes)),
            "ContinuationToken": xml_text(token or ""),
            "StartAfter": name(query.get("start-after", "")),
            "NextContinuationToken": urlsafe_b64encode(page.following.encode()).decode(),
        }
    else:
        found = {"NextMarker": name(page.following) if delimiter else "", "Marker": name(after)}
    found |= {"Delimiter": name(delimiter), "EncodingType": encoding}
    fields += [(tag, text) for tag, text in found.items() if text]
    fields.append(("IsTruncated", "true" if page.following else "false"))
    owner = "" if second and query.get("fetch-owner") != "true" else _OWNER
    facts = "".join(f"<{tag}>{text}</{tag}>" for tag, text in fields)
    return facts + _found(page, name=name, owner=owner)


def _found(page: _ObjectPage, *, name: Callable[[str], str], owner: str) -> str:
    objects = (
        f"<Contents><Key>{name(one.key)}</Key><LastModified>{_stamp(one.changed_at)}"
        f"</LastModified><ETag>&quot;{one.sha256}&quot;</ETag><Size>{one.size_bytes}</Size>"
        f"{owner}<StorageClass>STANDARD</StorageClass></Contents>"
        for one in page.entries
    )
    prefixes = (f"<Prefix>{name(one)}</Prefix>" for one in page.prefixes)
    return "".join((
        *objects, *(f"<CommonPrefixes>{one}</CommonPrefixes>" for one in prefixes),
    ))  # fmt: skip


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("max-keys", "") or str(_MOST_LISTED)
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise ParameterError(
            f"{text[:40]!r} is no number of keys", where="max-keys", fix=f"0 to {_MOST_LISTED}."
        )
    return min(int(text), _MOST_LISTED)


def _after(token: str) -> str:
    try:
        return b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise ParameterError(
            "the continuation token is not one of this bucket's", where="continuation-token",
            fix="Send NextContinuationToken of the page before.",
        ) from error  # fmt: skip


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _xml(root: str, inside: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{_NAMESPACE}">{inside}</{root}>'
