"""The ledger over runs: what was spent on whom, written before it is spent, in rows that cannot be changed unseen.

`ledger` declares budgets, reserves, settles and verifies; `lines` says what the rows mean; `budget` who may spend.
"""
