"""The operator's side: the `spare` command, the control socket of every process, events, metrics.

In:     the operator's commands, scrapes of `/metrics`; snapshots and named events of the replica manager.
Out:    started and stopped processes, answers of the control socket, event files, metrics, calls of the alarm command.
Owns:   the event log of a server, the records of started processes, the keeper that starts them again, the list of
        alarms, the command line and its exit codes.
Never:  decides anything about requests, votes or roles; blocks the event loop of a replica manager; shows secrets.
Source: SPARE §4.9; design "Operator's view".
"""
