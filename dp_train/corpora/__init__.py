"""Where conversations come from: files of one's own, an embedded synthetic corpus, and public corpora.

`readers` reads jsonl, csv and parquet and writes jsonl; the columns are described there, and `hugging_face` reads
the same as a dataset. `synthetic` invents a population of any size, with its consent history; `sample` is a small
piece of it as files. `adapters` reads public corpora, whose people consented to nothing: for research alone.
"""
