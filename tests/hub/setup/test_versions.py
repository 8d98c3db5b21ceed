"""Versions of the plant file: kept, written, applied, rolled back; changed by hand; killed."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    parse_plant,
)
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Plant
from lineside.hub import HubConfig, Services
from lineside.hub.config import FunctionConfig
from lineside.hub.eventlog.ledger import Ledger, RecordsJournal, person_event
from lineside.hub.setup.toml_edit import PlantEdit
from lineside.hub.setup.versions import PLANT_FILE_TYPE, PlantVersions, SitePlant
from lineside.links import Bus
from lineside.store import Records, open_records
from lineside.testing import FakeClock
from lineside.twin import load_snapshot
from tests.hub.conftest import PLANT, Line, another_hub

NAME = PlantEdit(section="", values={"name": "Hall 4"})
LAST = PlantEdit(section="", values={"name": "Hall 6"})
SLOT = b'[[twin.slot]]\nid = "C1"\nregion = "bottom"\ncolour = "white"\n'
OTHER = PlantEdit(section="", values={"name": "Hall 5"})


class DyingVersions(PlantVersions):
    """A hub that is killed after the version is kept, before the file is written."""

    def _write(self, number: int) -> None:
        raise KeyboardInterrupt(number)


class UnnotedVersions(PlantVersions):
    """A hub that is killed after the file is written, before that is noted."""

    def _note(self, number: int) -> None:
        raise KeyboardInterrupt(number)


class AwayLedger(Ledger):
    """A ledger whose log cannot be read while it is ``away``."""

    away = False

    def rebuild(self) -> int:
        if self.away:
            raise UnavailableError("the log is away")
        return super().rebuild()


class OvertakenVersions(PlantVersions):
    """A hub that another one overtakes while it checks a text."""

    def overtaken_by(self, other: PlantVersions) -> None:
        self.other: PlantVersions | None = other

    def _plant(self, text: str) -> Plant:
        other, self.other = getattr(self, "other", None), None
        if other is not None:
            other.change(edits=[OTHER], by="eve", reason="quicker")
        return super()._plant(text)


@pytest.fixture
def records(clock: FakeClock) -> Iterator[Records]:
    with closing(open_records("memory://", clock=clock)) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "site" / "plant.toml"
    file.parent.mkdir()
    file.write_text('# Ours.\nschema = "lineside.plant/1"\nsite = "hall"  # for ever\n')
    return file


def versions_of(
    records: Records, path: Path, clock: FakeClock, *, hub: str = "hub_1",
    kind: type[PlantVersions] = PlantVersions, config: HubConfig | None = None,
) -> PlantVersions:  # fmt: skip
    journal = RecordsJournal(records)
    faults = config.plant_faults if config else lambda _: []
    return kind(records, path=path, hub=hub, journal=journal, clock=clock, faults=faults)


@pytest.fixture
def versions(records: Records, path: Path, clock: FakeClock) -> PlantVersions:
    made = versions_of(records, path, clock)
    made.begin(alone=True)
    return made


def test_the_file_at_the_first_start_is_version_one(versions: PlantVersions, path: Path) -> None:
    first = versions.newest()
    assert (first.number, first.action) == (1, "first")
    assert versions.text(1) == path.read_text()
    assert versions.diff(1) == []


def test_a_change_is_kept_with_who_and_why_and_written_with_its_comments(
    versions: PlantVersions, path: Path, records: Records
) -> None:
    made = versions.change(edits=[NAME], by="anna", reason="moved", base=1)
    assert (made.number, made.by, made.reason, made.action) == (2, "anna", "moved", "changed")
    assert path.read_text().startswith("# Ours.\n")
    assert 'site = "hall"  # for ever\nname = "Hall 4"\n' in path.read_text()
    assert '+name = "Hall 4"' in versions.diff(2)
    assert [one.number for one in versions.page()] == [2, 1]
    assert [one.number for one in versions.page(before=2)] == [1]
    [_, second] = records.log.read(type=PLANT_FILE_TYPE)
    assert second.entry.subject == "2"
    assert b"Hall 4" not in second.entry.body  # the text stands in the version alone


def test_what_check_refuses_is_not_kept(versions: PlantVersions, path: Path) -> None:
    before = path.read_bytes()
    edit = PlantEdit(section="camera", values={"id": "a", "line": "none", "source": "tape:1"})
    change = versions.propose(edits=[edit])
    assert [one.path for one in change["faults"]] == ["$.camera[0].source"]
    with pytest.raises(InvalidError):
        versions.change(edits=[edit], by="anna", reason="try")
    assert (versions.newest().number, path.read_bytes()) == (1, before)


@pytest.mark.parametrize(
    ("text", "reason", "error"),
    [
        ("", "", InvalidError),
        ('schema = "lineside.plant/1"\nsite = "other"\n', "renamed", InvalidError),
    ],
)
def test_no_reason_and_another_site_are_refused(
    versions: PlantVersions, text: str, reason: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        versions.change(edits=[] if text else [NAME], text=text, by="anna", reason=reason)


def test_a_change_of_an_older_version_is_refused(versions: PlantVersions) -> None:
    versions.change(edits=[NAME], by="anna", reason="moved", base=1)
    with pytest.raises(ConflictError, match="version 2"):
        versions.change(edits=[NAME], by="eve", reason="moved too", base=1)
    with pytest.raises(ConflictError, match="nothing changes"):
        versions.change(edits=[NAME], by="eve", reason="moved too")


@pytest.mark.parametrize("base", [0, 2])
@pytest.mark.parametrize("action", ["change", "roll back", "adopt"])
def test_a_version_that_another_hub_keeps_meanwhile_is_not_lost(
    versions: PlantVersions, records: Records, path: Path, tmp_path: Path, clock: FakeClock,
    action: str, base: int,
) -> None:  # fmt: skip
    versions.change(edits=[NAME], by="anna", reason="moved")
    elsewhere = tmp_path / "other.toml"
    elsewhere.write_text(path.read_text())
    slow = versions_of(records, elsewhere, clock, hub="hub_2", kind=OvertakenVersions)
    slow.begin(alone=False)
    if action == "adopt":
        elsewhere.write_text(path.read_text() + "# by hand\n")
    assert isinstance(slow, OvertakenVersions)
    slow.overtaken_by(versions)
    acts: dict[str, Callable[[], object]] = {
        "change": lambda: slow.change(edits=[LAST], by="anna", reason="moved", base=base),
        "roll back": lambda: slow.roll_back(1, by="anna", reason="moved"),
        "adopt": lambda: slow.adopt(by="anna", reason="moved", base=base),
    }
    with pytest.raises(ConflictError, match="version 3 of the plant file is in force"):
        acts[action]()
    assert versions.newest().by == "eve"
    assert "Hall 5" in versions.text(3)


def test_a_rollback_is_the_next_version(versions: PlantVersions, path: Path) -> None:
    before = path.read_text()
    versions.change(edits=[NAME], by="anna", reason="moved")
    made = versions.roll_back(1, by="eve", reason="moved back")
    assert (made.number, made.action, path.read_text()) == (3, "rolled back", before)
    with pytest.raises(NotFoundError):
        versions.roll_back(9, by="eve", reason="x")


def test_a_file_changed_by_hand_is_adopted_or_restored(versions: PlantVersions, path: Path) -> None:
    kept = path.read_text()
    path.write_text(kept + 'name = "By hand"\n')
    state = versions.file()
    assert state["by_hand"]
    assert '+name = "By hand"' in state["diff"]
    with pytest.raises(ConflictError, match="by hand"):
        versions.change(edits=[NAME], by="anna", reason="moved")
    versions.restore()
    assert path.read_text() == kept
    path.write_text(kept + 'name = "By hand"\n')
    assert versions.adopt(by="anna", reason="it was right").action == "adopted"
    assert not versions.file()["by_hand"]
    for act in (versions.restore, lambda: versions.adopt(by="anna", reason="again")):
        with pytest.raises(ConflictError):
            act()


def test_a_hub_that_died_before_it_wrote_the_file_writes_it_at_its_start(
    versions: PlantVersions, records: Records, path: Path, clock: FakeClock
) -> None:
    assert versions.newest().number == 1
    dying = versions_of(records, path, clock, kind=DyingVersions)
    with pytest.raises(KeyboardInterrupt):
        dying.change(edits=[NAME], by="anna", reason="moved")
    assert "Hall 4" not in path.read_text()
    again = versions_of(records, path, clock)
    assert again.begin(alone=True).name == "Hall 4"
    assert 'name = "Hall 4"' in path.read_text()
    assert again.newest().number == 2


def test_a_hub_that_died_after_it_wrote_the_file_takes_over_what_others_kept_since(
    versions: PlantVersions, records: Records, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    elsewhere = tmp_path / "other.toml"
    elsewhere.write_text(path.read_text())
    other = versions_of(records, elsewhere, clock, hub="hub_2")
    other.begin(alone=False)
    dying = versions_of(records, path, clock, kind=UnnotedVersions)
    with pytest.raises(KeyboardInterrupt):
        dying.change(edits=[NAME], by="anna", reason="moved")
    assert "Hall 4" in path.read_text()
    assert versions.newest().number == 2
    other.change(edits=[OTHER], by="eve", reason="moved on")
    again = versions_of(records, path, clock)
    assert again.begin(alone=False).name == "Hall 5"
    assert (again.newest().number, again.newest().by) == (3, "eve")
    assert "Hall 5" in path.read_text()


def test_an_inspection_that_the_settings_name_stays(
    records: Records, path: Path, clock: FakeClock
) -> None:
    named = path.read_text() + (
        '[[line]]\nid = "a"\nname = "A"\n[[camera]]\nid = "c"\nline = "a"\nsource = "mqtt:c"\n'
        '[[inspection]]\nid = "i"\ncamera = "c"\nendpoint = "counter"\ntask = "anomaly"\n'
    )
    path.write_text(named)
    function = FunctionConfig(name="count", endpoint="counter", store=SecretUrl("file:///bins"))
    config = HubConfig(data_dir=str(path.parent), plant=str(path), function=(function,))
    versions = versions_of(records, path, clock, config=config)
    versions.begin(alone=True)
    edit = PlantEdit(section="inspection", id="i", values={"endpoint": None})
    (fault,) = versions.propose(edits=[edit])["faults"]
    assert "[[function]]" in str(fault)
    with pytest.raises(InvalidError) as refused:
        versions.change(edits=[edit], by="anna", reason="not needed")
    assert refused.value.faults == (fault,)
    kept = PlantEdit(section="inspection", id="i", values={"id": "counter", "endpoint": None})
    assert versions.change(edits=[kept], by="anna", reason="renamed").number == 2


def test_a_file_changed_by_hand_before_the_start_is_adopted(
    versions: PlantVersions, records: Records, path: Path, clock: FakeClock
) -> None:
    assert versions.newest().number == 1
    path.write_text(path.read_text() + 'name = "By hand"\n')
    again = versions_of(records, path, clock)
    assert again.begin(alone=True).name == "By hand"
    assert (again.newest().action, again.newest().by) == ("adopted", "hub")


def test_two_hubs_at_one_store_apply_one_version(
    versions: PlantVersions, records: Records, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    elsewhere = tmp_path / "other.toml"
    elsewhere.write_text(path.read_text())
    other = versions_of(records, elsewhere, clock, hub="hub_2")
    other.begin(alone=False)
    applied: list[Plant] = []

    def apply(plant: Plant) -> list[str]:
        applied.append(plant)
        return []

    other.on_change(apply)
    versions.change(edits=[NAME], by="anna", reason="moved")
    assert other.follow()
    assert not other.follow()
    assert [plant.name for plant in applied] == ["Hall 4"]
    assert elsewhere.read_text() == path.read_text()


def test_a_hub_new_to_the_site_keeps_the_sites_version_and_offers_its_own_file(
    versions: PlantVersions, records: Records, tmp_path: Path, clock: FakeClock
) -> None:
    assert versions.newest().number == 1
    stale = tmp_path / "stale.toml"
    stale.write_text('schema = "lineside.plant/1"\nsite = "hall"\nname = "Stale"\n')
    other = versions_of(records, stale, clock, hub="hub_2")
    assert other.begin(alone=False).name == ""
    assert other.file()["by_hand"]
    assert "Stale" in stale.read_text()


def test_a_part_that_cannot_follow_is_asked_again(versions: PlantVersions) -> None:
    failures = [ConflictError("later")]

    def apply(_: Plant) -> list[str]:
        if failures:
            raise failures.pop()
        return ["port: takes effect at the next start"]

    versions.on_change(apply)
    versions.change(edits=[NAME], by="anna", reason="moved")
    assert not versions.later
    assert versions.follow()
    assert list(versions.later) == ["port: takes effect at the next start"]


def test_a_changed_plant_reaches_router_cameras_twin_and_rules(
    hub: Services, line: Line, bus: Bus
) -> None:
    assert bus.connected()
    hub.plants.begin(alone=True)
    camera = {"id": "door", "line": hub.plant.line[0].id, "source": "mqtt:cam/door"}
    hub.plants.change(
        edits=[PlantEdit(section="camera", values=camera)], by="anna", reason="one more"
    )
    assert hub.router.find("cam/door").camera == "door"
    assert "door" in hub.cameras.ids
    assert hub.cameras.one("door").state == "never"
    line.send(line.status())
    hub.plants.change(
        edits=[PlantEdit(section="camera", id="door", remove=True)], by="anna", reason="one less"
    )
    assert "door" not in hub.cameras.ids
    other = another_hub(hub)
    assert other.plants.newest().number == 3


def test_a_twin_that_cannot_be_folded_anew_is_folded_later_and_not_kept_before(
    records: Records, clock: FakeClock
) -> None:
    plant, fewer = (
        SitePlant.of(parse_plant(text, where="plant")) for text in (PLANT, PLANT.replace(SLOT, b""))
    )
    ledger = AwayLedger(records, plant=plant, clock=clock)
    ledger.rebuild()
    ledger.record([person_event("lineside.x.v1", subject="x", site="hall", clock=clock, data={})])
    ledger.away = True
    with pytest.raises(UnavailableError):
        ledger.change_plant(lambda: plant.become(fewer))
    ledger.keep_snapshot()
    assert load_snapshot(records.documents, plant=plant) is None
    ledger.away = False
    ledger.change_plant(lambda: plant.become(fewer))
    started = Ledger(records, plant=fewer, clock=clock)
    started.rebuild()
    assert ledger.state == started.state
    ledger.keep_snapshot()
    assert load_snapshot(records.documents, plant=plant) is not None


def test_the_plant_of_a_hub_becomes_the_next_one_in_place(hub: Services) -> None:
    held = hub.plant
    text = hub.plants.text()
    hub.plants.change(text=text.rstrip("\n") + "\n# a comment\n", by="anna", reason="said more")
    assert hub.plant is held
    assert parse_plant(text.encode(), where="text").rule == held.rule
