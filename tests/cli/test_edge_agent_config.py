"""``lineside edge --agent-config``: the settings of a managed edge agent at the prompt."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import InvalidError, NotFoundError

SETTINGS = 'bus = "memory://edge"\nplant = "none.toml"\ndata_dir = "{folder}"\ndevice = "edge-9"\n'


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(SETTINGS.format(folder=tmp_path / "data"))
    return path


def run_edge(settings: Path, document: object, tmp_path: Path) -> tuple[BaseException | None, str]:
    path = tmp_path / "config_edge_device.json"
    path.write_text(json.dumps(document))
    words = ["edge", "--config", str(settings), "--agent-config", str(path)]
    done = CliRunner().invoke(app, words)
    return done.exception, done.output


def test_what_has_no_effect_is_said_before_the_agent_starts(settings: Path, tmp_path: Path) -> None:
    document = {
        "sagemaker_edge_core_device_name": "edge-1",
        "sagemaker_edge_core_device_fleet_name": "demo",
        "sagemaker_edge_provider_aws_cert_file": "$WORKDIR/cert.pem",
    }
    error, output = run_edge(settings, document, tmp_path)
    assert isinstance(error, NotFoundError)  # the plant file, which is read later
    assert "sagemaker_edge_provider_aws_cert_file has no effect: enrol the device" in output


def test_an_unknown_key_is_named(settings: Path, tmp_path: Path) -> None:
    document = {
        "sagemaker_edge_core_device_name": "edge-1",
        "sagemaker_edge_core_device_fleet_name": "demo",
        "sagemaker_edge_core_capture_data_bufer_size": 30,
    }
    error, _ = run_edge(settings, document, tmp_path)
    assert isinstance(error, InvalidError)
    assert "bufer_size" in str(error.faults)
    assert "Did you mean 'sagemaker_edge_core_capture_data_buffer_size'?" in str(error.faults)


def test_settings_that_cannot_work_together_are_refused(settings: Path, tmp_path: Path) -> None:
    document = {
        "sagemaker_edge_core_device_name": "edge-1",
        "sagemaker_edge_core_device_fleet_name": "demo",
        "sagemaker_edge_core_capture_data_buffer_size": 5,
        "sagemaker_edge_core_capture_data_batch_size": 5,
    }
    error, _ = run_edge(settings, document, tmp_path)
    assert isinstance(error, InvalidError)
    assert [fault.path for fault in error.faults] == ["$.capture.batch_size"]
