"""Webhooks as the plant file or the hub's settings declare them: URLs that events are posted to.

1. Secrets stand in files, never in a declaration: no user in an address, no header that is one.
2. A declaration of the plant file names such a file by its bare name; the hub has one folder for
   them (``in_folder``), so that nobody who edits a plant file has another file of the hub posted.
3. In it each origin has a folder of its own: whoever edits a plant file has no secret posted to
   another host, to another port or in the clear.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from lineside.core.clock import Seconds
from lineside.core.codec import above_zero, entries, refuse, twice, unless
from lineside.core.drivers import SecretUrl
from lineside.core.errors import Fault

EVENT_TYPE = "lineside.event.v1"
"""Type of the events of rules, and of those that the hub says itself."""
ORDER_KEYS = ("id", "source", "subject", "type")
_MOST_PARALLEL = 32
_LONGEST_WAIT_S = 3600.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HOST = re.compile(r"[\w:][\w.:%-]*")
_HEADER = re.compile(r"[A-Za-z0-9_-]+")
_OURS = frozenset({"content-length", "content-type", "host", "transfer-encoding", "connection"})
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """One URL and which events go to it.

    Attributes:
        name: small letters, digits and ``-``; how far it came is kept under it, so a new URL goes
            on where the old one was.
        url: ``https://…``, or ``http://…`` where nobody listens on the way.
        secret_file: file, of a webhook of the plant file its bare name in
            ``data_dir/secrets/<origin of url>``, of lines ``whsec_<base64 of 24 to 64 bytes>``,
            each of which signs, read at each try: to change a secret add the new one, then take the
            old one out; empty: not signed.
        types: types of events; ``lineside.verdict.v1`` for [verdicts](messages.md#verdict-event);
            ``*`` stands for anything.
        rules: subjects: of rule events the rule's id, of verdicts the line's; empty: all.
        headers: further headers.
        header_files: further headers whose value is a secret, and its file: ``Authorization =
            "/etc/lineside/mes.token"``.
        ca: PEM file of the authorities that may vouch for the host, such as another hub's
            ``authority.crt``; empty: the machine's own.
        timeout_s: for the connection (10 at most), and for the answer; above 0, at most 3600.
        dead_after_s: how long one event is tried; above 0.
        key: events of one key keep their order: ``""`` for source and subject (of rule events: the
            rule), ``id``, ``source`` (all that the hub itself says, in one order), ``subject``,
            ``type``, or ``data.<field>``; keep it while events wait.
        parallel: how many keys are posted at a time, 1 to 32.
    """

    name: str
    url: SecretUrl
    secret_file: str = ""
    types: tuple[str, ...] = (EVENT_TYPE,)
    rules: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    header_files: Mapping[str, str] = field(default_factory=dict)
    ca: str = ""
    timeout_s: Seconds = 10.0
    dead_after_s: Seconds = 86_400.0
    key: str = ""
    parallel: int = 4

    def __post_init__(self) -> None:
        refuse(
            self,
            unless(
                _NAME.fullmatch(self.name), key="name", value=self.name[:80],
                expected="small letters, digits and '-', at most 40",
                fix='Write name = "mes", say.',
            ),
            self._check_url(),
            unless(
                self.types and all(self.types), key="types", value=self.types,
                expected="types of events", fix=f'Write types = ["{EVENT_TYPE}"], say.',
            ),
            self._check_headers(),
            above_zero(self, "timeout_s", "dead_after_s"),
            unless(
                self.timeout_s <= _LONGEST_WAIT_S, key="timeout_s", value=self.timeout_s,
                expected="an hour at most", fix="Write timeout_s = 10, say.",
            ),
            unless(
                is_order_key(self.key), key="key", value=self.key, expected="a key of events",
                fix=f"Write one of {', '.join(ORDER_KEYS)}, or data.<field>.",
            ),
            unless(
                1 <= self.parallel <= _MOST_PARALLEL, key="parallel", value=self.parallel,
                expected=f"1 to {_MOST_PARALLEL}", fix="Write parallel = 4, say.",
            ),
        )  # fmt: skip

    def _check_url(self) -> Iterator[Fault]:
        parts = _split(self.url.reveal())
        usable = parts is not None and parts.scheme in {"http", "https"} and parts.hostname
        yield from unless(
            usable, key="url", value=self.url, expected="the address of a webhook",
            fix="Write https://host/path.",
        )  # fmt: skip
        yield from unless(
            parts is None or not (parts.username or parts.password), key="url",
            value=self.url, expected="an address without a secret",
            fix='Name a file under header_files: Authorization = "mes.token".',
        )  # fmt: skip

    def _check_headers(self) -> Iterator[Fault]:
        for name in (*self.headers, *self.header_files):
            lower = name.lower()
            yield from unless(
                _HEADER.fullmatch(name) and lower not in _OURS and not lower.startswith("webhook-"),
                key="headers", value=name, expected="names of further headers", fix="Leave it out.",
            )  # fmt: skip
        for name, value in self.headers.items():
            yield from unless(
                name.lower() not in _SECRET, key="headers", value=name,
                expected="no header that is a secret", fix="Name its file under header_files.",
            )  # fmt: skip
            yield from unless(
                is_header_value(value), key="headers", value=name,
                expected="values that a header can carry", fix="Write plain ASCII.",
            )  # fmt: skip

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Each file that it names, behind its key."""
        named = [("secret_file", self.secret_file), ("ca", self.ca)]
        named += [("header_files", file) for file in self.header_files.values()]
        return tuple((key, file) for key, file in named if file)

    @property
    def origin(self) -> str:
        """``host`` of https and port 443, else ``host:port`` or ``http:host:port``."""
        parts = urlsplit(self.url.reveal())
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        name = f"[{host}]" if ":" in host else host
        if secure:
            return name if port == 443 else f"{name}:{port}"
        return f"http:{name}:{port}"

    def in_folder(self, folder: Path) -> "WebhookConfig":
        """The webhook with its files as they lie in a folder, in that of its origin."""

        def path(name: str) -> str:
            return str(folder / self.origin / name) if name else ""

        return replace(
            self, secret_file=path(self.secret_file), ca=path(self.ca),
            header_files={name: path(file) for name, file in self.header_files.items()},
        )  # fmt: skip


def check_webhooks(webhooks: tuple[WebhookConfig, ...]) -> Iterator[Fault]:
    """Return the faults of a plant file's webhooks: names used twice, files outside the folder."""
    yield from twice((one.name for _, one in entries(webhooks)), "$.webhook")
    for place, one in entries(webhooks):
        host = urlsplit(one.url.reveal()).hostname or ""
        if one.files and not _HOST.fullmatch(host):
            yield Fault(
                path=f"$.webhook[{place}].url", value=repr(host),
                expected="a host whose name a folder can have", fix="Write https://host/path.",
            )  # fmt: skip
        for key, file in one.files:
            if not _FILE.fullmatch(file):
                yield Fault(
                    path=f"$.webhook[{place}].{key}", value=repr(file),
                    expected="the bare name of a file in the folder"
                    f" secrets/{one.origin} of the hub's data_dir",
                    fix="Put the file there, and write its name: mes.secret, say.",
                )  # fmt: skip


def is_order_key(key: str) -> bool:
    """Return whether a setting names what keeps the order of events."""
    return key in {"", *ORDER_KEYS} or (key.startswith("data.") and key != "data.")


def is_header_value(value: str) -> bool:
    """Return whether a header can carry a text."""
    return value.isprintable() and value.isascii()


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts
