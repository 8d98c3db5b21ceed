"""Secrets of addresses stand in no page and no answer, whoever asks."""

import logging
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lineside.core import Clock, load_plant
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, create_app
from lineside.hub.access.permissions import Role
from tests.hub.conftest import open_hub
from tests.hub.test_access import everything, filled

HIDDEN = "peeping"
PLANT = f"""
schema = "lineside.plant/1"
site = "demo"
line = [{{ id = "x", name = "One" }}]
camera = [
    {{ id = "rack", line = "x", source = "rtsp://eye:{HIDDEN}@10.0.0.1/a" }},
    {{ id = "x", line = "x", source = "http://10.0.0.2/{HIDDEN}.jpg?token={HIDDEN}" }},
]
inspection = [{{ id = "stock", camera = "rack", labels = ["good", "bad"] }}]
[[webhook]]
name = "x"  # was at http://mes:{HIDDEN}@mes.lan
url = "http://127.0.0.1:9/{HIDDEN}?key={HIDDEN}"
headers = {{ X-Key = "{HIDDEN}" }}
[[output]]
id = "gate"
line = "x"
url = "mqtt://gate:{HIDDEN}@10.0.0.3"
switch = "west/gate"
fail_safe = 1
"""


@pytest.mark.parametrize(
    "role",
    [Role.VIEWER, *(pytest.param(each, marks=pytest.mark.slow) for each in [*Role][1:])],
)
def test_secrets_of_addresses_are_for_nobody(
    tmp_path: Path, clock: Clock, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "plant.toml"
    file.write_text(PLANT)
    config = HubConfig(
        data_dir=str(tmp_path / "data"), plant=str(file), port=0, bus_port=0,
        records=SecretUrl("memory://"), blobs=SecretUrl("memory://"),
        bus=SecretUrl(f"mqtt://hub:{HIDDEN}@10.0.0.4"),
        mongo=SecretUrl(f"mongodb://hub:{HIDDEN}@10.0.0.5"),
        otlp=SecretUrl(f"http://10.0.0.6/{HIDDEN}"),
    )  # fmt: skip
    with (
        open_hub(config, plant=load_plant(file), clock=clock) as hub,
        TestClient(
            create_app(hub), base_url="http://127.0.0.1", raise_server_exceptions=False
        ) as browser,
    ):
        token = hub.auth.issue_token("person", kind="api", role=role)
        browser.headers["Authorization"] = f"Bearer {token}"
        for method, path in everything(hub):
            if path == "/api/v1/twin/live":
                continue
            answer = browser.request(method, filled(path), follow_redirects=False)
            assert HIDDEN not in answer.text, (method, path)
        shown = browser.get("/lines").text
        change = {"text": browser.get("/api/v1/plant").json().get("text", "x") + "#", "reason": "x"}
        wrong = {"section": "camera", "id": "x", "values": {"fps": "x"}, "reason": "x"}
        file.write_text(PLANT + "fps = 1")
        for body in (change, wrong):
            for path in ("/api/v1/plant/check", "/api/v1/plant", "/api/v1/plant/adopt"):
                assert HIDDEN not in browser.post(path, json=body).text
        assert HIDDEN not in browser.get("/setup").text
    assert "rtsp://…@10.0.0.1/…" in shown
    assert HIDDEN not in caplog.text
    assert HIDDEN not in str(config)
