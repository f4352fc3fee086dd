"""Cells that fail while their functions hold memory of a GPU, and cells in which a failure passes by.

``fill(mib)`` takes so much of the GPU; ``train()`` takes three times 80 MiB and fails at the fourth.
"""

from __future__ import annotations

__all__ = ["CAUGHT", "SETUP", "SHORTAGES", "SLOW"]

SETUP = """\
import asyncio, gc, sys, threading, torch
from tests.fakes.accelerator import install
gpu = install(256 << 20)
def fill(mib=80):
    return torch.empty(mib << 20, dtype=torch.uint8, device='fakegpu')
def train(depth=3, boom=fill):
    held = fill()
    if depth > 1:
        return train(depth - 1, boom), held
    return boom(), held
weights = fill(1)
"""

SHORTAGES = {
    "plain": "train()",
    "await": """\
async def step():
    held = fill(100)
    await asyncio.sleep(0)
    train()
await step()
""",
    "task": """\
async def step():
    held = fill(100)
    train()
await asyncio.create_task(step())
""",
    "cause": """\
def outer():
    held = fill(10)
    try:
        train(2, lambda: 1 / 0)
    except ZeroDivisionError as error:
        raise RuntimeError('outer') from error
try:
    outer()
except RuntimeError as error:
    raise MemoryError('outermost') from error
""",
    "context": """\
def retry():
    held = fill(50)
    try:
        train()
    except RuntimeError:
        raise ValueError('no luck')
retry()
""",
    "closure": """\
def outer():
    model = fill(100)
    def step():
        train()
        return model
    step()
outer()
""",
    "generator": """\
def batches():
    kept = fill(100)
    yield kept
    train()
list(batches())
""",
    "loop": """\
def loop():
    steps = []
    for _ in range(9):
        steps.append(fill(60))
loop()
""",
    "MemoryError": """\
def build():
    held = fill(100)
    raise MemoryError
build()
""",
    "host": """\
def build():
    held = fill(100)
    return torch.empty(10**15)
build()
""",
    "kept by the user": """\
try:
    train()
except RuntimeError as error:
    mine = error
    raise
""",
    "cell magic": """\
%%time
train()
""",
    "group": """\
if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup
async def step():
    held = fill(30)
    await asyncio.sleep(0)
    train()
results = await asyncio.gather(step(), step(), return_exceptions=True)
raise ExceptionGroup('steps', results)
""",
}
"""Cells that end with an out-of-memory error, or with one somewhere behind their error."""

CAUGHT = {
    "thread": """\
thread = threading.Thread(target=train)
thread.start()
thread.join()
""",
    "finaliser": """\
class Careless:
    def __del__(self):
        train()
careless = Careless()
del careless
""",
    "except": """\
try:
    train()
except RuntimeError:
    pass
""",
}
"""Cells in which memory is short, and which end well nevertheless."""

SLOW = {
    "interrupt": """\
def work():
    held = fill(100)
    print('ready', flush=True)
    while True:
        threading.Event().wait(0.05)
work()
""",
    "interrupt in await": """\
async def work():
    held = fill(100)
    print('ready', flush=True)
    while True:
        await asyncio.sleep(0.05)
await work()
""",
    "error": """\
def work():
    held = fill(100)
    raise ValueError('mine')
work()
""",
}
"""Cells that hold 100 MiB and fail in another way; those that print ``ready`` wait for an interrupt."""
