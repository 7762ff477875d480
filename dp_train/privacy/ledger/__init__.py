"""The ledger over runs: what was spent on whom, written before it is spent, in rows that cannot be changed unseen.

`ledger` declares budgets, reserves, settles and verifies; `rows` keeps the chain in a store, `lines` says what rows
mean; `requests` prices what is to be reserved, `budget` says who may spend, `refusal` words a no.
"""
