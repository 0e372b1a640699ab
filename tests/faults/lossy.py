"""An IP link that loses packets, by a TUN device: true packet loss under the kernels' own TCP, without netem.

The device's network has two addresses, ours and the far one. What is sent to the far one comes out at the other end of
the device; there source and destination are exchanged and the packet is put back, so that it arrives at our address as
if the far one had sent it (checksums are sums: they stay right). A packet that is not put back is lost. Needs root.
"""

import asyncio
import fcntl
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Self

TUN = Path("/dev/net/tun")
_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
PACKET = 65_536
IP_VERSION_4 = 4
QUEUE = 1000  # packets that are taken at once


def can_lose() -> bool:
    """Tell whether this machine lets us make such a link."""
    return os.geteuid() == 0 and os.access(TUN, os.R_OK | os.W_OK) and shutil.which("ip") is not None


class LossyLink:
    """`near` is where a server listens, `far` where its clients connect to. `loss` is the share lost each way."""

    def __init__(self, loss: float, seed: int) -> None:
        self.loss = loss
        self.passed = self.lost = 0
        self._chance = random.Random(seed)
        number = os.getpid() % 16_384  # so that processes beside us have links of their own
        self._name = f"mg{number}"
        network = f"198.{18 + (number >> 13)}.{(number >> 5) & 255}.{(number & 31) * 8}"  # RFC 2544: for tests
        head, _, last = network.rpartition(".")
        self.near, self.far = f"{head}.{int(last) + 1}", f"{head}.{int(last) + 2}"
        self._fd = -1

    async def __aenter__(self) -> Self:
        self._fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._fd, _SET_INTERFACE, struct.pack("16sH22x", self._name.encode(), _TUN_WITHOUT_HEADER))
        await asyncio.to_thread(self._ip, "address", "add", f"{self.near}/29", "dev", self._name)
        await asyncio.to_thread(self._ip, "link", "set", self._name, "up")
        asyncio.get_running_loop().add_reader(self._fd, self._turn_round)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)  # the device goes with it

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    def _turn_round(self) -> None:
        for _ in range(QUEUE):
            try:
                packet = os.read(self._fd, PACKET)
            except BlockingIOError:
                return
            if packet[0] >> 4 != IP_VERSION_4:
                continue
            if self._chance.random() < self.loss:
                self.lost += 1
                continue
            self.passed += 1
            os.write(self._fd, packet[:12] + packet[16:20] + packet[12:16] + packet[20:])
