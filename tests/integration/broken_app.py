"""An app module that does not import."""

raise RuntimeError("this module is broken")
