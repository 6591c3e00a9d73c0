"""`python -m nodes.workers DESCRIPTOR PID`: one worker of a node, which starts it."""

import sys

from nodes.workers.worker import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
