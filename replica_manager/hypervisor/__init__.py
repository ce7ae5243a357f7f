"""Drives virtual machines.

In:     define, start, suspend, resume, destroy, observe, by domain id.
Out:    observations and lifecycle events.
Owns:   domain XML, overlays, the connection to libvirt (one module imports it), child processes of the
        `subprocess` implementation.
Never:  decides which domain does what; talks to the wrapper (that is `execution.wrapper_link`).
Source: SPARE §4.2.2, §4.6.1; design "Hypervisor".
"""
