"""Contracts of other systems are answered where the settings name them."""

from dataclasses import replace
from typing import get_args

import pytest
from starlette.testclient import TestClient

from lineside.core import InvalidError, Plant, decode
from lineside.hub.config import Contract, HubConfig
from lineside.hub.run import create_app
from lineside.testing import FakeClock
from tests.hub.conftest import open_hub

ALL: tuple[Contract, ...] = get_args(Contract)
ADDRESSES = {
    "sagemaker": "/ping", "iot-jobs": "/jobs", "s3": "/s3", "open-inference": "/v2",
}  # fmt: skip


@pytest.mark.parametrize("contracts", [ALL, ALL[:2], ALL[2:], ()])
def test_a_hub_answers_the_contracts_of_its_settings_alone(
    config: HubConfig, plant: Plant, clock: FakeClock, contracts: tuple[Contract, ...]
) -> None:
    with open_hub(replace(config, contracts=contracts), plant=plant, clock=clock) as hub:
        who = {"Authorization": f"Bearer {hub.auth.issue_token('tester', kind='api')}"}
        with TestClient(create_app(hub), base_url="http://127.0.0.1", headers=who) as client:
            said = {name: client.get(path).status_code for name, path in ADDRESSES.items()}
            listed = client.get("/api/openapi.json").json()["paths"]
            assert client.get("/tuf/metadata/none.json").json()["detail"] != "Not Found"
    assert said == {name: 200 if name in contracts else 404 for name in ALL}
    assert {name for name, path in ADDRESSES.items() if path in listed} == set(contracts)


@pytest.mark.parametrize(
    ("name", "contract"), [("inference_grpc", "open-inference"), ("iot_jobs_tls", "iot-jobs")]
)
def test_a_port_for_a_contract_that_is_left_out_is_refused(name: str, contract: str) -> None:
    others = [one for one in ALL if one != contract]
    given = {"data_dir": "hub", "plant": "plant.toml", "contracts": others, name: "127.0.0.1:0"}
    with pytest.raises(InvalidError, match=contract):
        decode(HubConfig, given, where="settings")
