"""The client's side of the framed protocol.

In:     requests of an application, addresses of servers.
Out:    replies that the cell agreed on.
Owns:   one connection and the requests that wait on it.
Never:  retries by itself with another number: only the same number and payload are safe to repeat.
Source: design "Client table", "Server crash, leave, join".
"""
