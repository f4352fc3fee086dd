"""One part of the chat memory's benchmark, for titan or one peer; runs in the Python of that tool.

Prints one line of JSON: CPU and wall milliseconds of each repetition, by what was measured.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

K = 10
CHATS = 10
_ADD_ROWS = 50_000
_NEW_ROWS = 50_000
_TOLERANCE = 1e-6
_TEXT = "The quick brown fox jumps over the lazy dog, and then it goes home to write a hundred bytes."

Tool = Callable[[np.ndarray], Any]
"""Takes one query (384,) or a table of them, and returns the places of the best rows."""


class Timings(dict[str, "dict[str, list[float]]"]):
    """CPU and wall milliseconds by what was measured."""

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work once, and note what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        found = self.setdefault(name, {"cpu_ms": [], "wall_ms": []})
        found["cpu_ms"].append(1e3 * cpu)
        found["wall_ms"].append(1e3 * wall)
        return answer


def scan(options: argparse.Namespace) -> dict[str, Any]:
    """Search all rows for one query at a time, each tool in turn."""
    rows, queries, truth = _load(options)
    tools = _SCANS[options.tool](rows, options)
    held = {}
    if options.tool == "titan":
        # Before torch's tool, which holds float32 in RAM; the fast search adds to the exact one.
        resident = _anonymous_bytes()
        for name, tool in tools.items():
            _make_codes(tool, rows)
            held[name] = (_anonymous_bytes() - resident) / len(rows)
        tools |= _torch_tools(rows)
    found = _timed(tools, rows, list(queries[: options.repeat]), truth)
    return found | {"resident_bytes_per_row": held}


def batch(options: argparse.Namespace) -> dict[str, Any]:
    """Search all rows for 64 queries at once; the figures are for one query."""
    rows, queries, truth = _load(options)
    tools = _SCANS[options.tool](rows, options)
    if options.tool == "titan":
        _make_codes(tools["titan exact"], rows)
        tools = {"titan exact": tools["titan exact"], "torch float32": _torch_batch(rows)}
    found = _timed(tools, rows, [queries[:64]] * options.repeat, truth)
    for figures in found["times"].values():
        for clock, values in figures.items():
            figures[clock] = [value / 64 for value in values]
    return found


def _timed(
    tools: Mapping[str, Tool], rows: np.ndarray, queries: list[np.ndarray], truth: np.ndarray
) -> dict[str, Any]:
    """Time each tool on each query, and count how many of its hits are among the true best ones.

    A hit counts that is as good as the true tenth to 1e-6: equal rows may come in any order.

    Args:
        tools: What is timed.
        rows: All rows.
        queries: One query or one table of them each time.
        truth: The true tenth best score of each query.
    """
    times, shares = Timings(), dict.fromkeys(tools, 0.0)
    for tool in tools.values():  # twice: titan makes its codes at the second search
        for _ in range(2):
            tool(queries[0])
    order, scored = list(tools), 0
    for number, given in enumerate(queries):
        random.Random(number).shuffle(order)
        table = np.atleast_2d(given)
        floors = truth[: len(table)] if given.ndim == 2 else truth[number : number + 1]
        for name in order:
            answer = times.time(name, lambda name=name, given=given: tools[name](given))
            if answer is not None:
                places = np.asarray(answer).reshape(len(table), -1)
                for query, floor, found in zip(table, floors, places, strict=True):
                    scores = rows[np.sort(found)].astype(np.float64) @ query.astype(np.float64)
                    shares[name] += np.count_nonzero(scores >= floor - _TOLERANCE) / K
        scored += len(table)
    return {"times": times, "recall": {name: share / scored for name, share in shares.items()}}


def chat(options: argparse.Namespace) -> dict[str, Any]:
    """Search one chat of a thousand rows among ten."""
    rows, queries, _ = _load(options)
    times = Timings()
    if options.tool == "titan":
        memory = _titan()()
        for number in range(CHATS):
            memory.add(f"chat {number}", rows[number::CHATS], texts=[_TEXT] * len(rows[number::CHATS]))

        def ask(query: np.ndarray) -> Any:
            return memory.search(query, K, "chat 3")
    else:
        from nano_vectordb import NanoVectorDB

        base = NanoVectorDB(rows.shape[1], storage_file=f"{tempfile.mkdtemp()}/base.json")
        base.upsert(
            [{"__id__": str(n), "__vector__": row, "chat": n % CHATS} for n, row in enumerate(np.array(rows))]
        )

        def ask(query: np.ndarray) -> Any:
            return base.query(query, top_k=K, filter_lambda=lambda data: data["chat"] == 3)

    for query in queries:
        ask(query)
    for number in range(options.repeat):
        times.time(options.tool, lambda number=number: ask(queries[number % len(queries)]))
    return {"times": times}


def insert(options: argparse.Namespace) -> dict[str, Any]:
    """Add rows one by one, and let the codes be made; the figure is for one row."""
    rows, queries, _ = _load(options)
    table, times = np.array(rows), Timings()
    for _ in range(options.repeat):
        if options.tool == "titan":
            memory = _titan()()

            def work(memory: Any = memory) -> None:
                for row in table:
                    memory.add("chat", row[None, :])
                for query in queries[:2]:  # the codes are made by a search
                    memory.search(query, K)
        else:
            from nano_vectordb import NanoVectorDB

            base = NanoVectorDB(rows.shape[1], storage_file=f"{tempfile.mkdtemp()}/base.json")

            # It looks through all rows at each insertion: fewer of them, to its favour.
            def work(base: Any = base) -> None:
                for number, row in enumerate(table[:1000]):
                    base.upsert([{"__id__": str(number), "__vector__": row}])

        times.time(options.tool, work)
    count = len(table) if options.tool == "titan" else min(1000, len(table))
    for values in times[options.tool].values():
        values[:] = [value / count for value in values]
    return {"times": times}


def append(options: argparse.Namespace) -> dict[str, Any]:
    """Add a thousand rows with a text each, durably."""
    rows, _, _ = _load(options)
    table, times, folder = np.array(rows[:1000]), Timings(), tempfile.mkdtemp(dir=options.folder)
    texts = [f"{_TEXT} {number}" for number in range(len(table))]
    if options.tool == "titan":
        memory = _titan()(f"{folder}/memory")

        def work() -> None:
            memory.add("chat", table, texts)
    else:
        base, records = (
            _lance(folder),
            [{"vector": row, "text": t} for row, t in zip(table, texts, strict=True)],
        )
        data = base.create_table("chat", records)

        def work() -> None:
            data.add(records)

    for _ in range(3):
        work()
    for _ in range(options.repeat):
        times.time(options.tool, work)
    return {"times": times}


def keep(options: argparse.Namespace) -> dict[str, Any]:
    """Write the rows into a folder, for `reopen`."""
    rows, _, _ = _load(options)
    place = options.folder / f"reopen-{options.tool}-{options.rows}"
    if not place.exists():
        if options.tool == "titan":
            with _titan()(place) as memory:
                for start in range(0, len(rows), _ADD_ROWS):
                    part = rows[start : start + _ADD_ROWS]
                    memory.add("chat", part, texts=[_TEXT] * len(part))
        else:
            import pyarrow as pa

            flat = pa.array(np.array(rows).ravel())
            vectors = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
            table = pa.table({"vector": vectors, "text": [_TEXT] * len(rows)})
            _lance(str(place)).create_table("chat", table)
    return {"times": {}}


def reopen(options: argparse.Namespace) -> dict[str, Any]:
    """Open what `keep` wrote and answer one query; all of a fresh process counts, the imports too."""
    query = np.load(options.folder / "query.npy")
    place = options.folder / f"reopen-{options.tool}-{options.rows}"
    if options.tool == "titan":
        memory = _titan()(place, mode="r")
        found = [hit.id for hit in memory.search(query, K)]
    else:
        found = _lance(str(place)).open_table("chat").search(query).limit(K).to_list()
    assert len(found) == K
    usage = time.process_time()
    started = time.clock_gettime(time.CLOCK_BOOTTIME) - _process_start()
    return {"times": {options.tool: {"cpu_ms": [1e3 * usage], "wall_ms": [1e3 * started]}}}


def process(options: argparse.Namespace) -> dict[str, Any]:
    """Normalise a square table; beside the time, what the peak of memory rises by over its result."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = torch.randn(options.rows, options.rows)
    if options.tool == "titan":
        from titan_nb import process_embeddings as work
    else:

        def work(table: Any) -> Any:
            return torch.nn.functional.normalize(table)

    work(table[:64, :64].clone())
    times, rises = Timings(), []
    for _ in range(options.repeat):
        before = _reset_peak()
        answer = times.time(options.tool, lambda: work(table))
        rises.append((_peak() - before) / table.nbytes)
        del answer
    return {"times": times, "peak_over_input": statistics.median(rises)}


def _titan_tools(rows: np.ndarray, options: argparse.Namespace) -> dict[str, Tool]:
    import torch

    torch.set_num_threads(1)
    torch.zeros(8, 8) @ torch.zeros(8)  # its own buffers are not the memory's
    place = options.folder / f"titan-{options.data.stem}-{options.rows}"
    memory_of = _titan()
    if not place.exists():
        with memory_of(place) as memory:
            for start in range(0, len(rows), _ADD_ROWS):
                memory.add("all", rows[start : start + _ADD_ROWS])
    memory = memory_of(place, mode="r")

    def ask(mode: str) -> Tool:
        def find(query: np.ndarray) -> Any:
            found = memory.search(query, K, mode=mode)
            lists = found if query.ndim == 2 else [found]
            assert mode == "fast" or all(hits.certified for hits in lists)
            return [[hit.id for hit in hits] for hits in lists]

        return find

    return {f"titan {mode}": ask(mode) for mode in ("exact", "fast")}


def _make_codes(tool: Tool, rows: np.ndarray) -> None:
    for _ in range(2 + len(rows) // _NEW_ROWS):  # each search makes those of some more rows
        tool(rows[0])


def _torch_tools(rows: np.ndarray) -> dict[str, Tool]:
    import torch

    table = torch.from_numpy(np.array(rows))

    def find(query: np.ndarray) -> Any:
        return torch.mv(table, torch.from_numpy(query)).topk(K).indices.numpy()

    return {"torch float32": find, "float32 read limit": lambda query: (table.sum(), None)[1]}


def _torch_batch(rows: np.ndarray) -> Tool:
    import torch

    table = torch.from_numpy(np.array(rows))
    return lambda queries: (torch.from_numpy(queries) @ table.T).topk(K).indices.numpy()


def _faiss_tools(rows: np.ndarray, options: argparse.Namespace) -> dict[str, Tool]:
    import faiss

    faiss.omp_set_num_threads(1)
    tools: dict[str, Tool] = {}
    for name, recipe in (("faiss Flat", "Flat"), ("faiss SQ8", "SQ8")):
        if options.part == "batch" and recipe != "Flat":
            continue
        index = faiss.index_factory(rows.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
        index.train(np.array(rows[:20_000]))
        for start in range(0, len(rows), _ADD_ROWS):
            index.add(np.ascontiguousarray(rows[start : start + _ADD_ROWS]))
        tools[name] = lambda query, index=index: index.search(np.atleast_2d(query), K)[1]
    return tools


def _turbovec_tools(rows: np.ndarray, options: argparse.Namespace) -> dict[str, Tool]:
    from turbovec import TurboQuantIndex

    index = TurboQuantIndex(dim=rows.shape[1], bit_width=4)
    for start in range(0, len(rows), _ADD_ROWS):
        index.add(np.ascontiguousarray(rows[start : start + _ADD_ROWS]))
    table = np.array(rows)

    def find(query: np.ndarray) -> Any:
        places = index.search(query[None, :], k=40)[1][0]
        return places[np.argsort(-(table[places] @ query))[:K]]

    return {"turbovec 4 bit, 40 rescored": find}


_SCANS: dict[str, Callable[[np.ndarray, argparse.Namespace], dict[str, Tool]]] = {
    "titan": _titan_tools,
    "faiss-cpu": _faiss_tools,
    "turbovec": _turbovec_tools,
}
_PARTS = {part.__name__: part for part in (scan, batch, chat, insert, append, keep, reopen, process)}


def _load(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, mapped; the queries; and the true tenth best score of each."""
    table = np.load(options.data, mmap_mode="r")
    count = len(table) - options.queries
    truth = np.load(options.truth) if options.truth else np.empty(0)
    return table[: options.rows], np.array(table[count:]), truth


def _titan() -> Any:
    from titan_nb import ChatMemory

    return ChatMemory


def _lance(folder: str) -> Any:
    import lancedb

    return lancedb.connect(folder)


def _status(path: str, key: str) -> int:
    lines = Path(path).read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def _anonymous_bytes() -> int:
    return _status("/proc/self/status", "RssAnon")


def _peak() -> int:
    return _status("/proc/self/status", "VmHWM")


def _reset_peak() -> int:
    ctypes.CDLL(None).malloc_trim(0)  # what is free in the heap would hide a rise
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("/proc/self/status", "VmRSS")


def _process_start() -> float:
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Do one part, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=sorted(_PARTS))
    parser.add_argument("--tool", default="titan")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    print(json.dumps(_PARTS[options.part](options)))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
