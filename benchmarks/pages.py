"""How soon pages show a change with 200 browsers on one hub, and what a page costs to open.

    python benchmarks/pages.py [--browsers 200] [--per-s 20] [--seconds 60] [--only updates|pages]

Updates: the hub is the real program in a process of its own (SQLite, blobs in a folder, its
broker), the line another (``page_browsers.py``): ``--per-s`` pictures a second with their answers,
of eight cameras, or for the twin's page all of the rack, so that each moves the twin. The browsers
sit in this process, each with session, socket and the requests of its page. They all have the Lines
page open, then all the twin's; before that one browser alone, which is the baseline. Times are from
when the hub has committed the change (``from_hub``) and from when the line sent the answer
(``from_line``) until its message is in the browser; ``without_start`` counts messages of which no
start is known. The interval of a p99 is 95 % by a bootstrap over seconds.
Goal: p99 of ``from_hub`` within 50 ms for 200 browsers, on a machine that does nothing else.

Pages: Chromium opens every page that the browser tests open, on the line that they use. Weight is
what a first visit transfers (cache empty); images of cameras (each image that is not of
``/static/``) are told apart, since they are as large as the cameras make them. First contentful
paint is the middle of ``--times`` later visits (Paint Timing). Goals: 250 kB a page, 450 kB the
twin's; 300 ms.

Results: ``results/pages_live.json``. The exit status is 1 when a goal is missed.
"""

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import measure
import numpy as np
from fleet import Child, Watched
from page_browsers import Browser, open_line, sign_in, watching

from lineside.core import SystemClock
from lineside.hub import HubConfig, running
from lineside.hub.eventlog.ledger import Commit
from lineside.streams import PREDICTION_TYPE, read_prediction

sys.path.insert(0, str(Path(__file__).parents[1]))
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import CDPSession, sync_playwright

from lineside.core import load_plant
from tests.browser.conftest import (
    ARGUMENTS,
    CHROMIUM,
    PLANT,
    line_running,
    package_for,
    sign_in_by_link,
    taught,
)
from tests.browser.test_pages import addresses

UPDATE_GOAL_MS, PAINT_GOAL_MS = 50.0, 300.0
PAGE_GOAL_KB, TWIN_GOAL_KB = 250.0, 450.0
RACK = {"rack": "i/cam"}
CAMERAS = RACK | {f"belt-{n}": f"i/belt-{n}" for n in range(1, 8)}
SETTLE_S = 8.0
FRAME_TYPE = "lineside.plant.frame.v1"


def plant_text() -> str:
    """The simulated warehouse, and seven cameras beside its own."""
    more = "".join(
        f'[[camera]]\nid = "{name}"\nline = "warehouse"\nsource = "mqtt:{topic}"\n'
        f'[[inspection]]\nid = "look-{name}"\ncamera = "{name}"\nlabels = ["scratch"]\n'
        f'[[route]]\ntopic = "{topic}"\nkind = "frame"\ncamera = "{name}"\n'
        for name, topic in CAMERAS.items()
        if name != "rack"
    )
    return f"{PLANT.read_text()}\n{more}"


# ---- the hub's process


class Changes:
    """When the hub had each change; the commit says it, before anybody hears of the change.

    A frame that is shown with its answer was there when both were committed.
    """

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._frames: dict[str, float] = {}
        self._answers: dict[str, float] = {}
        self.at: dict[str, float] = {}

    def note(self, commit: Commit) -> None:
        """Note the moments of one commit."""
        at = monotonic() - (self._clock.now() - commit.at).total_seconds()
        self.at.setdefault(f"twin {commit.state.revision}", at)
        for event in commit.events:
            if event.type == PREDICTION_TYPE:
                self._pair(self._answers, str(read_prediction(event).frame.id), at=at)
            elif event.type == FRAME_TYPE:
                self._pair(self._frames, str(event.data["frame"]), at=at)

    def _pair(self, moments: dict[str, float], frame: str, *, at: float) -> None:
        moments.setdefault(frame, at)
        if frame in self._frames and frame in self._answers:
            self.at.setdefault(frame, max(self._frames[frame], self._answers[frame]))


def serve(folder: Path) -> None:
    """A hub that is told by lines of JSON what to say of itself."""
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=SystemClock()) as hub:
        changes = Changes()
        hub.services.ledger.listen(changes.note)
        print(json.dumps({"hub": hub.url, "bus": hub.bus_url}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "changes":
                told: Any = changes.at
            else:
                issue = hub.services.auth.issue_link
                links = [f"/sign-in?token={issue(name=f'p{n}')}" for n in range(asked["count"])]
                told = {"links": links}
            print(json.dumps(told), flush=True)


def feed(url: str, *, per_s: float, cameras: dict[str, str]) -> None:
    """The line, until its input ends; then when it sent what."""
    pictures = [shot.picture for shot in taught(24, seed=5)]
    bus, line = open_line(url, pictures=pictures, cameras=cameras)
    line.say_online()
    stop = threading.Event()
    sending = threading.Thread(target=line.run, kwargs={"per_s": per_s, "stop": stop})
    sending.start()
    print("{}", flush=True)
    sys.stdin.read()
    stop.set()
    sending.join()
    bus.close()
    print(json.dumps({"sent": line.sent, "behind_s": line.behind_s}), flush=True)


# ---- updates


class Site:
    """A hub, its line, and browsers."""

    def __init__(self, hub: Child, *, per_s: float) -> None:
        self._hub = hub
        self._told = hub.answer()
        self._per_s = per_s

    def measured(self, count: int, *, twin: bool, seconds: float) -> dict[str, Any]:
        """What ``count`` browsers heard, all on one page."""
        url = self._told["hub"]
        asked = ("--feed", self._told["bus"], "--per-s", str(self._per_s))
        line = Child(__file__, *asked, *(["--twin"] if twin else []))
        line.answer()
        cookies = asyncio.run(_sign_in_all(url, self._hub.ask("links", count=count)["links"]))
        browsers = [
            Browser(url, cookie=cookie, cameras=() if twin else tuple(CAMERAS), twin=twin)
            for cookie in cookies
        ]
        began = threading.Event()
        found: dict[str, Any] = {}

        def watch() -> None:
            began.wait()
            with Watched(self._hub.usage) as watched:
                threading.Event().wait(seconds)
            found.update(watched.told())

        watcher = threading.Thread(target=watch)
        watcher.start()
        asyncio.run(watching(browsers, settle_s=SETTLE_S, seconds=seconds, began=began))
        watcher.join()
        sent = line.end()
        changes = self._hub.ask("changes")
        return {
            "browsers": count,
            "changes_per_s": self._per_s,
            **found,
            "line_behind_s": round(sent["behind_s"], 3),
            **arrivals_of(browsers, changes=changes, sent=sent["sent"]),
        }


async def _sign_in_all(url: str, paths: Sequence[str]) -> list[str]:
    return [await sign_in(url, path) for path in paths]


def arrivals_of(
    browsers: Sequence[Browser], *, changes: dict[str, float], sent: dict[str, float]
) -> dict[str, Any]:
    """Latencies of what all of them heard, in milliseconds."""
    heard = [one for browser in browsers for one in browser.arrivals]
    found: dict[str, Any] = {
        "messages": len(heard),
        "kb_each_browser": round(sum(one.received for one in browsers) / len(browsers) / 1e3),
        "from_hub": latency(heard, changes),
    }
    if any(name in sent for name, _ in heard):
        found["from_line"] = latency(heard, sent)
    return found


def latency(heard: Sequence[tuple[str, float]], since: dict[str, float]) -> dict[str, Any]:
    """Percentiles, and the interval of p99 by a bootstrap over the seconds in which they came."""
    pairs = [(at, at - since[name]) for name, at in heard if name in since]
    by_second: dict[int, list[float]] = {}
    for at, took in pairs:
        by_second.setdefault(int(at), []).append(took)
    blocks = [np.array(one) for one in by_second.values()]
    rng = np.random.default_rng(0)
    drawn = [
        np.percentile(
            np.concatenate([blocks[n] for n in rng.integers(len(blocks), size=len(blocks))]), 99
        )
        for _ in range(200 if blocks else 0)
    ]
    figures: dict[str, Any] = measure.percentiles([took for _, took in pairs])
    figures["without_start"] = len(heard) - len(pairs)
    if drawn:
        low, high = np.percentile(drawn, [2.5, 97.5])
        figures["p99_ms_interval"] = [round(float(low) * 1e3, 2), round(float(high) * 1e3, 2)]
    return figures


@contextmanager
def site_running(*, per_s: float) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="lineside-pages-") as name:
        folder = Path(name)
        (folder / "plant.toml").write_text(plant_text())
        hub = Child(__file__, "--serve", name)
        try:
            yield Site(hub, per_s=per_s)
        finally:
            hub.close()


def updates(browsers: int, *, per_s: float, seconds: float) -> dict[str, Any]:
    """Both pages with all browsers and with one."""
    found: dict[str, Any] = {}
    for page, twin in (("lines", False), ("twin", True)):
        with site_running(per_s=per_s) as site:
            found[page] = {
                "baseline": site.measured(1, twin=twin, seconds=seconds / 2),
                "all": site.measured(browsers, twin=twin, seconds=seconds),
            }
        print(page, json.dumps(found[page], indent=2))
    return found


# ---- pages


def pages(*, times: int) -> dict[str, Any]:
    """Weight and first paint of every page, by address."""
    with (
        tempfile.TemporaryDirectory(prefix="lineside-pages-") as name,
        line_running(
            Path(name), archive=package_for(load_plant(PLANT)), speed=1.0, fps=3.0
        ) as line,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        context = chromium.new_context()
        page = context.new_page()
        sign_in_by_link(page, line.hub, name="M. Keller")
        state = str(Path(name) / "state.json")
        context.storage_state(path=state)
        found = {}
        for address in addresses(line):
            paints = [
                _painted(page.goto, line.url + address, page.evaluate) for _ in range(times + 1)
            ]
            found[address] = _weight(chromium, line.url + address, state=state) | {
                "first_paint_ms": round(statistics.median(paints[1:]), 1),
                "first_paint_most_ms": round(max(paints[1:]), 1),
            }
            print(address, json.dumps(found[address]))
        chromium.close()
    return found


PAINTED = """() => new Promise((done) => {
  const watch = new PerformanceObserver((list) => {
    const first = list.getEntriesByName("first-contentful-paint")[0];
    if (first) done(first.startTime);
  });
  watch.observe({ type: "paint", buffered: true });
})"""


def _painted(goto: Callable[..., Any], url: str, evaluate: Callable[[str], Any]) -> float:
    goto("about:blank")
    goto(url)
    return float(evaluate(PAINTED))


def _weight(chromium: Chromium, url: str, *, state: str) -> dict[str, Any]:
    """What a first visit transfers, in kB with heads: all, and pictures of cameras among it."""
    context = chromium.new_context(storage_state=state)
    page = context.new_page()
    session: CDPSession = context.new_cdp_session(page)
    session.send("Network.enable")
    images: set[str] = set()
    sizes: dict[str, float] = {}

    def note(answer: dict[str, Any]) -> None:
        told = answer["response"]
        if is_camera_image(told["url"], media_type=told["mimeType"]):
            images.add(answer["requestId"])

    session.on("Network.responseReceived", note)
    session.on(
        "Network.loadingFinished",
        lambda one: sizes.update({one["requestId"]: one["encodedDataLength"]}),
    )
    page.goto(url)
    page.wait_for_load_state("networkidle")
    context.close()
    pictures = sum(size for one, size in sizes.items() if one in images)
    return {
        "kb": round((sum(sizes.values()) - pictures) / 1e3, 1),
        "pictures_kb": round(pictures / 1e3, 1),
        "requests": len(sizes),
    }


def is_camera_image(url: str, *, media_type: str) -> bool:
    """Whether an answer is an image of a camera or made of one, and no part of the page itself."""
    return media_type.startswith("image/") and not urlsplit(url).path.startswith("/static/")


def missed(result: dict[str, Any]) -> list[str]:
    """Goals that were not reached, in words."""
    found = []
    for page, measured in result.get("updates", {}).items():
        p99 = measured["all"]["from_hub"].get("p99_ms", float("inf"))
        if p99 > UPDATE_GOAL_MS:
            found.append(f"{page}: update p99 {p99} ms, goal {UPDATE_GOAL_MS} ms")
    for address, page in result.get("pages", {}).items():
        goal = TWIN_GOAL_KB if address == "/twin" else PAGE_GOAL_KB
        if page["kb"] > goal:
            found.append(f"{address}: {page['kb']} kB, goal {goal} kB")
        if page["first_paint_ms"] > PAINT_GOAL_MS:
            found.append(
                f"{address}: first paint {page['first_paint_ms']} ms, goal {PAINT_GOAL_MS} ms"
            )
    return found


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    said = []
    if "updates" in result:
        said.append(_updates_words(result["updates"]))
    if "pages" in result:
        slowest = max(page["first_paint_ms"] for page in result["pages"].values())
        late = f" (goal {PAINT_GOAL_MS:.0f} ms missed)" if slowest > PAINT_GOAL_MS else ""
        said.append(f"slowest of {len(result['pages'])} first paints {slowest:.0f} ms{late}")
    if result["note"]:
        said.append(result["note"].partition(":")[0])
    return f"{'; '.join(said)}."


def _updates_words(updates: dict[str, Any]) -> str:
    said, late = [], []
    for page, measured in updates.items():
        figures = measured["all"]["from_hub"]
        if not figures["n"]:
            return f"No browser heard of a change on *{page.title()}*"
        low, high = figures["p99_ms_interval"]
        said.append(f"{figures['p99_ms']:.0f} ms ({low:.0f} to {high:.0f}) on *{page.title()}*")
        if figures["p99_ms"] > UPDATE_GOAL_MS:
            late.append(f"*{page.title()}*")
    single = (one["baseline"]["from_hub"].get("p99_ms", math.inf) for one in updates.values())
    alone = " and ".join(f"{ms:.0f}" for ms in single)
    where = f" on {late[0]}" if 0 < len(late) < len(updates) else ""
    goal = f"goal {UPDATE_GOAL_MS:.0f} ms{' missed' if late else ''}{where}"
    return f"p99 {', '.join(said)}, against {alone} ms with one browser ({goal})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browsers", type=int, default=200)
    parser.add_argument("--per-s", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=int, default=5, help="later visits of each page")
    parser.add_argument("--only", choices=["updates", "pages"], default="")
    parser.add_argument("--note", default="", help="what else the machine did")
    parser.add_argument("--dry", action="store_true", help="write no results")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--feed", help=argparse.SUPPRESS)
    parser.add_argument("--twin", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(Path(asked.serve))
        return 0
    if asked.feed:
        feed(asked.feed, per_s=asked.per_s, cameras=RACK if asked.twin else CAMERAS)
        return 0
    result: dict[str, Any] = {"note": asked.note}
    if asked.only != "pages":
        result["updates"] = updates(asked.browsers, per_s=asked.per_s, seconds=asked.seconds)
    if asked.only != "updates":
        result["pages"] = pages(times=asked.times)
    result["missed"] = missed(result)
    if not asked.dry:
        print(measure.write("pages_live", result, answer))
    print("\n".join(result["missed"]) or "every goal reached")
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
