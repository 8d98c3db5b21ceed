"""Answering a picture by a package of each task: one file a task, behind one contract.

Main names: ``TaskHead``, ``HeadOutput``, ``task_head_for``. Not here: the order of checks and the
places of cameras (``lineside.models.predictor``), decisions (vision).
"""

from lineside.models.task_heads.contract import (
    HeadInput,
    HeadOutput,
    TaskHead,
    probe,
    task_head_for,
)

__all__ = ["HeadInput", "HeadOutput", "TaskHead", "probe", "task_head_for"]
