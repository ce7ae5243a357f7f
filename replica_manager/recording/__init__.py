"""Keeps what the cell agreed on, so that it can be executed again elsewhere and compared.

In:     requests of the contiguous stable prefix, in order, with their stable reply and update; digests of checkpoints.
Out:    one file per server, `[service] record`; events `recording_began`, `recording_full`, `recording_failed`.
Owns:   the format of that file, its writer and its reader.
Never:  changes what the cell does: a full disk ends the recording and nothing else.
        Deletes: one former recording stays beside the present one.
"""
