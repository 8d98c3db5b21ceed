"""A site made by one command, and the hub behind its own certificate."""

import json
import ssl
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.cli.config import load_hub
from lineside.core import (
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    SystemClock,
)
from lineside.fleet import CertificateAuthority, server_certificate
from lineside.hub import (
    HubConfig,
    Role,
    certificate_words,
    init_site,
    open_accounts,
    running,
)
from lineside.hub.access.tls import (
    device_server_files,
    own_certificate,
    server_files,
    site_files,
)
from lineside.hub.models.releases import Releases
from lineside.hub.site_init import make_ca, make_trust
from lineside.store import open_blobs, open_records
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import PLANT

PASSWORD = "correct horse battery"  # noqa: S105  of nobody


@pytest.fixture
def site(tmp_path: Path) -> HubConfig:
    """A hub over files, as a site has it."""
    (tmp_path / "plant.toml").write_bytes(PLANT)
    return HubConfig(
        data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0,
        tls="site",
    )  # fmt: skip


def password() -> str:
    return PASSWORD


def test_of_two_who_make_the_authority_at_once_one_makes_it_and_the_other_finds_it(
    site: HubConfig, clock: FakeClock
) -> None:
    class Late(FakeClock):
        """A clock of somebody whom another one overtakes."""

        def now(self) -> datetime:
            if not site.ca_folder.exists():
                assert make_ca(site, site="hall", clock=clock).made
            return super().now()

    assert not make_ca(site, site="hall", clock=Late()).made
    assert CertificateAuthority.open(site.ca_folder, clock=clock).crl()
    assert [path.name for path in site.ca_folder.parent.iterdir()] == [site.ca_folder.name]


def test_hubs_whose_authority_is_a_link_to_one_folder_make_it_there(
    site: HubConfig, clock: FakeClock, tmp_path: Path
) -> None:
    hubs = [replace(site, data_dir=str(tmp_path / name)) for name in ("a", "b")]
    for hub in hubs:
        hub.folder.mkdir()
        hub.ca_folder.symlink_to(tmp_path / "shared" / "authority")
    assert [make_ca(hub, site="hall", clock=clock).made for hub in hubs] == [True, False]
    assert (tmp_path / "shared" / "authority" / "authority.crt").exists()


def test_of_two_who_make_the_trust_root_at_once_one_makes_it(
    site: HubConfig, clock: FakeClock
) -> None:
    site.folder.mkdir()
    blobs = open_blobs(site.blobs_url)
    with open_records(site.records_url, clock=clock) as records:
        releases = [Releases(records, blobs, folder=site.trust_folder, clock=clock)] * 4
        with ThreadPoolExecutor(len(releases)) as people:
            made = list(people.map(lambda one: make_trust(site, one).made, releases))
    blobs.close()
    assert sorted(made) == [False, False, False, True]


def test_everything_is_made_once_and_kept_afterwards(site: HubConfig, clock: FakeClock) -> None:
    made = init_site(site, user="anna", password=password, clock=clock)
    assert [step.what for step in made.steps] == ["authority", "certificate", "user", "trust root"]
    assert all(step.made for step in made.steps)
    assert any("root keys" in text for text in made.take_offline)
    before = site_files(site).certificate.read_bytes()

    def never() -> str:
        raise AssertionError("nobody is asked again")

    again = init_site(site, user="anna", password=never, clock=clock)
    assert not any(step.made for step in again.steps)
    assert site_files(site).certificate.read_bytes() == before
    assert site_files(site).key.stat().st_mode & 0o777 == 0o600
    with open_accounts(site.records_url, site="hall", clock=clock) as accounts:
        assert [(user.name, user.role) for user in accounts.users()] == [("anna", Role.ADMIN)]


def test_what_is_missing_is_made_beside_what_is_there(site: HubConfig, clock: FakeClock) -> None:
    init_site(site, password=password, clock=clock)
    files = site_files(site)
    files.certificate.unlink()
    made = init_site(site, hosts=("hub.plant.lan", "10.0.0.5"), password=password, clock=clock)
    assert [step.what for step in made.steps if step.made] == ["certificate"]
    beside = ("127.0.0.1", "localhost", "::1")
    assert own_certificate(site).hosts == ("hub.plant.lan", "10.0.0.5", *beside)
    again = ("10.0.0.5", "hub.plant.lan")
    assert not any(
        step.made for step in init_site(site, hosts=again, password=password, clock=clock).steps
    )
    with pytest.raises(ConflictError, match=r"a certificate for hub\.plant\.lan"):
        init_site(site, hosts=("other.lan",), password=password, clock=clock)
    files.certificate.unlink()
    with pytest.raises(InvalidError, match="neither a host name"):
        init_site(site, hosts=("not a host",), password=password, clock=clock)


def test_a_weak_password_is_refused_and_done_again_with_a_better_one(
    site: HubConfig, clock: FakeClock
) -> None:
    with pytest.raises(InvalidError):
        init_site(site, user="anna", password=lambda: "short", clock=clock)
    assert init_site(site, user="anna", password=password, clock=clock).steps[2].made


def test_the_hub_serves_https_with_it(site: HubConfig) -> None:
    clock = SystemClock()
    init_site(site, user="anna", password=password, clock=clock)
    with running(site, clock=clock) as hub:
        assert hub.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(site.ca_folder / "authority.crt"))
        address = hub.url + "/healthz"
        with urllib.request.urlopen(address, context=trusting, timeout=LONG_S) as answer:  # noqa: S310  our own
            assert answer.status == 200
        with pytest.raises(OSError, match="certificate verify failed"):
            urllib.request.urlopen(address, timeout=LONG_S)  # noqa: S310  our own
        told = json.loads((site.folder / "hub.json").read_bytes())
        assert told["url"] == hub.url


def test_commands_reach_a_hub_that_listens_everywhere_by_tls(
    site: HubConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'data_dir = "{site.data_dir}"\nplant = "{site.plant}"\nport = 0\nbus_port = 0\n'
    text += 'tls = "site"\nhost = "0.0.0.0"\nallowed_hosts = ["hub.plant.lan"]\n'
    text += 'bus_broker = "amqtt"\npublic_url = "https://hub.plant.lan:8443"\n'
    (tmp_path / "hub.toml").write_text(text)
    config = load_hub(tmp_path / "hub.toml").config
    init_site(config, password=password, clock=SystemClock())
    with running(config, clock=SystemClock()):
        assert _run(["status", "--config", str(tmp_path / "hub.toml")]) == 0
    assert "hub          ready" in capsys.readouterr().out


def test_a_hub_without_authority_says_what_to_do(site: HubConfig, clock: FakeClock) -> None:
    with pytest.raises(NotFoundError, match="no certificate authority") as refused:
        server_files(site, clock=clock)
    assert "lineside hub init" in refused.value.fix
    assert server_files(replace(site, tls=""), clock=clock) is None


def test_the_certificate_is_renewed_at_a_start(site: HubConfig, clock: FakeClock) -> None:
    init_site(site, hosts=("hub.plant.lan",), password=password, clock=clock)
    first = own_certificate(site)
    assert (
        certificate_words(site, clock=clock)
        == "for hub.plant.lan, 127.0.0.1, localhost, ::1, 397 days left"
    )
    clock.advance(200 * 86_400)
    server_files(site, clock=clock)
    assert own_certificate(site) == first
    clock.advance(100 * 86_400)
    with pytest.raises(RefusedError, match="ends in 97 days"):
        certificate_words(site, clock=clock)
    server_files(site, clock=clock)
    renewed = own_certificate(site)
    assert renewed.hosts == first.hosts
    assert renewed.ends_at - first.ends_at == timedelta(days=300)
    assert certificate_words(site, clock=clock)
    clock.advance(400 * 86_400)
    with pytest.raises(RefusedError, match="is over"):
        certificate_words(site, clock=clock)


def test_a_certificate_gets_the_names_and_addresses_of_new_settings(
    site: HubConfig, clock: FakeClock
) -> None:
    init_site(site, hosts=("hub.plant.lan",), password=password, clock=clock)
    device_server_files(replace(site, bus_tls="10.0.0.5:8883"), clock=clock)
    device_server_files(replace(site, iot_jobs_tls="10.0.0.6:8884"), clock=clock)
    server_files(
        replace(site, public_url="https://hub.lan:8443", allowed_hosts=("pc", "no_name")),
        clock=clock,
    )
    init_site(site, hosts=("hub.plant.lan",), password=password, clock=clock)
    last = own_certificate(site)
    assert {*last.hosts} == {
        "hub.plant.lan", "10.0.0.5", "10.0.0.6", "hub.lan", "pc", "127.0.0.1", "localhost", "::1"
    }  # fmt: skip
    (site.ca_folder / "authority.key").unlink()
    device_server_files(replace(site, bus_tls="10.0.0.7:8883"), clock=clock)
    assert own_certificate(site) == last


def test_half_a_pair_is_made_anew(site: HubConfig, clock: FakeClock) -> None:
    """As a power cut between the two files leaves it."""
    init_site(site, password=password, clock=clock)
    files = site_files(site)
    old_key = files.key.read_bytes()
    files.certificate.unlink()
    init_site(site, password=password, clock=clock)
    files.key.write_bytes(old_key)
    assert server_files(site, clock=clock) == files
    assert files.key.read_bytes() != old_key


def test_files_of_another_authority_are_taken_as_they_are(
    site: HubConfig, clock: FakeClock, tmp_path: Path
) -> None:
    init_site(site, password=password, clock=clock)
    files = site_files(site)
    own = replace(site, tls="", tls_cert=str(files.certificate), tls_key=str(files.key))
    assert server_files(own, clock=clock) is not None
    for wrong in (
        replace(own, tls_key=str(tmp_path / "nothing")),
        replace(own, tls_key=str(files.certificate)),
        replace(own, tls_cert=str(tmp_path / "nothing")),
    ):
        with pytest.raises(LinesideError) as refused:
            server_files(wrong, clock=clock)
        assert refused.value.fix


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls": "", "tls_cert": "a.crt"},
        {"tls": "", "tls_key": "a.key"},
        {"tls": "site", "tls_cert": "a.crt", "tls_key": "a.key"},
    ],
)
def test_settings_that_contradict_are_refused(site: HubConfig, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        replace(site, **wrong)  # type: ignore[arg-type]  # what is tried


def test_by_command(site: HubConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, secret = tmp_path / "hub.toml", tmp_path / "password"
    file.write_text(f'data_dir = "{site.data_dir}"\nplant = "{site.plant}"\n')
    secret.write_text(PASSWORD + "\n")
    words = ["hub", "init", "--config", str(file), "--user", "anna", "--hosts", "hub.lan, 10.0.0.5"]
    assert _run([*words, "--password-file", str(secret)]) == 0
    told = capsys.readouterr()
    assert "made authority" in told.out
    assert "take off this machine" in told.out
    assert 'add tls = "site"' in told.err
    assert _run([*words, "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert not any(step["made"] for step in steps)
    assert _run(["hub", "init", "--config", str(file), "--hosts", "other.lan"]) == 4
    assert _run(["doctor", "--config", str(file)]) == 0
    assert "without TLS" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ['tls = "site"', 'bus_tls = "127.0.0.1:0"', 'iot_jobs_tls = "127.0.0.1:0"']
)
def test_a_start_without_the_authority_it_needs_makes_nothing(
    site: HubConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(f'data_dir = "{site.data_dir}"\nplant = "{site.plant}"\n{line}\n')
    assert _run(["hub", "--config", str(file)]) == 3
    said = capsys.readouterr().err
    assert "no certificate authority" in said
    assert "Run lineside hub init --config hub.toml; nothing was made." in said
    assert not site.folder.exists()


def test_a_certificate_for_another_server_is_trusted_by_who_trusts_the_site(
    site: HubConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, there = tmp_path / "hub.toml", tmp_path / "page" / "tls"
    file.write_text(f'data_dir = "{site.data_dir}"\nplant = "{site.plant}"\n')
    words = ["hub", "certificate", "--config", str(file), "--to", str(there)]
    assert _run([*words, "--hosts", "edge-1.lan"]) == 3
    assert "Run lineside hub init" in capsys.readouterr().err
    assert _run(["hub", "init", "--config", str(file)]) == 0
    capsys.readouterr()
    assert _run([*words, "--hosts", "edge-1.lan, 127.0.0.1"]) == 0
    assert f'tls_cert = "{there / "server.crt"}"' in capsys.readouterr().out
    assert (there / "server.key").stat().st_mode & 0o777 == 0o600
    made = server_certificate((there / "server.crt").read_bytes(), where="made")
    assert made.hosts == ("edge-1.lan", "127.0.0.1")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        there / "server.crt", there / "server.key"
    )
    assert _run([*words, "--hosts", " , "]) == 2
    assert _run([*words[:-1], str(file), "--hosts", "edge-1.lan"]) == 6
