"""`python -m mipoison`: the console script."""

from mipoison.cli import main

if __name__ == "__main__":
    main()
