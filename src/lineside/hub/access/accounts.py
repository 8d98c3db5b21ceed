"""Users and tokens: who there is, and every change of it as an event.

1. A user is a name, a role and a password; two names that differ in case only are one.
2. A new password, or removal, ends every session of that user; a new role holds from the next
   request on.
3. A token belongs to a program. It is shown once, has a role, and ends on its day.
4. The last administrator can neither be removed nor get another role.
5. No event, list or log holds a password, a token, or a hash of either.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    Json,
    NotFoundError,
    new_id,
    to_plain,
)
from lineside.hub.access.auth import (
    USER_KIND,
    AccessKey,
    Auth,
    TokenInfo,
    User,
    all_users,
    check_password,
    checked_name,
    find_user,
    hash_password,
    issue_access_key,
    user_key,
)
from lineside.hub.access.permissions import Identity, Role
from lineside.hub.eventlog.ledger import Journal, RecordsJournal, person_event
from lineside.store import Logged, Records, open_records
from lineside.streams import Event

USER_TYPE = "lineside.user.v1"
TOKEN_TYPE = "lineside.token.v1"  # noqa: S105  the type of an event
_MOST_DAYS = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """Settings of a new token. ``kind``: ``api``, ``device`` or ``ingest``; ``api`` has a role.

    ``days`` is how long it holds; 0: until it is revoked.
    """

    name: str
    kind: str = "api"
    role: Role = Role.VIEWER
    days: float = 90.0

    def __post_init__(self) -> None:
        checked_name(self.name)
        if self.kind not in ("api", "device", "ingest"):
            raise InvalidError(
                f"no kind of token: {self.kind!r}", where="kind", fix="Use api, device or ingest."
            )
        if not 0 <= self.days <= _MOST_DAYS:
            raise InvalidError(
                f"a token for {self.days:g} days",
                where="days",
                fix=f"Take up to {_MOST_DAYS}; 0 until it is revoked.",
            )


class Accounts:
    """Changes of users and tokens; safe from several threads and processes."""

    def __init__(self, records: Records, *, journal: Journal, site: str, clock: Clock) -> None:
        self._records = records
        self._documents = records.documents
        self._auth = Auth(records, clock=clock, session_hours=1)
        self._journal = journal
        self._site = site
        self._clock = clock

    # ---- users

    def users(self) -> tuple[User, ...]:
        """Everybody, by name."""
        return all_users(self._documents)

    def user_of(self, identity: Identity) -> User | None:
        """The user who is signed in; None of programs, and where no user has the name of a link."""
        found = find_user(self._documents, identity.name) if identity.kind == "session" else None
        return found[0] if found else None

    def add(self, name: str, *, role: Role, password: str, by: str) -> User:
        """A new user.

        Raises:
            InvalidError: no name, or a password that is quickly guessed.
            ConflictError: the name is taken.
        """
        name = checked_name(name)
        check_password(password, name=name)
        if find_user(self._documents, name) is not None:
            raise ConflictError(
                f"there is a user {name!r} already",
                where="name",
                fix="Take another name, or change that user: lineside user role|password.",
            )
        made = User(
            name=name, role=role, password=hash_password(password),
            password_id=new_id("pwd", clock=self._clock), added_at=self._clock.now(), added_by=by,
        )  # fmt: skip
        self._write(made, expect=0, action="added", by=by)
        return made

    def set_role(self, name: str, *, role: Role, by: str) -> User:
        """Another role, from the next request on.

        Raises:
            NotFoundError: no such user.
            ConflictError: the last administrator has to stay one.
        """
        user, version = self._there(name)
        if role is not Role.ADMIN:
            self._refuse_last(user, action="stay admin")
        changed = replace(user, role=role)
        self._write(changed, expect=version, action="role", by=by, was=str(user.role))
        return changed

    def set_password(self, name: str, *, password: str, by: str) -> User:
        """Another password; every session of the user ends."""
        user, version = self._there(name)
        check_password(password, name=user.name)
        changed = replace(
            user,
            password=hash_password(password),
            password_id=new_id("pwd", clock=self._clock),
        )
        self._write(changed, expect=version, action="password", by=by)
        return changed

    def remove(self, name: str, *, by: str) -> User:
        """Take a user away; every session of the user ends. What they did stays in the log.

        Raises:
            NotFoundError: no such user.
            ConflictError: the last administrator has to be kept.
        """
        user, _ = self._there(name)
        self._refuse_last(user, action="be kept")
        data: dict[str, Json] = {"action": "removed", "role": str(user.role), "by": by}
        event = person_event(
            USER_TYPE, subject=user.name, site=self._site, clock=self._clock, data=data
        )
        self._journal.record(
            [event], within=lambda _: self._documents.delete(USER_KIND, user_key(name))
        )
        return user

    def _refuse_last(self, user: User, *, action: str) -> None:
        """Refuse what would leave nobody who administers the site by name and password."""
        others = (one for one in self.users() if one.name != user.name)
        if user.role is Role.ADMIN and not any(one.role is Role.ADMIN for one in others):
            raise ConflictError(
                f"{user.name} is the last administrator and has to {action}", where="users",
                fix="Make somebody else admin first.",
            )  # fmt: skip

    def _there(self, name: str) -> tuple[User, int]:
        found = find_user(self._documents, name)
        if found is None:
            raise NotFoundError(
                f"no user {name!r}", where="users", fix="List them: lineside user list."
            )
        return found

    def _write(self, user: User, *, expect: int, action: str, by: str, was: str = "") -> None:
        data: dict[str, Json] = {"action": action, "role": str(user.role), "by": by}
        data |= {"was": was} if was else {}
        event = person_event(
            USER_TYPE, subject=user.name, site=self._site, clock=self._clock, data=data
        )

        def keep(_: list[Logged]) -> None:
            self._documents.put(USER_KIND, user_key(user.name), body=to_plain(user), expect=expect)

        self._journal.record([event], within=keep)

    # ---- tokens

    def tokens(self) -> tuple[TokenInfo, ...]:
        """Every token and access key, by name; those that are over too, until they are swept."""
        return self._auth.tokens()

    def issue(self, token: NewToken, *, by: str) -> str:
        """A token, shown once."""
        role = token.role if token.kind == "api" else None
        ends_at = self._clock.now() + timedelta(days=token.days) if token.days else None
        data: dict[str, Json] = {
            "action": "issued", "kind": token.kind, "role": str(role or ""), "by": by,
            "days": token.days,
        }  # fmt: skip
        made: list[str] = []
        self._journal.record(
            [self._token_event(token.name, data)],
            within=lambda _: made.append(
                self._auth.issue_token(token.name, kind=token.kind, role=role, ends_at=ends_at)
            ),
        )
        return made[0]

    def issue_key(self, name: str, *, role: Role | None, thing: str, by: str) -> AccessKey:
        """An access key for clients that sign their requests, shown once."""
        data: dict[str, Json] = {
            "action": "issued", "kind": "key", "role": str(role or ""), "by": by, "thing": thing,
        }  # fmt: skip
        made: list[AccessKey] = []
        self._journal.record(
            [self._token_event(checked_name(name), data)],
            within=lambda _: made.append(
                issue_access_key(
                    self._records, name=name, clock=self._clock, role=role, thing=thing
                )
            ),
        )
        return made[0]

    def revoke(self, name: str, *, by: str) -> int:
        """Take every token and access key of a name out of use; how many there were.

        Raises:
            NotFoundError: there is none of that name.
        """
        if not any(token.name == name for token in self.tokens()):
            raise NotFoundError(
                f"no token {name!r}", where="tokens", fix="List them: lineside token list."
            )
        gone: list[int] = []
        self._journal.record(
            [self._token_event(name, {"action": "revoked", "by": by})],
            within=lambda _: gone.append(self._auth.revoke(name)),
        )
        return gone[0]

    def _token_event(self, name: str, data: dict[str, Json]) -> Event:
        return person_event(TOKEN_TYPE, subject=name, site=self._site, clock=self._clock, data=data)


@contextmanager
def open_accounts(records_url: str, *, site: str, clock: Clock) -> Iterator[Accounts]:
    """Users and tokens for a command beside the hub, whether or not it runs."""
    with open_records(records_url, clock=clock) as records:
        yield Accounts(records, journal=RecordsJournal(records), site=site, clock=clock)
