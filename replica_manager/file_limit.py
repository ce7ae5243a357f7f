"""Room for client connections among this process's open files.

Every connection is an open file.  Without this, clients could use up all that the process may have, and the next to
fail would be the hypervisor or the log.
"""

import resource

FILES_RESERVED = 512 + 2 * 1024
"""For everything but clients: log, keys, links to peers and domains, the ports of operators, what libraries open; and
for connections that the event loop has accepted, up to a backlog on either listening socket, before it refuses them."""


def admit_connections(connections_max: int) -> int:
    """Raise the process's limit of open files as far as it may; return how many client connections that allows.

    Source: getrlimit(2).  Login sessions and services begin with a soft limit of 1024 and a much higher hard one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + FILES_RESERVED
    if soft == resource.RLIM_INFINITY:
        return connections_max
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else max(soft, min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections_max, max(soft - FILES_RESERVED, soft // 2))
