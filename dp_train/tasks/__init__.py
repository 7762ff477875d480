"""Kinds of work: what becomes an example and whose it is, the loss of each row, the scores.

`base.Task` is the protocol; `meeting_summary`, `chat_compose` and `prompted` fulfil it, by what `sequence_task` gives
all three. `sequences` lays out rows for decoders and encoder–decoders; `metrics`, `faithfulness`, `baselines` and
`suggestions` score what models and simple rules write; `typing` suggests while a message is typed; `verbatim` is the
private one: what stands in the training text.
"""
