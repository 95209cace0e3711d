"""What the services have in common: the contract on the bus, and a process's life. No decisions."""

__version__ = "0.1.0"
