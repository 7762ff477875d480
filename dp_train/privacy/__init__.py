"""What makes the ε true: the plan, units, sampling, accounting, and the monitor that withholds an ε (docs/privacy.md).

Public numbers are fields, private ones are arguments. There is no torch here: this room and `consent/` are all that a
privacy reviewer has to read.
"""
