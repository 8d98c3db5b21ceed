"""Parting, tags, differences, masks that stay, and versions written by earlier releases."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Digest, InvalidError, NotFoundError, digest_of, encode
from lineside.datasets import Library, Marked, Part, Sample, SplitPlan, diff_versions
from lineside.datasets.annotations import Annotation, ReviewState
from lineside.datasets.library import FreezePlan
from lineside.datasets.splitting import parted
from lineside.datasets.versions import decode_version, version_digest
from lineside.store import Blobs, Records
from lineside.testing import FakeClock

Png = Callable[[int], bytes]
Make = Callable[..., Sample]
FORMATS = Path(__file__).parents[1] / "data" / "formats"
SHARES = {Part.TRAIN: 0.8, Part.VALID: 0.1, Part.TEST: 0.1}


def labelled(encoded: bytes, *labels: str, **facts: object) -> tuple[Sample, bytes]:
    facts.setdefault("name", f"{digest_of(encoded)[7:13]}.png")
    return Sample(digest=digest_of(encoded), labels=labels, **facts), encoded  # type: ignore[arg-type]  # by name


def marked(*boxes: tuple[float, float, float, float]) -> tuple[Marked, ...]:
    return tuple(Marked(label="hole", x0_px=a, y0_px=b, x1_px=c, y1_px=d) for a, b, c, d in boxes)


# ---- what is kept


def test_masks_and_templates_are_kept_and_outlive_the_draft(
    *, library: Library, records: Records, png: Png
) -> None:
    beside = {digest_of(png(n)): png(n) for n in (11, 12)}
    mask, template = beside
    given_ = labelled(png(1), "bad", mask_digest=mask, template_digest=template)
    library.add("rack", [given_], by="ann", files=beside.__getitem__)
    assert library.read_file(mask) == png(11)
    assert records.named([mask, template]) == {mask, template}
    library.freeze("rack", by="ann")
    state = ReviewState.LABELLED
    library.annotate("rack", digest_of(png(1)), Annotation(), review=state, by="ann", expect=1)
    assert records.named([mask, template]) == {mask, template}
    assert library.version("rack").samples[0].mask_digest == mask


def test_a_mask_that_is_not_handed_in_or_is_another_is_refused(library: Library, png: Png) -> None:
    one = labelled(png(1), "bad", mask_digest=digest_of(png(11)))
    with pytest.raises(InvalidError, match="not there"):
        library.add("rack", [one], by="ann")
    with pytest.raises(InvalidError, match="not those of the digest"):
        library.add("rack", [one], by="ann", files=lambda _: png(12))
    text = labelled(png(1), "bad", mask_digest=digest_of(b"text"))
    with pytest.raises(InvalidError):
        library.add("rack", [text], by="ann", files=lambda _: b"text")


def test_a_template_that_many_share_is_read_once(library: Library, png: Png) -> None:
    asked: list[Digest] = []

    def files(digest: Digest) -> bytes:
        asked.append(digest)
        return png(99)

    template = digest_of(png(99))
    many = [labelled(png(n), "good", template_digest=template) for n in range(5)]
    library.add("rack", many, by="ann", files=files)
    assert asked == [template]


def test_everything_known_of_a_sample_comes_back(library: Library, png: Png) -> None:
    sample, encoded = labelled(
        png(1), "bad", known=("bad", "scratched"), group="tile 1", split=Part.TEST, count=2,
        marked=marked((1, 2, 3, 4)), facts={"line": "2"}, name="a.png",
    )  # fmt: skip
    library.add("rack", [(sample, encoded)], by="ann")
    (kept,) = library.draft("rack").samples
    assert kept == replace(sample, author="ann")
    version = library.freeze("rack", by="ann")
    assert library.version("rack") == version
    assert version.lineage[sample.digest][0].marked == sample.marked


def test_what_only_one_source_knows_is_added_and_what_two_say_differently_is_open(
    library: Library, png: Png
) -> None:
    library.add("rack", [labelled(png(1), "bad", count=2)], by="ann")
    library.add("rack", [labelled(png(1), "bad", marked=marked((1, 2, 3, 4)), group="g")], by="bo")
    (entry,) = library.draft("rack").entries
    assert (entry.sample.count, len(entry.sample.marked or ())) == (2, 1)
    assert (entry.sample.group, entry.disputed) == ("g", ())
    added = library.add("rack", [labelled(png(1), "bad", count=3)], by="cy")
    (entry,) = library.draft("rack").entries
    assert (entry.sample.count, entry.disputed) == (None, ("(count)",))
    assert "(count)" in added.reported[0].reason


def test_another_part_or_group_is_reported_and_the_first_stands(library: Library, png: Png) -> None:
    library.add("rack", [labelled(png(1), "bad", group="a", split=Part.TEST)], by="ann")
    again = labelled(png(1), "bad", known=("bad", "odd"), group="b", split=Part.TRAIN)
    reasons = [note.reason for note in library.add("rack", [again], by="bo").reported]
    assert reasons == [
        "stands in test already, not in train",
        "is of group 'a' already, not of 'b'",
    ]
    sample = library.draft("rack").samples[0]
    assert (sample.group, sample.split, sample.known) == ("a", Part.TEST, ("bad", "odd"))


def test_many_pictures_are_added_batch_by_batch(library: Library, png: Png) -> None:
    given_ = [labelled(png(n), "good") for n in range(150)]
    broken = (given_[0][0], png(200))
    with pytest.raises(InvalidError):
        library.add("rack", iter([*given_[:140], broken]), by="ann")
    assert len(library.draft("rack").entries) == 128
    again = library.add("rack", iter(given_), by="ann")
    assert (again.new, again.same) == (22, 128)


def test_objects_in_another_order_are_the_same(library: Library, png: Png) -> None:
    one, other = (1, 2, 3, 4), (5, 6, 7, 8)
    library.add("rack", [labelled(png(1), marked=marked(one, other))], by="ann")
    library.add("rack", [labelled(png(1), marked=marked(other, one))], by="bo")
    assert library.draft("rack").entries[0].disputed == ()


def test_counting_anew_settles_a_dispute(library: Library, png: Png) -> None:
    library.add("rack", [labelled(png(1), count=2)], by="ann")
    library.add("rack", [labelled(png(1), count=3)], by="bo")
    library.recount("rack", digest_of(png(1)), count=3, by="cy")
    (entry,) = library.draft("rack").entries
    assert (entry.disputed, entry.sample.count) == ((), 3)
    assert [j.count for j in entry.judgements] == [2, 3, 3]


# ---- how it is parted


def many(png: Png, count: int, *, start: int = 0) -> list[tuple[Sample, bytes]]:
    return [labelled(png(n), "ab"[n % 2]) for n in range(start, start + count)]


def test_the_parting_asked_for_holds_for_the_next_versions(library: Library, png: Png) -> None:
    library.add("rack", many(png, 40), by="ann")
    parts = library.split("rack", SplitPlan(shares=SHARES, seed=3))
    version = library.freeze("rack", by="ann")
    assert {p: tuple(s.digest for s in held) for p, held in parts.items()} == version.splits
    assert version.parting == SplitPlan(shares=SHARES, seed=3)
    assert [len(version.part(part)) for part in SHARES] == [32, 4, 4]


def test_pictures_keep_their_part_when_more_are_added(library: Library, png: Png) -> None:
    library.add("rack", many(png, 40), by="ann")
    library.split("rack", SplitPlan(shares=SHARES))
    first = library.freeze("rack", by="ann")
    library.add("rack", many(png, 40, start=40), by="ann")
    second = library.freeze("rack", by="ann")
    for part in SHARES:
        held = {s.digest for s in first.part(part)}
        assert held <= {s.digest for s in second.part(part)}
    assert [len(second.part(part)) for part in SHARES] == [64, 8, 8]
    library.split("rack", SplitPlan(shares=SHARES, seed=9))
    third = library.freeze("rack", by="ann")
    assert diff_versions(second, third).moved


def test_folds_hold_each_picture_out_once(library: Library, png: Png) -> None:
    library.add("rack", many(png, 20), by="ann")
    out: list[Digest] = []
    for fold in (1, 2, 3, 4):
        parts = library.split("rack", SplitPlan(fold=fold, folds=4))
        assert set(parts) == {Part.TRAIN, Part.TEST}
        out += [sample.digest for sample in parts[Part.TEST]]
    assert sorted(out) == sorted(digest_of(png(n)) for n in range(20))


def test_a_rule_for_groups_is_written_into_the_version(library: Library, png: Png) -> None:
    given_ = [labelled(png(n), name=f"{n:03d}.png") for n in range(30)]
    library.add("rack", given_, by="ann")
    library.split("rack", SplitPlan(shares=SHARES, group="ids:5"))
    version = library.freeze("rack", by="ann")
    assert {s.group for s in version.samples} == {f"ids {n}" for n in range(0, 30, 5)}
    assert not [leak for leak in version.leaks if leak.kind == "same group"]


def test_declared_parts_hold_unless_they_are_passed_over(sample: Make) -> None:
    given_ = [sample(n, split="test") for n in range(30)]
    assert set(parted(given_, SplitPlan(shares=SHARES))[1]) == {Part.TEST}
    parts = parted(given_, SplitPlan(shares=SHARES, anew=True))[1]
    assert [len(parts[part]) for part in SHARES] == [24, 3, 3]
    assert all(s.split is Part.TEST for members in parts.values() for s in members)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fold": 1},
        {"folds": 3},
        {"fold": 4, "folds": 3},
        {"fold": 1, "folds": 1},
        {"exact": "odd"},
        {"seed": -1},
        {"seed": 2**32},
        {"shares": {"tarin": 1.0}},
        {"exact": "cuts", "fold": 1, "folds": 2},
        {"group": "blocks:x"},
        {"shares": {Part.TRAIN: -1.0}},
    ],
    ids=str,
)
def test_a_parting_that_cannot_be_is_refused_with_a_fix(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidError) as caught:
        SplitPlan(**wrong)  # type: ignore[arg-type]  # by name
    assert caught.value.fix


def test_more_folds_than_groups_are_refused_and_nothing_is_kept(library: Library, png: Png) -> None:
    given_ = [labelled(png(n), group=f"g{n % 2}") for n in range(8)]
    library.add("rack", given_, by="ann")
    with pytest.raises(InvalidError, match="make 2"):
        library.split("rack", SplitPlan(fold=3, folds=5))
    assert library.draft("rack").split is None


def test_a_parting_of_the_plan_goes_before_the_one_kept(library: Library, png: Png) -> None:
    library.add("rack", many(png, 20), by="ann")
    library.split("rack", SplitPlan(shares=SHARES))
    plan = FreezePlan(split=SplitPlan(exact="draws"))
    assert [len(library.freeze("rack", by="ann", plan=plan).part(p)) for p in SHARES] == [16, 2, 2]


# ---- digests


@given(st.permutations(range(6)))
def test_a_digest_is_of_canonical_json_of_all_that_training_sees(order: list[int]) -> None:
    facts = [
        {"group": "g", "count": 2},
        {"mask_digest": "sha256:" + "a" * 64},
        {"template_digest": "sha256:" + "b" * 64},
        {"marked": marked((1, 2, 3, 4))},
        {"marked": ()},
        {"labels": ("x",), "known": ("x", "y")},
    ]
    samples = [
        Sample(name=str(n), digest=Digest(f"sha256:{n:064x}"), **facts[n])  # type: ignore[arg-type]  # by name
        for n in order
    ]
    splits = {Part.TRAIN: [s.digest for s in samples], Part.TEST: []}
    simple = encode(
        {
            "samples": [
                {
                    "digest": s.digest, "labels": s.labels, "known": s.known, "group": s.group,
                    **({} if s.count is None else {"count": s.count}),
                    **({} if s.mask_digest is None else {"mask": s.mask_digest}),
                    **({} if s.template_digest is None else {"template": s.template_digest}),
                    **({} if s.marked is None else {"marked": s.marked}),
                }
                for s in sorted(samples, key=lambda s: s.digest)
            ],
            "splits": {"train": sorted(s.digest for s in samples)},
        }
    )  # fmt: skip
    assert version_digest(samples, splits) == digest_of(simple)


def test_whatever_is_drawn_changes_the_digest(sample: Make) -> None:
    one = sample(1)
    other = Digest("sha256:" + "c" * 64)
    changed = [
        one,
        replace(one, count=0),
        replace(one, mask_digest=other),
        replace(one, template_digest=other),
        replace(one, marked=()),
        replace(one, marked=marked((0, 0, 1, 1))),
        replace(one, group="g"),
        replace(one, known=("x",)),
    ]
    assert len({version_digest([s], {}) for s in changed}) == len(changed)


def test_a_version_of_the_first_release_opens() -> None:
    content = (FORMATS / "dataset-version-1.json").read_bytes()
    version = decode_version(content, where="rack/1")
    assert (version.name, len(version.samples), version.leaks_by) == (
        "rack", 2, "regions of inspection stock",
    )  # fmt: skip
    assert (version.leak_check, version.parting) == (None, None)
    assert version.digest == version_digest(version.samples, version.splits)
    assert version.samples[0].facts or version.samples[1].facts
    assert version.leaking


def test_a_version_of_a_later_release_or_torn_is_refused_in_a_sentence() -> None:
    content = (FORMATS / "dataset-version-1.json").read_bytes()
    later = content.replace(b"dataset-version/1", b"dataset-version/9")
    for broken in (later, content[: len(content) // 2], b"[]", b""):
        with pytest.raises(InvalidError):
            decode_version(broken, where="rack/1")


def test_figures_of_a_version_frozen_by_an_earlier_release_are_read_from_its_content(
    *, library: Library, records: Records, blobs: Blobs
) -> None:
    content = (FORMATS / "dataset-version-1.json").read_bytes()
    body = {"content": blobs.put(content), "digest": "x", "samples": 2}
    records.documents.put("dataset-version:rack", "000001", body=body)
    records.documents.put("dataset", "rack", body={"schema": "lineside.dataset/1", "versions": 1})
    (facts,) = library.versions("rack")
    assert (facts.number, facts.samples, facts.leaking) == (1, 2, True)
    assert facts.splits == {"train": 1, "valid": 1}


# ---- tags


def test_a_tag_names_one_version_moves_and_keeps_its_history(
    *, library: Library, png: Png, clock: FakeClock
) -> None:
    for count in (2, 3):
        library.add("rack", many(png, count), by="ann")
        library.freeze("rack", by="ann")
    library.tag("rack", "prod", number=1, by="ann")
    assert library.find("rack", "prod").number == 1
    clock.advance(60)
    library.tag("rack", "prod", by="bo")
    assert (library.find("rack", "prod").number, library.find("rack", "").number) == (2, 2)
    library.tag("rack", "prod", number=2, by="bo")
    (tag,) = library.tags("rack")
    assert [(move.version, move.by) for move in tag.history] == [(1, "ann"), (2, "bo")]
    library.untag("rack", "prod", by="cy")
    with pytest.raises(NotFoundError, match="on no version"):
        library.find("rack", "prod")
    assert [move.version for move in library.tags("rack")[0].history] == [1, 2, 0]


@pytest.mark.parametrize("tag", ["", "1", "12", "a b", "-a", "a/b", "x" * 33, "é"])
def test_a_tag_that_is_none_is_refused(library: Library, png: Png, *, tag: str) -> None:
    library.add("rack", many(png, 2), by="ann")
    library.freeze("rack", by="ann")
    with pytest.raises(InvalidError):
        library.tag("rack", tag, by="ann")


def test_a_tag_of_no_version_or_dataset_is_not_found(library: Library, png: Png) -> None:
    library.add("rack", many(png, 2), by="ann")
    for call in (
        lambda: library.tag("rack", "prod", by="ann"),
        lambda: library.tags("shelf"),
        lambda: library.untag("rack", "prod", by="ann"),
        lambda: library.find("rack", "prod"),
    ):
        with pytest.raises(NotFoundError):
            call()


# ---- what changed


def test_a_difference_names_every_kind_of_change(
    *, library: Library, png: Png, clock: FakeClock
) -> None:
    first = many(png, 6)
    library.add("rack", first, by="ann")
    digests = [sample.digest for sample, _ in first]
    before = library.freeze("rack", by="ann")
    clock.advance(60)
    said = Annotation(labels=("a",), known=("a", "b"))
    state = ReviewState.LABELLED
    library.annotate("rack", digests[1], said, review=state, by="bo", expect=1)
    library.recount("rack", digests[2], count=4, by="bo")
    library.add("rack", many(png, 1, start=50), by="cy")
    plan = FreezePlan(split=SplitPlan(shares={Part.TEST: 1.0}, group="regex:."))
    after = library.freeze("rack", by="bo", plan=plan)
    diff = diff_versions(before, after)
    assert diff.removed == ()
    assert [change.digest for change in diff_versions(after, before).removed] == [
        digest_of(png(50))
    ]
    assert [change.digest for change in diff.added] == [digest_of(png(50))]
    (relabelled,) = diff.relabelled
    assert (relabelled.digest, relabelled.before, relabelled.after, relabelled.by) == (
        digests[1], "b", "a, not b", "bo",
    )  # fmt: skip
    assert [(change.before, change.after) for change in diff.redrawn] == [
        ("nothing drawn", "count 4")
    ]
    assert {(change.before, change.after) for change in diff.moved} == {("", "test")}
    assert len(diff.moved) == len(diff.regrouped) == 6
    assert (diff.a, diff.b) == ("rack/1", "rack/2")


def test_a_version_does_not_differ_from_itself(library: Library, png: Png) -> None:
    library.add("rack", many(png, 4), by="ann")
    version = library.freeze("rack", by="ann")
    diff = diff_versions(version, version)
    lists = (diff.added, diff.removed, diff.relabelled, diff.redrawn, diff.moved, diff.regrouped)
    assert not any(lists)
