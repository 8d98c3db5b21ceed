"""The suite of every place for bytes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lineside.core import Digest, InvalidError, NotFoundError, RefusedError, digest_of
from lineside.store import Blobs
from lineside.testing.clock import FakeClock

Tamper = Callable[[Digest, bytes], None]


class BlobsContract:
    """Contract suite of blob stores; ``tamper`` overwrites a blob behind its back.

    Attributes:
        own_time: the adapter goes by the clock it was opened with, not by its server's.
    """

    own_time = True

    @pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 20_000])
    def test_bytes_come_back_as_they_were(self, blobs: Blobs, data: bytes) -> None:
        digest = blobs.put(data)
        assert digest == digest_of(data)
        assert blobs.get(digest) == data

    def test_putting_twice_keeps_one(self, blobs: Blobs) -> None:
        assert blobs.put(b"one") == blobs.put(b"one")
        assert list(blobs.digests()) == [digest_of(b"one")]

    def test_many_are_put_at_once_like_one_by_one(self, blobs: Blobs) -> None:
        data = [b"%d" % number * 1000 for number in range(20)]
        kept = blobs.put(data[3])
        digests = blobs.put_many([*data, data[5]])
        assert digests[3] == kept
        assert digests[5] == digests[20]
        assert [blobs.get(digest) for digest in digests[:20]] == data
        assert all(blobs.has(digest) for digest in digests)
        assert sorted(blobs.digests()) == sorted(set(digests))
        assert blobs.put_many([]) == []

    def test_absent_bytes_are_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(NotFoundError):
            blobs.get(digest_of(b"never put"))
        assert not blobs.has(digest_of(b"never put"))

    @pytest.mark.parametrize("name", ["", "sha256:../../etc/passwd", "sha256:" + "A" * 64])
    def test_a_name_that_is_no_digest_is_refused(self, blobs: Blobs, name: str) -> None:
        with pytest.raises(InvalidError):
            blobs.get(Digest(name))
        with pytest.raises(InvalidError):
            blobs.has(Digest(name))
        with pytest.raises(InvalidError):
            blobs.delete(Digest(name))

    def test_deleted_bytes_are_gone_and_absent_ones_may_be_deleted(self, blobs: Blobs) -> None:
        digest = blobs.put(b"soon gone")
        blobs.delete(digest)
        blobs.delete(digest)
        assert list(blobs.digests()) == []
        with pytest.raises(NotFoundError):
            blobs.get(digest)

    def test_every_digest_is_listed_once(self, blobs: Blobs) -> None:
        put = {blobs.put(f"blob {number}".encode()) for number in range(60)}
        listed = list(blobs.digests())
        assert len(listed) == 60
        assert set(listed) == put

    @pytest.mark.parametrize("changed", [b"", b"thE same length", b"longer than it was before"])
    def test_bytes_changed_at_rest_are_refused(
        self, blobs: Blobs, tamper: Tamper, *, changed: bytes
    ) -> None:
        digest = blobs.put(b"the same length")
        tamper(digest, changed)
        with pytest.raises(RefusedError):
            blobs.get(digest)

    def test_putting_again_mends_what_was_changed(self, blobs: Blobs, tamper: Tamper) -> None:
        digest = blobs.put(b"the same length")
        tamper(digest, b"thE same length")
        blobs.put(b"the same length")
        assert blobs.get(digest) == b"the same length"

    def test_fresh_bytes_are_not_discarded(self, blobs: Blobs) -> None:
        digest = blobs.put(b"fresh")
        assert not blobs.discard(digest, idle_s=300)
        assert blobs.get(digest) == b"fresh"

    def test_idle_bytes_are_discarded(self, blobs: Blobs, clock: FakeClock) -> None:
        digest = blobs.put(b"idle")
        clock.advance(400)
        assert blobs.discard(digest, idle_s=300)
        assert blobs.discard(digest, idle_s=300)
        assert list(blobs.digests()) == []

    def test_putting_again_makes_fresh(self, blobs: Blobs, clock: FakeClock) -> None:
        if not self.own_time:
            pytest.skip("goes by the time of its server")
        digest = blobs.put(b"idle")
        clock.advance(400)
        blobs.put(b"idle")
        assert not blobs.discard(digest, idle_s=300)
        assert blobs.get(digest) == b"idle"

    def test_threads_may_put_and_get_at_once(self, blobs: Blobs) -> None:
        def put_and_get(number: int) -> bool:
            data = f"blob {number % 5}".encode()
            return blobs.get(blobs.put(data)) == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(put_and_get, range(80)))
        assert len(list(blobs.digests())) == 5
