"""How a step draws units and adds noise, and what that costs: one frozen value a mechanism, one file each.

`base.Mechanism` is what trainer, engines, monitor, card and ledger ask. None of them asks which mechanism it is; the
plan alone chooses, from the fields that users type (`PrivacyPlan.mechanism`).
"""
