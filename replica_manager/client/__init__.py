"""The client's side of the framed protocol: a library, and a proxy for HTTP clients.

In:     requests of an application, or of unmodified HTTP clients; addresses of servers.
Out:    replies that the cell agreed on, or exactly what is known of a request without one.
Owns:   connections to all servers, requests until they are decided, client ids until their connections end.
Never:  repeats a request under another number or id: only the same number and payload are safe to repeat.
Source: design "Client table", "Server crash, leave, join", "Operator's view" (plain HTTP clients).

From the outside in: `proxy_server` (the process) → `intake.http_listener` → `proxy_port` (ids of connections) →
`failover_client` (sockets and timers) → `failover_core`, `server_choice` (what to do; pure).  `framed_client` is one
connection without failover.
"""
