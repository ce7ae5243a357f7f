"""A member's process as `spare cell up` sees it: a control socket and signals, nothing behind them.

python fake_member.py BEHAVIOUR SOCKET; behaviours: serve, slow, fail, stubborn, quiet (no socket), importing (for a
while), or =STATE: a server that stays in a state.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from replica_manager.control.control_socket import ControlSocket


async def main(behaviour: str, socket: Path) -> None:
    """Live until SIGTERM; `stubborn` ignores it."""
    print(f"behaving: {behaviour}", flush=True)
    if behaviour == "fail":
        print("the disk is on fire", flush=True)
        raise SystemExit(7)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if behaviour == "stubborn" else ended.set)
    if behaviour == "child":
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    calls, imported = iter(range(3)), iter(range(40))

    def status(_params: object) -> dict[str, object]:
        if behaviour.startswith("="):
            return {"state": behaviour[1:], "waits_for": [1] if behaviour == "=returning" else []}
        parts = next(imported, None) if behaviour == "importing" else None
        if parts is not None:
            return {"state": "starting", "import": {"domain": "s0.g1", "parts": parts, "parts_total": 40}}
        return {"state": "starting" if behaviour == "slow" and next(calls, None) is not None else "serving"}

    control = ControlSocket(socket, {"status": status})
    if behaviour != "quiet":
        await control.open()
    await ended.wait()
    await control.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
