"""A process that drives an experiment for as long as it is allowed to: ``folder name takeover|start``.

It prints ``busy`` when it is refused. Else it commits without end, printing the number of acknowledged records, until
another one has taken over; then it prints ``fenced``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunekit.core.events import ResultReported
from tunekit.errors import ExperimentExistsError
from tunekit.journal.folder import LocalExperiment


def main(folder: Path, name: int, *, takeover: bool) -> str:
    """Drive, and return how it ended."""
    experiment = LocalExperiment(folder)
    try:
        with experiment.taken(takeover=takeover) as right:
            journal, _ = experiment.replayed(lambda records: sum(1 for _ in records))
            number = 0
            while True:
                journal.append([ResultReported(trial=name, attempt=right.generation, iteration=number + 1, metrics={})])
                journal.commit()
                number += 1
                right.opened()
                print(number, flush=True)
    except ExperimentExistsError as error:
        return "fenced" if "taken over" in str(error) else "busy"


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), takeover=sys.argv[3] == "takeover"), flush=True)
