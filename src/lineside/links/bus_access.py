"""Topics that a device may publish and read; the same rules make mosquitto's access list.

1. What no pattern allows is refused, wildcards in a name or a topic included.
2. A device says its own status and log, takes part in the jobs of its own thing, and says frames
   and predictions of the cameras of its lines, the verdicts of these lines, and what the plant file
   has said of them elsewhere (answers of a route, outputs).
3. It hears what the hub tells it, what triggers its inspections, and its cameras' pictures. What
   other devices say is not for it.
4. A subscription is allowed only if every topic it could bring is.
"""

import hashlib
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from lineside.core import InvalidError, NotFoundError, Plant, need, replace_durably
from lineside.core.plant_check import plant_text_topic
from lineside.core.topics import pattern_covers, topic_matches

_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SAYS = ("status", "evidence")
_HEARS = ("desired", "ack")
ANYBODY = "%u"
"""Stands for the device's name in mosquitto's patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicAccess:
    """Patterns of topics that one client may publish to, and that it may hear."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def may_publish(self, topic: str) -> bool:
        """Return whether a message may have this topic."""
        if "+" in topic or "#" in topic:
            return False
        return any(topic_matches(pattern, topic) for pattern in self.publish)

    def may_subscribe(self, pattern: str) -> bool:
        """Return whether everything that a pattern could bring may be heard."""
        return any(pattern_covers(allowed, pattern) for allowed in self.subscribe)


def is_identity(name: str) -> bool:
    """Return whether a name can stand in topics, job targets and certificates alike."""
    return bool(_IDENTITY.fullmatch(name))


def device_access(plant: Plant, *, device: str, lines: Iterable[str]) -> TopicAccess:
    """Return the rights of a device of these lines; none for an invalid name."""
    if not is_identity(device):
        return TopicAccess()
    own, shared = own_access(plant, device=device), line_access(plant, lines=lines)
    return TopicAccess(
        publish=own.publish + shared.publish, subscribe=own.subscribe + shared.subscribe
    )


def own_access(plant: Plant, *, device: str) -> TopicAccess:
    """Return the rights that a device has by its name."""
    root, jobs = f"lineside/{plant.site}/device/{device}", job_access(device)
    return TopicAccess(
        publish=(*(f"{root}/{noun}" for noun in _SAYS), *jobs.publish),
        subscribe=(
            *(f"{root}/{noun}" for noun in _HEARS),
            plant_text_topic(plant.site),
            *jobs.subscribe,
        ),
    )


def job_access(device: str) -> TopicAccess:
    """Return the rights that a client of AWS IoT Jobs needs: its thing's jobs, and its log."""
    jobs = f"$aws/things/{device}/jobs/#"
    return TopicAccess(publish=(f"edge-manager-app/logs/{device}", jobs), subscribe=(jobs,))


def line_access(plant: Plant, *, lines: Iterable[str]) -> TopicAccess:
    """Return the rights that a device has by its lines."""
    wanted = set(lines)
    cameras = [camera for camera in plant.camera if camera.line in wanted]
    line_of = {camera.id: camera.line for camera in cameras}
    triggers = [
        one.trigger.topic for one in plant.inspection if one.camera in line_of and one.trigger.topic
    ]
    heard = [
        camera.source.reveal().removeprefix("mqtt:")
        for camera in cameras
        if camera.source.startswith("mqtt:")
    ]
    said = [
        f"lineside/{plant.site}/{camera.line}/{camera.id}/{noun}"
        for camera in cameras
        for noun in ("frame", "prediction")
    ]
    said += [
        f"lineside/{plant.site}/{line}/verdict"
        for line in sorted(
            wanted & {line_of.get(one.camera) for one in plant.inspection if one.verdict}
        )
    ]
    said += _plant_topics(plant, cameras=line_of)
    said += [topic for one in plant.output if one.line in wanted for topic in one.bus_topics]
    return TopicAccess(publish=tuple(said), subscribe=tuple(dict.fromkeys([*heard, *triggers])))


def _plant_topics(plant: Plant, *, cameras: Collection[str]) -> list[str]:
    """Topics of routes on which answers about these cameras are said."""
    own = {one.id for one in plant.inspection if one.camera in cameras}
    return [route.topic for route in plant.route if route.say and route.say.inspection in own]


def access_list(plant: Plant, *, devices: Mapping[str, Iterable[str]]) -> str:
    """The same rules as mosquitto's ``acl_file`` (mosquitto.conf(5)).

    Args:
        plant: whose topics.
        devices: name of each device with its lines; what is not a name is left out.
    """
    own = own_access(plant, device=ANYBODY)
    parts = [_lines("pattern", own)]
    for device, lines in sorted(devices.items()):
        shared = line_access(plant, lines=lines)
        if is_identity(device) and (shared.publish or shared.subscribe):
            parts.append(f"user {device}\n{_lines('topic', shared)}")
    return "\n".join(parts)


def _lines(word: str, access: TopicAccess) -> str:
    both = set(access.publish) & set(access.subscribe)
    rows = [f"{word} readwrite {one}" for one in access.publish if one in both]
    rows += [f"{word} write {one}" for one in access.publish if one not in both]
    rows += [f"{word} read {one}" for one in access.subscribe if one not in both]
    return "\n".join(rows) + "\n"


_ITERATIONS = 20_000
_SALT_BYTES = 12
_ARGON2 = "$argon2"


def hash_bus_password(password: str, *, iterations: int = _ITERATIONS) -> str:
    """Return what a password file holds behind the name."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _derived(password, salt=salt, iterations=iterations)
    return f"$7${iterations}${b64encode(salt).decode()}${b64encode(key).decode()}"


def set_bus_password(file: Path, *, name: str, password: str) -> None:
    """Write a user's line, in place of any before; the file is made where there is none.

    Raises:
        InvalidError: a name with a colon or a line break, or an empty one; no password.
        UnavailableError: the disk does not take it.
    """
    if not name or name.startswith("#") or set(name) & set(":\r\n") or not password:
        raise InvalidError(
            "a name without colon, and a password", where=repr(name), fix="Choose another."
        )
    kept = file.read_text().splitlines() if file.exists() else []
    lines = [line for line in kept if line.partition(":")[0] != name]
    text = "\n".join([*lines, f"{name}:{hash_bus_password(password)}", ""])
    replace_durably(file, text.encode(), mode=0o600)


def read_bus_passwords(file: Path) -> dict[str, str]:
    """Return the hash of each name.

    Raises:
        NotFoundError: no such file.
    """
    try:
        text = file.read_text()
    except FileNotFoundError as error:
        raise NotFoundError(
            "no password file", where=str(file), fix="Make it: lineside hub bus-password NAME."
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition(":") for line in lines if line and not line.startswith("#")]
    return {name: hashed for name, _, hashed in pairs}


def mosquitto_reads(file: Path) -> bool:
    """Return whether mosquitto can check every line of a password file."""
    return not any(hashed.startswith(_ARGON2) for hashed in read_bus_passwords(file).values())


def check_bus_password(password: str, hashed: str) -> bool:
    """Return whether a password is the one that was hashed."""
    if hashed.startswith(_ARGON2):
        return _check_argon2(password, hashed)
    try:
        _, kind, iterations, salt, key = hashed.split("$")
        wanted = _derived(password, salt=b64decode(salt), iterations=int(iterations))
        return kind == "7" and compare_digest(wanted, b64decode(key))
    except (ValueError, OverflowError):
        return False


def _check_argon2(password: str, hashed: str) -> bool:
    argon2, errors = need("argon2", extra="hub"), need("argon2.exceptions", extra="hub")
    try:
        return bool(argon2.PasswordHasher().verify(hashed, password))
    except (errors.VerificationError, errors.InvalidHashError):
        return False


def _derived(password: str, *, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
