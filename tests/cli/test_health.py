"""What ``lineside doctor`` says of what the settings bring in beside the plant."""

from dataclasses import replace
from pathlib import Path

import pytest

from lineside.cli.health import Check, examine
from lineside.hub import HubConfig
from lineside.hub.kafka_config import KafkaConfig
from lineside.hub.webhooks_config import WebhookConfig
from tests.hub.conftest import PLANT
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
