"""Password file of a site's own broker: one line ``name:hash`` for each who may come in.

1. New lines hold PBKDF2 with SHA-512 as ``mosquitto_passwd`` writes it (``$7$…``), so that
   mosquitto and amqtt read the same file.
2. Lines with argon2, which earlier versions asked for, go on working with amqtt; mosquitto cannot
   check them.
3. Empty lines and lines that begin with ``#`` say nothing.
"""

import hashlib
import secrets
from base64 import b64decode, b64encode
from hmac import compare_digest
from pathlib import Path

from lineside.core import InvalidError, NotFoundError, need, replace_durably

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
    """Whether mosquitto can check every line of a password file."""
    return not any(hashed.startswith(_ARGON2) for hashed in read_bus_passwords(file).values())


def check_bus_password(password: str, hashed: str) -> bool:
    """Whether a password is the one that was hashed."""
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
