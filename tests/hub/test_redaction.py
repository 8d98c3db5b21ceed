"""Answers name no folder and no store of the hub; its log does, under the answer's request id."""

import re
from collections import Counter
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lineside.core import (
    Clock,
    NotFoundError,
    UnavailableError,
    load_plant,
)
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, create_app
from lineside.hub.access.permissions import Role
from lineside.hub.config import FunctionConfig, own_places
from lineside.hub.problems import redact
from tests.hub.conftest import PLANT, open_hub
from tests.hub.test_access import everything, filled

OWN = own_places(
    HubConfig(
        data_dir="/srv/line/data", plant="/etc/line/plant.toml",
        tls_cert="/etc/keys/hub.crt", tls_key="/etc/keys/hub.key",
        records=SecretUrl("postgresql://hub:pw@db.hall:5433/line"),
        blobs=SecretUrl("s3://parts/hub?endpoint=http%3A%2F%2Fminio.hall%3A9000"),
        mongo=SecretUrl("mongodb://hub:pw@mongo.hall:27017/line"),
        function=(FunctionConfig(name="f", endpoint="e", store=SecretUrl("file:///srv/bins")),),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("/srv/line/data/packs/1.pack", "packs/1.pack"),
        ("/srv/line/data", ""),
        ("/etc/line/plant.toml", "plant.toml"),
        ("/etc/keys/hub.crt", "hub.crt"),
        ("/srv/bins/17.jpg", "17.jpg"),
        ("postgresql://…@db.hall:5433/line", ""),
        ("s3://parts/hub", ""),
        ("/srv/line/data-of-the-caller/a.jpg", "/srv/line/data-of-the-caller/a.jpg"),
        ("/etc/line/other.toml", "/etc/line/other.toml"),
        ("rtsp://10.0.0.9/…", "rtsp://10.0.0.9/…"),
    ],
)
def test_what_the_caller_named_stays_and_what_is_the_hub_s_goes(where: str, shown: str) -> None:
    assert redact(NotFoundError("no such file", where=where), path="/", own=OWN).where == shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot write: /srv/line/data/x is full",
        "Error performing GET http://minio.hall:9000/parts/hub in 3 ms",
        "mongo.hall:27017: connection refused",
        "postgresql://hub:pw@db.hall:5433/line cannot be used",
    ],
)
def test_sentences_lack_the_places_and_the_log_has_them(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = UnavailableError(text, fix="Try again.")
    shown = redact(error, path="/api/v1/frames", own=OWN)
    assert isinstance(shown, UnavailableError)
    assert not re.search(r"/srv|\.hall|pw", str(shown))
    (number,) = re.findall(r"request ([0-9a-f]{32})\.", shown.fix)
    assert f"id={number}" in caplog.text
    assert text in caplog.text
    assert str(error) == f"{text} fix: Try again."


def test_no_route_names_a_place_where_the_store_is_away(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "plant.toml"
    file.write_bytes(PLANT)
    (tmp_path / "data").mkdir()
    config = HubConfig(data_dir=str(tmp_path / "data"), plant=str(file), port=0, bus_port=0)
    with open_hub(config, plant=load_plant(file), clock=clock) as hub:
        browser = TestClient(
            create_app(hub), base_url="http://127.0.0.1", raise_server_exceptions=False
        )
        token = hub.auth.issue_token("person", kind="api", role=Role.ADMIN)
        browser.headers["Authorization"] = f"Bearer {token}"
        hub.records.close()
        statuses = Counter[int]()
        for method, path in everything(hub):
            if path == "/api/v1/twin/live":
                continue
            for accept in ("application/json", "text/html"):
                answer = browser.request(
                    method, filled(path), headers={"accept": accept}, follow_redirects=False
                )
                statuses[answer.status_code] += 1
                assert str(tmp_path) not in answer.text, (method, path)
    assert statuses[503] > 100
    assert str(tmp_path) in caplog.text
