"""The command line, and the only door to Hydra: verbs in `main`, the schema in `config`.

`compose` turns files and overrides into a checked configuration, `assemble` that into the values that
the rooms below work with; every verb is a module of its own, loaded when it is called.
"""
