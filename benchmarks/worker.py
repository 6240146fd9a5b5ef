"""Worker: one measurement in a process that has done nothing before.

``python -m benchmarks.worker MODULE FUNCTION SUBJECT FOLDER quick|full`` writes its rows as JSON to ``rows.json`` in
that folder.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.meters import adopt_orphans, end_descendants
from benchmarks.work import Size


def main(module: str, function: str, subject: str, folder: str, is_quick: str) -> None:
    # The module alone, not the catalog: what others import would be there before its import can be measured.
    measure = getattr(importlib.import_module(module), function)
    adopt_orphans()
    try:
        rows = measure(subject, Path(folder), Size(is_quick == "quick"))
    finally:
        end_descendants()
    Path(folder, "rows.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
