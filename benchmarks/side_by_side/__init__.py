"""The parts of `field.py`: the clients, what is measured of them, and how it is reported."""
