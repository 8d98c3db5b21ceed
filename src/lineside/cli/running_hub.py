"""Commands that are one request to a running hub, and the words that all of them share.

1. ``get``, ``listing`` and ``post`` make such a command of a route below ``/api/v1``, its line of
   help and its words, each with its type and typer's declaration.
2. A word that the route names in braces is part of its path. The others, where they were given, are
   the query of a ``listing`` and the body of a ``post``. Bytes are a whole body, beside a query.
3. Whoever owns the token does it: rights, events and refusals are those of the route, as for the
   pages.
"""

import re
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import (
    Command,
    JsonFlag,
    WarmUpOption,
    add_commands,
    read_file,
    read_settings,
    show,
    table,
)
from lineside.core import (
    InvalidError,
    UnavailableError,
    decode_fast,
    decode_json,
    decode_toml,
    encode,
    short,
)

if TYPE_CHECKING:
    from lineside.hub.counting.counter import CountView
    from lineside.library.client import HubClient

ADDRESS_FILE = "hub.json"
HubOption = Annotated[str, typer.Option("--hub", help="Address; left out: the hub of --config.")]
TokenOption = Annotated[
    Path | None, typer.Option("--token", help="File with a token; left out: the hub's own.")
]
Word = tuple[Any, Any]


def hub_client(hub: str, *, token: Path | None, config: Path | None) -> "HubClient":
    """Return a client of the hub at an address, or of the one that runs by these settings.

    Raises:
        NotFoundError: the file of the token cannot be read.
        UnavailableError: no hub runs on this data folder.
    """
    from lineside.library.client import HubClient

    if hub and token is not None:
        return HubClient(hub, token=_read_token(token))
    found = settings(config)
    address = found.folder / ADDRESS_FILE
    if not hub and not address.is_file():
        raise UnavailableError(
            "no hub runs on this data folder", where=str(found.folder),
            fix="Start it, or name another with --hub and --token.",
        )  # fmt: skip
    url = hub or str(decode_json(address.read_bytes(), where=str(address))["url"])
    file = token or found.folder / "tokens" / "admin.token"
    # Behind a certificate of its own (tls_cert), the usual authorities vouch for this hub.
    ca = found.folder / "authority" / "authority.crt"
    own = url.startswith("https:") and (hub or found.tls) and ca.is_file()
    return HubClient(url, token=_read_token(file), ca=ca if own else None)


def _read_token(path: Path) -> str:
    return read_file(path).decode(errors="replace").strip()


# ---- a command of a route


def get(path: str, line: str, /, *, text: Callable[[Any], str], **words: Word) -> Command:
    """Make a command that shows one thing of a running hub.

    Args:
        path: below ``/api/v1``, with the names of words in braces.
        line: of its help.
        text: of the answer.
        words: the command's own, by name: type and typer's declaration.
    """
    return _command(path, line, send=lambda client, at, _: client.get(at), text=text, words=words)


def listing(
    path: str, line: str, /, *, key: str, head: tuple[str, ...],
    row: Callable[[Any], tuple[object, ...]], none: str,
    query: Callable[[dict[str, Any]], dict[str, Any]] = dict, **words: Word,
) -> Command:  # fmt: skip
    """Make a command that shows a list of a running hub.

    Args:
        path: below ``/api/v1``, with the names of words in braces.
        line: of its help.
        key: of the items in the JSON document.
        head: columns of the text.
        row: cells of an item.
        none: the text where the list is empty.
        query: makes the query of the words that were given.
        words: the command's own, by name: type and typer's declaration.
    """

    def text(found: dict[str, Any]) -> str:
        rows = [tuple(map(str, row(one))) for one in found[key]]
        return table([head, *rows]) if rows else none

    return _command(
        path, line, send=lambda client, at, given: {key: client.items(at, **query(given))},
        text=text, words=words,
    )  # fmt: skip


def post(
    path: str, line: str, /, *, text: Callable[[Any], str],
    body: Callable[[dict[str, Any]], dict[str, Any]] = dict, **words: Word,
) -> Command:  # fmt: skip
    """Make a command that does something at a running hub and prints the answer.

    Args:
        path: below ``/api/v1``, with the names of words in braces.
        line: of its help.
        text: of the answer.
        body: makes the body of the words that were given; bytes named ``data`` are one already.
        words: the command's own, by name: type and typer's declaration.
    """

    def send(client: "HubClient", at: str, given: dict[str, Any]) -> object:
        data = given.pop("data", None)
        if data is None:
            return client.post(at, body(given))
        return client.upload(f"{at}?{urlencode(given)}", data)

    return _command(path, line, send=send, text=text, words=words)


def _command(
    path: str, line: str, *, send: Callable[["HubClient", str, dict[str, Any]], object],
    text: Callable[[Any], str], words: Mapping[str, Word],
) -> Command:  # fmt: skip
    def command(
        *, hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
        as_json: JsonFlag = False, **given: Any,  # noqa: ANN401  as its words say
    ) -> None:  # fmt: skip
        client = hub_client(hub, token=token, config=config)
        names = re.findall(r"{(\w+)}", path)
        at = path.format_map({name: quote(str(given.pop(name)), safe="") for name in names})
        sent = {name: value for name, value in given.items() if value not in (None, "", [])}
        show(send(client, at, sent), as_json=as_json, text=text)

    own = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=declared, annotation=kind)
        for name, (kind, declared) in words.items()
    ]
    *shared, _ = Signature.from_callable(command).parameters.values()
    vars(command)["__signature__"] = Signature([*own, *shared])
    command.__doc__ = line
    return command


def argument(metavar: str, line: str, kind: object = str) -> Word:
    """A word that has to be given, by its place."""
    return kind, typer.Argument(metavar=metavar, help=line)


def option(
    name: str, line: str, *, kind: object = str, default: object = None,
    parser: Callable[[str], object] | None = None,
) -> Word:  # fmt: skip
    """An option; with ``...`` as default it has to be given. ``parser`` reads the file it names."""
    metavar = "FILE" if parser else None
    return kind, typer.Option(default, name, help=line, parser=parser, metavar=metavar)


def _read_bytes(path: str) -> bytes:
    return read_file(Path(path))


def _read_json(path: str) -> object:
    found = decode_json(_read_bytes(path), where=path)
    if found is None:
        raise InvalidError("null says nothing", where=path, fix="Write an object or a list.")
    return found


def _read_toml(path: str) -> str:
    text = _read_bytes(path)
    decode_toml(text, where=path)
    return text.decode()


# ---- the commands


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for noun, (line, commands) in _NOUNS.items():
        add_commands(app, noun, line, commands)


_LISTED = "Its id, as list has it."
_DATASET = argument("NAME", "The dataset's name.")
_IMAGE = argument("IMAGE", "Its digest, as images has it.")
_IN_REVIEW = argument("IMAGE", _LISTED)
_RUN = argument("RUN", _LISTED)
_JOB = argument("JOB", _LISTED)
_FORCE = option("--force", "Also what is under way.", kind=bool, default=False)
REASON = option("--reason", "Why; stands in the event.", default="")
_STATE = "{id}: {state}".format_map
_STATUS = "{id}: {status}".format_map
_JOB_STATUS = "{job_id}: {status}".format_map
_EXECUTIONS = ("thing", "status", "since")


def _execution(one: Any) -> tuple[str, str, str]:  # noqa: ANN401  JSON
    return one["thing"], one["status"], one["last_updated_at"]


def _labels(found: Any) -> str:  # noqa: ANN401  JSON
    return ", ".join(found["labels"])


def _count(found: Any) -> str:  # noqa: ANN401  JSON
    from lineside.hub.counting.counter import interval

    return f"{found['id']}: {_headline(found)}. {_on_a_page(found, interval)}"


def _headline(found: Any) -> str:  # noqa: ANN401  JSON
    from lineside.hub.counting.counter import headline

    return _on_a_page(found, headline)


def _on_a_page(found: Any, words: "Callable[[CountView], str]") -> str:  # noqa: ANN401  JSON
    from lineside.hub.counting.counter import CountView

    view = decode_fast(CountView, encode(found), where="count")
    return words(view).replace("\u00a0", " ")


def _found(one: Any) -> str:  # noqa: ANN401  JSON
    from lineside.hub.replay.repository import ReplayView, replay_words

    return replay_words(decode_fast(ReplayView, encode(one), where="replay")) or one["reason"]


def _local_device(found: Any) -> str:  # noqa: ANN401  JSON
    head = "{device}: {state} {reason}".format_map(found).strip()
    return f"{head}\nlines: {', '.join(found['lines']) or 'none'}"


_NOUNS: dict[str, tuple[str, dict[str, Command]]] = {
    "alert": ("Alerts of the site and their history.", {
        "list": listing(
            "/alerts",
            "List open alerts with cause, object and reason; those nobody acknowledged first.",
            key="alerts", none="No alerts.",
            head=("alert", "cause", "object", "since", "acknowledged", "reason"),
            row=lambda one: (
                one["id"], one["cause"], one["object"], one["since"],
                one["acknowledged_by"] or "no", one["reason"],
            ),
            query=lambda given: {"state": "closed" if given["closed"] else "open"},
            closed=option("--closed", "Those that are over.", kind=bool, default=False),
        ),
        "acknowledge": post(
            "/alerts/{alert}/acknowledge", "Say that somebody looks after an alert.",
            text="{id}: acknowledged by {acknowledged_by}".format_map,
            alert=argument("ALERT", _LISTED),
            note=option("--note", "What was seen or done.", default=""),
        ),
    }),
    "review": ("Images that wait for a person.", {
        "list": listing(
            "/review", "List images in review with their choices, in the order of the page.",
            key="images", none="No image waits.",
            head=("image", "inspection", "status", "choices"),
            row=lambda one: (
                one["id"], one["inspection"], "audit" if one["audit"] else one["status"],
                ", ".join(choice["value"] for choice in one["choices"]),
            ),
            line=option("--line", "Of the inspections of this line.", default=""),
            inspection=option("--inspection", "Of this inspection alone.", default=""),
        ),
        "answer": post(
            "/review/{image}/answer", "Answer an image.", text=_STATUS, image=_IN_REVIEW,
            answer=argument("ANSWER", "One of its choices."),
            settles=option(
                "--settles", "Of two answers that differ, this one holds.", kind=bool, default=False
            ),
            dataset=option("--dataset", "Also add it to this dataset, with its label.", default=""),
        ),
        "undo": post(
            "/review/{image}/undo", "Take your newest answer to an image back.", text=_STATUS,
            image=_IN_REVIEW,
        ),
    }),
    "training": ("Training runs at the hub.", {
        "list": listing(
            "/runs", "List runs with state and progress, newest first.",
            key="runs", none="No training yet.",
            head=("run", "state", "percent", "dataset", "by", "package", "reason"),
            row=lambda one: (
                one["id"], one["state"], f"{one['percent']:.0f}",
                f"{one['dataset']}/{one['version']}", one["started_by"], short(one["package"]),
                one["reason"],
            ),
        ),
        "start": post(
            "/runs", "Train on a dataset in a process of the hub.", text=_STATE,
            body=lambda given: given | {"settings": read_settings(given.get("settings", ()))},
            dataset=argument("DATASET", "Its name."),
            task=option("--task", "What to learn.", default=""),
            version=option("--version", "Of the dataset; else the newest.", kind=int),
            inspection=option("--inspection", "Which it is for.", default=""),
            seed=option("--seed", "Everything random follows from it.", kind=int),
            register_as=option(
                "--register-as", "Group of models whose next version it becomes.", default=""
            ),
            backbone=option(
                "--backbone", "A name of the hub's setting backbones; else the usual one.",
                default="",
            ),
            settings=option(
                "--setting", "NAME=NUMBER of the learner, such as epochs=20.", kind=list[str]
            ),
            freeze=option(
                "--freeze", "First freeze the draft to a version.", kind=bool, default=False
            ),
        ),
        "cancel": post(
            "/runs/{run}/cancel", "Stop a run; it can be resumed.", text=_STATE, run=_RUN
        ),
        "resume": post(
            "/runs/{run}/resume", "Go on with a run that was cancelled or failed.", text=_STATE,
            run=_RUN,
        ),
    }),
    "order": ("Orders of the line.", {
        "list": listing(
            "/orders", "List orders with their status, newest first.",
            key="orders", none="No order yet.", head=("order", "colour", "status", "by", "placed"),
            row=lambda one: (
                one["id"], one["colour"], one["status"], one["placed_by"], one["placed_at"]
            ),
        ),
        "place": post(
            "/orders", "Order a piece.", text=_STATUS, colour=argument("COLOUR", "Of the piece.")
        ),
    }),
    "job": ("Jobs of devices.", {
        "list": listing(
            "/jobs", "List jobs with their status, newest first.",
            key="jobs", none="No job.", head=("job", "status", "targets", "created", "reason"),
            row=lambda one: (
                one["job_id"], one["status"], ", ".join(one["targets"]), one["created_at"],
                one["reason"],
            ),
            status=option(
                "--status", "SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED or DELETION_IN_PROGRESS.",
                default="",
            ),
        ),
        "executions": listing(
            "/jobs/{job}/executions", "Show the last try of each device.",
            key="executions", none="No device has it yet.", head=_EXECUTIONS, row=_execution,
            job=_JOB,
        ),
        "create": post(
            "/jobs", "Make a job; the same id with the same content is the same job.",
            text=_JOB_STATUS, job_id=argument("JOB", "Its id, of your choice."),
            targets=option(
                "--target", "A device or a group; again for more.", kind=list[str], default=...
            ),
            document=option(
                "--document", "What devices do, as JSON.", parser=_read_json, default=...
            ),
            description=option("--description", "For people.", default=""),
            continuous=option(
                "--continuous", "Also for devices that join a group later.", kind=bool,
                default=False,
            ),
            settings=option(
                "--settings", "Rollout, abort and timeout as JSON: docs/reference/jobs.md.",
                parser=_read_json,
            ),
        ),
        "cancel": post(
            "/jobs/{job}/cancel", "Cancel a job on every device that has not begun.",
            text=_JOB_STATUS, job=_JOB, reason=REASON, force=_FORCE,
        ),
        "cancel-execution": post(
            "/jobs/{job}/executions/{device}/cancel", "Cancel a job on one device.",
            text=lambda found: table([_EXECUTIONS, *map(_execution, found["items"])]), job=_JOB,
            device=argument("DEVICE", "Its name."), reason=REASON, force=_FORCE,
        ),
    }),
    "count": ("Images that were counted for you.", {
        "list": listing(
            "/counts", "List your own counts, newest first.",
            key="counts", none="Nothing was counted yet.",
            head=("count", "function", "image", "number", "at", "state", "reason"),
            row=lambda one: (
                one["id"], one["function"], one["picture"] or "uploaded", _headline(one),
                one["at"], one["state"], one["reason"],
            ),
        ),
        "image": post(
            "/counts", "Have an image of a function's store counted.", text=_count,
            function=argument("FUNCTION", "Whose endpoint counts."),
            picture=argument("IMAGE", "Its name in the store."),
        ),
        "upload": post(
            "/counts/uploaded", "Have an image of your own counted.", text=_count,
            function=argument("FUNCTION", "Whose endpoint counts."),
            data=option("--image", "JPEG or PNG.", parser=_read_bytes, default=...),
        ),
        "correct": post(
            "/counts/{id}/correction", "Say what a person counted; the image goes into a dataset.",
            text="{id}: {correction[count]}".format_map, id=argument("COUNT", _LISTED),
            count=argument("NUMBER", "What is in the image.", int),
            dataset=option("--dataset", "Which one it goes into.", default=...),
        ),
    }),
    "local-device": ("The device on the hub's own machine.", {
        "show": get("/local-device", "Show its state and its lines.", text=_local_device),
        "start": post(
            "/local-device/start", "Inspect on the hub's machine, now and after each start.",
            text=_local_device,
        ),
        "stop": post(
            "/local-device/stop", "Inspect no more on the hub's machine.", text=_local_device
        ),
    }),
}  # fmt: skip
REPLAY: dict[str, Command] = {
    "list": listing(
        "/replays", "List replays of the hub with span, state and result, newest first.",
        key="replays", none="No replay.",
        head=("replay", "state", "percent", "from", "to", "found"),
        row=lambda one: (
            one["id"], one["state"], f"{one['percent']:.0f}", one["order"]["since"],
            one["order"]["until"], _found(one),
        ),
        package=option("--package", "Those of this digest.", default=""),
    ),
    "start": post(
        "/replays", "Replay a recorded span in a process of the hub.", text=_STATE,
        since=option("--from", "Arrived at the hub from this time on.", default=...),
        until=option("--to", "Arrived before this time.", default=...),
        package=option(
            "--package", "Digest, its first digits, GROUP/NUMBER, or recorded.", default=""
        ),
        inspection=option("--inspection", "Whose frames; else the package's own.", default=""),
        rules=option(
            "--rules", "[[rule]] tables to judge by.",
            parser=_read_toml,
        ),
        warm_up_s=(WarmUpOption, None),
    ),
    "cancel": post(
        "/replays/{replay}/cancel", "Cancel a replay of the hub.", text=_STATE,
        replay=argument("REPLAY", _LISTED),
    ),
}  # fmt: skip
DATASET: dict[str, Command] = {
    "images": listing(
        "/datasets/{dataset}/samples", "List the images of a draft at a running hub.",
        key="images", none="No image.", head=("image", "name", "state", "labels"),
        row=lambda one: (one["digest"], one["name"], one["state"], ", ".join(one["labels"])),
        dataset=_DATASET,
        state=option("--state", "todo, labelled, checked or discuss.", default=""),
    ),
    "image": get(
        "/datasets/{dataset}/samples/{image}",
        "Show an image of a draft; its annotation comes with --json.",
        text="{name}: {state}, revision {revision}".format_map, dataset=_DATASET, image=_IMAGE,
    ),
    "annotate": post(
        "/datasets/{dataset}/samples/{image}", "Save an annotation of an image in the draft.",
        text="{name}: {state}, revision {revision}".format_map, dataset=_DATASET, image=_IMAGE,
        annotation=option(
            "--annotation", "All that is said of it, as JSON: docs/reference/http.md.",
            parser=_read_json, default=...,
        ),
        revision=option(
            "--revision", "On which it was made, as image has it.", kind=int, default=...
        ),
        state=option("--state", "todo, labelled, checked or discuss.", default=""),
    ),
    "comment": post(
        "/datasets/{dataset}/samples/{image}/comments", "Comment on an image in the draft.",
        text="{name}: revision {revision}".format_map,
        body=lambda given: {"text": given.get("comment", "")}, dataset=_DATASET, image=_IMAGE,
        comment=argument("TEXT", "What is said."),
    ),
    "label": post(
        "/datasets/{dataset}/labels", "Declare labels, task and good labels of a dataset.",
        text=_labels, dataset=_DATASET,
        labels=option("--label", "A further label; again for more.", kind=list[str]),
        task=option("--task", "What the dataset is for.", default=""),
        good=option("--good", "A label of a good part; again for more.", kind=list[str]),
    ),
    "rename-label": post(
        "/datasets/{dataset}/labels/rename", "Rename or merge a label on all images of the draft.",
        text=_labels, dataset=_DATASET, label=argument("LABEL", "As it is."),
        name=argument("NEW", "As it is from now on; of two labels it makes one."),
    ),
}  # fmt: skip
MODEL: dict[str, Command] = {
    "place": post(
        "/packages/{package}/inspection", "Add a package's inspection to the plant file.",
        text="version {number} is in force".format_map,
        package=argument("DIGEST", "Of the package."),
        camera=option("--camera", "That its images come from.", default=...),
        source=option("--source", "Of a camera that the plant file lacks.", default=""),
        line=option("--line", "Of such a camera; made where it is missing.", default=""),
        good=option("--good", "A label of a good part; again for more.", kind=list[str]),
        reason=option("--reason", "Why; stands in the history.", default=...),
        base=option("--base", "Version that was seen; refused where a newer one is.", kind=int),
    ),
    "settings": post(
        "/models/{group}/settings", "Say what follows an approval, all of it.",
        text="{name}: settings kept".format_map, group=argument("GROUP", "Such as tiles."),
        deploy_on_approval=option(
            "--deploy", "A rollout begins by itself.", kind=bool, default=False
        ),
        device_group=option("--device-group", "Devices that it goes to.", default=""),
        windows=option(
            "--windows", "Times in which it may begin, as JSON: docs/reference/http.md.",
            parser=_read_json,
        ),
    ),
}  # fmt: skip
