"""The air-gap bundle: the same bytes each time, and nothing in it believed for its name."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lineside.core import (
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    digest_of,
)
from lineside.fleet import (
    FolderSource,
    Installed,
    Target,
    UpdateClient,
    UpdateRepository,
    create_repository,
    pin_root,
)
from lineside.fleet.agent import check_may_replace
from lineside.fleet.trust.bundle import BundleLimits, open_bundle, write_bundle
from lineside.testing import FakeClock
from lineside.testing.trust import release_of
from tests.fleet.trust.conftest import ARCHIVE, silent

WHEEL = ("lineside-1.0-py3-none-any.whl", b"wheel" * 50)


@pytest.fixture
def repository(tmp_path: Path, clock: FakeClock) -> UpdateRepository:
    blobs = {digest_of(ARCHIVE): ARCHIVE}

    def read(digest: Digest) -> bytes:
        return blobs[digest]

    made = create_repository(tmp_path / "trust", keys=tmp_path / "keys", clock=clock, read=read)
    made.publish(release_of(ARCHIVE), ARCHIVE)
    return made


@pytest.fixture
def bundle(repository: UpdateRepository, tmp_path: Path) -> Path:
    path = tmp_path / "site.lsbundle"
    write_bundle(repository, repository.targets(), to=path, wheels=[WHEEL])
    return path


def opened(path: Path, limits: BundleLimits | None = None) -> tuple[str, ...]:
    with open_bundle(path, limits=limits) as found:
        return found.listed.packages


def test_a_device_believes_a_bundle_as_it_believes_a_hub(
    repository: UpdateRepository, bundle: Path, tmp_path: Path, clock: FakeClock
) -> None:
    pin_root(tmp_path / "device", repository.first_root())
    with open_bundle(bundle) as found:
        client = UpdateClient(tmp_path / "device", source=found, clock=clock)
        client.refresh()
        (package,), (wheel,) = found.listed.packages, found.listed.wheels
        for path, data in ((package, ARCHIVE), (wheel, WHEEL[1])):
            file = client.fetch(client.target(path), into=tmp_path / "in", progress=silent)
            assert file.read_bytes() == data


def test_the_same_packages_make_the_same_bytes(
    repository: UpdateRepository, bundle: Path, tmp_path: Path
) -> None:
    paths = [path for path in repository.targets() if path.startswith("packages/")]
    listed = write_bundle(repository, paths, to=tmp_path / "again.lsbundle", wheels=[WHEEL])
    assert listed.packages == tuple(paths)
    again = (tmp_path / "again.lsbundle").read_bytes()
    write_bundle(repository, paths, to=tmp_path / "again.lsbundle", wheels=[WHEEL])
    assert (tmp_path / "again.lsbundle").read_bytes() == again
    assert again != b""
    assert bundle.exists()
    assert not list(tmp_path.glob(".*.new"))


def test_a_bundle_of_nothing_or_of_two_for_one_inspection_is_refused(
    repository: UpdateRepository, tmp_path: Path
) -> None:
    repository.publish(release_of(b"more", version="2"), b"more")
    with pytest.raises(InvalidError, match="two packages for inspection 'stock'"):
        write_bundle(repository, repository.targets(), to=tmp_path / "x")
    with pytest.raises(InvalidError, match="a bundle of nothing"):
        write_bundle(repository, [], to=tmp_path / "x")
    with pytest.raises(NotFoundError):
        write_bundle(repository, ["packages/none/1/x.lspkg"], to=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None], **more: int) -> Path:
    """The bundle with other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    out = path.with_name("changed.lsbundle")
    with zipfile.ZipFile(out, "w", more.get("compression", zipfile.ZIP_STORED)) as archive:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = more.get("mode", 0o100644) << 16
            entry.compress_type = archive.compression
            archive.writestr(entry, data)
    return out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", "no place in it"), ("targets/../../evil", "no target's path"),
        ("/etc/passwd", "no place in it"), ("metadata/evil.txt", "no place in it"),
        ("wheels/x.whl", "no place in it"), ("Bundle.json", "there twice"),
    ],
)  # fmt: skip
def test_an_entry_that_leads_elsewhere_is_refused(name: str, reason: str, bundle: Path) -> None:
    changed = rewritten(bundle, lambda entries: entries.update({name: b"x"}))
    with pytest.raises(InvalidError, match=reason):
        opened(changed)


def test_links_bombs_and_too_much_are_refused(bundle: Path) -> None:
    with pytest.raises(InvalidError, match="no regular file"):
        opened(rewritten(bundle, lambda _: None, mode=0o120777))
    with pytest.raises(InvalidError, match="compressed or locked"):
        opened(rewritten(bundle, lambda _: None, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(InvalidError, match="files, at most 2"):
        opened(bundle, BundleLimits(max_files=2, max_bytes=10**6))
    with pytest.raises(InvalidError, match="bytes, at most 100 are taken"):
        opened(bundle, BundleLimits(max_bytes=100))
    with pytest.raises(InvalidError, match=r"bundle.json is too long"):
        opened(bundle, BundleLimits(max_list_bytes=10))


def test_a_list_of_entries_without_end_is_not_read(bundle: Path) -> None:
    raw = bytearray(bundle.read_bytes())
    struct.pack_into("<I", raw, len(raw) - 22 + 12, 2**31)
    bundle.write_bytes(raw)
    with pytest.raises(InvalidError, match="its list is too long"):
        opened(bundle)


def test_what_is_no_bundle_gets_a_sentence(bundle: Path, tmp_path: Path) -> None:
    raw = bundle.read_bytes()
    for place in range(0, len(raw), 97):
        bundle.write_bytes(raw[:place])
        with pytest.raises(InvalidError):
            opened(bundle)
    with pytest.raises(NotFoundError, match="no such bundle"):
        opened(tmp_path / "none")
    with pytest.raises(NotFoundError):
        opened(tmp_path)


def test_no_changed_byte_is_believed(
    repository: UpdateRepository, bundle: Path, tmp_path: Path, clock: FakeClock
) -> None:
    """Every byte that a package consists of, somewhere in the file, flipped."""
    raw, (path,) = bundle.read_bytes(), [p for p in repository.targets() if p[0] == "p"]
    pin_root(tmp_path / "device", repository.first_root())
    for place in range(0, len(raw), 251):
        damaged = bytearray(raw)
        damaged[place] ^= 0x10
        bundle.write_bytes(damaged)
        folder = tmp_path / f"in-{place}"
        try:
            with open_bundle(bundle) as found:
                client = UpdateClient(tmp_path / "device", source=found, clock=clock)
                file = client.fetch(client.target(path), into=folder, progress=silent)
                assert file.read_bytes() == ARCHIVE
        except LinesideError:
            assert not list(folder.glob("*.lspkg"))


def test_a_folder_stands_in_for_a_hub(
    repository: UpdateRepository, tmp_path: Path, clock: FakeClock
) -> None:
    pin_root(tmp_path / "device", repository.first_root())
    source = FolderSource(tmp_path / "trust")
    client = UpdateClient(tmp_path / "device", source=source, clock=clock)
    client.refresh()
    with pytest.raises(NotFoundError), source.open("targets/none"):
        pass


# ---- which version may follow which


def signed(
    version: str, *, group: str = "tiles", back: tuple[str, ...] = (), on: str = ""
) -> Target:
    custom = {
        "group": group, "version": version, "inspection": "stock", "digest": f"sha256:{version}",
        "platforms": [on] if on else [], "rollback_from": list(back),
    }  # fmt: skip
    path = f"packages/{group}/{version}/x.lspkg"
    return Target(path=path, sha256="0" * 64, size_bytes=1, custom=custom)


def running(version: str) -> Installed:
    return Installed(
        inspection="stock", group="tiles", version=version, digest=Digest(f"sha256:{version}"),
        target="x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "installed", "rollback", "refusal"),
    [
        (signed("1"), None, False, None),
        (signed("2"), "1", False, None),
        (signed("1.10"), "1.9", False, None),
        (signed("1.9"), "1.10", False, "not newer than 1.10, which is in use"),
        (signed("1"), "2", True, "no way back from there is signed"),
        (signed("1", back=("2",)), "2", False, "Ask for a rollback"),
        (signed("1", back=("2",)), "2", True, None),
        (signed("1", back=("3",)), "2", True, "no way back"),
        (signed("2"), "2", False, None),
        (signed("1", group="other"), "2", False, None),
        (signed("3", on="linux/riscv"), "2", False, "made for linux/riscv"),
        (signed("3", on="linux/x86_64"), "2", False, None),
    ],
)
def test_versions(
    target: Target,
    installed: str | None,
    rollback: bool,  # noqa: FBT001  a parameter of the table
    refusal: str | None,
) -> None:
    now = running(installed) if installed else None
    if refusal is None:
        check_may_replace(target, installed=now, rollback=rollback, platform="linux/x86_64")
        return
    with pytest.raises((RefusedError, InvalidError)) as told:
        check_may_replace(target, installed=now, rollback=rollback, platform="linux/x86_64")
    assert refusal in str(told.value)
