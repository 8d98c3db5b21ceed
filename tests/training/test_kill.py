import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lineside.core import digest_of
from lineside.training import TrainJob, TrainResult, read_result, write_job

pytestmark = pytest.mark.slow


def test_a_trainer_that_is_killed_goes_on_when_it_is_started_again(
    presence_job: TrainJob,
    presence_result: tuple[TrainResult, Path],
    *,
    train: Callable[[TrainJob, Path], TrainResult],
    tmp_path: Path,
) -> None:
    write_job(presence_job, folder=tmp_path)
    for percent in (12, 64):
        with subprocess.Popen(
            [sys.executable, "-m", "lineside", "train", "--job", str(tmp_path), "--json-lines"],
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if json.loads(line)["percent"] >= percent:
                    child.send_signal(signal.SIGKILL)
                    break
            child.stdout.read()
        assert child.returncode == -signal.SIGKILL
        assert read_result(tmp_path) is None
        assert any((tmp_path / "features").iterdir())
    result = train(presence_job, tmp_path)
    assert digest_of(result.package) == digest_of(presence_result[0].package)
