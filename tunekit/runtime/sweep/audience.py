"""The callbacks of a script, for as long as an experiment is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from xxhash import xxh3_64_hexdigest

from tunekit.callbacks.telling import Facts, Telling
from tunekit.errors import ExperimentExistsError
from tunekit.journal.header import ExperimentHeader
from tunekit.runtime.attempt.generators import seeded_between_attempts
from tunekit.runtime.sweep.plan import Plan
from tunekit.runtime.sweep.spaces import Spaces


@contextmanager
def audience(plan: Plan, header: ExperimentHeader | None, spaces: Spaces) -> Iterator[Telling | None]:
    """Set the callbacks up, and have them hear everything before the experiment is closed; None: there are none.

    Args:
        plan: The sweep.
        header: What the experiment says of itself.
        spaces: In which the configurations of trials are found.
    """
    if not plan.run.callbacks:
        yield None
        return
    name, moment = (header.name, header.created) if header else (plan.name, 0.0)
    setup = {
        "stop": plan.run.stop,
        "num_samples": plan.tune.num_samples,
        "total_num_samples": plan.num_trials,
        "name": plan.name,
        "path": plan.path,
        "metric": plan.tune.metric,
        "mode": plan.tune.mode,
        # Its first name and the moment of its beginning move with it, and no other one has both.
        "experiment_id": f"{name}-{xxh3_64_hexdigest(repr(moment).encode())}",
    }
    resolve = partial(spaces.resolve, lend=seeded_between_attempts)  # Callbacks are called on threads of their own.
    facts = Facts(path=plan.path, trainable_name=plan.info.name, setup=setup, resolve=resolve)
    telling = Telling(plan.run.callbacks, facts)
    try:
        yield telling
    except ExperimentExistsError:  # Another driver has taken over, and tells them itself.
        telling.abandon()
        raise
    finally:
        telling.close()
