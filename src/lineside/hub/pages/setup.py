"""Pages of the set-up: entries of the plant file as forms, its text, its history, users, tokens."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.hub.access.permissions import Role
from lineside.hub.pages.site import Context, NoPageError, PageContext
from lineside.hub.setup.forms import (
    entry_forms,
    new_form,
    rule_kinds,
    section_of,
    sections,
    setting_fields,
    site_fields,
)
from lineside.hub.setup.toml_edit import entry_text
from lineside.hub.setup.versions import PlantFileState

router = APIRouter(prefix="/setup")

_EDIT = "/api/v1/plant"
_TEXTS = ("rule",)  # entries that are edited as text as well, with a trial on what was recorded
_HISTORY = 50


@router.get("")
def setup_page(context: Context) -> HTMLResponse:
    """The parts of the set-up, and the version in force."""
    hub = context.hub
    text = hub.plants.text()
    counts = [(one, len(entry_forms(text, one))) for one in sections()]
    site = site_fields(text)
    return _page(context, "setup.html", title="Set-up", counts=counts, site=site)


@router.get("/text")
def text_page(context: Context) -> HTMLResponse:
    """The whole file as text."""
    text = context.hub.plants.text()
    return _page(context, "setup_text.html", title="Plant file", text=text)


@router.get("/history")
def history_page(context: Context, *, before: int = 0) -> HTMLResponse:
    """Who changed the plant file, when, and why."""
    found = context.hub.plants.page(before=before, limit=_HISTORY)
    older = found[-1].number if found and found[-1].number > 1 else 0
    return _page(context, "setup_history.html", title="History", versions=found, older=older)


@router.get("/history/{number}")
def version_page(context: Context, number: int) -> HTMLResponse:
    """One version with the lines that it changed."""
    plants = context.hub.plants
    return _page(
        context, "setup_version.html", title=f"Version {number}", shown=plants.one(number),
        diff=plants.diff(number),
    )  # fmt: skip


@router.get("/users")
def users_page(context: Context) -> HTMLResponse:
    """People who sign in, and tokens of programs."""
    accounts = context.hub.accounts
    tokens = [
        {
            "name": one.name, "kind": one.kind, "id": one.id, "role": str(one.role or ""),
            "at": one.issued_at, "until": one.ends_at,
        }
        for one in accounts.tokens()
    ]  # fmt: skip
    return context.page(
        "setup_users.html", title="Users", active="setup", users=accounts.users(), tokens=tokens,
        roles=[str(one) for one in Role],
    )  # fmt: skip


@router.get("/password")
def password_page(context: Context) -> HTMLResponse:
    """A new password for whoever is signed in."""
    return context.page(
        "setup_password.html", title="Your password", active="setup",
        user=context.hub.accounts.user_of(context.who),
    )  # fmt: skip


@router.get("/settings")
def settings_page(context: Context) -> HTMLResponse:
    """Settings of this hub, which its own file has; they are read at a start."""
    groups = setting_fields(context.hub.config) if context.may(_EDIT) else {}
    return context.page("setup_settings.html", title="Settings", active="setup", groups=groups)


@router.get("/{section}")
def section_page(context: Context, section: str, *, kind: str = "") -> HTMLResponse:
    """The entries of one section, each with its form, and a form for another one.

    ``kind``: of a new rule, whose fields its form has.
    """
    shown = section_of(section)
    if shown is None:
        raise NoPageError("Page not found.", where=f"/setup/{section}", fix="Go to Set-up.")
    may = context.may(_EDIT)
    text = context.hub.plants.text()
    forms = entry_forms(text, shown)
    newest = {one.id: one.newest.id for one in context.hub.cameras.all() if one.newest}
    plant = context.hub.plant
    unused = {one.id for one in plant.camera if not one.source.startswith("mqtt:")}
    unused -= {one.camera for one in plant.inspection}
    as_text = shown.name in _TEXTS
    return _page(
        context, "setup_section.html", title=shown.title, section=shown, forms=forms,
        new=None if forms and not shown.key else new_form(text, shown, kind=kind),
        kinds=rule_kinds() if as_text else (), kind=kind, as_text=as_text,
        texts={one.id: entry_text(text, shown.name, one.id) for one in forms if may and as_text},
        newest=newest if shown.name == "camera" else {},
        unused=unused if shown.name == "camera" else (),
    )  # fmt: skip


def _page(context: PageContext, template: str, **more: object) -> HTMLResponse:
    """A page with the version in force, and what a person has to decide about the file.

    Its lines have passwords of cameras in them: they are for those who may edit.
    """
    plants = context.hub.plants
    file = plants.file()
    if not context.may(_EDIT):
        file = PlantFileState(by_hand=file["by_hand"], diff=[], faults=[])
    return context.page(
        template, active="setup", version=plants.newest(), later=plants.later, file=file,
        sections=sections(), **more,
    )  # fmt: skip
