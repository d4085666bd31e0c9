import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("reason", "ci", "passes"), [("needs trl", "true", True), ("felt like it", "true", False), ("felt like it", "", True)]
)
def test_a_skip_that_is_not_on_the_list_fails_in_ci_alone(reason: str, ci: str, passes: bool, tmp_path: Path) -> None:
    (tmp_path / "test_skipped.py").write_text(f"import pytest\n\ndef test_skipped():\n    pytest.skip({reason!r})\n")
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "test_skipped.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 skipped" in done.stdout, done.stdout + done.stderr
    assert (done.returncode == 0) is passes
    assert (f"also skipped: {reason}" in done.stdout) is not passes
