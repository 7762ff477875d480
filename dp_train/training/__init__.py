"""The loop: one trainer for private and non-private runs, its checkpoints, its signals.

`trainer` is the loop itself; `checkpoint` what survives a kill; `pretrain` the public starting point.
"""
