"""What the hub signs of what people decided, and how devices and S3 clients read it."""

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from fastapi.testclient import TestClient
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from lineside.core import (
    InvalidError,
    Plant,
    RefusedError,
    Region,
    SystemClock,
    Task,
    UnavailableError,
    digest_of,
    encode,
    frame_id,
)
from lineside.core.drivers import SecretUrl
from lineside.edge import HubClient
from lineside.fleet import RolloutPlan, Target, UpdateClient, pin_root
from lineside.fleet.trust.roles import prefixed
from lineside.hub import HubConfig, Services, issue_access_key, running
from lineside.hub.access.permissions import Role
from lineside.hub.downloads import parse_range
from lineside.hub.inference.endpoints import predict_endpoint
from lineside.hub.models.model_service import Registration
from lineside.hub.models.releases import RELEASE_KIND
from lineside.hub.rollouts.rollout_service import NewRollout
from lineside.hub.timers import Timers
from lineside.models import Package, build_package
from lineside.store import FrameRow
from lineside.testing import FakeClock
from lineside.vision import PictureState, encode_jpeg, open_frame
from tests.hub.conftest import open_hub, use_package
from tests.hub.replayed import laid_out_otherwise
from tests.models.conftest import package_parts, scene

DAY_S = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    """The S3 client signs with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture
def other(archive: bytes) -> bytes:
    package = Package.read(archive)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    return build_package(replace(package.manifest, name="brighter"), files)


def use(hub: Services, data: bytes) -> Target:
    digest = use_package(hub, data)
    found = hub.releases.target_of(digest)
    assert found is not None
    return found


def device(hub: Services, url: str, folder: Path) -> UpdateClient:
    token = hub.auth.issue_token("edge-1", kind="device")
    pin_root(folder, hub.releases.repository.first_root())
    return UpdateClient(folder, source=HubClient(url, token=lambda: token), clock=hub.clock)


def test_what_is_taken_into_use_reaches_a_device_signed(
    trusted: Services, served: str, archive: bytes, tmp_path: Path
) -> None:
    target = use(trusted, archive)
    client = device(trusted, served, tmp_path / "trust")
    client.refresh()
    found = client.target(target.path)
    assert found.custom["group"] == "direct-stock"
    assert found.custom["digest"] == Package.read(archive).digest
    progress: list[int] = []
    file = client.fetch(
        found, into=tmp_path / "in", progress=lambda there, _: progress.append(there)
    )
    assert file.read_bytes() == archive
    assert progress[-1] == len(archive)


def test_a_fetch_goes_on_where_it_broke_off(
    trusted: Services, served: str, archive: bytes, tmp_path: Path
) -> None:
    target = use(trusted, archive)
    client = device(trusted, served, tmp_path / "trust")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{target.sha256}.part").write_bytes(archive[:1000])
    seen: list[int] = []
    file = client.fetch(
        client.target(target.path), into=tmp_path / "in",
        progress=lambda there, _: seen.append(there),
    )  # fmt: skip
    assert file.read_bytes() == archive
    assert seen[0] > 1000


def test_a_hub_that_is_away_or_refuses_is_told_apart(
    trusted: Services, served: str, tmp_path: Path
) -> None:
    root = trusted.releases.repository.first_root()
    pin_root(tmp_path, root)
    nobody = HubClient(served, token=lambda: "wrong")
    with pytest.raises(RefusedError, match="refuses the token"):
        UpdateClient(tmp_path, source=nobody, clock=trusted.clock).refresh()
    away = HubClient("http://127.0.0.1:9", token=lambda: "")
    with pytest.raises(UnavailableError, match="does not answer"):
        UpdateClient(tmp_path, source=away, clock=trusted.clock).refresh()


class Fetcher(FetcherInterface):
    """Of python-tuf's own client, over a program's session."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = self._client.get(url)
        if answer.status_code != 200:
            raise DownloadHTTPError(url, answer.status_code)
        yield answer.content


def test_the_librarys_own_client_reads_the_repository(
    trusted: Services, client: TestClient, archive: bytes, tmp_path: Path
) -> None:
    """Nothing about it is our own but what stands in ``custom``."""
    target = use(trusted, archive)
    trusted.releases.repository.rotate("root", keys=trusted.config.keys_folder)
    (tmp_path / "targets").mkdir()
    updater = Updater(
        str(tmp_path), "http://127.0.0.1/tuf/metadata/", str(tmp_path / "targets"),
        "http://127.0.0.1/tuf/targets/", fetcher=Fetcher(client),
        bootstrap=trusted.releases.repository.first_root(),
    )  # fmt: skip
    updater.refresh()
    found = updater.get_targetinfo(target.path)
    assert found is not None
    assert Path(updater.download_target(found)).read_bytes() == archive


# ---- what is signed when


def test_an_approved_version_is_published_under_its_number(
    trusted: Services, archive: bytes
) -> None:
    registered = _register(trusted, archive)
    assert trusted.releases.target_of(registered) is None
    trusted.models.approve("discs", 1, by="berta", reason="measured")
    approved = trusted.models.release(trusted.models.one("discs", 1))
    target = trusted.releases.publish(approved)
    assert target is not None
    assert target.path == approved.target
    assert trusted.releases.publish(approved) == target
    trusted.releases.withdraw(approved)
    trusted.releases.withdraw(approved)
    assert trusted.releases.target_of(registered) is None


def _register(hub: Services, archive: bytes) -> str:
    digest = hub.packages.add(archive, by="anna").digest
    hub.models.register("discs", Registration(package=digest), by="anna")
    return str(digest)


def test_going_back_by_hand_signs_the_way_back(
    trusted: Services, archive: bytes, other: bytes
) -> None:
    first = use(trusted, archive)
    second = use(trusted, other)
    assert (first.custom["version"], second.custom["version"]) == ("1", "2")
    assert use(trusted, archive).custom["rollback_from"] == ["2"]
    assert use(trusted, other).custom["rollback_from"] == []


def test_a_version_that_was_withdrawn_can_still_be_left(
    trusted: Services, archive: bytes, other: bytes
) -> None:
    """It was rejected after all; devices that run it must find the way back."""
    use(trusted, archive)
    trusted.releases.repository.withdraw(use(trusted, other).path)
    assert use(trusted, archive).custom["rollback_from"] == ["2"]


def test_an_archive_with_further_signatures_is_the_same_release(
    trusted: Services, archive: bytes
) -> None:
    target = use(trusted, archive)
    package = Package.read(archive)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    signed = build_package(package.manifest, files, signatures={"maker.sig": b"signed"})
    assert use(trusted, signed) == target
    release = replace(
        target.release, sha256=digest_of(signed)[7:], size_bytes=len(signed), inspection="rear"
    )
    bound = trusted.releases.publish(release)
    assert bound is not None
    assert (bound.path, bound.inspections) == (target.path, ("stock", "rear"))
    trusted.releases.withdraw(release)
    assert trusted.releases.target_of(package.digest) is None


def test_what_cannot_be_signed_does_not_come_into_use(
    trusted: Services, archive: bytes, other: bytes
) -> None:
    use(trusted, archive)
    name = next(trusted.config.trust_folder.glob("metadata/*.default.json"))
    for path in trusted.config.trust_folder.glob("metadata/*.default.json"):
        path.write_bytes(name.read_bytes().replace(b"stock", b"other"))
    digest = trusted.packages.add(other, by="anna").digest
    with pytest.raises(RefusedError, match="changed at rest"):
        trusted.packages.use(digest, inspection="stock", by="anna", reason="better")
    assert trusted.packages.in_use("stock") == Package.read(archive).digest


def test_one_version_is_rolled_out_to_a_second_station_alike(
    config: HubConfig, plant: Plant, clock: FakeClock, archive: bytes, jpeg: Callable[..., bytes]
) -> None:
    stock = plant.find_inspection("stock")
    rear = replace(stock, id="rear", camera="gate", endpoint="rear")
    counted = replace(stock, id="counted", task=Task.COUNT, region=(), labels=())
    there = replace(plant, inspection=(stock, rear, counted))
    with open_hub(config, plant=there, clock=clock) as hub:
        hub.releases.ensure(keys=hub.config.keys_folder)
        digest = hub.packages.add(archive, by="ada").digest
        version = hub.models.register("discs", Registration(package=digest), by="ada")
        assert hub.models.inspections(version) == ("stock", "rear")
        approved = hub.models.approve("discs", 1, by="eve", reason="good", inspection="rear")
        assert hub.models.release(approved).inspection == "rear"
        assert hub.models.inspections(approved) == ("rear", "stock")
        hub.releases.publish(hub.models.release(approved))
        hub.releases.used(digest, inspection="stock", leaving=())
        hub.things.add("edge-2")
        hub.devices.take_status("edge-2", encode({
            "schema": "lineside.device/1", "device": "edge-2", "state": "online", "version": "1",
            "at": "2026-01-01T00:00:00.000Z", "packages": [], "spool_depth": 0, "faults": [],
        }))  # fmt: skip
        plan = RolloutPlan(devices=("edge-2",))
        asked = NewRollout(group="discs", version=1, inspection="rear", plan=plan, reason="two")
        for name in ("rear", "stock"):
            started = hub.rollouts.start(replace(asked, inspection=name), by="eve")
            assert started.release.inspection == name
        target = hub.releases.target_of(digest)
        assert target is not None
        assert target.inspections == ("rear", "stock")
        assert hub.releases.target_of(digest, inspection="counted") is None
        with pytest.raises(RefusedError, match="'counted' asks for count"):
            hub.rollouts.start(replace(asked, inspection="counted"), by="eve")
        hub.packages.use(digest, inspection="rear", by="eve", reason="alike")
        found = predict_endpoint(hub.packages, there, endpoint="rear", picture=jpeg("blue"))
        assert (found.prediction.inspection, found.prediction.package) == ("rear", digest)


def test_a_registered_package_is_for_another_camera_once_that_shows_its_view(
    config: HubConfig, plant: Plant, clock: FakeClock
) -> None:
    made, files = package_parts()
    label = {rule.region: rule.label for rule in made.rules}
    regions = tuple(
        Region(id=crop.region, box_px=crop.region_px or crop.box_px, label=label[crop.region])
        for crop in made.prepare.crops
    )
    stock = replace(
        plant.find_inspection("stock"), region=regions, labels=(), view=made.prepare.view
    )
    rear = replace(stock, id="rear", camera="gate", endpoint="rear")
    black = encode_jpeg(np.zeros((120, 160, 3), np.uint8))
    yard = replace(stock, id="yard", camera="gate", endpoint="yard")
    beside = replace(stock, id="beside", endpoint="beside")
    there = replace(plant, inspection=(stock, rear, yard, beside))
    with open_hub(config, plant=there, clock=clock) as hub:

        def show(picture: bytes) -> None:
            clock.advance(1)
            digest, now = hub.blobs.put(picture), clock.now()
            row = FrameRow(
                id=frame_id(camera="gate", captured_at=now, digest=digest), camera="gate",
                captured_at=now, arrived_at=now, digest=digest, size_bytes=len(picture),
                width_px=160, height_px=120, thumbnail=digest,
            )  # fmt: skip
            hub.records.frames.add([row])

        digest = hub.packages.add(build_package(made, files), by="ada").digest
        version = hub.models.register("discs", Registration(package=digest), by="ada")
        assert hub.models.inspections(version) == ("stock", "rear", "yard", "beside")
        with pytest.raises(RefusedError, match="no image of camera 'gate' is kept"):
            hub.models.approve("discs", 1, by="eve", reason="good", inspection="rear")
        show(encode_jpeg(scene(seed=8)))
        with pytest.raises(
            RefusedError, match=r"'gate' does not show the reference view .*: scale 0[.]78 lies"
        ):
            hub.models.approve("discs", 1, by="eve", reason="good", inspection="rear")
        moved = np.roll(scene(lit=False), (6, 9), axis=(0, 1))
        show(encode_jpeg(moved))
        show(black)
        approved = hub.models.approve("discs", 1, by="eve", reason="good", inspection="rear")
        assert hub.models.release(approved).inspection == "rear"
        hub.packages.use(digest, inspection="rear", by="eve", reason="alike")
        own, other = (
            hub.packages.predictor(digest, inspection=name).predict(
                open_frame(encode_jpeg(image), camera=camera, captured_at=clock.now())
            )
            for name, camera, image in (
                ("stock", "rack", scene()),
                ("rear", "gate", np.roll(scene(), (6, 9), axis=(0, 1))),
            )
        )
        assert (other.inspection, other.state) == ("rear", PictureState.OK)
        for one, two in zip(own.labels, other.labels, strict=True):
            assert (one.name, one.decision) == (two.name, two.decision)
            assert one.probability == pytest.approx(two.probability, abs=0.01)
        for _ in range(5):
            show(black)  # at night
        hub.packages.use(digest, inspection="rear", by="eve", reason="it has answered before")
        assert hub.models.release(approved, inspection="rear") == hub.models.release(approved)
        with pytest.raises(RefusedError, match=r"'gate' does .*; its newest image: mean grey"):
            hub.models.release(approved, inspection="yard")
        hub.packages.use(digest, inspection="beside", by="eve", reason="the same camera")


def test_a_device_hears_for_which_inspection_a_package_is_bad(
    trusted: Services, package: str
) -> None:
    trusted.devices.take_status("edge-1", encode({
        "schema": "lineside.device/1", "device": "edge-1", "state": "online", "version": "1",
        "at": "2026-01-01T00:00:00.000Z", "packages": [], "spool_depth": 0, "faults": [],
        "desired": {},
    }))  # fmt: skip
    desired, bad, other = trusted.desired, f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    desired.write(["edge-1"], "stock", digest=package, by="eve", reason="good")
    desired.mark_bad(bad, inspection="stock", rollout="rol_1", why="escapes")
    desired.mark_bad(other, inspection="rear", rollout="rol_2", why="escapes")
    entry = (
        f'{{"digest":"{package}","inspection":"stock",'
        f'"url":"{desired.base_url}/api/v1/packages/{package}/content"}}'
    )
    assert desired.payload("edge-1", desired.of("edge-1")).decode() == (
        f'{{"bad":["{bad}","stock/{bad}"],"packages":[{entry}],"revisions":{{"stock":1}},'
        '"schema":"lineside.desired/1"}'
    )


def test_nothing_is_signed_of_a_use_that_is_refused(trusted: Services, archive: bytes) -> None:
    package = Package.read(archive)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    foreign = build_package(laid_out_otherwise(package.manifest, inspection="bottles"), files)
    other = trusted.packages.add(foreign, by="anna").digest
    right = trusted.packages.add(archive, by="anna").digest
    with pytest.raises(RefusedError, match="made for inspection 'bottles'"):
        trusted.packages.use(other, inspection="stock", by="anna", reason="better")
    with pytest.raises(InvalidError, match="without person, reason"):
        trusted.packages.use(right, inspection="stock", by="anna", reason=" ")
    assert trusted.releases.repository.targets() == {}
    assert trusted.records.documents.page(RELEASE_KIND) == []


def test_published_bytes_are_named_so_that_they_stay(trusted: Services, archive: bytes) -> None:
    target = use(trusted, archive)
    body = trusted.records.documents.get(RELEASE_KIND, target.path).body
    assert body["archive"] == f"sha256:{target.sha256}"


def test_the_timer_renews_what_the_hub_may_sign(trusted: Services, clock: FakeClock) -> None:
    def version() -> int:
        roles = trusted.releases.repository.show().roles
        return next(role.version for role in roles if role.role == "timestamp")

    timers = Timers(trusted, clock=clock)
    timers.step()
    assert version() == 1
    clock.advance(5 * DAY_S)
    timers.step()
    assert version() == 2


def test_a_hub_without_a_repository_works_unsigned(hub: Services, archive: bytes) -> None:
    digest = use_package(hub, archive)
    assert hub.releases.target_of(digest) is None
    hub.releases.renew()


def test_the_first_start_makes_the_repository_and_the_next_keeps_it(config: HubConfig) -> None:
    stored = replace(config, records=SecretUrl(""), blobs=SecretUrl(""))
    with running(stored, clock=SystemClock()) as hub:
        root = hub.services.releases.repository.first_root()
    assert len(list(stored.keys_folder.glob("*.pem"))) == 4
    for path in stored.keys_folder.glob("*.pem"):
        path.unlink()
    stored.keys_folder.rmdir()
    with running(stored, clock=SystemClock()) as hub:
        assert hub.services.releases.repository.first_root() == root


# ---- HTTP


def test_metadata_and_parts_of_targets_are_answered(
    trusted: Services, client: TestClient, archive: bytes
) -> None:
    target = use(trusted, archive)
    assert client.get("/tuf/metadata/timestamp.json").json()["signed"]["_type"] == "timestamp"
    assert client.get("/tuf/metadata/1.root.json").content == (
        trusted.releases.repository.first_root()
    )
    for name in ("9.root.json", "x", "..%2Fonline", "lock"):
        assert client.get(f"/tuf/metadata/{name}").status_code == 404, name
    path = f"/tuf/targets/{prefixed(target.path, target.sha256)}"
    whole = client.get(path)
    assert whole.content == archive
    assert whole.headers["etag"] == f'"{target.sha256}"'
    part = client.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, archive[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(archive)}"
    assert client.get(path, headers={"Range": f"bytes={len(archive)}-"}).status_code == 416
    stale = client.get(path, headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, archive)
    head = client.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(archive)), b"")
    for wrong in ("packages/none/1/x.lspkg", prefixed(target.path, "0" * 64), "%2E%2E/x"):
        assert client.get(f"/tuf/targets/{wrong}").status_code == 404, wrong


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", None), ("bytes=0-", range(100)), ("bytes=10-19", range(10, 20)),
        ("bytes=-5", range(95, 100)), ("bytes=90-500", range(90, 100)), ("bytes=-500", range(100)),
        ("bytes=100-", range(100, 100)), ("bytes=5-4", None), ("bytes=1-2,4-5", None),
        ("items=1-2", None), ("bytes=a-", None), ("bytes=-", None), ("bytes=-0", range(100, 100)),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)  # fmt: skip
def test_ranges(header: str, found: range | None) -> None:
    assert parse_range(header, 100) == found


# ---- S3


def s3(url: str, key: Any) -> Any:  # noqa: ANN401  boto3 has no types
    return boto3.client(
        "s3", endpoint_url=f"{url}/s3", region_name="eu-west-1",
        aws_access_key_id=key.id, aws_secret_access_key=key.secret,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )  # fmt: skip


def test_boto3_reads_a_package_as_others_devices_do(
    trusted: Services, served: str, archive: bytes, tmp_path: Path, clock: FakeClock
) -> None:
    target = use(trusted, archive)
    key = issue_access_key(trusted.records, name="edge-1", clock=clock, thing="edge-1")
    client = s3(served, key)
    head = client.head_object(Bucket="lineside", Key=target.path)
    assert head["ContentLength"] == len(archive)
    client.download_file("lineside", target.path, str(tmp_path / "package"))
    assert (tmp_path / "package").read_bytes() == archive
    part = client.get_object(Bucket="lineside", Key=target.path, Range="bytes=5-9")
    assert part["Body"].read() == archive[5:10]
    part["Body"].close()
    for bucket, name, code in (
        ("lineside", "packages/none", "NoSuchKey"), ("other", target.path, "NoSuchBucket")
    ):  # fmt: skip
        with pytest.raises(ClientError) as told:
            client.get_object(Bucket=bucket, Key=name)
        assert told.value.response["Error"]["Code"] == code
    client.close()


@pytest.fixture
def listed(trusted: Services, served: str, archive: bytes, clock: FakeClock) -> Iterator[Any]:
    """A client of a bucket with one package, ``documents/a/0`` to ``4`` and ``documents/b``."""
    use(trusted, archive)
    for name in ("a/0", "a/1", "a/2", "a/3", "a/4", "b"):
        trusted.bucket.put("lineside", f"documents/{name}", data=b"{}")
    key = issue_access_key(trusted.records, name="x", clock=clock, role=Role.VIEWER)
    client = s3(served, key)
    yield client
    client.close()


def test_boto3_lists_the_bucket(listed: Any, trusted: Services, archive: bytes) -> None:  # noqa: ANN401  boto3 has no types
    (target,) = trusted.releases.repository.targets().values()
    assert [one["Name"] for one in listed.list_buckets()["Buckets"]] == ["lineside"]
    assert listed.head_bucket(Bucket="lineside")["ResponseMetadata"]["RequestId"]
    assert listed.get_bucket_location(Bucket="lineside")["LocationConstraint"] is None
    names = [*(f"documents/a/{each}" for each in range(5)), "documents/b", target.path]
    for operation in ("list_objects_v2", "list_objects"):
        found = getattr(listed, operation)(Bucket="lineside")
        assert [one["Key"] for one in found["Contents"]] == names
        assert not found["IsTruncated"]
    package = listed.list_objects(Bucket="lineside")["Contents"][-1]
    assert package["Size"] == len(archive)
    assert package["ETag"] == f'"{target.sha256}"'
    assert package["LastModified"] == trusted.clock.now().replace(microsecond=0)


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_boto3_reads_a_list_page_by_page(operation: str, size: int, listed: Any) -> None:  # noqa: ANN401  likewise
    def read(**asked: str) -> tuple[list[str], list[str]]:
        pages = listed.get_paginator(operation).paginate(
            Bucket="lineside", PaginationConfig={"PageSize": size}, **asked
        )
        parts = list(pages)
        assert all(
            len(one.get("Contents", ())) + len(one.get("CommonPrefixes", ())) <= size
            for one in parts
        )
        return (
            [found["Key"] for one in parts for found in one.get("Contents", ())],
            [found["Prefix"] for one in parts for found in one.get("CommonPrefixes", ())],
        )

    assert read(Delimiter="/") == ([], ["documents/", "packages/"])
    assert read(Delimiter="/", Prefix="documents/") == (["documents/b"], ["documents/a/"])
    assert read(Prefix="documents/a/") == ([f"documents/a/{one}" for one in range(5)], [])
    assert read(Prefix="none") == ([], [])


def test_what_the_bucket_refuses_is_said_as_s3_says_it(
    listed: Any,  # noqa: ANN401  likewise
    nobody: TestClient,
) -> None:
    here = {"Bucket": "lineside"}
    for call, asked, code, status in (
        ("list_objects_v2", {"Bucket": "other"}, "NoSuchBucket", 404),
        ("head_bucket", {"Bucket": "other"}, "404", 404),
        ("list_objects_v2", {**here, "ContinuationToken": "?"}, "InvalidArgument", 400),
        ("list_objects_v2", {**here, "MaxKeys": -1}, "InvalidArgument", 400),
        ("get_bucket_versioning", here, "NotImplemented", 501),
        ("create_bucket", {"Bucket": "other"}, "AccessDenied", 403),
        ("get_object_tagging", {**here, "Key": "documents/b"}, "NotImplemented", 501),
    ):
        with pytest.raises(ClientError) as told:
            getattr(listed, call)(**asked)
        assert told.value.response["Error"]["Code"] == code
        assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert told.value.response["ResponseMetadata"]["RequestId"]
    listing = listed.list_objects_v2(Bucket="lineside", MaxKeys=0)
    assert listing["KeyCount"] == 0
    for path in ("/s3/", "/s3/lineside", "/s3/lineside/", "/s3/lineside/documents/b"):
        answer = nobody.get(path)
        assert answer.headers["content-type"] == "application/xml"
        assert "<Code>AccessDenied</Code>" in answer.text
        assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>" in answer.text


def test_a_package_is_read_as_a_tar_that_holds_the_signed_file(
    trusted: Services, served: str, archive: bytes, tmp_path: Path, clock: FakeClock
) -> None:
    """As the edge-manager sample's client does it: fetched whole, unpacked into a folder."""
    target = use(trusted, archive)
    key = target.path.removesuffix(".lspkg") + ".tar.gz"
    client = s3(served, issue_access_key(trusted.records, name="x", clock=clock, thing="edge-1"))
    got = client.get_object(Bucket="lineside", Key=key)
    data = got["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        packed.extractall(tmp_path, filter="data")
    (file,) = tmp_path.rglob("*.lspkg")
    assert file.parent == tmp_path
    assert file.read_bytes() == archive
    part = client.get_object(Bucket="lineside", Key=key, Range="bytes=5-90", IfMatch=got["ETag"])
    assert part["Body"].read() == data[5:91]
    for wrong, said in (
        ("packages/none/1/x.tar.gz", "Publish it"),
        (f"{key.rpartition('/')[0]}/x.tar.gz", f"Known: {target.path}"),
    ):
        with pytest.raises(ClientError, match=rf"NoSuchKey.*{said}"):
            client.get_object(Bucket="lineside", Key=wrong)
    client.close()
    link = trusted.bucket.link(f"s3://lineside/{key}", seconds=60)
    trusted.bucket.check(f"https://s3.eu-west-1.amazonaws.com/lineside/{key}")
    assert link.split("?")[0].endswith(key)


@pytest.mark.parametrize("role", [Role.VIEWER, None])
def test_keys_read_packages_by_their_role(
    role: Role | None, trusted: Services, served: str, archive: bytes, clock: FakeClock
) -> None:
    target = use(trusted, archive)
    client = s3(served, issue_access_key(trusted.records, name="x", clock=clock, role=role))
    if role is None:
        with pytest.raises(ClientError, match="AccessDenied"):
            client.get_object(Bucket="lineside", Key=target.path)
    else:
        body = client.get_object(Bucket="lineside", Key=target.path)["Body"]
        assert body.read() == archive
        body.close()
    client.close()


def test_a_strangers_signature_is_refused(
    trusted: Services, served: str, archive: bytes, clock: FakeClock
) -> None:
    target = use(trusted, archive)
    key = issue_access_key(trusted.records, name="x", clock=clock, role=Role.VIEWER)
    client = s3(served, replace(key, secret="wrong"))  # noqa: S106  on purpose
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.get_object(Bucket="lineside", Key=target.path)
    client.close()


def test_devices_read_and_nobody_else_does(
    trusted: Services, nobody: TestClient, archive: bytes
) -> None:
    target = use(trusted, archive)
    paths = (
        "/tuf/metadata/timestamp.json", f"/tuf/targets/{target.path}", f"/s3/lineside/{target.path}"
    )  # fmt: skip
    for kind, status in (("device", 200), ("ingest", 403)):
        headers = {"Authorization": f"Bearer {trusted.auth.issue_token(kind, kind=kind)}"}
        for path in paths:
            assert nobody.get(path, headers=headers).status_code == status, path
            assert nobody.post(path, headers=headers).status_code == 403, path
    for path in paths:
        assert nobody.get(path).status_code == 401, path
