"""A GigE Vision camera on the loopback interface: Aravis' fake one.

    python tests/links/gige_camera.py images.npz

As a program it runs the class of the library that ``arv-fake-gv-camera-0.8`` runs, and answers as
``Aravis-Fake-T1``; what stands before it are the RGB images of the file, all of one size. At 10 ms
and 0 dB an image is as bright as in the file; exposure and gain change that as on a linear sensor.
Noise makes the bytes of each image others. Lines that it reads: the name of the image that stands
before it from then on; ``turn``, and each image is of the next one; ``lose 0.01``, the share of
its packets that is lost; ``leave``, and it obeys nobody until it is opened again. For each image it
prints on the monotonic clock when it begins to send it, and its name.
"""

import ctypes
import fcntl
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_char_p, c_double, c_int, c_uint32, c_void_p
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from lineside.testing.links import LONG_S, wait_until

PROGRAM = "arv-fake-gv-camera-0.8"
SOURCE = "aravis://127.0.0.1"
_PORT = f":{3956:04X} "
_WIDTH, _HEIGHT, _FORMAT, _RGB8 = 0x100, 0x104, 0x128, 0x02180014
_TRIGGERED_HZ = 200.0
"""How often it looks for a trigger; the program looks 25 times a second."""
_FILL = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_uint32, c_uint32, c_uint32)


class FakeCamera:
    """A program that is a camera; by itself the one of Aravis, which shows a ramp."""

    def __init__(self, *command: str) -> None:
        self._command = command or (PROGRAM, "-i", "127.0.0.1", "-s", "T1")
        self.plug_in()

    def plug_in(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        wait_until(lambda: _PORT in Path("/proc/net/udp").read_text())

    def unplug(self) -> None:
        """Power is gone."""
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate(timeout=LONG_S)

    close = unplug

    def cut(self) -> None:
        """Its cable is pulled: nothing comes from it, no refusal either."""
        self.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        """Its cable is plugged in again."""
        self.process.send_signal(signal.SIGCONT)

    def say(self, line: str) -> None:
        """Tell it what to show or do; of ``scene_camera`` alone."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")

    def sent(self) -> tuple[float, str]:
        """When it began to send the next image, and what that shows; of ``scene_camera`` alone."""
        assert self.process.stdout is not None
        at_s, _, name = self.process.stdout.readline().strip().partition(" ")
        return float(at_s), name


def scene_camera(images: Path, scenes: dict[str, NDArray[np.uint8]]) -> FakeCamera:
    """A camera before which the first of ``scenes`` stands; ``images`` is written."""
    np.savez(images, **scenes)  # type: ignore[arg-type]  # of the stubs
    return FakeCamera(sys.executable, __file__, str(images))


@contextmanager
def gige_port(absent: Callable[[str, str], None]) -> Iterator[None]:
    """The right to have a fake camera: all of them listen at one port."""
    if shutil.which(PROGRAM) is None:
        absent("service", f"{PROGRAM} is not installed (Debian: aravis-tools)")
    with (Path(tempfile.gettempdir()) / "lineside-gige.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    with np.load(sys.argv[1]) as file:
        scenes = dict(file)
    library = ctypes.CDLL("libaravis-0.8.so.0")
    for name, result, arguments in (
        ("arv_gv_fake_camera_new", c_void_p, (c_char_p, c_char_p)),
        ("arv_gv_fake_camera_get_fake_camera", c_void_p, (c_void_p,)),
        ("arv_fake_camera_write_register", c_int, (c_void_p, c_uint32, c_uint32)),
        ("arv_fake_camera_set_trigger_frequency", None, (c_void_p, c_double)),
        ("arv_fake_camera_set_control_channel_privilege", None, (c_void_p, c_uint32)),
        ("arv_fake_camera_set_fill_pattern", None, (c_void_p, _FILL, c_void_p, c_void_p)),
        ("arv_buffer_get_data", c_void_p, (c_void_p, c_void_p)),
        ("g_object_set", None, None),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    rng, names = np.random.default_rng(1), deque(scenes)
    is_turning = False

    def fill(buffer: int, _data: int, exposure_us: int, gain: int, _format: int) -> None:
        if is_turning:
            names.rotate()
        scene, scale = scenes[names[0]], exposure_us / 10_000 * 10 ** (gain / 20)
        noise = rng.integers(-2, 3, scene.shape, np.int8)
        image = (scene * np.float32(scale) + noise).clip(0, 255).astype(np.uint8)
        ctypes.memmove(library.arv_buffer_get_data(buffer, None), image.ctypes.data, image.nbytes)
        sys.stdout.write(f"{monotonic()} {names[0]}\n")
        sys.stdout.flush()

    server = library.arv_gv_fake_camera_new(b"127.0.0.1", b"T1")
    camera = library.arv_gv_fake_camera_get_fake_camera(server)
    height, width, _ = scenes[names[0]].shape
    for register, value in ((_WIDTH, width), (_HEIGHT, height), (_FORMAT, _RGB8)):
        library.arv_fake_camera_write_register(camera, register, value)
    library.arv_fake_camera_set_trigger_frequency(camera, _TRIGGERED_HZ)
    callback = _FILL(fill)
    library.arv_fake_camera_set_fill_pattern(camera, callback, None, None)
    for line in sys.stdin:
        word, _, share = line.strip().partition(" ")
        if word == "lose":
            library.g_object_set(
                c_void_p(server), b"gvsp-lost-ratio", c_double(float(share)), c_void_p()
            )
        elif word == "leave":
            library.arv_fake_camera_set_control_channel_privilege(camera, 0)
        elif word == "turn":
            is_turning = True
        else:
            names.rotate(-names.index(word))


if __name__ == "__main__":
    main()
