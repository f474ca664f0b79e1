"""The pure core: no loop, no clock, no I/O, no logging. `now` and randomness are arguments."""
