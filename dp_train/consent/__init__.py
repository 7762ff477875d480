"""Who agreed to what: events, the registry that decides, frozen snapshots, and the gate (CONSENT.md).

Nothing here knows a name: people are keyed pseudonyms, and the only way to training data is `gate.gate`.
"""
