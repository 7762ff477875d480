"""Anonymisation: roster names become per-conversation surrogates, patterns become tokens.

`anonymizer` joins the two; `patterns` knows e-mail addresses and secrets, `numbers` what is
checked by a plan (cards, accounts, telephones); `recall_figures` says how well both find what they look for. Names
of a roster are known by `dp_train.consent.names`, which the consent gate asks too.
"""

from dp_train.anonymize.anonymizer import PEOPLE, SURROGATES, Anonymizer
from dp_train.anonymize.recall_figures import RecallFigures, recall_figures

__all__ = ["PEOPLE", "SURROGATES", "Anonymizer", "RecallFigures", "recall_figures"]
