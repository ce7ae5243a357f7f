"""Power cuts of whole cells: nothing that a client was told is lost, nothing is there twice.

In: a configuration with a disk for each member, unique tokens appended by clients, a seed.
Out: `var/power-loss/report.json`, a row per cut.
Owns: what is lost at which moment: disks are shut down without a flush, and every process is killed.
Never: waits for a fixed time to be through with something; ends or unmounts what is not the cell's.
Source: design "Agreement stage" A4 and "Cell restart" (`L4`, `S4` of its list of traps).
"""
