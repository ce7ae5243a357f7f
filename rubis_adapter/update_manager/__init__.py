"""The update manager: it sits between application and database and reports what each request changed.

In:     the statements that the application executes, the agreed sequence number of the request.
Out:    per modifying request one update, the row images read back from the database, over a socket to the adapter.
Owns:   the uniform representation of rows, the capture of statements, the cursor in the request's transaction.
Never:  reports a value that it did not read back; lets a statement pass whose effect it cannot capture; reports
        what was rolled back.
Source: SPARE §4.6.2, §4.10.2; design "RUBiS".
"""
