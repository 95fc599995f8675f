"""What every test here can rely upon."""

import signal

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit
# that: tests that send one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
