"""A chat memory on PostgreSQL with pgvector, on one server or on several.

connection  one server: its connections, transactions, and what is told when it is lost
schema      the tables
members     the servers of a memory, recorded in each of them
ring        which server keeps which chat
contents    what is read and written in one transaction
where       a selection as SQL
scope       what a search looks at
search      the proved search over all servers
rebalance   other servers for a memory
store       class PostgresStore, which puts these together
"""

from __future__ import annotations

from titan_nb.chat.postgres.rebalance import rebalance
from titan_nb.chat.postgres.store import PostgresStore

__all__ = ["PostgresStore", "rebalance"]
