"""Migrations of the tables: one file a format, applied in order when records are opened."""

from dataclasses import dataclass

from lineside.core.drivers import SecretUrl, find_driver

_UPGRADES = {
    "sqlite": "lineside.store.sqlite:plan_upgrade",
    "postgresql": "lineside.store.postgres:plan_upgrade",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePlan:
    """Changes that opening records would make to their tables.

    Attributes:
        found: the format they are in; "" where there are none yet.
        newest: the format that this program writes.
        steps: of each migration between the two, its format and what it does, in order.
    """

    found: str
    newest: str
    steps: tuple[tuple[str, str], ...]


def plan_upgrade(url: str) -> UpgradePlan:
    """Look at the format of records and change nothing; the errors are those of ``open_records``.

    Args:
        url: as ``open_records`` takes it, but for ``memory://``.
    """
    plan: UpgradePlan = find_driver("upgrades", url, table=_UPGRADES)(SecretUrl(url).reveal())
    return plan
