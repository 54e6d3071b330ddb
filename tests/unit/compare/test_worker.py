import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from anomalib_dmdd.compare import worker
from anomalib_dmdd.compare.plan import Run


def test_code_that_changes_during_a_comparison_is_an_error(make_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(asdict(make_run(code="0123456789ab"))))
    assert worker.main(tmp_path) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "failed"
    assert "The code has changed from 0123456789ab" in result["error"]
