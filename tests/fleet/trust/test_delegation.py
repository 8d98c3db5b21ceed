"""Who may sign for whom, and what is left to a key that was stolen."""

import pytest
from securesystemslib.signer import CryptoSigner

from lineside.core import RefusedError
from lineside.testing.trust import TrustSimulator
from tests.fleet.trust.conftest import ARCHIVE, Device, refused


@pytest.mark.parametrize("other", ["line-b", "default"])
def test_another_groups_role_cannot_sign_for_this_group(
    other: str, site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1", role=other)
    site.publish()
    with pytest.raises(RefusedError, match="nothing is signed"):
        device.refreshed().target(path)
    assert path not in device.refreshed().targets()


def test_two_roles_that_disagree_the_groups_own_speaks(
    site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.roles["default"].targets[path] = site.roles["line-a"].targets[path]
    site.roles["default"].targets[path].length += 0
    site.publish()
    assert device.refreshed().signers(path).role == "line-a"


def test_words_that_contradict_the_path_are_refused(site: TrustSimulator, device: Device) -> None:
    """An older archive signed under a newer version's path."""
    path = site.add(ARCHIVE, group="line-a", version="2")
    site.roles["line-a"].targets[path].unrecognized_fields["custom"]["version"] = "1"
    site.publish()
    with pytest.raises(RefusedError, match="signed as version '1'"):
        device.refreshed().target(path)


@pytest.mark.parametrize("custom", [None, [], "x", {"group": "line-a"}, {"rollback_from": 3}])
def test_words_of_another_kind_are_refused(
    custom: object, site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.roles["line-a"].targets[path].unrecognized_fields["custom"] = custom
    site.publish()
    with pytest.raises(RefusedError, match="signed without"):
        device.refreshed().target(path)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "x" * 200, ".."])
def test_a_role_whose_name_leads_elsewhere_writes_nothing(
    name: str, site: TrustSimulator, device: Device
) -> None:
    """The targets key is stolen; still no file is written where it says."""
    site.delegate(name, paths=["packages/*/*/*"])
    assert site.targets.delegations is not None
    assert site.targets.delegations.roles is not None
    roles = site.targets.delegations.roles
    site.targets.delegations.roles = {name: roles[name], **roles}
    site.publish()
    with pytest.raises(RefusedError, match="no name of a role"):
        device.refreshed().target("packages/line-a/1/0.lspkg")


def test_roles_without_end_are_not_asked(site: TrustSimulator, device: Device) -> None:
    """TUF 5.6.7.1: a search has an end."""
    for number in range(50):
        site.delegate(f"more-{number}", paths=["packages/none/*/*"], terminating=False)
    site.publish()
    client = device.refreshed()
    site.asked.clear()
    with pytest.raises(RefusedError, match="nothing is signed"):
        client.target("packages/none/1/0.lspkg")
    assert len(site.asked) <= 32


# ---- key compromise and recovery


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_after_a_rotation_the_old_key_signs_nothing(
    role: str, site: TrustSimulator, device: Device
) -> None:
    device.refreshed()
    stolen = site.rotate(role)
    site.publish()
    device.refreshed()
    new, site.signers[role] = site.signers[role], stolen
    if role == "root":
        site.root.version += 1
        site.publish_root()
    site.publish()
    refused(device, "not signed as it must be")
    site.signers[role] = new
    if role == "root":
        site.publish_root()
    site.publish()
    device.refreshed()


def test_a_device_that_was_away_follows_every_rotation(
    site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    for role in ("root", "timestamp", "root", "snapshot", "targets", "root"):
        site.rotate(role)
    site.publish()
    assert device.refreshed().target(path).path == path
    assert "7.root.json" in device.kept()


def test_a_groups_stolen_key_is_rotated_by_targets(site: TrustSimulator, device: Device) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    device.refreshed().target(path)
    stolen = site.signers["line-a"][0]
    site.signers["line-a"] = [CryptoSigner.generate_ed25519()]
    site.targets.add_key(site.signers["line-a"][0].public_key, "line-a")
    site.targets.revoke_key(stolen.public_key.keyid, "line-a")
    site.publish()
    assert device.refreshed().target(path).path == path
    site.signers["line-a"] = [stolen]
    site.publish()
    with pytest.raises(RefusedError, match="not signed as it must be"):
        device.client().target(path)
