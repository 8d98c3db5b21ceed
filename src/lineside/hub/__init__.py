"""The hub: store, twin, API and pages of one site, fed by messages.

Main names: ``HubConfig``, ``running`` (the program; ``hub.run`` runs it), ``create_app`` over
``build_services``, ``Accounts``, ``issue_access_key`` and ``sign_in_link`` for administrators,
``trace``.
Not here: rules. A handler decodes, calls one room, encodes; what an order may do is the twin's.
Each name is imported when it is first used: most commands need few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lineside.hub.access.accounts import Accounts, NewToken, open_accounts
    from lineside.hub.access.auth import (
        AccessKey,
        TokenInfo,
        User,
        issue_access_key,
        revoke_access_key,
    )
    from lineside.hub.access.permissions import Right, Role, roles_with
    from lineside.hub.access.tls import ServerFiles, issue_for
    from lineside.hub.broker import mosquitto_files
    from lineside.hub.config import HubConfig
    from lineside.hub.devices.registry import (
        DeviceDetails,
        DeviceQuery,
        DeviceSummary,
        open_inventory,
    )
    from lineside.hub.eventlog.ledger import RecordsJournal
    from lineside.hub.eventlog.trace import trace
    from lineside.hub.models.evidence import version_page
    from lineside.hub.models.model_service import ModelService, Registration, open_models
    from lineside.hub.models.operating_points import open_points
    from lineside.hub.models.releases import check_checkpoints
    from lineside.hub.run import RunningHub, create_app, running, sign_in_link
    from lineside.hub.services import Services, build_services
    from lineside.hub.site_init import NewSite, certificate_words, init_site

__all__ = [
    "AccessKey",
    "Accounts",
    "DeviceDetails",
    "DeviceQuery",
    "DeviceSummary",
    "HubConfig",
    "ModelService",
    "NewSite",
    "NewToken",
    "RecordsJournal",
    "Registration",
    "Right",
    "Role",
    "RunningHub",
    "ServerFiles",
    "Services",
    "TokenInfo",
    "User",
    "build_services",
    "certificate_words",
    "check_checkpoints",
    "create_app",
    "init_site",
    "issue_access_key",
    "issue_for",
    "mosquitto_files",
    "open_accounts",
    "open_inventory",
    "open_models",
    "open_points",
    "revoke_access_key",
    "roles_with",
    "running",
    "sign_in_link",
    "trace",
    "version_page",
]

_MODULES = {
    "AccessKey": "access.auth",
    "Accounts": "access.accounts",
    "DeviceDetails": "devices.registry",
    "DeviceQuery": "devices.registry",
    "DeviceSummary": "devices.registry",
    "HubConfig": "config",
    "ModelService": "models.model_service",
    "NewSite": "site_init",
    "NewToken": "access.accounts",
    "RecordsJournal": "eventlog.ledger",
    "Registration": "models.model_service",
    "Right": "access.permissions",
    "Role": "access.permissions",
    "RunningHub": "run",
    "ServerFiles": "access.tls",
    "Services": "services",
    "TokenInfo": "access.auth",
    "User": "access.auth",
    "build_services": "services",
    "certificate_words": "site_init",
    "check_checkpoints": "models.releases",
    "create_app": "run",
    "init_site": "site_init",
    "issue_access_key": "access.auth",
    "issue_for": "access.tls",
    "mosquitto_files": "broker",
    "open_accounts": "access.accounts",
    "open_inventory": "devices.registry",
    "open_models": "models.model_service",
    "open_points": "models.operating_points",
    "revoke_access_key": "access.auth",
    "roles_with": "access.permissions",
    "running": "run",
    "sign_in_link": "run",
    "trace": "eventlog.trace",
    "version_page": "models.evidence",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"lineside.hub.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'lineside.hub' has no attribute {name!r}")
