"""Errors of the execution room."""


class ExecutionError(Exception):
    """Root of this room's errors."""


class LinkError(ExecutionError):
    """Raised when a domain's channel cannot be opened in time, or what answers there is no wrapper.

    The domain's fault, or the hypervisor's; the caller treats the domain as stopped.  After a link was opened its
    end is no exception but a `LinkEnd`.
    """
