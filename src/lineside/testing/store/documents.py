"""The suite of every keeper of documents."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lineside.core import ConflictError, InvalidError, NotFoundError, digest_of
from lineside.store import Records
from lineside.testing.clock import FakeClock


class DocumentsContract:
    """Contract suite of document stores."""

    def test_a_document_comes_back_as_it_was_put(self, records: Records, clock: FakeClock) -> None:
        body = {"text": "Größe \u0000 😀", "number": 1.5, "list": [1, None, {"deep": True}]}
        put = records.documents.put("order", "ord_1", body=body)
        assert records.documents.get("order", "ord_1") == put
        assert (put.body, put.version, put.updated_at) == (body, 1, clock.now())

    def test_versions_count_the_writes(self, records: Records, clock: FakeClock) -> None:
        records.documents.put("order", "ord_1", body={"n": 1})
        clock.advance(5)
        second = records.documents.put("order", "ord_1", body={"n": 2})
        assert (second.version, second.body, second.updated_at) == (2, {"n": 2}, clock.now())

    def test_a_write_that_expects_another_version_conflicts(self, records: Records) -> None:
        records.documents.put("order", "ord_1", body={"n": 1}, expect=0)
        records.documents.put("order", "ord_1", body={"n": 2}, expect=1)
        for expected in (0, 1, 3):
            with pytest.raises(ConflictError):
                records.documents.put("order", "ord_1", body={"n": 9}, expect=expected)
        assert records.documents.get("order", "ord_1").body == {"n": 2}

    def test_expecting_a_document_that_is_not_there_conflicts(self, records: Records) -> None:
        with pytest.raises(ConflictError):
            records.documents.put("order", "ord_1", body={}, expect=1)
        with pytest.raises(NotFoundError):
            records.documents.get("order", "ord_1")

    def test_kinds_do_not_mix(self, records: Records) -> None:
        records.documents.put("order", "1", body={"kind": "order"})
        records.documents.put("alert", "1", body={"kind": "alert"})
        records.documents.delete("order", "1")
        assert records.documents.page("order") == []
        assert records.documents.get("alert", "1").body == {"kind": "alert"}

    def test_pages_go_by_the_bytes_of_the_id(self, records: Records) -> None:
        ids = ["a", "B", "_", "ä", "Z1", "z", "1", "10", "2", "😀", "\uffff"]
        for doc_id in ids:
            records.documents.put("order", doc_id, body={})
        expected = sorted(ids, key=lambda doc_id: doc_id.encode())
        found: list[str] = []
        while page := records.documents.page("order", after=found[-1] if found else "", limit=2):
            found += [document.id for document in page]
        assert found == expected

    def test_a_page_of_what_was_written_since(self, records: Records, clock: FakeClock) -> None:
        for doc_id in ("1", "2", "3"):
            records.documents.put("order", doc_id, body={"n": 1})
        clock.advance(5)
        since = clock.now()
        records.documents.put("order", "2", body={"n": 2})
        records.documents.put("order", "4", body={"n": 1})
        records.documents.put("alert", "5", body={"n": 1})
        found = records.documents.page("order", since=since)
        assert [(one.id, one.body["n"]) for one in found] == [("2", 2), ("4", 1)]
        assert [one.id for one in records.documents.page("order", since=since, after="2")] == ["4"]
        clock.advance(1)
        assert records.documents.page("order", since=clock.now()) == []

    def test_a_deleted_document_starts_again_at_one(self, records: Records) -> None:
        records.documents.put("order", "1", body={})
        records.documents.put("order", "1", body={})
        records.documents.delete("order", "1")
        records.documents.delete("order", "1")
        assert records.documents.put("order", "1", body={}, expect=0).version == 1

    def test_a_delete_that_expects_another_version_conflicts(self, records: Records) -> None:
        body = {"digest": digest_of(b"x")}
        records.documents.put("order", "1", body=body)
        records.documents.put("order", "1", body=body)
        for expected in (0, 1, 3):
            with pytest.raises(ConflictError):
                records.documents.delete("order", "1", expect=expected)
        assert records.documents.get("order", "1").version == 2
        records.documents.delete("order", "1", expect=2)
        with pytest.raises(ConflictError):
            records.documents.delete("order", "1", expect=2)

    @pytest.mark.parametrize("name", ["", "nul \x00", "half \ud800", "x" * 2001])
    def test_names_no_database_could_index_are_refused(self, records: Records, name: str) -> None:
        with pytest.raises(InvalidError):
            records.documents.put("order", name, body={})
        with pytest.raises(InvalidError):
            records.documents.put(name, "1", body={})

    def test_the_longest_name_allowed_is_kept(self, records: Records) -> None:
        name = "ä" * 1000
        records.documents.put("k" * 500, name, body={"digest": digest_of(b"x")})
        assert records.documents.get("k" * 500, name).version == 1

    def test_a_body_that_is_no_json_is_refused(self, records: Records) -> None:
        with pytest.raises(InvalidError):
            records.documents.put("order", "1", body={"thing": object()})

    def test_of_writers_at_once_each_version_has_one(self, records: Records) -> None:
        def write(number: int) -> int:
            return records.documents.put("order", "1", body={"n": number}).version

        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(write, range(40)))
        assert sorted(versions) == list(range(1, 41))

    def test_of_writers_that_expect_the_same_version_one_wins(self, records: Records) -> None:
        def write(number: int) -> bool:
            try:
                records.documents.put("order", "1", body={"n": number}, expect=0)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(write, range(16))) == 1
