"""The audit log: every change of a role or of the members with its evidence, in a chain of hashes per server.

In:     named events of the core that are changes; the roles as they are where a server begins to read the order.
Out:    one file per server, `audit-N.log`, and beside it the head that was durable last, `audit-N.head`; event
        `audit_failed`.  For `spare history`: changes, generations, and what is wrong with the files.
Owns:   the form of a record and of its hash; the file's writer; the rules by which files are verified and compared.
Never:  rewrites or deletes a record; raises into the server; makes the event loop wait for the disk.
Source: design "Operator's view"; `docs/operations.md`, "History".
"""
