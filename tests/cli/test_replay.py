"""``lineside replay`` beside a hub's store: JSON, text, a package of a file, faults, exit codes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.replay import _words as words_of
from lineside.core import Plant, decode_json, rfc3339
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Registration
from lineside.hub.replay.repository import REPLAY_TYPE, RecordCheck, ReplayCounts, ReplayResult
from lineside.models import build_package
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import archive, config, jpeg, plant  # noqa: F401  fixtures
from tests.hub.replayed import DARK, WINDOWS, Day, recorded_day, shy


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        found = decode_json(self.out.encode(), where="stdout")
        assert isinstance(found, dict)
        return found


@pytest.fixture
def day(
    config: HubConfig, plant: Plant, clock: FakeClock, *, archive: bytes,  # noqa: F811  fixtures
    jpeg: Callable[..., bytes], tmp_path: Path,  # noqa: F811  fixtures
) -> Iterator[Day]:  # fmt: skip
    data = tmp_path / "data"
    (data / "blobs").mkdir(parents=True)
    text = (tmp_path / "plant.toml").read_text()
    (tmp_path / "plant.toml").write_text(f"{text}[[rule]]\n{WINDOWS}\n[[rule]]\n{DARK}")
    records, blobs = f"sqlite:///{data}/records.db", f"file://{data}/blobs"
    (tmp_path / "hub.toml").write_text(
        f'data_dir = "{data}"\nplant = "{tmp_path}/plant.toml"\nport = 0\nbus_port = 0\n'
        f'records = "{records}"\nblobs = "{blobs}"\n'
    )
    stored = replace(config, records=SecretUrl(records), blobs=SecretUrl(blobs))
    with recorded_day(stored, plant, clock, archive=archive, jpeg=jpeg) as made:
        made.record((("blue",), ("blue",), ("red",), ()))
        yield made


def type_in(folder: Path, *words: str) -> Typed:
    done = subprocess.run(
        [sys.executable, "-m", "lineside", "replay", "--config", str(folder / "hub.toml"), *words],
        capture_output=True, text=True, check=False, timeout=LONG_S,
    )  # fmt: skip
    return Typed(code=done.returncode, out=done.stdout, err=done.stderr)


def span(day: Day) -> tuple[str, ...]:
    return ("--from", rfc3339(day.since), "--to", rfc3339(day.until))


def test_the_day_as_it_was_and_by_a_package_of_a_file(day: Day, tmp_path: Path) -> None:
    same = type_in(tmp_path, *span(day), "--package", "recorded")
    assert (same.code, "nothing differs, to the last bit" in same.out) == (0, True), same.err
    assert "4 frames" in same.out
    package = shy(day.package)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    (tmp_path / "shy.lspkg").write_bytes(build_package(package.manifest, files))
    words = ("--package", str(tmp_path / "shy.lspkg"), "--json", "--by", "eve")
    other = type_in(tmp_path, *span(day), *words, "--report", str(tmp_path / "found.json"))
    assert other.code == 0, other.err
    told = other.told
    assert (told["frames"], len(told["decisions_changed"])) == (4, 2)
    assert [one["change"] for one in told["events_changed"]] == ["removed"]
    assert {one["path"] for one in told["twin_changed"]} == {"slots/A1", "colours/blue"}
    assert decode_json((tmp_path / "found.json").read_bytes(), where="report") == told
    assert "kept as rpl_" in other.err
    kept = day.hub.replays.all()
    assert (kept[0].requested_by, kept[0].digest) == ("eve", told["digest"])
    log = [decode_json(one.entry.body, where="log")["data"]
           for one in day.hub.records.log.read(type=REPLAY_TYPE)]  # fmt: skip
    assert [one["digest"] for one in log] == [kept[1].digest, told["digest"]]


def test_a_version_by_its_number_and_other_rules_in_words(day: Day, tmp_path: Path) -> None:
    day.hub.models.register("discs", Registration(package=day.package.digest), by="ada")
    (tmp_path / "rules.toml").write_text(f"[[rule]]\n{WINDOWS.replace('above = 1', 'above = 2')}")
    words = ("--package", "discs:1", "--rules", str(tmp_path / "rules.toml"), "--no-keep")
    found = type_in(tmp_path, *span(day), *words)
    assert found.code == 0, found.err
    assert "answers: 4 identical" in found.out
    assert "event windows" in found.out
    assert "-> nothing" in found.out
    assert "1 rule of the plant file is not in the rules that were tried (dark)" in found.out
    assert day.hub.replays.all() == ()


@pytest.mark.slow
def test_what_cannot_be_replayed_gets_a_sentence(day: Day, tmp_path: Path) -> None:
    nobody = type_in(tmp_path, *span(day), "--package", "sha256:" + "0" * 64)
    assert (nobody.code, "no package sha256:000" in nobody.err) == (3, True)
    backwards = type_in(
        tmp_path, "--to", rfc3339(day.since), "--from", rfc3339(day.until), "--package", "recorded"
    )
    assert (backwards.code, "before it has begun" in backwards.err) == (2, True)
    empty = type_in(
        tmp_path, "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z",
        "--package", "recorded",
    )  # fmt: skip
    assert (empty.code, "The log holds what arrived from" in empty.err) == (3, True)


def test_the_text_says_how_many_differences_it_does_not_show(clock: FakeClock) -> None:
    found = ReplayResult(
        since=clock.now(), until=clock.now(), package="", package_name="", inspections=(), rules="",
        rules_begin=clock.now(), frames=30,
        counts=ReplayCounts(decisions_changed=28, twin_changed=2),
        bit_identical=False, decisions_changed=(), events_changed=(), twin_changed=(),
        record=RecordCheck(),
    )  # fmt: skip
    assert "    … 30 more; --json lists them" in words_of(found).splitlines()
