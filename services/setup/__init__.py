"""What containers need once, before the services start: secrets, the database's roles, the streams.

It is to containers what the launcher is to one machine. It knows no service; the tables are made by
`python -m services.recorder migrate`.
"""
