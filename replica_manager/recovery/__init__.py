"""States of domains at agreed positions, and what fresh domains and whole cells begin again with.

In:     digests of all domains' parts; parts that were asked for; effects about points, recoveries and restarts; time.
Out:    entries (`RepairPoint`, `DomainReady`, `RecoveryBegun`, `Switch`, `Convicted`, ...); fresh domains to boot;
        parts to read; frames with which domains are filled, or the parts of an exported state.
Owns:   the vote on a state, part by part; this server's fresh domain and how far it is; its steps in a recovery and
        in a restart of the cell; hashing of parts as they come.
Never:  interprets a part; holds a whole state in memory; decides what the order decides (`cell/` does).
Source: SPARE §4.5; design "Repair", "Proactive recovery", "Cell restart".
"""
