"""Somebody writes into the running hub's folder: no device runs it, and jobs say why."""

from pathlib import Path

import pytest

from lineside.fleet import Target
from lineside.testing.links import wait_until
from tests.journeys.test_device_jobs import Site, archives, device, in_use, site

__all__ = ["archives", "site"]  # fixtures

pytestmark = pytest.mark.slow


def stored(site: Site, data: bytes) -> Path:
    """Where the hub keeps an archive."""
    found = [
        path
        for path in (site.folder / "hub").rglob("*")
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    ]
    assert len(found) == 1
    return found[0]


def refused(site: Site, name: str, target: Target) -> str:
    """A job that fails; its reason."""
    site.job(name, target)
    ended = site.ended(name)
    assert ended.status.value == "FAILED"
    return ended.details["reason"]


def test_an_archive_changed_in_the_hubs_store_comes_to_no_device(
    site: Site, archives: tuple[bytes, bytes]
) -> None:
    first, second = (site.publish(data) for data in archives)
    site.job("a", first)
    with device(site):
        assert site.ended("a").status.value == "SUCCEEDED"
        wait_until(lambda: in_use(site) == [first.custom["digest"]])
        path = stored(site, archives[1])
        path.chmod(0o644)
        path.write_bytes(archives[1][:-40] + b"!" * 40)
        assert "the hub refuses: " in refused(site, "b", second)
        assert in_use(site) == [first.custom["digest"]]
    assert not site.archive(second).exists()


def test_metadata_changed_in_the_hubs_folder_are_believed_by_no_device(
    site: Site, archives: tuple[bytes, bytes]
) -> None:
    first = site.publish(archives[0])
    site.job("a", first)
    with device(site):
        assert site.ended("a").status.value == "SUCCEEDED"
        wait_until(lambda: in_use(site) == [first.custom["digest"]])
        second = site.publish(archives[1])
        for path in (site.folder / "hub" / "trust" / "metadata").glob("*default.json"):
            path.write_bytes(path.read_bytes().replace(b'"stock"', b'"stick"'))
        assert "not the bytes that are signed" in refused(site, "b", second)
        assert in_use(site) == [first.custom["digest"]]
    assert not site.archive(second).exists()
