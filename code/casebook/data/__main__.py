"""`python -m casebook.data` lists the bundled data and verifies every file."""

import sys

from casebook.data.store import DataError, registry


def main() -> int:
    """Print the registry; the exit status is 1 if a file is missing or damaged, else 0."""
    damaged = 0
    for entry in registry().values():
        try:
            entry.verified_bytes()
            status = "verified"
        except DataError as error:
            status = f"ERROR: {error}"
            damaged += 1
        print(f"{entry.loader}()  {entry.name}")
        print(f"    {entry.file}, {entry.bytes:,} bytes: {status}")
        print(f"    {entry.licence}")
        print(f"    {entry.origin}")
        print(f"    made by `{entry.made}`\n")
    return min(damaged, 1)


if __name__ == "__main__":
    sys.exit(main())
