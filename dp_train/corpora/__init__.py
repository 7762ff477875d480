"""Where conversations come from: files of one's own, and an embedded synthetic corpus.

`readers` reads jsonl, csv and parquet and writes jsonl; the columns are described there. `synthetic` invents
a population of any size, with its consent history. `sample` is a small piece of it as files.
"""
