"""Who agreed to what: events, the registry that decides, frozen snapshots, and the gate (docs/consent.md).

Records hold pseudonyms and never a name; the only way to training data is `gate.gate`. `names` knows how the
people of one conversation are called in its text, for the gate and for anonymisation.
"""
