from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError
from lineside.core.config import Loaded, load_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    max_age_days: float = 30.0
    max_bytes: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    device: str = "edge-1"
    port: int = 8080
    plant: str | None = None
    tags: tuple[str, ...] = ()
    retention: Retention = field(default_factory=Retention)


def load(
    path: Path | None = None, *, environ: dict[str, str] | None = None, **flags: object
) -> Loaded[Config]:
    return load_config(Config, program="edge", path=path, environ=environ or {}, flags=flags)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text('device = "one"\nport = 1\n[retention]\nmax_bytes = 5\n')
    return path


def test_without_anything_there_are_defaults() -> None:
    loaded = load()
    assert loaded.config == Config()
    assert loaded.origins == {}


def test_file_environment_and_flags_lie_over_each_other_key_by_key(file: Path) -> None:
    environ = {"LINESIDE_EDGE__PORT": "2", "LINESIDE_EDGE__RETENTION__MAX_AGE_DAYS": "7"}
    loaded = load(file, environ=environ, **{"retention.max_bytes": 9})
    assert loaded.config == Config(
        device="one", port=2, retention=Retention(max_age_days=7.0, max_bytes=9)
    )
    assert loaded.origins == {
        "device": str(file),
        "port": "LINESIDE_EDGE__PORT",
        "retention.max_age_days": "LINESIDE_EDGE__RETENTION__MAX_AGE_DAYS",
        "retention.max_bytes": "--retention-max-bytes",
    }


def test_a_flag_that_was_not_given_changes_nothing(file: Path) -> None:
    loaded = load(file, device=None)
    assert loaded.config.device == "one"
    assert loaded.origins["device"] == str(file)


def test_other_programs_variables_are_passed_over() -> None:
    assert load(environ={"LINESIDE_HUB__PORT": "3", "PATH": "/bin"}).config == Config()


def test_text_that_looks_like_a_number_stays_text_where_text_is_wanted() -> None:
    environ = {"LINESIDE_EDGE__DEVICE": "42", "LINESIDE_EDGE__PLANT": "7"}
    loaded = load(environ=environ)
    assert (loaded.config.device, loaded.config.plant) == ("42", "7")


def test_a_flag_of_the_wrong_type_is_not_hidden_by_the_environment() -> None:
    with pytest.raises(InvalidError, match=r"\$\.device: 3 is not text"):
        load(environ={"LINESIDE_EDGE__DEVICE": "42"}, device=3)


def test_lists_are_read_from_the_environment_as_json() -> None:
    assert load(environ={"LINESIDE_EDGE__TAGS": '["a", "b"]'}).config.tags == ("a", "b")


def test_a_key_below_a_value_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("retention = 3\n")
    loaded = load(path, environ={"LINESIDE_EDGE__RETENTION__MAX_BYTES": "4"})
    assert loaded.config.retention.max_bytes == 4


def test_every_fault_of_the_merged_document_is_named(file: Path) -> None:
    with pytest.raises(InvalidError) as caught:
        load(file, environ={"LINESIDE_EDGE__PORT": "many"}, prot=3)
    assert [fault.path for fault in caught.value.faults] == ["$.prot", "$.port"]
    assert "Did you mean 'port'?" in caught.value.faults[0].fix
    assert caught.value.where == str(file)


def test_without_a_file_faults_name_the_program() -> None:
    with pytest.raises(InvalidError) as caught:
        load(port="many")
    assert caught.value.where == "edge settings"


def test_a_file_that_cannot_be_read_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(NotFoundError) as caught:
            load(path)
        assert caught.value.where == str(path)


def test_an_empty_table_has_an_origin_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("[retention]\n")
    assert load(path).origins == {"retention": str(path)}
