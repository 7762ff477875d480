"""The ledger's line of one run: begun before the first noise, closed on every way out that a process survives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from dp_train.errors import DpTrainError
from dp_train.privacy.ledger.ledger import Reservation
from dp_train.privacy.ledger.lines import Line, RunEnd
from dp_train.training.phases import Phase

_MOST_MARKS = 128
"""Names of tensors that a line keeps: two for each, of the largest."""


class Charge:
    """What a run tells the ledger; of a run without a reservation nothing.

    Args:
      reservation: of the run's plan and people; it was checked.
    """

    def __init__(self, reservation: Reservation | None) -> None:
        self._reservation = reservation
        self._begun = False
        self._steps = 0
        self._end = RunEnd()

    @property
    def in_ledger(self) -> bool:
        """Whether there is a line."""
        return self._reservation is not None

    @property
    def populations(self) -> frozenset[str]:
        """The populations that are charged as one with the run's; none without a line."""
        return frozenset() if self._reservation is None else self._reservation.populations

    def lines(self) -> Sequence[Line]:
        """All lines of the ledger; none without one."""
        return () if self._reservation is None else tuple(self._reservation.ledger.book().lines.values())

    def begin(self, *, resumed: bool, identity: str, before: Sequence[Phase]) -> None:
        """Note that the first noise is about to be drawn.

        Raises:
          BudgetError: the line pays for another run.
        """
        if self._reservation is not None:
            values = [phase.values() for phase in before]
            self._reservation.begin(resumed=resumed, identity=identity, before=values)
        self._begun = True

    def note_steps(self, steps: int) -> None:
        """Say that so many steps have begun."""
        self._steps = max(self._steps, steps)

    def note_end(self, names: Sequence[str], *, withheld: bool) -> None:
        """Say which tensors the run has trained, as they are now, and whether its ε is withheld."""
        self._end = RunEnd(weights=tuple(names[:_MOST_MARKS]), withheld=withheld)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close the line on the way out.

        A run that came to its end is committed, one that began is charged, one that did not gives its line back.
        """
        try:
            yield
        except BaseException:
            with suppress(DpTrainError):  # the first error is the one to tell; an open line counts in full
                self._end_early()
            raise

    def settle(self, steps: int, *, finished: bool) -> None:
        """Close the line of a run that ended in order."""
        self.note_steps(steps)
        if self._reservation is None:
            return
        if finished:
            self._reservation.commit(steps, self._end)
        else:
            self._reservation.abort(steps, self._end)

    def _end_early(self) -> None:
        if self._reservation is None:
            return
        if self._begun:
            self._reservation.abort(self._steps, self._end)
        else:
            self._reservation.forgo()
