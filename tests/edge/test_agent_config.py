"""``config_edge_device.json`` and ``models_config.json``: read, mapped, refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, NotFoundError
from lineside.core.config import load_config
from lineside.edge import EdgeConfig
from lineside.edge.config import read_agent_file
from lineside.edge.local_api.models_config import (
    ModelEntry,
    ModelsConfig,
    entry_of,
    folder_of,
    read_models,
    write_models,
)

# As the sample's installer writes it.
SHIPPED: dict[str, Any] = {
    "sagemaker_edge_core_device_name": "edge-device-defect-detection-demo",
    "sagemaker_edge_core_device_fleet_name": "defect-detection-demo",
    "sagemaker_edge_core_region": "eu-west-1",
    "sagemaker_edge_core_root_certs_path": "$WORKDIR/agent/certificates/root",
    "sagemaker_edge_provider_provider": "Aws",
    "sagemaker_edge_provider_provider_path": "$WORKDIR/agent/lib/libprovider_aws.so",
    "sagemaker_edge_provider_aws_ca_cert_file": "$WORKDIR/agent/certificates/iot/ca.pem",
    "sagemaker_edge_provider_aws_cert_file": "$WORKDIR/agent/certificates/iot/cert.pem",
    "sagemaker_edge_provider_aws_cert_pk_file": "$WORKDIR/agent/certificates/iot/key.pem",
    "sagemaker_edge_provider_aws_iot_cred_endpoint": "https://h/role-aliases/a/credentials",
    "sagemaker_edge_provider_s3_bucket_name": "sm-edge-workshop-demo-1",
    "sagemaker_edge_core_folder_prefix": "edge-agent-inference-data-capture",
    "sagemaker_edge_core_capture_data_destination": "Cloud",
    "sagemaker_edge_core_capture_data_buffer_size": 30,
    "sagemaker_edge_core_capture_data_batch_size": 10,
    "sagemaker_edge_core_capture_data_push_period_seconds": 10,
    "sagemaker_edge_core_capture_data_base64_embed_limit": 2,
    "sagemaker_edge_log_verbose": False,
}


def put(folder: Path, document: object) -> Path:
    path = folder / "agent" / "conf" / "config_edge_device.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def loaded(settings: Any) -> EdgeConfig:  # noqa: ANN401  as they are mapped
    more = {"bus": "mqtt://h", "plant": "p.toml", "data_dir": "/d"}
    flags = {**settings, **more}
    return load_config(EdgeConfig, program="edge", path=None, environ={}, flags=flags).config


class TestTheAgentsFile:
    def test_as_it_is_shipped_becomes_our_settings(self, tmp_path: Path) -> None:
        found = read_agent_file(put(tmp_path, SHIPPED), workdir=tmp_path)
        config = loaded(found.settings)
        assert config.device == "edge-device-defect-detection-demo"
        assert config.grpc == "unix:///tmp/edge_agent"
        assert config.home == str(tmp_path / "agent")
        capture = config.capture
        assert (capture.fleet, capture.prefix) == (
            "defect-detection-demo", "edge-agent-inference-data-capture"
        )  # fmt: skip
        assert capture.destination == "Cloud"
        assert capture.upload == "s3://sm-edge-workshop-demo-1?region=eu-west-1"
        sizes = [capture.buffer_size, capture.batch_size, capture.push_period_s]
        assert sizes == [30, 10, 10]
        assert capture.embed_max_bytes == 2
        assert config.trust_root == ""
        assert "packages in local folders are loaded unsigned" in found.without_effect[0]

    def test_names_the_trust_root_where_the_sites_root_lies(self, tmp_path: Path) -> None:
        root = tmp_path / "agent" / "certificates" / "root"
        root.mkdir(parents=True)
        (root / "root.json").write_bytes(b"{}")
        found = read_agent_file(put(tmp_path, SHIPPED))
        assert loaded(found.settings).trust_root == str(root)
        assert not any("unsigned" in sentence for sentence in found.without_effect)

    def test_says_what_has_no_effect(self, tmp_path: Path) -> None:
        found = read_agent_file(put(tmp_path, SHIPPED))
        told = "\n".join(found.without_effect)
        assert "sagemaker_edge_provider_aws_cert_pk_file has no effect: enrol" in told
        assert "log_verbose" not in told

    def test_takes_the_folder_that_holds_the_agents_as_workdir(self, tmp_path: Path) -> None:
        document = {
            **SHIPPED,
            "sagemaker_edge_core_capture_data_destination": "Disk",
            "sagemaker_edge_core_capture_data_disk_path": "$WORKDIR/captures",
        }
        found = read_agent_file(put(tmp_path, document))
        assert loaded(found.settings).capture.folder == str(tmp_path / "captures")
        moved = tmp_path / "conf" / "config_edge_device.json"
        moved.parent.mkdir()
        moved.write_text(json.dumps(document))
        assert loaded(read_agent_file(moved).settings).capture.folder == str(tmp_path / "captures")

    def test_uploads_later_where_that_is_asked_for(self, tmp_path: Path) -> None:
        document = {
            **SHIPPED,
            "sagemaker_edge_core_capture_data_destination": "Disk",
            "sagemaker_edge_core_capture_data_periodic_upload": True,
            "sagemaker_edge_core_capture_data_periodic_upload_period_seconds": 120,
        }
        capture = loaded(read_agent_file(put(tmp_path, document)).settings).capture
        assert (capture.destination, capture.upload_period_s) == ("Disk", 120)

    def test_names_every_fault_at_once(self, tmp_path: Path) -> None:
        document = {
            **SHIPPED,
            "sagemaker_edge_core_device_nam": "x",
            "sagemaker_edge_core_capture_data_destination": "S3",
            "sagemaker_edge_core_capture_data_buffer_size": "30",
        }
        with pytest.raises(InvalidError) as refused:
            read_agent_file(put(tmp_path, document))
        paths = {fault.path for fault in refused.value.faults}
        assert paths == {
            "$.sagemaker_edge_core_device_nam",
            "$.sagemaker_edge_core_capture_data_destination",
            "$.sagemaker_edge_core_capture_data_buffer_size",
        }
        (unknown,) = (f for f in refused.value.faults if f.path.endswith("device_nam"))
        assert "'sagemaker_edge_core_device_name'" in unknown.fix

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"sagemaker_edge_provider_s3_bucket_name": ""}, "a bucket"),
            ({"sagemaker_edge_provider_provider": "Custom"}, "No uploader libraries"),
            ({"sagemaker_edge_core_capture_data_disk_path": "captures"}, "an absolute folder"),
        ],
    )
    def test_that_cannot_work_is_refused(
        self, tmp_path: Path, changes: dict[str, str], why: str
    ) -> None:
        with pytest.raises(InvalidError) as refused:
            read_agent_file(put(tmp_path, {**SHIPPED, **changes}))
        assert why in " ".join(f"{f.expected} {f.fix}" for f in refused.value.faults)

    def test_that_is_none_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="cannot read"):
            read_agent_file(tmp_path / "none.json")
        path = tmp_path / "broken.json"
        path.write_bytes(b"{")
        with pytest.raises(InvalidError, match="not JSON"):
            read_agent_file(path)
        path.write_bytes(b" " * 1_000_001)
        with pytest.raises(InvalidError, match="1000001 bytes"):
            read_agent_file(path)


UNET = ModelEntry(name="unet", version="1.2", identifier="unet-1-2")


class TestTheModelsFile:
    def test_of_the_sample_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "models_config.json"
        document = {
            "mappings": {
                "image-classification-app": "img-classification", "image-segmentation-app": "unet"
            },
            "models": [{"name": "unet", "version": "1.2", "identifier": "unet-1-2"}],
        }  # fmt: skip
        path.write_text(json.dumps(document))
        found = read_models(path)
        assert found.models == (UNET,)
        assert (found.allows("unet"), found.allows("other")) == (True, False)
        assert ModelsConfig().allows("other")

    def test_that_is_not_there_lists_nothing(self, tmp_path: Path) -> None:
        assert read_models(tmp_path / "none") == ModelsConfig()

    def test_is_replaced_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "models_config.json"
        config = ModelsConfig(mappings={"app": "unet"}).with_model(UNET)
        write_models(config, path=path)
        assert read_models(path) == config
        write_models(config.without("unet-1-2"), path=path)
        assert read_models(path).models == ()
        assert [each.name for each in path.parent.iterdir()] == ["models_config.json"]

    @pytest.mark.parametrize(
        ("models", "why"),
        [
            ([{"name": "unet", "version": "1.2", "identifier": "unet-1.2"}], "'unet-1-2'"),
            ([{"name": "un et", "version": "1", "identifier": "un et-1"}], "no name of a model"),
            ([{"name": "unet", "version": "../..", "identifier": "x"}], "no name of a model"),
            ([{"name": "unet"}], "version"),
            (
                [
                    {"name": "unet", "version": "1.2", "identifier": "unet-1-2"},
                    {"name": "unet", "version": "1-2", "identifier": "unet-1-2"},
                ],
                "unet 1.2 and unet 1-2 are both unet-1-2",
            ),
        ],
    )
    def test_that_contradicts_itself_is_refused(
        self, tmp_path: Path, models: list[dict[str, str]], why: str
    ) -> None:
        path = tmp_path / "models_config.json"
        path.write_text(json.dumps({"models": models}))
        with pytest.raises(InvalidError) as refused:
            read_models(path)
        assert why in str(refused.value.faults)

    @given(
        st.from_regex(r"[a-z](-?[a-z0-9]){0,8}", fullmatch=True),
        st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True),
    )
    def test_finds_name_and_version_in_what_was_loaded(self, name: str, version: str) -> None:
        home = Path("/home/agent")
        wanted = ModelEntry(
            name=name, version=version, identifier=f"{name}-{version.replace('.', '-')}"
        )
        folder = folder_of(wanted, home=home)
        assert folder == home / "model" / "dev" / name / version
        found = entry_of(wanted.identifier, url=str(folder), version=version, home=home)
        assert found == wanted
        elsewhere = entry_of(wanted.identifier, url="/x", version=version, home=home)
        assert elsewhere is not None
        assert folder_of(elsewhere, home=home) == Path("/x")

    def test_does_not_hold_what_has_no_version(self) -> None:
        assert entry_of("bright", url="/m", version="abc123", home=Path("/h")) is None
