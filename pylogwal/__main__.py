"""`python -m pylogwal` is the command line."""

from pylogwal.cli import run

if __name__ == "__main__":
    run()
