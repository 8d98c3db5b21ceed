"""What the hub is told of one webhook: a table ``[[webhook]]`` of its settings."""

import re
from dataclasses import dataclass, field

from lineside.core import InvalidError
from lineside.hub.order_keys import check_key
from lineside.links import WebhookTarget
from lineside.streams import EVENT_TYPE

MOST_PARALLEL = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """One URL and which events go to it.

    Attributes:
        name: of the webhook; how far it came is kept under it.
        types: of events; ``*`` stands for anything.
        rules: subjects of events, which of rule events are the rules' ids; empty: all.
        dead_after_s: an event that was not taken for so long is given up.
        key: events of one key keep their order; as ``order_keys.key_of`` takes it.
        parallel: how many keys are posted at a time.

    The others are those of ``links.WebhookTarget``.
    """

    name: str
    url: str
    secret_file: str = ""
    types: tuple[str, ...] = (EVENT_TYPE,)
    rules: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    header_files: dict[str, str] = field(default_factory=dict)
    ca: str = ""
    timeout_s: float = 10.0
    dead_after_s: float = 86_400.0
    key: str = ""
    parallel: int = 4

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidError(
                f"{self.name[:80]!r} is no name of a webhook", where="webhook.name",
                fix="Write small letters, digits and '-', at most 40.",
            )  # fmt: skip
        if not self.types or not all(self.types):
            raise InvalidError("a type of event", where="webhook.types", fix="Leave it out.")
        if self.dead_after_s <= 0:
            raise InvalidError("above 0", where="webhook.dead_after_s", fix="Leave it out.")
        check_key(self.key, where="webhook.key")
        if not 1 <= self.parallel <= MOST_PARALLEL:
            raise InvalidError(
                f"{self.parallel} at a time", where="webhook.parallel",
                fix=f"Write 1 to {MOST_PARALLEL}.",
            )  # fmt: skip
        _ = self.target  # checks the rest

    @property
    def target(self) -> WebhookTarget:
        """As the link takes it."""
        return WebhookTarget(
            url=self.url, secret_file=self.secret_file, headers=self.headers,
            header_files=self.header_files, ca=self.ca, timeout_s=self.timeout_s,
        )  # fmt: skip
