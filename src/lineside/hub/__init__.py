"""The hub: store, twin, API and pages of one site, fed by messages.

Main names: ``HubConfig``, ``run`` and ``running`` (the program), ``create_app`` over
``build_services``, ``Accounts``, ``issue_access_key`` and ``sign_in_link`` for administrators,
``trace``.
Not here: rules. A handler decodes, calls one room, encodes; what an order may do is the twin's.
"""

from lineside.hub.accounts import Accounts, NewToken, open_accounts
from lineside.hub.app import create_app
from lineside.hub.auth import AccessKey, TokenFacts, issue_access_key, revoke_access_key
from lineside.hub.config import HubConfig, Retention
from lineside.hub.roles import Role
from lineside.hub.run import RunningHub, run, running, sign_in_link
from lineside.hub.services import Services, build_services
from lineside.hub.trace import trace
from lineside.hub.users import User

__all__ = [
    "AccessKey",
    "Accounts",
    "HubConfig",
    "NewToken",
    "Retention",
    "Role",
    "RunningHub",
    "Services",
    "TokenFacts",
    "User",
    "build_services",
    "create_app",
    "issue_access_key",
    "open_accounts",
    "revoke_access_key",
    "run",
    "running",
    "sign_in_link",
    "trace",
]
