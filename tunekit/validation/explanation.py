"""From a difference to its cause: what else to run, and what to conclude.

Nothing here runs for a trainable that is right, so it may cost a few processes more.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from tunekit.validation import generators
from tunekit.validation.compare import Comparison, Difference, Record, first_part, plain_metrics, shown
from tunekit.validation.complaints import Complaints
from tunekit.validation.content import digest_of
from tunekit.validation.jobs import Change, Leaf, Look, Run, State
from tunekit.validation.laboratory import Laboratory, ProcessDiedError

_GENERATORS = re.compile(r"random\.(Random|_generator\.Generator|mtrand\.RandomState)$|^torch\.Generator$")
_NO_LEAF = Leaf("", "nothing")


class Explanation:
    """Finds out why runs of one trainable differ.

    Args:
        laboratory: Where more of them are made.
        comparison: How they are compared.
        complaints: What is made of it.
        plain: A run without saving.
        saving: One with saving.
    """

    def __init__(
        self, laboratory: Laboratory, comparison: Comparison, complaints: Complaints, plain: Record, saving: Record
    ) -> None:
        """Run nothing yet."""
        self._laboratory = laboratory
        self._comparison = comparison
        self._complaints = complaints
        self._plain = plain
        self._saving = saving
        self._num_steps = len(plain.rows)

    def of_saving(self, difference: Difference) -> Exception:
        """Return why a run with saving differs from the one without, which came before it in the same process."""
        run = Run(iterations=max(self._num_steps, len(self._saving.rows)), saves=False)
        first, second = self._run([run, run])
        if found := self._comparison.of_records(self._plain, first):
            return self._complaints.not_deterministic(found)
        if found := self._comparison.of_records(first, second):
            return self._complaints.shared_state(first.outcome.shared, found)
        return self._complaints.save_changes_training(difference)

    def of_lost_path(self, restored: Record) -> Exception | None:
        """Return that a restored run died of a path that is gone; None if that is not the reason."""
        trouble = restored.outcome.trouble
        if trouble is None or trouble.method not in {"load_checkpoint", "setup", "the function", "step"}:
            return None
        paths = [*restored.outcome.read_before, *self._old_paths(trouble.message)]
        return self._complaints.absolute_path(paths[:1], trouble=trouble, difference=None) if paths else None

    def of_restoring(self, difference: Difference, restored: Record, step: int) -> Exception:
        """Return why a restored run differs from those that nobody interrupted."""
        watching = Run(iterations=self._num_steps, saves=False, watch=step)
        restoring = Run(iterations=self._num_steps, saves=True, resume_from=step)
        looking, mending = replace(restoring, watch=step), replace(restoring, puts_back=True)
        again, looked, mended = self._run([watching, looking, mending], step)
        if found := self._comparison.of_records(self._plain, again):
            return self._complaints.not_deterministic(found)
        before, after = again.outcome.looks.get("watched"), looked.outcome.looks.get("watched")
        if before is None or after is None:
            return self._complaints.partial_load([], difference)
        if self._is_right(mended, step) and (names := self._missing_generators(again, before, after, step)):
            how = [generators.HOW[name] for name in names]
            return self._complaints.missing_generator([generators.NAMES[name] for name in names], how, difference)
        if outside := [*restored.outcome.read_before, *self._saving.outcome.written_outside]:
            return self._complaints.absolute_path(outside, trouble=None, difference=difference)
        unloaded = looked.outcome.looks.get("unloaded")
        was_idle = unloaded is not None and digest_of(unloaded.attributes) == digest_of(after.attributes)
        if was_idle and _unequal(before.attributes, after.attributes):
            return self._of_no_op(difference, step)
        return self._of_parts(difference, restored, (before, after), step)

    # -- causes --------------------------------------------------------------------------------------------------------

    def _missing_generators(self, again: Record, before: Look, after: Look, step: int) -> list[str]:
        """Return which generators of libraries are to blame, if putting all of them back mends everything."""
        last = again.outcome.looks.get("last")
        used = [name for name, state in before.generators.items() if last and last.generators.get(name) != state]
        missing = [name for name in used if after.generators.get(name) != before.generators[name]]
        if len(missing) < 2:  # noqa: PLR2004 - there is no choice
            return missing
        # Put all but one back, for each one: those that are not needed are merely used.
        runs = []
        for left_out in missing:
            states = {name: before.generators[name] for name in missing if name != left_out}
            runs.append(Run(iterations=self._num_steps, saves=True, resume_from=step, put_back=states))
        records = self._run(runs, step)
        needed = [name for name, record in zip(missing, records, strict=True) if not self._is_right(record, step)]
        return needed or missing

    def _is_right(self, restored: Record, step: int) -> bool:
        return self._comparison.of_records(self._saving, restored, after=step) is None

    def _of_no_op(self, difference: Difference, step: int) -> Exception:
        """Return why loading did nothing: because there was nothing at a path that the checkpoint names, or so."""
        (state,) = self._laboratory.states([self._saving.kept[step]])
        paths = [leaf.shown for key, leaf in state.items() if "<folder>" in leaf.shown and not key.startswith("len(")]
        if paths:
            return self._complaints.absolute_path(paths, trouble=None, difference=difference)
        return self._complaints.no_op_load(step, difference)

    def _of_parts(self, difference: Difference, restored: Record, looks: tuple[Look, Look], step: int) -> Exception:
        before, after = looks
        changed = _changed(before.attributes, after.attributes, step)
        if own := _own_generators(before.attributes, after.attributes):
            names = [f"self.{name}" for name in own]
            how = ["save its state (bit_generator.state, getstate() or get_state()) and set it after loading"]
            return self._complaints.missing_generator(names, how, difference)
        counts = [change for change in changed if _counts_from_start(change, step)]
        if counts and len(counts) == len(changed):
            return self._complaints.forgotten_iteration(f"self.{counts[0].key}", difference)
        if not difference.key:
            return self._complaints.forgotten_iteration("its loop", difference)
        if self._begins_again(restored, step):
            return self._complaints.no_op_load(step, difference)
        if key := self._counter(restored, step):
            return self._complaints.forgotten_iteration(repr(key), difference)
        return self._complaints.partial_load(changed, difference)

    def _begins_again(self, restored: Record, step: int) -> bool:
        """Return whether results and states after the restore are those of the first iterations."""
        fresh = {row.iteration + step: plain_metrics(row) for row in self._plain.rows}
        found = {row.iteration: plain_metrics(row) for row in restored.rows}
        if any(fresh.get(at, metrics) != metrics for at, metrics in found.items()):
            return False
        steps = [(at - step, at) for at in restored.kept if at - step in self._saving.kept]
        return self._comparison.of_steps(self._saving, restored, steps) is None

    def _counter(self, restored: Record, step: int) -> str:
        """Return a metric that counts, and begins again after the restore."""
        right = {row.iteration: row.metrics for row in self._plain.rows}
        found = {row.iteration: row.metrics for row in restored.rows if row.iteration in right}
        for key, first in found.get(step + 1, {}).items():
            if isinstance(first, bool) or not isinstance(first, int):
                continue
            pairs = [(right[at].get(key), right[at - step].get(key), row.get(key)) for at, row in found.items()]
            if all(now == early and late == now + step for late, early, now in pairs if isinstance(now, int)):
                return str(key)
        return ""

    def _old_paths(self, text: str) -> list[str]:
        # The last one is where the trial has just run: a file that is missing there was never saved.
        for root in self._laboratory.roots[:-1]:
            if match := re.search(re.escape(root) + r"[^\s'\"]*", text):
                return [match[0]]
        return []

    def _run(self, runs: list[Run], step: int | None = None) -> list[Record]:
        checkpoint = None if step is None else self._saving.kept[step]
        try:
            outcomes, kept = self._laboratory.run(runs, checkpoint=checkpoint)
        except ProcessDiedError as error:
            raise self._complaints.of_death(error, "when it was run once more") from None
        return [Record(*both) for both in zip(outcomes, kept, strict=True)]


def _unequal(before: State, after: State) -> list[str]:
    """Return the ways to all values that are not as they were."""
    paths = {**before, **after}
    return [path for path in paths if before.get(path, _NO_LEAF).digest != after.get(path, _NO_LEAF).digest]


def _changed(before: State, after: State, step: int) -> list[Change]:
    """Return the first part that differs of each attribute that is not as it was."""
    found: dict[str, Change] = {}
    for path in _unequal(before, after):
        one, other = before.get(path), after.get(path)
        found.setdefault(first_part(_plain(path)), Change(step, path, shown(one, other), shown(other, one)))
    return list(found.values())


def _own_generators(before: State, after: State) -> list[str]:
    """Return the trainable's own generators that are not as they were; nothing if that is true of anything else."""
    found: dict[str, str] = {}
    for path in _unequal(before, after):
        plain = _plain(path)
        above = [plain[: match.start()] for match in re.finditer(r"[.\[(]|$", plain)]
        names = [name for name in above if _GENERATORS.search(before.get(f"type({name})", _NO_LEAF).shown)]
        if not names:
            return []
        # The same one may be reached in several ways.
        found.setdefault(before.get(path, _NO_LEAF).digest, names[0])
    return list(found.values())


def _plain(path: str) -> str:
    return re.sub(r"^(?:len|type)\((.*)\).*", r"\1", path)


def _counts_from_start(change: Change, step: int) -> bool:
    """Return whether an attribute is a whole number that has lost the iterations before the restore."""
    if not re.fullmatch(r"-?\d+", change.before) or not re.fullmatch(r"-?\d+", change.after):
        return False
    return int(change.before) - int(change.after) == step
