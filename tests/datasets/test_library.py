from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Thread

import numpy as np
import pytest

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    UnavailableError,
    digest_of,
    frame_id,
    to_plain,
)
from lineside.datasets import Library, Marked, Part, Sample, SplitPlan
from lineside.datasets import library as library_module
from lineside.datasets.annotations import Annotation, Entry, ReviewState
from lineside.datasets.leaks import Appearance
from lineside.datasets.library import Draft, FreezePlan
from lineside.store import Blobs, FrameRow, Records
from lineside.testing import FakeClock

Png = Callable[[int], bytes]


def labelled(encoded: bytes, *labels: str, **facts: object) -> tuple[Sample, bytes]:
    facts.setdefault("name", "p.png")
    facts.setdefault("known", ("blue", "red"))
    return Sample(digest=digest_of(encoded), labels=labels, **facts), encoded  # type: ignore[arg-type]  # by name


def correct(library: Library, encoded: bytes, said: Annotation, *, by: str) -> None:
    digest = digest_of(encoded)
    _, revision = library.entry("rack", digest)
    state = ReviewState.LABELLED
    library.annotate("rack", digest, said, review=state, by=by, expect=revision)


def frame(encoded: bytes, *, records: Records, blobs: Blobs, part: str = "") -> FrameRow:
    moment = records.clock.now()
    digest = blobs.put(encoded)
    row = FrameRow(
        id=frame_id(camera="rack", captured_at=moment, digest=digest),
        camera="rack",
        captured_at=moment,
        arrived_at=moment,
        digest=digest,
        size_bytes=len(encoded),
        width_px=24,
        height_px=16,
        thumbnail=digest,
        part=part,
    )
    records.frames.add([row])
    return row


def test_the_same_picture_twice_is_one_sample(library: Library, png: Png) -> None:
    first = library.add("rack", [labelled(png(1), "blue"), labelled(png(2))], by="ann")
    again = library.add("rack", [labelled(png(1), "blue")], by="ann")
    assert (first.new, first.same, again.new, again.same) == (2, 0, 0, 1)
    draft = library.draft("rack")
    assert len(draft.entries) == 2
    assert [len(entry.judgements) for entry in draft.entries] == [1, 1]


def test_contradicting_labels_are_reported_and_judged_by_neither(
    library: Library, png: Png
) -> None:
    library.add("rack", [labelled(png(1), "blue")], by="ann")
    added = library.add("rack", [labelled(png(1), "blue", "red")], by="bob")
    assert "red" in added.reported[0].reason
    (entry,) = library.draft("rack").entries
    assert entry.disputed == ("red",)
    assert (entry.sample.labels, entry.sample.known) == (("blue",), ("blue",))
    assert [judgement.by for judgement in entry.judgements] == ["ann", "bob"]


def test_two_classes_of_one_region_contradict_each_other(library: Library, png: Png) -> None:
    library.add("rack", [labelled(png(1), "A1/blue", known=())], by="ann")
    library.add("rack", [labelled(png(1), "A1/red", known=())], by="bob")
    (entry,) = library.draft("rack").entries
    assert (entry.disputed, entry.contradicting) == (("A1/blue", "A1/red"), (1, 2))
    assert entry.sample.known == ()


@pytest.mark.parametrize("task", ["", "classify", "multilabel"])
def test_a_good_label_and_a_defect_of_two_people_contradict_each_other(
    library: Library, png: Png, task: str
) -> None:
    library.declare("rack", ["dent"], task=task)
    for by, label in (("ann", "good"), ("bob", "dent")):
        library.add("rack", [labelled(png(1), label, known=(label,))], by=by)
    (entry,) = library.draft("rack").entries
    if task != "classify":
        assert (entry.disputed, entry.sample.labels) == ((), ("dent", "good"))
        return
    assert (entry.disputed, entry.contradicting) == (("dent", "good"), (1, 2))
    assert (entry.sample.labels, entry.sample.known) == ((), ())


def test_a_correction_settles_a_dispute_and_keeps_what_was_said(
    *, library: Library, png: Png, clock: FakeClock
) -> None:
    library.add("rack", [labelled(png(1), "blue")], by="ann")
    library.add("rack", [labelled(png(1), "red")], by="bob")
    clock.advance(60)
    correct(library, png(1), Annotation(labels=("red",), known=("blue", "red")), by="cy")
    (entry,) = library.draft("rack").entries
    assert (entry.disputed, entry.sample.labels, entry.sample.author) == ((), ("red",), "cy")
    assert [judgement.by for judgement in entry.judgements] == ["ann", "bob", "cy"]
    assert entry.judgements[2].at - entry.judgements[0].at == timedelta(seconds=60)
    for by, label in (("dan", "red"), ("eve", "blue")):
        library.add("rack", [labelled(png(1), label)], by=by)
    assert library.draft("rack").entries[0].contradicting == (4, 5)


def test_a_dispute_is_settled_by_a_judgement_of_just_that(library: Library, png: Png) -> None:
    library.declare("rack", ["dent"], task="classify")
    names = ("A1/blue", "A1/red", "dent", "good")
    for count, (by, *labels) in enumerate((("ann", "A1/blue", "good"), ("bob", "A1/red", "dent"))):
        library.add("rack", [labelled(png(1), *labels, known=names, count=count)], by=by)
    disputed = ("(count)", *names)
    box = Marked(label="dent", x0_px=1, y0_px=1, x1_px=5, y1_px=5)
    for said, left in (
        (Annotation(known=()), disputed),
        (Annotation(known=(), marked=(box,)), disputed),
        (Annotation(labels=("dent",), known=("dent",)), disputed[:3]),
        (Annotation(labels=("dent", "A1/red"), known=("dent", "A1/red")), disputed[:1]),
        (Annotation(labels=("dent",), known=("dent",), count=0), ()),
    ):
        correct(library, png(1), said, by="cy")
        (entry,) = library.draft("rack").entries
        assert entry.disputed == left
        assert entry.contradicting == ((1, 2) if left else ())
        assert [one.by for one in entry.judgements] == ["ann", "bob", "cy"]


def test_who_says_again_what_their_import_said_settles_the_dispute(
    library: Library, png: Png
) -> None:
    for by, label in (("ann", "blue"), ("bob", "red")):
        library.add("rack", [labelled(png(1), label)], by=by)
    correct(library, png(1), Annotation(labels=("red",), known=("blue", "red")), by="bob")
    (entry,) = library.draft("rack").entries
    assert (entry.disputed, entry.sample.labels) == ((), ("red",))


def test_the_same_import_again_disputes_no_correction(library: Library, png: Png) -> None:
    imported = [labelled(png(1), "blue")]
    library.add("rack", imported, by="ann")
    correct(library, png(1), Annotation(labels=("red",), known=("blue", "red")), by="ann")
    assert library.add("rack", imported, by="ann").reported == ()
    (entry,) = library.draft("rack").entries
    assert (entry.disputed, entry.sample.labels, len(entry.judgements)) == ((), ("red",), 2)


def test_an_image_that_the_draft_lacks_is_named_with_its_dataset(library: Library) -> None:
    with pytest.raises(NotFoundError, match=r"no image sha256:.* in the draft of 'rack'"):
        library.entry("rack", digest_of(b"none"))


def test_what_somebody_saves_while_a_label_is_renamed_stays_and_is_renamed(
    library: Library, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [labelled(png(n), "blue", name=f"frm_{n}") for n in (1, 2, 3)]
    library.add("rack", samples, by="ann")
    drawn = Marked(label="blue", x0_px=1, y0_px=1, x1_px=5, y1_px=5)
    saved = Annotation(labels=("blue", "red"), known=("blue", "red"), marked=(drawn,))
    read = library.draft

    def meanwhile(name: str) -> Draft:
        found = read(name)
        library.annotate(
            name, digest_of(png(1)), saved, review=ReviewState.CHECKED, by="bob", expect=1
        )
        library.add(name, [labelled(png(4), "blue")], by="bob")
        library.withdraw(name, digest_of(png(3)), by="ann")
        return found

    monkeypatch.setattr(library, "draft", meanwhile)
    library.relabel("rack", "blue", to="navy", by="cy")
    monkeypatch.undo()
    found = {entry.sample.digest: entry for entry in library.draft("rack").entries}
    assert found.keys() == {digest_of(png(n)) for n in (1, 2, 4)}
    one = found[digest_of(png(1))]
    assert set(one.sample.labels) == {"navy", "red"}
    assert one.sample.marked == (replace(drawn, label="navy"),)
    assert [judgement.by for judgement in one.judgements] == ["ann", "bob", "cy"]
    assert {label for entry in found.values() for label in entry.sample.known} == {"navy", "red"}


def test_a_label_on_too_many_images_is_not_renamed(
    library: Library, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add("rack", [labelled(png(n), "blue") for n in (1, 2)], by="ann")
    before = library.draft("rack")
    monkeypatch.setattr(library_module, "MOST_RENAMED", 1)
    with pytest.raises(InvalidError, match="'blue' is on 2 images, more than 1") as refused:
        library.relabel("rack", "blue", to="navy", by="cy")
    assert "lineside dataset export rack --draft" in refused.value.fix
    assert library.draft("rack") == before


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "é", "-a", "x" * 65])
def test_a_name_that_is_none_is_refused(library: Library, name: str) -> None:
    with pytest.raises(InvalidError):
        library.add(name, [], by="ann")


def test_bytes_of_another_picture_are_refused(library: Library, png: Png) -> None:
    sample, _ = labelled(png(1))
    with pytest.raises(InvalidError, match="not those of the digest"):
        library.add("rack", [(sample, png(2))], by="ann")


def test_what_is_no_picture_is_refused(library: Library) -> None:
    with pytest.raises(InvalidError):
        library.add("rack", [labelled(b"GIF89a")], by="ann")


def test_a_version_never_changes_and_knows_who_said_what(
    *, library: Library, records: Records, blobs: Blobs, png: Png
) -> None:
    library.add_frames("rack", [frame(png(1), records=records, blobs=blobs)], ["blue"], by="ann")
    library.add("rack", [labelled(png(2))], by="ann")
    version = library.freeze("rack", by="bob")
    library.add("rack", [labelled(png(3), "red")], by="ann")
    library.withdraw("rack", digest_of(png(1)), by="ann")
    kept = library.version("rack", 1)
    assert kept == version
    assert (kept.number, kept.created_by, len(kept.samples)) == (1, "bob", 2)
    assert kept.lineage[digest_of(png(1))][0].by == "ann"
    assert library.read(kept.samples[0]) in (png(1), png(2))
    assert library.version("rack").number == 1
    assert library.freeze("rack", by="bob").number == 2
    assert library.version("rack", 2).digest != version.digest


def test_freezing_the_same_again_gives_the_same_version(
    *, library: Library, png: Png, clock: FakeClock
) -> None:
    library.add("rack", [labelled(png(1), "blue")], by="ann")
    first = library.freeze("rack", by="bob")
    clock.advance(60)
    assert library.freeze("rack", by="cy") == first


def test_the_digest_is_of_the_content_not_of_the_library(
    *, library: Library, records: Records, blobs: Blobs, clock: FakeClock, png: Png
) -> None:
    content = [labelled(png(1), "blue"), labelled(png(2))]
    library.add("rack", content, by="ann")
    clock.advance(60)
    Library(records, blobs, clock=clock).add("other", reversed(content), by="bob")
    assert library.freeze("rack", by="x").digest == library.freeze("other", by="y").digest
    assert library.names() == ("other", "rack")


def test_a_declared_split_is_frozen_and_the_rest_goes_to_training(
    library: Library, png: Png
) -> None:
    content = [labelled(png(1), split=Part.VALID), labelled(png(2)), labelled(png(3))]
    library.add("rack", content, by="ann")
    version = library.freeze("rack", by="bob")
    assert [s.digest for s in version.part(Part.VALID)] == [digest_of(png(1))]
    assert len(version.part(Part.TRAIN)) == 2


def test_without_parts_nothing_is_parted_unless_shares_are_asked_for(
    library: Library, png: Png
) -> None:
    library.add("rack", [labelled(png(n)) for n in range(10)], by="ann")
    assert library.freeze("rack", by="bob").splits == {}
    shares = {Part.TRAIN: 0.7, Part.VALID: 0.3}
    version = library.freeze(
        "rack", by="bob", plan=FreezePlan(split=SplitPlan(shares=shares, seed=3))
    )
    assert {len(v) for v in version.splits.values()} != {0}
    assert sum(len(v) for v in version.splits.values()) == 10


def test_a_test_set_that_nobody_chose_stays_where_an_older_lineside_kept_no_split(
    library: Library, png: Png
) -> None:
    library.add("rack", [labelled(png(n)) for n in range(10)], by="ann")
    default = SplitPlan(shares={Part.TRAIN: 0.7, Part.TEST: 0.3}, is_default=True)
    first = library.freeze("rack", by="bob", plan=FreezePlan(split=default))
    library.add("rack", [labelled(png(10))], by="ann")
    later = library.freeze("rack", by="bob")
    assert (later.number, later.parting) == (2, default)
    assert set(first.splits[Part.TEST]) <= set(later.splits[Part.TEST])


def test_a_version_carries_its_leak_report(library: Library, png: Png) -> None:
    content = [
        labelled(png(1), name="a", group="tile", split=Part.TRAIN),
        labelled(png(2), name="b", group="tile", split=Part.VALID),
        labelled(png(3), name="c", split=Part.VALID),
    ]
    library.add("rack", content, by="ann")
    vector = np.full(4, 9.0, np.float32)
    features = {
        digest_of(png(1)): Appearance(vector=vector),
        digest_of(png(2)): Appearance(vector=-vector),
        digest_of(png(3)): Appearance(vector=vector),
    }
    plan = FreezePlan(features=features, features_by="region crops")
    version = library.freeze("rack", by="bob", plan=plan)
    assert version.leaking
    assert {leak.kind for leak in version.leaks} == {"same group", "near-duplicate"}
    assert library.version("rack").leaks == version.leaks


def test_frames_are_taught_pinned_and_grouped_by_minute_or_part(
    *, library: Library, records: Records, blobs: Blobs, clock: FakeClock, png: Png
) -> None:
    rows = [frame(png(1), records=records, blobs=blobs)]
    clock.advance(5)
    rows.append(frame(png(2), records=records, blobs=blobs, part="part-7"))
    added = library.add_frames("rack", rows, ["A1/blue", "B1/empty"], by="ann")
    assert (added.new, added.reported) == (2, ())
    assert records.frames.get(rows[0].id).pins == ("dataset:rack",)
    samples = {sample.name: sample for sample in library.draft("rack").samples}
    assert samples[rows[0].id].labels == ("A1/blue", "B1/empty")
    assert samples[rows[0].id].captured_at == rows[0].captured_at
    assert samples[rows[0].id].group.startswith("rack@")
    assert samples[rows[1].id].group == "part-7"
    library.freeze("rack", by="bob")
    assert set(records.frames.get(rows[0].id).pins) == {"dataset:rack", "dataset:rack/1"}


def test_a_frame_is_withdrawn_where_one_judgement_of_labels_is_all_there_is(
    *, library: Library, records: Records, blobs: Blobs, clock: FakeClock, png: Png
) -> None:
    rows = []
    for seed in range(5):
        rows.append(frame(png(seed), records=records, blobs=blobs))
        clock.advance(5)
    alone, boxed, spoken, saved, file = (row.digest for row in rows)
    library.add("rack", [labelled(png(4), "blue")], by="ann")
    library.add_frames("rack", rows[:4], ["blue"], by="ann")
    box = Marked(label="blue", x0_px=1, y0_px=1, x1_px=5, y1_px=5)
    library.add("rack", [(Sample(name="1.png", digest=boxed, marked=(box,)), png(1))], by="ann")
    library.comment("rack", spoken, "blue?", by="ann")
    said = Annotation(labels=("blue",), known=("blue",))
    library.annotate("rack", saved, said, review=ReviewState.CHECKED, by="ann", expect=1)
    for digest in (alone, boxed, spoken, saved, file):
        library.withdraw("rack", digest, by="bob")
    assert len(library.draft("rack").entries) == 5
    for digest in (alone, boxed, spoken, saved, file, alone):
        library.withdraw("rack", digest, by="ann")
    left = {entry.sample.digest for entry in library.draft("rack").entries}
    assert left == {boxed, spoken, saved, file}


class BusyLibrary(Library):
    """A library at which somebody saves after the first time that an entry is read."""

    saves = True

    def entry(self, name: str, digest: Digest) -> tuple[Entry, int]:
        found = super().entry(name, digest)
        if self.saves:
            self.saves = False
            said = Annotation(labels=("red",), known=("blue", "red"))
            state = ReviewState.LABELLED
            self.annotate(name, digest, said, review=state, by="bob", expect=found[1])
        return found


def test_what_is_saved_meanwhile_is_not_withdrawn(
    *, library: Library, records: Records, blobs: Blobs, clock: FakeClock, png: Png
) -> None:
    row = frame(png(1), records=records, blobs=blobs)
    library.add_frames("rack", [row], ["blue"], by="ann")
    BusyLibrary(records, blobs, clock=clock).withdraw("rack", row.digest, by="ann")
    entry, revision = library.entry("rack", row.digest)
    assert (entry.sample.labels, revision) == (("red",), 2)


class ContendedLibrary(Library):
    """A library at which another program writes an entry each time that it is read."""

    def entry(self, name: str, digest: Digest) -> tuple[Entry, int]:
        found = super().entry(name, digest)
        self._records.documents.put(f"dataset-sample:{name}", digest, body=to_plain(found[0]))
        return found


def test_what_others_keep_writing_is_not_withdrawn_and_that_is_said(
    *, library: Library, records: Records, blobs: Blobs, clock: FakeClock, png: Png
) -> None:
    row = frame(png(1), records=records, blobs=blobs)
    library.add_frames("rack", [row], ["blue"], by="ann")
    with pytest.raises(UnavailableError, match="others keep writing"):
        ContendedLibrary(records, blobs, clock=clock).withdraw("rack", row.digest, by="ann")


def test_a_frame_that_aged_out_is_reported(
    *, library: Library, records: Records, blobs: Blobs, clock: FakeClock, png: Png
) -> None:
    row = frame(png(1), records=records, blobs=blobs)
    clock.advance(100)
    records.frames.age_out(older_than=clock.now())
    added = library.add_frames("rack", [row], ["blue"], by="ann")
    assert added.new == 0
    assert "aged out" in added.reported[0].reason


def test_an_empty_or_unknown_dataset_cannot_be_frozen(library: Library) -> None:
    with pytest.raises(NotFoundError):
        library.freeze("rack", by="bob")
    library.add("rack", [], by="ann")
    with pytest.raises(InvalidError, match="nothing to freeze"):
        library.freeze("rack", by="bob")
    with pytest.raises(NotFoundError, match="has no version yet"):
        library.version("rack", 1)


def test_two_who_add_at_once_lose_nothing(library: Library, png: Png) -> None:
    pictures = [png(n) for n in range(6)]

    def add(by: str) -> None:
        library.add("rack", [labelled(p, "blue") for p in pictures], by=by)

    threads = [Thread(target=add, args=(name,)) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = library.draft("rack").entries
    assert len(entries) == 6
    assert all({j.by for j in entry.judgements} == {"ann", "bob"} for entry in entries)


def test_a_version_that_is_frozen_meanwhile_is_a_conflict(library: Library, png: Png) -> None:
    library.add("rack", [labelled(png(1), "blue")], by="ann")
    version = library.freeze("rack", by="bob")
    with pytest.raises(ConflictError, match="meanwhile"):
        library._write(replace(version, number=1))
