"""The suite of every keeper of leases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lineside.core import ConflictError
from lineside.store import Lease, Records

Outlast = Callable[[float], object]
"""Lets so many seconds of the database's clock go by."""

_LONG_S = 600.0
_SHORT_S = 0.2


class LeasesContract:
    """Contract suite of lease stores."""

    def test_a_lease_has_one_holder(self, records: Records) -> None:
        (mine,) = records.leases.take(["rules"], holder="a", length_s=_LONG_S)
        assert (mine.name, mine.holder, mine.token) == ("rules", "a", 1)
        assert records.leases.take(["rules"], holder="b", length_s=_LONG_S) == []
        assert records.leases.renew(["rules"], holder="b", length_s=_LONG_S) == []
        assert records.leases.held() == [mine]

    def test_of_many_who_take_at_once_one_gets_it(self, records: Records) -> None:
        def take(number: int) -> list[Lease]:
            return records.leases.take(["rules", "plant"], holder=f"hub-{number}", length_s=_LONG_S)

        with ThreadPoolExecutor(8) as pool:
            got = [lease for found in pool.map(take, range(8)) for lease in found]
        assert sorted(lease.name for lease in got) == ["plant", "rules"]
        assert sorted(got, key=lambda one: one.name) == records.leases.held()

    def test_a_renewed_lease_lasts_and_keeps_its_token(
        self, records: Records, outlast: Outlast
    ) -> None:
        (first,) = records.leases.take(["rules"], holder="a", length_s=_SHORT_S)
        (renewed,) = records.leases.renew(["rules"], holder="a", length_s=_LONG_S)
        assert renewed.token == first.token
        assert renewed.ends_at > first.ends_at
        outlast(_SHORT_S)
        assert records.leases.take(["rules"], holder="b", length_s=_LONG_S) == []
        records.leases.check(first)

    def test_a_lease_that_ended_goes_to_who_asks_next(
        self, records: Records, outlast: Outlast
    ) -> None:
        (old,) = records.leases.take(["rules"], holder="a", length_s=_SHORT_S)
        outlast(_SHORT_S)
        assert records.leases.held() == []
        records.leases.check(old)  # nobody else began
        (new,) = records.leases.take(["rules"], holder="b", length_s=_LONG_S)
        assert new.token == old.token + 1
        assert records.leases.renew(["rules"], holder="a", length_s=_LONG_S) == []
        records.leases.check(new)
        with pytest.raises(ConflictError, match="taken 'rules' over"):
            records.leases.check(old)

    def test_a_lease_that_nobody_took_is_renewed_after_its_end(
        self, records: Records, outlast: Outlast
    ) -> None:
        (old,) = records.leases.take(["rules"], holder="a", length_s=_SHORT_S)
        outlast(_SHORT_S)
        (renewed,) = records.leases.renew(["rules"], holder="a", length_s=_LONG_S)
        assert renewed.token == old.token

    def test_a_released_lease_is_free_at_once(self, records: Records) -> None:
        records.leases.take(["rules", "plant"], holder="a", length_s=_LONG_S)
        records.leases.release(["rules"], holder="b")
        assert len(records.leases.held()) == 2
        records.leases.release(["rules"], holder="a")
        assert [one.name for one in records.leases.held()] == ["plant"]
        assert records.leases.renew(["rules"], holder="a", length_s=_LONG_S) == []
        (taken,) = records.leases.take(["rules", "plant"], holder="b", length_s=_LONG_S)
        assert (taken.name, taken.token) == ("rules", 2)

    def test_what_was_checked_under_a_lost_lease_is_undone(
        self, records: Records, outlast: Outlast
    ) -> None:
        (old,) = records.leases.take(["rules"], holder="a", length_s=_SHORT_S)
        outlast(_SHORT_S)
        records.leases.take(["rules"], holder="b", length_s=_LONG_S)

        def write() -> None:
            with records.transaction():
                records.documents.put("cursor", "rules", body={"position": 7})
                records.leases.check(old)

        with pytest.raises(ConflictError):
            write()
        assert records.documents.page("cursor") == []

    def test_no_names_are_no_leases(self, records: Records) -> None:
        assert records.leases.take([], holder="a", length_s=_LONG_S) == []
        assert records.leases.renew([], holder="a", length_s=_LONG_S) == []
        records.leases.release([], holder="a")
