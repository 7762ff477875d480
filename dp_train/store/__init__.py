"""The database of consent registry and ledger: SQLite by file or PostgreSQL by URL, and rows chained by hashes.

`database` opens, locks and turns failures into one line; `chain` links rows and finds the first broken one.
"""
