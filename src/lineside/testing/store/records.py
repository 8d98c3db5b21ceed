"""The suite of documents, log and frames together."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from lineside.core import ConflictError, NotFoundError, UnavailableError, digest_of
from lineside.store import Records
from lineside.testing.store.rows import HUB, frame_row, log_entry


class RecordsContract:
    """Contract suite of documents, log and frames together."""

    def test_a_transaction_is_kept_whole(self, records: Records) -> None:
        with records.transaction():
            records.log.append([log_entry(1)])
            records.documents.put("order", "1", body={})
            records.frames.add([frame_row(1)])
        assert records.log.get("evt_000001").position == 1
        assert records.documents.get("order", "1").version == 1
        assert records.frames.newest("rack") == frame_row(1)

    def test_a_transaction_that_raises_leaves_nothing(self, records: Records) -> None:
        with suppress(LookupError), records.transaction():
            records.log.append([log_entry(1)])
            records.documents.put("order", "1", body={})
            records.frames.add([frame_row(1)])
            raise LookupError
        assert list(records.export()) == []
        assert records.log.append([log_entry(1)])[0].source_position == 1

    def test_what_a_transaction_wrote_it_reads_and_others_do_not(self, records: Records) -> None:
        records.log.append([log_entry(1)])
        with records.transaction():
            records.log.append([log_entry(2)])
            records.documents.put("order", "1", body={})
            assert [logged.entry.id for logged in records.log.read()] == [
                "evt_000001",
                "evt_000002",
            ]
            assert records.documents.get("order", "1").version == 1
            assert records.log.heads()[HUB].source_position == 2

    def test_an_inner_block_joins_the_outer(self, records: Records) -> None:
        with suppress(LookupError), records.transaction():
            with records.transaction():
                records.documents.put("order", "inner", body={})
            records.documents.put("order", "outer", body={})
            raise LookupError
        assert records.documents.page("order") == []

    def test_a_call_that_fails_inside_is_undone_alone(self, records: Records) -> None:
        with records.transaction():
            records.documents.put("order", "1", body={}, expect=0)
            with pytest.raises(ConflictError):
                records.documents.put("order", "1", body={"wrong": True}, expect=7)
            with pytest.raises(NotFoundError):
                records.frames.pin([frame_row(1).id], reason="order:1")
            with suppress(LookupError), records.transaction():
                records.documents.put("order", "2", body={})
                raise LookupError
        assert [document.id for document in records.documents.page("order")] == ["1"]

    def test_what_is_read_once_is_read_again_after_a_commit(self, records: Records) -> None:
        def read() -> int:
            return records.read_once("orders", lambda: len(records.documents.page("order")))

        found = [read()]
        for number in range(2):
            records.documents.put("order", str(number), body={})
            found += [read(), read()]
        with records.transaction():
            records.documents.put("order", "2", body={})
            found.append(read())
        records.documents.delete("order", "0")
        assert [*found, read()] == [0, 1, 1, 2, 2, 3, 2]
        assert records.known("customers") is None

    def test_transactions_of_threads_do_not_mix(self, records: Records) -> None:
        def write(number: int) -> None:
            with records.transaction():
                records.documents.put("order", f"{number:02d}", body={})
                records.log.append([log_entry(number, source=f"/site/device/{number % 3}")])
                if number % 2:
                    raise LookupError

        with ThreadPoolExecutor(6) as pool:
            done = [pool.submit(write, number) for number in range(12)]
        assert [task.exception() is None for task in done] == [True, False] * 6
        assert len(records.documents.page("order")) == 6
        assert len(records.log.read()) == 6
        assert all(records.log.verify(source).ok for source in records.log.heads())

    def test_what_is_named_is_known(self, records: Records) -> None:
        kept, gone = frame_row(1, picture=b"kept"), frame_row(0, picture=b"gone")
        in_document, replaced = digest_of(b"in a document"), digest_of(b"in no document now")
        records.frames.add([kept, gone])
        records.frames.age_out(older_than=kept.captured_at)
        records.documents.put("dataset", "d", body={"samples": [{"digest": replaced}]})
        records.documents.put("dataset", "d", body={"samples": [{"digest": in_document}]})
        asked = [kept.digest, gone.digest, gone.thumbnail, in_document, replaced]
        assert records.named(asked) == {kept.digest, gone.thumbnail, in_document}
        records.documents.delete("dataset", "d")
        assert records.named([in_document]) == set()

    def test_what_is_exported_can_be_loaded(self, records: Records) -> None:
        records.documents.put("order", "ord_1", body={"n": 1})
        records.log.append([log_entry(1), log_entry(2, source="/site/plant"), log_entry(3)])
        records.frames.add([frame_row(1, pins=("order:1", "dataset:x/1")), frame_row(2)])
        rows = list(records.export())
        assert len(rows) == 6
        with pytest.raises(ConflictError):
            records.load(rows)

    def test_a_call_after_closing_says_so(self, records: Records) -> None:
        records.close()
        with pytest.raises(UnavailableError, match="closed"):
            records.documents.page("order")
