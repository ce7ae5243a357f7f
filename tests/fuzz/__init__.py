"""Garbage on every port: seeded mutations of recorded traffic, in process and over the live ports of a real cell.

In:     traffic of every channel, made at the start by the real encoders and cores.
Out:    a report: what each parser and port was given, what it refused, what it cost; exit code 0 if nothing broke.
Owns:   the mutator, the corpus, the cell that is attacked.
Never:  sends anything outside of loopback; leaves a process or file behind.
Source: design "Fault model and promises", Containment.

`python -m tests.fuzz` is the long run; the test modules here are the short one.
"""
