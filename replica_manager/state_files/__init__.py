"""The file in which the agreed state of a cell leaves it, and from which a new cell is filled.

In:     the parts of an agreed state; a file that may be torn, or changed by somebody.
Out:    the file; its parts, each checked.
Owns:   the format (`docs/state-files.md`).
Never:  interprets a part; holds more than one in memory; leaves half a file under the name that was asked for.
"""
