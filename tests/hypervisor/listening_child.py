"""A domain for the subprocess driver: listens on the socket that it is told of, answers nothing, works a little.

Usage: listening_child.py CHANNEL
"""

import select
import socket
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
connections: list[socket.socket] = []
print("listening", flush=True)
while True:
    sum(range(200_000))
    readable, _, _ = select.select([listener, *connections], [], [], 0.005)
    for ready in readable:
        if ready is listener:
            connections.append(listener.accept()[0])
        elif not ready.recv(4096):
            connections.remove(ready)
