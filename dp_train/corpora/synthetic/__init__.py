"""The embedded corpus: an invented company life of any size, with its consent history.

`SyntheticCorpus` streams it; `people` who there is, `meetings` and `threads` what they say, `history` what
they agreed to, `lexicon` and `phrases/` the words.
"""

from dp_train.corpora.synthetic.corpus import SyntheticCorpus
from dp_train.corpora.synthetic.history import HISTORY_END, RULES, ConsentCase
from dp_train.corpora.synthetic.people import Population
from dp_train.corpora.synthetic.script import RunResult, Script, Slip, Topic
from dp_train.corpora.synthetic.slips import SecretKind

__all__ = [
    "HISTORY_END",
    "RULES",
    "ConsentCase",
    "Population",
    "RunResult",
    "Script",
    "SecretKind",
    "Slip",
    "SyntheticCorpus",
    "Topic",
]
