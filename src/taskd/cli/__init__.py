"""The command line: one file a command. Parse, call, render.

What a command needs is imported inside it, so that `taskd status` does not pay for a scheduler.
"""
