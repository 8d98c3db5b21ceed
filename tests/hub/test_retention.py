"""Retention: the data folder stays within its limit, and what must stay stays."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core import FrameId, RefusedError
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Retention
from lineside.hub import HubConfig, Services, check_checkpoints
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.learning.datasets import Teaching
from lineside.hub.timers import RetentionSweep, _housekeeping, folder_bytes
from lineside.store import CHECKPOINT
from lineside.store.contract import Signer
from lineside.testing import FakeClock
from tests.hub.conftest import Line, open_hub

Pictures = Callable[..., bytes]
LIMIT = 8_000_000


@pytest.fixture
def kept(config: HubConfig, hub: Services, clock: FakeClock) -> Iterator[Services]:
    """A hub whose records and pictures lie in its data folder."""
    settings = replace(
        config, records=SecretUrl(""), blobs=SecretUrl(""), retention=Retention(max_bytes=LIMIT)
    )
    settings.folder.mkdir(parents=True, exist_ok=True)
    with open_hub(settings, plant=hub.plant, clock=clock) as services:
        yield services


@pytest.mark.slow
def test_the_data_folder_stays_within_its_limit_under_a_steady_flow(
    kept: Services, clock: FakeClock, jpeg: Pictures
) -> None:
    line, swept = Line(kept, clock), RetentionSweep(kept)
    pinned, most = FrameId(""), 0
    for step in range(80):
        for number in range(10):
            kept.plant_ingest.take([line.camera(jpeg(seed=10 * step + number))])
            clock.advance(1)
        if step == 0:
            pinned = kept.frames.page()[0].id
            kept.datasets.teach("rack", Teaching(frames=(pinned,), labels=("red",)), by="anna")
        swept._measure_again_s = 0.0
        swept.run()
        most = max(most, folder_bytes(kept.config.folder) - kept.records.unused_bytes())
    assert most < 1.5 * LIMIT  # what came in the last half minute stands above it
    assert swept.data_bytes < 1.2 * LIMIT
    assert kept.frames.page()[0].aged_out_at is None
    assert kept.records.frames.get(pinned).aged_out_at is None
    for source in kept.records.log.heads():
        assert kept.records.log.verify(source).ok
    first = kept.records.log.read(limit=1)[0]
    assert first.position > 1, "no history went"


def test_pictures_that_went_are_taken_off_what_was_measured(
    kept: Services, clock: FakeClock, jpeg: Pictures
) -> None:
    line, swept, folder = Line(kept, clock), RetentionSweep(kept), kept.config.folder
    for number in range(40):
        kept.plant_ingest.take([line.camera(jpeg(seed=number))])
        clock.advance(1)
    free = LIMIT - folder_bytes(folder) + kept.records.unused_bytes()
    excess = 5 * kept.frames.page()[0].size_bytes
    (folder / "model.lspkg").write_bytes(bytes(range(256)) * ((free + excess) // 256))
    clock.advance(60)
    assert 5 <= swept.run() < 20
    swept._measure_again_s = math.inf
    assert swept.run() == 0


def test_a_checkpoint_is_signed_and_one_that_was_changed_is_found(
    kept: Services, clock: FakeClock, jpeg: Pictures
) -> None:
    line, log, documents = Line(kept, clock), kept.records.log, kept.records.documents
    repository = kept.releases.repository

    def forget(sign: Signer | None = None) -> None:
        for number in range(5):
            kept.plant_ingest.take([line.camera(jpeg(seed=number))])
            clock.advance(1)
        kept.ledger.anchor()
        clock.advance(60)
        hub = hub_source(kept.plant.site)
        assert sum(
            log.prune(source, before=clock.now(), anchors=hub, sign=sign) for source in log.heads()
        )

    def check() -> None:
        check_checkpoints(documents, kept.config.trust_folder, clock=clock)

    forget()
    check()  # of an older version: no start has signed it yet
    for _ in range(2):
        kept.releases.ensure(keys=kept.config.keys_folder)
    check()
    forget(repository.sign)
    repository.rotate("snapshot", keys=kept.config.keys_folder)
    check()
    (checkpoint, *_) = documents.page(CHECKPOINT)
    unsigned = {name: value for name, value in checkpoint.body.items() if name != "signature"}
    stranger = {**checkpoint.body["signature"], "keyid": "0" * 64}
    for wrong, reason in (
        (unsigned, "no signature"),
        ({**checkpoint.body, "source_position": 3}, "not of these bytes"),
        ({**unsigned, "signature": stranger}, "by no key"),
    ):
        documents.put(CHECKPOINT, checkpoint.id, body=wrong)
        kept.releases.ensure(keys=kept.config.keys_folder)
        with pytest.raises(RefusedError, match=reason):
            check()


def test_checkpoints_of_the_twin_go_with_the_history(
    kept: Services, clock: FakeClock, jpeg: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("twin.fold", "hub.eventlog.ledger"):
        monkeypatch.setattr(f"lineside.{module}.CHECKPOINT_EVERY", 4)
    line, swept, site = Line(kept, clock), RetentionSweep(kept), kept.plant.site
    for number in range(20):
        kept.plant_ingest.take([line.camera(jpeg(seed=number))])
        kept.ledger.keep_snapshot()
        clock.advance(1)
    before = kept.records.documents.page("twin-checkpoint")
    assert before[0].id == f"{site}/{0:012d}"
    for _ in range(20):
        swept._forget_history()
        clock.advance(60)
    first = kept.records.log.read(limit=1)[0].position
    left = kept.records.documents.page("twin-checkpoint")
    assert first > 4
    assert left[0].id >= f"{site}/{first // 4:012d}"
    assert len(left) < len(before) + 20


def test_what_must_stay_is_said_once_when_it_is_too_large(
    kept: Services, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    (kept.config.folder / "model.lspkg").write_bytes(bytes(range(256)) * 40_000)
    swept = RetentionSweep(kept)
    for _ in range(3):
        swept._measure_again_s = 0.0
        swept.run()
        clock.advance(60)
    assert len([text for text in caplog.messages if "too large" in text]) == 1


def test_the_size_of_the_data_folder_is_a_figure_only_under_a_limit(
    kept: Services, hub: Services
) -> None:
    for services in (kept, hub):
        _housekeeping(services)
    assert "data_bytes" in kept.stats.plain()["gauges"]
    assert "data_bytes" not in hub.stats.plain()["gauges"]


def test_a_folder_that_changes_while_it_is_measured_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10_000))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert folder_bytes(tmp_path) >= 10_000
