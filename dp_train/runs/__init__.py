"""A run for everybody: a recipe becomes live parts, which are priced, trained, scored, recorded and found again.

Needs no Hydra and no MLflow; `cli` asks, calls this room and prints.
"""
