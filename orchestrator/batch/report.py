"""`report.html`: what a run has shown, as one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from orchestrator.batch.results import manifest, read, require
from orchestrator.batch.summary import summed
from orchestrator.files import replace

REPORT = "report.html"


def write_report(folder: str | Path) -> Path:
    """Writes a folder's `report.html`, whole or not at all, and its `summary.json`; returns where the report is.

    The page loads nothing and runs nothing. Reads the results twice: for the figures, and for the texts that are shown.
    Raises ResultsError where they cannot be used, or the extra `orchestrator[batch]` is missing; OSError where the folder
    cannot be written.
    """
    require("scipy", "vl_convert")
    from orchestrator.batch.page import Shown, page
    from orchestrator.batch.worst import questions_of, rows_of, worst

    summary, columns = summed(folder)
    chosen = worst(columns)
    wanted = {*chosen.failing, *chosen.disputed}
    shown = Shown(chosen, rows_of(read(folder), wanted), questions_of(manifest(folder).questions, wanted))
    path = Path(folder) / REPORT
    replace(path, page(summary, columns, shown).encode())
    return path
