"""The workflow a centre copies: its own commands are run here, on the sample and on a broken mapping."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator.sample import sample_config

yaml = pytest.importorskip("yaml")

DATA = Path(__file__).parents[3] / "data"
WORKFLOW: dict[str, Any] = yaml.safe_load((DATA / "ci" / "calpendo-mapping.yml").read_text(encoding="utf-8"))


def commands() -> list[str]:
    """The steps that check something."""
    steps = WORKFLOW["jobs"]["mapping"]["steps"]
    return [step["run"] for step in steps if step.get("run", "").startswith("calpendo-pipeline")]


def run(command: str, folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Run a step as the forge's shell does, on the sample's files."""
    script = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{script}{os.pathsep}{os.environ['PATH']}",
        "CONFIG": str(config),
        "BOOKINGS": str(DATA / "bookings.ndjson"),
        "EXPECTED": str(DATA / "expected_entries.ndjson"),
    }
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_step_is_one_of_ours_or_the_forges() -> None:
    """Contract in CI: a workflow file shows a centre how; it pins the forge's own steps and asks for no rights."""
    assert len(commands()) == 3
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert {"CONFIG", "BOOKINGS", "EXPECTED", "CALPENDO_PIPELINE"} == set(WORKFLOW["env"])
    used = [step["uses"] for step in WORKFLOW["jobs"]["mapping"]["steps"] if "uses" in step]
    assert all(step.startswith("actions/") and "@v" in step for step in used)


@pytest.mark.slow
def test_the_sample_passes_every_step(tmp_path: Path) -> None:
    """Contract in CI: on the sample all steps succeed and the report is there to be kept."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(sample_config()))
    for command in commands():
        done = run(command, tmp_path, config)
        assert done.returncode == 0, f"{command}: {done.stdout[-500:]} {done.stderr}"
    assert (tmp_path / "report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_a_broken_mapping_fails(tmp_path: Path) -> None:
    """Contract in CI: a pattern broken on purpose fails the step, which names the field."""
    broken = sample_config()
    broken["field_mapping"]["patient_id"]["_extract"]["pattern"] = "^([A-Z]{2}[0-9]+)[_ -].*"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(broken))
    failed = [run(command, tmp_path, config) for command in commands()]
    assert [done.returncode for done in failed] == [0, 1, 1]
    assert "patient_id: accuracy" in failed[1].stderr
    assert "patient_id: coverage" in failed[2].stderr
