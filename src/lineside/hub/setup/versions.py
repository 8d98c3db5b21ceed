"""Versions of the plant file: who changed what and why, kept in the store, written to the file.

1. The plant file is the one source. Each change of it is a version: number, digest, who, when, why
   and the whole text. A version is checked as ``lineside check`` does before it is kept.
2. The version is kept first, then the file is replaced. A note in the store says which version a
   hub has in its file; a hub that died in between writes the file when it starts.
3. A file that was changed by hand is nobody's version: while the hub runs it is offered (adopt or
   restore) and nothing else is changed; a hub that starts with it adopts it.
4. Of several hubs at one store each applies the newest version and writes its own file. One that
   comes to a site for the first time takes over the site's version.
5. What applies a version may fail for a while: it is tried again, and again after a restart.
6. Whoever asks reads texts with ``…`` in place of their secrets, and may send them back so: a
   place that reads as before keeps its secret. A device gets those of its own lines.
"""

import difflib
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    Fault,
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    Plant,
    UnavailableError,
    decode,
    decode_toml,
    digest_of,
    parse_plant,
    replace_durably,
    rfc3339,
)
from lineside.core.codec import faults_error
from lineside.core.plant_check import (
    PLANT_TEXT_SCHEMA,
    PlantText,
    plant_of,
    plant_secrets,
    with_secrets,
    without_secrets,
)
from lineside.hub.eventlog.ledger import Journal, RecordsJournal, person_event
from lineside.hub.setup.toml_edit import PlantEdit, edit_text
from lineside.store import Document, Documents, Records, open_records

logger = logging.getLogger(__name__)

PLANT_FILE_TYPE = "lineside.plant_file.v1"
_KIND = "plant-version"
_FILES = "plant-file"
_NEWEST = "newest"
_MOST_REASON = 500
_MOST_KNOWN = 200
_HUB = "hub"

Applied = Callable[[Plant], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantVersion:
    """One version of the plant file, without its text.

    Attributes:
        number: from 1, in the order in which they were kept.
        digest: of the file's bytes.
        at, by, reason: when it was kept, by whom, and why.
        action: ``first``, ``changed``, ``rolled back``, or ``adopted`` where a person had changed
            the file.
    """

    number: int
    digest: Digest
    at: datetime
    by: str
    reason: str
    action: Literal["first", "changed", "rolled back", "adopted"]


class PlantChange(TypedDict):
    """A change that was not made yet: the whole text, its lines that differ, and its faults."""

    text: str
    diff: list[str]
    faults: list[Fault]


class PlantFileState(TypedDict):
    """The file on the disk beside the version in force; ``diff`` leads from that to the file."""

    by_hand: bool
    diff: list[str]
    faults: list[Fault]


class PlantVersions:
    """The plant file of one hub, and the versions of its site; safe from several threads."""

    def __init__(
        self, records: Records, *, path: Path, hub: str, journal: Journal, clock: Clock,
        faults: Callable[[Plant], Sequence[Fault]] = lambda _: (),
    ) -> None:  # fmt: skip
        """Read nothing yet; ``faults``: why the hub could not work with a plant."""
        self._faults_of = faults
        self._records = records
        self._documents: Documents = records.documents
        self._path = path
        self._hub = hub
        self._journal = journal
        self._clock = clock
        self._lock = threading.RLock()
        self._applied = self._applying = 0
        self._waiting: list[Applied] = []
        self._appliers: list[Applied] = []
        self.later: tuple[str, ...] = ()
        """Sentences on what of the version in force takes effect at the next start."""

    # ---- reading

    def newest(self) -> PlantVersion:
        """The version in force; the file becomes the first where there is none."""
        with self._lock:
            return self.one(self._in_force()[0])

    def one(self, number: int) -> PlantVersion:
        """``NotFoundError`` if there is none of that number."""
        return _version(self._document(number))

    def text(self, number: int = 0, *, lines: Collection[str] = ()) -> str:
        """The text of a version, 0: of the one in force.

        It has the secrets of cameras and outputs of ``lines``, and no others.
        """
        whole = self._text(number or self.newest().number)
        shown = without_secrets(whole)
        if not lines:
            return shown
        plant = parse_plant(whole.encode(), where="plant file")
        names = {
            f"{section}/{one.id}"
            for section, entries in (("camera", plant.camera), ("output", plant.output))
            for one in entries if one.line in lines
        }  # fmt: skip
        return with_secrets(shown, (one for one in plant_secrets(whole) if one.name in names))

    def _text(self, number: int) -> str:
        return str(self._document(number).body["text"])

    def page(self, *, before: int = 0, limit: int = 50) -> list[PlantVersion]:
        """Versions below a number, newest first; 0 begins with the version in force."""
        last = before - 1 if before else self.newest().number
        first = max(1, last - limit + 1)
        found = self._documents.page(_KIND, after=_name(first - 1), limit=max(1, last - first + 1))
        return [_version(one) for one in reversed(found) if one.id != _NEWEST]

    def diff(self, number: int, *, since: int | None = None) -> list[str]:
        """Lines that differ from the version before it, or from ``since``; none of the first."""
        before = number - 1 if since is None else since
        return _shown_diff(self._text(before or number), self._text(number))

    def file(self) -> PlantFileState:
        """The file on the disk, compared with the version in force."""
        with self._lock:
            raw, (number, _) = self._raw(), self._newest()
            if raw is None or not self._is_by_hand(raw, number):
                return PlantFileState(by_hand=False, diff=[], faults=[])
            text = raw.decode(errors="replace")
            diff = _shown_diff(self._text(number), text) if _shown(text) else []
            return PlantFileState(by_hand=True, diff=diff, faults=self._faults(text))

    def propose(self, *, edits: Sequence[PlantEdit] = (), text: str = "") -> PlantChange:
        """Return the outcome of edits of the version in force, or of a whole text; keep nothing.

        Raises:
            InvalidError, NotFoundError, ConflictError: as ``edit_text``.
        """
        number = self._in_force()[0]
        changed = self._changed(number, edits=edits, text=text)
        return PlantChange(
            text=_shown(changed) or changed, diff=_shown_diff(self._text(number), changed),
            faults=self._faults(changed),
        )  # fmt: skip

    def _changed(self, number: int, *, edits: Sequence[PlantEdit], text: str) -> str:
        present = self._text(number)
        changed = text or present
        for edit in edits:
            changed = edit_text(changed, edit)
        with suppress(InvalidError):  # it is told of where the text is checked
            changed = with_secrets(changed, plant_secrets(present))
        return changed

    def message(self) -> PlantText:
        """The version in force as devices are told it: its text they fetch."""
        version, *before = (one.number for one in self.page(limit=_MOST_KNOWN))
        return PlantText(
            schema=PLANT_TEXT_SCHEMA, number=version, digest=digest_of(self.text(version).encode()),
            known=tuple(digest_of(self.text(one).encode()) for one in before),
        )  # fmt: skip

    # ---- changing

    def change(
        self, *, edits: Sequence[PlantEdit] = (), text: str = "", by: str, reason: str,
        base: int = 0,
    ) -> PlantVersion:  # fmt: skip
        """Keep a changed plant file as the next version, write the file, and apply it.

        Args:
            edits: changes of single entries, in order.
            text: the whole text instead.
            by: who changes it.
            reason: why; stands in the history.
            base: the version that was edited; 0: whatever is in force.

        Raises:
            InvalidError: the text has faults, or no reason is given.
            ConflictError: another version is in force by now, the file was changed by hand, or
                nothing would change.
        """
        with self._lock:
            present = self._in_force(base=base)
            self._refuse_changed_file(present[0])
            made = self._changed(present[0], edits=edits, text=text)
            return self._keep(made, action="changed", by=by, reason=reason, present=present)

    def roll_back(self, number: int, *, by: str, reason: str) -> PlantVersion:
        """Keep the text of an earlier version as the next one.

        Raises:
            NotFoundError: there is no such version.
            InvalidError, ConflictError: as ``change``.
        """
        with self._lock:
            present = self._in_force()
            self._refuse_changed_file(present[0])
            text = self._text(number)
            return self._keep(text, action="rolled back", by=by, reason=reason, present=present)

    def adopt(self, *, by: str, reason: str, base: int = 0) -> PlantVersion:
        """Keep the file as a person changed it as the next version; ``base`` as in ``change``.

        Raises:
            ConflictError: nobody changed the file, or another version is in force by now.
            InvalidError: it has faults.
        """
        with self._lock:
            raw, present = self._raw(), self._in_force(base=base)
            if raw is None or not self._is_by_hand(raw, present[0]):
                raise _unchanged()
            text = _utf8(raw)
            return self._keep(text, action="adopted", by=by, reason=reason, present=present)

    def restore(self) -> PlantVersion:
        """Write the version in force over a file that a person changed.

        Raises:
            ConflictError: nobody changed the file.
            UnavailableError: it cannot be written.
        """
        with self._lock:
            raw, (number, _) = self._raw(), self._newest()
            if raw is not None and not self._is_by_hand(raw, number):
                raise _unchanged()
            self._write(number)
            return self.one(number)

    # ---- applying

    def begin(self, *, alone: bool) -> Plant:
        """At the start: bring file and store together; the plant to run with.

        ``alone``: no other hub uses the store, so a file that no version is like is adopted.

        Raises:
            NotFoundError, InvalidError: of the plant file.
        """
        with self._lock:
            present, raw = self._in_force(), self._raw(required=True) or b""
            if self._is_by_hand(raw, present[0]) and (alone or self._noted()):
                self._keep(
                    _utf8(raw), action="adopted", by=_HUB, present=present,
                    reason="Changed on disk by hand before the start",
                )  # fmt: skip
            else:
                self._write_if_missing(present[0], raw)
            self._applied = self._newest()[0]
            return self._plant(self._text(self._applied))

    def on_change(self, applier: Applied) -> None:
        """Hand each further version to ``applier``, in the order of these calls.

        It returns sentences on what takes effect at the next start only.
        """
        self._appliers.append(applier)

    def follow(self) -> bool:
        """Apply the newest version where this hub has not yet; whether it did.

        Raises:
            LinesideError: a part cannot take it over now; call again.
        """
        with self._lock:
            number, _ = self._newest()
            if number == self._applied:
                return False
            text = self._text(number)
            self._write_if_missing(number, self._raw())
            if number != self._applying:
                self._applying, self.later = number, ()
                self._waiting = list(self._appliers)
            plant = self._plant(text) if self._waiting else None
            while plant is not None and self._waiting:
                self.later += tuple(self._waiting[0](plant))
                self._waiting.pop(0)
            self._applied = number
            logger.info("plant file applied version=%d", number)
            return True

    # ---- inside

    def _keep(
        self, text: str, *, action: Literal["first", "changed", "rolled back", "adopted"],
        by: str, reason: str, present: tuple[int, int],
    ) -> PlantVersion:  # fmt: skip
        """Keep a text as the next version, in one transaction with its event; then apply it.

        ``present``: the version it was made of, as ``_newest`` gave it; the next of no other.
        """
        reason = reason.strip()
        if not 0 < len(reason) <= _MOST_REASON:
            raise InvalidError(
                f"a reason of {len(reason)} characters", where="reason",
                fix=f"Say in 1 to {_MOST_REASON} why the plant file changes.",
            )  # fmt: skip
        plant, (number, revision) = self._checked(text), present
        digest, at = digest_of(text.encode()), self._clock.now()
        if number and by != _HUB:
            self._check_successor(plant, digest, before=self._document(number))
        body: dict[str, Any] = {
            "number": number + 1, "digest": digest, "at": rfc3339(at), "by": by, "reason": reason,
            "action": action, "text": text,
        }  # fmt: skip
        data: dict[str, Json] = {
            "number": number + 1, "file": digest, "action": action, "by": by, "reason": reason,
        }  # fmt: skip
        event = person_event(
            PLANT_FILE_TYPE, subject=f"{number + 1}", site=plant.site, clock=self._clock, data=data
        )

        def write(_: object) -> None:
            newest = self._newest()
            if newest != present:
                raise _newer(newest[0], base=number)
            self._documents.put(_KIND, _NEWEST, body={"number": number + 1}, expect=revision)
            self._documents.put(_KIND, _name(number + 1), body=body, expect=0)

        self._journal.record([event], within=write)
        if action == "first":  # it is what the file says, and the hub runs with
            self._note(number + 1)
            self._applied = number + 1
        else:
            self._finish(number + 1)
        return self.one(number + 1)

    def _check_successor(self, plant: Plant, digest: str, *, before: Document) -> None:
        if before.body["digest"] == digest:
            raise ConflictError(
                "nothing changes", where="plant file", fix="It says exactly this already."
            )
        site = decode_toml(str(before.body["text"]).encode(), where="plant file")["site"]
        if site != plant.site:
            fault = Fault(
                path="$.site", value=repr(plant.site),
                expected=f"{site!r}, which stands in every topic and event of this site",
                fix="Begin another site in a data folder of its own.",
            )  # fmt: skip
            raise faults_error((fault,), where=str(self._path))

    def _finish(self, number: int) -> None:
        """Write the file and apply; what does not work now, the hub tries again by itself."""
        try:
            self._write(number)
            if self._appliers:
                self.follow()
        except LinesideError as error:
            logger.warning("plant file not applied yet version=%d reason=%s", number, error)

    def _refuse_changed_file(self, number: int) -> None:
        raw = self._raw()
        if raw is not None and self._is_by_hand(raw, number):
            raise ConflictError(
                "the plant file was changed on disk by hand", where=str(self._path),
                fix="Adopt that change as a version, or restore the version in force.",
            )  # fmt: skip

    def _is_by_hand(self, raw: bytes, number: int) -> bool:
        """Return whether the file is no version since the one that this hub last noted.

        A hub may have died after it wrote a file and before it noted that, while others went on.
        """
        digest, noted = digest_of(raw), self._noted()
        if not number or digest == self._document(number).body["digest"]:
            return False
        since = min(noted, number) or number
        found = self._documents.page(_KIND, after=_name(since - 1), limit=number - since + 1)
        return all(one.body.get("digest") != digest for one in found)

    def _write_if_missing(self, number: int, raw: bytes | None) -> None:
        """Write a version that the file does not have yet, over what was its own only."""
        if raw is None or digest_of(raw) != self._document(number).body["digest"]:
            if raw is not None and self._is_by_hand(raw, number):
                return
            try:
                self._write(number)
            except UnavailableError as error:
                logger.warning("plant file not written version=%d reason=%s", number, error)
        elif self._noted() != number:
            self._note(number)

    def _write(self, number: int) -> None:
        mode = self._path.stat().st_mode & 0o777 if self._path.exists() else 0o644
        replace_durably(self._path, self._text(number).encode(), mode=mode)
        self._note(number)

    def _note(self, number: int) -> None:
        self._documents.put(_FILES, self._hub, body={"number": number})

    def _noted(self) -> int:
        """The version that this hub wrote to its file, or found there; 0 for none."""
        try:
            return int(self._documents.get(_FILES, self._hub).body["number"])
        except NotFoundError:
            return 0

    def _in_force(self, *, base: int = 0) -> tuple[int, int]:
        """``_newest``; the file becomes the first version where there is none.

        Raises:
            ConflictError: ``base`` is given, and another version is in force.
        """
        present = self._newest()
        if not present[0]:
            text = _utf8(self._raw(required=True) or b"")
            with suppress(ConflictError):  # another hub was first
                self._keep(text, action="first", by=_HUB, reason="First version", present=present)
            present = self._newest()
        if base and base != present[0]:
            raise _newer(present[0], base=base)
        return present

    def _newest(self) -> tuple[int, int]:
        """The number in force, 0 for none, and the revision of the document that says so."""
        try:
            found = self._documents.get(_KIND, _NEWEST)
        except NotFoundError:
            return 0, 0
        return int(found.body["number"]), found.version

    def _document(self, number: int) -> Document:
        try:
            return self._documents.get(_KIND, _name(number))
        except NotFoundError as error:
            raise NotFoundError(
                f"no version {number} of the plant file", where="version",
                fix=f"There are 1 to {self._newest()[0]}.",
            ) from error  # fmt: skip

    def _raw(self, *, required: bool = False) -> bytes | None:
        """The file's bytes; None where there is none."""
        try:
            return self._path.read_bytes()
        except OSError as error:
            if not required:
                return None
            raise NotFoundError(
                f"cannot read the plant file: {error.strerror}", where=str(self._path),
                fix="Name a file.",
            ) from error  # fmt: skip

    def _plant(self, text: str) -> Plant:
        return plant_of(text.encode(), path=self._path)

    def _checked(self, text: str) -> Plant:
        """The plant of a text, where a hub of these settings can start with it."""
        plant = self._plant(text)
        faults = *_unknown_secrets(text), *self._faults_of(plant)
        if faults:
            raise faults_error(faults, where=str(self._path))
        return plant

    def _faults(self, text: str) -> list[Fault]:
        try:
            self._checked(text)
        except InvalidError as error:
            return list(error.faults) or [
                Fault(path="$", value="", expected=error.message, fix=error.fix)
            ]
        return []


def _shown(text: str) -> str:
    """A text without its secrets; "" of what is no TOML: nobody knows where they stand."""
    with suppress(InvalidError):
        return without_secrets(text)
    return ""


def _shown_diff(old: str, new: str) -> list[str]:
    """The lines that differ, without secrets; a sentence where only a secret differs.

    A new text that is no TOML is one that the caller sent, and so stays as it is.
    """
    found = diff_lines(_shown(old), _shown(new) or new)
    return found or ([] if old == new else ["The secret part of an address changes."])


def _unknown_secrets(text: str) -> Iterator[Fault]:
    for one in plant_secrets(text):
        if "…" in one.whole and one.name != one.shown:
            yield Fault(
                path=f"$.{one.name.partition('/')[0]}", value=repr(one.whole),
                expected=f"the whole text of {one.name}",
                fix="Write it without …, which only stands for the secret that is there.",
            )  # fmt: skip


def diff_lines(old: str, new: str) -> list[str]:
    """Return the lines of a unified diff, without the lines that name files."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    return list(lines)[2:]


@contextmanager
def open_plant_versions(
    records_url: str,
    *,
    path: Path,
    hub: str,
    clock: Clock,
    faults: Callable[[Plant], Sequence[Fault]] = lambda _: (),
) -> Iterator[PlantVersions]:
    """The versions for a command beside the hub, whether or not it runs."""
    with open_records(records_url, clock=clock) as records:
        journal = RecordsJournal(records)
        yield PlantVersions(
            records, path=path, hub=hub, journal=journal, clock=clock, faults=faults
        )


def _name(number: int) -> str:
    return f"{number:08d}"


def _version(document: Document) -> PlantVersion:

    body = {key: value for key, value in document.body.items() if key != "text"}
    return decode(PlantVersion, body, where=f"version {document.id}")


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8", where="plant file", fix="Save it as UTF-8.") from error


def _newer(number: int, *, base: int) -> ConflictError:
    return ConflictError(
        f"version {number} of the plant file is in force, you edited version {base}",
        where="plant file", fix="Look at the newer one, and make your change again.",
    )  # fmt: skip


def _unchanged() -> ConflictError:
    return ConflictError(
        "the plant file was not changed by hand", where="plant file", fix="There is nothing to do."
    )


class SitePlant(Plant):
    """The plant of a running hub, which all its parts hold: it becomes the next version in place.

    Fields are replaced one after the other, those that others name first.
    """

    __slots__ = ()

    @classmethod
    def of(cls, plant: Plant) -> "SitePlant":
        """The plant as one that can change."""
        return cls(**{one.name: getattr(plant, one.name) for one in fields(plant)})

    def become(self, plant: Plant) -> None:
        """Declare what ``plant`` declares; the site keeps its name."""
        for one in fields(plant):
            if one.name != "site":
                object.__setattr__(self, one.name, getattr(plant, one.name))
