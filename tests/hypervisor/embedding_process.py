"""A process with an embedded hypervisor of its own, for tests that kill it.

Usage: embedding_process.py DIRECTORY start|destroy
"""

import asyncio
import sys
from pathlib import Path

from replica_manager.hypervisor.hypervisor import HypervisorError
from replica_manager.hypervisor.libvirt_hypervisor import LibvirtHypervisor
from replica_manager.hypervisor.libvirt_session import LibvirtOptions
from tests.hypervisor.benches import translated
from tests.hypervisor.tiny_guest import guest_spec, kernel


async def main(directory: Path, action: str) -> None:
    """Start a machine and wait to be killed, or destroy what is found."""
    options = LibvirtOptions(embedded_root=directory / "hv", capabilities_cache=directory / "capabilities")
    hypervisor = LibvirtHypervisor(options, translated)
    try:
        await hypervisor.open(lambda _: None)
    except HypervisorError as error:
        print(error)
        return
    if action == "start":
        spec = guest_spec(directory, 1, kernel())
        await hypervisor.define(spec)
        await hypervisor.start(spec.domain_id)
        print("started", flush=True)
        await asyncio.sleep(3600)
    for domain_id, look in (await hypervisor.observe()).items():
        print(domain_id, look.state.value)
        await hypervisor.destroy(domain_id)
    print("destroyed")


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
