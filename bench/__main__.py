"""``python -m bench``; the processes of contenders import this file too, and no more than this."""

if __name__ == "__main__":
    import sys

    from bench.run import main

    sys.exit(main())
