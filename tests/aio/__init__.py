"""The asyncio shells, in virtual time and on real sockets."""
