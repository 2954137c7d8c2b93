"""From a difference to its cause: what else to run, and what to conclude.

Nothing here runs for a trainable that is right, so it may cost a few processes more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunekit.validation import generators
from tunekit.validation.compare import Comparison, Difference, Record, plain_metrics
from tunekit.validation.complaints import Complaints
from tunekit.validation.content import digest_of
from tunekit.validation.jobs import Change, Look, Run, State
from tunekit.validation.laboratory import Laboratory, ProcessDiedError

_GENERATORS = re.compile(r"random\.(Random|_generator\.Generator|mtrand\.RandomState)$|torch.*Generator$")


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
        again, looked = self._run([watching, _restoring(self._num_steps, step, watch=step)], step)
        if found := self._comparison.of_records(self._plain, again):
            return self._complaints.not_deterministic(found)
        before, after = again.outcome.looks.get("watched"), looked.outcome.looks.get("watched")
        if before is None or after is None:
            return self._complaints.partial_load([], difference)
        if problem := self._of_generators(difference, again, before, after, step):
            return problem
        if paths := self._remembered(restored, step):
            return self._complaints.absolute_path(paths, trouble=None, difference=difference)
        changed = _changed(before.attributes, after.attributes, step)
        unloaded = looked.outcome.looks.get("unloaded")
        if changed and unloaded and digest_of(unloaded.attributes) == digest_of(after.attributes):
            return self._complaints.no_op_load(step, difference)
        return self._of_parts(difference, restored, changed, before, step)

    # -- causes --------------------------------------------------------------------------------------------------------

    def _of_generators(
        self, difference: Difference, again: Record, before: Look, after: Look, step: int
    ) -> Exception | None:
        """Return which generators of libraries are missing, if putting their states back mends everything."""
        last = again.outcome.looks.get("last")
        used = [name for name, state in before.generators.items() if last and last.generators.get(name) != state]
        missing = [name for name in used if after.generators.get(name) != before.generators[name]]
        # With all of them put back, and with all but one, for each one.
        trials = [missing, *([other for other in missing if other != name] for name in missing)]
        mended = self._mended(trials if len(missing) > 1 else trials[:1], before, step) if missing else [False]
        if not mended[0]:
            return None
        needed = [name for name, is_idle in zip(missing, mended[1:], strict=False) if not is_idle]
        missing = needed or missing
        names, how = [generators.NAMES[name] for name in missing], [generators.HOW[name] for name in missing]
        return self._complaints.missing_generator(names, how, difference)

    def _mended(self, trials: Sequence[Sequence[str]], before: Look, step: int) -> list[bool]:
        """Return for each choice of generators whether all is well once they are put back."""
        states = [{name: before.generators[name] for name in names} for names in trials]
        records = self._run([_restoring(self._num_steps, step, put_back=state) for state in states], step)
        return [self._comparison.of_records(self._saving, record, after=step) is None for record in records]

    def _remembered(self, restored: Record, step: int) -> list[str]:
        """Return a path that the trainable used beside its checkpoint, or that its checkpoint names."""
        outside = [*restored.outcome.read_before, *self._saving.outcome.written_outside]
        if outside:
            return outside[:1]
        (state,) = self._laboratory.states([self._saving.kept[step]])
        return [leaf.shown for key, leaf in state.items() if "<folder>" in leaf.shown and not key.startswith("len(")][
            :1
        ]

    def _of_parts(
        self, difference: Difference, restored: Record, changed: list[Change], before: Look, step: int
    ) -> Exception:
        own = [change for change in changed if _is_generator(change.key, before.attributes)]
        if own and len(own) == len(changed):
            names = [f"self.{change.key}" for change in own]
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
        for root in self._laboratory.roots:
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


def _restoring(num_steps: int, step: int, *, watch: int | None = None, put_back: dict[str, bytes] | None = None) -> Run:
    return Run(iterations=num_steps, saves=True, resume_from=step, watch=watch, put_back=put_back or {})


def _changed(before: State, after: State, step: int) -> list[Change]:
    """Return the attributes that are not as they were, each with its first part that differs."""
    found: dict[str, Change] = {}
    for path in {**before, **after}:
        one, other = before.get(path), after.get(path)
        name = re.split(r"[.\[(]", re.sub(r"^(?:len|type)\((.*)\).*", r"\1", path))[0]
        if (one and one.digest) != (other and other.digest) and name not in found:
            shown = [leaf.shown if leaf else "nothing" for leaf in (one, other)]
            found[name] = Change(step, name, *shown)
    return list(found.values())


def _is_generator(name: str, attributes: State) -> bool:
    kind = attributes.get(f"type({name})")
    return kind is not None and _GENERATORS.search(kind.shown) is not None


def _counts_from_start(change: Change, step: int) -> bool:
    """Return whether an attribute is a whole number that has lost the iterations before the restore."""
    if not re.fullmatch(r"-?\d+", change.before) or not re.fullmatch(r"-?\d+", change.after):
        return False
    return int(change.before) - int(change.after) == step
