"""The three tiers of the auction site as processes: web server, application server, database.

In:     directories, the account that the tiers run as.
Out:    running processes that talk over Unix sockets, and the addresses of these sockets.
Owns:   command lines, generated configuration, start order, readiness, stopping, the end of a crashed tier's log.
Never:  opens a TCP port; knows sequence numbers or updates; keeps data anywhere but in the database's directory.
Source: SPARE §4.10.1; design "RUBiS".
"""
