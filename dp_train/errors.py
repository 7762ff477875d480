"""Every error a user can meet, in one tree.

Each message names the value, what was expected and what to do, on one line, and never holds
content, a name or a seed. The command line prints the message alone and ends with the exit code
of the class; a traceback is shown only with ``--debug``.

    DpTrainError                1
     ├── ConfigError            2   a configuration value is unknown, of the wrong type or impossible
     ├── DataError              3   an input file or row cannot be used
     ├── ConsentError           4   consent is missing, or was bypassed
     ├── PrivacyError           5   a privacy parameter or claim does not hold
     │    ├── PlanError         5   the plan cannot be built or calibrated
     │    ├── BudgetError       5   the population's budget does not allow the run
     │    └── EpsilonWithheld   5   what ran differs from the plan, so there is no ε to show
     ├── ModelError             6   a model cannot be built, loaded or clipped
     ├── CheckpointError        7   a run cannot be stored or resumed
     ├── TrackingError          8   the tracking store cannot be used
     ├── StoreError             9   the database of consent and ledger cannot be used
     └── ProcessesError        13   another process of the run is gone, or is not of the same run
"""

from __future__ import annotations


class DpTrainError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(DpTrainError):
    """A configuration value is unknown, of the wrong type or impossible."""

    exit_code = 2


class DataError(DpTrainError):
    """An input file or row cannot be used."""

    exit_code = 3


class ConsentError(DpTrainError):
    """Consent is missing, or a caller tried to go around the gate."""

    exit_code = 4


class PrivacyError(DpTrainError):
    """A privacy parameter or claim does not hold."""

    exit_code = 5


class PlanError(PrivacyError):
    """A privacy plan cannot be built or calibrated."""


class BudgetError(PrivacyError):
    """The budget of the population does not allow the run."""


class EpsilonWithheld(PrivacyError):
    """What ran differs from the plan, so there is no ε to show."""


class ModelError(DpTrainError):
    """A model cannot be built, loaded or clipped."""

    exit_code = 6


class CheckpointError(DpTrainError):
    """A run cannot be stored or resumed."""

    exit_code = 7


class TrackingError(DpTrainError):
    """The tracking store cannot be used."""

    exit_code = 8


class ProcessesError(DpTrainError):
    """Another process of a run on several is gone, does not answer, or is not of the same run."""

    exit_code = 13


class StoreError(DpTrainError):
    """The database of consent registry and ledger cannot be used."""

    exit_code = 9
