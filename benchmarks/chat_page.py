"""From what the parts found to figures, goals and a page; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from figures import goal_table, grid, spread

__all__ = ["figures", "page"]

Found = Mapping[str, Any]

LIMIT, TORCH = "float32 read limit", "torch float32"
EXACT, FAST = "titan exact", "titan fast"
EXACT_OVER_TORCH, EXACT_OVER_LIMIT, BYTES_PER_ROW = 0.40, 0.70, 400.0
FAST_MS, FAST_RECALL = 16.0, 0.995
BATCH_MS, CHAT_MS, INSERT_US, APPEND_MS, REOPEN_MS = 12.0, 0.1, 25.0, 7.0, 300.0
PROCESS_RATIO = 1.2
SIZES = (1000, 5000, 10_000)


def figures(parts: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    """Return medians with their 10 % and 90 % quantiles, of CPU and wall milliseconds, by part and tool."""
    found: dict[str, Any] = {"rows": {}}
    for part, rounds in parts.items():
        if not part.startswith("rows "):
            found[part] = _tools(part, rounds)
        else:
            found["rows"][part.removeprefix("rows ")] = _tools(part, rounds)
    return {name: tools for name, tools in found.items() if tools}


def _tools(part: str, rounds: Sequence[Found]) -> dict[str, Any]:
    tools: dict[str, Any] = {}
    for one in rounds:
        for name, clocks in one["times"].items():
            # `process` has one name for each of its tools, the others name what they timed.
            tool = tools.setdefault(
                one["tool"] if part.startswith("process") else name, {"cpu": [], "wall": []}
            )
            tool["cpu"] += clocks["cpu_ms"]
            tool["wall"] += clocks["wall_ms"]
            if "recall" in one:
                tool.setdefault("recall", []).append(one["recall"][name])
            if name in one.get("resident_bytes_per_row", ()):
                tool["bytes_per_row"] = one["resident_bytes_per_row"][name]
            if "peak_over_input" in one:
                tool["peak_over_input"] = one["peak_over_input"]
    return {
        name: {
            "cpu_ms": spread(tool.pop("cpu")),
            "wall_ms": spread(tool.pop("wall")),
            **({"recall": min(tool.pop("recall"))} if "recall" in tool else {}),
            **tool,
        }
        for name, tool in tools.items()
    }


def page(results: Found) -> str:
    """Return the results as a Markdown page."""
    found, rows = results["figures"], results["rows"]
    parts = ["## Chat memory", _circumstances(results)]
    for name, title in (("scan random", "independent vectors"), ("scan text", "embeddings of real text")):
        parts += [f"### One query, {rows:,} rows of 384 numbers: {title}", _scan_table(found[name])]
    parts += ["### The rest", _rest_table(found), goal_table(_goals(found))]
    peers = results["peers"].items()
    parts += [f"{peer}: not tried: {one['not_tried']}" for peer, one in peers if "not_tried" in one]
    return "\n\n".join(parts) + "\n"


def _circumstances(results: Found) -> str:
    facts, (before, after) = results["machine"], results["load_average_before_and_after"]
    versions = [f"{peer} {one['version']}" for peer, one in results["peers"].items() if "version" in one]
    python = ", ".join([f"Python {facts['python']}", *versions])
    return (
        f"{results['date'][:10]}, {facts['cpu']}, {facts['logical_cores']} logical cores, load average "
        f"{before:.1f} before and {after:.1f} after; {python}. One thread each; medians of "
        f"{results['rounds']} rounds. x limit: CPU time over that of reading the float32 rows once, in "
        "titan's process of the same rounds."
    )


def _scan_table(tools: Mapping[str, Any]) -> str:
    limit = _ms(tools, LIMIT)
    rows = [("tool", "CPU ms", "10-90 %", "wall ms", "x limit", "recall@10", "bytes/row resident")]
    for name, tool in tools.items():
        cpu = tool["cpu_ms"]
        rows.append(
            (
                name,
                f"{cpu['median']:.1f}",
                f"{cpu['p10']:.1f}-{cpu['p90']:.1f}",
                f"{tool['wall_ms']['median']:.1f}",
                f"{cpu['median'] / limit:.2f}",
                "" if name == LIMIT else f"{tool['recall']:.4f}",
                f"{tool['bytes_per_row']:.0f}" if "bytes_per_row" in tool else "",
            )
        )
    return grid(rows)


def _rest_table(found: Mapping[str, Any]) -> str:
    titles = {
        "batch": "a query of a batch of 64, all rows",
        "chat": "one chat of 1,000 among 10,000 rows",
        "insert": "insert one row, its codes included",
        "append": "durable append of 1,000 rows with texts",
        "reopen": "open 100,000 rows in a new process and answer",
        **{f"process {size}": f"normalise {size:,} x {size:,}" for size in SIZES},
    }
    rows = [("what", "tool", "CPU ms", "10-90 %", "wall ms", "recall@10", "peak over input")]
    for part, title in titles.items():
        for name, tool in found.get(part, {}).items():
            cpu = tool["cpu_ms"]
            rows.append(
                (
                    title,
                    name,
                    f"{cpu['median']:.3f}",
                    f"{cpu['p10']:.3f}-{cpu['p90']:.3f}",
                    f"{tool['wall_ms']['median']:.3f}",
                    f"{tool['recall']:.4f}" if "recall" in tool else "",
                    f"{tool['peak_over_input']:.2f} x" if "peak_over_input" in tool else "",
                )
            )
    return grid(rows)


def _goals(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    goals = []
    for name, kind in (("scan random", "random"), ("scan text", "text")):
        tools = found[name]
        exact = _ms(tools, EXACT)
        goals += [
            _goal(f"exact, {kind}: over torch float32", "x", exact / _ms(tools, TORCH), EXACT_OVER_TORCH),
            _goal(f"exact, {kind}: over the read limit", "x", exact / _ms(tools, LIMIT), EXACT_OVER_LIMIT),
            _goal(f"exact, {kind}: resident", "B/row", tools[EXACT]["bytes_per_row"], BYTES_PER_ROW),
            _goal(f"fast, {kind}", "ms", _ms(tools, FAST), FAST_MS),
            _goal(f"fast, {kind}: recall missed", "", 1 - tools[FAST]["recall"], 1 - FAST_RECALL),
        ]
    goals.append(_goal("batch of 64: a query", "ms", _ms(found["batch"], EXACT), BATCH_MS))
    goals.append(_goal("batch of 64: recall missed", "", 1 - found["batch"][EXACT]["recall"], 0.0))
    goals.append(_goal("one chat of 1,000 among 10,000", "ms", _ms(found["chat"], "titan"), CHAT_MS))
    goals.append(_goal("insert one", "us", 1e3 * _ms(found["insert"], "titan"), INSERT_US))
    goals.append(_goal("durable append of 1,000", "ms", _ms(found["append"], "titan"), APPEND_MS))
    goals.append(_goal("reopen 100,000 and answer", "ms", _ms(found["reopen"], "titan"), REOPEN_MS))
    for size in SIZES:
        if f"process {size}" not in found:
            continue
        tools = found[f"process {size}"]
        ratio = _ms(tools, "titan") / _ms(tools, "torch")
        peak = tools["titan"]["peak_over_input"] / tools["torch"]["peak_over_input"]
        goals.append(_goal(f"normalise {size}: time over torch's", "x", ratio, PROCESS_RATIO))
        goals.append(_goal(f"normalise {size}: peak over torch's", "x", peak, PROCESS_RATIO))
    return goals


def _goal(goal: str, unit: str, value: float, limit: float) -> dict[str, Any]:
    return {"goal": goal, "unit": unit, "value": value, "limit": limit, "met": value <= limit}


def _ms(tools: Mapping[str, Any], name: str) -> float:
    median: float = tools[name]["cpu_ms"]["median"]
    return median
