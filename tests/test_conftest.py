"""The option --no-skips does what CI relies on."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
SKIPS = {
    "in the test": "import pytest\ndef test_it():\n    pytest.skip('no reason')\n",
    "by a mark": "import pytest\n@pytest.mark.skip\ndef test_it():\n    raise AssertionError\n",
    "of a module": "import pytest\npytest.skip('all', allow_module_level=True)\n",
}
XFAIL = "import pytest\n@pytest.mark.xfail\ndef test_it():\n    raise AssertionError\n"


def exit_code(folder: Path, test: str, *options: str) -> int:
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(test + "\ndef test_other(request): assert request.config\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode


@pytest.mark.parametrize("test", SKIPS.values(), ids=SKIPS.keys())
def test_a_skip_fails_with_no_skips_only(test, tmp_path):
    assert exit_code(tmp_path, test, "--no-skips") != 0


def test_without_the_option_a_skip_passes(tmp_path):
    assert exit_code(tmp_path, SKIPS["in the test"]) == 0


def test_an_expected_failure_is_no_skip(tmp_path):
    assert exit_code(tmp_path, XFAIL, "--no-skips") == 0
