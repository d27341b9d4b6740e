"""`python -m sentinel_gateway` is `sentinel`."""

from sentinel_gateway.cli import main

if __name__ == "__main__":
    main()
