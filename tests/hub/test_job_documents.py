"""The hub's store for jobs: links that a device follows, documents that a job is made from."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from fastapi.testclient import TestClient

from lineside.core import InvalidError, SystemClock
from lineside.fleet import CertificateAuthority, NewJob, Target
from lineside.hub import Role, Services, issue_access_key
from lineside.hub.access.auth import revoke_access_key
from lineside.hub.rollouts import bucket as module
from lineside.hub.rollouts.bucket import ObjectAddress, parse_address
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import serve_hub, use_package

T = "$aws/things/edge-1/jobs"
DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}
TEXT = json.dumps(DOCUMENT).encode()


@pytest.fixture
def clock() -> FakeClock:
    """The clients sign with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture
def signed(hub: Services, archive: bytes) -> Target:
    """A hub with thing ``edge-1`` and one signed package."""
    hub.releases.ensure(keys=hub.config.keys_folder)
    hub.things.add("edge-1")
    digest = use_package(hub, archive)
    found = hub.releases.target_of(digest)
    assert found is not None
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def code(self) -> str:
        """Of an error in S3's XML."""
        return self.body.decode().partition("<Code>")[2].partition("</Code>")[0]

    @property
    def message(self) -> str:
        return self.body.decode().partition("<Message>")[2].partition("</Message>")[0]


def ask(url: str, *, method: str = "GET", data: bytes | None = None, **headers: str) -> Answer:
    """The standard library's own client, which knows nothing of signatures."""
    request = urllib.request.Request(url, method=method, data=data, headers=headers)  # noqa: S310  of this test
    try:
        with urllib.request.urlopen(request, timeout=LONG_S) as found:  # noqa: S310  of this test
            return Answer(found.status, found.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())


def job_with(hub: Services, url: str, **settings: object) -> str:
    """A job whose document has a placeholder; the link that the device gets."""
    document = {"url": f"${{aws:iot:s3-presigned-url:{url}}}"}
    hub.job_requests.service.create(
        NewJob(job_id="job1", targets=("edge-1",), document=document, settings=settings)
    )
    return link_of(hub)


def link_of(hub: Services) -> str:
    answer = hub.job_requests.service.answer(f"{T}/job1/get", b"")[0]
    return str(json.loads(answer.payload)["execution"]["jobDocument"]["url"])


FORMS = (
    "https://s3.eu-west-1.amazonaws.com/lineside/{key}", "https://s3.amazonaws.com/lineside/{key}",
    "https://lineside.s3.eu-west-1.amazonaws.com/{key}", "lineside/{key}", "s3://lineside/{key}",
    "{hub}/s3/lineside/{key}",
)  # fmt: skip


class TestLinks:
    def test_a_device_follows_the_link_of_its_document(
        self, hub: Services, served: str, *, signed: Target, archive: bytes
    ) -> None:
        for form in FORMS:
            url = job_with(hub, form.format(hub=served, key=signed.path))
            assert url.startswith(f"{served}/s3/lineside/{signed.path}?X-Amz-Algorithm="), form
            assert ask(url) == Answer(200, archive), form
            assert ask(url, Range="bytes=5-9") == Answer(206, archive[5:10]), form
            hub.job_requests.service.delete("job1", force=True)

    def test_it_is_over_when_the_job_said_and_comes_anew_with_the_document(
        self, hub: Services, served: str, *, signed: Target, clock: FakeClock
    ) -> None:
        url = job_with(hub, f"{served}/s3/lineside/{signed.path}",
                       presignedUrlConfig={"expiresInSec": 60})  # fmt: skip
        clock.advance(62)
        over = ask(url)
        assert (over.status, over.code) == (403, "AccessDenied")
        assert "Request has expired" in over.message
        assert "document again" in over.message
        assert ask(link_of(hub)).status == 200

    def test_it_opens_nothing_else(
        self, hub: Services, served: str, *, signed: Target, archive: bytes
    ) -> None:
        url = job_with(hub, f"lineside/{signed.path}")
        hub.bucket.put("lineside", "documents/other.json", data=TEXT)
        query = urlsplit(url).query
        for asked, method, status, code in (
            (f"{served}/s3/lineside/documents/other.json?{query}", "GET", 403,
             "SignatureDoesNotMatch"),
            (f"{served}/s3/other/{signed.path}?{query}", "GET", 403, "SignatureDoesNotMatch"),
            (url[:-1] + ("0" if url[-1] != "0" else "1"), "GET", 403, "SignatureDoesNotMatch"),
            (url, "PUT", 403, "AccessDenied"),
            (url, "DELETE", 403, "AccessDenied"),
        ):  # fmt: skip
            refused = ask(asked, method=method, data=TEXT if method == "PUT" else None)
            assert (refused.status, refused.code) == (status, code), asked
        assert ask(url, method="HEAD").status == 403
        for path in ("/jobs", "/api/v1/packages", f"/tuf/targets/{signed.path}"):
            assert ask(f"{served}{path}?{query}").status == 401, path
        assert ask(url) == Answer(200, archive)

    def test_every_hub_on_the_same_records_knows_the_same_key(
        self, hub: Services, served: str, *, signed: Target, clock: FakeClock
    ) -> None:
        assert len(hub.records.documents.page("link-key")) == 1  # made before the first job
        other = module.Bucket(hub.records, releases=hub.releases, clock=clock, base_url=served)
        assert other.link_key() == hub.bucket.link_key()
        assert ask(other.link(f"lineside/{signed.path}", seconds=60)).status == 200

    def test_the_key_of_links_opens_nothing_but_links(
        self, hub: Services, served: str, *, signed: Target
    ) -> None:
        key = hub.bucket.link_key()
        client = s3(served, key.id, secret=key.secret)
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            client.get_object(Bucket="lineside", Key=signed.path)
        client.close()

    @pytest.mark.usefixtures("signed")
    def test_no_job_is_made_for_what_is_not_there(self, hub: Services) -> None:
        for url in (
            "https://s3.eu.amazonaws.com/other/k", "https://s3.eu.amazonaws.com/lineside/none",
            "https://lineside.s3.eu.amazonaws.com/packages/../x", "lineside/documents/none.json",
            "https://example.org/lineside/k", "ftp://lineside/k", "s3://lineside", "http://[",
        ):  # fmt: skip
            with pytest.raises(InvalidError, match="no link can be made to") as refused:
                job_with(hub, url)
            assert "packages/<group>" in refused.value.fix


def s3(
    url: str, key_id: str, *, secret: str, version: str = "s3v4", authority: Path | None = None
) -> Any:  # noqa: ANN401  boto3 has no types
    return boto3.client(
        "s3", endpoint_url=f"{url}/s3", region_name="eu-west-1", aws_access_key_id=key_id,
        aws_secret_access_key=secret, verify=None if authority is None else str(authority),
        config=Config(
            s3={"addressing_style": "path"}, retries={"max_attempts": 0}, proxies={},
            signature_version=version,
        ),
    )  # fmt: skip


@pytest.fixture
def stores(served: str, hub: Services, clock: FakeClock) -> Iterator[Callable[..., Any]]:
    """Clients of keys with a role, or a thing."""
    opened = []

    def client(*, role: Role | None = None, thing: str = "", version: str = "s3v4") -> Any:  # noqa: ANN401  boto3 has no types
        key = issue_access_key(hub.records, name="x", clock=clock, role=role, thing=thing)
        made = s3(served, key.id, secret=key.secret, version=version)
        made.meta.key_id = key.id
        opened.append(made)
        return made

    yield client
    for one in opened:
        one.close()


class TestBotosOwnLinks:
    @pytest.mark.parametrize("who", [{"thing": "edge-1"}, {"role": Role.VIEWER}])
    def test_they_are_followed_as_their_key_may(
        self, stores: Callable[..., Any], hub: Services, *, signed: Target, archive: bytes,
        who: dict[str, Any],
    ) -> None:  # fmt: skip
        client = stores(**who)
        named = {"Bucket": "lineside", "Key": signed.path}
        url = client.generate_presigned_url("get_object", Params=named, ExpiresIn=60)
        assert ask(url) == Answer(200, archive)
        head = client.generate_presigned_url("head_object", Params=named, ExpiresIn=60)
        assert ask(head, method="HEAD") == Answer(200, b"")
        assert ask(head).code == "SignatureDoesNotMatch"
        revoke_access_key(hub.records, client.meta.key_id)
        refused = ask(url)
        assert (refused.status, refused.code) == (403, "InvalidAccessKeyId")

    def test_they_end_when_they_say(
        self, stores: Callable[..., Any], signed: Target, clock: FakeClock
    ) -> None:
        named = {"Bucket": "lineside", "Key": signed.path}
        client = stores(thing="edge-1")
        url = client.generate_presigned_url("get_object", Params=named, ExpiresIn=10)
        assert ask(url).status == 200
        clock.advance(12)
        assert "Request has expired" in ask(url).message
        week = client.generate_presigned_url("get_object", Params=named, ExpiresIn=604_801)
        assert ask(week).code == "AuthorizationQueryParametersError"

    def test_a_key_that_may_not_read_makes_links_in_vain(
        self, stores: Callable[..., Any], signed: Target
    ) -> None:
        named = {"Bucket": "lineside", "Key": signed.path}
        url = stores().generate_presigned_url("get_object", Params=named)
        refused = ask(url)
        assert (refused.status, refused.code) == (403, "AccessDenied")

    def test_links_of_the_older_version_are_refused_with_what_to_do(
        self, stores: Callable[..., Any], signed: Target
    ) -> None:
        named = {"Bucket": "lineside", "Key": signed.path}
        url = stores(thing="edge-1", version="s3").generate_presigned_url(
            "get_object", Params=named
        )
        refused = ask(url)
        assert (refused.status, refused.code) == (400, "InvalidRequest")
        assert "s3v4" in refused.message

    def test_a_link_to_put_something_is_refused(
        self, stores: Callable[..., Any], hub: Services
    ) -> None:
        named = {"Bucket": "lineside", "Key": "documents/a.json"}
        url = stores(role=Role.ADMIN).generate_presigned_url("put_object", Params=named)
        refused = ask(url, method="PUT", data=TEXT)
        assert (refused.status, refused.code) == (403, "AccessDenied")
        assert hub.records.documents.page(module.OBJECT_KIND) == []


class TestDocuments:
    def test_a_job_is_made_from_a_document_that_stands_here(
        self, stores: Callable[..., Any], hub: Services, *, served: str
    ) -> None:
        hub.things.add("edge-1")
        store = stores(role=Role.APPROVER)
        put = store.put_object(Bucket="lineside", Key="documents/a/b.json", Body=TEXT)
        found = store.get_object(Bucket="lineside", Key="documents/a/b.json")
        assert found["Body"].read() == TEXT
        found["Body"].close()
        assert (found["ContentType"], found["ETag"]) == ("application/json", put["ETag"])
        iot = operator(hub, served)
        for number, source in enumerate((
            "s3://lineside/documents/a/b.json", f"{served}/s3/lineside/documents/a/b.json",
            served.replace("127.0.0.1", "localhost") + "/s3/lineside/documents/a%2Fb.json",
        )):  # fmt: skip
            job = f"job{number}"
            iot.create_job(jobId=job, targets=["edge-1"], documentSource=source)
            assert json.loads(iot.get_job_document(jobId=job)["document"]) == DOCUMENT
            assert iot.describe_job(jobId=job)["documentSource"] == source
        store.delete_object(Bucket="lineside", Key="documents/a/b.json")
        store.delete_object(Bucket="lineside", Key="documents/a/b.json")
        with pytest.raises(ClientError, match="NoSuchKey"):
            store.get_object(Bucket="lineside", Key="documents/a/b.json")
        assert hub.job_requests.service.look("job0")[0].document == DOCUMENT
        iot.close()

    def test_anything_else_is_refused_with_a_sentence(self, hub: Services, served: str) -> None:
        hub.things.add("edge-1")
        hub.bucket.put("lineside", "documents/a.json", data=TEXT)
        iot = operator(hub, served)
        asked: tuple[tuple[dict[str, str], str], ...] = (
            ({"documentSource": "https://s3.amazonaws.com/lineside/documents/a.json"}, "not in"),
            ({"documentSource": "https://example.org/a.json"}, "not in this hub's store"),
            ({"documentSource": "lineside/documents/a.json"}, "not in this hub's store"),
            ({"documentSource": "file:///etc/passwd"}, "not in this hub's store"),
            ({"documentSource": "{hub}/api/v1/me"}, "not in this hub's store"),
            ({"documentSource": "{hub}/s3/lineside/documents/a.json?x=1"}, "not in this hub's"),
            ({"documentSource": "s3://lineside/documents/none.json"}, "there is no document"),
            ({"documentSource": "s3://other/documents/a.json"}, "there is no document"),
            ({"documentSource": "s3://lineside/documents/../a.json"}, "there is no document"),
            ({"documentSource": "s3://lineside/packages/a"}, "there is no document"),
            ({"documentSource": "s3://lineside/documents/a.json", "document": "{{}}"}, "not both"),
            ({}, "JSON as text"),
        )
        for fields, said in asked:
            with pytest.raises(ClientError, match=said) as refused:
                iot.create_job(
                    jobId="job1", targets=["edge-1"],
                    **{name: value.format(hub=served) for name, value in fields.items()},
                )  # fmt: skip
            assert refused.value.response["Error"]["Code"] == "InvalidRequestException"
        iot.close()

    @pytest.mark.parametrize(
        ("key", "data", "status", "code"),
        [
            ("documents/a.json", b"[]", 400, "InvalidRequest"),
            ("documents/a.json", b"{", 400, "InvalidRequest"),
            ("documents/a.json", b'{"a":"\xff"}', 400, "InvalidRequest"),
            ("documents/a.json", b'{"a":"' + b"x" * 32_768 + b'"}', 400, "InvalidRequest"),
            ("packages/direct/1/x.lspkg", b"{}", 403, "AccessDenied"),
            ("documents/", b"{}", 403, "AccessDenied"),
            ("documents/.hidden", b"{}", 403, "AccessDenied"),
            ("documents/a/b/c/d/e", b"{}", 403, "AccessDenied"),
            ("documents/" + "x" * 200, b"{}", 403, "AccessDenied"),
            ("documents/a%20b", b"{}", 403, "AccessDenied"),
        ],
    )
    def test_what_is_no_job_document_is_not_kept(
        self, client: TestClient, hub: Services, *, key: str, data: bytes, status: int, code: str
    ) -> None:
        refused = client.put(f"/s3/lineside/{key}", content=data)
        assert (refused.status_code, Answer(0, refused.content).code) == (status, code)
        assert Answer(0, refused.content).message
        assert hub.records.documents.page(module.OBJECT_KIND) == []

    def test_there_is_room_for_so_many(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_OBJECTS", 2)
        for name in ("a", "b", "a"):
            assert client.put(f"/s3/lineside/documents/{name}", content=TEXT).status_code == 200
        refused = client.put("/s3/lineside/documents/c", content=TEXT)
        assert (refused.status_code, Answer(0, refused.content).code) == (403, "AccessDenied")
        assert client.put("/s3/other/documents/c", content=TEXT).status_code == 404
        assert client.delete("/s3/lineside/documents/a").status_code == 204
        assert client.put("/s3/lineside/documents/c", content=TEXT).status_code == 200

    @pytest.mark.parametrize("who", [{"thing": "edge-1"}, {"role": Role.ENGINEER}, {}])
    def test_who_may_not_release_puts_and_deletes_nothing(
        self, stores: Callable[..., Any], hub: Services, *, who: dict[str, Any]
    ) -> None:
        hub.bucket.put("lineside", "documents/a.json", data=TEXT)
        store = stores(**who)
        named = {"Bucket": "lineside", "Key": "documents/a.json"}
        with pytest.raises(ClientError, match="AccessDenied"):
            store.put_object(**named, Body=b"{}")
        with pytest.raises(ClientError, match="AccessDenied"):
            store.delete_object(**named)
        assert hub.bucket.read("lineside", "documents/a.json").data == TEXT

    def test_over_tls_boto3_sends_it_in_parts_by_itself(
        self, hub: Services, tmp_path: Path, clock: FakeClock
    ) -> None:
        authority = CertificateAuthority.create(tmp_path / "site", site="hall", clock=clock)
        pair = authority.issue_server(("127.0.0.1",))
        files = {"ca": authority.certificate, "crt": pair.certificate, "key": pair.key}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        key = issue_access_key(hub.records, name="x", clock=clock, role=Role.APPROVER)
        with serve_hub(hub, tls=tmp_path) as url:
            store = s3(url, key.id, secret=key.secret, authority=tmp_path / "ca")
            store.put_object(Bucket="lineside", Key="documents/a.json", Body=TEXT)
            assert hub.bucket.read("lineside", "documents/a.json").data == TEXT
            found = store.get_object(Bucket="lineside", Key="documents/a.json")["Body"]
            assert found.read() == TEXT
            found.close()
            store.close()

    def test_without_identity_or_signature_nothing_is_said(self, nobody: TestClient) -> None:
        for method in ("GET", "PUT", "DELETE"):
            asked = nobody.request(method, "/s3/lineside/documents/a.json")
            assert asked.status_code == 401, method


def operator(hub: Services, url: str) -> Any:  # noqa: ANN401  boto3 has no types
    key = issue_access_key(hub.records, name="op", clock=hub.clock, role=Role.APPROVER)
    return boto3.client(
        "iot", endpoint_url=url, region_name="eu-west-1", aws_access_key_id=key.id,
        aws_secret_access_key=key.secret, config=Config(retries={"max_attempts": 0}, proxies={}),
    )  # fmt: skip


def test_addresses_are_read_as_they_are_written() -> None:
    def read(text: str, *, base: str = "https://hub:8443/under") -> ObjectAddress | None:
        return parse_address(text, base_url=base, names=("other",))

    own = ObjectAddress(bucket="b", key="k/l")
    for text in (
        "https://hub:8443/under/s3/b/k/l", "http://other:8443/under/s3/b/k%2Fl", "s3://b/k/l"
    ):  # fmt: skip
        assert read(text) == own, text
    for text in (
        "https://hub:8443/s3/b/k", "https://hub/under/s3/b/k", "https://hub:8443/under/s3/b",
        "https://a:b@hub:8443/under/s3/b/k", "https://hub:8443/under/s3/b/k#x",
        "https://hub.evil:8443/under/s3/b/k", "https://hub:99999/under/s3/b/k", "data:,x", "",
        "https://s3.evil.org/b/k", "https://s3.amazonaws.com.evil.org/b/k",
        "https://evils3.amazonaws.com/b/k",
    ):  # fmt: skip
        assert read(text) is None, text
    assert read("https://a.b.s3.dualstack.eu-west-1.amazonaws.com/k") == ObjectAddress(
        bucket="a.b", key="k", aws=True
    )
