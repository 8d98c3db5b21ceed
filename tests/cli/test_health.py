"""What ``lineside doctor`` says of what the settings bring in beside the plant."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.cli.store import Check, examine
from lineside.core import FrameId, LinesideError, digest_of, encode, parse_plant, rfc3339
from lineside.hub import HubConfig, Services, running
from lineside.hub.config import KafkaConfig, WebhookConfig
from lineside.store import FrameRow, open_blobs
from lineside.testing import FakeClock
from tests.hub.conftest import PLANT, open_hub
from tests.links.hooks import hooks_server


@pytest.fixture
def config(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    return HubConfig(data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"))


def looked(config: HubConfig, name: str) -> Check:
    return next(check for check in examine(config) if check.name == name)


def test_what_is_not_set_is_not_looked_at(config: HubConfig) -> None:
    names = {check.name for check in examine(config)}
    assert not {"Kafka", "OPC UA"} & names


def test_before_a_first_start_it_is_quiet_and_makes_nothing(config: HubConfig) -> None:
    assert [check for check in examine(config, deep=True) if not check.ok] == []
    assert not config.folder.exists()


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
    assert looked(config, "event chains").ok
    database = sqlite3.connect(config.folder / "records.db")
    with database:
        database.execute("DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)")
    database.close()
    broken = looked(config, "event chains")
    assert not broken.ok
    assert "the chain's head is entry 3" in broken.found


@pytest.mark.usefixtures("kept")
def test_a_missing_picture_is_named_and_a_cut_one_when_all_are_read(config: HubConfig) -> None:
    assert looked(config, "pictures and packages").found == "2 kept"
    (pack,) = [path for path in (config.folder / "blobs").rglob("*") if path.is_file()
               and b"a picture" in path.read_bytes()]  # fmt: skip
    whole = pack.read_bytes()
    pack.write_bytes(whole.replace(b"a picture", b"b picture"))
    assert looked(config, "pictures and packages").ok
    deep = next(one for one in examine(config, deep=True) if one.name == "pictures and packages")
    assert (deep.ok, "1 of 2 are damaged" in deep.found) == (False, True)
    pack.write_bytes(whole)
    blobs = open_blobs(config.blobs_url)
    blobs.delete(digest_of(b"a picture"))
    blobs.close()
    gone = looked(config, "pictures and packages")
    assert (gone.ok, "1 of 2 are missing" in gone.found) == (False, True)


def test_a_cluster_answers_or_is_named(config: HubConfig, mock_kafka: str) -> None:
    there = looked(replace(config, kafka=KafkaConfig(brokers=mock_kafka)), "Kafka")
    assert (there.ok, there.found) == (True, "answers, brokers: 1")
    secret = KafkaConfig(brokers=mock_kafka, secret_files={"sasl.password": "/nowhere"})
    away = looked(replace(config, kafka=secret), "Kafka")
    assert not away.ok
    assert away.fix


def test_a_webhook_answers_or_is_named(config: HubConfig, tmp_path: Path) -> None:
    with hooks_server() as hooks:
        hook = WebhookConfig(name="mes", url=hooks.url)
        assert looked(replace(config, webhook=(hook,)), "webhook mes").ok
        lacking = replace(hook, secret_file=str(tmp_path / "none"))
        assert not looked(replace(config, webhook=(lacking,)), "webhook mes").ok
        assert hooks.came == []
    assert not looked(replace(config, webhook=(hook,)), "webhook mes").ok


def test_opc_ua_says_who_may_read(config: HubConfig) -> None:
    asked = replace(config, opcua="opc.tcp://127.0.0.1:4840")
    assert "lineside hub init" in looked(asked, "OPC UA").fix
    assert looked(replace(asked, opcua_anonymous=True), "OPC UA").found == "read by anybody"
