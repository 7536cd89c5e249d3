"""Breaking taskd on purpose: links, disks and clocks that a test can spoil (docs/fault-tests.md)."""
