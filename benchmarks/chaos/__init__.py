"""`spare chaos FILE`: a schedule of faults under load on a one-machine cell, and what became of it.

In: a schedule (TOML): the cell, the load, the seed, steps of one or more faults at a time.
Out: `report.json`: every fault with the events that prove it, lost and doubled writes, wrong convictions, throughput.
Owns: when which fault happens, its evidence, the verdict.
Never: decides by itself what is faulty: it reads the servers' named events and the databases on the domains' disks.
Source: design sections 3 (promises), 8 and 9 (fault handling, repair, rejoining).

Pure: `fault_kinds`, `schedule`, `schedule_check` (but for reading the file), `evidence`, `tokens`, `verdict`.
"""
