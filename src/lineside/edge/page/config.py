"""Settings of the device's own page."""

from dataclasses import dataclass
from typing import Literal

from lineside.core import InvalidError, refuse, unless

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageConfig:
    """Where the page stands and who may see it.

    Attributes:
        listen: address and port, such as ``127.0.0.1:8080`` or ``[::]:8080``; a port alone is on
            this machine only, port 0 is any free one; empty: no page.
        hosts: further names under which a page of this machine only is asked for.
        password_file: what ``lineside edge page-password`` wrote: people sign in with a password.
        token_file: a text of 16 characters or more that programs send as ``Bearer``.
        tls_cert, tls_key: PEM files that the page is served with; empty: as ``tls`` says.
        tls: ``auto``: an enrolled device's page that others reach has a certificate of the site's
            authority; ``off``: plain HTTP where no files are named, as behind a proxy.
        most_viewers: how many may watch at once.
        width_px: pictures wider than this are made smaller for who watches.
    """

    listen: str = ""
    hosts: tuple[str, ...] = ()
    password_file: str = ""
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls: Literal["auto", "off"] = "auto"
    most_viewers: int = 8
    width_px: int = 1280

    def __post_init__(self) -> None:
        if self.listen:
            parse_listen(self.listen)
        refuse(
            self,
            unless(
                not self.listen or self.is_local or self.guarded, key="listen", seen=self.listen,
                expected="a sign-in, where others than this machine can reach the page",
                fix="Set page.password_file (lineside edge page-password writes one) or "
                "page.token_file, or listen at 127.0.0.1.",
            ),
            unless(
                bool(self.tls_cert) == bool(self.tls_key), key="tls_key", seen=self.tls_key,
                expected="a certificate with its key", fix="Name both files, or neither.",
            ),
            unless(
                1 <= self.most_viewers <= 16, key="most_viewers", seen=self.most_viewers,
                expected="1 to 16", fix="Write most_viewers = 8.",
            ),
            unless(
                64 <= self.width_px <= 8192, key="width_px", seen=self.width_px,
                expected="64 to 8192", fix="Write width_px = 1280.",
            ),
        )  # fmt: skip

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        return parse_listen(self.listen)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the page."""
        return self.address[0] in _LOOPBACK

    @property
    def guarded(self) -> bool:
        """Whether one has to sign in."""
        return bool(self.password_file or self.token_file)


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        InvalidError: not an address with a port.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    whole = port.isascii() and port.isdigit() and int(port) <= 65535
    if not whole or not host or any(sign.isspace() or sign in "/@" for sign in host):
        raise InvalidError(
            f"{text[:80]!r} is no address with a port",
            where="listen",
            fix='Write listen = "127.0.0.1:8080".',
        )
    return host, int(port)
