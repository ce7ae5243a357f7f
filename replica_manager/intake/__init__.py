"""Where client connections end and requests begin.

In:     bytes of clients: HTTP/1.1, or the framed protocol with client ids.
Out:    `Submission`s to the replica manager, replies to clients.
Owns:   connections, message boundaries, limits per connection.
Never:  interprets a body, alters a byte of a request, answers with anything but a stable reply or its own error.
Source: SPARE §4.3.1; RFC 9112 for HTTP/1.1 framing; design "Operator's view".
"""
