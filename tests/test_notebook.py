"""The notebook of docs/examples, run by a real kernel: what it shows is right, and its charts have marks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import vl_convert
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
_CHART = re.compile(r"\}\)\((\{.*\}), \{.*?\}\);", re.DOTALL)  # as altair writes it for a page


def shown(notebook: Any, ending: str) -> str:
    """What the cell that ends so has put out."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.endswith(ending)]
    (output,) = cell.outputs
    if output.output_type == "stream":
        return str(output.text)
    return str(output.data.get("text/html", output.data["text/plain"]))


def marks(page: str, what: str) -> int:
    found = _CHART.search(page)
    assert found
    return vl_convert.vegalite_to_svg(json.loads(found[1])).count(f'aria-roledescription="{what}"')


def test_the_notebook_names_the_cause_and_draws_it() -> None:
    notebook = nbformat.read(EXAMPLES / "why.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in notebook.cells)  # they would be outdated soon
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": EXAMPLES}})
    client.execute()  # raises for a cell that fails
    cause = shown(notebook, '{main.sentence}")')
    assert cause.startswith("100% of the change: http store.example.net:80") and "requests 6 → 21" in cause
    tree = shown(notebook, "\nchanged").partition("\nShare")[2].splitlines()
    assert len(tree) > 5 and max(map(len, tree)) <= 120
    # Five services; ten bursts of traffic, an interval of 50 ms each at least.
    assert shown(notebook, "\nservices").count("<tr>") == 1 + 5
    assert marks(shown(notebook, "services.plot()"), "bar") == 5
    assert marks(shown(notebook, "timeline.plot()"), "bar") >= 10
    assert "61611" in shown(notebook, 'nlargest(3, "response_bytes")')
    times = re.findall(r"'0\.(\d+)'", shown(notebook, "reverse=True)[:3]"))
    assert times == sorted(times, reverse=True) and len(times) == 3
