"""The asyncio shells around the pure core."""
