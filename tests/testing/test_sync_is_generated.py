"""`_sync.py` is what scripts/generate-sync makes of `_async.py`."""

import runpy
from pathlib import Path

import fastecho.testing

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate-sync"


def test_sync_is_generated_from_async():
    folder = Path(fastecho.testing.__file__).parent
    generate = runpy.run_path(str(SCRIPT))["generate"]
    expected = generate((folder / "_async.py").read_text(encoding="utf-8"))
    assert (folder / "_sync.py").read_text(encoding="utf-8") == expected, "run scripts/generate-sync"


def test_sync_has_no_trace_of_asyncio():
    text = (Path(fastecho.testing.__file__).parent / "_sync.py").read_text(encoding="utf-8")
    for word in ("await", "async ", "Async", "asyncio"):
        assert word not in text.replace("_async.py", ""), word
