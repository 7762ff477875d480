"""All verbs of `dp-train`, by name. Nothing heavy is imported here.

A verb of two words (`ledger show`) belongs to a group of `GROUPS`.
"""

from __future__ import annotations

from dp_train.cli.verb import Verb
from dp_train.cli.verbs_of_consent import CONSENT_VERBS
from dp_train.cli.verbs_of_ledger import LEDGER_VERBS
from dp_train.cli.verbs_of_people import PEOPLE_VERBS
from dp_train.cli.verbs_of_runs import RUN_VERBS

GROUPS: dict[str, str] = {
    "ledger": "what was spent on whom: budgets and runs of every population, in a chain of hashes",
    "consent": "who agreed to what: the store of consent events",
}
"""First words of verbs of two words, and what they are about."""

VERBS: dict[str, Verb] = {**RUN_VERBS, **LEDGER_VERBS, **CONSENT_VERBS, **PEOPLE_VERBS}
