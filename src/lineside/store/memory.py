"""Blobs in memory, for tests and trials: gone when the program ends."""

import threading
from collections.abc import Iterator, Sequence

from lineside.core import Clock, Digest, NotFoundError, RefusedError, digest_of, parse_digest


def open_memory(url: str, *, clock: Clock) -> "MemoryBlobs":
    """Each opening has its own bytes."""
    del url
    return MemoryBlobs(clock=clock)


class MemoryBlobs:
    """``Blobs`` in a dictionary."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Digest, bytes] = {}
        self._put_at_s: dict[Digest, float] = {}

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        with self._lock:
            self._kept[digest] = bytes(data)
            self._put_at_s[digest] = self._clock.now().timestamp()
        return digest

    def put_many(self, data: Sequence[bytes]) -> list[Digest]:
        return [self.put(each) for each in data]

    def get(self, digest: Digest) -> bytes:
        wanted = parse_digest(digest, where="blob")
        with self._lock:
            data = self._kept.get(wanted)
        if data is None:
            raise NotFoundError(f"no blob {digest}", where="memory://", fix="It was deleted.")
        if digest_of(data) != digest:
            raise RefusedError(
                f"blob {digest} is no longer what it was", where="memory://", fix="Put it again."
            )
        return data

    def has(self, digest: Digest) -> bool:
        wanted = parse_digest(digest, where="blob")
        with self._lock:
            return wanted in self._kept

    def delete(self, digest: Digest) -> None:
        wanted = parse_digest(digest, where="blob")
        with self._lock:
            self._forget(wanted)

    def discard(self, digest: Digest, *, idle_s: float) -> bool:
        with self._lock:
            put_at_s = self._put_at_s.get(digest)
            if put_at_s is not None and self._clock.now().timestamp() - put_at_s < idle_s:
                return False
            self._forget(digest)
        return True

    def digests(self) -> Iterator[Digest]:
        with self._lock:
            known = list(self._kept)
        yield from known

    def close(self) -> None:
        """Nothing to release."""

    def _forget(self, digest: Digest) -> None:
        self._kept.pop(digest, None)
        self._put_at_s.pop(digest, None)
