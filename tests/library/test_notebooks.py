"""Notebooks of the examples, each run from top to bottom as its reader runs it."""

import asyncio
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from lineside.core import Task

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"


def test_each_task_has_a_notebook_that_the_page_names() -> None:
    page = (FOLDER.parents[1] / "docs" / "reference" / "python.md").read_text()
    named = re.findall(r"`examples/notebooks/(\w+)\.ipynb`", page)
    assert sorted(named) == sorted(Task) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, NotebookNode]:
    """Run in one kernel, which forgets all names before each."""
    found = {task: nbformat.read(FOLDER / f"{task}.ipynb", as_version=4) for task in Task}
    client = NotebookClient(
        new_notebook(), timeout=120, resources={"metadata": {"path": tmp_path_factory.mktemp("n")}}
    )

    async def execute() -> None:
        async with client.async_setup_kernel():
            for client.nb in found.values():
                client.nb.cells.insert(0, new_code_cell("%reset -f"))
                for place, cell in enumerate(client.nb.cells):
                    assert not cell.get("outputs")
                    await client.async_execute_cell(cell, place)

    asyncio.run(execute())
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", Task)
def test_a_notebook_ends_with_what_its_text_says(
    task: Task, executed: dict[Task, NotebookNode]
) -> None:
    *_, text, last = executed[task].cells
    (output,) = last.outputs
    assert text.source.endswith(f": `{output.data['text/plain']}`")
