"""What save methods may return comes back as it was, in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_STYLES = """
import json, sys
from pathlib import Path
from typing import Any

import tunekit as tk
from tunekit.testing.recording import RecordedTrial, RecordingChannel


class Styled(tk.Trainable):
    def setup(self, config):
        self.value = 0

    def step(self):
        self.value += 1
        return {"value": self.value}

    def save_checkpoint(self, path):
        if self.config["style"] == "dict":
            return {"value": self.value, "nested": {1: (2, [3])}}
        Path(path, "value").write_text(str(self.value))
        return {"none": None, "path": path, "Path": Path(path)}[self.config["style"]]

    def load_checkpoint(self, given):
        if self.config["style"] == "dict":
            assert given["nested"] == {1: (2, [3])}, given
            self.value = given["value"]
        else:
            self.value = int(Path(given, "value").read_text())


folder, life = Path(sys.argv[1]), sys.argv[2]
values = {}
for style in ("none", "path", "Path", "dict"):
    made = RecordedTrial(folder / style, Styled, {"style": style})
    channel = RecordingChannel(stop_at=2)
    made.run(channel) if life == "first" else made.resume(channel)
    values[style] = [row.metrics["value"] for row in channel.rows]
print(json.dumps(values))
"""


def test_each_return_style_is_restored_in_another_process(tmp_path: Path) -> None:
    """S003-7: None, the folder as text or path, a dict."""
    script = tmp_path / "styles.py"
    script.write_text(_STYLES)

    def live(life: str) -> Any:
        command = [sys.executable, str(script), str(tmp_path / "exp"), life]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    styles = ("none", "path", "Path", "dict")
    assert live("first") == {style: [1, 2] for style in styles}
    assert live("second") == {style: [3, 4] for style in styles}
