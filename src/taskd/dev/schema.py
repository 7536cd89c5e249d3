"""`python -m taskd.dev.schema`: migrates a temporary PostgreSQL and prints its schema. `make schema` keeps it."""

from __future__ import annotations

import sys

from taskd.dev.servers import binaries
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.temporary import temporary_data
from taskd.store.migrations import migrate
from taskd.store.schema import schema


def main() -> None:
    """Print the schema."""
    program = binaries.find_postgres(binaries.Search(source="embedded"))
    with temporary_data("taskd-schema-") as folder:
        server = PostgresServer(program, folder / "postgres", log=folder / "postgres.log")
        server.start()
        try:
            migrate(server.dsn)
            sys.stdout.write(schema(server.dsn))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
