"""What ``lineside doctor`` says of what the settings bring in beside the plant."""

import json
import os
import shutil
import sqlite3
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zipfile import ZipFile

import pytest

from lineside.cli import store
from lineside.cli.app import _run
from lineside.cli.config import load_hub
from lineside.cli.store import Check, examine, site_status
from lineside.core import (
    Digest,
    FrameId,
    LinesideError,
    SystemClock,
    UnavailableError,
    digest_of,
    encode,
    parse_plant,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.core.webhooks import WebhookConfig
from lineside.hub import HubConfig, Services, running
from lineside.hub.config import KafkaConfig, RetrainRule
from lineside.hub.run import only_one
from lineside.store import FrameRow, open_blobs, open_records
from lineside.store.folder import FolderBlobs
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from tests.hub.conftest import PLANT, open_hub
from tests.links.hooks import hooks_server
from tests.training.test_onnx_backbone import written


@pytest.fixture
def config(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    return HubConfig(data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"))


def looked(config: HubConfig, name: str, *, full: bool = False, deep: bool = False) -> Check:
    checks = examine(config, full=full, deep=deep)
    return next(check for check in checks if check.name == name)


def test_what_is_not_set_is_not_looked_at(config: HubConfig) -> None:
    names = {check.name for check in examine(config)}
    assert not {"Kafka", "OPC UA"} & names


def test_a_backbone_that_is_none_is_named(config: HubConfig, tmp_path: Path) -> None:
    file = written(tmp_path / "net", {8: 24, 16: 32})
    for name, setting, words in (
        ("tiny", str(file), "tiny, licence LicenseRef-ours"),
        ("lost", str(tmp_path / "lost.onnx"), f"no such file ({tmp_path}/lost.onnx)"),
        ("long", f"/{256 * 'n'}.onnx", f"File name too long (/{256 * 'n'}.onnx)"),
        ("parts", "parts-resnet18", "no backbone 'parts-resnet18' is installed (backbone)"),
    ):
        found = looked(replace(config, backbones={name: setting}), f"backbone {name}")
        assert (found.ok, found.found) == (name == "tiny", words)
    file.write_bytes(b"no network")
    broken = looked(replace(config, backbones={"tiny": str(file)}), "backbone tiny")
    assert (broken.ok, str(file) in broken.found) == (False, True)


def test_a_refusal_of_the_system_that_names_no_file_is_told_as_it_is(
    config: HubConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_plant", lambda _: str(ssl.create_default_context(cadata="none")))
    assert "None" not in looked(config, "plant file").found


def test_before_a_first_start_it_is_quiet_and_makes_nothing(config: HubConfig) -> None:
    assert [check for check in examine(config, deep=True) if not check.ok] == []
    assert not config.folder.exists()


def test_a_plant_that_the_settings_refuse_is_named_before_a_start(config: HubConfig) -> None:
    rule = RetrainRule(dataset="rack", inspection="stock", task="classify")
    found = looked(replace(config, retrain=(rule,)), "plant file")
    assert (found.ok, "a rule trains classify" in found.found) == (False, True)


def test_too_little_room_is_named(config: HubConfig) -> None:
    full = looked(replace(config, min_free_bytes=10**18), "free space")
    assert not full.ok
    assert "min_free_bytes" in full.found


@pytest.mark.usefixtures("kept")
def test_restore_makes_its_folder(config: HubConfig, tmp_path: Path) -> None:
    archive, data = tmp_path / "all.tar", tmp_path / "not" / "yet"
    for name, folder in (("first", config.folder), ("second", data)):
        text = f'data_dir = "{folder}"\nplant = "{config.plant}"\n'
        (tmp_path / f"{name}.toml").write_text(text)
    first, second = (str(tmp_path / f"{name}.toml") for name in ("first", "second"))
    assert _run(["backup", "--to", str(archive), "--config", first]) == 0
    assert _run(["restore", str(archive), "--config", second]) == 0
    assert (data / "records.db").is_file()


def test_settings_that_cannot_start_make_nothing(config: HubConfig) -> None:
    for bad in (
        replace(config, opcua="opc.tcp://127.0.0.1:4840"), replace(config, plant="/nowhere.toml"),
    ):  # fmt: skip
        with pytest.raises(LinesideError), running(bad, clock=FakeClock()):
            pass
    assert not config.folder.exists()


@pytest.fixture
def kept(config: HubConfig) -> Services:
    """What a hub left behind: a frame, and a chain of three entries."""
    clock = FakeClock()
    config.folder.mkdir()
    plant = parse_plant(PLANT, where="plant")
    with open_hub(config, plant=plant, clock=clock) as services:
        for value in (1, 2, 3):
            body = {"topic": "i/ldr", "ts": rfc3339(clock.now()), "ldr": value}
            services.plant_ingest.take_http(encode(body))
        digest = services.blobs.put(b"a picture")
        row = FrameRow(
            id=FrameId("frm_1"), camera="rack", captured_at=clock.now(), arrived_at=clock.now(),
            digest=digest, size_bytes=9, width_px=1, height_px=1,
            thumbnail=services.blobs.put(b"small"),
        )  # fmt: skip
        services.records.frames.add([row])
    return services


@pytest.mark.usefixtures("kept")
def test_a_log_whose_last_entries_were_deleted_is_named(config: HubConfig) -> None:
    found = [looked(config, "event chains").found for _ in range(2)]
    assert found == [f"{n} entries hold that are new since the last check" for n in (3, 0)]
    assert looked(config, "event chains", full=True).found == "3 entries hold"
    database = sqlite3.connect(config.folder / "records.db")
    with database:
        database.execute("DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)")
    database.close()
    broken = looked(config, "event chains")
    assert not broken.ok
    assert "the chain's head is entry 3" in broken.found


@pytest.mark.usefixtures("kept")
def test_a_missing_picture_is_named_and_a_cut_one_when_all_are_read(config: HubConfig) -> None:
    assert looked(config, "pictures and packages").found == (
        "2 kept, of packages and the newest 1,000 frames"
    )
    (pack,) = [path for path in (config.folder / "blobs").rglob("*") if path.is_file()
               and b"a picture" in path.read_bytes()]  # fmt: skip
    whole = pack.read_bytes()
    pack.write_bytes(whole.replace(b"a picture", b"b picture"))
    assert looked(config, "pictures and packages").ok
    deep = looked(config, "pictures and packages", deep=True)
    assert (deep.ok, "1 of 2 are damaged" in deep.found) == (False, True)
    pack.write_bytes(whole)
    blobs = open_blobs(config.blobs_url)
    blobs.delete(digest_of(b"a picture"))
    blobs.close()
    gone = looked(config, "pictures and packages")
    assert (gone.ok, "1 of 2 are missing" in gone.found) == (False, True)


@pytest.mark.usefixtures("kept")
def test_an_image_that_retention_deletes_meanwhile_is_not_missed(
    config: HubConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FolderBlobs.has

    def has(blobs: FolderBlobs, digest: Digest) -> bool:
        with open_records(config.records_url, clock=FakeClock()) as records:
            for row in records.frames.age_out(older_than=SystemClock().now()):
                blobs.delete(row.digest)
        return own(blobs, digest)

    monkeypatch.setattr(FolderBlobs, "has", has)
    assert looked(config, "pictures and packages").ok


@pytest.mark.usefixtures("kept")
def test_images_of_older_frames_are_looked_for_with_full(
    config: HubConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_records(config.records_url, clock=FakeClock()) as records:
        newest = records.frames.get(FrameId("frm_1"))
        before = newest.captured_at - timedelta(seconds=1)
        gone = replace(newest, id=FrameId("frm_0"), captured_at=before, digest=digest_of(b"gone"))
        records.frames.add([gone])
    for full in (False, True):
        found = looked(config, "pictures and packages", full=full)
        assert (found.ok, "1 of 3 are missing" in found.found) == (False, True)
    monkeypatch.setattr(store, "_PAGE", 1)
    oks = [looked(config, "pictures and packages", full=full).ok for full in (False, True)]
    assert oks == [True, False]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("is_shrunk", [False, True])
def test_a_pack_that_was_cut_is_named_without_reading_it(
    config: HubConfig, *, is_shrunk: bool
) -> None:
    blobs = open_blobs(config.blobs_url)
    digests = blobs.put_many([bytes([number]) * 10_000 for number in range(5)])
    if is_shrunk:
        blobs.delete(digests[0])
    blobs.close()
    assert looked(config, "pictures and packages").ok
    (pack,) = (config.folder / "blobs" / "packs").glob("*.pack")
    os.truncate(pack, pack.stat().st_size * 9 // 10)
    found = looked(config, "pictures and packages")
    assert (found.ok, f"1 packs of images are cut, the first is {pack}, 45,2" in found.found) == (
        False, True,
    )  # fmt: skip


def test_a_cluster_answers_or_is_named(config: HubConfig, mock_kafka: str) -> None:
    there = looked(replace(config, kafka=KafkaConfig(brokers=mock_kafka)), "Kafka")
    assert (there.ok, there.found) == (True, "answers, brokers: 1")
    secret = KafkaConfig(brokers=mock_kafka, secret_files={"sasl.password": "/nowhere"})
    away = looked(replace(config, kafka=secret), "Kafka")
    assert not away.ok
    assert away.fix


def test_a_webhook_answers_or_is_named(config: HubConfig, tmp_path: Path) -> None:
    with hooks_server() as hooks:
        hook = WebhookConfig(name="mes", url=SecretUrl(hooks.url))
        assert looked(replace(config, webhook=(hook,)), "webhook mes").ok
        lacking = replace(hook, secret_file=str(tmp_path / "none"))
        assert not looked(replace(config, webhook=(lacking,)), "webhook mes").ok
        assert hooks.came == []
    assert not looked(replace(config, webhook=(hook,)), "webhook mes").ok


def test_opc_ua_says_who_may_read(config: HubConfig) -> None:
    asked = replace(config, opcua="opc.tcp://127.0.0.1:4840")
    assert "lineside hub init" in looked(asked, "OPC UA").fix
    assert looked(replace(asked, opcua_anonymous=True), "OPC UA").found == "read by anybody"


RTSP = b'source = "rtsp://camera:pa$$word@10.0.0.7/stream"'


@pytest.fixture
def site(config: HubConfig, tmp_path: Path) -> Iterator[str]:
    """A hub that runs, with secrets wherever one can stand; its settings' file."""
    plant = PLANT.replace(b'source = "folder:/nowhere"', RTSP)
    (tmp_path / "plant.toml").write_bytes(plant)
    text = f'data_dir = "{config.folder}"\nplant = "{config.plant}"\nport = 0\nbus_port = 0\n'
    (tmp_path / "hub.toml").write_text(f'{text}bus_broker = "amqtt"\n')
    settings = load_hub(tmp_path / "hub.toml").config
    with running(settings, clock=SystemClock()) as hub:
        hub.services.devices.take_status(
            "edge-9",
            encode({"schema": "lineside.device/1", "device": "edge-9", "state": "offline"}),
        )
        followers = hub.services.followers
        # Each follower takes its part in a thread of its own.
        wait_until(lambda: {one.state for one in followers.views()} == {"running"})
        wait_until(lambda: not hub.services.away())
        yield str(tmp_path / "hub.toml")


def test_a_bundle_for_support_has_no_secret_of_the_hub(
    site: str, config: HubConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = (config.folder / "tokens" / "admin.token").read_text().strip()
    log, bundle = tmp_path / "hub.log", tmp_path / "bundle.zip"
    log.write_text(
        f"sign in once: http://h/sign-in?token=link-secret\nGET {token}\nmqtt://a:bus@secret@host/\n"
    )
    words = ["support-bundle", "--to", str(bundle), "--log", str(log), "--config", site]
    assert _run(words) == 0
    assert bundle.stat().st_mode & 0o777 == 0o600
    with ZipFile(bundle) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert list(found) == [
        "versions.json", "settings.json", "plant.toml", "doctor.json", "stats.json", "log.txt",
    ]  # fmt: skip
    everything = "\n".join(found.values())
    for secret in ("pa$$word", "link-secret", "bus@secret", "secret@host"):
        assert secret not in everything, secret
    folders = ("tokens", "keys", "authority", "trust")
    files = [one for name in folders for one in (config.folder / name).rglob("*") if one.is_file()]
    assert len(files) > 5
    private = [
        one for one in files if one.suffix in {".token", ".key", ".pem"} or "keys" in one.parts
    ]
    for path in private:
        for line in path.read_text(errors="replace").split():
            assert len(line) < 16 or line not in everything, path
    assert "10.0.0.7" in found["plant.toml"]
    assert '"name": "plant file"' in found["doctor.json"]
    assert '"edge-9"' in found["stats.json"]
    assert _run(words) == UnavailableError.exit_code  # a bundle is never written over
    assert "bundle.zip" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["settings", "token", "plant"])
def test_a_bundle_is_written_of_a_hub_that_cannot_work(
    config: HubConfig, tmp_path: Path, fault: str
) -> None:
    log, bundle, file = tmp_path / "hub.log", tmp_path / "bundle.zip", tmp_path / "hub.toml"
    log.write_text("hub starts\n")
    file.write_text(f'data_dir = "{config.folder}"\nplant = "{config.plant}"\n')
    if fault == "settings":
        file.write_text("port = nothing\n")
    elif fault == "token":
        config.folder.mkdir()
        (config.folder / "hub.json").write_bytes(encode({"url": "http://127.0.0.1:9"}))
        hook = b'[[webhook]]\nname = "mes"\nurl = "http://127.0.0.1:9/mes-services/path-secret"\n'
        Path(config.plant).write_bytes(PLANT + b"\n" + hook + b'headers = { X-Line = "h" }\n')
    else:
        Path(config.plant).unlink()
    words = ["support-bundle", "--to", str(bundle), "--log", str(log), "--config", str(file)]
    assert _run(words) == 0
    with ZipFile(bundle) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert "hub starts" in found["log.txt"]
    assert {"settings": "hub.toml", "token": "admin.token", "plant": "no hub runs"}[fault] in found[
        "stats.json"
    ]
    if fault == "token":
        assert 'url = "http://127.0.0.1:9/…"' in found["plant.toml"]
        assert "headers = {…}" in found["plant.toml"]
        assert "path-secret" not in "".join(found.values())


def test_status_shows_a_running_hub_on_one_screen(
    site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["status", "--config", site]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) == 7
    for row in (
        "hub          ready",
        "cameras      0 of 2 live; gate never, rack never",
        "0 of 1 report; edge-9",
    ):
        assert row in text
    assert _run(["status", "--json", "--config", site]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["systems"] == {"records": True, "bus": True, "disk": True}
    assert found["certificate_days"] is None
    assert found["followers"]["rules"][0] == "running"
    gauges = {"disk_free_bytes": 1, "disk_least_bytes": 2, "certificate_ends_timestamp_s": 864_000}
    systems = {"system": {"figures": {"disk": {"up": False}}}}
    low = site_status({"gauges": gauges, "each": systems}, now_s=0.0)
    assert (low.ready, low.certificate_days, low.devices) == (False, 10, {})
    each = {
        "follower": {"figures": {"rules": {"state_stopped": 1, "lag_s": 0.0}}},
        "worker": {"figures": {"timers": {"state": 3}, "web": {"state": 2}}},
    }
    assert site_status({"gauges": gauges, "each": each}, now_s=0.0).away == (
        "follower rules",
        "worker timers",
    )


def test_an_upgrade_says_what_changes_then_does_it(
    config: HubConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "hub.toml"
    settings.write_text(f'data_dir = "{config.folder}"\nplant = "{config.plant}"\n')

    def said(*more: str, code: int = 0) -> str:
        assert _run(["upgrade", "--config", str(settings), *more]) == code
        return capsys.readouterr().out

    assert said() == "records: none yet; the hub makes them at its first start\n"
    assert not config.folder.exists()
    config.folder.mkdir(mode=0o700)
    formats = Path(__file__).parents[1] / "data" / "formats"
    shutil.copy(formats / "records-0001.db", config.folder / "records.db")
    for _ in range(2):
        text = said("--check")
        assert "in format 0001, 0004 with the first start" in text
        assert "0002: Leases" in text
        assert "way back: none without a backup" in text
    plan = json.loads(said("--check", "--json"))
    assert [step[0] for step in plan["records"]["steps"]] == ["0002", "0003", "0004"]
    with only_one(config):
        said(code=4)
    assert said() == "records: in format 0004 now, 0001 before\n"
    assert "nothing changes" in said("--check")
    assert said() == "records: in format 0004, nothing to do\n"
    settings.write_text(settings.read_text() + f"min_free_bytes = {10**18}\n")
    assert "BAD free space" in said("--check", code=2)
