"""The hub: store, twin, API and pages of one site, fed by messages.

Main names: ``HubConfig``, ``run`` and ``running`` (the program), ``create_app`` over
``build_services``, ``Accounts``, ``issue_access_key`` and ``sign_in_link`` for administrators,
``trace``.
Not here: rules. A handler decodes, calls one room, encodes; what an order may do is the twin's.
"""

from lineside.hub.access.accounts import Accounts, NewToken, open_accounts
from lineside.hub.access.auth import AccessKey, TokenInfo, User, issue_access_key, revoke_access_key
from lineside.hub.access.permissions import Right, Role, roles_with
from lineside.hub.access.tls import ServerFiles, issue_for
from lineside.hub.broker import mosquitto_files
from lineside.hub.config import HubConfig, Retention
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
from lineside.hub.run import RunningHub, create_app, run, running, sign_in_link
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
    "Retention",
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
    "run",
    "running",
    "sign_in_link",
    "trace",
    "version_page",
]
