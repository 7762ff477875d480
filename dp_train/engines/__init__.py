"""Clipped sums of unit gradients, noised once a step: the only room that imports Opacus.

`build_engine` makes one by `EngineName`; every engine equals `naive`, the loop over units one reads in a minute.
A private engine bounds what one unit can move to `clip_norm`, whatever the rows, padding or microbatches are.
"""
