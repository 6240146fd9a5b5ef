"""``python -m benchmarks``: measure, print the tables, write JSON and plots.

python -m benchmarks                              # everything, about an hour with all peers
python -m benchmarks --only calls --only scalars  # some kinds of work
python -m benchmarks --docs docs/performance.md   # ... and bring the tables of the page up to date
python -m benchmarks --quick                      # tiny sizes: does everything work?
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.catalog import OPTIONAL, WORKS
from benchmarks.peers import PEERS
from benchmarks.runner import subjects_of, take_rounds


def main() -> None:
    arguments = _arguments()
    names = arguments.only or [name for name in WORKS if name not in OPTIONAL]
    about = report.about_here(Path(arguments.scratch or tempfile.gettempdir()))
    before = os.getloadavg()[0]
    works: dict[str, Any] = {}
    for name in names:
        # To see that everybody works, once is enough.
        libraries = [] if arguments.quick and name != "scalars" else arguments.peer
        outcome = take_rounds(
            WORKS[name],
            subjects_of(WORKS[name], libraries),
            arguments.rounds,
            is_quick=arguments.quick,
            scratch=arguments.scratch,
            tell=_tell,
        )
        works[name] = dataclasses.asdict(outcome)
        print(f"\n## {name}: {WORKS[name].question}\n\n{report.rows_table(WORKS[name], works[name])}\n", flush=True)
    about |= {
        "rounds": arguments.rounds,
        "is_quick": arguments.quick,
        "date": datetime.date.today().isoformat(),
        "load": [before, os.getloadavg()[0]],
    }
    print(f"## goals\n\n{report.goals_table(works)}")
    _write({"about": about, "works": works}, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What does allogger cost?")
    parser.add_argument("--only", action="append", metavar="NAME", choices=WORKS, help=f"of {', '.join(WORKS)}")
    parser.add_argument("--peer", action="append", metavar="NAME", choices=PEERS, help="of the libraries only these")
    parser.add_argument("--rounds", type=int, help="turns of everybody; the medians are shown (default 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: the numbers mean nothing")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"), help="folder for JSON and plots")
    parser.add_argument("--scratch", type=Path, help="folder, and so the disk, that is written to while measuring")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="page whose tables and pictures are replaced")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    return arguments


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(results: dict[str, Any], arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        from benchmarks.plots import plot

        for name, work in results["works"].items():
            plot(name, work, arguments.out / f"{name}.png")
            picture = f"images/benchmark-{name}.png"
            if arguments.docs and picture in arguments.docs.read_text(encoding="utf-8"):
                plot(name, work, arguments.docs.parent / picture)
    else:
        _tell("no plots without matplotlib")
    if arguments.docs:
        report.write_into(arguments.docs, results)


if __name__ == "__main__":
    main()
