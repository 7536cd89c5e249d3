"""Values and rules of taskd: no I/O, no asyncio, no clock. Everything else may import this; it imports nothing of taskd."""
