"""The reference's MongoDB collections, written for their other readers, through pymongo.

1. A document has an ``_id`` of 24 hex digits and replaces the one of that ``_id``, so writing it
   again changes nothing. Every document gets ``_partition``; ``ts`` and ``timeStamp`` become dates.
2. ``sagemaker_stock_inference`` holds one document. It is made when absent and updated in place,
   also when another program made it, and an older time never overwrites a newer one.
3. In ``sensors`` numbers are doubles and ``br`` is text, as the reference's twin declares them.
4. A document above MongoDB's 16 MB keeps the digest of its ``data`` instead of it.
5. What BSON cannot hold is written as the nearest thing that it can: a key that begins with ``$``
   with U+FF04 instead, NUL in a key as U+2400, an integer beyond 64 bits as a decimal of up to 34
   digits, a longer one as its digits. Two keys of one object that become one are refused. Half of
   a surrogate pair does not come here: what has one is no JSON, so the log has none.
6. ``UnavailableError`` is about the database, ``InvalidError`` about the document: then any other
   document may be fine.
7. Orders of other twins are those without our field ``order``, by insertion time with an overlap,
   because another machine's clock makes their ids.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from lineside.core import (
    InvalidError,
    RefusedError,
    UnavailableError,
    digest_of,
    need,
    parse_rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.core.factory import ORDER_COLLECTION, PARTITION, STOCK_COLLECTION

SUBMITTED = "Order Submitted"

_SENSORS = "sensors"
_DATES = ("ts", "timeStamp")
_WAIT_MS = 3000
_OVERLAP = timedelta(minutes=10)
_REMEMBERED = 10_000
_BAD_CREDENTIALS = (13, 18)
# Codes of https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml: a command
# that fails for what it holds, and a write that fails though its document is fine.
_BAD_DOCUMENT = frozenset({2, 9, 14, 15, 22, 40, 52, 56, 57, 66, 121, 10334, 11000, 17280, 17419})
_BAD_MOMENT = frozenset(
    {6, 7, 24, 50, 64, 89, 91, 112, 133, 189, 246, 262, 8000, 9001, 10107, 11600, 11602, 12501,
     13435, 13436, 14031}
)  # fmt: skip
_INT64 = range(-(2**63), 2**63)
_DECIMAL = 10**34

Connect = Callable[[str], Any]


class MongoSink:
    """One database; safe from several threads; connects when it is first used."""

    def __init__(self, url: str, *, database: str = "aws", connect: Connect | None = None) -> None:
        """Take the address.

        Args:
            url: ``mongodb://…`` or ``mongodb+srv://…``.
            database: the reference's is called ``aws``.
            connect: makes a client of the address; pymongo's own by default.
        """
        self._url = SecretUrl(url)
        self._database = database
        self._connect = connect or _connect
        self._client: Any = None
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._begun: datetime | None = None

    def write(self, collection: str, document: Mapping[str, Any]) -> None:
        """Put a document where the reference has it.

        Raises:
            UnavailableError: the database is away.
            RefusedError: it refuses the credentials.
            InvalidError: a document that cannot be held: without a usable ``_id``, with a time that
                is none, or refused by the database itself.
        """
        with self._translated():
            found = _shaped(collection, document)
            target = self._collection(collection)
            found["_id"] = _object_id(found.get("_id"), where=collection)
            if collection == STOCK_COLLECTION:
                _update_single(target, found)
                return
            try:
                target.replace_one({"_id": found["_id"]}, found, upsert=True)
            except need("pymongo.errors", extra="mongo").DocumentTooLarge:
                target.replace_one({"_id": found["_id"]}, _without_data(found), upsert=True)

    def amend(self, collection: str, document: Mapping[str, Any]) -> None:
        """Set these fields of the document of that ``_id``; where it is gone nothing is made.

        Raises:
            UnavailableError, RefusedError, InvalidError: as ``write``.
        """
        with self._translated():
            found = _shaped(collection, document)
            found_id = _object_id(found.pop("_id", None), where=collection)
            self._collection(collection).update_one({"_id": found_id}, {"$set": found})

    def orders_after(self, after: str, *, most: int = 100) -> list[dict[str, Any]]:
        """Orders that other twins submitted and that were not returned yet, oldest first.

        Args:
            after: ``_id`` of the newest order seen before; "" begins now, so that orders of the
                past are not placed again.
            most: of these at most so many.

        Returns:
            The documents, ``_id`` as 24 hex digits. After a restart, orders of the ten minutes
            before ``after`` come again.
        """
        with self._translated():
            object_id = need("bson", extra="mongo").ObjectId
            if not after:
                self._begun = self._begun or object_id().generation_time
                since = self._begun
            else:
                since = _object_id(after, where="after").generation_time - _OVERLAP
            query = {
                "_id": {"$gte": object_id.from_datetime(since)},
                "order": {"$exists": False},
                "orderStatus": SUBMITTED,
            }
            rows = self._collection(ORDER_COLLECTION).find(query).sort("_id", 1).limit(_REMEMBERED)
            found = [{**row, "_id": str(row["_id"])} for row in rows]
        new = [row for row in found if row["_id"] not in self._seen][:most]
        for row in new:
            self._seen[row["_id"]] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return new

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _collection(self, name: str) -> Any:  # noqa: ANN401  pymongo and mongomock alike
        with self._lock:
            if self._client is None:
                self._client = self._connect(self._url.reveal())
            return self._client[self._database][name]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        errors = need("pymongo.errors", extra="mongo")
        where = str(self._url)
        try:
            yield
        except errors.OperationFailure as error:
            if error.code in _BAD_CREDENTIALS:
                raise RefusedError(
                    "the database refuses the credentials",
                    where=where,
                    fix="Check user, password and rights.",
                ) from error
            if _is_of_document(error, write=isinstance(error, errors.WriteError)):
                raise InvalidError(f"the database refuses the document: {error}") from error
            raise UnavailableError(f"the database failed: {error}", where=where) from error
        except (errors.InvalidURI, errors.ConfigurationError) as error:
            raise InvalidError(
                f"not an address: {error}", where=where, fix="Write mongodb://host:27017."
            ) from error
        except errors.PyMongoError as error:
            raise UnavailableError(
                f"the database is away: {error}", where=where, fix="Start it."
            ) from error
        except (
            need("bson.errors", extra="mongo").BSONError, ValueError, OverflowError, TypeError,
            RecursionError,
        ) as error:  # fmt: skip
            raise InvalidError(f"no document of MongoDB: {error}") from error


def _connect(url: str) -> Any:  # noqa: ANN401  pymongo is imported here only
    pymongo = need("pymongo", extra="mongo")
    return pymongo.MongoClient(url, tz_aware=True, serverSelectionTimeoutMS=_WAIT_MS, w="majority")


def _is_of_document(error: Any, *, write: bool) -> bool:  # noqa: ANN401  pymongo's
    """Return whether a failure is about what was to be written."""
    if write:
        return error.code not in _BAD_MOMENT
    return error.code in _BAD_DOCUMENT


def _shaped(collection: str, document: Mapping[str, Any]) -> dict[str, Any]:
    found = {**_storable(document, where=collection), "_partition": PARTITION}
    for name in _DATES:
        if isinstance(found.get(name), str):
            found[name] = parse_rfc3339(found[name], where=f"{collection}.{name}")
    if collection == _SENSORS:
        found = {name: _as_declared(name, value) for name, value in found.items()}
    return found


def _as_declared(name: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return f"{value:.1f}" if name == "br" else float(value)
    except OverflowError:
        return _storable(value, where=name)


def _storable(value: Any, *, where: str) -> Any:  # noqa: ANN401  JSON of many shapes
    """A value as BSON can hold it; see rule 5."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for name, inner in value.items():
            key = _key(name)
            if key in found:
                raise InvalidError(f"two keys become {key!r}", where=where, fix="Rename one.")
            found[key] = _storable(inner, where=f"{where}.{key}")
        return found
    if isinstance(value, list | tuple):
        return [_storable(inner, where=where) for inner in value]
    if isinstance(value, int) and value not in _INT64:
        if abs(value) < _DECIMAL:
            return need("bson.decimal128", extra="mongo").Decimal128(str(value))
        return str(value)
    return value


def _key(name: str) -> str:
    name = name.replace("\0", "\u2400")
    return f"\uff04{name[1:]}" if name.startswith("$") else name


def _object_id(text: object, *, where: str) -> Any:  # noqa: ANN401  bson is imported here only
    bson = need("bson", extra="mongo")
    try:
        return bson.ObjectId(str(text))
    except bson.errors.InvalidId as error:
        raise InvalidError(
            f"{text!r} is no object id", where=where, fix="Give 24 hex digits."
        ) from error


def _update_single(target: Any, document: dict[str, Any]) -> None:  # noqa: ANN401  either client
    there = target.find_one({}, sort=[("_id", 1)])
    if there is None:
        target.replace_one({"_id": document["_id"]}, document, upsert=True)
        return
    if _is_newer(there.get("ts"), document.get("ts")):
        return
    changes = {name: value for name, value in document.items() if name != "_id"}
    target.update_one({"_id": there["_id"]}, {"$set": changes})


def _is_newer(there: object, here: object) -> bool:
    return isinstance(there, datetime) and isinstance(here, datetime) and there > here


def _without_data(document: dict[str, Any]) -> dict[str, Any]:
    data = document.get("data", b"")
    raw = data if isinstance(data, bytes) else str(data).encode()
    return {**document, "data": digest_of(raw)}
