"""Commands that ask a running hub: each route has one, and each does over HTTP what it says."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer.main

from lineside.cli.app import _run, app
from lineside.core import parse_rfc3339
from lineside.hub import Registration, Role, Services, create_app
from lineside.hub.replay.repository import RecordCheck, ReplayCounts, ReplayResult
from tests.hub.conftest import Line
from tests.hub.test_access import routes

ROOT = Path(__file__).parents[2]
Lineside = Callable[..., Any]
NONE = "sha256:" + 64 * "0"
SPAN = ("--from", "2025-12-31T00:00:00Z", "--to", "2026-01-02T00:00:00Z")


def actions() -> Iterator[tuple[str, str]]:
    """Routes of the table of the command reference, each with its command or the reason of none."""
    text = (ROOT / "docs/reference/commands.md").read_text()
    table = text.partition("## Actions of pages")[2].partition("\n## ")[0]
    for named, command in re.findall(r"^\| (`.+`) \| (.+) \|$", table, re.MULTILINE):
        yield from ((route, command) for route in re.findall(r"`([^`]+)`", named))


def command_of(words: str) -> Any:  # noqa: ANN401  a command of typer's own click
    """The command of the parser; None where there is none."""
    found: Any = typer.main.get_command(app)
    for word in words.split()[1:]:
        found = getattr(found, "commands", {}).get(word)
    return found


def test_each_action_of_a_page_has_a_command_or_a_reason(hub: Services) -> None:
    def bare(route: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", route)

    table = {bare(route): command for route, command in actions()}
    others = tuple(route.removesuffix("…") for route in table if route.startswith("/"))
    found = [(method, bare(path)) for method, path in routes(create_app(hub))]
    acting = {
        f"{method} {path}" for method, path in found
        if method not in ("GET", "HEAD", "OPTIONS") and not path.startswith(others)
    }  # fmt: skip
    assert acting == {route for route in table if not route.startswith("/")}
    named = {re.match(r"`(lineside [\w -]+)`|none: \w", one) for one in table.values()}
    commands = {one[1]: command_of(one[1]) for one in named if one is not None and one[1]}
    assert None not in {*named, *commands.values()}
    asking = {
        words for words, command in commands.items()
        if any("--hub" in one.opts for one in command.params)
    }  # fmt: skip
    assert asking == {f"lineside {command}" for command in IDS}


# ---- each of them does what it says


def test_a_replay_is_asked_for_and_cancelled(
    hub: Services, line: Line, lineside: Lineside, tmp_path: Path
) -> None:
    line.see("blue")
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nid = "dark"\nread = { event = "picture" }\nwindow = { size_s = 60 }\n'
    )
    words = ["replay", "start", *SPAN, "--rules", str(rules), "--warm-up", "0"]
    asked = lineside(*words, role=Role.ENGINEER)
    assert (asked["state"], asked["asked_by"]) == ("waiting", "some engineer")
    (listed,) = lineside("replay", "list", role=Role.VIEWER)["replays"]
    assert listed["order"] == asked["order"]
    assert f"{asked['id']}  waiting  0" in lineside("replay", "list", text=True)
    assert hub.replays.one(asked["id"]).rules
    cancelled = lineside("replay", "cancel", asked["id"], role=Role.ENGINEER, text=True)
    assert cancelled == f"{asked['id']}: cancelled"
    assert lineside("replay", "cancel", asked["id"])[0] == 4
    assert lineside("replay", "start", *SPAN, "--rules", str(tmp_path / "none"))[0] == 3


def test_a_job_is_made_looked_at_and_cancelled(
    hub: Services, lineside: Lineside, tmp_path: Path
) -> None:
    for device in ("edge-1", "edge-2"):
        hub.things.add(device, groups=("hall",))
    document = tmp_path / "document.json"
    document.write_text('{"do": "restart"}')
    words = ["--target", "edge-1", "--target", "edge-2", "--document", str(document)]
    made = lineside("job", "create", "drill-1", *words, role=Role.APPROVER)
    assert (made["document"], made["targets"]) == ({"do": "restart"}, ["edge-1", "edge-2"])
    words = ["job", "cancel-execution", "drill-1", "edge-1"]
    assert "edge-1  CANCELED" in lineside(*words, role=Role.APPROVER, text=True)
    words = ["job", "cancel", "drill-1", "--reason", "drill"]
    assert lineside(*words, role=Role.APPROVER, text=True) == "drill-1: CANCELED"
    listed = lineside("job", "list", "--status", "CANCELED", role=Role.VIEWER)["jobs"]
    assert [(one["job_id"], one["reason"]) for one in listed] == [("drill-1", "drill")]
    assert "drill-1  CANCELED  edge-1, edge-2" in lineside("job", "list", text=True)
    assert "edge-2  CANCELED" in lineside("job", "executions", "drill-1", text=True)
    states = lineside("job", "executions", "drill-1")["executions"]
    assert [(one["thing"], one["status"]) for one in states] == [
        ("edge-1", "CANCELED"), ("edge-2", "CANCELED"),
    ]  # fmt: skip


def test_a_package_is_placed_and_taken_into_use_by_its_digest(
    hub: Services, archive: bytes, lineside: Lineside, tmp_path: Path
) -> None:
    digest = hub.packages.add(archive, by="ada").digest
    words = ["model", "place", digest, "--camera", "gate", "--reason", "moved"]
    assert lineside(*words, role=Role.ENGINEER, text=True) == "version 2 is in force"
    assert 'camera = "gate"' in hub.plants.text()
    words = ["model", "use", digest, "--reason", "good"]
    assert lineside(*words, role=Role.APPROVER, text=True) == f"{digest} is in use for stock"
    assert hub.packages.in_use("stock") == digest
    hub.models.register("discs", Registration(package=digest), by="ada")
    windows = tmp_path / "windows.json"
    windows.write_text('[{"days": ["sat"], "begins": "22:00", "ends": "04:00"}]')
    words = ["model", "settings", "discs", "--deploy", "--device-group", "hall"]
    words += ["--windows", str(windows)]
    assert lineside(*words, role=Role.APPROVER, text=True) == "discs: settings kept"
    made = hub.models.group("discs").settings
    assert (made.deploy_on_approval, made.windows[0].days) == (True, ("sat",))


def test_a_test_picture_is_written(
    jpeg: Callable[..., bytes], lineside: Lineside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "now.jpg").write_bytes(jpeg("blue"))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    out = tmp_path / "out.jpg"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        source = f"http://127.0.0.1:{server.server_port}/now.jpg"
        monkeypatch.setattr("sys.stdin", StringIO(source + "\n"))
        lineside("camera", "test", "-", "--out", str(out), role=Role.ENGINEER)
        server.shutdown()
    assert out.read_bytes() == jpeg("blue")


def test_a_list_of_replays_says_of_each_kind_how_much_differs(
    hub: Services, line: Line, lineside: Lineside
) -> None:
    assert "No replay." in lineside("replay", "list", text=True)
    since, until = parse_rfc3339(SPAN[1], where=""), parse_rfc3339(SPAN[3], where="")
    counts = ReplayCounts(
        decisions_changed=1, verdicts_changed=2, events_changed=13, twin_changed=4
    )
    found = ReplayResult(
        since=since, until=until, package="", package_name="", inspections=(), rules=NONE,
        rules_begin=since, frames=0, counts=counts, bit_identical=False,
        decisions_changed=(), events_changed=(), twin_changed=(), record=RecordCheck(),
    )  # fmt: skip
    hub.replays.book.keep(found, rules=b"", by="ada")
    lineside("replay", "start", *SPAN, "--package", "recorded")
    line.see("blue")
    rows = lineside("replay", "list", text=True).splitlines()[1:]
    # Both are of one moment of the clock, so that either may stand first.
    said = (
        "0 frames: 1 decided otherwise; 13 events and 4 places of the twin differ."
        " 2 parts get another verdict."
    )
    assert {row.partition(SPAN[3])[2].strip() for row in rows} == {said, ""}


# ---- bad words get a sentence


@pytest.mark.parametrize(
    ("words", "content", "code", "sentence"),
    [
        (("replay", "start", *SPAN, "--rules", "FILE"), b"\xff", 2, "not TOML: it is not UTF-8"),
        (("replay", "start", *SPAN, "--warm-up", "nan"), b"", 2, "'nan' is no number of seconds"),
        (("replay", *SPAN, "--warm-up", "inf", "URL"), b"", 2, "'inf' is no number of seconds"),
        (("replay", "--keep", "list"), b"", 2, "an option before list"),
        (("training", "start", "a", "--setting", "epochs=nan"), b"", 2, "is no setting"),
        (("job", "create", "a", "--target", "b", "--document", "FILE"), b"null", 2, "null says"),
        (("rollout", "status", "a b"), b"", 3, "GET /api/v1/rollouts/a%20b"),
        (("rollout", "status", "x/../../alerts?y"), b"", 3, "GET /api/v1/rollouts/x%2F"),
        (("model", "use", "sha256:a/b", "--reason", "c"), b"", 3, "sha256%3Aa%2Fb"),
        (("job", "list", "--hub", "URL", "--token", "FILE"), b'{"a":\n"lst_S"}', 2, "not one word"),
        (("job", "list", "--hub", "URL", "--token", "FILE"), b"lst_S\xff", 2, "not one word"),
        (("job", "list", "--hub", "URL", "--token", "none"), b"", 3, "cannot be read"),
    ],
)
def test_bad_words_are_a_sentence_with_its_fix(
    words: tuple[str, ...], content: bytes, code: int, sentence: str, *, served: str,
    hub: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file, token = tmp_path / "file", tmp_path / "token"
    file.write_bytes(content)
    token.write_text(hub.auth.issue_token("ada", kind="api", role=Role.ADMIN))
    at = [served if word == "URL" else str(file) if word == "FILE" else word for word in words]
    ended = _run([*at, *(("--hub", served, "--token", str(token)) if "URL" not in words else ())])
    said = capsys.readouterr().err
    assert (ended, sentence in said, "fix: " in said) == (code, True, True), said
    assert "lst_S" not in said


# ---- and none does it for whoever may not, of nothing, or at a hub that is away

IDS = {
    "review answer": ("rev_none", "ok"), "review undo": ("rev_none",),
    "training start": ("none",), "training cancel": ("run_none",), "training resume": ("run_none",),
    "replay start": SPAN, "replay cancel": ("rpl_none",), "order place": ("red",),
    "dataset annotate": ("none", NONE, "--annotation", "FILE", "--revision", "1"),
    "dataset comment": ("none", NONE, "words"), "dataset label": ("a b", "--label", "a"),
    "dataset rename-label": ("none", "a", "b"),
    "job create": ("job-1", "--target", "nobody", "--document", "FILE"),
    "job cancel": ("none",), "job cancel-execution": ("none", "edge-1"),
    "model use": (NONE, "--inspection", "stock", "--reason", "good"),
    "model place": (NONE, "--camera", "rack", "--reason", "new"),
    "model settings": ("none",), "alert acknowledge": ("alr_none",),
    "count image": ("none", "1.jpg"), "count upload": ("none", "--image", "FILE"),
    "count correct": ("cnt_none", "3", "--dataset", "bins"),
    "local-device start": (), "local-device stop": (),
    "camera test": ("http://127.0.0.1:1/a.jpg", "--out", "OUT"),
    "follower retry": ("none",), "follower discard": ("none", "--yes"),
    "rollout start": ("none/1",), "rollout pause": ("rol_none",), "rollout resume": ("rol_none",),
    "rollout abort": ("rol_none",), "rollout rollback": ("rol_none",),
}  # fmt: skip
CODES = {
    "order place": 4, "replay start": 2, "dataset label": 2, "camera test": 6,
    "local-device start": 6, "local-device stop": 0,
}  # fmt: skip


@pytest.mark.parametrize("command", IDS)
def test_what_cannot_be_is_an_exit_code_and_a_sentence(
    command: str, lineside: Lineside, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("{}")
    places = {"FILE": str(tmp_path / "file"), "OUT": str(tmp_path / "out")}
    words = [*command.split(), *(places.get(word, word) for word in IDS[command])]
    code, sentence = lineside(*words, role=Role.VIEWER)
    assert (code, "some viewer is viewer, and this needs the right to" in sentence) == (5, True)
    code, sentence = lineside(*words, at="http://127.0.0.1:1")
    assert (code, "the hub does not answer" in sentence) == (6, True)
    if CODES.get(command) != 0:
        code, sentence = lineside(*words)
        assert (code, "fix: " in sentence) == (CODES.get(command, 3), True)
